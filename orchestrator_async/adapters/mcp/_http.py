"""
A connection to a server over streamable HTTP.

The SDK's transport ends with the first request that cannot be sent, and all calls with it;
and it throws away status and headers. Here a client stands beneath it that turns what goes
wrong into an answer for that request alone, and remembers the rest for its call.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx2
from anyio.abc import TaskGroup
from mcp.client.streamable_http import streamable_http_client

_CONNECT: Final = 10.0
_WRITE: Final = 30.0
_NOTIFY: Final = 5.0
_MOST_LEAVING: Final = 20
_CANCELLED: Final = "notifications/cancelled"
NOT_SENT: Final = -32_098
"""The code of an error of JSON-RPC that stands for a request that came to nothing."""

_SESSION_HEADER: Final = "mcp-session-id"


@dataclass(slots=True)
class Exchange:
    """
    What HTTP has said of one call.

    Attributes:
        status: The status of the last answer; 0 where there is none.
        phrase: The phrase beside it.
        headers: Its headers.
        error: What went wrong instead, or in the middle of it.
        too_large: Whether the answer was thrown away because of its size.
    """

    status: int = 0
    phrase: str = ""
    headers: Mapping[str, str] | None = None
    error: Exception | None = None
    too_large: bool = False


exchange: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""That of the call in whose context a request is sent: the SDK hands its context down."""


class HttpConnection:
    """
    What is known of the connection.

    Args:
        limit: Bytes that one answer may have.
        trouble: What is called when the server could not be reached, or has forgotten the
            session.
    """

    def __init__(self, limit: int, trouble: Callable[[str], object]) -> None:
        self._limit = limit
        self._trouble = trouble

    @asynccontextmanager
    async def open(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[Any, Any]]:
        """
        Give the streams that the SDK's client wants.
        """
        # How long an answer may take is up to the call.
        timeout = httpx2.Timeout(_CONNECT, read=None, write=_WRITE, pool=None)
        # How many there are at one time is up to limits of the orchestrator.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        # What is packed could be of any size once it is unpacked.
        plain = {"accept-encoding": "identity", **headers}
        async with (
            _Client(
                self._limit, self._trouble, headers=plain, timeout=timeout, limits=limits
            ) as client,
            anyio.create_task_group() as client.tasks,
        ):
            transport = streamable_http_client(
                url, http_client=client, max_sse_event_size=self._limit
            )
            try:
                async with transport as streams:
                    yield streams
            finally:
                client.tasks.cancel_scope.cancel()


class _Client(httpx2.AsyncClient):
    def __init__(
        self, limit: int, trouble: Callable[[str], object], **options: Any
    ) -> None:
        super().__init__(**options)
        self._limit = limit
        self._trouble = trouble
        self._leaving = 0
        self.tasks: TaskGroup

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """
        As ever; but a request that comes to nothing has an answer that says so.
        """
        seen = exchange.get() or Exchange()
        method = _notified_by(request)
        if method == _CANCELLED:
            # The SDK sends nothing else until this is sent, and nobody waits for it.
            if self._leaving < _MOST_LEAVING:
                self._leaving += 1
                self.tasks.start_soon(self._tell, request, options)
            return httpx2.Response(202, request=request)
        if method is not None:
            await self._notify(request, options)
            return httpx2.Response(202, request=request)
        try:
            response = await super().send(request, **options)
        except Exception as error:
            self._trouble(_said(error))
            if request.method != "POST":
                raise
            seen.error = error
            return _no_answer(request, _said(error))
        seen.status, seen.phrase = response.status_code, response.reason_phrase
        seen.headers = response.headers
        if response.status_code == 404 and _SESSION_HEADER in request.headers:
            self._trouble("it has forgotten the session")
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.strip().lower() != "identity":
            await response.aclose()
            return _no_answer(request, f"the answer is packed ({encoding[:20]!r})")
        kind = response.headers.get("content-type", "")
        limit = None if kind.startswith("text/event-stream") else self._limit
        # Where it only listens, the SDK listens again by itself.
        trouble = self._trouble if request.method == "POST" else _none
        response.stream = _Watched(response.stream, limit, seen, trouble)
        return response

    async def _tell(self, request: httpx2.Request, options: dict[str, Any]) -> None:
        try:
            await self._notify(request, options)
        finally:
            self._leaving -= 1

    async def _notify(self, request: httpx2.Request, options: dict[str, Any]) -> None:
        """
        Send what has no answer. The SDK would send nothing ever again if it raised.
        """
        with anyio.move_on_after(_NOTIFY), suppress(Exception):
            response = await super().send(request, **options)
            await response.aclose()


def _notified_by(request: httpx2.Request) -> str | None:
    """
    The method of a notification, or ``None`` if it is a request for which there is an answer.
    """
    if request.method != "POST":
        return None
    try:
        message = json.loads(request.content)
    except httpx2.RequestNotRead:
        return None  # it was redirected
    return None if "id" in message else str(message.get("method"))


class _Watched(httpx2.AsyncByteStream):
    """
    The body of an answer. It ends where it is cut short or becomes too large, which the
    SDK then takes for an answer that makes no sense, and for no more than that.
    """

    def __init__(
        self,
        stream: Any,
        limit: int | None,
        seen: Exchange,
        trouble: Callable[[str], object],
    ) -> None:
        self._stream = stream
        self._limit = limit
        self._seen = seen
        self._trouble = trouble

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._stream:
                size += len(chunk)
                if self._limit is not None and size > self._limit:
                    self._seen.too_large = True
                    return
                yield chunk
        except httpx2.TransportError as error:
            self._seen.error = error
            self._trouble(_said(error))

    async def aclose(self) -> None:
        await self._stream.aclose()


def _none(reason: str) -> None:
    """
    Nothing that needs to be known.
    """


def _no_answer(request: httpx2.Request, reason: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": NOT_SENT, "message": reason}}
    return httpx2.Response(
        502,
        headers={"content-type": "application/json"},
        content=json.dumps(error).encode(),
        request=request,
    )


def _said(error: Exception) -> str:
    text = str(error)
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind
