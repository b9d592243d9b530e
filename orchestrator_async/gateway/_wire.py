"""
What goes between a gateway and one host, line by line.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import anyio
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import INVALID_REQUEST, JSONRPCRequest

from orchestrator_async.adapters.mcp._lines import Lines, TooLong

from ._messages import WITH_BATCHES, Fault, Part, parts_of
from ._open import Open
from ._quiet import GONE

MOST: Final = 4 * 1024 * 1024
"""Bytes of one message."""

_GRACE: Final = 1.0
"""Seconds for calls that run when the input has ended: hosts wait two, and then kill."""

_STAYS: Final = "subscriptions/listen"
"""The request that is answered at the end alone."""


class _Batch:
    """
    What is answered together, since it was asked together.
    """

    def __init__(self) -> None:
        self.waits_for = 0
        self.answers: list[str] = []


class Wire:
    """
    The messages of one host, as lines. It bounds what it reads, and how much of it waits for
    an answer.

    Args:
        receive: What gives bytes of the host; none at the end.
        send: What takes bytes for it.

    Attributes:
        written: Set when all is written that was to be.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[bytes]],
        send: Callable[[bytes], Awaitable[object]],
    ) -> None:
        self._receive = receive
        self._send = send
        self._lock = anyio.Lock()
        self._open = Open()
        self._batches: dict[int | str, _Batch] = {}
        self._greeting: int | str | None = None
        self._version = ""
        self.written = anyio.Event()

    async def read(self, incoming: Any) -> None:
        lines = Lines(MOST)
        with suppress(*GONE), incoming:
            while chunk := await self._receive():
                for line in lines.feed(chunk):
                    await self._take(line, incoming)
            await self._take(lines.last(), incoming)
            # What was asked may yet be answered; when this ends, what runs is cancelled.
            with anyio.move_on_after(_GRACE):
                await self._open.idle()

    async def write(self, outgoing: Any) -> None:
        # Closed at once where this is cancelled: the SDK has a last word for each request,
        # and waits for a second for somebody to take it.
        with outgoing:
            async for item in outgoing:
                message = item.message
                text = message.model_dump_json(by_alias=True, exclude_unset=True)
                if hasattr(message, "method"):
                    await self._put(text)
                    continue
                if message.id == self._greeting and hasattr(message, "result"):
                    self._version = message.result.get("protocolVersion", "")
                await self._answer(message.id, text)
        self.written.set()

    async def _put(self, text: str) -> None:
        async with self._lock:
            await self._send(text.encode("utf-8", "backslashreplace") + b"\n")

    async def _take(self, line: bytes | TooLong, incoming: Any) -> None:
        """
        Hand on what a line has. Nothing more is read until what is wrong with it is written:
        whoever sends such things has to take what comes of it.
        """
        if isinstance(line, TooLong):
            reason = f"a message has more than {MOST:,} bytes"
            await self._put(str(Fault(line.request_id(), INVALID_REQUEST, reason)))
            return
        with_batches = self._version == WITH_BATCHES
        parts, is_batch = parts_of(line, batches=with_batches)
        batch = _Batch() if is_batch else None
        passed = [self._begun(part, len(line) // len(parts), batch) for part in parts]
        faults = [str(each) for each in passed if isinstance(each, Fault)]
        if batch is not None:
            batch.answers += faults
        else:
            for fault in faults:
                await self._put(fault)
        for each in passed:
            if isinstance(each, SessionMessage):
                await incoming.send(each)
        if batch is not None:
            await self._end(batch)

    def _begun(self, part: Part, size: int, batch: _Batch | None) -> SessionMessage | Fault:
        """
        What is handed on of it, and is waited for if it is a request.
        """
        if isinstance(part, Fault):
            return part
        if not isinstance(part, JSONRPCRequest):
            return SessionMessage(part)
        refused = self._open.begin(part.id, size, stays=part.method == _STAYS)
        if refused:
            return Fault(part.id, INVALID_REQUEST, refused)
        if part.method == "initialize":
            self._greeting = part.id
        if batch is not None:
            self._batches[part.id] = batch
            batch.waits_for += 1
        unanswered = functools.partial(self._answer, part.id, "")
        metadata = ServerMessageMetadata(on_request_unanswered=unanswered)
        return SessionMessage(part, metadata=metadata)

    async def _answer(self, id: int | str | None, text: str) -> None:
        """
        Write an answer, or that there will be none.
        """
        self._open.answered(id)
        batch = None if id is None else self._batches.pop(id, None)
        if batch is not None:
            batch.waits_for -= 1
            batch.answers += [text] if text else []
            await self._end(batch)
        elif text:
            await self._put(text)

    async def _end(self, batch: _Batch) -> None:
        if batch.answers and not batch.waits_for:
            answers, batch.answers = batch.answers, []
            await self._put(f"[{','.join(answers)}]")
