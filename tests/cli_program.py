"""
The terminal program, run as its users run it: as a process, in a pipe or a terminal.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
TOOLS = str(Path(__file__).with_name("cli_tools.py"))
TOO_LONG = 60.0
START = (sys.executable, "-P", "-W", "error", "-m", "orchestrator_async.cli")


class Ended(NamedTuple):
    """
    What came of a run.
    """

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "SYSTEMROOT") or name.startswith("COVERAGE")
    }
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        **more,
    }


def as_in_a_shell() -> None:
    """
    Hear Ctrl-C also where the tests were started in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(
    *args: str,
    tools: str | None = f"{TOOLS}:registry",
    input: str | bytes | None = None,
    start: Sequence[str] = START,
    env: dict[str, str] | None = None,
    **options: Any,
) -> Ended:
    given = [] if tools is None else ["--tools", tools]
    data = input.encode() if isinstance(input, str) else input
    feed = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run(
        [*start, *args, *given],
        **{
            "env": environment(**(env or {})),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "timeout": TOO_LONG,
            "check": False,
            **feed,
            **options,
        },
    )
    out, err = done.stdout or b"", done.stderr or b""
    return Ended(done.returncode, out.decode(), err.decode())


def redirected(
    command: str, redirections: str, start: Sequence[str] = START, **options: Any
) -> Ended:
    """
    A run whose streams a shell has redirected.
    """
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {command} {redirections}', "sh", *start],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def begun(*args: str, tools: str = f"{TOOLS}:registry") -> Iterator[subprocess.Popen[str]]:
    """
    A run that a test talks to while it lasts, and that does not outlast the test.
    """
    process = subprocess.Popen(
        [*START, *args, "--tools", tools],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        bufsize=1,
        preexec_fn=as_in_a_shell,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def in_a_terminal(
    *args: str,
    streams: Sequence[str] = ("stdin", "stdout", "stderr"),
    tools: str = f"{TOOLS}:registry",
    watch: Callable[[subprocess.Popen[bytes], str], object] = lambda process, shown: None,
    env: dict[str, str] | None = None,
    **others: Any,
) -> tuple[int, str]:
    """
    Run it with some of its streams on a terminal; the exit code, and all that was shown.

    Args:
        watch: Is called with the process and what was shown so far, each time that more is.
    """
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*START, *args, "--tools", tools],
        env=environment(
            **{"TERM": "xterm", "COLUMNS": "100", "LINES": "30", **(env or {})}
        ),
        preexec_fn=as_in_a_shell,
        **{**dict.fromkeys(streams, theirs), **others},
    )
    os.close(theirs)
    data, deadline = b"", time.monotonic() + TOO_LONG
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            data += chunk
            watch(process, data.decode(errors="replace"))
        return process.wait(TOO_LONG), data.decode(errors="replace").replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
