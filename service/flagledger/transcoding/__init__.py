"""
google.api.http for Python: gRPC servicers served to REST clients from their annotations, at run time.

Example:
    app = Transcoder([(evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"], servicer)])
    # `app` is an ASGI application.
"""

from flagledger.transcoding.asgi import Route, Transcoder
from flagledger.transcoding.binding import BindingError
from flagledger.transcoding.body import ByteBudget
from flagledger.transcoding.codec import Codec, CodecError, CodecOptions, ElementError, Report, TooManyElementsError
from flagledger.transcoding.context import Metadatum, TranscodedContext
from flagledger.transcoding.router import Match, Router
from flagledger.transcoding.service_config import ServiceConfig
from flagledger.transcoding.status import http_status
from flagledger.transcoding.template import PathTemplate, TemplateError

__all__ = [
    "BindingError",
    "ByteBudget",
    "Codec",
    "CodecError",
    "CodecOptions",
    "ElementError",
    "Match",
    "Metadatum",
    "PathTemplate",
    "Report",
    "Route",
    "Router",
    "ServiceConfig",
    "TemplateError",
    "TooManyElementsError",
    "TranscodedContext",
    "Transcoder",
    "http_status",
]
