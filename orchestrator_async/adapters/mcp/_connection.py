"""
One life of a connection to a server, in a task of its own.

What befalls it stays in that task: a call that it carries is told, and nobody is cancelled.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from mcp import Client, MCPError
from mcp.client.stdio import get_default_environment
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from orchestrator_async import ToolContext
from orchestrator_async.config import ServerConfig

from ._call import Call, current
from ._errors import ServerUnavailableError
from ._events import logger
from ._http import HttpConnection
from ._pace import AnsweringStream, PacedStream
from ._results import McpResult
from ._stdio import StdioConnection

_MOST_PAGES: Final = 100
_LISTING: Final = 30.0
_SETTLE: Final = 0.1
"""Seconds that a server has to change more, before its tools are listed anew."""

_BETWEEN: Final = 1.0
_FAREWELL: Final = 2.0
_ASKED_AT_ONE_TIME: Final = 16
_NO_CALL: Final = "there is no call that it could be for"


Ask = Callable[..., Awaitable[Any]]
"""A callback of the SDK's for what a server asks."""


class Connection:
    """
    A connection, from the attempt to its end.

    Args:
        server: The server's name.
        options: How it is reached.
        env: What its process is told by its environment, besides what the options say.
        asks: What answers what it asks for, by ``"elicitation"``, ``"sampling"``, ``"roots"``.
        on_tools: What is told of its tools, each time that they were listed, and whether
            these are all.
        on_left_out: What is told of one that is none, and why.

    Attributes:
        has_served: Whether it has answered a call.
        settled: Set when it is open or over.
        over: Set when it takes calls no more, or never will.
        reason: Why it is over.
    """

    def __init__(
        self,
        server: str,
        options: ServerConfig,
        env: Mapping[str, str],
        asks: Mapping[str, Ask],
        on_tools: Callable[[Sequence[types.Tool], bool], Awaitable[object]],
        on_left_out: Callable[[str, str], object],
    ) -> None:
        self.server = server
        self.limit = options.max_result_size
        self._options = options
        self._env = env
        self._secrets = _secrets_of(options)
        self._asks = asks
        self._on_tools = on_tools
        self._on_left_out = on_left_out
        self._calls: set[Call] = set()
        self._of_any_call: set[anyio.CancelScope] = set()
        self._asking = 0
        self._client: Client | None = None
        self._tasks: TaskGroup | None = None
        self._changed = anyio.Event()
        self._idle = anyio.Event()
        self._left = anyio.Event()
        self._is_closing = False
        self._process: StdioConnection | None = None
        self.has_served = False
        self.settled = anyio.Event()
        self.over = anyio.Event()
        self.reason = ""

    @property
    def pid(self) -> int | None:
        """
        The id of the server's process, if it is one that runs.
        """
        return None if self._process is None else self._process.pid

    @property
    def is_open(self) -> bool:
        """
        Whether it takes calls.
        """
        return self._client is not None and not self.over.is_set()

    # Its life

    async def live(self) -> None:
        """
        Connect, and stay until it is over. Raises nothing but cancellation.
        """
        try:
            async with anyio.create_task_group() as whole:
                whole.start_soon(self._bound, whole.cancel_scope)
                try:
                    await self._stay()
                finally:
                    whole.cancel_scope.cancel()
        except BaseException as error:
            self._is_over(_why(error))
            rest = _cancellation(error)
            if rest is error:
                raise
            if rest is not None:
                raise rest from None
        finally:
            self._is_over("it was closed")

    async def _stay(self) -> None:
        async with self._opened() as client, anyio.create_task_group() as tasks:
            await self._list(client)
            self._client, self._tasks = client, tasks
            if self.is_open:
                self.reason = ""  # what went wrong on the way is no matter now
            self.settled.set()
            tasks.start_soon(self._list_anew, client)
            if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                tasks.start_soon(self._subscribe, client)
            try:
                await self.over.wait()
            except BaseException:
                self._is_over("the connection broke off")  # so that no call comes now
                raise
            if self._calls and self._process is None and not self._is_closing:
                await self._idle.wait()
            self._left.set()
            tasks.cancel_scope.cancel()

    async def _bound(self, scope: anyio.CancelScope) -> None:
        """
        Give up connecting in time, and taking leave.
        """
        timeout = self._options.connect_timeout
        with anyio.move_on_after(timeout):
            await self.settled.wait()
        if not self.settled.is_set():
            self._is_over(f"it has not answered within {timeout:g} s")
            scope.cancel()
        if self._is_closing and self._client is None:
            scope.cancel()  # it was closed while it was being opened, and may say nothing
        await self._left.wait()
        await anyio.sleep(_FAREWELL)
        scope.cancel()

    def close(self) -> None:
        """
        Take no more calls, and end those that run.
        """
        self._is_closing = True
        self._is_over("it was closed")
        self._idle.set()

    def _is_over(self, reason: str) -> None:
        if not self.reason:
            of_the_process = "" if self._process is None else self._process.reason
            self.reason = self.hide(of_the_process or reason)
        self.settled.set()
        self.over.set()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client]:
        client = Client(
            self._transport(),
            cache=None,
            # Where there is none, the SDK does not tell the server that it may ask.
            elicitation_callback=self._asked("elicitation"),
            sampling_callback=self._asked("sampling"),
            list_roots_callback=self._asked("roots"),
            client_info=types.Implementation(name="orchestrator_async", version=_version()),
        )
        async with client:
            yield client

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[tuple[Any, Any]]:
        options = self._options
        if options.command is not None:
            self._process = StdioConnection(
                self.server, self.limit, lambda: self._is_over("it has ended")
            )
            env = {**get_default_environment(), **self._env, **(options.env or {})}
            opening = self._process.open(options.command, options.args, env, options.cwd)
        else:
            assert options.url is not None
            http = HttpConnection(self.limit, self._trouble)
            opening = http.open(options.url, options.headers or {})
        async with opening as (incoming, outgoing):
            paced = PacedStream(incoming, self._heard, self._on_left_out)
            yield paced, AnsweringStream(outgoing, paced.answered)

    def _trouble(self, reason: str) -> None:
        """
        The server could not be reached: what is sent from now on goes over a new connection.
        """
        self.reason = self.reason or self.hide(reason)
        if self.is_open:
            self._is_over(reason)

    def hide(self, text: str) -> str:
        """
        The text without what the settings have of secrets, wherever it comes from.
        """
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    # Its tools

    async def _subscribe(self, client: Client) -> None:
        """
        Hear of changes from servers that tell only those who listen.
        """
        while True:
            try:
                async with client.listen(tools_list_changed=True) as events:
                    async for _ in events:
                        self._changed.set()
            except (MCPError, SubscriptionLost, TimeoutError) as error:
                logger.debug("%s: no news of its tools: %s", self.server, error)
                if isinstance(error, MCPError):
                    return  # it does not tell
            await anyio.sleep(_BETWEEN)
            self._changed.set()

    async def _list_anew(self, client: Client) -> None:
        while not self.over.is_set():
            await self._changed.wait()
            await anyio.sleep(_SETTLE)
            self._changed = anyio.Event()
            try:
                await self._list(client)
            except (MCPError, TimeoutError, ValueError) as error:
                logger.warning("%s: its tools could not be listed: %s", self.server, error)
            await anyio.sleep(_BETWEEN)

    async def _list(self, client: Client) -> None:
        """
        Raises:
            MCPError: The server answers with an error.
            TimeoutError: It does not answer.
            ValueError: What it answers makes no sense.
        """
        if client.server_capabilities.tools is None:
            await self._on_tools([], True)
            return
        tools: list[types.Tool] = []
        cursor = None
        with anyio.fail_after(_LISTING):
            for _ in range(_MOST_PAGES):
                page = await client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if cursor is None or len(tools) > self._options.max_tools:
                    break
        await self._on_tools(tools, cursor is None)

    # Its calls

    async def call(
        self, tool: str, arguments: Mapping[str, Any], context: ToolContext
    ) -> McpResult:
        """
        Call a tool. The connection is open.
        """
        assert self._tasks is not None
        assert self._client is not None
        call = Call(self, tool, arguments, context, self._options.read_timeout)
        self._calls.add(call)
        try:
            self._tasks.start_soon(call.run, self._client)
        except RuntimeError:  # it has just ended, and nobody was told yet
            self._calls.discard(call)
            raise ServerUnavailableError(
                server=self.server, tool_name=context.tool_name, reason=self.reason
            ) from None
        return await call.wait()

    def leave(self, call: Call, *, answered: bool) -> None:
        """
        A call's word that it is over.
        """
        self.has_served = self.has_served or answered
        self._calls.discard(call)
        if self._calls:
            return
        for scope in self._of_any_call:
            scope.cancel()
        if self.over.is_set():
            self._idle.set()

    # What it asks for

    def _asked(self, wanted: str) -> Any:
        ask = self._asks.get(wanted)
        return None if ask is None else functools.partial(self._answer, wanted, ask)

    def _heard(self, method: str) -> None:
        """
        What it says or asks for by itself. The SDK refuses what nobody gives it.
        """
        if method == "notifications/tools/list_changed":
            self._changed.set()
        wanted = _WANTED.get(method)
        if wanted is not None and wanted not in self._asks:
            self._refused(wanted)

    def _refused(self, wanted: str) -> None:
        # Over one pipe nobody can tell which call it is for: it may be for any of them.
        its = current.get()
        for call in self._calls if its is None else (its,):
            call.wanted = wanted

    async def _in_its_call(self, ask: Ask, *asked: Any) -> Any:
        """
        Ask in the context of the call that it is for, so that whoever is asked can tell
        whose it is. Over a pipe that is known only as long as there is no other call.
        """
        its = current.get()
        if its is not None:
            return await its.questions.ask(ask, *asked)
        if len(self._calls) != 1:
            return await self._in_any_call(ask, *asked)
        (call,) = self._calls
        answers: list[Any] = []

        async def answer() -> None:
            answers.append(await call.questions.ask(ask, *asked))

        async with anyio.create_task_group() as tasks:
            call.variables.run(tasks.start_soon, answer)
        return answers[0]

    async def _in_any_call(self, ask: Ask, *asked: Any) -> Any:
        """
        Ask for as long as there is a call that it may be for: what nobody waits for is not
        asked of anybody.
        """
        answer: Any = types.ErrorData(code=types.INVALID_REQUEST, message=_NO_CALL)
        if self._calls:
            with anyio.CancelScope() as scope:
                self._of_any_call.add(scope)
                try:
                    answer = await ask(*asked)
                finally:
                    self._of_any_call.discard(scope)
        return answer

    async def _answer(self, wanted: str, ask: Ask, *asked: Any) -> Any:
        if self._asking >= _ASKED_AT_ONE_TIME:
            return types.ErrorData(
                code=types.INVALID_REQUEST, message="it asks for too much at one time"
            )
        self._asking += 1
        try:
            answer = await self._in_its_call(ask, *asked)
        except Exception:
            logger.exception("%s: what answers its %s raised", self.server, wanted)
            answer = types.ErrorData(
                code=types.INTERNAL_ERROR, message="nobody could be asked"
            )
        finally:
            self._asking -= 1
        if isinstance(answer, types.ErrorData):
            self._refused(wanted)
        return answer


_WANTED: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}


def _cancellation(error: BaseException) -> BaseException | None:
    """
    What is to go on up of it: a cancellation of the task, or an interrupt. What befell the
    connection is not.
    """
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)[1]
    return None if isinstance(error, Exception) else error


_SHORTEST_SECRET: Final = 4


def _secrets_of(options: ServerConfig) -> list[str]:
    """
    What is not to be told of the settings: headers, variables, and parts of the address.
    """
    headers, env = options.headers or {}, options.env or {}
    values = [*headers.values(), *env.values()]
    words = [word for value in headers.values() for word in value.split()]
    address = urlsplit(options.url or "")
    values += [*words, address.query, address.username or "", address.password or ""]
    known = {value for value in values if len(value) >= _SHORTEST_SECRET}
    return sorted(known - {"Bearer", "Basic"}, key=len, reverse=True)


def _why(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error).partition("\n")[0][:300]
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    with suppress(PackageNotFoundError):
        return version("orchestrator-async")
    return "0"  # pragma: no cover - it is on the path, and not installed
