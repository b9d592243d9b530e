"""
Whatever is in the engine: nothing of it raises, none of it stays for long, and each key is
named once in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async.stores import NOTHING_KNOWN, Answer, Change, Move, SharedState
from orchestrator_async.stores._record import LAST_GENERATION, Record, record_of
from orchestrator_async.stores._redis_text import (
    Keys,
    is_beyond,
    message_from,
    names_from,
    pairs_from,
    quoted,
    record_from,
    reply_from,
    text_of,
    time_from,
    unquoted,
)
from orchestrator_async.stores.redis import RedisStore, _Session

from .engine import Engine
from .parts import (
    CLOSED,
    HALF_OPEN,
    LONG,
    OPEN,
    REAL_LOOPS,
    Listener,
    calls,
    claim,
    half_open,
    isolate,
    moved,
    opened,
    renew,
    run,
    state_of,
)

on_each_loop = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

C = "circuit"
NOW = 1_800_000_000_000

GARBAGE = {
    "empty": "",
    "words": "what is this",
    "no utf-8": b"\xff\xfe\x00",
    "an unknown version": "2:5:o:0:0:0:0:0:0:0:0:",
    "no version": "5:o:0:0:0:0:0:0:0:0:",
    "a generation of 2^63": "1:9223372036854775808:o:0:0:0:0:0:0:0:0:",
    "a negative generation": "1:-5:o:0:0:0:0:0:0:0:0:",
    "nan": "1:nan:o:0:0:0:0:0:0:0:0:",
    "an infinite time": "1:5:o:inf:0:0:0:0:0:0:0:",
    "a float": "1:5:o:1e9:0:0:0:0:0:0:0:",
    "a hexadecimal number": "1:0x5:o:0:0:0:0:0:0:0:0:",
    "digits that are none here": "1:\u0665:o:0:0:0:0:0:0:0:0:",
    "another state": "1:5:x:0:0:0:0:0:0:0:0:",
    "paused twice": "1:5:o:0:0:0:0:0:2:0:0:",
    "a field too few": "1:5:o:0:0:0:0:0:0:0:",
    "a field too many": "1:5:o:0:0:0:0:0:0:0:0:0:",
    "a line too many": "1:5:o:0:0:0:0:0:0:0:0:a:\n",
    "sixteen digits": "1:1000000000000000:o:0:0:0:0:0:0:0:0:",
    "JSON": '{"state": "open"}',
    "a long token": "1:5:o:0:0:0:0:0:0:0:0:" + "x" * 1000,
    "a megabyte": "1" * 1_000_000,
    "a megabyte of fields": "1:" * 500_000,
}


@pytest.fixture
async def store(shared_engine: Engine, prefix: str) -> RedisStore:
    return RedisStore(shared_engine.url, prefix=prefix)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def session(store: RedisStore, listener: Listener) -> AsyncIterator[_Session]:
    async with store.session(listener) as it:
        yield it


@pytest.fixture
def keys(prefix: str) -> list[str]:
    """
    Those of the circuit: its state, runs, counts and hands.
    """
    return Keys(prefix).of(C)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# The state


@on_each_loop
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_a_state_that_cannot_be_read_is_none_and_goes_with_the_next_change(
    shared_engine: Engine,
    session: _Session,
    keys: list[str],
    caplog: pytest.LogCaptureFixture,
    garbage: str | bytes,
) -> None:
    shared_engine.ask("SET", keys[0], garbage)
    known = opened(0.0, generation=5, failures=3)
    answer = await session.change(C, claim(known))
    assert (answer.done, answer.state.state) == (True, HALF_OPEN)
    assert answer.state.failures == 3
    assert await state_of(session, C) is not None
    assert warnings(caplog) == [f"the store holds what cannot be read in {keys[0]}"]


@on_each_loop
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_reading_one_says_so_once_and_takes_it_away(
    shared_engine: Engine,
    session: _Session,
    keys: list[str],
    caplog: pytest.LogCaptureFixture,
    garbage: str | bytes,
) -> None:
    for _ in range(2):
        shared_engine.ask("SET", keys[0], garbage)
        assert await session.read([C, "another"]) == [None, None]
        assert shared_engine.ask("EXISTS", keys[0]) == 0
    [said] = warnings(caplog)
    assert said.startswith(f"the store holds what cannot be read in {keys[0]}: b'")
    assert len(said) < 300


@on_each_loop
async def test_much_of_it_is_taken_away_little_by_little(
    shared_engine: Engine, session: _Session, prefix: str
) -> None:
    names = [f"circuit {number}" for number in range(25)]
    for name in names:
        shared_engine.ask("SET", Keys(prefix).state(name), "x")
    for _ in range(3):
        assert await session.read(names) == [None] * 25
    left = [shared_engine.ask("EXISTS", Keys(prefix).state(name)) for name in names]
    assert left == [0] * 25


OTHER_TYPES: list[Callable[[str], tuple[str, ...]]] = [
    lambda key: ("LPUSH", key, "a"),
    lambda key: ("SADD", key, "a"),
    lambda key: ("ZADD", key, "1", "a"),
    lambda key: ("HSET", key, "a", "b"),
    lambda key: ("SET", key, "a"),
    lambda key: ("XADD", key, "*", "a", "b"),
]

CHANGES: dict[str, Callable[[SharedState], Change]] = {
    "claim": claim,
    "renew": renew,
    "move": lambda known: Move(known=known, to=opened()),
    "force": lambda known: Move(known=known, to=opened(), force=True),
    "run": run,
    "the end of a run": lambda known: run(known, failures=0),
    "calls": calls,
    "isolate": lambda known: isolate(known, add=("a",)),
    "release": lambda known: isolate(known, remove=("a",)),
    "release all": lambda known: isolate(known, remove=None),
}


@on_each_loop
@pytest.mark.parametrize("make", OTHER_TYPES, ids=lambda make: make("")[0])
@pytest.mark.parametrize("kind", CHANGES)
async def test_keys_of_another_type_are_as_if_they_were_not_there(
    shared_engine: Engine,
    session: _Session,
    keys: list[str],
    prefix: str,
    kind: str,
    make: Callable[[str], tuple[str, ...]],
) -> None:
    for key in keys:
        if key != keys[3] or make(key)[0] != "SADD":  # which is what that one is
            shared_engine.ask(*make(key))
    known = opened(0.0, generation=5, failures=3)
    answer = await session.change(C, CHANGES[kind](known))
    fresh = await session.change("fresh", CHANGES[kind](known))
    assert is_same(answer, fresh)
    again = await session.change(C, CHANGES[kind](answer.state))
    fresh = await session.change("fresh", CHANGES[kind](fresh.state))
    assert is_same(again, fresh)


@on_each_loop
@pytest.mark.parametrize(
    ("at", "change"), [(0, run()), (1, run()), (2, calls()), (3, isolate(add=("a",)))]
)
async def test_each_of_them_is_named_once(
    shared_engine: Engine,
    session: _Session,
    keys: list[str],
    caplog: pytest.LogCaptureFixture,
    at: int,
    change: Change,
) -> None:
    for _ in range(2):
        shared_engine.ask("DEL", *keys)
        shared_engine.ask("LPUSH", keys[at], "a")
        await session.change(C, change)
    assert warnings(caplog) == [f"the store holds what cannot be read in {keys[at]}"]


def is_same(one: Answer, other: Answer) -> bool:
    """
    Whether two answers are, but for their times.
    """
    states = [replace(each.state, generation=0, rest=0.0) for each in (one, other)]
    return one.done == other.done and states[0] == states[1]


@on_each_loop
async def test_a_time_in_the_year_9999_is_brought_near_once(
    shared_engine: Engine, session: _Session, keys: list[str], prefix: str
) -> None:
    far = "253402214400000"
    shared_engine.ask("SET", keys[0], f"1:5:o:{far}:60000:3:0:0:0:0:0:")
    state = await state_of(session, C)
    assert state is not None
    assert 0 < state.rest <= 60.0
    first = written(shared_engine, keys[0])
    assert 0 < int(first[3]) - engine_time(shared_engine) <= 60_000
    await state_of(session, C)
    assert written(shared_engine, keys[0]) == first


def engine_time(engine: Engine) -> int:
    now = time_from([str(each).encode() for each in strings(engine.ask("TIME"))])
    assert now is not None
    return now


def written(engine: Engine, key: str) -> list[str]:
    text = engine.ask("GET", key)
    assert isinstance(text, str)
    return text.split(":")


@on_each_loop
@pytest.mark.parametrize("kind", CHANGES)
async def test_by_any_change_as_well(
    shared_engine: Engine, session: _Session, keys: list[str], kind: str
) -> None:
    far = "253402214400000"
    shared_engine.ask("SET", keys[0], f"1:5:o:{far}:{far}:3:0:0:0:0:0:")
    answer = await session.change(C, CHANGES[kind](NOTHING_KNOWN))
    assert answer.state.rest <= answer.state.length <= 31 * 86_400
    after = written(shared_engine, keys[0])
    assert int(after[3]) < int(far)
    assert int(after[4]) < int(far)


@on_each_loop
async def test_a_lease_until_then_is_brought_near_as_well(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    shared_engine.ask("SET", keys[0], "1:5:h:253402214400000:60000:3:0:0:0:0:0:=mine")
    state = await state_of(session, C)
    assert state is not None
    assert 0 < state.rest <= 86_400
    answer = await session.change(C, renew(state, lease=30.0))
    assert answer.done
    assert answer.state.rest <= 30.0


@on_each_loop
async def test_a_closed_one_with_a_time_is_left_alone(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    text = "1:5:c:253402214400000:60000:3:0:0:0:0:0:"
    shared_engine.ask("SET", keys[0], text)
    state = await state_of(session, C)
    assert state == SharedState(generation=5, length=60.0, failures=3)
    assert shared_engine.ask("GET", keys[0]) == text


@on_each_loop
async def test_a_generation_that_no_clock_can_have_is_garbage(
    shared_engine: Engine,
    session: _Session,
    listener: Listener,
    keys: list[str],
    prefix: str,
) -> None:
    for generation in ("9" * 15, str(int((time.time() + 2 * 86_400) * 1000))):
        text = f"1:{generation}:o:1000:1000:3:0:0:0:0:0:"
        shared_engine.ask("PUBLISH", Keys(prefix).channel, f"{C} {text}")
        shared_engine.ask("SET", keys[0], text.replace(":o:1000:", ":o:9999999999999:"))
        assert await state_of(session, C) is None
    state = await moved(session, C, opened())
    assert state.generation <= (time.time() + 1) * 1000
    [(_, heard)] = await listener.hears(1)
    assert heard.generation == state.generation


@on_each_loop
async def test_numbers_as_large_as_may_be_are_still_numbers(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    nines, ahead = "9" * 15, int((time.time() + 3600) * 1000)
    text = f"1:{ahead}:o:{nines}:{nines}:{nines}:{nines}:{nines}:1:{nines}:{nines}:"
    shared_engine.ask("SET", keys[0], text)
    state = await state_of(session, C)
    assert state is not None
    assert state.generation == ahead
    for kind in CHANGES.values():
        answer = await session.change(C, kind(state))
        assert 0 <= answer.state.generation <= LAST_GENERATION
        assert answer.state.rest < 31 * 86_400
    answer = await session.change(C, Move(known=state, to=SharedState(), force=True))
    assert answer.state.state is CLOSED
    assert await state_of(session, C) is not None


# Runs, calls and hands


RUNS = {
    "no number": "x 9999999999999",
    "no time": "5",
    "a negative number": "-5 9999999999999",
    "a time too far away": "5 253402214400000",
    "ten digits": "9999999999 9999999999999",
    "a float": "1e3 9999999999999",
    "empty": "",
    "a megabyte": "9" * 1_000_000,
}


@on_each_loop
@pytest.mark.parametrize("value", RUNS.values(), ids=RUNS)
async def test_a_run_that_is_none_is_removed(
    shared_engine: Engine,
    session: _Session,
    keys: list[str],
    caplog: pytest.LogCaptureFixture,
    value: str,
) -> None:
    assert not (await session.change(C, run(process="mine"))).done
    shared_engine.ask("HSET", keys[1], "=other", value)
    assert not (await session.change(C, run(process="mine", failures=2))).done
    assert set(strings(shared_engine.ask("HKEYS", keys[1]))) == {"g", "=mine"}
    assert warnings(caplog) == [f"the store holds what cannot be read in {keys[1]}"]
    answer = await session.change(C, run(process="other"))
    assert (answer.done, answer.state.failures) == (True, 3)


@on_each_loop
async def test_a_process_with_an_odd_name_has_no_run(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    await session.change(C, run(process="mine"))
    until = engine_time(shared_engine) + 60_000
    shared_engine.ask("HSET", keys[1], "other", f"5 {until}", "", f"5 {until}")
    assert not (await session.change(C, run(process="mine", failures=2))).done
    shared_engine.ask("HSET", keys[1], "=other", f"1 {until}")
    assert (await session.change(C, run(process="mine", failures=2))).done


@on_each_loop
@pytest.mark.parametrize("at", [1, 2])
async def test_a_hash_that_is_far_too_large_is_begun_anew(
    shared_engine: Engine, session: _Session, keys: list[str], at: int
) -> None:
    shared_engine.ask("HSET", keys[at], *map(str, range(25_000)))
    for _ in range(2):
        await session.change(C, run(process="mine"))
        await session.change(C, calls())
    size = shared_engine.ask("HLEN", keys[at])
    assert isinstance(size, int)
    assert size < 5
    assert (await session.change(C, run(process="other", failures=2))).done


@on_each_loop
@pytest.mark.parametrize("of", ["", "x", "5", "-1", "9" * 30])
async def test_runs_and_calls_of_no_generation_are_forgotten(
    shared_engine: Engine, session: _Session, keys: list[str], of: str
) -> None:
    await session.change(C, run(process="mine", failures=2))
    await session.change(C, calls(calls=9, failures=9))
    shared_engine.ask("HSET", keys[1], "g", of)
    shared_engine.ask("HSET", keys[2], "g", of)
    assert not (await session.change(C, run(process="other", failures=2))).done
    assert not (await session.change(C, calls(calls=9, failures=9))).done
    assert (await session.change(C, run(process="mine"))).done


BUCKETS = {
    "no numbers": "x y z",
    "two": "5 5",
    "more failures than calls": "5 6 0",
    "more slow ones than calls": "5 0 6",
    "ten digits": "9999999999 0 0",
    "negative": "-5 -5 -5",
    "empty": "",
}


@on_each_loop
@pytest.mark.parametrize("value", BUCKETS.values(), ids=BUCKETS)
async def test_a_bucket_that_is_none_is_removed(
    shared_engine: Engine,
    session: _Session,
    keys: list[str],
    caplog: pytest.LogCaptureFixture,
    value: str,
) -> None:
    said = calls(calls=4, failures=4, window_seconds=1e6)
    await session.change(C, said)
    [bucket] = [
        each for each in strings(shared_engine.ask("HKEYS", keys[2])) if each not in "gw"
    ]
    before = str(int(bucket) - 1)
    shared_engine.ask("HSET", keys[2], before, value, "no time", "9 9 9")
    assert not (await session.change(C, said)).done
    assert set(strings(shared_engine.ask("HKEYS", keys[2]))) == {"g", "w", bucket}
    assert warnings(caplog) == [f"the store holds what cannot be read in {keys[2]}"]
    assert (await session.change(C, said)).done


def strings(reply: object) -> list[str]:
    assert isinstance(reply, list)
    return [each for each in reply if isinstance(each, str)]


@on_each_loop
async def test_buckets_of_other_times_do_not_count(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    said = calls(calls=1, failures=1, window_seconds=1e6)
    await session.change(C, said)
    [bucket] = [
        each for each in strings(shared_engine.ask("HKEYS", keys[2])) if each not in "gw"
    ]
    for number in (int(bucket) + 1, int(bucket) - 10, int(bucket) - 60, 0):
        shared_engine.ask("HSET", keys[2], number, "99 99 99")
    assert not (await session.change(C, said)).done
    left = set(strings(shared_engine.ask("HKEYS", keys[2])))
    assert left == {"g", "w", bucket, str(int(bucket) - 10)}
    shared_engine.ask("HSET", keys[2], str(int(bucket) - 9), "8 8 8")
    assert (await session.change(C, said)).done


@on_each_loop
async def test_isolations_that_nobody_knows_of_are_none(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    await moved(session, C, opened())
    shared_engine.ask("SADD", keys[3], "x", "y", "z")
    answer = await session.change(C, isolate(add=("a",)))
    assert answer.state.isolations == 1
    answer = await session.change(C, isolate(remove=("a",)))
    assert answer.state.isolations == 0


@on_each_loop
async def test_they_outlive_a_state_that_is_lost(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    await session.change(C, isolate(add=("a", "b")))
    shared_engine.ask("DEL", keys[0])
    answer = await session.change(C, run(opened(0.0, generation=5)))
    assert answer.state.isolations == 2
    assert not (await session.change(C, claim(answer.state))).done
    answer = await session.change(C, isolate(remove=("a", "b")))
    assert answer.state.isolations == 0


# What is told


MESSAGES: list[str | bytes] = [
    "",
    " ",
    "circuit",
    "circuit ",
    "circuit 1:5:x:0:0:0:0:0:0:0:0:",
    "circuit 2:5:o:0:0:0:0:0:0:0:0:",
    "cir cuit 1:5:o:0:0:0:0:0:0:0:0:",
    "cir{}cuit 1:5:o:0:0:0:0:0:0:0:0:",
    "%zz 1:5:o:0:0:0:0:0:0:0:0:",
    "%2d 1:5:o:0:0:0:0:0:0:0:0:",
    "%ff 1:5:o:0:0:0:0:0:0:0:0:",
    "circuit 1:5:o:0:0:0:0:0:0:0:0:\n",
    b"\xff 1:5:o:0:0:0:0:0:0:0:0:",
    b"\x00",
    "x" * 1_000_000,
    "circuit " + "1" * 1_000_000,
]


@on_each_loop
async def test_messages_that_are_none_are_not_heard(
    shared_engine: Engine,
    session: _Session,
    listener: Listener,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = Keys(prefix).channel
    for message in MESSAGES:
        assert shared_engine.ask("PUBLISH", channel, message) == 1
    await moved(session, C, opened())
    [(circuit, _)] = await listener.hears(1)
    assert circuit == C
    assert len(listener.heard) == 1
    [said] = warnings(caplog)
    assert said.startswith(f"the store holds what cannot be read in {channel}: b'")
    assert len(said) < 300


@on_each_loop
async def test_what_is_heard_is_within_bounds(
    shared_engine: Engine, session: _Session, listener: Listener, prefix: str
) -> None:
    nines, ahead = "9" * 15, int((time.time() + 3600) * 1000)
    for state in "coh":
        text = (
            f"1:{ahead}:{state}:{nines}:{nines}:{nines}:{nines}:{nines}:1:{nines}:{nines}:"
        )
        shared_engine.ask("PUBLISH", Keys(prefix).channel, f"circuit {text}")
    closed, opened, half_open = [each for _, each in await listener.hears(3)]
    assert closed.rest == 0.0
    assert opened.rest == opened.length < 31 * 86_400
    assert half_open.rest <= 86_400
    assert [each.state for each in (closed, opened, half_open)] == [
        CLOSED,
        OPEN,
        HALF_OPEN,
    ]
    answer = await session.change(C, Move(known=opened, to=SharedState(), force=True))
    assert 0 < answer.state.generation <= LAST_GENERATION


# Processes


@on_each_loop
@pytest.mark.parametrize("make", OTHER_TYPES, ids=lambda make: make("")[0])
async def test_what_is_no_list_of_processes_is_none(
    shared_engine: Engine,
    session: _Session,
    prefix: str,
    make: Callable[[str], tuple[str, ...]],
) -> None:
    keys = Keys(prefix)
    shared_engine.ask(*make(keys.alive))
    shared_engine.ask(*make(keys.figures("one")))
    shared_engine.ask(*make(keys.figures("two")))
    await session.figures()
    await session.leave("three")
    for key in (keys.alive, keys.figures("one"), keys.figures("two")):
        shared_engine.ask("DEL", key)
        shared_engine.ask(*make(key))
    assert await session.beat("one", {"tool": "1"}) == 1
    assert await session.beat("one", {"tool": "2"}) == 1
    found = dict(await session.figures())
    figures = dict(found["one"])
    figures.pop("a", None)  # a hash is one of figures
    assert figures == {"tool": "2"}
    await session.leave("one")
    await session.leave("two")


@on_each_loop
async def test_processes_of_no_time_are_not_alive(
    shared_engine: Engine, session: _Session, prefix: str
) -> None:
    alive = Keys(prefix).alive
    for score in ("-inf", "inf", "0", "-1", "1e300", "253402214400000"):
        shared_engine.ask("ZADD", alive, score, f"p{score}")
    assert await session.figures() == {}
    assert await session.beat("one", {}) == 1
    assert shared_engine.ask("ZCARD", alive) == 1


@on_each_loop
async def test_names_and_figures_that_are_none_are_left_out(
    shared_engine: Engine, session: _Session, prefix: str
) -> None:
    keys = Keys(prefix)
    await session.beat("one", {"tool": "1"})
    now = str(shared_engine.ask("ZSCORE", keys.alive, "one"))
    names: list[str | bytes] = ["two words", "%zz", "%2d", b"\xff", "x" * 100_000]
    for name in names:
        shared_engine.ask("ZADD", keys.alive, now, name)
    shared_engine.ask("HSET", keys.figures("one"), "two words", "x", b"\xff", "y")
    shared_engine.ask("HSET", keys.figures("one"), "odd", b"\xff\xfe")
    found = await session.figures()
    assert found["one"] == {"tool": "1", "odd": "\ufffd\ufffd"}
    assert set(found) == {"one", "x" * 100_000}


@on_each_loop
async def test_far_too_many_figures_are_none(
    shared_engine: Engine, session: _Session, prefix: str
) -> None:
    await session.beat("one", {})
    shared_engine.ask("HSET", Keys(prefix).figures("one"), *map(str, range(25_000)))
    assert await session.figures() == {"one": {}}


# The same without an engine


def test_a_record_is_read_as_it_was_written() -> None:
    record = record_of(half_open(failures=2, successes=1, paused=True, isolations=3))
    assert record_from(text_of(record).encode()) == record


@given(text=st.one_of(st.binary(max_size=60), st.from_regex(rb"\A1(:[0-9coh-]*){11}\Z")))
def test_no_text_raises(text: bytes) -> None:
    record = record_from(text, NOW)
    assert record is None or isinstance(record, Record)
    if record is not None:
        assert record_of(record.as_state()) == record
        is_beyond(text, record, NOW)
    message_from(text, NOW)
    message_from(b"circuit " + text, NOW)
    unquoted(text)
    time_from([text, text])


@given(
    answer=st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=9)
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=3), inner)
        ),
    )
)
def test_no_answer_raises(answer: object) -> None:
    reply_from(answer)
    reply_from([1, answer, [answer]])
    reply_from([1, b"1:5:o:0:0:0:0:0:0:0:0:", answer])
    record_from(answer)
    message_from(answer, NOW)
    time_from(answer)
    pairs_from(answer)
    names_from(answer)


@given(name=st.text())
def test_a_name_is_the_same_when_it_comes_back(name: str) -> None:
    word = quoted(name)
    assert unquoted(word.encode()) == name
    assert not set(word) & set("{}: \n")


@pytest.mark.parametrize(
    "answer",
    [None, [], [b"1"], [b"x", b"1"], [b"1", b"x"], [1, 2], [b"9" * 5000, b"1"], "12"],
)
def test_a_time_that_is_none(answer: object) -> None:
    assert time_from(answer) is None


def test_a_time_is_in_milliseconds() -> None:
    assert time_from([b"1800000000", b"123999"]) == 1_800_000_000_123


def test_what_is_left_of_a_time_is_not_longer_than_it_was() -> None:
    far = f"1:5:o:{NOW + 10**9}:60000:0:0:0:0:0:0:".encode()
    record = record_from(far, NOW)
    assert record is not None
    assert record.rest == LONG * 1000
    assert is_beyond(far, record, NOW)
    near = f"1:5:o:{NOW + 60_000}:60000:0:0:0:0:0:0:".encode()
    record = record_from(near, NOW)
    assert record is not None
    assert not is_beyond(near, record, NOW)
