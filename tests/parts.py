"""
A small world of one orchestrator, whose tools do what they are told while they run, and the
model of it beside; and every order of the events of a few calls.

``World`` is the real thing: calls in tasks of their own, on asyncio or trio, in virtual time. An
event is done, everything is let settle, then it is looked at. ``Pair`` does the same to the
model, and ``differ`` if the two do not say the same.

An event of a call happens at a moment of the call's own (``GRID``), so that what comes of it
is due at no moment at which something is due to another call.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import math
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import anyio
import pytest
import trio.testing
from anyio.abc import TaskGroup
from pydantic import Field

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CallRefusedError,
    CallRejected,
    CircuitOpenError,
    DrainingError,
    Event,
    LimitExceededError,
    LimitPolicy,
    Registry,
    RetryPolicy,
    RetryScheduled,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    ToolTimeoutError,
)
from orchestrator_async._chat import Conversation
from orchestrator_async._retry import Retrying

from .clock import AutojumpEventLoop
from .conftest import Summary
from .conversation_model import reasons_of
from .parts_model import (
    GRID,
    IDEMPOTENT,
    KEYS,
    NEARLY,
    PAUSE,
    ROUNDED,
    TOOLS,
    Answer,
    Call,
    Model,
    Setup,
    no_chance,
)

MANY_TURNS = 10_000  # of the loop, after one event

Step = tuple[Any, ...]
"""An event: what happens, and to which call."""


class BusyError(Exception):
    """
    Says when to come back.
    """

    retry_after = PAUSE


@dataclass(eq=False)
class Run:
    """
    An execution that goes on, and how it is to end.
    """

    attempt: int
    told: anyio.Event
    deed: str = ""


class DifferError(AssertionError):
    """
    The world and the model do not say the same, or a rule does not hold.
    """

    def __init__(self, what: str, trail: tuple[Step, ...] = ()) -> None:
        super().__init__(what, trail)
        self.what, self.trail = what, trail

    def __str__(self) -> str:
        steps = ", ".join(" ".join(map(str, each)) for each in self.trail)
        return f"{self.what}\nafter: {steps}"


# --- the real thing ----------------------------------------------------------------------


Drawn = Annotated[int, Field(default_factory=itertools.count().__next__)]
"""Another number whenever arguments are made."""


async def _reads(what: int, drawn: Drawn, context: ToolContext) -> str:
    return await context.data["world"].run_tool("reads", drawn, context)


async def _writes(what: int, drawn: Drawn, context: ToolContext) -> str:
    return await context.data["world"].run_tool("writes", drawn, context)


async def _guard(call: ToolCall, context: ToolContext) -> str | None:
    return await context.data["world"].asked(call)


def _made(call: ToolCall, result: ToolResult) -> str:
    return "made"


async def _asked(call: ToolCall, result: ToolResult) -> str:
    return await _world.get().answer_for(call)


_world: ContextVar[World] = ContextVar("world")
"""In which a call is made: a fallback function is not told."""


def _key(arguments: Mapping[str, Any], context: ToolContext) -> str:
    return KEYS[arguments["what"] % 2]


Tools = tuple[tuple[str, Callable[..., Any]], ...]


@functools.cache
def _registry(setup: Setup, tools: Tools) -> Registry:
    """
    The tools of a setup. Their schemas are derived once.
    """
    registry = Registry()
    for tool, fn in tools:
        more = setup.more
        if tool == IDEMPOTENT:
            functions: dict[str | None, Any] = {"made": _made, "asked": _asked}
            fallback = functions.get(setup.fallback, setup.fallback)
            more |= {"fallback": fallback, "guard": _guard if setup.guard else None}
        policy = ToolPolicy(
            limits=setup.tool,
            group=None if setup.group is None else "service",
            retry=setup.retry,
            timeout=setup.timeout,
            total_timeout=setup.total_timeout,
            **more,
        )
        registry.tool(
            name=tool,
            circuit=_key if setup.keyed else "service",
            idempotent=tool == IDEMPOTENT,
            policy=policy,
        )(fn)
    return registry


class World:
    """
    A real orchestrator with two tools, and the calls that are made of them.
    """

    tools: ClassVar[Tools] = (("reads", _reads), ("writes", _writes))

    def __init__(self, setup: Setup, tasks: TaskGroup) -> None:
        self.setup = setup
        self.tasks = tasks
        self.settings: dict[str, Any] = {
            "failure_threshold": setup.threshold,
            "reset_timeout": setup.reset,
        }
        groups = {} if setup.group is None else {"service": setup.group}
        self.orch = ToolOrchestrator(
            _registry(setup, self.tools),
            **self.settings,
            circuits={name: _circuit(setup) for name, _ in setup.circuits},
            clock=anyio.current_time,
            observers=[self._hear],
            limits=setup.all,
            groups=groups,
            retry_budget=setup.budget,
        )
        self.orch.registry.build()
        self.scopes: list[anyio.CancelScope] = []
        self.asked_of: dict[int, Run] = {}
        self.answering: dict[int, Run] = {}
        self.running: dict[tuple[int, str], Run] = {}
        self.runs: Counter[tuple[int, str]] = Counter()
        self.drawn: dict[tuple[int, str], set[int]] = {}
        self.told: dict[tuple[int, str], list[tuple[object, ...]]] = {}
        self.answers: dict[int, Answer] = {}
        self.drained = False
        self.circuits = {at: self.orch.circuit(*at) for at in setup.circuits}
        self.sizes = {
            scope: policy.max_concurrent
            for scope, policy in (
                *((tool, setup.tool) for tool in TOOLS),
                ("group", setup.group),
                ("all", setup.all),
            )
            if policy is not None
        }
        self.shrunk = False
        self.leaving = anyio.Event()
        self.chat: Conversation | None = None
        if setup.chat is not None:
            self.chat = self.orch.conversation(policy=setup.chat)
            tasks.start_soon(self._converse, self.chat)

    # What tools and guards do

    async def run_tool(self, tool: str, drawn: int, context: ToolContext) -> str:
        who = who_of(context.call_id)
        self.runs[who, tool] += 1
        self.drawn.setdefault((who, tool), set()).add(drawn)
        if tool != IDEMPOTENT and self.runs[who, tool] > 1:
            raise AssertionError("a tool that is not idempotent runs once")
        run = Run(context.attempt, anyio.Event())
        self.running[who, tool] = run
        try:
            await run.told.wait()
        finally:
            del self.running[who, tool]
        match run.deed:
            case "returns":
                return "fine"
            case "raises":
                raise ConnectionError("the service is down")
            case "asks for a pause":
                raise BusyError("come back later")
        raise AssertionError(run.deed)

    async def asked(self, call: ToolCall) -> str | None:
        who = who_of(call.id)
        self.drawn.setdefault((who, call.name), set()).add(call.args["drawn"])
        run = self.asked_of[who] = Run(0, anyio.Event())
        try:
            await run.told.wait()
        finally:
            del self.asked_of[who]
        return None if run.deed == "agrees" else "no"

    async def answer_for(self, call: ToolCall) -> str:
        who = who_of(call.id)
        self.drawn.setdefault((who, call.name), set()).add(call.args["drawn"])
        run = self.answering[who] = Run(0, anyio.Event())
        try:
            await run.told.wait()
        finally:
            del self.answering[who]
        if run.deed == "answers":
            return "made"
        raise ConnectionError("the other service is down too")

    def _hear(self, event: Event) -> None:
        match event:
            case CallFinished():
                said = ("ended", event.attempt, str(event.verdict), event.late)
            case CallRejected():
                said = ("rejected", event.reason, event.retry_after)  # type: ignore[assignment]
            case RetryScheduled():
                said = ("again", event.attempt, event.wait)  # type: ignore[assignment]
            case _:
                return
        self.told.setdefault((who_of(event.call_id), event.tool_name), []).append(said)

    async def _converse(self, chat: Conversation) -> None:
        async with chat:
            await self.leaving.wait()

    async def _call(self, number: int, tool: str, what: int) -> None:
        _world.set(self)
        run = self.orch.run if self.chat is None else self.chat.run
        with self.scopes[number]:
            try:
                result = await run(tool, {"what": what}, call_id=str(number), world=self)
                self.answers[number] = answer_of(result)
            except Exception as error:  # which no call raises
                self.answers[number] = Answer(kind=f"broken: {error!r}", source=tool)
        if number not in self.answers:
            self.answers[number] = Answer(kind="cancelled", source=tool)

    async def _drain(self) -> None:
        await self.orch.drain()
        self.drained = True

    # What happens

    def do(self, step: Step) -> None:
        match step:
            case ("begin", tool, *more):
                number = len(self.scopes)
                self.scopes.append(anyio.CancelScope())
                what = more[0] if more else number
                self.tasks.start_soon(self._call, number, tool, what)
            case ("guard", number, deed):
                tell(self.asked_of[number], deed)
            case ("fallback", number, deed):
                tell(self.answering[number], deed)
            case ("end", number, tool, deed):
                tell(self.running[number, tool], deed)
            case ("cancel", number):
                self.scopes[number].cancel()
            case ("isolate",):
                self.circuits["service", None].isolate()
            case ("unisolate",):
                self.circuits["service", None].unisolate()
            case ("drain",):
                self.tasks.start_soon(self._drain)
            case ("leave",):
                self.leaving.set()
            case ("resize", scope, size):
                self._resize(scope, size)
            case _:
                raise AssertionError(step)

    def _resize(self, scope: str, size: int) -> None:
        if size < (self.sizes[scope] or 0):
            self.shrunk = True
        self.sizes[scope] = size
        policy = getattr(self.setup, scope)
        resized = _resized(policy, size)
        more: dict[str, Any] = (
            {"limits": resized} if scope == "all" else {"groups": {"service": resized}}
        )
        self.orch.reload(**self.settings, **more)

    # What is to be seen

    def gate(self, scope: str) -> Any:
        at = {"group": ("group", "service"), "all": ("all", "")}
        return self.orch._surroundings._gates.get(at.get(scope, ("tool", scope)))

    def look(self, now: float) -> dict[str, Any]:
        """
        All that can be seen of it.
        """
        figures = {tool: self.orch.stats(tool) for tool in TOOLS}
        seen: dict[str, Any] = {
            "running": {key: run.attempt for key, run in self.running.items()},
            "asked": sorted(self.asked_of),
            "answering": sorted(self.answering),
            "circuit": [(str(c.state), c.failures) for c in self.circuits.values()],
            "in flight": {tool: figures[tool].in_flight for tool in TOOLS},
            "retries": sum(each.retries for each in figures.values()),
            "answers": dict(self.answers),
            "told": {key: list(said) for key, said in self.told.items()},
            "drained": self.drained,
            "budget": self._budget_left(now),
            "run": self._run_seen(),
        }
        for scope in self.sizes:
            seen[scope] = self._gate_seen(scope, now)
        return seen

    def _gate_seen(self, scope: str, now: float) -> tuple[int, int, float, int]:
        gate = self.gate(scope)
        if gate is None:
            return 0, 0, 0.0, 0
        limit, rate = gate.limit, gate.rate
        left = 0.0
        if rate is not None and rate._meter._runs:
            meter = rate._meter
            left = meter._calls * meter._interval - (now - meter._runs[0].at)
        taken, waiting = (0, 0) if limit is None else (limit.taken, limit.waiting)
        return taken, waiting, max(0.0, left), 0 if rate is None else rate.waiting

    def _run_seen(self) -> tuple[str | None, int | None] | None:
        """
        Why the run is to end, and how many calls it has had, while that is kept.
        """
        chat = self.chat
        if chat is None:
            return None
        return chat.stop_reason, None if chat._rules is None else chat._rules.calls

    def _budget_left(self, now: float) -> tuple[int, int, int] | None:
        budget = self.orch._surroundings._budget
        if budget is None:
            return None
        window = budget._window
        window.advance(now)
        beside = sum(now - each < 1.0 - ROUNDED for each in budget._recent)
        return window.calls - window.failures, window.failures, beside

    def check_rules(self) -> str | None:
        """
        What must hold whatever the model says; which rule does not.
        """
        for scope, size in self.sizes.items():
            inside = [tool for _, tool in self.running if scope in (tool, "group", "all")]
            if size is not None and not self.shrunk and len(inside) > size:
                return f"at most {size} run at one time ({scope})"
        if any(len(each) > 1 for each in self.drawn.values()):
            return "arguments are made once a call"
        return None


def tell(run: Run, deed: str) -> None:
    run.deed = deed
    run.told.set()


def _circuit(setup: Setup) -> BreakerPolicy:
    return BreakerPolicy(
        failure_threshold=setup.threshold,
        success_threshold=setup.success_threshold,
        reset_timeout=setup.reset,
        max_pause=setup.max_pause,
    )


def _resized(policy: LimitPolicy, size: int) -> LimitPolicy:
    return replace(policy, max_concurrent=size)


def who_of(call_id: str | None) -> int:
    """
    The number of a call, which it has for its id.
    """
    assert call_id is not None
    return int(call_id)


def _read(content: str) -> tuple[str | None, str]:
    """
    Why the rules of a conversation have refused a call, and what they warn of.
    """
    if not content.startswith("{"):
        return None, content.partition("[Warning: ")[2]
    said = json.loads(content)
    return said.get("reason"), said.get("warning", "")


def answer_of(result: ToolResult) -> Answer:
    error, (reason, warning) = result.error, _read(result.content)
    kind, detail = "raised", ()
    match error:
        case None:
            kind, detail = "value", (result.value,)  # type: ignore[assignment]
        case CircuitOpenError():
            kind, detail = "circuit", (error.state,)  # type: ignore[assignment]
        case LimitExceededError():
            kind, detail = "limit", (error.limit, error.size, error.scope)  # type: ignore[assignment]
        case ToolTimeoutError():
            kind, detail = "timeout", (error.timeout, error.chunk)  # type: ignore[assignment]
        case DrainingError():
            kind = "draining"
        case CallRefusedError() if reason is not None:
            kind, detail = "conversation", (reason,)  # type: ignore[assignment]
        case CallRefusedError():
            kind = "guard"
    return Answer(
        kind=kind,
        ok=result.ok,
        detail=detail,
        verdict=str(result.verdict),
        late=result.late,
        state=None if result.state is None else str(result.state),
        source=result.source,
        attempts=result.attempts,
        duration=result.duration,
        retry_after=result.retry_after,
        stop=result.stop,
        warned=frozenset(reasons_of(warning)),
    )


async def settle() -> None:
    """
    Let every other task run until it waits for something. No time passes.

    On asyncio anyio's own way to do this would sleep.
    """
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        await trio.testing.wait_all_tasks_blocked()
        return
    idle = 0
    for _ in range(MANY_TURNS):
        await asyncio.sleep(0)
        idle = 0 if loop._ready else idle + 1
        if idle == 2:
            return
    raise DifferError("the loop is never at rest")


def run_on(loop: str, what: Callable[..., Any], *args: Any) -> Any:
    """
    Run it in virtual time.
    """
    options: dict[str, Any] = {"loop_factory": AutojumpEventLoop}
    if loop == "trio":
        options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return anyio.run(what, *args, backend=loop, backend_options=options)


# --- beside the model --------------------------------------------------------------------


class Play:
    """
    What can happen in such a world, when it does, and what is to be seen of it then, by the
    model.
    """

    def model(self, setup: Setup, now: float = 0.0) -> Model:
        return Model(setup, now)

    def world(self, setup: Setup, tasks: TaskGroup) -> World:
        return World(setup, tasks)

    def possible(self, model: Model) -> list[Step]:
        """
        What can happen to the calls that there are.
        """
        steps: list[Step] = []
        for call in model.calls:
            if call.where == "guard":
                steps += [
                    ("guard", call.number, "agrees"),
                    ("guard", call.number, "refuses"),
                ]
            if call.where == "answering":
                steps += [("fallback", call.number, deed) for deed in ("answers", "fails")]
            if call.where == "running":
                for deed in ("returns", "raises", "asks for a pause"):
                    steps.append(("end", call.number, call.tool, deed))
            if call.parent is None and call.where != "over":
                steps.append(("cancel", call.number))
        return steps

    def uses_up(self, step: Step) -> str | None:
        """
        Of what it is one, if that may happen so many times only.
        """
        match step[0]:
            case "time":
                return "ticks" if step[1] == "next" else "nearly"
            case "cancel":
                return "cancels"
        return None

    def moment_of(self, model: Model, step: Step) -> float:
        """
        When it happens: at a moment of that call's own, or of nobody's.
        """
        if step[0] == "time":
            at = model.next_moment()
            assert at is not None
            return at if step[1] == "next" else max(model.now, at - NEARLY)
        match step:
            case ("begin", *_):
                number = sum(each.parent is None for each in model.calls)
            case (_, int() as number, *_):
                pass
            case _:
                number = 6  # the operator's
        own = (number + 1) * GRID / 8
        return math.ceil((model.now - own) / GRID - ROUNDED) * GRID + own

    def can(self, model: Model, step: Step) -> bool:
        """
        Whether it can still happen, once its moment has come.
        """
        match step[0]:
            case "time":
                return False  # it has passed
            case "guard" | "fallback" | "end" | "cancel":
                return step in self.possible(model)
            case "isolate":
                return not model.isolated
            case "unisolate":
                return model.isolated
            case "drain":
                return not model.draining
            case "leave":
                going_on = any(call.where != "over" for call in model.calls)
                return model.chat is not None and not model.left and not going_on
            case "resize":
                return model.gates[step[1]].size != step[2]
        return True

    def take(self, model: Model, step: Step) -> None:
        """
        Have it happen to the model.
        """
        match step:
            case ("begin", tool, *more):
                model.begin(tool, *more)
            case ("guard", number, deed):
                model.guard_says(_call_of(model, number, IDEMPOTENT), deed == "agrees")
            case ("fallback", number, deed):
                model.fallback_says(_call_of(model, number, IDEMPOTENT), deed == "answers")
            case ("end", number, tool, deed):
                model.end(_call_of(model, number, tool), deed)
            case ("cancel", number):
                model.cancel(next(c for c in model.calls if c.number == number))
            case ("isolate",):
                model.isolate()
            case ("unisolate",):
                model.unisolate()
            case ("drain",):
                model.drain()
            case ("leave",):
                model.leave()
            case ("resize", scope, size):
                model.resize(scope, size)
            case _:
                raise AssertionError(step)

    def expected(self, model: Model) -> dict[str, Any]:
        """
        What is to be seen of the world.
        """
        calls, now = model.calls, model.now
        running = {(c.number, c.tool): c.attempt for c in calls if c.is_inside}
        told: dict[tuple[int, str], list[tuple[object, ...]]] = {}
        for call in calls:
            if call.told:
                told.setdefault((call.number, call.tool), []).extend(call.told)
        budget = model.budget
        if budget is not None:
            budget.look(now)
        seen: dict[str, Any] = {
            "running": running,
            "asked": sorted(c.number for c in calls if c.where == "guard"),
            "answering": sorted(c.number for c in calls if c.where == "answering"),
            "circuit": [(c.state, c.failures) for c in model.circuits.values()],
            "in flight": {tool: sum(t == tool for _, t in running) for tool in TOOLS},
            "retries": model.retries,
            "answers": {c.number: c.answer for c in calls if c.parent is None and c.answer},
            "told": told,
            "drained": model.draining
            and not any(c.is_inside or c.where == "answering" for c in calls),
            "budget": budget
            and (len(budget.calls), len(budget.shared), len(budget.beside)),
            "run": None,
        }
        if chat := model.chat:
            seen["run"] = chat.stopped, None if model.left else chat.total
        for scope, gate in model.gates.items():
            left = gate.left(now) if gate.used else 0.0
            waiting = sum(gate in model.rates_of(call) for call in model.waiting)
            seen[scope] = (len(gate.taken), len(gate.queue), left, waiting)
        return seen

    def after(self, model: Model, step: Step) -> None:
        """
        What ``Pair.step`` does to the model.
        """
        at = self.moment_of(model, step)
        model.advance(at)
        if self.can(model, step):
            self.take(model, step)

    def is_tied(self, model: Model, step: Step) -> bool:
        """
        Whether on the way to it two calls are due at one moment, or could go on at one.
        """
        ahead = pickle.loads(pickle.dumps(model))
        self.after(ahead, step)
        return ahead.tied


def _call_of(model: Model, number: int, tool: str) -> Call:
    found = [each for each in model.calls if (each.number, each.tool) == (number, tool)]
    return next(each for each in found if each.where != "over")


PLAY = Play()


def same(one: Any, other: Any) -> bool:
    """
    Whether they are equal, but for how floats are rounded.
    """
    if isinstance(one, float) and isinstance(other, float | int):
        return abs(one - other) < ROUNDED
    if isinstance(one, Answer) and isinstance(other, Answer):
        return all(same(getattr(one, f), getattr(other, f)) for f in _FIELDS)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


_FIELDS = tuple(Answer.__dataclass_fields__)


def _differences(got: Any, want: Any, at: str = "") -> Iterator[str]:
    if isinstance(got, dict) and isinstance(want, dict):
        for key in dict.fromkeys([*want, *got]):
            yield from _differences(got.get(key), want.get(key), f"{at} {key}".strip())
    elif not same(got, want):
        yield f"{at}: {got}, but the model says {want}"


class Pair:
    """
    A world, and the model of it.
    """

    def __init__(self, setup: Setup, tasks: TaskGroup, play: Play = PLAY) -> None:
        self.play = play
        self.world = play.world(setup, tasks)
        self.model = play.model(setup, anyio.current_time())
        self.trail: tuple[Step, ...] = ()

    async def step(self, step: Step, *, now: bool = False, look: bool = True) -> None:
        """
        Have it happen to both, and look at them.

        Args:
            now: Whether it does so at once, and not at a moment of its own.
            look: Whether they are looked at; no, where that was done on this way before.

        Raises:
            DifferError: They are not the same afterwards.
        """
        self.trail = (*self.trail, step)
        model, world, play = self.model, self.world, self.play
        before, at = model.now, model.now if now else play.moment_of(model, step)
        await anyio.sleep_until(at)
        await settle()
        model.advance(at)
        model.now = anyio.current_time()
        if play.can(model, step):
            if look and at > before:
                self.compare()
            world.do(step)
            await settle()
            play.take(model, step)
        if look:
            self.compare()

    def compare(self) -> None:
        model = self.model
        broken = self.world.check_rules()
        if broken is not None:
            raise DifferError(broken, self.trail)
        got, want = self.world.look(model.now), self.play.expected(model)
        if not same(got, want):
            raise DifferError("\n".join(_differences(got, want)), self.trail)

    async def finish(self) -> None:
        """
        Have all callers give up, and see that everything is back.
        """
        for call in list(self.model.calls):
            if call.parent is None and call.where != "over":
                await self.step(("cancel", call.number), now=True)
        orch = self.world.orch
        held = [
            (gate.limit.taken, gate.limit.waiting)
            for gate in orch._surroundings._gates.values()
            if gate.limit is not None
        ]
        if any(map(any, held)) or self.world.running:
            raise DifferError("every place is back at the end", self.trail)
        if any(
            gate.rate and gate.rate.waiting for gate in orch._surroundings._gates.values()
        ):
            raise DifferError("nobody waits for a turn at the end", self.trail)
        circuits = self.world.circuits.values()
        if any(circuit.breaker.probe is not None for circuit in circuits):
            raise DifferError("the probe's place is back at the end", self.trail)
        if any(each["in_flight"] for each in orch.get_fleet_stats().values()):
            raise DifferError("nothing is in flight at the end", self.trail)


@asynccontextmanager
async def paired(setup: Setup, play: Play = PLAY) -> AsyncIterator[Pair]:
    """
    A pair, whose callers all give up at the end.
    """
    error: DifferError | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield Pair(setup, tasks, play)
        except DifferError as differ:
            error = differ  # bare, and not in a group
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error


# --- every order ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    A few calls, and how often what can happen to them does.

    Args:
        calls: The tools that are called, one after the other: each by itself with other
            arguments, or with these.
        deeds: How tools end.
        ticks: How often time passes to the next moment at which something is due.
        nearly: How often to just before that.
        cancels: How many callers are cancelled.
        chunks: How many chunks are yielded, where tools do that.
        by_hand: What an operator does, each once at most, in any order.
    """

    name: str
    setup: Setup
    calls: tuple[str | tuple[str, int], ...]
    deeds: tuple[str, ...] = ("returns", "raises")
    ticks: int = 0
    nearly: int = 0
    cancels: int = 1
    chunks: int = 0
    by_hand: tuple[Step, ...] = ()
    play: Play = PLAY


