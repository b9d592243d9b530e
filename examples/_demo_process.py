"""
The weather server as a process: started, killed, and started again on its port.

Above it stands ``_demo_story``; below it ``weather_server.py``, which is only ever run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.abc import Process

SERVER = Path(__file__).with_name("weather_server.py")


class DemoError(Exception):
    """
    What keeps the demo from running, in one line with the cure.
    """


class WeatherProcess:
    """
    The weather server's process.

    Args:
        port: The port that it is to have; 0 is any free one, kept from the first start on.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.pid: int | None = None
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """
        Where it listens.
        """
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """
        Start it, and wait until it listens.
        """
        # Its standard input is a pipe of ours: it ends when we do. A session of its own
        # keeps the terminal's Ctrl-C from it, which is ours to handle.
        self._process = await anyio.open_process(
            [sys.executable, str(SERVER), "--port", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            start_new_session=True,
        )
        told = await _first_line(self._process)
        if "error" in told:
            # It ends by itself. Killed meanwhile, asyncio may lose sight of it, and warn.
            await self._process.wait()
            raise DemoError(
                f"The weather server cannot listen on port {self.port}: {told['error']}. "
                "Choose another one with --port, or leave that out for any free port."
            )
        self.port, self.pid = told["port"], told["pid"]

    async def kill(self) -> int | None:
        """
        Kill it, at once and for good; the exit code that the system then gives for it.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            code = await process.wait()
            await process.aclose()
        return code

    async def count(self) -> tuple[int, int] | None:
        """
        How many forecasts the running server was asked for, and its pid, in its own words.
        """
        try:
            async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
                told = (await client.get("/count")).json()
                return told["forecasts"], told["pid"]
        except (httpx.TransportError, ValueError, LookupError):  # none, or a stranger
            return None


async def _first_line(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = b""
    try:
        with anyio.fail_after(15):
            while not line.endswith(b"\n"):
                line += await process.stdout.receive()
        told: dict[str, Any] = json.loads(line)
    except (anyio.EndOfStream, TimeoutError, ValueError) as error:
        raise DemoError(
            f"The weather server did not start ({type(error).__name__}). "
            f"Run {SERVER.name} by itself to see why."
        ) from error
    return told
