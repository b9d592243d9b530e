"""
What the tests of stores say again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio

from orchestrator_async import CircuitState
from orchestrator_async.stores import (
    NOTHING_KNOWN,
    Answer,
    Claim,
    Count,
    Isolate,
    Move,
    Renew,
    Run,
    SharedState,
    StoreSession,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

REAL_LOOPS = ["asyncio in real time", "asyncio+uvloop", "trio in real time"]

LONG = 60.0  # seconds that are not over while a test runs
SHORT = 0.02  # seconds that a test waits for
NEAR = 20.0  # seconds by which a time may be off where a loaded machine tells it


class Listener:
    """
    What is called with each change that a session hears of.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[str, SharedState]] = []
        self._news = anyio.Event()

    def __call__(self, circuit: str, state: SharedState) -> None:
        self.heard.append((circuit, state))
        self._news.set()

    async def hears(self, number: int) -> list[tuple[str, SharedState]]:
        """
        The first so many changes, as soon as they have come.
        """
        await self.until(lambda: len(self.heard) >= number)
        return self.heard[:number]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """
        Return when something is so after a change that was heard.
        """
        with anyio.fail_after(30):
            while not is_so():
                self._news = anyio.Event()
                await self._news.wait()


def opened(length: float = LONG, **fields: Any) -> SharedState:
    """
    A circuit that has just been opened.
    """
    usual: dict[str, Any] = {"state": OPEN, "rest": length, "length": length}
    return SharedState(**usual | fields)


def half_open(rest: float = LONG, **fields: Any) -> SharedState:
    usual: dict[str, Any] = {"state": HALF_OPEN, "rest": rest, "length": LONG}
    return SharedState(**usual | fields)


def claim(known: SharedState, token: str = "mine", lease: float = LONG) -> Claim:
    return Claim(known=known, token=token, lease=lease)


def renew(known: SharedState, token: str = "mine", lease: float = LONG) -> Renew:
    return Renew(known=known, token=token, lease=lease)


def run(known: SharedState = NOTHING_KNOWN, **fields: Any) -> Run:
    """
    A failure that one process has seen, where three of two processes open the circuit.
    """
    usual: dict[str, Any] = {
        "process": "one",
        "failures": 1,
        "threshold": 3,
        "processes": 2,
        "lasts": LONG,
        "to": opened(),
    }
    return Run(known=known, **usual | fields)


def calls(known: SharedState = NOTHING_KNOWN, **fields: Any) -> Count:
    """
    A call, where half of ten in a minute must fail, in the last hundred as well.
    """
    usual: dict[str, Any] = {
        "calls": 1,
        "failures": 0,
        "slow": 0,
        "window_calls": 0,
        "window_seconds": 600.0,
        "minimum_calls": 10,
        "failure_rate": 0.5,
        "slow_rate": float("inf"),
        "to": opened(),
    }
    return Count(known=known, **usual | fields)


def isolate(known: SharedState = NOTHING_KNOWN, **fields: Any) -> Isolate:
    return Isolate(known=known, **fields)


async def moved(
    session: StoreSession, circuit: str, to: SharedState, known: SharedState = NOTHING_KNOWN
) -> SharedState:
    """
    A circuit that has been moved by hand.
    """
    answer = await session.change(circuit, Move(known=known, to=to, force=True))
    assert answer.done
    return answer.state


async def probed(
    session: StoreSession, circuit: str, token: str = "mine", lease: float = LONG
) -> SharedState:
    """
    A circuit that was open, and is being probed.
    """
    known = await moved(session, circuit, opened(0.0))
    answer = await session.change(circuit, claim(known, token, lease))
    assert answer.done
    return answer.state


async def state_of(session: StoreSession, circuit: str) -> SharedState | None:
    [state] = await session.read([circuit])
    return state


async def pass_by(seconds: float = SHORT) -> None:
    """
    Let so many seconds go by on any clock of whole milliseconds.
    """
    await anyio.sleep(seconds + 0.005)


def without_rest(state: SharedState | None) -> SharedState | None:
    """
    The same without what runs down.
    """
    return None if state is None else replace(state, rest=0.0)


def is_like(answer: Answer, done: bool, state: SharedState) -> bool:
    """
    Whether an answer says this, but for the generation and the rest.
    """
    plain = replace(answer.state, generation=state.generation, rest=state.rest)
    return answer.done is done and plain == state