@dataclass(frozen=True, kw_only=True)
class Report:
    schedules: int
    situations: int
    steps: int  # from one situation to the next, each taken in the real thing
    ties: int  # moments that are not gone into, as two calls are due
    runs: int = 0


@dataclass(eq=False)
class Node:
    """
    A situation, by a shortest schedule that leads there.
    """

    number: int
    trail: tuple[Step, ...]
    way: tuple[int, ...]  # the situations on the trail
    steps: list[tuple[Step, int]]


@dataclass
class _Rest:
    """
    What can still happen beside the calls themselves.
    """

    calls: tuple[str | tuple[str, int], ...]
    ticks: int
    nearly: int
    cancels: int
    chunks: int
    by_hand: tuple[Step, ...]


def _rest_of(scenario: Scenario) -> _Rest:
    return _Rest(
        scenario.calls,
        scenario.ticks,
        scenario.nearly,
        scenario.cancels,
        scenario.chunks,
        scenario.by_hand,
    )


def _steps_of(scenario: Scenario, model: Model, rest: _Rest) -> Iterator[Step]:
    play = scenario.play
    if rest.calls:
        first = rest.calls[0]
        yield ("begin", first) if isinstance(first, str) else ("begin", *first)
    for step in play.possible(model):
        what = play.uses_up(step)
        if what is not None and not getattr(rest, what):
            continue
        if step[0] in ("end", "quit") and step[-1] not in scenario.deeds:
            continue
        yield step
    if model.next_moment() is not None:
        if rest.ticks:
            yield "time", "next"
        if rest.nearly and play.moment_of(model, ("time", "nearly")) > model.now + ROUNDED:
            yield "time", "nearly"
    for step in rest.by_hand:
        if play.can(model, step):
            yield step


