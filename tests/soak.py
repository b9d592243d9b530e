"""
Hours in minutes: random tools, faults and cancellations, and memory that stays flat.

    python -m tests.soak --seconds 600 --backend trio --seed 7

Callers ask for tools that answer, fail, hang, break off, swallow cancellations, call each
other, and run in threads, while others cancel them, replace tools and move circuits by
hand. At the end of each round all callers stop; what must hold is checked, and the memory
is weighed. The exit status is 1 if anything was violated or if the memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import linecache
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitState,
    Event,
    LimitPolicy,
    OrchestratorError,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async._circuit import Circuit

from .rig import on_asyncio
from .support import assert_adds_up

CALLERS: Final = 24
ROUND_SECONDS: Final = 1.5
RESET: Final = 0.03
MAX_KEYS: Final = 8
BLOCKS_A_ROUND: Final = 60.0
"""Blocks of memory that a round may add on average: less than one for a hundred calls."""
BLOCKS_OF_CACHES: Final = 1500.0
"""Blocks that caches may still take while rounds are weighed, in all: a leak in every
fifth call takes more than that in a single round."""
WARM_UP: Final = 4
"""Rounds in which caches fill, before any is weighed."""


class Soak:
    """
    One orchestrator, its tools, and those who make trouble.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.registry = Registry()
        self.calls = self.cancelled = self.finished = 0
        self.violations: list[str] = []
        self.well = False
        self.key: str | None = None
        self.orch = ToolOrchestrator(
            self.registry,
            reset_timeout=RESET,
            groups={"crowd": LimitPolicy(max_concurrent=4, max_queue=8, max_wait=0.02)},
            limits=LimitPolicy(max_concurrent=20, max_wait=0.05),
        )
        for name, (behaviour, options) in self.tools().items():
            self.offer(name, behaviour, **options)
        self.names = [tool.name for tool in self.registry]

    def tools(self) -> dict[str, tuple[Callable[[], Awaitable[Any]], dict[str, Any]]]:
        """
        What tools there are, and their settings.
        """
        patient = BreakerPolicy(failure_threshold=2, probe_lease=0.05)
        every_part = BreakerPolicy(
            failure_threshold=20,
            window_calls=10,
            window_seconds=0.1,
            minimum_calls=4,
            slow_duration=0.005,
            slow_rate=0.5,
            failure_rate=0.5,
            success_threshold=2,
            reset_multiplier=2,
            max_reset_timeout=2 * RESET,
            jitter=0.5,
            jitter_source=self.chance,
        )
        keyed = BreakerPolicy(max_keys=MAX_KEYS, max_pause=RESET)
        return {
            "steady": (self.work, {}),
            "flaky": (self.flaky, {"timeout": 0.02}),
            "hangs": (self.hang, {"timeout": 0.01}),
            "waits": (self.hang, {"policy": patient}),
            "swallows": (self.swallow, {"timeout": 0.01}),
            "converts": (self.convert, {}),
            "breaks_off": (self.break_off, {}),
            "odd": (self.odd, {}),
            "reads": (self.flaky, {"circuit": "database"}),
            "writes": (self.work, {"circuit": "database"}),
            "calls": (self.nest, {"circuit": "database", "timeout": 0.05}),
            "turns": (self.turn, {}),
            "hides": (self.work, {"policy": ToolPolicy(hang_after=0.005)}),
            "has_every_part": (self.flaky, {"policy": every_part, "timeout": 0.02}),
            "asks_for_pauses": (self.throttle, {"policy": keyed}),
            "has_hosts": (self.throttle, {"policy": keyed, "circuit": self.host}),
            **self.streams(),
            **self.surrounded(),
        }

    def streams(self) -> dict[str, tuple[Callable[[], Any], dict[str, Any]]]:
        """
        Those that are async generators.
        """
        limits = LimitPolicy(max_concurrent=2, max_queue=4, max_wait=0.02)
        steps = ToolPolicy(first_chunk_timeout=0.02, chunk_timeout=0.005)
        bounded = ToolPolicy(total_timeout=0.02, limits=limits, fallback="streams")
        return {
            "streams": (self.stream, {"policy": ToolPolicy(group="crowd")}),
            "streams_slowly": (self.stream, {"policy": steps}),
            "streams_bounded": (self.stream, {"policy": bounded}),
        }

    def surrounded(self) -> dict[str, tuple[Callable[[], Awaitable[Any]], dict[str, Any]]]:
        """
        Those with parts around their calls.
        """
        limits = LimitPolicy(
            max_concurrent=2, max_queue=4, calls=50, seconds=0.02, max_wait=0.02
        )
        retry = RetryPolicy(wait_initial=0.001, wait_jitter=0.002, wait_max=0.01)
        every_part = ToolPolicy(
            guard=self.guard,
            fallback="steady",
            retry=retry,
            limits=limits,
            group="crowd",
            timeout=0.02,
            total_timeout=0.05,
            max_result_size=200,
        )
        return {
            "limited": (self.work, {"policy": ToolPolicy(limits=limits)}),
            "in_a_crowd": (
                self.hang,
                {"policy": ToolPolicy(group="crowd"), "timeout": 0.01},
            ),
            "tried_again": (
                self.flaky,
                {"policy": ToolPolicy(retry=retry), "idempotent": True},
            ),
            "surrounded": (self.flaky, {"policy": every_part, "idempotent": True}),
        }

    async def guard(self, call: ToolCall, context: ToolContext) -> str | None:
        """
        What lets a call go on, mostly.
        """
        if self.well:
            return None
        await checkpoint()
        chance = self.random.random()
        if chance < 0.05:
            raise RuntimeError("nobody is there to be asked")
        return "not now" if chance < 0.1 else None

    def offer(
        self, name: str, behaviour: Callable[[], Awaitable[Any]], **options: Any
    ) -> None:
        """
        Offer a tool, and ``threaded`` tools beside it.
        """

        async def tool(number: int = 0) -> Any:
            return "well" if self.well else await behaviour()

        async def stream(number: int = 0) -> AsyncGenerator[Any, None]:
            if self.well:
                yield "well"
                return
            async with aclosing(self.stream()) as chunks:
                async for chunk in chunks:
                    yield chunk

        fn = stream if behaviour == self.stream else tool
        self.registry.tool(name=name, replace=True, **options)(fn)
        if "threaded" not in self.registry:
            policy = ToolPolicy(max_threads=4)
            self.registry.tool(name="threaded", timeout=0.02, policy=policy)(self.block)

    # What tools do

    async def work(self) -> Any:
        for _ in range(self.random.randrange(4)):
            await checkpoint()
        return self.random.choice(["sun", {"sun": 1}, ["rain"], None, 3, "{"])

    async def flaky(self) -> Any:
        await self.work()
        chance = self.random.random()
        if chance < 0.4:
            raise ConnectionError("down: http://user:secret@host/")
        return {"error": "busy"} if chance < 0.5 else "up"

    async def stream(self) -> AsyncGenerator[Any, None]:
        try:
            for number in range(self.random.randrange(6)):
                await anyio.sleep(self.random.choice([0, 0, 0, 0.002, 0.01]))
                if self.random.random() < 0.05:
                    raise ConnectionError("down")
                if self.random.random() < 0.1:
                    with suppress(anyio.get_cancelled_exc_class()):
                        await anyio.sleep(0.01)
                yield self.random.choice(["text", {"number": number}, await self.nest()])
        finally:
            await checkpoint()

    async def hang(self) -> str:
        await anyio.sleep(self.random.choice([0, 0.002, 0.05]))
        return "late"

    async def throttle(self) -> Any:
        await self.work()
        match self.random.randrange(8):
            case 0:
                error = ConnectionError("too many calls")
                error.retry_after = self.random.choice([0.01, -1, 1e308, "soon"])  # type: ignore[attr-defined]
                raise error
            case 1:
                return {"error": "too many calls", "status": 429}
            case 2:
                raise ConnectionError("down")
        return "up"

    def host(self, arguments: Mapping[str, Any], context: ToolContext) -> str | None:
        """
        The key of a call's circuit.
        """
        if self.key is not None:
            return self.key
        number = self.random.randrange(4 * MAX_KEYS)
        if number == 0:
            raise LookupError("no host")
        return None if number == 1 else f"host {number}"

    def chance(self) -> float:
        """
        A source of chance, which is of no use now and then.
        """
        chance = self.random.random()
        if chance < 0.1:
            raise OSError("no chance")
        return 2.0 if chance > 0.9 else chance

    async def swallow(self) -> str:
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep(0.02)
        return "swallowed"

    async def convert(self) -> str:
        try:
            await anyio.sleep(self.random.choice([0, 0.01]))
        except BaseException:
            raise RuntimeError("interrupted") from None
        return "done"

    async def break_off(self) -> str:
        await checkpoint()
        if on_asyncio() and self.random.random() < 0.5:
            raise asyncio.CancelledError
        return "whole"

    async def odd(self) -> Any:
        kinds = [object(), float("nan"), {1: {2}}, b"\xff", "\ud800", SystemExit(2), 10**40]
        value = self.random.choice(kinds)
        if isinstance(value, BaseException):
            raise value
        return value

    async def nest(self) -> str:
        return await self.orch.dispatch(self.random.choice(["reads", "writes", "steady"]))

    async def turn(self) -> str:
        results = await self.orch.dispatch_all([ToolCall("steady"), ToolCall("flaky")])
        return results[0].content

    def block(self) -> str:
        time.sleep(0 if self.well else self.random.choice([0, 0.001, 0.03]))
        return "done"

    # What callers do

    async def caller(self, until: float) -> None:
        """
        Ask and ask.
        """
        while time.monotonic() < until:
            scope = anyio.CancelScope()
            if self.random.random() < 0.3:
                scope.deadline = anyio.current_time() + self.random.choice([0, 0.001, 0.01])
            with scope:
                await self.ask()
            self.cancelled += scope.cancelled_caught
            await checkpoint()

    async def ask(self) -> None:
        self.calls += 1
        name = self.random.choice([*self.names, "nothing", "stead"])
        args = self.random.choice([None, {}, {"number": 1}, '{"number": 2}', "[", {"x": 1}])
        match self.random.randrange(7):
            case 6:
                with suppress(Exception):
                    async with self.orch.stream(name, args) as chunks:
                        most = self.random.randrange(8)
                        async for _ in chunks:
                            most -= 1
                            if most < 0:
                                break
                            await checkpoint()
            case 5:
                async with self.orch.conversation(user="ada") as chat:
                    for _ in range(self.random.randrange(6)):
                        await chat.dispatch(name, args)
            case 4 if name in self.registry:
                with suppress(TimeoutError, OrchestratorError):
                    await self.orch.wait_available(name, timeout=0.02)
            case 0:
                await self.orch.run(name, args, user="ada")
            case 1:
                with suppress(Exception):
                    await self.orch.call(name, args)
            case 2:
                calls = [ToolCall(name, args), {"odd": 1}, ToolCall("steady")]
                await self.orch.dispatch_all(calls, limit=self.random.choice([None, 1, 2]))
            case _:
                await self.orch.dispatch(name, args)

    async def requester(self, until: float) -> None:
        """
        Begin calls as tasks of asyncio and ask these to be cancelled.
        """
        while time.monotonic() < until:
            task = asyncio.ensure_future(self.ask())
            await anyio.sleep(self.random.choice([0, 0, 0.002]))
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                self.violations.append(f"out of a call came {error!r}")

    async def hand(self, until: float) -> None:
        """
        Move circuits by hand, replace and remove tools, and watch now and then.
        """
        tools = self.tools()
        while time.monotonic() < until:
            await anyio.sleep(0.01)
            name = self.random.choice(self.names)
            circuit = self.orch.circuit(self.registry[name].circuit_name)
            match self.random.randrange(12):
                case 6:
                    circuit.trip()
                case 7:
                    circuit.disable()
                case 8:
                    saved = json.loads(json.dumps(self.orch.snapshot()))
                    await anyio.sleep(0.001)
                    self.orch.restore(saved)
                case 9:
                    self.orch.reload(reset_timeout=self.random.choice([RESET, RESET / 2]))
                case 10:
                    with suppress(TimeoutError):
                        await self.orch.drain(timeout=0.001)
                    self.orch.resume()
                case 11:
                    self.orch.offered_tools(hide_open=self.random.random() < 0.5)
                case 0:
                    with circuit.isolate():
                        await anyio.sleep(0.001)
                case 1:
                    circuit.reset()
                case 2 if name in tools:
                    behaviour, options = tools[name]
                    self.offer(name, behaviour, **options)
                case 3 if name in tools and "circuit" not in tools[name][1]:
                    behaviour, options = tools[name]
                    self.registry.remove(name)
                    self.offer(name, behaviour, **options)
                case 4:
                    # Where nobody watches, dispatch has a short path.
                    self.orch.remove_observer(self.note)
                case 5:
                    self.orch.remove_observer(self.note)
                    self.orch.add_observer(self.note)

    def note(self, event: Event) -> None:
        """
        An observer.
        """
        self.finished += isinstance(event, CallFinished)
        if self.random.random() < 0.001:
            raise RuntimeError("an observer that raises")

    # What must hold

    async def round(self, seconds: float) -> None:
        """
        Some trouble, and then all that must hold.
        """
        until = time.monotonic() + seconds
        async with anyio.create_task_group() as group:
            for _ in range(CALLERS):
                group.start_soon(self.caller, until)
            group.start_soon(self.hand, until)
            if on_asyncio():
                group.start_soon(self.requester, until)
        await self.check()

    async def check(self) -> None:
        """
        Nothing is lost, and every circuit comes back.
        """
        slots = [e.slots for e in self.orch._fleet.entries.values() if e.slots]
        with anyio.fail_after(10):
            while any(each.taken for each in slots):  # noqa: ASYNC110 (threads)
                await anyio.sleep(0.005)
        for gate in list(self.orch._surroundings._gates.values()):
            limit = gate.limit
            if limit is not None and (limit.taken or limit.waiting):
                self.violations.append(f"{limit!r} when nobody calls")
        try:
            assert_adds_up(self.orch)
        except AssertionError as error:
            self.violations.append(f"the figures do not add up: {error!s:.900}")
        self.well = True
        await anyio.sleep(0.06)
        for name in self.names:
            await self.bring_back(name)
        self.well = False

    async def bring_back(self, name: str) -> None:
        circuit = self.orch.circuit(self.registry[name].circuit_name)
        if circuit.state is CircuitState.DISABLED:
            circuit.reset()
        keyed = self.orch._fleet.keyed.get(name)
        if keyed is None:
            await self.bring_back_circuit(name, circuit)
            return
        circuits = list(keyed)
        # What was open in a snapshot has a place beside those that there are.
        if len(circuits) > 2 * MAX_KEYS + 2:
            self.violations.append(f"{name} has {len(circuits)} circuits")
        for each in circuits:
            if each.key is not None and keyed.get(each.key) is each:
                self.key = each.key
                await self.bring_back_circuit(name, each)
        self.key = None

    async def bring_back_circuit(self, name: str, circuit: Circuit) -> None:
        for _ in range(8):
            await self.orch.dispatch(name)
            if circuit.state is CircuitState.CLOSED:
                return
            await anyio.sleep(2 * RESET)
        self.violations.append(f"{circuit} does not come back")


