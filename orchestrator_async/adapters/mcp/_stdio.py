"""
A connection to a server that is a process, by its standard input and output.

The SDK has one too. This one bounds what it reads, sees the process end though a child of
it has its pipes, and does not wait for a process that is stopped.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ._bucket import Bucket
from ._events import logger
from ._lines import KEPT, Lines, TooLong
from ._process import end, exited, how_it_ended

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

Item = Any
"""A ``SessionMessage``, as long as types of the SDK are not to be imported."""

PARSE_ERROR: Final = -32_700
TOO_LARGE: Final = -32_099
"""The code of an error of JSON-RPC that stands for an answer which was thrown away."""

_MOST_OF_A_LINE: Final = 20
"""How many times the limit a line may go on before its server is given up."""

_LAST_WORDS: Final = 0.2
"""Seconds for what a process that has ended may still have in its pipe."""

_GARBAGE: Final = 5
"""Lines that are no messages of which the log is told."""

_GARBAGE_A_SECOND: Final = 500
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class StdioConnection:
    """
    What is known of the process.

    Attributes:
        pid: The id of the process, as long as it runs.
        reason: Why the connection is over; empty as long as it is not.
    """

    def __init__(self, server: str, limit: int, over: Callable[[], object]) -> None:
        self._server = server
        self._limit = limit
        self._over = over
        self._said: deque[str] = deque(maxlen=3)
        self._garbage = 0
        self._is_closing = False
        self.pid: int | None = None
        self.reason = ""

    @asynccontextmanager
    async def open(
        self, command: str, args: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> AsyncIterator[tuple[Any, Any]]:
        """
        Start the process, and give the streams that the SDK's client wants.

        Raises:
            OSError: It cannot be started.
        """
        try:
            process = await anyio.open_process(
                [command, *args], env=env, cwd=cwd, start_new_session=True
            )
        except OSError as error:
            # Not by its name, in which there may be a secret.
            why = os.strerror(error.errno or 0)
            self.reason = f"its program cannot be started: {why}"
            raise
        self.pid = process.pid
        incoming, read_stream = anyio.create_memory_object_stream[Item](0)
        write_stream, outgoing = anyio.create_memory_object_stream[Item](0)
        try:
            async with anyio.create_task_group() as tasks:
                done = anyio.Event()
                tasks.start_soon(self._read, process, incoming, done)
                tasks.start_soon(self._write, process, outgoing, incoming)
                tasks.start_soon(self._listen, process)
                tasks.start_soon(self._watch, process, incoming, done)
                try:
                    yield read_stream, write_stream
                finally:
                    self._is_closing = True
                    with anyio.CancelScope(shield=True):
                        await end(process)
                    tasks.cancel_scope.cancel()
        finally:
            self.pid = None
            for stream in (incoming, read_stream, write_stream, outgoing):
                stream.close()

    def _is_over(self, reason: str, incoming: MemoryObjectSendStream[Item]) -> None:
        if self._is_closing:
            return  # whoever closes it knows why
        self.reason = self.reason or reason
        incoming.close()
        self._over()

    async def _read(
        self,
        process: Process,
        incoming: MemoryObjectSendStream[Item],
        done: anyio.Event,
    ) -> None:
        assert process.stdout is not None
        lines = Lines(self._limit)
        garbage = Bucket(_GARBAGE_A_SECOND)
        try:
            while chunk := await _chunk(process.stdout):
                for line in lines.feed(chunk):
                    message = self._message_of(line)
                    if message is not None:
                        await incoming.send(message)
                    else:
                        await anyio.sleep(garbage.take())
                if lines.endless > _MOST_OF_A_LINE * self._limit:
                    self._is_over("it sends a line that does not end", incoming)
                    return
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass  # nobody reads any more
        finally:
            done.set()

    def _message_of(self, line: bytes | TooLong) -> SessionMessage | None:
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        if isinstance(line, TooLong):
            logger.warning(
                "%s has sent more than %d bytes at once", self._server, self._limit
            )
            return _in_place_of(line, TOO_LARGE, "the answer is too large")
        if not line.strip():
            return None
        try:
            return SessionMessage(
                jsonrpc_message_adapter.validate_json(line, by_name=False)
            )
        except ValueError:
            self._garbage += 1
            if self._garbage <= _GARBAGE:
                logger.warning("%s: no message: %s", self._server, _shown(line))
            ends = TooLong(line[:KEPT], line[-KEPT:])
            return _in_place_of(ends, PARSE_ERROR, "it is no message")

    async def _write(
        self,
        process: Process,
        outgoing: MemoryObjectReceiveStream[Item],
        incoming: MemoryObjectSendStream[Item],
    ) -> None:
        assert process.stdin is not None
        try:
            async for item in outgoing:
                # As pure ASCII: what a model sends may hold half of a character.
                line = item.message.model_dump_json(
                    by_alias=True, exclude_unset=True, ensure_ascii=True
                )
                await process.stdin.send(line.encode("ascii") + b"\n")
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            with anyio.move_on_after(_LAST_WORDS):
                await exited(process)
            ended = process.returncode is not None
            self._is_over(self._end_of(process) if ended else "it reads no more", incoming)

    async def _listen(self, process: Process) -> None:
        """
        What it writes to its standard error, which says best why it has ended.
        """
        assert process.stderr is not None
        lines = Lines(_SAID)
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            while chunk := await _chunk(process.stderr):
                for line in lines.feed(chunk):
                    text = _shown(line.begin if isinstance(line, TooLong) else line)
                    if text:
                        self._said.append(text)
                        logger.debug("%s: %s", self._server, text)

    async def _watch(
        self,
        process: Process,
        incoming: MemoryObjectSendStream[Item],
        done: anyio.Event,
    ) -> None:
        """
        The connection is over when it has ended, or has closed what it writes to.
        """
        async with anyio.create_task_group() as either:

            async def of_the_process() -> None:
                await exited(process)
                with anyio.move_on_after(_LAST_WORDS):
                    await done.wait()
                either.cancel_scope.cancel()

            async def of_its_output() -> None:
                await done.wait()
                with anyio.move_on_after(_LAST_WORDS):
                    await exited(process)
                either.cancel_scope.cancel()

            either.start_soon(of_the_process)
            either.start_soon(of_its_output)
        self._is_over(self._end_of(process), incoming)

    def _end_of(self, process: Process) -> str:
        """
        How it has ended, with what it said of that.
        """
        failed = (process.returncode or 0) > 0 and self._said
        said = f": {self._said[-1]}" if failed else ""
        return how_it_ended(process) + said


_SAID: Final = 10_000


def _in_place_of(line: TooLong, code: int, message: str) -> SessionMessage | None:
    """
    What whoever waits for an answer that cannot be read is told instead; ``None`` where it
    cannot be said whose it is.
    """
    from mcp.shared.message import SessionMessage
    from mcp_types import ErrorData, JSONRPCError

    request = line.request_id()
    if request is None:
        return None
    data = ErrorData(code=code, message=message)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=request, error=data))


async def _chunk(stream: ByteReceiveStream) -> bytes:
    """
    What a pipe has; nothing where it has ended, however it did.
    """
    try:
        return await stream.receive()
    except (anyio.EndOfStream, ConnectionError):
        return b""


def _shown(line: bytes) -> str:
    text = _CONTROL.sub(" ", line[:1000].decode("utf-8", "replace")).strip()
    return text if len(text) <= 200 else text[:199] + "…"
