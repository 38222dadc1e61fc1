"""The front that grpcio carries: it listens, hands the bytes of calls to the methods, and gives their status back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from modelmill.errors import MillError, WorkError
from modelmill.serve.plane import State
from modelmill.serve.rpc.methods import Caller, Methods, Streaming, Unary, status

CODES = {code.value[0]: code for code in grpc.StatusCode}
ENVELOPE_BYTES = 64 * 1024
"""What a message may have beside a body of the greatest size: names, shapes, parameters."""


class Front:
    """A gRPC server on the running loop; it lives as long as the service.

    body_bytes: the largest message, as for HTTP.
    """

    def __init__(self, methods: Methods, state: State, body_bytes: int) -> None:
        self.methods = methods
        self.state = state
        options = (
            ("grpc.max_receive_message_length", body_bytes + ENVELOPE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 64 * 1024),
            ("grpc.so_reuseport", 0),
        )
        self.server = grpc.aio.server(handlers=(_Handlers(self),), options=options)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port that was had. Raises WorkError where it cannot be."""
        where = f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"
        try:
            bound = self.server.add_insecure_port(where)
        except RuntimeError:
            bound = 0
        if not bound:
            hint = "Another service may run; try another --grpc-port, or --no-grpc."
            raise WorkError(where, "the port for gRPC is taken", hint)
        await self.server.start()
        return int(bound)

    async def stop(self, seconds: float) -> None:
        """Take no further calls, and end those that run for longer than so many seconds."""
        await self.server.stop(seconds)

    async def unary(self, method: Unary, message: bytes, context: Any) -> bytes:
        """One call of one message."""
        self.state.in_flight += 1
        try:
            return await method(message, _caller(context))
        except MillError as error:
            failed = status(error)
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler({"message": "a gRPC call failed", "exception": error})
            await context.abort(grpc.StatusCode.INTERNAL, "the service failed; its log says why")
            raise
        finally:
            self.state.in_flight -= 1
        await context.abort(CODES[failed.code], failed.message, failed.trailers)
        raise AssertionError("abort raises")

    async def stream(self, method: Streaming, messages: Any, context: Any) -> AsyncIterator[bytes]:
        """One call of many messages."""
        try:
            async for answer in method(messages, _caller(context)):
                yield answer
            return
        except MillError as error:
            failed = status(error)
        await context.abort(CODES[failed.code], failed.message, failed.trailers)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the method of a path."""

    def __init__(self, front: Front) -> None:
        self.front = front
        methods = front.methods
        self.known = {path: self._unary(method) for path, method in methods.unary.items()}
        for path, streaming in methods.streaming.items():
            self.known[path] = self._stream(streaming)

    def service(self, details: Any) -> Any:
        """What answers a call."""
        return self.known.get(details.method) or self._unknown(details.method)

    def _unary(self, method: Unary) -> Any:
        async def call(message: bytes, context: Any) -> bytes:
            return await self.front.unary(method, message, context)

        return grpc.unary_unary_rpc_method_handler(call)

    def _stream(self, method: Streaming) -> Any:
        async def call(messages: Any, context: Any) -> AsyncIterator[bytes]:
            async for answer in self.front.stream(method, messages, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(call)

    def _unknown(self, path: str) -> Any:
        async def call(message: bytes, caller: Caller) -> bytes:
            raise self.front.methods.unknown(path)

        return self._unary(call)


def _caller(context: Any) -> Caller:
    left = context.time_remaining()
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if left is None:
        return Caller(metadata=metadata)
    return Caller(asyncio.get_running_loop().time() + left, metadata)
