"""
A model of whole calls: a tool's guard, limits, rates, retries, times and fallback, and the
circuit that it shares with another tool, or has for each key.

It is written from docs/design.md and docs/reference.md and shares nothing with the parts: all
is lists that are looked through. Of the package it reads the records of settings alone, and the
circuit is that of ``tests/model.py``, written from the rules likewise.

Between two events nothing is under way: each call waits somewhere, and ``Call.where`` says
where. Time passes from one moment at which something is due to the next. Where two calls are
due at one moment it is nobody's promise who goes first, but for those who wait for a turn by the
same rate. ``Model.tied`` tells, and the moment is not gone into.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator_async import BudgetPolicy, ConversationPolicy, LimitPolicy, RetryPolicy
from orchestrator_async._policy import BreakerSettings

from . import model
from .conversation_model import Event, Slow

TOOLS = ("reads", "writes")
IDEMPOTENT = "reads"  # the one that may run twice, and has the guard and the fallback
KEYS = ("0", "1")
ROUNDED = 1e-6  # seconds by which a sum of floats may be beside what is meant
NEARLY = 1 / 1024  # how long before a moment is "just before"
GRID = 1 / 32  # what happens to a call does so at moments that are its own
LATE = 0.02  # seconds after which who waits for a turn finds that his time is over
MAYBE = 0.01  # or from when on, if he is woken for another reason


def no_chance() -> float:
    """
    What is drawn where nothing is left to chance.
    """
    return 0.0


@dataclass(frozen=True, kw_only=True)
class Setup:
    """
    How both tools are set, but for the guard and the fallback: these are of ``reads``.

    Args:
        tool: Limits of each tool by itself.
        group: Those of the two together.
        all: Those of the orchestrator.
        fallback: ``"made"`` for a function, ``"asked"`` for one that answers when it is told
            to, ``"writes"`` for the other tool.
        keyed: Whether each tool has two circuits, by key; else both share one.
        chat: The rules of the conversation in which all calls are made, if they are in one.
    """

    tool: LimitPolicy | None = None
    group: LimitPolicy | None = None
    all: LimitPolicy | None = None
    retry: RetryPolicy | None = None
    budget: BudgetPolicy | None = field(default_factory=BudgetPolicy)
    total_timeout: float | None = None
    timeout: float | None = None
    fallback: str | None = None
    guard: bool = False
    threshold: int = 3
    success_threshold: int = 1
    reset: float = 8.0
    max_pause: float = 4.0
    keyed: bool = False
    chat: ConversationPolicy | None = None

    @property
    def more(self) -> dict[str, Any]:
        """
        What else the tools' policy has.
        """
        return {}

    @property
    def circuits(self) -> list[tuple[str, str | None]]:
        """
        By name and key.
        """
        return (
            [(tool, key) for tool in TOOLS for key in KEYS]
            if self.keyed
            else [("service", None)]
        )

    @property
    def shortest(self) -> float:
        return min(self.timeout or math.inf, self.total_timeout or math.inf)

    @property
    def hang_after(self) -> float:
        return 0.95 * self.shortest

    @property
    def lease(self) -> float:
        most = self.shortest
        return self.reset if most == math.inf else most + max(1.0, most / 10)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    What a caller is told.
    """

    # "value", "raised", "circuit", "limit", "timeout", "draining", "guard", "conversation"
    kind: str
    ok: bool = False
    detail: tuple[object, ...] = ()
    verdict: str = "ignore"
    late: bool = False
    state: str | None = None
    source: str
    attempts: int = 0
    duration: float = 0.0
    retry_after: float | None = None
    stop: bool = False
    warned: frozenset[str] = frozenset()  # of what it has a warning


