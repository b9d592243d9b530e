"""
The orchestrator against the model: two tools that share a circuit, and one beside them.

What the tools do is decided while they run. Some are asked by ``run``, and some by
``dispatch``, which has a short path where nobody watches. Time is that of the event loop, which is
virtual and moved by hand here, so one machine drives one loop (asyncio's) from outside.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator_async import (
    BreakerPolicy,
    InvalidArgumentsError,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
)
from orchestrator_async._policy import BreakerSettings

from .clock import AutojumpEventLoop
from .model import VERDICTS, Call, Model, Refused

TIMEOUT = 4.0
HANG_AFTER = 2.0
THRESHOLD, RESET, PROBE_LEASE = 2, 10.0, 6.0
# The tool with a timeout has that and a second for its lease.
LEASES = {"reads": TIMEOUT + 1.0, "writes": PROBE_LEASE, "beside": PROBE_LEASE}
FIGURES = (
    *("calls", "successes", "total_failures", "cancelled", "ignored"),
    *("late", "timeouts", "rejected", "invalid"),
)
CIRCUITS = {"reads": "database", "writes": "database", "beside": "beside"}

seconds = st.integers(1, 24).map(lambda quarters: quarters / 4)
tools = st.sampled_from(["reads", "writes", "reads", "writes", "beside"])
answers = st.sampled_from(["run", "dispatch"])


class NotFoundError(Exception):
    """
    A type that the policy ignores.
    """


class ApprovalNeeded(Exception):
    """
    A type that the policy calls control flow.
    """


@dataclass(eq=False)
class Flight:
    """
    A call of a tool: what it is to do, what has happened, and what came of it.
    """

    tool: str
    started: float
    deed: asyncio.Future[str]
    deaf: bool  # to cancellation
    answer: str = "run"  # or "dispatch"
    scope: anyio.CancelScope | None = None
    task: asyncio.Task[None] | None = None
    call: Call | None = None
    running: bool = False
    timed_out: bool = False
    cancelled: bool = False
    happened: str = ""
    result: ToolResult | None = None
    text: str | None = None


@dataclass(eq=False)
class Services:
    """
    The tools. Each run waits to be told how to end, and the last one begun is ``next``.
    """

    loop: asyncio.AbstractEventLoop
    next: Flight | None = None
    registry: Registry = field(default_factory=Registry)

    def offer(self, name: str, **options: Any) -> None:
        @self.registry.tool(name=name, **options)
        async def tool(deaf: bool = False) -> Any:
            flight = self.next
            assert flight is not None
            flight.running = True
            with anyio.CancelScope(shield=deaf):
                deed = await flight.deed
            match deed:
                case "returns a value":
                    return "fine"
                case "returns an error object":
                    return {"error": "no connection"}
                case "raises":
                    raise ConnectionError("the service is down")
                case "raises a type that the policy ignores":
                    raise NotFoundError
                case "blames the arguments":
                    raise InvalidArgumentsError("no such table")
                case "raises control flow":
                    raise ApprovalNeeded
                case "ends cancelled, though nobody cancelled it":
                    raise asyncio.CancelledError
            raise AssertionError(deed)


DEEDS = [
    deed.removeprefix("it ")
    for deed in VERDICTS
    if deed.startswith("it ") and "timeout" not in deed
]

DEEDS_BY_HAND = [
    *("isolate for a moment", "isolate", "force open", "unisolate", "disable", "reset")
]


class CallsAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = AutojumpEventLoop()
        policy = BreakerPolicy(
            failure_threshold=THRESHOLD, reset_timeout=RESET, probe_lease=PROBE_LEASE
        )
        services = self.services = Services(self.loop)
        services.offer(
            "reads",
            circuit="database",
            policy=ToolPolicy(timeout=TIMEOUT, hang_after=HANG_AFTER),
        )
        services.offer("writes", circuit="database")
        services.offer("beside")
        self.orch = ToolOrchestrator(
            services.registry,
            policy=ToolPolicy(
                breaker=policy, ignore=(NotFoundError,), control_flow=(ApprovalNeeded,)
            ),
            circuits={"database": policy},
            clock=self.loop.time,
        )
        self.models = {
            name: Model(BreakerSettings(THRESHOLD, RESET))
            for name in ("database", "beside")
        }
        self.figures = {tool: Counter[str]() for tool in CIRCUITS}
        self.flights: list[Flight] = []
        self.over: list[Flight] = []  # in the order in which they ended
        self.isolations: list[Any] = []

    def teardown(self) -> None:
        try:
            for flight in self.flights:
                if not flight.deed.done():
                    flight.deed.set_result("returns a value")
            self._turn()
            assert len(self.over) == len(self.flights)
        finally:
            self.loop.close()

    # --- what happens -----------------------------------------------------------------

    @initialize(failures=st.integers(0, THRESHOLD))
    def some_calls_have_failed(self, failures: int) -> None:
        for _ in range(failures):
            self.call("writes", deaf=False, answer="dispatch")
            self._end(self.flights[-1], "raises")

    @rule(tool=tools, deaf=st.booleans(), answer=answers)
    def call(self, tool: str, deaf: bool, answer: str) -> None:
        now, model = self.loop.time(), self.models[CIRCUITS[tool]]
        average = self._average(tool)
        flight = Flight(tool, now, self.loop.create_future(), deaf, answer)
        self.services.next = flight
        flight.task = self.loop.create_task(self._run(flight))
        self._turn()
        want = model.admit(now, LEASES[tool], average)
        if isinstance(want, Refused):
            assert not flight.running
            self._check_refusal(flight, want)
            self.figures[tool]["rejected"] += 1
            self.over.remove(flight)
            return
        assert flight.running
        assert (flight.result, flight.text) == (None, None)
        self.figures[tool]["calls"] += 1
        flight.call = want
        self.flights.append(flight)

    def _check_refusal(self, flight: Flight, want: Refused) -> None:
        if flight.answer == "dispatch":
            assert flight.text is not None
            told = json.loads(flight.text)
            seconds = None if want.retry_after is None else math.ceil(want.retry_after)
            assert told["circuit_breaker"] is True
            assert (told["state"], told["retry_after"]) == (want.state, seconds)
            return
        got = flight.result
        assert got is not None
        assert (got.ok, got.attempts, got.verdict) == (False, 0, "ignore")
        assert Refused(str(got.state), got.retry_after) == want

    @rule(tool=tools, deaf=st.booleans(), answer=answers)
    def call_when_the_time_has_come(self, tool: str, deaf: bool, answer: str) -> None:
        model = self.models[CIRCUITS[tool]]
        refused = model.refusal(self.loop.time(), 0.0)
        if refused is not None and refused.state == "half_open":
            assert model.place is not None
            self.time_passes(model.place.ends - model.age)
        elif refused is not None and refused.retry_after is not None:
            self.time_passes(refused.retry_after)
        self.call(tool, deaf, answer)

    @rule(tool=tools)
    def call_with_arguments_that_do_not_fit(self, tool: str) -> None:
        now, average = self.loop.time(), self._average(tool)
        refused = self.models[CIRCUITS[tool]].refusal(now, average)
        result = self.loop.run_until_complete(self.orch.run(tool, {"deaf": "perhaps"}))
        assert (result.ok, result.attempts, result.verdict) == (False, 0, "ignore")
        if refused is None:
            assert isinstance(result.error, InvalidArgumentsError)
            self.figures[tool]["invalid"] += 1
        else:
            self.figures[tool]["rejected"] += 1
            assert Refused(str(result.state), result.retry_after) == refused

    async def _run(self, flight: Flight) -> None:
        try:
            with anyio.CancelScope() as flight.scope:
                arguments = {"deaf": flight.deaf}
                if flight.answer == "run":
                    flight.result = await self.orch.run(flight.tool, arguments)
                else:
                    flight.text = await self.orch.dispatch(flight.tool, arguments)
        except ApprovalNeeded:
            pass
        finally:
            self.over.append(flight)

    def _average(self, tool: str) -> float:
        figures = self.orch.get_fleet_stats().get(tool)
        return 0.0 if figures is None else figures["avg_time"]

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), deed=st.sampled_from([*DEEDS, "raises", "returns a value"]))
    def a_tool_ends(self, data: st.DataObject, deed: str) -> None:
        self._end(data.draw(st.sampled_from(self.flights)), deed)

    @precondition(lambda self: any(each.call.token for each in self.flights))
    @rule(data=st.data(), deed=st.sampled_from(["raises", "returns a value"]))
    def a_probe_ends(self, data: st.DataObject, deed: str) -> None:
        probes = [each for each in self.flights if each.call and each.call.token]
        self._end(data.draw(st.sampled_from(probes)), deed)

    def _end(self, flight: Flight, deed: str) -> None:
        flight.happened = f"it {deed}"
        if flight.cancelled:
            deed = deed if deed.startswith("returns") else "raises"
            flight.happened = self._given_up(flight, f"it {deed}")
        elif flight.timed_out:
            flight.happened = "it runs over its timeout, then returns a value"
        flight.deed.set_result(deed)
        self._settle()
        assert flight not in self.flights

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), hung=st.booleans(), later=seconds, deed=st.sampled_from(DEEDS))
    def a_caller_is_cancelled(
        self, data: st.DataObject, hung: bool, later: float, deed: str
    ) -> None:
        flight = data.draw(st.sampled_from(self.flights))
        if hung:
            self.time_passes(HANG_AFTER)
        if flight not in self.flights:
            return
        assert flight.task is not None
        assert flight.scope is not None
        flight.cancelled = True
        if flight.deaf:
            self.loop.call_soon(
                flight.scope.cancel
            )  # a shield is none against asyncio's own
        else:
            flight.task.cancel()
        flight.happened = self._given_up(flight, "")
        self._settle()
        if flight in self.flights:  # it is deaf
            self.time_passes(later)
            self._end(flight, deed)

    def _given_up(self, flight: Flight, then: str) -> str:
        after = self.loop.time() - flight.started
        if flight.tool == "reads" and after >= HANG_AFTER and then != "it returns a value":
            return "its caller is cancelled after it hung"
        return f"its caller is cancelled{then and ', and '}{then}"

    @rule(by=seconds)
    def time_passes(self, by: float) -> None:
        end = self.loop.time() + by
        while True:
            timeouts = [
                each.started + TIMEOUT
                for each in self.flights
                if each.tool == "reads" and not each.timed_out
            ]
            until = min([*timeouts, end])
            if until > end:
                until = end
            for each in self.flights:
                if each.tool == "reads" and each.started + TIMEOUT <= until:
                    each.timed_out = True
                    each.happened = "it runs over its timeout"
            self.loop.run_until_complete(asyncio.sleep(until - self.loop.time()))
            self._settle()
            if until >= end:
                return

    @rule(circuit=st.sampled_from(["database", "beside"]), deed=st.data())
    def the_operator_acts(self, circuit: str, deed: st.DataObject) -> None:
        handle, model = self.orch.circuit(circuit), self.models[circuit]
        match deed.draw(st.sampled_from(DEEDS_BY_HAND)):
            case "isolate for a moment":
                with handle.isolate():
                    model.isolate()
                model.release()
            case "isolate":
                self.isolations.append((circuit, handle.isolate(), False))
                model.isolate()
            case "force open":
                self.isolations.append((circuit, handle.force_open(), True))
                model.isolate(as_open=True)
            case "unisolate":
                handle.unisolate()
                model.release_all()
                self.isolations = [each for each in self.isolations if each[0] != circuit]
            case "disable":
                handle.disable()
                model.disable()
            case "reset":
                handle.reset()
                model.reset()

    @precondition(lambda self: self.isolations)
    @rule(data=st.data())
    def the_operator_lifts_an_isolation(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(self.isolations) - 1))
        circuit, isolation, as_open = self.isolations.pop(which)
        for _ in range(2):
            isolation.release()  # the second time does nothing
        self.models[circuit].release(as_open=as_open)

    # --- what comes of it -----------------------------------------------------------------

    def _turn(self) -> None:
        """
        Let every task run until it waits.
        """

        async def turn() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())

    def _settle(self) -> None:
        self._turn()
        while self.over:
            flight = self.over.pop(0)
            self.flights.remove(flight)
            assert flight.call is not None
            verdict = VERDICTS[flight.happened]
            model = self.models[CIRCUITS[flight.tool]]
            late = model.end(flight.call, verdict, self.loop.time())
            self._count(flight, verdict, late)
            if flight.result is not None:
                assert flight.result.late == late
                said = {"none": "ignore"}.get(verdict, verdict)
                assert flight.result.verdict == ("ignore" if late else said)

    def _count(self, flight: Flight, verdict: str, late: bool) -> None:
        given_up = flight.happened.startswith("its caller is cancelled")
        none = "cancelled" if given_up else "ignored"
        ends = {"success": "successes", "failure": "total_failures", "none": none}
        timed_out = flight.happened.startswith("it runs over its timeout")
        figures = self.figures[flight.tool]
        figures[ends[verdict]] += 1
        figures["late"] += late
        figures["timeouts"] += timed_out

    @invariant()
    def both_say_the_same(self) -> None:
        for name, model in self.models.items():
            circuit = self.orch.circuit(name)
            assert (circuit.state, circuit.failures) == (model.state, model.failures)
        for tool, figures in self.orch.get_fleet_stats().items():
            flying = [each for each in self.flights if each.tool == tool]
            assert figures["in_flight"] == len(flying)
            for figure in FIGURES:
                assert figures[figure] == self.figures[tool][figure], (tool, figure)


def test_the_orchestrator_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        CallsAgainstModel,
        settings=settings(max_examples=300, stateful_step_count=40),
    )
