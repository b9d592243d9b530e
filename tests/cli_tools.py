"""
Tools for the tests of the terminal program, which imports this file.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import threading
import time
from typing import Any

import anyio
import anyio.to_process

from orchestrator_async import (
    CircuitOpenError,
    Registry,
    ToolContext,
    ToolOrchestrator,
)
from orchestrator_async.cli._interrupts import interrupts

registry, empty, evil, broken, wide = (Registry() for _ in range(5))
orchestrator = ToolOrchestrator(registry, failure_threshold=1)
other_orchestrator = ToolOrchestrator(empty)

EVIL = "[red]x[/] [/nope] [link=http://x]y \x1b[2J\x1b]0;title\x07 \x9b31m \u202e \ud800"


def say(text: str) -> None:
    """
    Tell the test, without a word on standard output.
    """
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@registry.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@registry.tool
async def echo(text: str = "nothing", times: int = 1) -> str:
    """Say it again."""
    return text * times


@registry.tool
async def fail() -> str:
    """Fail."""
    raise ConnectionError("no route \x1b[2J to host")


@registry.tool
async def says_error() -> dict[str, Any]:
    """Return an error."""
    return {"error": "out of paper"}


@registry.tool
async def refused() -> str:
    """Ask another tool, whose circuit is open."""
    raise CircuitOpenError(
        tool_name="paper", circuit="paper", state="open", retry_after=9, failures=3
    )


@registry.tool
async def call_id(context: ToolContext) -> str | None:
    """Tell the id of the call."""
    return context.call_id


@registry.tool
async def talk() -> str:
    """Print on standard output, here and in a program, and read standard input."""
    print("from the tool")
    code = "import sys; print('from its program', repr(sys.stdin.read()))"
    await anyio.run_process(
        [sys.executable, "-c", code], stdin=None, stdout=None, stderr=None
    )
    return f"read {sys.stdin.read()!r}"


@registry.tool
async def in_a_process() -> float:
    """Work in another process."""
    return await anyio.to_process.run_sync(math.sqrt, 9)


@registry.tool
async def leave() -> str:
    """Do as if somebody had pressed Ctrl-C."""
    raise KeyboardInterrupt


@registry.tool
async def hang() -> str:
    """Wait for ever."""
    say("started")
    try:
        await anyio.sleep_forever()
    finally:
        say("cleaned up")
    return ""


@registry.tool
async def hang_on() -> str:
    """Wait for ever, and a little longer."""
    say("started")
    try:
        await anyio.sleep_forever()
    finally:
        say("not yet")
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()
    return ""


@registry.tool
async def hold_the_loop() -> str:
    """Never give anybody else a turn."""
    say("started")
    while interrupts.number is None:
        pass
    say("heard")
    while True:
        pass


@registry.tool
async def hold_the_end() -> str:
    """Have the loop wait for a thread when it ends."""
    await asyncio.to_thread(_until_interrupted)
    return ""


def _until_interrupted() -> None:
    while getattr(interrupts._cancel, "__name__", "") != "_nothing":
        time.sleep(0.001)
    say("the call is over")
    while interrupts.number is None:
        time.sleep(0.001)
    say("heard")


@registry.tool
async def signal_elsewhere() -> str:
    """Have a signal come that does not break off what the main thread waits for."""
    threading.Thread(target=_signalled_at_rest, daemon=True).start()
    try:
        await anyio.sleep_forever()
    finally:
        say("cleaned up")
    return ""


def _signalled_at_rest() -> None:
    seen: list[object] = []
    while len(seen) < 20 or len(set(seen[-20:])) > 1:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        seen.append((id(frame), frame.f_lasti))
        time.sleep(0.005)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@registry.tool
def wait() -> str:
    """Wait for ever in a thread."""
    say("started")
    threading.Event().wait()
    return ""


@registry.tool
async def child() -> str:
    """Wait for a program that does not end."""
    code = "import time; print('up', flush=True)\nwhile True: time.sleep(0.1)"
    async with await anyio.open_process(
        [sys.executable, "-c", code], stderr=None
    ) as process:
        assert process.stdout is not None
        await process.stdout.receive()
        say(str(process.pid))
        await process.wait()
    return ""


@evil.tool(name="evil", description=EVIL)
async def speak() -> str:
    return EVIL


@wide.tool(name="天気", description="都市の天気予報を返します。" * 8)
async def weather() -> str:
    return "晴れ"


@wide.tool
async def plain() -> str:
    """A tool with a plain name."""
    return ""


@wide.tool
async def bare() -> str:
    return ""


@broken.tool
async def no_schema(thing: threading.Event) -> str:
    """Take what no schema can say."""
    return ""
