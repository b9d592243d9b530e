"""
A process of the fleet, as seen by those who watch it: started, listened to and killed.

Above it stands ``_fleet_story``; below it ``_fleet_worker.py``, which is only ever run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

PROGRAM = Path(__file__).with_name("_fleet_worker.py")
PATIENCE = 10.0
MOST = 1_000_000

Report = dict[str, Any]


class Worker:
    """
    One process.

    Attributes:
        name: What it is called: by its loop, and a number.
        loop: ``"asyncio"`` or ``"trio"``.
        is_alive: Whether it was started, and nobody has killed it.
        code: Its exit code, once it has ended.
    """

    def __init__(self, name: str, loop: str) -> None:
        self.name = name
        self.loop = loop
        self.is_alive = False
        self.code: int | None = None
        self._process: Process | None = None
        self._said_all = anyio.Event()

    async def start(self, service: int, engine: str) -> None:
        """
        Start it. It is not there yet: it says ``joined`` when it is.
        """
        command = [sys.executable, str(PROGRAM), self.name, "--loop", self.loop]
        with anyio.CancelScope(shield=True):  # what is begun is known to those who end it
            # Its standard input is a pipe of ours: it leaves when we end, whatever ends us.
            # A session of its own keeps the terminal's Ctrl-C from it.
            self._process = await anyio.open_process(
                [*command, "--service", str(service), "--engine", engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None,
                start_new_session=True,
            )
        self.is_alive = True

    async def listen(self, heard: Callable[[Worker, Report], object]) -> None:
        """
        Hear all that it says, until it ends.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        lines = BufferedByteReceiveStream(self._process.stdout)
        try:
            while True:
                heard(self, json.loads(await lines.receive_until(b"\n", MOST)))
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError):
            pass
        finally:
            self._said_all.set()

    async def leave(self) -> None:
        """
        Have it leave the fleet, and wait until it has.
        """
        process = self._process
        if process is not None and process.stdin is not None:
            await process.stdin.aclose()
            with anyio.move_on_after(PATIENCE):
                await self._said_all.wait()
                self.code = await process.wait()

    async def kill(self) -> None:
        """
        End it by SIGKILL, if it runs.
        """
        process, self.is_alive = self._process, False
        if process is not None and process.returncode is None:
            process.kill()
            self.code = await process.wait()

    async def close(self) -> None:
        """
        The same, and let go of its pipes. What it has said and nobody has heard is lost.
        """
        with anyio.CancelScope(shield=True):
            await self.kill()
            if self._process is not None:
                await self._process.aclose()
