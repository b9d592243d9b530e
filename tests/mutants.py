"""
Mutants of the core: what the tests would not notice.

    python -m tests.mutants breaker            # or circuit, outcome, orchestrator; or all

cosmic-ray changes one place of a module at a time, in a copy of the tree, and runs that
module's tests. Those that the tests do not notice must stand in ``mutants.toml``, each with
the reason why it changes nothing. The exit status is 1 if another one survives, if one in
the list does not, or if fewer than 95 in 100 are noticed.

Not made: mutants of ``|``, which stands in annotations alone, and ``==`` for ``is`` (and
``!=`` for ``is not``), which is the same for ``None``, for members of an enum and for
objects that do not say what they are equal to.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
LISTED: Final = Path(__file__).with_name("mutants.toml")
LEAST: Final = 0.95
TESTS: Final = {
    "breaker": "breaker",
    "circuit": "circuit probe events misuse",
    "outcome": "outcome public",
    "orchestrator": "short_path misuse events policy dispatch_all registry public circuit "
    "dispatch cancellation",
}
LEFT_OUT: Final = [
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
]
COPIED: Final = ("orchestrator_async", "tests", "examples", "benchmarks", "docs")


class Mutant(NamedTuple):
    """
    One change, by the lines that it changes.
    """

    module: str
    operator: str
    before: str
    after: str


def config(module: str, seconds: float) -> str:
    """
    What cosmic-ray is told: the tests on one loop first, which finds most.
    """
    files = " ".join(f"tests/test_{name}.py" for name in TESTS[module].split())
    pytest = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {files}"
    first = f"{pytest} -k 'not trio and not uvloop'"
    command = json.dumps(f"bash -c {json.dumps(f'{first} && {pytest}')}")
    return f"""
[cosmic-ray]
module-path = "orchestrator_async/_{module}.py"
timeout = {seconds}
excluded-modules = []
test-command = {command}
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = {json.dumps(LEFT_OUT)}
"""


def run(folder: Path, *command: str) -> str:
    """
    Run one of cosmic-ray's programs.
    """
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def session(module: str, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """
    Make all mutants of a module and run its tests against each.
    """
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)
    (folder / "cr.toml").write_text(config(module, seconds), encoding="utf-8")
    run(folder, "cosmic-ray", "baseline", "cr.toml")
    run(folder, "cosmic-ray", "init", "cr.toml", "cr.sqlite")
    run(folder, "cr-filter-operators", "cr.sqlite", "cr.toml")
    run(folder, "cosmic-ray", "exec", "cr.toml", "cr.sqlite")
    return list(outcomes(run(folder, "cosmic-ray", "dump", "cr.sqlite")))


def outcomes(dumped: str) -> Iterator[dict[str, Any]]:
    """
    One record a mutant that was made.
    """
    for line in dumped.splitlines():
        work, result = json.loads(line)
        if result is None:
            raise SystemExit("not every mutant was run")
        if result["worker_outcome"] != "skipped":
            yield {**work["mutations"][0], **result}


def mutant(module: str, record: dict[str, Any]) -> Mutant:
    """
    What a record is about.
    """
    lines = (record["diff"] or "").splitlines()
    before, after = (
        " ".join(
            line[1:].strip()
            for line in lines
            if line.startswith(sign) and not line.startswith(sign * 3)
        )
        for sign in "-+"
    )
    return Mutant(module, record["operator_name"].removeprefix("core/"), before, after)


def listed(module: str) -> dict[Mutant, str]:
    """
    The mutants that are known to change nothing, with the reasons.
    """
    known = tomllib.loads(LISTED.read_text(encoding="utf-8"))["survivor"]
    found = {}
    for entry in known:
        if entry["module"] == module:
            for operator in entry["operators"]:
                key = Mutant(module, operator, entry["before"], entry["after"])
                found[key] = entry["reason"]
    return found


def check(module: str, seconds: float) -> bool:
    """
    Run a module's mutants; whether all is as it should be.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        records = session(module, seconds, Path(folder))
    survivors = [
        mutant(module, record)
        for record in records
        if record["test_outcome"] not in ("killed", "incompetent")
        and record["worker_outcome"] not in ("timeout",)
    ]
    known = listed(module)
    noticed = 1 - len(survivors) / len(records)
    print(
        f"_{module}.py: {len(records)} mutants, {len(survivors)} survive, "
        f"{noticed:.1%} noticed"
    )
    unknown = [each for each in survivors if each not in known]
    stale = [each for each in known if each not in survivors]
    for each in unknown:
        print(f"  SURVIVES: {each.operator}\n    - {each.before}\n    + {each.after}")
    for each in stale:
        print(f"  LISTED, and noticed: {each.operator}: {each.after}")
    return not unknown and not stale and noticed >= LEAST


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the tests against mutants.")
    parser.add_argument("modules", nargs="*", choices=[*TESTS, "all", []], default=["all"])
    parser.add_argument("--seconds", type=float, default=300.0, help="a mutant's limit")
    chosen = parser.parse_args()
    names = list(TESTS) if "all" in chosen.modules else chosen.modules
    results = [check(name, chosen.seconds) for name in names]
    sys.exit(0 if all(results) else 1)
