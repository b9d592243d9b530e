"""
A gateway on the standard input and output of its process.

The SDK has this transport too. This one bounds what it reads and how much of it waits for
an answer, and what waits for input is no reason for the process not to end.
"""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)

from orchestrator_async._threads import Slots, ThreadedCall
from orchestrator_async.adapters.mcp._lines import KEPT, Lines, TooLong

from ._open import Open
from ._quiet import GONE

if TYPE_CHECKING:
    from ._gateway import Gateway

T = TypeVar("T")

MOST: Final = 4 * 1024 * 1024
"""Bytes of one message."""

_CHUNK: Final = 65_536
_LAST_WORDS: Final = 1.0
"""Seconds for what is left to be written, when the input has ended."""


async def serve_stdio(gateway: Gateway) -> None:
    """
    Serve one host on the standard input and output, until the input ends.

    From here on the process's own standard input is empty, and what anybody prints goes to
    standard error, also what its children print.

    Args:
        gateway: What is served.
    """
    server = gateway.server()
    with _taken() as (read, write):
        wire = _Wire(read, write)
        incoming, read_stream = anyio.create_memory_object_stream[Any](0)
        write_stream, outgoing = anyio.create_memory_object_stream[Any](0)
        with incoming, read_stream, write_stream, outgoing:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wire.read, incoming)
                tasks.start_soon(wire.write, outgoing)
                options = server.create_initialization_options()
                await server.run(read_stream, write_stream, options)
                with anyio.move_on_after(_LAST_WORDS):
                    await wire.written.wait()
                tasks.cancel_scope.cancel()


class _Wire:
    """
    Messages as lines of two descriptors.

    Attributes:
        written: Set when all is written that was to be.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._lock = anyio.Lock()
        self._open = Open()
        self.written = anyio.Event()

    async def read(self, incoming: Any) -> None:
        lines = Lines(MOST)
        with suppress(*GONE), incoming:
            while chunk := await _in_thread(functools.partial(_read, self._read)):
                for line in lines.feed(chunk):
                    message = await self._message_of(line)
                    if message is not None:
                        await incoming.send(message)

    async def write(self, outgoing: Any) -> None:
        # Closed at once where this is cancelled: the SDK has a last word for each request,
        # and waits for a second for somebody to take it.
        with outgoing:
            async for item in outgoing:
                message = item.message
                if not hasattr(message, "method"):
                    self._open.answered(message.id)
                await self._put(message)
        self.written.set()

    async def _put(self, message: Any) -> None:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
        async with self._lock:
            line = text.encode("utf-8", "backslashreplace") + b"\n"
            await _in_thread(functools.partial(_write, self._write, line))

    async def _message_of(self, line: bytes | TooLong) -> SessionMessage | None:
        """
        The message that a line is; ``None`` where the host has had its answer already.
        """
        if isinstance(line, TooLong):
            await self._refuse(
                line.request_id(),
                INVALID_REQUEST,
                f"a message has more than {MOST:,} bytes",
            )
            return None
        if not line.strip():
            return None
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            ends = TooLong(line[:KEPT], line[-KEPT:])
            await self._refuse(ends.request_id(), PARSE_ERROR, "this is no message")
            return None
        if not isinstance(message, JSONRPCRequest):
            return SessionMessage(message)
        refused = self._open.begin(message.id, len(line))
        if refused:
            await self._refuse(message.id, INVALID_REQUEST, refused)
            return None

        async def unanswered() -> None:
            self._open.answered(message.id)

        return SessionMessage(
            message, metadata=ServerMessageMetadata(on_request_unanswered=unanswered)
        )

    async def _refuse(self, id: int | str | None, code: int, reason: str) -> None:
        # Nothing more is read until it is written: whoever sends such things has to take
        # what comes of it. Without an id, hosts could not tell what it is about.
        if id is not None:
            error = ErrorData(code=code, message=reason)
            await self._put(JSONRPCError(jsonrpc="2.0", id=id, error=error))


@contextmanager
def _taken() -> Iterator[tuple[int, int]]:
    """
    Take the standard streams away from everybody else, and give them back.
    """
    sys.stdout.flush()
    read, write = os.dup(0), os.dup(1)
    try:
        empty = os.open(os.devnull, os.O_RDONLY)
        try:
            os.dup2(empty, 0)
        finally:
            os.close(empty)
        os.dup2(2, 1)
        yield read, write
        sys.stdout.flush()
    finally:
        os.dup2(read, 0)
        os.dup2(write, 1)
        # The copies stay open: a thread may still wait there, and the number that it has must
        # not become that of another file.


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:  # another process has made it so
            select.select([descriptor], [], [])
        except OSError:
            return b""  # a terminal or a socket that has gone


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
        except OSError:
            return  # nobody reads any more, and the end of the input says so


async def _in_thread(fn: Callable[[], T]) -> T:
    """
    Run it in a thread that nobody waits for if this is cancelled.
    """
    slots = Slots(1)
    slots.take()
    value: T = await ThreadedCall(slots).wait(fn)
    return value
