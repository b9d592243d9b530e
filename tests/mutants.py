"""
Mutants of the core: what the tests would not notice.

    python -m tests.mutants breaker            # or circuit, keyed, waiting, ...; or all
    python -m tests.mutants breaker --every 4  # each fourth of them

cosmic-ray says how: one place of a module is changed at a time, in a copy of the tree, and
that module's tests are run. Those that the tests do not notice must stand in
``mutants.toml``, each with the reason why it changes nothing. The exit status is 1 if
another one survives, if one in the list does not, or if fewer than 95 in 100 are noticed
(of a module with so many that this says something).

cosmic-ray's own runner starts Python and pytest for each of them, which takes three times
as long as the breaker's tests. Here both are there once, and each mutant is a fork.

Not made: mutants of ``|``, which stands in annotations alone, of the ``*`` in a signature,
which is no operator, and ``==`` for ``is`` (and ``!=`` for ``is not``), which is the same
for ``None``, for members of an enum and for objects that do not say what they are equal to.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import io
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT: Final = Path(__file__).parents[1]
LISTED: Final = Path(__file__).with_name("mutants.toml")
LEAST: Final = 0.95
FEW: Final = 20
TESTS: Final = {
    "breaker": "breaker breaker_parts breaker_fleet",
    "circuit": "circuit by_hand rates keys probe events misuse reload waiting snapshot "
    "interrupts sharing",
    "outcome": "outcome public throttle",
    "orchestrator": "short_path misuse events policy dispatch_all registry public circuit "
    "rates keys offered reload by_hand draining waiting gates retry conversation dispatch "
    "cancellation fallback completed stream",
    "window": "window",
    "keyed": "keyed keys",
    "waiting": "waiting",
    "draining": "draining",
    "snapshot": "snapshot",
    "throttle": "throttle pauses",
    "retry": "retry total_timeout public",
    "limits": "limits",
    "rate": "rate gates",
    "gates": "gates limits total_timeout stream",
    "around": "guard fallback retry gates total_timeout conversation stream",
    "known": "known",
    "conversation": "conversation_rules",
    "chat": "conversation stream completed",
    "cut": "cut",
    "turn": "turn dispatch_all completed",
    "marks": "marks",
    "completed": "completed",
    "steps": "stream",
    "streams": "stream",
    "stack": "stack",
    "execution": "short_path stack guarding dispatch short_path_fuzz",
    "shared": "shared sharing",
    "sharing": "sharing sharing_threads",
    "hands": "hands sharing",
    "line": "sharing sharing_threads",
    "renewals": "renewals sharing",
    "questions": "sharing sharing_threads",
    "patience": "patience",
    "checked_session": "checked_session sharing",
    "reports": "sharing",
}
# The others of such a module hold together what other modules' tests look at.
FUNCTIONS: Final = {
    "execution": ("short", "_bound", "is_late", "text_of_success", "seen_in"),
}
LEFT_OUT: Final = re.compile(
    "core/(ReplaceBinaryOperator_BitOr_.*|ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq))"
)
STAR: Final = re.compile(r"(^|[(,]) ?([+%@&|^-]|//?|\*\*|<<|>>) ?,")
COPIED: Final = ("orchestrator_async", "tests", "examples", "benchmarks", "docs")
WARM: Final = ("anyio", "hypothesis.strategies", "pydantic")
# Of the processor, which others may have; the longest test takes some four of them.
SECONDS_A_TEST: Final = 15
FAILED: Final = re.compile(r"^FAILED (\S+?::.*?)(?: - .*)?$", re.MULTILINE)
NOT_RUN: Final = (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)


class Mutant(NamedTuple):
    """
    One change, by the lines that it changes.
    """

    module: str
    operator: str
    before: str
    after: str


class Outcome(NamedTuple):
    """
    How the tests ended: their exit status, or ``None`` if they had to be ended.
    """

    status: int | None
    seconds: float


# Making them


def mutants(module: str, source: str) -> Iterator[tuple[Mutant, str]]:
    """
    Every mutant of a module, or of those of its functions that are named, with its text.
    """
    tree = get_ast(source)
    lines = looked_at(module, source)
    for name in operator_names():
        make = get_operator(name)
        if make.arguments() or LEFT_OUT.fullmatch(name):
            continue
        operator = make()
        places = [
            start[0]
            for node in ast_nodes(tree)
            for start, _ in operator.mutation_positions(node)
        ]
        for place, line in enumerate(places):
            if line not in lines:
                continue
            try:
                text = mutate_code(source, operator, place)
            except AttributeError:  # cosmic-ray cannot replace an exception with a dot
                continue
            before, after = changed(source, text)
            if not ("*," in before and STAR.search(after)):
                yield Mutant(module, name.removeprefix("core/"), before, after), text


def looked_at(module: str, source: str) -> Container[int]:
    """
    The lines of a module that are changed.
    """
    if module not in FUNCTIONS:
        return range(source.count("\n") + 2)
    found = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name in FUNCTIONS[module]
    ]
    return {line for lines in found for line in lines}


def changed(source: str, text: str) -> tuple[str, str]:
    """
    The lines that differ, before and after.
    """
    lines = list(difflib.unified_diff(source.splitlines(), text.splitlines(), n=0))[2:]
    before, after = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign))
        for sign in "-+"
    )
    return before, after


def listed(module: str) -> Counter[Mutant]:
    """
    The mutants that are known to change nothing.
    """
    known = tomllib.loads(LISTED.read_text(encoding="utf-8"))["survivor"]
    return Counter(
        Mutant(module, operator, entry["before"], entry["after"])
        for entry in known
        if entry["module"] == module
        for operator in entry["operators"]
    )


# Running the tests against them


class Quickly:
    """
    First the tests that noticed the last mutants, which were of lines nearby; then those
    on asyncio, as one loop finds most of what is to be found. Tests of the tests' own
    models are not run, what is found is not made smaller, and a test that hangs ends all.
    """

    def __init__(self, first: list[str]) -> None:
        self.rank = {test: rank for rank, test in enumerate(reversed(first), 1)}

    def pytest_sessionstart(self) -> None:
        # Not before: pytest warns of what it cannot rewrite, and warnings are errors here.
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutants",
            parent=settings.get_profile("here"),
            phases=[Phase.explicit, Phase.generate],
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "planted_fault" not in item.name]
        items.sort(
            key=lambda item: (
                -self.rank.get(item.nodeid, 0),
                "trio" in item.name or "uvloop" in item.name,
            )
        )

    def pytest_runtest_logstart(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS_A_TEST)
        signal.alarm(4 * SECONDS_A_TEST)


def move_to(folder: Path) -> None:
    """
    Copy the tree, go on in the copy, and import what all of its tests need.
    """
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy2(file, folder / file.name)
    os.chdir(folder)
    sys.path[0] = os.environ["PYTHONPATH"] = str(folder)
    sys.modules.pop("tests", None)
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["-p", "no:cacheprovider", "tests/conftest.py"])
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # pytest collects all garbage at its end, five times


def run_tests(module: str, output: int, first: list[str]) -> None:
    """
    In a process of its own: run a module's tests until one fails.
    """
    os.setsid()
    for stream in (1, 2):
        os.dup2(output, stream)
    files = [f"tests/test_{name}.py" for name in TESTS[module].split()]
    options = ["-x", "-q", "--tb=short", "--assert=plain", "-p", "no:cacheprovider"]
    sys.exit(int(pytest.main([*options, *files], plugins=[Quickly(first)])))


def outcome(
    module: str, limit: float | None = None, first: list[str] | None = None
) -> Outcome:
    """
    How the tests of a module end, as it stands in the copy. The test that notices goes to
    the front of ``first``.
    """
    first = [] if first is None else first
    began = time.monotonic()
    with open("output.txt", "wb") as output:
        child = multiprocessing.get_context("fork").Process(
            target=run_tests, args=(module, output.fileno(), first), daemon=True
        )
        child.start()
    child.join(limit)
    status = child.exitcode
    if status is None and child.pid is not None:
        os.killpg(child.pid, signal.SIGKILL)
        child.join()
    if status in NOT_RUN:
        raise SystemExit(f"no tests were run:\n{Path('output.txt').read_text()}")
    if found := FAILED.search(Path("output.txt").read_text(errors="replace")):
        test = found[1]
        first[:] = [test, *(each for each in first if each != test)]
    return Outcome(status, time.monotonic() - began)


def survivors(module: str, every: int) -> Iterator[tuple[Mutant, bool]]:
    """
    Every mutant of a module, or one in so many, and whether it survives.
    """
    file = Path("orchestrator_async", f"_{module}.py")
    source = file.read_text(encoding="utf-8")
    # The first run leaves byte code behind. That of a mutant could be taken for the next's.
    sys.dont_write_bytecode = False
    well = outcome(module)
    if well.status != 0:
        raise SystemExit(f"the tests fail as it is:\n{Path('output.txt').read_text()}")
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        file.write_text("")
        if outcome(module).status == 0:
            raise SystemExit(f"the tests do not look at the copy of {file.name}")
        first: list[str] = []
        for mutant, text in itertools.islice(mutants(module, source), 0, None, every):
            file.write_text(text, encoding="utf-8")
            ended = outcome(module, 10 + 4 * well.seconds, first)
            yield mutant, ended.status == 0
    finally:
        file.write_text(source, encoding="utf-8")


def check(module: str, every: int) -> bool:
    """
    Run a module's mutants; whether all is as it should be.
    """
    began = time.monotonic()
    known, seen, alive = listed(module), 0, Counter[Mutant]()
    for mutant, survives in survivors(module, every):
        seen += 1
        alive[mutant] += survives
        if survives and alive[mutant] > known[mutant]:
            print(f"  SURVIVES: {mutant.operator}")
            print(f"    - {mutant.before}\n    + {mutant.after}", flush=True)
    unknown = alive - known
    stale = known - alive if every == 1 else Counter[Mutant]()
    for mutant in stale:
        print(f"  LISTED, and noticed: {mutant.operator}: {mutant.after}")
    noticed = 1 - alive.total() / seen
    print(
        f"_{module}.py: {seen} mutants, {alive.total()} survive, {noticed:.1%} noticed, "
        f"in {time.monotonic() - began:.0f} s"
    )
    return not unknown and not stale and (noticed >= LEAST or seen < FEW)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the tests against mutants.")
    parser.add_argument("modules", nargs="*", choices=[*TESTS, "all"], default="all")
    parser.add_argument("--every", type=int, default=1, help="only one in so many")
    chosen = parser.parse_args()
    names = list(TESTS) if "all" in chosen.modules else chosen.modules
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        move_to(Path(folder))
        results = [check(name, chosen.every) for name in names]
    sys.exit(0 if all(results) else 1)
