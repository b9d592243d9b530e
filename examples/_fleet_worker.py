"""
One process of the fleet, and all that it takes to be one: **read this first**.

    python examples/_fleet_worker.py asyncio-1 --loop asyncio --service 5000 --engine redis://...

An orchestrator with a store, entered, whose callers never hear of the store. The rest is
here so that somebody can watch: what happens is told as lines of JSON on standard output,
and when standard input is closed the process leaves. ``_fleet_process`` is at the other
end of both.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import time
from contextlib import suppress
from typing import Any

import anyio

from orchestrator_async import (
    CircuitChanged,
    CircuitOpenError,
    Registry,
    ToolOrchestrator,
    ToolResult,
)
from orchestrator_async.stores.redis import RedisStore

TIMEOUT = 1.0
"""Seconds that the tool may take."""

LEASE = TIMEOUT + 1.0
"""Seconds after which a probe is given up, if its process has died: the tool's, and a grace."""

RESET_TIMEOUT = 1.0
"""Seconds that the circuit stays open."""

CALLERS = 4
EVERY = 0.4
"""Seconds from one call of a caller to its next, on average."""


class ServiceDownError(Exception):
    """
    The service has said that it cannot help.
    """


def make_orchestrator(name: str, service: int, engine: str) -> ToolOrchestrator:
    """
    An orchestrator that shares its circuits, over one tool.

    Args:
        name: Who we are, for the service.
        service: The port of the service that the tool asks.
        engine: The url of Redis or Valkey; empty for circuits of our own.
    """
    registry = Registry()

    @registry.tool
    async def get_weather(city: str) -> str:
        """Weather of a city, now.

        Args:
            city: Name of the city.
        """
        async with await anyio.connect_tcp("127.0.0.1", service) as stream:
            await stream.send(f"{name}\n".encode())
            answer = (await stream.receive()).decode().strip()
        if answer == "down":
            raise ServiceDownError(f"no weather for {city}")
        return answer

    registry.build()  # the schema now, not while the first call waits
    return ToolOrchestrator(
        registry,
        store=RedisStore(engine) if engine else None,
        failure_threshold=3,
        reset_timeout=RESET_TIMEOUT,
        timeout=TIMEOUT,
    )


async def work(name: str, service: int, engine: str) -> None:
    """
    Call the tool until standard input is closed.
    """
    orch = make_orchestrator(name, service, engine)
    orch.add_observer(observe)
    tally = Tally()
    async with orch:
        say("joined", pid=os.getpid())
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLERS):
                tasks.start_soon(keep_calling, orch, tally)
            tasks.start_soon(keep_telling, tally)
            await anyio.wait_readable(sys.stdin)  # nothing is ever sent: it is the end
            tasks.cancel_scope.cancel()
    tally.tell()
    say("left")


async def keep_calling(orch: ToolOrchestrator, tally: Tally) -> None:
    """
    One caller, who takes what comes: an answer, a failure or a refusal.
    """
    while True:
        await anyio.sleep(EVERY * random.uniform(0.5, 1.5))
        began = time.perf_counter()
        try:
            result = await orch.run("get_weather", {"city": "Oslo"})
        except Exception as error:  # which is to happen never
            tally.counts["raised"] += 1
            say("log", text=f"A CALLER SEES {error!r}")
        else:
            tally.note(result, time.perf_counter() - began - result.duration)


# For those who watch


class Tally:
    """
    What became of all calls, and for how long the library held them up.
    """

    def __init__(self) -> None:
        self.counts = {"ok": 0, "failed": 0, "refused": 0, "other": 0, "raised": 0}
        self.added: list[float] = []
        self.lag = 0.0

    def note(self, result: ToolResult, added: float) -> None:
        """
        A call is over, which has taken so many seconds beyond its tool's.
        """
        if result.ok:
            kind = "ok"
        elif result.attempts:
            kind = "failed"
        else:
            kind = "refused" if isinstance(result.error, CircuitOpenError) else "other"
        self.counts[kind] += 1
        self.added.append(round(added, 6))

    def tell(self) -> None:
        """
        Tell all counts, and the times since the last telling.
        """
        say("tally", counts=self.counts, added=self.added, lag=self.lag)
        self.added, self.lag = [], 0.0


async def keep_telling(tally: Tally) -> None:
    """
    Tell how it goes, and find out meanwhile by how much the machine itself is late.
    """
    tick = 0.02
    while True:
        for _ in range(10):
            began = time.perf_counter()
            await anyio.sleep(tick)
            tally.lag = max(tally.lag, time.perf_counter() - began - tick)
        tally.tell()


def observe(event: object) -> None:
    """
    Hear of all that the library does; what moves the circuit is told.
    """
    if isinstance(event, CircuitChanged):
        say("moved", old=event.old, new=event.new, reason=event.reason)


class Telling(logging.Handler):
    """
    Tells what the library logs of its store. Of the circuit, the observer tells.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """
        Tell it, unless the observer does.
        """
        text = record.getMessage()
        if not text.startswith("circuit get_weather: "):
            say("log", text=text)


def say(kind: str, **what: Any) -> None:
    """
    Tell it, with the time. The clock is the same in all processes of a machine.
    """
    line = json.dumps({"kind": kind, "at": time.monotonic(), **what}) + "\n"
    with suppress(OSError):  # nobody listens any more
        os.write(sys.stdout.fileno(), line.encode())


def main() -> None:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(description="One process of the example's fleet.")
    parser.add_argument("name")
    parser.add_argument("--loop", choices=["asyncio", "trio"], required=True)
    parser.add_argument("--service", type=int, required=True, help="its port")
    parser.add_argument("--engine", default="", help="its url")
    chosen = parser.parse_args()
    logger = logging.getLogger("orchestrator_async")
    logger.addHandler(Telling(logging.WARNING))
    logger.propagate = False
    anyio.run(work, chosen.name, chosen.service, chosen.engine, backend=chosen.loop)


if __name__ == "__main__":
    main()