def _less(play: Play, rest: _Rest, step: Step) -> _Rest:
    if step[0] == "begin":
        return replace(rest, calls=rest.calls[1:])
    if step in rest.by_hand:
        return replace(rest, by_hand=tuple(each for each in rest.by_hand if each != step))
    what = play.uses_up(step)
    return rest if what is None else replace(rest, **{what: getattr(rest, what) - 1})


def chart(scenario: Scenario) -> tuple[list[Node], Report]:
    """
    All situations that the model can come to, and the steps between them. Nothing real is
    run here.
    """
    start, rest = scenario.play.model(scenario.setup), _rest_of(scenario)
    nodes = [Node(0, (), (0,), [])]
    layer: dict[Any, tuple[int, bytes, _Rest, int]]
    layer = {None: (0, pickle.dumps(start), rest, 1)}
    schedules = steps = ties = 0
    while layer:
        following: dict[Any, tuple[int, bytes, _Rest, int]] = {}
        for number, frozen, rest, orders in layer.values():
            node, went_on = nodes[number], False
            for step in _steps_of(scenario, pickle.loads(frozen), rest):
                model = pickle.loads(frozen)
                scenario.play.after(model, step)
                if model.tied:
                    ties += 1
                    continue
                went_on = True
                steps += 1
                left = _less(scenario.play, rest, step)
                key = (model.situation(), tuple(vars(left).values()))
                if key not in following:
                    new = len(nodes)
                    trail = (*node.trail, step)
                    nodes.append(Node(new, trail, (*node.way, new), []))
                    following[key] = (new, pickle.dumps(model), left, 0)
                new, kept, left, before = following[key]
                following[key] = (new, kept, left, before + orders)
                node.steps.append((step, new))
            schedules += 0 if went_on else orders
        layer = following
    report = Report(schedules=schedules, situations=len(nodes), steps=steps, ties=ties)
    return nodes, report


