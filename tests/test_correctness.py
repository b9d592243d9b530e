"""
The scenarios find the faults they are about, in breakers that are wrong by hand, and find
none in a right one, nor in this library.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from benchmarks.bench import Mark, Verdict, judge
from benchmarks.correctness import main, status
from benchmarks.peers import MODULES, OURS, ours
from benchmarks.peers.install import reason, requirements
from benchmarks.scenarios import SCENARIOS
from benchmarks.subject import (
    THRESHOLD,
    Clock,
    IgnoredError,
    NotOfferedError,
    Subject,
    Tool,
    Wanted,
)
from benchmarks.table import Row, as_json, as_text

from .clock import virtual_time


class RefusedError(Exception):
    pass


class Permit:
    def __init__(self, generation: int) -> None:
        self.generation = generation


class Sound:
    """
    A breaker that is right, in the fewest lines, for the wrong ones to be made of.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.clock = Clock()
        self.wanted = wanted
        self.state = "closed"
        self.failures = 0
        self.generation = 0
        self.opened_at = 0.0
        self.probe: Permit | None = None
        self.lease_ends = 0.0

    def is_over(self) -> bool:
        return self.clock.now >= self.opened_at + self.wanted.reset

    def place_is_free(self) -> bool:
        return self.probe is None or self.clock.now >= self.lease_ends

    def is_stale(self, permit: Permit) -> bool:
        return permit.generation != self.generation

    def admit(self) -> Permit:
        if self.state == "open" and self.is_over():
            self.move("half_open")
        if self.state == "open" or (self.state == "half_open" and not self.place_is_free()):
            raise RefusedError
        permit = Permit(self.generation)
        if self.state == "half_open":
            self.probe, self.lease_ends = permit, self.clock.now + self.wanted.reset
        return permit

    def move(self, state: str) -> None:
        self.state, self.failures, self.probe = state, 0, None
        self.generation += 1
        self.opened_at = self.clock.now
        self.tell()

    def tell(self) -> None:
        if self.wanted.listener:
            try:
                self.wanted.listener(self.state)
            except Exception:
                return

    def succeeded(self, permit: Permit) -> None:
        if self.is_stale(permit):
            return
        self.failures = 0
        if self.state == "half_open":
            self.move("closed")

    def failed(self, permit: Permit) -> None:
        if self.is_stale(permit):
            return
        self.failures += 1
        if self.state == "half_open" or self.failures == THRESHOLD:
            self.move("open")

    def ignored(self, permit: Permit) -> None:
        if self.probe is permit:
            self.probe = None

    def cancelled(self, permit: Permit) -> None:
        self.ignored(permit)

    async def call(self, tool: Tool) -> str:
        permit = self.admit()
        try:
            value = await tool()
        except IgnoredError:
            self.ignored(permit)
            raise
        except Exception:
            self.failed(permit)
            raise
        except BaseException:
            self.cancelled(permit)
            raise
        self.succeeded(permit)
        return value


class EveryoneProbes(Sound):
    def place_is_free(self) -> bool:
        return True


class NobodyProbes(Sound):
    def is_over(self) -> bool:
        return False


class NeverOpens(Sound):
    def failed(self, permit: Permit) -> None:
        pass


class KeepsThePlace(Sound):
    """
    Whoever is cancelled takes the probe's place along, and no lease ends.
    """

    def place_is_free(self) -> bool:
        return self.probe is None

    def ignored(self, permit: Permit) -> None:
        pass


class HasNoLease(Sound):
    def place_is_free(self) -> bool:
        return self.probe is None


class GivesBackLate(Sound):
    """
    The place comes back with the end of the lease only.
    """

    def ignored(self, permit: Permit) -> None:
        pass


class CancellationFails(Sound):
    def cancelled(self, permit: Permit) -> None:
        self.failed(permit)


class CancellationSucceeds(Sound):
    def cancelled(self, permit: Permit) -> None:
        self.succeeded(permit)


class IgnoredSucceeds(Sound):
    def ignored(self, permit: Permit) -> None:
        self.succeeded(permit)


class IgnoredFails(Sound):
    def ignored(self, permit: Permit) -> None:
        self.failed(permit)


class Unwilling(Sound):
    """
    Never closes after a probe that gave no verdict.
    """

    spoilt = False

    def ignored(self, permit: Permit) -> None:
        super().ignored(permit)
        self.spoilt = True

    def succeeded(self, permit: Permit) -> None:
        if not self.spoilt:
            super().succeeded(permit)


