"""
A server's process: when it has ended, and how it is ended.

The SDK tells the end of a process by the end of what it writes. A child of it that has the
same pipe open hides that, so the process itself is looked at here.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process

_POLL: Final = 0.01
GRACE: Final = 1.0
"""Seconds that a server has to end by itself, and once more after it was told to."""

_REAP: Final = 2.0


async def exited(process: Process) -> None:
    """
    Return when it has ended, whatever its children do.
    """
    descriptor = None
    with suppress(OSError, AttributeError):  # it is gone, or this is no Linux
        descriptor = os.pidfd_open(process.pid)
    if descriptor is not None:
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)
    # The loop has yet to hear of it. To wait for that by ``wait`` is to wait for its pipes,
    # too, on asyncio.
    while process.returncode is None:  # noqa: ASYNC110
        await anyio.sleep(_POLL)


async def end(process: Process) -> None:
    """
    End it: by the end of what it reads, else by a signal, else by force; and then whatever
    it has left of its group. One that is stopped cannot end by itself, and is not waited for.
    """
    assert process.stdin is not None
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    if not await _ends(process, GRACE):
        _signal(process, signal.SIGTERM)
        if not await _ends(process, GRACE):
            _kill(process)
            await _ends(process, _REAP)
    _kill(process)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await stream.aclose()
    _let_go(process)
    if process.returncode is not None:
        with anyio.move_on_after(_REAP):
            await process.aclose()


async def _ends(process: Process, seconds: float) -> bool:
    with anyio.move_on_after(seconds):
        while process.returncode is None:
            if _is_stopped(process.pid):
                return False
            await anyio.sleep(_POLL)
    return process.returncode is not None


def _is_stopped(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[:1] == ["T"]


def _signal(process: Process, number: signal.Signals) -> None:
    """
    To its whole group, which is its own.
    """
    with suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(process.pid, number)
        except AttributeError:  # Windows has no groups  # pragma: no cover
            process.kill()


def _kill(process: Process) -> None:
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))


def _let_go(process: Process) -> None:
    """
    Close what asyncio keeps open of it as long as a child of it has the same pipe. There
    is no public way; on trio there is nothing to do.
    """
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    close = getattr(transport, "close", None)
    if callable(close):
        with suppress(PermissionError, ProcessLookupError):
            close()


def how_it_ended(process: Process) -> str:
    """
    The end of a process, for people.
    """
    code = process.returncode
    if code is None:
        return "its process has closed what it writes to"
    if code >= 0:
        return f"its process has ended with code {code}"
    try:
        return f"its process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was ended by signal {-code}"