def most(rounds: int) -> float:
    """
    Blocks that a round may add on average, where caches may still be filling.
    """
    return BLOCKS_A_ROUND + BLOCKS_OF_CACHES / rounds


def weigh() -> int:
    """
    Blocks of memory in use, without the source of what tracebacks have shown.
    """
    linecache.clearcache()
    gc.collect()
    return sys.getallocatedblocks()


def slope(weights: list[int]) -> float:
    """
    Blocks that a round adds, by least squares over the later two thirds.
    """
    late = weights[len(weights) // 3 :]
    middle = (len(late) - 1) / 2
    mean = sum(late) / len(late)
    spread = sum((n - middle) ** 2 for n in range(len(late)))
    return sum((n - middle) * (w - mean) for n, w in enumerate(late)) / (spread or 1)


async def main(seconds: float, seed: int) -> bool:
    """
    Soak for so long; whether all held.
    """
    soak = Soak(seed)
    weights: list[int] = []
    end = time.monotonic() + seconds
    with suppress(OrchestratorError):
        soak.registry.build()
    for _ in range(WARM_UP):
        await soak.round(ROUND_SECONDS)
    while time.monotonic() < end or len(weights) < 6:
        await soak.round(ROUND_SECONDS)
        weights.append(weigh())
        if len(weights) % 20 == 0:
            print(f"  {soak.calls:,} asked, {weights[-1]:,} blocks", flush=True)
    grows = slope(weights)
    print(
        f"{soak.calls:,} asked, {soak.finished:,} executions told of, "
        f"{soak.cancelled:,} cancelled by scopes, {len(weights)} rounds; "
        f"memory {weights[0]:,} -> {weights[-1]:,} blocks, "
        f"{grows:+.1f} a round (at most {most(len(weights)):.0f}); "
        f"{len(soak.violations)} violations"
    )
    for violation in soak.violations[:20]:
        print(f"  VIOLATION: {violation}")
    return not soak.violations and grows <= most(len(weights))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Soak the orchestrator.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio"
    )
    chosen = parser.parse_args()
    options = {"use_uvloop": True} if chosen.backend == "uvloop" else {}
    backend = "trio" if chosen.backend == "trio" else "asyncio"
    held = anyio.run(
        main, chosen.seconds, chosen.seed, backend=backend, backend_options=options
    )
    sys.exit(0 if held else 1)