class HasNoGenerations(Sound):
    def is_stale(self, permit: Permit) -> bool:
        return False


class LateSuccessCloses(HasNoGenerations):
    def succeeded(self, permit: Permit) -> None:
        self.move("closed")


class CountsThoseFromBefore(Sound):
    """
    A call from before it opened has the probe's place.
    """

    inside = 0

    def place_is_free(self) -> bool:
        return self.inside == 0

    async def call(self, tool: Tool) -> str:
        async def counted() -> str:
            self.inside += 1
            try:
                return await tool()
            finally:
                self.inside -= 1

        return await super().call(counted)


class ListenerBreaksCalls(Sound):
    def tell(self) -> None:
        if self.wanted.listener:
            self.wanted.listener(self.state)


class ListenerComesFirst(Sound):
    """
    Told before the state is changed, so that it is not.
    """

    def move(self, state: str) -> None:
        if self.wanted.listener:
            self.wanted.listener(state)
        super().move(state)


class RunsTheToolElsewhere(Sound):
    """
    The tool does not hear that its caller is cancelled.
    """

    async def call(self, tool: Tool) -> str:
        async def elsewhere() -> str:
            return await asyncio.shield(asyncio.ensure_future(tool()))

        return await super().call(elsewhere)


class Mute(Sound):
    """
    Answers nobody.
    """

    async def call(self, tool: Tool) -> str:
        await anyio.sleep_forever()
        raise AssertionError


def maker(kind: type[Sound]) -> Callable[[Wanted], Subject]:
    def make(wanted: Wanted) -> Subject:
        breaker = kind(wanted)

        async def state() -> str:
            return breaker.state

        return Subject(call=breaker.call, state=state, pass_time=breaker.clock.turn)

    return make


RIGHT = Verdict(mark=Mark.RIGHT)


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_sound_breaker_is_right(scenario: str) -> None:
    assert await judge(SCENARIOS[scenario], maker(Sound)) == RIGHT


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_this_library_is_right(scenario: str) -> None:
    assert await judge(SCENARIOS[scenario], ours.make) == RIGHT


BOTH_SUCCESSES = (
    "a late success closed an open circuit; a late success closed a half-open circuit"
)
BOTH_KEPT = (
    "calls from before keep the probe out until they end; "
    "calls from before keep it from closing until they end"
)
BOTH_FAILURES = (
    "late failures opened a half-open circuit; "
    "late failures opened a circuit that had closed again"
)


