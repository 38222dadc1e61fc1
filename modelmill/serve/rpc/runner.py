"""Runs the calls of one client: at once where they are read, in a task of their own, or message by message."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from modelmill.errors import Draining, MillError
from modelmill.serve.packed import LONG_MOST, at_once, on_thread
from modelmill.serve.rpc.call import Stream
from modelmill.serve.rpc.express import INFER, Asked
from modelmill.serve.rpc.frames import STREAM_WINDOW
from modelmill.serve.rpc.messages import check_encoding, only, too_large
from modelmill.serve.rpc.methods import Methods, Peer
from modelmill.serve.rpc.sender import Sender
from modelmill.serve.rpc.status import DEADLINE_EXCEEDED, INTERNAL, Status, status

LATE = Status(DEADLINE_EXCEEDED, "the time that the request allows has passed")


class Counter(Protocol):
    """What is told how many calls are being answered, and says whether streams take no further messages."""

    in_flight: int
    parting: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What every client is offered: the methods, what counts their calls, and the most bytes of a message."""

    methods: Methods
    state: Counter
    body_bytes: int


class Runner:
    """Has the calls of one client answered; it lives as long as the connection."""

    def __init__(self, offer: Offer, sender: Sender, loop: asyncio.AbstractEventLoop) -> None:
        self.methods = offer.methods
        self.express = offer.methods.express
        self.state = offer.state
        self.body_bytes = offer.body_bytes
        self.sender = sender
        self.loop = loop
        self.address = ""
        self.room = asyncio.Semaphore(LONG_MOST)

    def most_bytes(self, stream: Stream) -> int:
        """The most bytes that a message of a call may have, of whoever sends it.

        Raises Unidentified, Forbidden, Unimplemented.
        """
        if stream.most < 0:
            stream.most = self.methods.most_bytes(stream.call.path, stream.call.metadata, self.body_bytes)
        return stream.most

    def whole(self, stream: Stream, data: bytes | bytearray) -> None:
        """Answer a call of one message, which is here."""
        call = stream.call
        try:
            came = only(bytes(data), self.body_bytes)
            message = self._short(stream, data[0], came) if data[0] else came
        except MillError as error:
            self.sender.fail(stream, status(error))
            return
        if message is not None and call.path == INFER:
            try:
                answer = self.express.answer(message, call.metadata, call.timeout_s, stream.is_of)
            except MillError as error:
                self.sender.fail(stream, status(error))
                return
            except Exception as error:  # noqa: BLE001 - other calls on the connection go on, and the log has it
                self._fault(stream)
                self.loop.call_exception_handler({"message": f"{call.path} failed", "exception": error})
                return
            if type(answer) is bytes:
                self.sender.answer(stream, answer)
                return
            if isinstance(answer, Asked):
                stream.body = bytearray()
                stream.task = answer.future
                answer.future.add_done_callback(partial(self._finish, stream, answer))
                return
        stream.body = bytearray()
        stream.task = self.loop.create_task(self._run(stream, came, message))

    def _finish(self, stream: Stream, asked: Asked, future: asyncio.Future[Any]) -> None:
        """Answer a call whose run is done; those of one run leave together."""
        try:
            self.sender.answer(stream, self.express.finish(asked))
        except asyncio.CancelledError:
            return
        except MillError as error:
            self.sender.fail(stream, status(error))
        except Exception:
            self._fault(stream)
            raise
        finally:
            self.loop.call_soon(self.sender.flush)

    async def _run(self, stream: Stream, came: bytes, message: bytes | None) -> None:
        """Answer a call of one message, which takes its time."""
        state = self.state
        state.in_flight += 1
        methods = self.methods
        path = stream.call.path
        try:
            method = methods.unary.get(path)
            if method is None:
                raise methods.unknown(path)
            caller = self._peer(stream)
            async with asyncio.timeout_at(None if caller.deadline == math.inf else caller.deadline):
                if message is not None:
                    answer = await method(message, caller)
                else:
                    async with self.room:
                        answer = await method(await self._long(stream, came), caller)
            self.sender.answer(stream, answer)
        except MillError as error:
            self.sender.fail(stream, status(error))
        except TimeoutError:
            self.sender.fail(stream, LATE)
        except Exception:
            self._fault(stream)
            raise
        finally:
            state.in_flight -= 1
            self.sender.flush()

    def _short(self, stream: Stream, packed: int, came: bytes) -> bytes | None:
        """A packed message as it was before; None where that is long, and so not for the loop.

        Nothing is inflated before it is known who sends it, and how much they may. Raises RequestError, Unidentified.
        """
        most = self.most_bytes(stream)
        check_encoding(packed, stream.call.encoding)
        return at_once("message", came, stream.call.encoding, most)

    async def _long(self, stream: Stream, came: bytes) -> bytes:
        """A packed message as it was before, inflated on a thread. Raises RequestError, TooLarge."""
        return await on_thread("message", came, stream.call.encoding, stream.most)

    def begin(self, stream: Stream) -> None:
        """Answer a call of many messages, which are still to come."""
        try:
            self.most_bytes(stream)
        except MillError as error:
            self.sender.fail(stream, status(error))
            return
        stream.messages = asyncio.Queue()
        stream.task = self.loop.create_task(self._run_stream(stream))

    def feed(self, stream: Stream) -> None:
        """Hand the whole messages of a stream to its call, as they came."""
        messages = stream.messages
        assert messages is not None
        body, most_bytes = stream.body, stream.most
        if stream.shut:
            body.clear()
            return
        while len(body) >= 5:
            size = int.from_bytes(body[1:5], "big")
            if size > most_bytes:
                self.sender.fail(stream, status(too_large(size, most_bytes)))
                return
            if len(body) < size + 5:
                break
            messages.put_nowait((body[0], bytes(body[5 : size + 5])))
            del body[: size + 5]
            if self.state.parting and not stream.ended:
                self._shut(stream)
        if stream.ended:
            messages.put_nowait(None)

    def part(self, stream: Stream) -> None:
        """Have a call of many messages end once those are answered that are here; one that has begun may come whole."""
        if stream.messages is not None and not stream.ended and not stream.body:
            self._shut(stream)

    def _shut(self, stream: Stream) -> None:
        """Take no further message, and tell the client when those are answered that were taken."""
        assert stream.messages is not None
        if not stream.shut:
            stream.shut = True
            stream.body.clear()
            words = "Open the stream again, at another instance."
            stream.messages.put_nowait(Draining("service", "is ending: reconnect", words))

    async def _run_stream(self, stream: Stream) -> None:
        method = self.methods.streaming[stream.call.path]
        sender = self.sender
        peer = replace(self._peer(stream), taken=True)
        try:
            async with asyncio.timeout_at(None if peer.deadline == math.inf else peer.deadline):
                async for answer in method(self._messages(stream), peer):
                    sender.add(stream, answer)
                    sender.flush()
                    while stream.pending:
                        stream.sent = asyncio.Event()
                        await stream.sent.wait()
            sender.finish(stream)
        except MillError as error:
            sender.fail(stream, status(error))
        except TimeoutError:
            sender.fail(stream, LATE)
        except Exception:
            self._fault(stream)
            raise
        finally:
            sender.flush()

    async def _messages(self, stream: Stream) -> AsyncIterator[bytes]:
        assert stream.messages is not None
        while (sent := await stream.messages.get()) is not None:
            if isinstance(sent, MillError):
                raise sent
            packed, came = sent
            message = self._short(stream, packed, came) if packed else came
            if message is not None:
                yield message
            else:
                async with self.room:
                    yield await self._long(stream, came)
            await asyncio.sleep(0)  # or whoever sends many messages at once would keep the loop from all others
            if not stream.ended and stream.messages.empty() and stream.allowed < STREAM_WINDOW:
                self.sender.credit(stream)
                self.sender.flush()

    def _peer(self, stream: Stream) -> Peer:
        call = stream.call
        deadline = self.loop.time() + call.timeout_s if call.timeout_s != math.inf else math.inf
        return Peer(deadline, call.metadata, self.address, is_of=stream.is_of)

    def _fault(self, stream: Stream) -> None:
        self.sender.fail(stream, Status(INTERNAL, "the service failed; its log says why"))
