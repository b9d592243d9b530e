"""
The guide to fleets: what it shows runs as shown, an engine lets that user in whom it names, and
its tables are what there is.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from benchmarks.fleet.chain import median_calls
from benchmarks.fleet.false_trips import shown
from benchmarks.fleet.rules import RULES
from benchmarks.fleet.scripts import KINDS
from orchestrator_async import FleetPolicy
from orchestrator_async.stores.redis import RedisStore
from tests.clock import real_time

from .engine import Engine
from .parts import Listener, isolate

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
ADDRESS = "redis://127.0.0.1:6379"


def block(kind: str, number: int = 0) -> str:
    """
    The text of a block that is fenced as such.
    """
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)[number]


def rows_below(heading: str) -> list[list[str]]:
    """
    The cells of the first table whose head begins like this.
    """
    table = GUIDE[GUIDE.index(heading) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def names_in(rows: list[list[str]]) -> set[str]:
    return {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_the_guide_shows_prints_what_it_says(own_engine: Engine, backend: str) -> None:
    code = block("python").replace(ADDRESS, own_engine.url)
    code = code.replace("run(main)", f"run(main, backend={backend!r})")
    assert own_engine.url in code
    assert backend in code
    ran = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            code,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert ran.stdout == block("text")


async def ask_everything(url: str) -> Listener:
    """
    All that a process ever asks.
    """
    listener = Listener()
    store = RedisStore(url)
    async with store.session(listener) as session:
        for (ask, _), number in product(KINDS.values(), range(3)):
            await ask(session, number)
        await session.change("held", isolate(add=("me",)))
        await session.ask("word")
        await session.figures()
        await session.leave("process 1")
        await listener.hears(5)
    return listener


@real_time
async def test_the_user_whom_the_guide_names_may_do_all_that_is_asked(
    own_engine: Engine,
) -> None:
    command = next(
        text.split()
        for text in re.findall(r"^```text\n(.*?)^```$", GUIDE, re.M | re.S)
        if text.startswith("ACL ")
    )
    own_engine.ask(*command)
    own_engine.ask("CONFIG", "RESETSTAT")
    url = own_engine.url.replace("redis://", "redis://agents:secret@")
    await ask_everything(url)
    refused = own_engine.ask("ACL", "LOG")
    assert isinstance(refused, list)
    objects = [str(each[7]) for each in refused if isinstance(each, list)]
    # The client tells its name, if it may; engines of 7.0 know no such command.
    assert [each for each in objects if not each.startswith("client")] == []
    used = {
        name.removeprefix("cmdstat_").replace("|", " ").split()[0]
        for name in own_engine.info()
        if name.startswith("cmdstat_")
    }
    granted = {word[1:].split("|")[0] for word in command if word.startswith("+")}
    assert granted <= used  # none of them is there for nothing


@real_time
async def test_the_keys_are_those_of_the_guide_and_expire(own_engine: Engine) -> None:
    await ask_everything(own_engine.url)
    patterns = [
        re.escape(re.findall(r"`(.*?)`", row[0])[0])
        .replace(r"\{prefix\}", "orchestrator_async")
        .replace("CIRCUIT", "[A-Za-z0-9_.~%-]+")
        .replace("PROCESS", "[A-Za-z0-9_.~%-]+")
        for row in rows_below("| key |")
    ]
    keys = own_engine.ask("KEYS", "*")
    assert isinstance(keys, list)
    seen = set()
    for key in map(str, keys):
        (pattern,) = [each for each in patterns if re.fullmatch(each, key)]
        seen.add(pattern)
        left = own_engine.ask("TTL", key)
        assert isinstance(left, int)
        assert 0 < left <= 60 * 86_400, key
    assert seen == set(patterns)


def test_all_settings_are_in_the_guide_with_their_defaults() -> None:
    options = set(inspect.signature(RedisStore.__init__).parameters) - {"self"}
    assert names_in(rows_below("| of `RedisStore`")) == options
    fields = {each.name: each.default for each in dataclasses.fields(FleetPolicy)}
    rows = rows_below("| of `FleetPolicy`")
    assert {row[0].strip("`"): float(row[1].split()[0]) for row in rows} == fields


def test_the_false_trips_in_the_guide_are_those_that_are_computed() -> None:
    rows = rows_below("| processes | every failure counts")
    assert [row[0] for row in rows] == ["1", "2", "4", "8", "16", "40", "80", "160"]
    for number, *cells in rows:
        exact = [shown(median_calls(int(number), 0.01, rule)) for rule in RULES]
        assert [cell.strip("*") for cell in cells] == exact
