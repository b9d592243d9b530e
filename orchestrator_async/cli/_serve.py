"""
The command ``serve``: all that is known here of the gateway.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from ._errors import CliError, tell
from ._interrupts import interrupts
from ._news import News
from ._options import SERVING, Serving
from ._running import Session

if TYPE_CHECKING:
    from orchestrator_async.gateway import Gateway


async def serve(session: Session, serving: Serving) -> int:
    """
    Serve the tools until that ends. The gateway starts the servers, beside its own answers.

    Returns:
        The exit code.

    Raises:
        CliError: They cannot be served like that.
    """
    http = None if serving.http is None else address_of(serving.http)
    try:
        from orchestrator_async.gateway import serve as serve_by_mcp
    except ImportError as error:
        raise CliError(str(error)) from error
    token = _token(serving.token_env)
    if http is None:
        # The transport keeps the streams from the tools by itself, and wants the real ones.
        session.stdio.give_back()
    news = News()
    serve_tools = functools.partial(
        serve_by_mcp,
        session.orch,
        config=session.config,
        http=http,
        path=serving.path,
        figures_tool=serving.figures_tool,
        allowed_origins=serving.allow_origin,
        allowed_hosts=serving.allow_host,
        token=token,
        observers=[news.hear],
    )
    try:
        with news.hearing("orchestrator_async.gateway"):
            if session.config is None:
                await serve_tools()
            else:
                await _serve_and_reload(serve_tools, news)
    except ValueError as error:
        raise CliError(str(error)) from error
    except OSError as error:
        if http is None:
            raise
        reason = error.strerror or error
        raise CliError(f"--http {serving.http}: {reason}.") from error
    return 0


async def _serve_and_reload(
    serve_tools: Callable[..., Awaitable[None]], news: News
) -> None:
    """
    Serve, and read the file with settings anew by each SIGHUP.
    """
    told, failed = Bell(), None
    gateways: list[Gateway] = []
    async with anyio.create_task_group() as tasks:
        with interrupts.hanging_up(told.ring):
            tasks.start_soon(_reload_when_told, told, gateways, news)
            try:
                await serve_tools(on_start=gateways.append)
            except Exception as error:
                failed = error  # to be raised as it is, and not in a group
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


class Bell:
    """
    An event that can come again.
    """

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


async def _reload_when_told(told: Bell, gateways: list[Gateway], news: News) -> None:
    """
    One that still waits for servers is not waited for: the newest file is what counts.
    """
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        while True:
            await told.wait()
            scope.cancel()
            scope = anyio.CancelScope()
            tasks.start_soon(_reload, gateways, news, scope)


async def _reload(gateways: list[Gateway], news: News, scope: anyio.CancelScope) -> None:
    news.forget()
    with scope:
        for gateway in gateways:
            try:
                await gateway.reload()
            except (ValueError, RuntimeError) as error:  # there may be no thread to spare
                tell(f"orchestrator-async: nothing is changed: {error}")
            else:
                tell("orchestrator-async: the settings were read anew")


def _token(variable: str) -> str | None:
    token = os.environ.get(variable)
    if not token and variable != SERVING.token_env:
        # Whoever names one wants nobody to ask without it.
        raise CliError(f"--token-env {variable}: the environment has no such variable.")
    return token or None


def address_of(text: str) -> tuple[str, int]:
    """
    Host and port of ``[HOST:]PORT``; the host is this machine alone, if none is said.

    Raises:
        CliError: It is none.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (port.isascii() and port.isdigit() and int(port[:6]) < 65536):
        raise CliError(
            f"--http {text}: write a port, or a host and a port: 127.0.0.1:8000."
        )
    return host or "127.0.0.1", int(port)