async def explore(scenario: Scenario) -> Report:
    """
    Take every step from every situation, in the real thing beside the model.

    Schedules that lead to one situation go on as one: each step is taken on some schedule, and
    not on each.

    Raises:
        DifferError: With a schedule that shows it.
    """
    nodes, report = chart(scenario)
    left = [list(node.steps) for node in nodes]
    runs = 0
    for node in nodes:
        while left[node.number]:
            runs += 1
            async with paired(scenario.setup, scenario.play) as pair:
                await _go(pair, node, left)
    return replace(report, runs=runs)


async def _go(pair: Pair, node: Node, left: list[list[tuple[Step, int]]]) -> None:
    """
    Go to that situation, and from there on where nobody has gone yet, as far as it leads.
    """
    for step, before, at in zip(node.trail, node.way, node.way[1:], strict=False):
        is_new = (step, at) in left[before]
        await pair.step(step, look=is_new)
        if is_new:
            left[before].remove((step, at))
    at = node.number
    while left[at]:
        step, at = left[at].pop()
        await pair.step(step)
    await pair.finish()


def count_plainly(scenario: Scenario) -> int:
    """
    The number of schedules, each gone through by itself.
    """

    def count(frozen: bytes, rest: _Rest) -> int:
        schedules, went_on = 0, False
        for step in _steps_of(scenario, pickle.loads(frozen), rest):
            model = pickle.loads(frozen)
            scenario.play.after(model, step)
            if not model.tied:
                went_on = True
                schedules += count(pickle.dumps(model), _less(scenario.play, rest, step))
        return schedules if went_on else 1

    return count(pickle.dumps(scenario.play.model(scenario.setup)), _rest_of(scenario))


