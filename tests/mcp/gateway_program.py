"""
A gateway as a process of its own, as the tests of its transports start it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

import anyio

from orchestrator_async import Registry
from orchestrator_async.config import load_config
from orchestrator_async.gateway import Gateway, serve

registry = Registry()


@registry.tool
async def noisy() -> str:
    """Print, and have a child print, and read what is not there."""
    print("noise", flush=True)
    sys.stdout.write("more noise\n")
    read = "import sys; print('noise of a child', repr(sys.stdin.read()))"
    await anyio.to_thread.run_sync(lambda: subprocess.run([sys.executable, "-c", read]))
    return "quiet"


@registry.tool
async def large(size: int) -> str:
    """Return a text of that size."""
    return "x" * size


async def main(options: argparse.Namespace) -> None:
    config = load_config(options.config)
    http = None if options.http is None else ("127.0.0.1", options.http)
    started: list[Gateway] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_obey, started, tasks.cancel_scope)
        await serve(
            config.orchestrator(registry) if options.own else config,
            config=config if options.own else None,
            http=http,
            start_wait=options.start_wait,
            on_start=started.append,
        )
        tasks.cancel_scope.cancel()


async def _obey(started: list[Gateway], scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGTERM:
                scope.cancel()
                return
            await started[0].reload()
            sys.stderr.write("reloaded\n")
            sys.stderr.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--own", action="store_true", help="with tools of its own")
    parser.add_argument("--http", type=int, help="0 for any port")
    parser.add_argument("--start-wait", type=float, default=20.0)
    given = parser.parse_args()
    how = {"use_uvloop": True} if given.uvloop else {}
    anyio.run(main, given, backend=given.backend, backend_options=how)
