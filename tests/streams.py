"""
A small world of streams, and the model of it beside; see ``tests/parts.py``, which this is a
kind of.

A consumer of a stream waits for a word before he takes each chunk, and before he leaves. A
tool waits for one before it yields, ends or raises, and where it has been left it may wait for
another until it has cleaned up. So each of these is an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import anyio
from anyio.abc import TaskGroup

from orchestrator_async import CallFinished, Event, ToolContext
from orchestrator_async._streams import ToolStream

from .parts import (
    BusyError,
    Play,
    Run,
    Scenario,
    Step,
    Tools,
    World,
    answer_of,
    tell,
    who_of,
)
from .parts_model import GRID, IDEMPOTENT, NEARLY, ROUNDED, Answer, Model, Setup
from .streams_model import Stream, StreamModel, StreamSetup, chunk_name

YIELDS = ("yields", "tells")
ENDS = ("ends", "raises", "asks for a pause")
LEAVES = ("breaks", "closes", "gives up")  # in the last case by an error of his own
NEAR = ("time", "nearly")
EVERYTHING = (*YIELDS, *ENDS, *LEAVES)


class GivesUpError(Exception):
    """
    The consumer's own.
    """


class StreamRun(Run):
    """
    An execution that goes on, in steps.
    """

    def __init__(self, who: int, attempt: int, *, probes: bool) -> None:
        super().__init__(attempt, anyio.Event())
        self.who = who
        self.probes = probes
        self.since = anyio.current_time()
        self.where = "entered"
        self.yielded = 0

    async def is_told(self, where: str) -> str:
        self.where = where
        await self.told.wait()
        self.told = anyio.Event()
        return self.deed


def _tool(name: str) -> Any:
    async def tool(what: int, context: ToolContext) -> AsyncGenerator[Any, None]:
        world: StreamWorld = context.data["world"]
        who = who_of(context.call_id)
        run = world.enter(name, who, context)
        try:
            while (deed := await run.is_told("running")) != "ends":
                chunk = world.chunk(run, deed)
                run.where = "between"
                yield chunk
        except GeneratorExit:
            if world.setup.cleans:
                await run.is_told("cleaning")
            raise
        finally:
            del world.running[who, name]

    return tool


class StreamWorld(World):
    """
    A real orchestrator with two tools that yield, and their consumers.
    """

    tools: ClassVar[Tools] = (("reads", _tool("reads")), ("writes", _tool("writes")))
    setup: StreamSetup

    def __init__(self, setup: StreamSetup, tasks: TaskGroup) -> None:
        super().__init__(setup, tasks)
        self.got: dict[int, list[Any]] = {}
        self.yielded: dict[int, list[Any]] = {}
        self.how: dict[int, str] = {}
        self.waits: dict[int, Run] = {}  # who has a chunk, and waits for a word
        self.ended: Counter[int] = Counter()
        self.entered: Counter[int] = Counter()
        self.broken: str | None = None

    # What tools do

    def enter(self, tool: str, who: int, context: ToolContext) -> StreamRun:
        self.runs[who, tool] += 1
        self.entered[who] += 1
        if tool != IDEMPOTENT and self.runs[who, tool] > 1:
            self.broken = "a tool that is not idempotent runs once"
        if who in self.got and self.yielded[who]:
            self.broken = "nothing is tried again, nor falls back, after the first chunk"
        probes = self.circuits["service", None].state == "half_open"
        run = StreamRun(who, context.attempt, probes=probes)
        self.running[who, tool] = run
        return run

    def chunk(self, run: StreamRun, deed: str) -> object:
        """
        What is yielded.
        """
        name = chunk_name(run.who, run.attempt, run.yielded)
        match deed:
            case "yields" | "tells":
                chunk = name if deed == "yields" else {"error": name}
                run.yielded += 1
                self.yielded[run.who].append(chunk)
                return chunk
            case "raises":
                raise ConnectionError("the service is down")
            case "asks for a pause":
                raise BusyError("come back later")
        raise AssertionError(deed)

    def _hear(self, event: Event) -> None:
        if isinstance(event, CallFinished):
            self.ended[who_of(event.call_id)] += 1
        super()._hear(event)

    # What consumers do

    async def _call(self, number: int, form: str, what: int) -> None:
        kind, tool = form.split()
        self.yielded[number] = []
        if kind == "dispatch":
            await super()._call(number, tool, what)
            is_cancelled = self.answers[number].kind == "cancelled"
            self.how[number] = "cancelled" if is_cancelled else "ended"
            return
        self.got[number] = []
        stream = self.orch.stream(tool, {"what": what}, call_id=str(number), world=self)
        how, raised = "cancelled", None
        with self.scopes[number]:
            try:
                how = await self._takes(number, stream)
            except GivesUpError:
                how = "gives up"
            except Exception as error:
                how, raised = "raised", error
        result = stream.result
        if raised is not None and (result is None or result.error is not raised):
            self.broken = f"what is raised is what the result has: {raised!r}"
        self.how[number] = how
        self.answers[number] = (
            Answer(kind="cancelled", source=tool) if result is None else answer_of(result)
        )

    async def _takes(self, number: int, stream: ToolStream) -> str:
        got = self.got[number]
        async with stream as chunks:
            if chunks.result is not None:
                got += [chunk async for chunk in chunks]
                return "ended"
            while True:
                run = self.waits[number] = Run(0, anyio.Event())
                try:
                    await run.told.wait()
                finally:
                    del self.waits[number]
                match run.deed:
                    case "asks":
                        try:
                            got.append(await anext(chunks))
                        except StopAsyncIteration:
                            return "ended"
                    case "breaks":
                        return "breaks"
                    case "closes":
                        await chunks.aclose()
                        got += [chunk async for chunk in chunks]
                        return "closes"
                    case "gives up":
                        raise GivesUpError

    # What happens

    def do(self, step: Step) -> None:
        match step:
            case ("ask", number):
                tell(self.waits[number], "asks")
            case ("quit", number, how):
                tell(self.waits[number], how)
            case ("trip",):
                self.circuits["service", None].trip()
            case ("clean", number, tool):
                tell(self.running[number, tool], "")
            case _:
                super().do(step)

    # What is to be seen

    def look(self, now: float) -> dict[str, Any]:
        seen = super().look(now)
        inside = {at: run for at, run in self.running.items() if isinstance(run, StreamRun)}
        seen["inside"] = {at: run.where for at, run in inside.items()}
        seen["between"] = sorted(self.waits)
        seen["got"] = {who: list(got) for who, got in self.got.items()}
        seen["how"] = dict(self.how)
        seen["probe"] = self.circuits["service", None].breaker.probe is not None
        return seen

    def check_rules(self) -> str | None:
        return self.broken or super().check_rules() or self._check_chunks()

    def _check_chunks(self) -> str | None:
        for who, got in self.got.items():
            held = len(self.yielded[who]) == 1 and not got and self.how.get(who) != "ended"
            if not held and got not in (self.yielded[who], ["made"]):
                return "no chunk is lost, doubled, or out of its order"
        going_on = Counter(who for who, _ in self.running)
        if self.ended + going_on != self.entered:
            return "whatever began is told of once when it has ended"
        now, lease = anyio.current_time(), self.setup.lease
        probes = [r for r in self.running.values() if isinstance(r, StreamRun) and r.probes]
        if sum(now < each.since + lease - ROUNDED for each in probes) > 1:
            return "there is one probe at a time"
        return None


# --- beside the model --------------------------------------------------------------------


class StreamPlay(Play):
    """
    What can happen to streams.
    """

    def model(self, setup: Setup, now: float = 0.0) -> StreamModel:
        assert isinstance(setup, StreamSetup)
        return StreamModel(setup, now)

    def world(self, setup: Setup, tasks: TaskGroup) -> StreamWorld:
        assert isinstance(setup, StreamSetup)
        return StreamWorld(setup, tasks)

    def possible(self, model: Model) -> list[Step]:
        steps: list[Step] = []
        for call in model.calls:
            match call.where:
                case "running":
                    at = ("end", call.number, call.tool)
                    steps += [(*at, deed) for deed in (*YIELDS, *ENDS)]
                case "between":
                    steps.append(("ask", call.number))
                    steps += [("quit", call.number, how) for how in LEAVES]
                case "cleaning":
                    steps.append(("clean", call.number, call.tool))
            if call.parent is None and call.where != "over":
                steps.append(("cancel", call.number))
        return steps

    def moment_of(self, model: Model, step: Step) -> float:
        """
        Just before something is due is long enough before for one more event of that call.
        """
        at = super().moment_of(model, step)
        return max(model.now, at + NEARLY - 1.25 * GRID) if step == NEAR else at

    def uses_up(self, step: Step) -> str | None:
        if step[0] == "end" and step[3] in YIELDS:
            return "chunks"
        return super().uses_up(step)

    def can(self, model: Model, step: Step) -> bool:
        if step[0] in ("ask", "quit", "clean"):
            return step in self.possible(model)
        return super().can(model, step)

    def take(self, model: Model, step: Step) -> None:
        assert isinstance(model, StreamModel)
        match step:
            case ("begin", form, *more):
                kind, tool = form.split()
                model.begin_one(tool, *more, joined=kind == "dispatch")
            case ("ask", number):
                model.ask(_that_is(model, "between", number))
            case ("quit", number, how):
                model.quit(_that_is(model, "between", number), how)
            case ("trip",):
                model.circuits["service", None].trip(model.now)
            case ("clean", number, _):
                model.has_cleaned(_that_is(model, "cleaning", number))
            case _:
                super().take(model, step)

    def expected(self, model: Model) -> dict[str, Any]:
        assert isinstance(model, StreamModel)
        seen, calls = super().expected(model), model.calls
        circuit = model.circuits["service", None]
        seen["inside"] = {(c.number, c.tool): c.where for c in calls if c.is_inside}
        seen["between"] = sorted(c.number for c in calls if c.where == "between")
        seen["got"] = {who: list(got) for who, got in model.got.items()}
        seen["how"] = dict(model.how)
        seen["probe"] = circuit.place is not None
        return seen


def _that_is(model: StreamModel, where: str, number: int) -> Stream:
    return next(c for c in model.calls if (c.number, c.where) == (number, where))


STREAMS = StreamPlay()


def scenario(**options: Any) -> Scenario:
    """
    One of streams.
    """
    return Scenario(play=STREAMS, **options)
