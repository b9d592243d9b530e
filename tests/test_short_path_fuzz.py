"""
The short paths against the long one, on plans that chance has drawn.

A plan is some calls of two tools, what the tools, their judges and their renderers do, who
cancels whom when, and what is done to circuits, clocks and tools meanwhile. It is carried
out twice, with an observer and without, and everything that anybody can see is noted. The
notes are the same.

    python -m tests.test_short_path_fuzz trio 0 10000   # loop, first and last seed
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import zip_longest
from typing import Any, get_args

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from orchestrator_async import (
    BreakerPolicy,
    CircuitOpenError,
    Event,
    InvalidArgumentsError,
    Outcome,
    Registry,
    Tool,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    ToolTimeoutError,
    Verdict,
    exceptions_only,
    service_errors,
)
from orchestrator_async.adapters._guarding import Guarding

from .clock import AutojumpEventLoop
from .rig import on_asyncio, shuffled
from .support import assert_adds_up

PLANS = 50


class Flow(Exception):
    """How a framework interrupts a run."""


class Blaming(Exception):
    """What blames the call."""


class BusyError(Exception):
    retry_after = 5.0


class Unread(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Text(str):
    """
    Text that only its own type knows for such.
    """

    __slots__ = ()

    def __len__(self) -> int:
        raise ValueError("no length")

    def __str__(self) -> str:
        raise ValueError("no text")


class Fickle(dict[str, Any]):
    """
    Tells of an error to whoever asks first.
    """

    asked = False

    def get(self, key: str, default: Any = None) -> Any:
        first, self.asked = not self.asked, True
        return "boom" if key == "error" and first else default


@dataclass
class Data:
    error: object = None


class Torn(ExceptionGroup[Exception]):
    """
    A group that cannot be looked into.
    """

    def split(self, *args: Any) -> Any:
        raise ValueError("not to be split")


REFUSAL = {"error": "down", "tool_name": "inner", "circuit_breaker": True}

VALUES: list[Callable[[], Any]] = [
    *(lambda: "fine", lambda: "{", lambda: '{"x": 1}', lambda: '{"error": "boom"}'),
    *(lambda: {"x": 1}, lambda: {"error": "boom"}, lambda: {"error": ""}, lambda: REFUSAL),
    *(lambda: None, object, Fickle, Data, lambda: Data("boom"), lambda: math.nan),
    *(lambda: Text('{"error": 1}'), lambda: (x for x in "ab"), lambda: [len]),
    *(lambda: "\ud800{", lambda: b"\xff", lambda: {"error": "x", "retry_after": 7}),
]

ERRORS: list[Callable[[], BaseException]] = [
    *(lambda: ConnectionError("down"), lambda: TypeError("wrong"), TimeoutError, Flow),
    *(Blaming, BusyError, Unread, KeyboardInterrupt, lambda: SystemExit(3), GeneratorExit),
    *(StopIteration, RecursionError, lambda: InvalidArgumentsError("no")),
    lambda: ToolTimeoutError(tool_name="tool", timeout=1),
    lambda: CircuitOpenError(
        tool_name="inner", circuit="inner", state="open", retry_after=3, failures=1
    ),
    lambda: ExceptionGroup("", [ValueError(), Flow()]),
    lambda: ExceptionGroup("", [Blaming(), Blaming()]),
    lambda: BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()]),
    lambda: BaseExceptionGroup("", [cancellation(), ValueError()]),
    lambda: Torn("", [ValueError()]),
    lambda: cancellation(),
]

WAITS = ["nothing", "turn", "sleep", "swallow", "swallow twice", "convert", "shield"]
WAITS += ["block", "own timeout", "group", "ask to cancel", "ask and take back", "nest"]
ACTS = ["trip", "isolate", "force_open", "unisolate", "disable", "reset"]
ACTS += ["observe", "replace", "remove", "reload", "drain", "resume"]
ACTS += ["turn", "turn back", "no time", "no clock", "time again"]
SAYINGS: list[Any] = [True, False, *Verdict, *[None] * 4, "nonsense"]
SAYINGS += [RuntimeError(), Flow(), KeyboardInterrupt(), SystemExit(), "turn", "trip"]
SHOWINGS: list[Any] = [*["text"] * 6, 5, Text("text"), ValueError(), Flow()]
SHOWINGS += [KeyboardInterrupt(), RecursionError(), "turn", "trip"]
WAYS = ["dispatch", "dispatch", "dispatch for ann", "run", "run", "call", "all", "guard"]
CANCELLATIONS = [*[None] * 4, "scope", "request", "both", "twice"]


def cancellation() -> BaseException:
    """
    One out of thin air; of trio's nobody can make any.
    """
    return asyncio.CancelledError() if on_asyncio() else ValueError("cancelled")


class Clock:
    """
    The loop's clock, or one that stands still, until somebody does something to it.
    """

    def __init__(self, *, stands: bool) -> None:
        self._stands = stands
        self.turned = 0.0
        self.says: str | None = None

    def __call__(self) -> float:
        if self.says == "no clock":
            raise OSError("no clock")
        if self.says == "no time":
            return math.nan
        return (1000.0 if self._stands else anyio.current_time()) + self.turned


@dataclass(frozen=True)
class Doing:
    """
    What a tool does: what for, meanwhile, and how it ends.
    """

    wait: str
    seconds: float
    act: str | None
    end: Callable[[], Any]
    fails: bool
    inner: Doing | None
    way: str


@dataclass(frozen=True)
class Calling:
    """
    One caller: how and when, how often, and when it is cancelled.
    """

    number: int
    way: str
    start: float
    times: int
    args: Any
    cancelled: str | None
    after: float
    doing: Doing


class Plan:
    """
    What a seed comes to.
    """

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        self.clock = draw.choice(["the loop's", "stands", "goes"])
        self.judge: Any = draw.choice(
            [None, None, "own", "own", exceptions_only, service_errors]
        )
        self.policy = ToolPolicy(
            breaker=self._breaker(),
            timeout=draw.choice([None, None, 4.0, 10.0]),
            hang_after=draw.choice([1.0, 6.0, 300.0]),
            control_flow=draw.choice([(), (Flow,)]),
            ignore=draw.choice([(), (Blaming,)]),
        )
        self.sayings = draw.choices(SAYINGS, k=50)
        self.showings = draw.choices(SHOWINGS, k=50) if draw.random() < 0.4 else []
        self.calls = [self._calling(number) for number in range(draw.randint(1, 5))]
        acts = draw.choices(ACTS, k=draw.choice([0, 0, 1, 3, 6]))
        self.acts = sorted((self._time(30), act) for act in acts)

    def _time(self, most: float) -> float:
        return round(self.draw.uniform(0, most), self.draw.choice([0, 1]))

    def _breaker(self) -> BreakerPolicy:
        draw = self.draw
        options: dict[str, Any] = {}
        if draw.random() < 0.5:
            options = {"minimum_calls": 2, "failure_rate": draw.choice([0.5, 1.0])}
            options |= draw.choice([{"window_calls": 3}, {"window_seconds": 20.0}])
            if draw.random() < 0.6:
                options |= {"slow_duration": draw.choice([1.0, 3.0]), "slow_rate": 0.5}
        return BreakerPolicy(
            failure_threshold=draw.choice([1, 2, 3, 50]),
            reset_timeout=draw.choice([5.0, 40.0]),
            max_pause=draw.choice([None, 30.0]),
            **options,
        )

    def _doing(self, depth: int = 0) -> Doing:
        draw = self.draw
        fails = draw.random() < 0.4
        wait = draw.choice(WAITS if depth < 2 else WAITS[:-1])
        return Doing(
            wait=wait,
            seconds=draw.choice([1, 2, 3, 3.5, 4, 5, 12]),
            act=draw.choice([*[None] * 17, *ACTS]),
            end=draw.choice(ERRORS if fails else VALUES),
            fails=fails,
            inner=self._doing(depth + 1) if wait == "nest" else None,
            way=draw.choice(["dispatch", "run", "call", "guard"]),
        )

    def _calling(self, number: int) -> Calling:
        draw = self.draw
        return Calling(
            number=number,
            way=draw.choice(WAYS),
            start=draw.choice([0, 0, self._time(20)]),
            times=draw.choice([1, 1, 2, 4]),
            args=draw.choice([None, None, None, "text", {"x": "no number"}, "{", {"y": 1}]),
            cancelled=draw.choice(CANCELLATIONS),
            after=self._time(12),
            doing=self._doing(),
        )


class World:
    """
    A plan that is being carried out, and the notes of that.
    """

    def __init__(self, plan: Plan, *, observed: bool) -> None:
        self.notes: list[Any] = []
        self._plan = plan
        self._clock = Clock(stands=plan.clock == "stands")
        self._sayings, self._showings = iter(plan.sayings), iter(plan.showings)
        judge = self._judge if plan.judge == "own" else plan.judge
        self._policy = plan.policy if judge is None else replace(plan.policy, judge=judge)
        self._registry = Registry()
        self._add_tool()
        self.orch = ToolOrchestrator(
            self._registry,
            clock=anyio.current_time if plan.clock == "the loop's" else self._clock,
            observers=[lambda event: None] if observed else [],
        )
        self._guarding = Guarding(
            self.orch, framework="puppets", policy=self._policy, checks_text=True
        )
        self._doings: dict[int, Doing] = {}
        self._callers: dict[int, tuple[anyio.CancelScope, Any]] = {}

    def note(self, *what: object) -> None:
        self.notes.append(tuple(map(shown, what)))

    async def carry_out(self) -> None:
        """
        All of the plan, and the figures after it.
        """
        self._guarding.know("guarded", self._described)
        for tool in self._registry:  # else the first call of each would go the long way
            self.orch._fleet.entry(tool)
        await side_by_side(
            *(partial(self._call, calling) for calling in self._plan.calls),
            *(partial(self._cancel, each) for each in self._plan.calls if each.cancelled),
            self._act_in_time,
        )
        self.note("in the end", self._figures())
        assert_adds_up(self.orch)

    # Callers

    async def _call(self, calling: Calling) -> None:
        await anyio.sleep(calling.start)
        number, task = calling.number, this_task()
        args = {"x": number} if calling.args is None else calling.args
        args = f'{{"x": {number}}}' if args == "text" else args
        self._doings[number] = calling.doing
        with anyio.CancelScope() as scope:
            self._callers[number] = scope, task
            try:
                for _ in range(calling.times):
                    await self._ask_and_note(calling.way, args, number)
            except asyncio.CancelledError:
                self.note(number, "was cancelled", task.cancelling())
        asked = None if task is None else task.cancelling()
        self.note(number, "over", scope.cancelled_caught, asked, anyio.current_time())

    async def _ask_and_note(self, way: str, args: Any, number: int) -> None:
        try:
            self.note(number, await self._ask(way, args, f"call {number}"))
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self.note(number, error)
        self.note(self._figures())

    async def _ask(self, way: str, args: Any, call_id: str) -> Any:
        if way == "all":
            calls = [ToolCall("tool", args, call_id), ToolCall("tool", args, call_id)]
            return await self.orch.dispatch_all(calls)
        if way == "guard":
            return await self._ask_guarded(args, call_id)
        way, *words = way.split(" for ")
        asked = partial(getattr(self.orch, way), "tool", args, call_id=call_id)
        return await (asked(user=words[0]) if words else asked())

    async def _ask_guarded(self, args: Any, call_id: str) -> Any:
        """
        The result, or the value where there is no more to be said.
        """
        value: Any = None

        async def handle() -> Any:
            nonlocal value
            value = await self._tool(args["x"] if isinstance(args, dict) else 0)
            return value

        result = await self._guarding.run(
            "guarded",
            lambda: {"args": args},
            handle,
            call_id=call_id,
            context=lambda: {"user": "bob"},
            described=self._described,
        )
        if result is None:
            return value
        is_plain = result.verdict is Verdict.SUCCESS or result.late
        return result.value if result.error is None and result.ok and is_plain else result

    async def _cancel(self, calling: Calling) -> None:
        await anyio.sleep(calling.start + calling.after)
        if calling.number not in self._callers:
            return  # the loop has taken this one first
        scope, task = self._callers[calling.number]
        if calling.cancelled in ("scope", "both"):
            scope.cancel()
        if task is None or task.done():
            return
        for _ in range({"scope": 0, "twice": 2}.get(str(calling.cancelled), 1)):
            task.cancel()

    # Tools, and those who look at what they return

    def _add_tool(self) -> None:
        async def fn(x: int) -> Any:
            return await self._tool(x)

        render = self._render if self._plan.showings else None
        tool = Tool(fn=fn, name="tool", policy=self._policy, render=render)
        self._registry.add(tool, replace=self._registry.get("tool") is not None)

    def _described(self) -> dict[str, Any]:
        render = self._render if self._plan.showings else None
        return {"parameters": {"type": "object"}, "render": render}

    async def _tool(self, x: Any) -> Any:
        doing = self._doings.get(x)
        self.note("run", x)
        if doing is None:
            return "fine"
        if doing.act is not None:
            self._act(doing.act)
        if doing.inner is not None:
            self._doings[x + 100] = doing.inner
            await self._ask_and_note(doing.way, {"x": x + 100}, x)
        await waiting(doing.wait, doing.seconds)
        if doing.fails:
            raise doing.end()
        return doing.end()

    def _judge(self, outcome: Outcome) -> Any:
        context = outcome.context
        assert context is not None
        told = context.tool_name, context.call_id, dict(context.data)
        self.note("judge", outcome.value, outcome.error, outcome.duration, told)
        return self._say(next(self._sayings, None))

    def _render(self, value: Any) -> Any:
        self.note("render", value)
        return self._say(next(self._showings, "text"))

    def _say(self, saying: Any) -> Any:
        if isinstance(saying, BaseException):
            raise type(saying)("said")
        if saying in ACTS:
            self._act(saying)
            return None
        return saying

    # What is done meanwhile

    async def _act_in_time(self) -> None:
        for time, act in self._plan.acts:
            await anyio.sleep(max(0.0, time - anyio.current_time()))
            self._act(act)

    def _act(self, act: str) -> None:
        clock, orch = self._clock, self.orch
        self.note("act", act)
        with suppress(Exception):  # a tool that was removed has no circuit
            if act in ("turn", "turn back"):
                clock.turned += 3 if act == "turn" else -3
            elif act in ("no time", "no clock", "time again"):
                clock.says = act
            elif act == "observe":
                orch.add_observer(self._observe)
            elif act == "replace":
                self._add_tool()
            elif act == "remove":
                self._registry.remove("tool")
            elif act == "reload":
                orch.reload(failure_threshold=2, timeout=3.0)
            elif act == "drain":
                orch._entries = {}
                orch._fleet.begin_drain()
            elif act == "resume":
                orch.resume()
            else:
                getattr(orch.circuit("tool"), act)()

    def _observe(self, event: Event) -> None:
        self.note("told", event)

    def _figures(self) -> Any:
        return dict(sorted(self.orch.get_fleet_stats().items()))


async def waiting(how: str, seconds: float) -> None:
    """
    What a tool does before it ends.
    """
    cancelled, task = anyio.get_cancelled_exc_class(), this_task()
    match how:
        case "turn":
            await checkpoint()
        case "sleep":
            await anyio.sleep(seconds)
        case "swallow" | "swallow twice":
            for _ in range(2 if how == "swallow twice" else 1):
                with suppress(cancelled):
                    await anyio.sleep(seconds)
        case "convert":
            try:
                await anyio.sleep(seconds)
            except cancelled:
                raise ConnectionError("interrupted") from None
        case "shield":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)
        case "block":
            clock: Any = trio.lowlevel.current_clock() if task is None else task.get_loop()
            clock.jump(seconds)
        case "own timeout":
            with anyio.fail_after(seconds):
                await anyio.sleep(seconds + 1)
        case "group":
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, seconds)
        case "ask to cancel" if task is not None:
            task.cancel()
        case "ask and take back" if task is not None:
            task.cancel()
            with suppress(cancelled):
                await checkpoint()
            task.uncancel()


def this_task() -> Any:
    return asyncio.current_task() if on_asyncio() else None


async def side_by_side(*functions: Callable[[], Awaitable[None]]) -> None:
    """
    Run them in tasks that have nothing to do with each other, in the same order each time.
    """
    if on_asyncio():
        for task in [asyncio.ensure_future(each()) for each in functions]:
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
        return
    with shuffled(0):
        async with trio.open_nursery() as nursery:
            for each in functions:
                nursery.start_soon(each)


# What is seen, without the addresses and without asking it


def shown(thing: Any, depth: int = 4) -> Any:
    """
    As much of a thing as is the same each time.
    """
    kind = type(thing)
    if not depth:
        return kind
    if issubclass(kind, BaseException):
        return shown_error(thing, depth)
    if kind is float:
        return f"{thing:.6f}"
    if kind is str:
        return re.sub(r"0x[0-9a-f]+|[0-9a-f]{8,}", "", thing)
    if kind in (list, tuple):
        return [shown(each, depth - 1) for each in thing]
    if kind is dict:
        return {key: shown(value, depth - 1) for key, value in thing.items()}
    if kind is ToolResult or kind in EVENTS:
        named = {each.name: getattr(thing, each.name) for each in fields(thing)}
        return kind, shown(named, depth)
    return thing if kind in (bool, int, bytes, Verdict) else kind


EVENTS = get_args(Event)


def shown_error(error: BaseException, depth: int) -> Any:
    if is_of_a_loop(error):
        return type(error)  # says who has cancelled what, by their addresses
    said = None if isinstance(error, Unread) else shown(str(error))
    members = shown(list(getattr(error, "exceptions", ())), depth - 1)
    around = [
        shown(each, depth - 1)
        for each in (error.__cause__, error.__context__)
        if each is not None
    ]
    return type(error), said, members, around


def is_of_a_loop(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError | trio.Cancelled)


def noted(plan: Plan, backend: str, *, observed: bool) -> list[Any]:
    """
    What there is to be seen of a plan that was carried out.
    """
    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)}
    if backend == "asyncio":
        options = {"loop_factory": AutojumpEventLoop}

    async def main() -> list[Any]:
        world = World(plan, observed=observed)
        await world.carry_out()
        return world.notes

    return anyio.run(main, backend=backend, backend_options=options)


def assert_comes_to_the_same(seed: int, backend: str) -> None:
    short, long = (noted(Plan(seed), backend, observed=each) for each in (False, True))
    for number, (one, other) in enumerate(zip_longest(short, long)):
        assert one == other, f"seed {seed}, note {number}"


@pytest.mark.usefixtures("without_log")
@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("part", range(5))
def test_a_plan_comes_to_the_same_on_the_short_paths(backend: str, part: int) -> None:
    for seed in range(part * PLANS, (part + 1) * PLANS):
        assert_comes_to_the_same(seed, backend)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for drawn in range(int(sys.argv[2]), int(sys.argv[3])):
        assert_comes_to_the_same(drawn, sys.argv[1])