@dataclass(eq=False)
class Call:
    number: int
    tool: str
    what: int  # its arguments
    parent: Call | None = None  # the call that it answers for
    where: str = "new"
    gate: Gate | None = None  # in whose row it stands
    until: float = math.inf  # when its wait or its attempt is over
    deadline: float = math.inf  # of the whole call
    attempt: int = 1
    places: list[Gate] = field(default_factory=list)
    turns: list[tuple[Gate, float]] = field(default_factory=list)
    since: float = 0.0  # when it began to wait for turns
    began: float = 0.0
    cut: bool = False  # whether its attempt has no more than the rest of the whole time
    permit: model.Call | None = None
    failed: bool = False  # whether the last attempt that ran has
    said: list[Answer] = field(default_factory=list)  # of each attempt that is over
    last: Answer | None = None  # what it is told if nothing else answers
    answer: Answer | None = None
    told: list[tuple[object, ...]] = field(default_factory=list)
    event: Event | None = None  # what it is for the rules of its conversation

    @property
    def is_inside(self) -> bool:
        """
        Whether its tool has been entered, and has not ended.
        """
        return self.where == "running"


@dataclass(eq=False)
class Gate:
    """
    The limits of one scope.
    """

    scope: str
    policy: LimitPolicy
    size: int | None
    taken: list[Call] = field(default_factory=list)
    queue: list[Call] = field(default_factory=list)
    used: list[float] = field(default_factory=list)  # the moments of calls that count
    seen: float = 0.0
    held: float = 0.0  # seconds for which places were held
    ended: int = 0

    def pass_time(self, now: float) -> None:
        self.held += (now - self.seen) * len(self.taken)
        self.seen = now

    def estimate(self, now: float) -> float:
        """
        When there may be a place: as many must come back as are wanted before.
        """
        self.pass_time(now)
        calls = self.ended + len(self.taken) / 2
        average = self.held / calls if calls else 0.0
        assert self.size is not None
        before = len(self.queue) + 1 + max(0, len(self.taken) - self.size)
        return min(max(1.0, average * before / self.size), 3600.0)

    @property
    def interval(self) -> float:
        assert self.policy.calls is not None
        return self.policy.seconds / self.policy.calls

    def left(self, now: float) -> float:
        """
        Seconds until all slots of the calls that count are over, one an interval.
        """
        end = -math.inf
        for at in sorted(self.used):
            end = max(at, end) + self.interval
        return max(0.0, end - now)

    def wait(self, now: float, ahead: int = 0) -> float:
        """
        Seconds until it is the turn of one who has so many before him.
        """
        burst = self.policy.burst or self.policy.calls
        assert burst is not None
        wait = self.left(now) + (ahead + 1 - burst) * self.interval
        return wait if wait > ROUNDED else 0.0


@dataclass(eq=False)
class Budget:
    """
    What all calls may try again: in ten buckets of a second, which are reckoned from the
    first call when there is none, and in the last second.
    """

    policy: BudgetPolicy
    origin: float = 0.0
    calls: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    def look(self, now: float) -> int:
        """
        Forget what is old; the bucket of this moment.
        """
        number = math.floor(now - self.origin + ROUNDED)
        self.calls = [each for each in self.calls if each > number - 10]
        self.shared = [each for each in self.shared if each > number - 10]
        self.beside = [each for each in self.beside if now - each < 1.0 - ROUNDED]
        if not self.calls and not self.shared:
            self.origin, number = now, 0
        return number

    def called(self, now: float) -> None:
        number = self.look(now)
        self.calls.append(number)

    def take(self, now: float) -> bool:
        number = self.look(now)
        if len(self.shared) + 1 <= len(self.calls) * self.policy.share:
            self.shared.append(number)
            return True
        if len(self.beside) < self.policy.a_second:
            self.beside.append(now)
            return True
        return False