@pytest.mark.parametrize(
    ("kind", "scenario", "says"),
    [
        (EveryoneProbes, "single probe", "1,000 of 1,000 callers reached the tool"),
        (NobodyProbes, "single probe", "0 of 1,000 callers reached the tool"),
        (NeverOpens, "single probe", "3 failures in a row do not open it"),
        (NobodyProbes, "hung probe", "nobody may probe after the open time"),
        (KeepsThePlace, "cancelled probe", "wedged: nobody may probe in 5 open times"),
        (GivesBackLate, "cancelled probe", "the next probe has to wait"),
        (CancellationFails, "cancelled probe", "taken for a failure: it opened again"),
        (CancellationSucceeds, "cancelled probe", "taken for a success: it closed"),
        (Unwilling, "cancelled probe", "a good probe does not close it afterwards"),
        (HasNoLease, "hung probe", "wedged: nobody else may probe in 5 open times"),
        (HasNoGenerations, "late success", "a late success closed a half-open circuit"),
        (
            LateSuccessCloses,
            "late success",
            BOTH_SUCCESSES,
        ),
        (
            CountsThoseFromBefore,
            "late success",
            "a call from before keeps the probe out until it ends",
        ),
        (
            CountsThoseFromBefore,
            "late failure",
            BOTH_KEPT,
        ),
        (HasNoGenerations, "late failure", BOTH_FAILURES),
        (IgnoredSucceeds, "ignored on a probe", "taken for a success: it closed"),
        (IgnoredFails, "ignored on a probe", "taken for a failure: it opened again"),
        (
            KeepsThePlace,
            "ignored on a probe",
            "wedged: nobody may probe in 5 open times",
        ),
        (ListenerBreaksCalls, "raising listener", "the caller gets the listener's error"),
        (
            ListenerComesFirst,
            "raising listener",
            "the caller gets the listener's error; failures do not open it",
        ),
        (
            CancellationFails,
            "cancelled in closed",
            "taken for failures: 3 cancellations opened it",
        ),
        (
            CancellationSucceeds,
            "cancelled in closed",
            "taken for a success: the failures before it are forgotten",
        ),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else None,
)
async def test_a_fault_is_found(kind: type[Sound], scenario: str, says: str) -> None:
    verdict = await judge(SCENARIOS[scenario], maker(kind))
    assert verdict == Verdict(mark=Mark.FAULT, says=says)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_tool_that_is_not_cancelled_is_found() -> None:
    verdict = await judge(SCENARIOS["cancelled probe"], maker(RunsTheToolElsewhere))
    assert verdict == Verdict(mark=Mark.FAULT, says="the tool was not cancelled")


@virtual_time
async def test_a_breaker_that_never_answers_costs_a_bounded_time() -> None:
    verdict = await judge(SCENARIOS["single probe"], maker(Mute))
    assert verdict == Verdict(mark=Mark.FAULT, says="nobody gets an answer any more")


async def test_what_a_library_does_not_offer_is_no_fault() -> None:
    def make(wanted: Wanted) -> Subject:
        raise NotOfferedError("no listeners")

    verdict = await judge(SCENARIOS["raising listener"], make)
    assert verdict == Verdict(mark=Mark.NOT_OFFERED, says="no listeners")


async def test_a_listener_that_hears_nothing_is_a_broken_adapter() -> None:
    def make(wanted: Wanted) -> Subject:
        return maker(Sound)(Wanted(reset=wanted.reset))

    with pytest.raises(ExceptionGroup) as caught:
        await judge(SCENARIOS["raising listener"], make)
    assert caught.group_contains(AssertionError, match="told of nothing")


# --- the table ------------------------------------------------------------------------


def row_of(verdict: Verdict, name: str = "other") -> Row:
    verdicts = {**dict.fromkeys(SCENARIOS, RIGHT), "hung probe": verdict}
    return Row(name=name, title=name, version="1.2", verdicts=verdicts)


WEDGED = Verdict(mark=Mark.FAULT, says="wedged; for ever")


def test_the_status_goes_by_this_library_alone() -> None:
    assert status([row_of(RIGHT, OURS), row_of(WEDGED)]) == 0
    assert status([row_of(WEDGED, OURS), row_of(RIGHT)]) == 1
    assert status([row_of(Verdict(mark=Mark.NOT_OFFERED), OURS)]) == 1
    assert status([row_of(Verdict(mark=Mark.BROKEN), OURS)]) == 1


def test_the_text_has_a_letter_for_each_fault_and_says_why_a_row_is_empty() -> None:
    gone = Row(name="gone", title="gone", missing="not installed")
    cells = [WEDGED, Verdict(mark=Mark.NOT_OFFERED, says="no listeners")]
    lines = as_text([*map(row_of, cells), gone]).splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["other", *["right"] * 2, "a", "b", *["right"] * 5],
        ["other", *["right"] * 2, "n/a", "c", *["right"] * 5],
        ["gone", "not", "installed"],
    ]
    assert lines[6:9] == ["  a  wedged", "  b  for ever", "  c  no listeners"]
    assert lines[-1].endswith("; other 1.2")


def test_the_record_is_json() -> None:
    told = json.loads(json.dumps(as_json([row_of(WEDGED)])))
    assert told["rows"][0]["verdicts"]["hung probe"] == {
        "mark": "fault",
        "says": "wedged; for ever",
    }


def test_the_program_asks_this_library_on_both_loops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdicts.json"
    assert main(["--only", OURS, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["loop"] for row in rows] == ["asyncio", "trio"]
    for row in rows:
        assert list(row["verdicts"]) == list(SCENARIOS)
        assert {each["mark"] for each in row["verdicts"].values()} == {"right"}
    assert capsys.readouterr().out.count("right") == 2 * len(SCENARIOS)


def test_each_adapter_has_a_requirement_and_a_module() -> None:
    named = {line.partition("==")[0] for line in requirements()}
    assert named == {*MODULES} - {OURS}
    peers = Path(ours.__file__).parent
    adapters = {path.stem for path in peers.glob("with_*.py")} | {"ours"}
    assert adapters == set(MODULES.values())


def test_the_reason_of_a_refusal_fits_a_table() -> None:
    told = (
        "WARNING: something\n"
        "ERROR: Could not find a version that satisfies hyx==9 (from versions: 0.0.1)\n"
        "ERROR: No matching distribution found for hyx==9\n"
    )
    assert reason(told) == ("not installed: Could not find a version that satisfies hyx==9")
    assert reason("Traceback") == "not installed: pip failed"
