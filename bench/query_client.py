"""Whoever asks: over gRPC as programs do, and over HTTP as the dashboard's page does."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from flagledger.v1 import query_service_pb2_grpc
from processes import TOKEN, Service
from query_bare import NoAnswerError

_PATH: Final = "/api/v2/analytics/"
_HEADERS: Final = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
_METADATA: Final = (("authorization", f"Bearer {TOKEN}"),)
# Longer than the service takes to say that it takes too long.
_PATIENCE: Final = 60.0
# What browsers open to one server.
_CONNECTIONS: Final = 6


class _Stub:
    """The rpcs of QueryService by their names, each with the token and a deadline."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = query_service_pb2_grpc.QueryServiceStub(channel)

    def __getattr__(self, rpc: str) -> Any:
        method = getattr(self._stub, rpc)
        return lambda request: method(request, metadata=_METADATA, timeout=_PATIENCE)


class Client:
    """
    Asks a service.

    Attributes:
        stub: Its rpcs; a refusal is raised as a grpc.RpcError.
    """

    def __init__(self, target: Service) -> None:
        self._http = target.http
        self._channel = grpc.insecure_channel(target.grpc, options=[("grpc.max_receive_message_length", -1)])
        self._browser = ThreadPoolExecutor(_CONNECTIONS)
        self.stub: Any = _Stub(self._channel)

    def close(self) -> None:
        """Close every connection."""
        self._browser.shutdown()
        self._channel.close()

    def get(self, name: str, **parameters: object) -> Any:
        """
        Return the JSON of an answer.

        Raises:
            NoAnswerError: It is none of status 200.
        """
        with self.download(name, **parameters) as response:
            return json.loads(response.read())

    def at_once(self, asked: Sequence[tuple[str, dict[str, object]]]) -> list[Any]:
        """Ask for several, over a connection each, and return the JSON of the answers in the same order."""
        return list(self._browser.map(lambda each: self.get(each[0], **each[1]), asked))

    @contextlib.contextmanager
    def download(self, name: str, **parameters: object) -> Iterator[http.client.HTTPResponse]:
        """
        Ask over a connection of its own, and yield the answer before it has been read.

        Raises:
            NoAnswerError: It is none of status 200, or it breaks off.
        """
        host, _, port = self._http.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_PATIENCE)
        try:
            connection.request("GET", f"{_PATH}{name}?{urllib.parse.urlencode(parameters)}", headers=_HEADERS)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                said = response.read(2000).decode(errors="replace")
                raise NoAnswerError(f"GET {name} was answered with {response.status}: {said}")
            yield response
        except (http.client.HTTPException, OSError) as error:
            raise NoAnswerError(f"GET {name} broke off: {error!r}") from error
        finally:
            connection.close()