class Model:
    """
    What is to come of the events that happen to a few calls.
    """

    def __init__(self, setup: Setup, now: float = 0.0) -> None:
        self.setup = setup
        self.now = now
        self.calls: list[Call] = []
        self.woken: list[Call] = []  # who has been handed a place, and has yet to go on
        self.waiting: list[Call] = []  # for a turn, in the order of coming
        self.tied = False
        self.draining = False
        self.isolated = False
        self.retries = 0
        self.took = dict.fromkeys(TOOLS, 0.0)  # seconds of all executions
        self.ended = dict.fromkeys(TOOLS, 0)
        self.budget = None if setup.budget is None else Budget(setup.budget)
        self.chat = None if setup.chat is None else Slow(setup.chat, now)
        self.left = False  # whether the conversation was
        self.circuits = {
            at: model.Model(
                BreakerSettings(
                    failure_threshold=setup.threshold,
                    success_threshold=setup.success_threshold,
                    reset_timeout=setup.reset,
                    probe_lease=setup.reset,
                    max_pause=setup.max_pause,
                    jitter_source=no_chance,
                ),
                draw=no_chance,
            )
            for at in setup.circuits
        }
        for circuit in self.circuits.values():
            circuit.look(now)
        self.gates = {
            scope: Gate(scope, policy, policy.max_concurrent, seen=now)
            for scope, policy in (
                *((tool, setup.tool) for tool in TOOLS),
                ("group", setup.group),
                ("all", setup.all),
            )
            if policy is not None
        }

    # --- time ----------------------------------------------------------------------------

    def moments(self) -> list[tuple[float, Call | None]]:
        """
        When something is due, and to whom.
        """
        due: list[tuple[float, Call | None]] = [
            (call.until, call) for call in self.calls if call.until < math.inf
        ]
        due += [(self.now + self._turn_in(call), call) for call in self._firsts()]
        for circuit in self.circuits.values():
            circuit.look(self.now)
            if circuit.beneath == "open" and circuit.reopens > circuit.age + ROUNDED:
                due.append((self.now + circuit.reopens - circuit.age, None))
            if circuit.taken() and circuit.place is not None:
                due.append((self.now + circuit.place.ends - circuit.age, None))
        if self.chat is not None and self.chat.policy.seconds is not None:
            due.append((self.chat.began + self.chat.policy.seconds, None))
        return due

    def next_moment(self) -> float | None:
        later = [at for at, _ in self.moments() if at > self.now + ROUNDED]
        return min(later, default=None)

    def advance(self, to: float) -> None:
        """
        Time passes, and what is due happens.
        """
        while True:
            due = [(at, call) for at, call in self.moments() if call and at <= to + ROUNDED]
            if not due:
                break
            at = min(due, key=lambda each: each[0])[0]
            at_once = [call for when, call in due if when <= at + ROUNDED]
            self._go_to(max(at, self.now))
            others = [call for call in at_once if call.until <= self.now + ROUNDED]
            self.tied |= bool(others) and len(at_once) > 1
            if others:
                self._is_due(others[0])
            self._settle()
        self._go_to(to)

    def _go_to(self, now: float) -> None:
        self.now = now
        for circuit in self.circuits.values():
            circuit.look(now)

    def circuit_of(self, call: Call) -> model.Model:
        """
        That of its key, which is made of its arguments.
        """
        if not self.setup.keyed:
            return self.circuits["service", None]
        return self.circuits[call.tool, KEYS[call.what % 2]]

    def _is_due(self, call: Call) -> None:
        match call.where:
            case "queue":
                assert call.gate is not None
                call.gate.queue.remove(call)
                self._turned_away(call, self._too_many(call, call.gate))
            case "backoff":
                self._try_again(call)
            case "running":
                self._out_of_time(call)
            case "turn":
                self._look_at_the_time(call)

    # --- what happens ----------------------------------------------------------------------

    def begin(self, tool: str, what: int | None = None, parent: Call | None = None) -> Call:
        """
        A call is made, with arguments of its own by default.
        """
        if parent is not None:
            call = self._new(parent.number, tool, parent.what, parent)
        else:
            number = sum(each.parent is None for each in self.calls)
            call = self._new(number, tool, number if what is None else what, None)
        self.calls.append(call)
        if parent is not None or not self._breaks_the_rules(call):
            self._begin(call)
        self._settle()
        return call

    def _begin(self, call: Call) -> None:
        if self.draining:
            self._reject(call, "draining", None)
            self._finish(call, self._drained(call))
        elif self._is_stopped():
            self._reject(call, "conversation", None)
            self._finish(call, self._stopped(call))
        elif self.setup.guard and call.tool == IDEMPOTENT:
            call.where = "guard"
        else:
            self._start(call)

    def _new(self, number: int, tool: str, what: int, parent: Call | None) -> Call:
        return Call(number, tool, what, parent)

    def guard_says(self, call: Call, agrees: bool) -> None:
        if agrees:
            self._start(call)
        else:
            self._reject(call, "guard", None)
            # With circuits by key, that of the tool itself: no key was asked for.
            state = "closed" if self.setup.keyed else self.circuit_of(call).state
            answer = Answer(kind="guard", source=call.tool, state=state)
            self._finish(call, answer)
        self._settle()

    def fallback_says(self, call: Call, answers: bool) -> None:
        assert call.last is not None
        self._over(call, _made(call.last) if answers else call.last)
        self._settle()

    def end(self, call: Call, deed: str) -> None:
        """
        The tool returns or raises.
        """
        match deed:
            case "returns":
                self._ran(call, "success", kind="value", ok=True, detail=("fine",))
            case "raises":
                self._ran(call, "failure", kind="raised")
            case "asks for a pause":
                self._ran(call, "throttle", kind="raised")
        self._settle()

    def cancel(self, call: Call) -> None:
        child = self._answers_for(call)
        if child is not None:
            self.cancel(child)
            return
        if call.where == "running":
            hung = self._took(call) >= self.setup.hang_after - ROUNDED
            self._vote(call, "failure" if hung else "none")
        else:
            self._leave(call)
        self._give_back(call, ran=call.where == "running")
        self._over(call, Answer(kind="cancelled", source=call.tool))
        self._settle()

    def isolate(self) -> None:
        self.circuits["service", None].isolate()
        self.isolated = True

    def unisolate(self) -> None:
        self.circuits["service", None].release_all()
        self.isolated = False

    def drain(self) -> None:
        self.draining = True

    def leave(self) -> None:
        self.left = True

    def resize(self, scope: str, size: int) -> None:
        gate = self.gates[scope]
        gate.pass_time(self.now)
        gate.size = size
        self._let_in(gate)
        self._settle()

    # --- the way of a call -------------------------------------------------------------------

    def _gates_of(self, call: Call) -> Iterator[Gate]:
        for scope in (call.tool, "group", "all"):
            if scope in self.gates:
                yield self.gates[scope]

    def _settle(self) -> None:
        """
        Have those go on who can.
        """
        while True:
            due = [call for call in self._firsts() if not self._turn_in(call)]
            self.tied |= bool(due) and not all(self._share(due[0], each) for each in due)
            if self.woken:
                self.tied |= bool(due)
                self._take_places(self.woken.pop(0))
                continue
            if not due:
                break
            self.waiting.remove(due[0])
            self._has_its_turn(due[0])
        # Whoever is woken late finds out early.
        self.tied |= any(self._too_late(call) for call in self.waiting)

    def _start(self, call: Call) -> None:
        """
        The guard has been asked. From here on the time of the whole call passes.
        """
        if self.setup.total_timeout is not None:
            call.deadline = self.now + self.setup.total_timeout
        if self.setup.retry is not None and self.budget is not None:
            self.budget.called(self.now)
        self._attempt(call)

    def _attempt(self, call: Call) -> None:
        if self.draining:
            self._turned_away(call, self._drained(call))
            return
        if self._is_stopped():
            self._turned_away(call, self._stopped(call))
            return
        refused = self.circuit_of(call).refusal(self.now, self._average(call))
        if refused is not None:
            self._turned_away(call, self._refused(call, refused))
            return
        self._take_places(call)

    def _take_places(self, call: Call) -> None:
        """
        One in each limit, the narrow before the wide.
        """
        for gate in self._gates_of(call):
            if gate.size is None or gate in call.places:
                continue
            if len(gate.taken) < gate.size and not gate.queue:
                self._has_place(call, gate)
                continue
            wait = min(gate.policy.max_wait, call.deadline - self.now)
            if len(gate.queue) >= gate.policy.max_queue or wait <= ROUNDED:
                self._turned_away(call, self._too_many(call, gate))
                return
            call.where, call.gate, call.until = "queue", gate, self.now + wait
            gate.queue.append(call)
            return
        self._take_turns(call)

    def _has_place(self, call: Call, gate: Gate) -> None:
        gate.pass_time(self.now)
        gate.taken.append(call)
        call.places.append(gate)

    def _let_in(self, gate: Gate) -> None:
        while gate.queue and gate.size is not None and len(gate.taken) < gate.size:
            first = gate.queue.pop(0)
            self._has_place(first, gate)
            first.where, first.gate, first.until = "new", None, math.inf
            self.woken.append(first)

    def rates_of(self, call: Call) -> list[Gate]:
        return [gate for gate in self._gates_of(call) if gate.policy.calls is not None]

    def _share(self, one: Call, other: Call) -> bool:
        return any(gate in self.rates_of(other) for gate in self.rates_of(one))

    def _row(self, call: Call) -> list[Call]:
        """
        Those who wait for the same rates.
        """
        rates = self.rates_of(call)
        return [each for each in self.waiting if self.rates_of(each) == rates]

    def _firsts(self) -> list[Call]:
        """
        Those before whom nobody waits for the same rates, in the order of coming.
        """
        return [each for each in self.waiting if self._row(each)[0] is each]

    def _turn_in(self, call: Call) -> float:
        """
        Seconds until there is a turn in every rate.
        """
        return max((gate.wait(self.now) for gate in self.rates_of(call)), default=0.0)

    def _take_turns(self, call: Call) -> None:
        """
        One in each rate, and all of them at the moment at which the last is there. Nobody is
        overtaken who could go.
        """
        rates, rest = self.rates_of(call), call.deadline - self.now
        if not self._turn_in(call) and not any(
            self._share(call, first) and not self._turn_in(first)
            for first in self._firsts()
        ):
            self._has_its_turn(call)
            return
        for gate in rates:
            # Those go before it in any case who need no more than it does.
            before = [
                each
                for each in self.waiting
                if all(its in rates for its in self.rates_of(each))
            ]
            wait = gate.wait(self.now, len(before))
            if wait > min(gate.policy.max_wait, rest) + ROUNDED:
                self._turned_away(call, self._too_often(call, gate, wait))
                return
        call.where, call.since = "turn", self.now
        call.until = min(self._ends(call).values()) + LATE
        self.waiting.append(call)

    def _ends(self, call: Call) -> dict[str, float]:
        """
        When the time is over in which its turn may come, by each of its rates.
        """
        return {
            gate.scope: min(call.since + gate.policy.max_wait, call.deadline)
            for gate in self.rates_of(call)
        }

    def _too_late(self, call: Call) -> list[Gate]:
        """
        By which rates its turn has not come in time. Where it has, it waits for the others.
        """
        ends, ahead = self._ends(call), self._row(call).index(call)
        return [
            gate
            for gate in self.rates_of(call)
            if ends[gate.scope] + MAYBE < self.now - ROUNDED and gate.wait(self.now, ahead)
        ]

    def _look_at_the_time(self, call: Call) -> None:
        late = self._too_late(call)
        if late:
            after = len(self._row(call)) - 1  # who comes again comes after all others
            waits = {gate.wait(self.now, after): gate for gate in reversed(late)}
            self._leave(call)
            self._turned_away(call, self._too_often(call, waits[max(waits)], max(waits)))
        else:
            ends = [each + LATE for each in self._ends(call).values()]
            call.until = min(each for each in ends if each > self.now + ROUNDED)

    def _has_its_turn(self, call: Call) -> None:
        call.where, call.until = "new", math.inf
        for gate in self.rates_of(call):
            gate.used.append(self.now)
            call.turns.append((gate, self.now))
        self._run(call)

    def _run(self, call: Call) -> None:
        """
        It has all that it needs but a permit: the circuit is asked again.
        """
        if self.draining:
            self._turned_away(call, self._drained(call))
            return
        if self._is_stopped():
            self._turned_away(call, self._stopped(call))
            return
        permit = self.circuit_of(call).admit(
            self.now, self.setup.lease, self._average(call)
        )
        if isinstance(permit, model.Refused):
            self._turned_away(call, self._refused(call, permit))
            return
        call.where, call.permit, call.began = "running", permit, self.now
        self._has_begun(call)
        rest, own = call.deadline - self.now, self.setup.timeout or math.inf
        call.cut = rest < own
        call.until = self.now + min(rest, own)

    # --- how an attempt ends -----------------------------------------------------------------

    def _out_of_time(self, call: Call) -> None:
        took = self._took(call)
        enough = not call.cut or took >= self.setup.hang_after - ROUNDED
        seconds = self.setup.total_timeout if call.cut else self.setup.timeout
        verdict = "failure" if enough else "none"
        self._ran(call, verdict, kind="timeout", detail=(seconds, False))

    def _ran(
        self,
        call: Call,
        verdict: str,
        *,
        kind: str,
        ok: bool = False,
        detail: tuple[object, ...] = (),
    ) -> None:
        was_probe = call.permit is not None and call.permit.token
        call.failed = verdict in ("failure", "throttle")
        answer = self._of_attempt(call, verdict, kind=kind, ok=ok, detail=detail)
        again = call.failed and call.tool == IDEMPOTENT and not was_probe
        pause = self._pauses(call)
        again = again and (pause > 0 or self.circuit_of(call).state == "closed")
        self._give_back(call, ran=True)
        self._go_on(call, answer, again=again, least=max(answer.retry_after or 0, pause))

    def _of_attempt(
        self,
        call: Call,
        verdict: str,
        *,
        kind: str,
        ok: bool,
        detail: tuple[object, ...],
    ) -> Answer:
        """
        The circuit is told of the attempt; what there is to say of it.
        """
        took, late = self._took(call), self._vote(call, verdict)
        said = {"throttle": "failure", "none": "ignore"}.get(verdict, verdict)
        asked = verdict == "throttle"
        return Answer(
            kind=kind,
            ok=ok,
            detail=detail,
            verdict="ignore" if late else said,
            late=late,
            state=self.circuit_of(call).state,
            source=call.tool,
            attempts=1,
            duration=took,
            retry_after=min(PAUSE, self.setup.max_pause) if asked else None,
        )

    def _took(self, call: Call) -> float:
        """
        Seconds that the tool has taken of this attempt.
        """
        return self.now - call.began

    def _pauses(self, call: Call) -> float:
        """
        For how long the circuit does no more than to pause.
        """
        circuit = self.circuit_of(call)
        if circuit.state != "open" or circuit.isolations or not circuit.paused:
            return 0.0
        return max(0.0, circuit.reopens - circuit.age)

    def _vote(self, call: Call, verdict: str) -> bool:
        took = self._took(call)
        assert call.permit is not None
        pause = PAUSE if verdict == "throttle" else None
        late = self.circuit_of(call).end(call.permit, verdict, self.now, took, pause)
        self.took[call.tool] += took
        self.ended[call.tool] += 1
        said = {"throttle": "failure", "none": "ignore"}.get(verdict, verdict)
        call.told.append(("ended", call.attempt, "ignore" if late else said, late))
        return late

    def _turned_away(self, call: Call, answer: Answer) -> None:
        """
        The attempt has not run the tool.
        """
        reason = answer.kind
        self._reject(call, reason, answer.retry_after)
        self._give_back(call, ran=False)
        again = reason == "limit" and not self.circuit_of(call).isolations
        self._go_on(call, answer, again=again, least=answer.retry_after or 0.0)

    def _give_back(self, call: Call, *, ran: bool) -> None:
        call.where, call.gate, call.until = "new", None, math.inf
        call.since = call.began = 0.0
        places, call.places = call.places, []
        for gate in places:
            gate.pass_time(self.now)
            gate.taken.remove(call)
            gate.ended += 1
            self._let_in(gate)
        turns, call.turns = call.turns, []
        if not ran:
            for gate, at in turns:
                gate.used.remove(at)

    def _go_on(self, call: Call, answer: Answer, *, again: bool, least: float) -> None:
        """
        Try again after a wait, or answer.
        """
        policy = self.setup.retry
        call.said.append(answer)
        if policy is None or not again or least > policy.wait_max:
            self._finish(call, of_all(call.said))
            return
        backoff = policy.wait_initial * policy.wait_exp_base ** (call.attempt - 1)
        wait = max(min(backoff, policy.wait_max), least)
        is_last = call.attempt >= policy.attempts
        if is_last or wait >= call.deadline - self.now - ROUNDED or not self._may_retry():
            self._finish(call, of_all(call.said))
        else:
            self.retries += 1
            call.told.append(("again", call.attempt, wait))
            call.where, call.until = "backoff", self.now + wait

    def _may_retry(self) -> bool:
        """
        Take one out of the budget, if there is one.
        """
        return self.budget is None or self.budget.take(self.now)

    def _try_again(self, call: Call) -> None:
        call.where, call.until = "new", math.inf
        call.attempt += 1
        self._attempt(call)

    def _finish(self, call: Call, answer: Answer) -> None:
        """
        All attempts are over: another answer, where there is none.
        """
        asks = call.failed or answer.kind in ("circuit", "limit", "timeout")
        asks = asks and not self.draining
        if answer.ok or not asks or call.tool != IDEMPOTENT or not self.setup.fallback:
            self._over(call, answer)
        elif self.setup.fallback == "made":
            self._over(call, _made(answer))
        elif self.setup.fallback == "asked":
            call.where, call.last = "answering", answer
        else:
            call.where, call.last = "fallback", answer
            self.begin(self.setup.fallback, parent=call)

    def _over(self, call: Call, answer: Answer) -> None:
        call.where, call.answer = "over", answer
        parent = call.parent
        if parent is None and call.event is not None:
            call.answer = self._tell_the_rules(call.event, answer)
        if parent is not None and answer.kind == "cancelled":
            self._over(parent, replace(answer, source=parent.tool))
        elif parent is not None:
            assert parent.last is not None
            self._over(parent, answer if answer.ok else parent.last)

    def _answers_for(self, call: Call) -> Call | None:
        found = [each for each in self.calls if each.parent is call]
        return found[0] if found and found[0].where != "over" else None

    def _leave(self, call: Call) -> None:
        if call.where == "turn":
            self.waiting.remove(call)
        elif call.gate is not None:
            call.gate.queue.remove(call)

    # --- its conversation --------------------------------------------------------------------

    def _is_stopped(self) -> bool:
        return self.chat is not None and self.chat.stopped is not None

    def _breaks_the_rules(self, call: Call) -> bool:
        """
        Whether its conversation refuses the call. If not, it has a place in it from now on.
        """
        chat, reason = self.chat, "over"
        if chat is None:
            return False
        if not self.left:
            if not self._is_stopped():
                chat.latest += 1
            event = Event(turn=chat.latest, name=call.tool, key=str(call.what))
            deed, why = chat.before(event, self.now)
            if why is None:
                assert deed == "run"
                call.event = event
                return False
            reason = why
        self._reject(call, "conversation", None)
        stop = self.left or self._is_stopped()
        self._over(call, replace(self._stopped(call), detail=(reason,), stop=stop))
        return True

    def _has_begun(self, call: Call) -> None:
        whose = call.parent or call
        if whose.event is not None:
            whose.event.entered = True

    def _tell_the_rules(self, event: Event, answer: Answer) -> Answer:
        """
        What the caller is told, with what the rules say to that.
        """
        assert self.chat is not None
        if answer.kind in ("cancelled", "conversation"):
            self.chat.give_back(event)
            return answer
        refused = answer.attempts == 0 and answer.kind != "value"
        event.what = "success" if answer.ok else "refusal" if refused else "failure"
        event.digest = str(answer.detail)
        if answer.retry_after is not None:
            event.until = self.now + answer.retry_after
        of_key = answer.kind == "circuit" and self.setup.keyed
        event.whole = not of_key and answer.kind != "guard"
        warned = frozenset(self.chat.after(event, self.now))
        return replace(answer, warned=warned, stop=self._is_stopped())

    def _stopped(self, call: Call) -> Answer:
        """
        What it is told by the rules, once the run has ended.
        """
        stopped = None if self.chat is None else self.chat.stopped
        return Answer(kind="conversation", source=call.tool, detail=(stopped,), stop=True)

    # --- where all of them stand ------------------------------------------------------------

    def situation(self) -> tuple[object, ...]:
        """
        What decides what is to come. Two models of one situation go on as one, but for the
        seconds that are told: how long calls took is not in it, nor is what has been told.
        """
        now, budget = self.now, self.budget
        if budget is not None:
            budget.look(now)
        return (
            round(now % GRID, 6),
            self.draining,
            tuple(self._situation_in(each) for each in self.circuits.values()),
            tuple(self._situation_of(each) for each in self.calls),
            tuple(self.calls.index(each) for each in self.waiting),
            tuple(
                (
                    gate.size,
                    tuple(self.calls.index(each) for each in gate.taken),
                    tuple(self.calls.index(each) for each in gate.queue),
                    tuple(round(at - now, 6) for at in gate.used if gate.left(now)),
                )
                for gate in self.gates.values()
            ),
            self.left,
            self.chat and self.chat.situation(now, [c.event for c in self.calls]),
            budget
            and (
                tuple(each - math.floor(now - budget.origin) for each in budget.calls),
                tuple(each - math.floor(now - budget.origin) for each in budget.shared),
                tuple(round(each - now, 6) for each in budget.beside),
            ),
        )

    def _situation_in(self, circuit: model.Model) -> tuple[object, ...]:
        places = [each.permit for each in self.calls]
        in_time = circuit.reopens - circuit.age if circuit.beneath == "open" else 0.0
        return (
            *(circuit.beneath, circuit.isolations, circuit.failures, circuit.paused),
            *(circuit.throttles, circuit.reopenings, circuit.opened, circuit.row),
            round(max(0.0, in_time), 6),
            places.index(circuit.place) if circuit.place in places else None,
        )

    def _situation_of(self, call: Call) -> tuple[object, ...]:
        if call.where == "over":
            return call.number, call.tool, "over"
        permit, circuit = call.permit, self.circuit_of(call)
        moments = (call.until, call.deadline, call.since, call.began)
        last = call.last or (of_all(call.said) if call.said else None)
        return (
            *(call.number, call.tool, call.where, call.attempt, call.cut, call.failed),
            tuple(round(at - self.now, 6) for at in moments),
            tuple(gate.scope for gate in call.places),
            tuple((gate.scope, round(at - self.now, 6)) for gate, at in call.turns),
            call.gate and call.gate.scope,
            last and (last.kind, last.attempts, last.verdict),
            permit
            and (
                permit.generation == circuit.generation,
                *(permit.token, permit.given_back),
                round(permit.ends - circuit.age, 6),
            ),
        )

    # --- what is said ----------------------------------------------------------------------

    def _average(self, call: Call) -> float:
        ended = self.ended[call.tool]
        return self.took[call.tool] / ended if ended else 0.0

    def _reject(self, call: Call, reason: str, retry_after: float | None) -> None:
        call.told.append(("rejected", reason, retry_after))

    def _drained(self, call: Call) -> Answer:
        return Answer(kind="draining", source=call.tool)

    def _refused(self, call: Call, refused: model.Refused) -> Answer:
        return Answer(
            kind="circuit",
            detail=(refused.state,),
            state=refused.state,
            source=call.tool,
            retry_after=refused.retry_after,
        )

    def _too_many(self, call: Call, gate: Gate) -> Answer:
        return Answer(
            kind="limit",
            detail=("concurrency", gate.size, _name(gate)),
            state=self.circuit_of(call).state,
            source=call.tool,
            retry_after=gate.estimate(self.now),
        )

    def _too_often(self, call: Call, gate: Gate, wait: float) -> Answer:
        return Answer(
            kind="limit",
            detail=("rate", gate.policy.calls, _name(gate)),
            state=self.circuit_of(call).state,
            source=call.tool,
            retry_after=wait,
        )


PAUSE = 2.0  # seconds that a tool asks for


def _name(gate: Gate) -> str:
    return {"group": "group service", "all": "all tools"}.get(gate.scope, "")


def _made(answer: Answer) -> Answer:
    """
    What a fallback function makes of it.
    """
    answer = replace(answer, kind="value", ok=True, detail=("made",))
    return replace(answer, source="fallback", retry_after=None)


def of_all(said: list[Answer]) -> Answer:
    """
    What a call is told whose attempts were told this.

    It is the answer of the last attempt that ran the tool; where none did, that of the last.
    When to come again is what the last one was told, and so is the circuit's state: but one
    that is turned away while draining is told of no circuit.
    """
    ran = [number for number, each in enumerate(said) if each.attempts]
    which = ran[-1] if ran else len(said) - 1
    states = [each.state for each in said[which:] if each.state is not None]
    return replace(
        said[which],
        attempts=sum(each.attempts for each in said),
        duration=sum(each.duration for each in said),
        retry_after=said[-1].retry_after,
        state=states[-1] if states else None,
    )
