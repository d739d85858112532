"""
A servicer's methods as grpc.aio knows them, and the interceptors around them.

Interceptors are chained as grpc.aio chains them: each is handed a continuation and the details of the call, the last
continuation looks the method up by the name that the details have by then, and what the first one returns is carried out.
They run before anything of the body is read, in the task of the servicer, so that it sees their context variables.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf import message_factory

from flagledger.transcoding.binding import Binding, BindingError
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.refusals import internal

Method = Callable[[Any, Any], Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # subscripts are for type checkers alone

_logger = logging.getLogger(__name__)

# By whether requests and responses are streams.
_MAKERS: Final[dict[tuple[bool, bool], Callable[..., Handler]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
_BEHAVIORS: Final = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class CallDetails(
    namedtuple("CallDetails", ("method", "invocation_metadata")),  # noqa: PYI024  # typing's takes no second base
    grpc.HandlerCallDetails,
):
    """What an interceptor is told of a call: `/package.Service/Method`, and the metadata that the allow-list let in."""

    __slots__ = ()


def method_of(binding: Binding, servicer: Any) -> Method:
    """
    Return the servicer's method behind a binding.

    Raises:
        BindingError: There is none, or it is not of a kind that can be served.
    """
    name = binding.method_name
    method: Method | None = getattr(servicer, name, None)
    if method is None:
        raise BindingError(f"{binding.full_method_name}: the servicer has no method {name}.")
    if _is(inspect.iscoroutinefunction, method):
        return method
    if _is(inspect.isasyncgenfunction, method):
        if binding.streams:
            return method
        raise BindingError(
            f"{binding.full_method_name}: the servicer's {name} yields, where the rpc answers with one message."
        )
    raise BindingError(
        f"{binding.full_method_name}: the servicer's {name} is synchronous, which is not served: it has to be a coroutine"
        f" function{' or an async generator function' if binding.streams else ''} (`async def`)."
    )


def _is(kind: Callable[[Any], bool], method: Method) -> bool:
    return kind(method) or kind(getattr(type(method), "__call__", None))  # noqa: B004  # objects may be called, too


def behavior(handler: Handler, binding: Binding) -> Method:
    """
    Return what an interceptor's handler carries a call out with, in the kind of the rpc.

    One that takes or returns a single message stands for a stream of one: interceptors refuse with such handlers.

    Raises:
        Refusal: It is a stream where the rpc is none.
    """
    takes, returns = bool(handler.request_streaming), bool(handler.response_streaming)
    if takes > binding.takes_stream or returns > binding.streams:
        _logger.error("An interceptor answered %s with a handler of streams.", binding.full_method_name)
        raise internal("The call failed unexpectedly.")
    method: Method = getattr(handler, _BEHAVIORS[takes, returns])
    if not takes and not returns:
        method = _awaited(method)
    if binding.streams and not returns:
        method = _returning(method)
    return _taking(method) if binding.takes_stream and not takes else method


class _InThread:
    """The context of a call as a synchronous handler has it, in a thread of its own: what is awaited elsewhere is waited for."""

    def __init__(self, context: TranscodedContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._context, name)
        if not inspect.iscoroutinefunction(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            coroutine = found(*given, **named)
            # A handler may hand on to a coroutine, which runs in the loop: waiting for the loop there would stop it for ever.
            if _is_running(self._loop):
                return coroutine
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

        return call


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether *loop* is what runs this thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _awaited(method: Method) -> Method:
    """Return *method* as it is, or run in a thread where it is synchronous, as grpc.aio does: interceptors refuse with such."""
    if _is(inspect.iscoroutinefunction, method):
        return method

    async def run(request: Any, context: TranscodedContext) -> Any:
        found = await asyncio.to_thread(method, request, _InThread(context, asyncio.get_running_loop()))
        return await found if inspect.isawaitable(found) else found

    return run


def _returning(method: Method) -> Method:
    async def answer(request: Any, context: TranscodedContext) -> None:
        message = await method(request, context)
        if context.failure() is None:
            await context.write(message)

    return answer


def _taking(method: Method) -> Method:
    async def take(_requests: Any, context: TranscodedContext) -> Any:
        request = await context.read()
        if request is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The body holds no message, where one is needed.")
        result = method(request, context)
        return result if hasattr(result, "__aiter__") else await result

    return take


class Interception:
    """
    The interceptors around all methods of a transcoder.

    Args:
        interceptors: The first is the outermost.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._interceptors = tuple(interceptors)
        self._served: dict[str, tuple[Binding, Handler]] = {}

    def add(self, binding: Binding, method: Method) -> None:
        """Take in the method behind a binding, once for all bindings of an rpc."""
        if binding.full_method_name in self._served:
            return
        make = _MAKERS[binding.takes_stream, binding.streams]
        response = message_factory.GetMessageClass(binding.method.output_type)
        handler = make(
            method,
            request_deserializer=binding.request_class.FromString,
            response_serializer=response.SerializeToString,
        )
        self._served[binding.full_method_name] = (binding, handler)

    async def handler(self, binding: Binding, context: TranscodedContext) -> Handler | None:
        """
        Return what the interceptors make of the handler behind a binding, or None where there is nothing to call.

        Raises:
            Exception: Whatever an interceptor raises.
        """
        details = CallDetails(binding.full_method_name, context.invocation_metadata())
        return await self._run(0, binding, details)

    async def _run(self, at: int, binding: Binding, details: grpc.HandlerCallDetails) -> Handler | None:
        if at == len(self._interceptors):
            return self._find(binding, details.method)
        continuation = partial(self._run, at + 1, binding)
        found: Handler | None = await self._interceptors[at].intercept_service(continuation, details)
        return found

    def _find(self, asked: Binding, name: str) -> Handler | None:
        served = self._served.get(name)
        if served is None:
            return None
        method, other = asked.method, served[0].method
        if method.input_type is not other.input_type or method.output_type is not other.output_type:
            _logger.error("An interceptor led %s to %s, whose messages are others.", asked.full_method_name, name)
            return None
        return served[1]
