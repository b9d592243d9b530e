"""
The same changes, played at random on the store in memory and on one in an engine, have the
same answers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_async.stores import (
    NOTHING_KNOWN,
    Answer,
    Change,
    Claim,
    Count,
    Isolate,
    MemoryStore,
    Move,
    Renew,
    Run,
    SharedState,
    StoreSession,
)
from orchestrator_async.stores.redis import RedisStore

from .engine import Engine
from .parts import CLOSED, HALF_OPEN, NEAR, OPEN, without_rest

_NUMBERS = itertools.count()

# Times are over at once or not while a test runs, and no bucket of calls ends meanwhile: the
# two clocks are not the same to the millisecond.
TIMES = st.sampled_from([0.0, 600.0])
TOKENS = st.sampled_from(["a", "b", "c"])
SMALL = st.integers(0, 4)

STATES = st.builds(
    SharedState,
    state=st.sampled_from([CLOSED, OPEN, HALF_OPEN]),
    rest=TIMES,
    length=TIMES,
    failures=SMALL,
    reopenings=SMALL,
    successes=SMALL,
    paused=st.booleans(),
    pauses=SMALL,
    isolations=st.integers(0, 2),
)


@dataclass(frozen=True)
class Known:
    """
    What a sender knows: an answer from so many answers ago, of a generation that is
    higher by some; or what it makes up.
    """

    ago: int
    higher: int
    made_up: SharedState | None

    def of(self, answers: list[SharedState]) -> SharedState:
        state = answers[max(len(answers) - self.ago, 0)]
        if self.made_up is not None:
            state = replace(self.made_up, generation=state.generation)
        return replace(state, generation=max(state.generation + self.higher, 0))


KNOWN = st.builds(
    Known,
    ago=st.sampled_from([1, 1, 1, 1, 2, 3]),
    higher=st.sampled_from([0, 0, 0, 0, 0, -1, 10_000]),
    made_up=st.one_of(st.none(), st.none(), st.none(), STATES),
)


def fields(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(strategies)


CHANGES: st.SearchStrategy[tuple[type[Change], dict[str, Any]]] = st.one_of(
    st.tuples(st.just(Claim), fields(token=TOKENS, lease=TIMES)),
    st.tuples(st.just(Renew), fields(token=TOKENS, lease=TIMES)),
    st.tuples(
        st.just(Move),
        fields(to=STATES, token=st.one_of(st.none(), TOKENS), force=st.booleans()),
    ),
    st.tuples(
        st.just(Run),
        fields(
            process=TOKENS,
            failures=SMALL,
            threshold=st.integers(2, 5),
            processes=st.integers(1, 3),
            lasts=TIMES,
            to=STATES,
        ),
    ),
    st.tuples(
        st.just(Count),
        fields(
            calls=st.integers(4, 9),
            failures=SMALL,
            slow=SMALL,
            window_calls=st.sampled_from([0, 10, 20]),
            window_seconds=st.sampled_from([1e6, 2e6]),
            minimum_calls=st.integers(5, 30),
            failure_rate=st.sampled_from([0.25, 0.5, float("inf")]),
            slow_rate=st.sampled_from([0.25, 1 / 3, float("inf")]),
            to=STATES,
        ),
    ),
    st.tuples(
        st.just(Isolate),
        fields(
            add=st.lists(TOKENS, max_size=2).map(tuple),
            remove=st.one_of(st.none(), st.lists(TOKENS, max_size=2).map(tuple)),
        ),
    ),
)

STEPS = st.lists(st.tuples(KNOWN, CHANGES), min_size=1, max_size=25)


@dataclass
class Player:
    """
    One store, and what it has answered.
    """

    session: StoreSession
    circuit: str
    answers: list[SharedState] = field(default_factory=lambda: [NOTHING_KNOWN])

    async def play(
        self, known: Known, kind: type[Change], fields: dict[str, Any]
    ) -> tuple[Answer, SharedState | None, bool]:
        """
        Make a change: the answer, what can be read then, and whether a generation began.
        """
        sender = known.of(self.answers)
        answer = await self.session.change(self.circuit, kind(known=sender, **fields))
        [read] = await self.session.read([self.circuit])
        before = max(self.answers[-1].generation, sender.generation)
        self.answers.append(answer.state)
        return answer, read, answer.state.generation > before


def plain(state: SharedState | None) -> SharedState | None:
    """
    What of a state is the same in both stores.
    """
    return None if state is None else replace(state, generation=0, rest=0.0)


def is_same(one: SharedState | None, other: SharedState | None) -> bool:
    if one is None or other is None:
        return one is other
    return plain(one) == plain(other) and abs(one.rest - other.rest) < NEAR


async def play_both(engine: Engine, steps: list[Any]) -> None:
    memory = MemoryStore()
    redis = RedisStore(engine.url, prefix=f"alike-{next(_NUMBERS)}")

    def nobody(_: str, __: SharedState) -> None: ...

    async with memory.session(nobody) as one, redis.session(nobody) as other:
        players = Player(one, "x"), Player(other, "x")
        for known, (kind, fields) in steps:
            in_memory, in_engine = [
                await player.play(known, kind, fields) for player in players
            ]
            said = f"{kind.__name__} {fields} {known}:\n{in_memory}\n{in_engine}"
            assert in_memory[0].done == in_engine[0].done, said
            assert is_same(in_memory[0].state, in_engine[0].state), said
            assert is_same(in_memory[1], in_engine[1]), said
            assert in_memory[2] == in_engine[2], said


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=150)
@given(steps=STEPS)
def test_both_answer_alike(shared_engine: Engine, backend: str, steps: list[Any]) -> None:
    anyio.run(play_both, shared_engine, steps, backend=backend)


@settings(max_examples=60)
@given(steps=STEPS)
def test_what_is_read_is_what_was_answered_last(
    shared_engine: Engine, steps: list[Any]
) -> None:
    """
    But for a claim that was not done, which tells of what its sender knows.
    """

    async def play() -> None:
        store = RedisStore(shared_engine.url, prefix=f"read-{next(_NUMBERS)}")
        async with store.session(lambda _, __: None) as session:
            player = Player(session, "x")
            for known, (kind, fields) in steps:
                answer, read, _ = await player.play(known, kind, fields)
                if read is not None and (kind is not Claim or answer.done):
                    assert without_rest(read) == without_rest(answer.state)

    anyio.run(play)