# --- what all tests of such worlds need --------------------------------------------------

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])
ONE_PLACE = LimitPolicy(max_concurrent=1, max_queue=1, max_wait=1.5)

Plant = Callable[[pytest.MonkeyPatch], None]
Choice = Callable[[Any, str, int], Step | None]


def retry(attempts: int = 2, **options: Any) -> RetryPolicy:
    usual = {"wait_initial": 0.25, "wait_max": 2.5}
    chance = {"wait_jitter": 0.0, "jitter_source": no_chance}
    return RetryPolicy(attempts=attempts, **{**usual, **chance, **options})


async def go_through(
    setup: Setup, happens: list[tuple[str, int]], chosen: Choice, play: Play = PLAY
) -> Pair:
    """
    Have events happen, as far as they can.
    """
    async with paired(setup, play) as pair:
        for kind, number in happens:
            step = chosen(pair.model, kind, number)
            # Where two are due at one moment, nobody has promised who goes first.
            if step is not None and not play.is_tied(pair.model, step):
                await pair.step(step)
        await pair.finish()
    return pair


def summed_up(report: Report, summary: Summary, what: str) -> None:
    summary.add(f"{what}: schedules", report.schedules)
    summary.add(f"{what}: situations that they led through", report.situations)
    summary.add(f"{what}: steps taken, each in the real thing", report.steps)


def assert_counted_plainly(scenario: Scenario) -> None:
    """
    Schedules that go on as one are each counted.
    """
    _, report = chart(scenario)
    assert report.schedules == count_plainly(scenario)
    assert report.situations < report.schedules


def any_tool_is_run_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Retrying, "_may_run_again", lambda self, course, result: not result.ok)


def assert_found(
    plant: Plant, where: tuple[Scenario, str], patch: pytest.MonkeyPatch
) -> None:
    """
    A fault shows in a scenario, in what is not as the model says.
    """
    scenario, what = where
    plant(patch)
    with pytest.raises(DifferError) as found:
        run_on("asyncio", explore, scenario)
    assert found.value.what.startswith(what)
