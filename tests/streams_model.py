"""
A model of streams: calls of tools that yield chunks, taken one by one or all at once.

Up to its first chunk a stream is a call like others, with its queue, its attempts, its times
and its fallback, so the model of it is that of whole calls (``parts_model``). Here is what
is different in a tool that yields, and what comes after the first chunk. It is written from
docs/design.md and docs/reference.md likewise.

``Call.where`` is, beside what it is there: ``running`` in each step, ``between`` two chunks,
when its consumer has one or could take the first, and ``cleaning`` where he has left and the
tool still cleans up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .parts_model import (
    ROUNDED,
    Answer,
    Call,
    Model,
    Setup,
    of_all,
)

HANGS = 0.95  # of its time


@dataclass(frozen=True, kw_only=True)
class StreamSetup(Setup):
    """
    How both tools are set.

    Args:
        first: Their ``first_chunk_timeout``; ``None`` for the ``timeout``.
        chunk: Their ``chunk_timeout``, likewise.
        cleans: Whether a tool that is left has something to wait for.
    """

    first: float | None = None
    chunk: float | None = None
    cleans: bool = False

    @property
    def more(self) -> dict[str, Any]:
        times = {"first_chunk_timeout": self.first, "chunk_timeout": self.chunk}
        return {name: seconds for name, seconds in times.items() if seconds is not None}

    def step(self, *, is_first: bool) -> float:
        """
        Seconds that a chunk may take.
        """
        return (self.first if is_first else self.chunk) or self.timeout or math.inf

    @property
    def cleaning(self) -> float:
        """
        Seconds that the tool has for its clean-up: those of one more chunk, as far as the
        whole call could have had them.
        """
        step = self.step(is_first=False)
        step = self.step(is_first=True) if step == math.inf else step
        return min(step, self.total_timeout or math.inf)


@dataclass(eq=False)
class Stream(Call):
    """
    A call of a tool that yields.

    Args:
        joined: Whether all chunks are one answer, or a consumer takes them.
        yielded: The chunks of this attempt.
        tells: Whether one of them tells of an error.
        opened: Whether there was a first chunk, with which the call was made.
        held: Whether that has not been taken yet.
        spent: Seconds that the tool took for the steps before the present one.
        whole: When its execution is to be over, where the chunks are joined.
        how: How the consumer has left, while the tool cleans up.
    """

    joined: bool = False
    yielded: list[object] = field(default_factory=list)
    tells: bool = False
    opened: bool = False
    held: bool = False
    spent: float = 0.0
    whole: float = math.inf
    step_until: float = math.inf
    how: str = ""

    @property
    def is_inside(self) -> bool:
        return self.where in ("running", "between", "cleaning")


class StreamModel(Model):
    """
    What is to come of the events that happen to a few streams.

    Attributes:
        got: What consumers were given, by their number.
        how: How they went on, in the end: ``ended``, ``raised``, ``cancelled``, or as they
            have left.
    """

    setup: StreamSetup
    calls: list[Stream]  # type: ignore[assignment]

    def __init__(self, setup: StreamSetup, now: float = 0.0) -> None:
        super().__init__(setup, now)
        self.got: dict[int, list[object]] = {}
        self.how: dict[int, str] = {}
        self.joins = False  # whether the call that begins does

    def begin_one(self, tool: str, what: int | None = None, *, joined: bool) -> None:
        self.joins = joined
        self.begin(tool, what)

    def _new(self, number: int, tool: str, what: int, parent: Call | None) -> Stream:
        if parent is not None:
            assert isinstance(parent, Stream)
            return Stream(number, tool, what, parent, joined=parent.joined)
        if not self.joins:
            self.got[number] = []
        return Stream(number, tool, what, joined=self.joins)

    # --- steps ---------------------------------------------------------------------------

    def _run(self, call: Call) -> None:
        assert isinstance(call, Stream)
        call.yielded, call.tells, call.spent = [], False, 0.0
        super()._run(call)
        if call.where == "running":
            call.whole = call.until if call.joined else math.inf
            self._begin_step(call)

    def _begin_step(self, call: Stream) -> None:
        """
        The tool is asked for a chunk, and has the time of one; or what is left of the whole
        call's, if that is less. What the consumer does in between does not count.
        """
        seconds = self.setup.step(is_first=not call.yielded)
        if call.joined:
            # One execution has its own time, beside which its steps need none that is equal.
            seconds = math.inf if seconds == self.setup.timeout else seconds
            call.step_until = self.now + seconds
            call.until = min(call.whole, call.step_until)
            self.tied |= abs(call.whole - call.step_until) < ROUNDED
            return
        call.where, call.began = "running", self.now
        rest = max(0.0, call.deadline - self.now)
        call.cut = rest < seconds
        call.until = self.now + min(rest, seconds)
        if rest <= ROUNDED:
            self._out_of_time(call)

    def _took(self, call: Call) -> float:
        assert isinstance(call, Stream)
        return call.spent + self._in_step(call)

    def _in_step(self, call: Stream) -> float:
        return 0.0 if call.where == "between" else self.now - call.began

    def _hang_after(self, call: Stream) -> float:
        step = self.setup.step(is_first=not call.yielded)
        return HANGS * min(step, self.setup.total_timeout or math.inf)

    def _is_due(self, call: Call) -> None:
        assert isinstance(call, Stream)
        if call.where == "cleaning":
            self._is_left(
                call
            )  # that took too long is logged, and has no other consequence
        else:
            super()._is_due(call)

    def _out_of_time(self, call: Call) -> None:
        assert isinstance(call, Stream)
        is_step = call.step_until <= self.now + ROUNDED if call.joined else not call.cut
        if call.joined and not is_step:
            super()._out_of_time(call)
            return
        seconds = self.setup.step(is_first=not call.yielded)
        verdict = "failure"
        if not is_step:
            total = self.setup.total_timeout
            assert total is not None
            seconds = total
            hung = self._in_step(call) >= self._hang_after(call) - ROUNDED
            if not hung and self._took(call) < HANGS * total - ROUNDED:
                verdict = "none"  # other attempts, queues or the consumer had the time
        self._ran(call, verdict, kind="timeout", detail=(seconds, is_step))

    # --- what happens ----------------------------------------------------------------------

    def end(self, call: Call, deed: str) -> None:
        """
        The tool yields a chunk, ends or raises.
        """
        assert isinstance(call, Stream)
        match deed:
            case "yields":
                self._yields(call, name_of(call, len(call.yielded)))
            case "tells":
                self._yields(call, {"error": name_of(call, len(call.yielded))})
            case "ends":
                verdict = "failure" if call.tells else "success"
                ok = not call.tells
                self._ran(call, verdict, kind="value", ok=ok, detail=(value_of(call),))
            case _:
                super().end(call, deed)
        self._settle()

    def _yields(self, call: Stream, chunk: object) -> None:
        if not call.joined:
            call.spent += self._in_step(call)
            call.where, call.until = "between", math.inf
            if call.yielded:
                self.got[call.number].append(chunk)
            else:
                call.opened = call.held = True  # fetched on entry
        call.yielded.append(chunk)
        call.tells |= isinstance(chunk, dict)
        if call.joined:
            self._begin_step(call)

    def ask(self, call: Stream) -> None:
        """
        The consumer asks for the next chunk.
        """
        if call.held:
            call.held = False
            self.got[call.number].append(call.yielded[0])
        else:
            self._begin_step(call)
        self._settle()

    def quit(self, call: Stream, how: str) -> None:
        """
        The consumer wants no more.
        """
        call.how = how
        if self.setup.cleans:
            call.where, call.began = "cleaning", self.now
            call.until = self.now + self.setup.cleaning
        else:
            self._is_left(call)
        self._settle()

    def has_cleaned(self, call: Stream) -> None:
        self._is_left(call)
        self._settle()

    def cancel(self, call: Call) -> None:
        assert isinstance(call, Stream)
        if self._answers_for(call) is not None or call.joined or not call.is_inside:
            super().cancel(call)
            return
        if call.where == "cleaning":  # the stream has ended by his leaving
            call.how = "cancelled"
            self._is_left(call)
        else:
            in_step = call.where == "running"
            hung = in_step and self._in_step(call) >= self._hang_after(call) - ROUNDED
            self._vote(call, "failure" if hung else self._verdict_of_leaving(call))
            self._give_back(call, ran=True)
            self._over(call, Answer(kind="cancelled", source=call.tool))
        self._settle()

    # --- how it ends -----------------------------------------------------------------------

    def _verdict_of_leaving(self, call: Stream) -> str:
        """
        A probe that has answered is well. Of others nobody knows how they would have ended,
        but where they have told of an error.
        """
        if call.tells:
            return "failure"
        is_probe = call.permit is not None and call.permit.token
        return "success" if is_probe and call.opened else "none"

    def _is_left(self, call: Stream) -> None:
        verdict = self._verdict_of_leaving(call)
        self.how[call.number] = call.how
        self._closes(call, verdict, kind="value", ok=verdict != "failure", detail=(None,))

    def _ran(
        self,
        call: Call,
        verdict: str,
        *,
        kind: str,
        ok: bool = False,
        detail: tuple[object, ...] = (),
    ) -> None:
        assert isinstance(call, Stream)
        if call.opened:
            self._closes(call, verdict, kind=kind, ok=ok, detail=detail)
        else:
            super()._ran(call, verdict, kind=kind, ok=ok, detail=detail)

    def _closes(
        self, call: Stream, verdict: str, *, kind: str, ok: bool, detail: tuple[object, ...]
    ) -> None:
        """
        After its first chunk: nothing is tried again, and nothing else answers.
        """
        answer = self._of_attempt(call, verdict, kind=kind, ok=ok, detail=detail)
        self._give_back(call, ran=True)
        self._over(call, of_all([*call.said, answer]))

    def _over(self, call: Call, answer: Answer) -> None:
        assert isinstance(call, Stream)
        parent = call.parent
        if isinstance(parent, Stream) and call.opened and answer.kind != "cancelled":
            call.where, call.answer = "over", answer
            self._over(parent, answer)
            return
        super()._over(call, answer)
        if parent is None:
            self._goes_on(call, answer)

    def _goes_on(self, call: Stream, answer: Answer) -> None:
        """
        Its consumer does, who knows how it has ended.
        """
        number = call.number
        if answer.kind == "cancelled":
            self.how.setdefault(number, "cancelled")
        elif call.joined:
            self.how[number] = "ended"
        else:
            ways = {"value": "ended"}
            self.how.setdefault(number, ways.get(answer.kind, "raised"))
            if answer.detail == ("made",):
                self.got[number].append("made")

    # --- where all of them stand ------------------------------------------------------------

    def _situation_of(self, call: Call) -> tuple[object, ...]:
        assert isinstance(call, Stream)
        if call.where == "over":
            return super()._situation_of(call)
        return (
            *super()._situation_of(call),
            *(call.joined, call.tells, call.opened, call.held, call.how),
            bool(call.yielded),
            round(call.spent, 6),
            round(call.whole - self.now, 6),
            round(call.step_until - self.now, 6),
        )


def name_of(call: Stream, number: int) -> str:
    """
    A chunk's, of which there is no second one.
    """
    return chunk_name(call.number, call.attempt, number)


def chunk_name(who: int, attempt: int, number: int) -> str:
    return f"{who}.{attempt}.{number} "


def value_of(call: Stream) -> object:
    """
    What a result has: the chunks where they were joined, and else none of them.
    """
    if call.opened:
        return None
    if any(isinstance(chunk, dict) for chunk in call.yielded):
        return list(call.yielded)
    return "".join(map(str, call.yielded))
