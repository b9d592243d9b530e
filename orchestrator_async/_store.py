"""
What a store of shared circuits is asked, and what it answers.

A store keeps the circuits of a fleet of processes, and changes each of them whole: it reads
what it has, decides, writes and tells everybody in one step, on one clock of its own. What
is to be told, and what is made of the answer, is in ``_shared``; the traffic in ``_sharing``.

Everything that a process knows of a circuit is a ``SharedState``. The generation orders
them: of two, the one with the higher generation is the newer, wherever it comes from. Every
change carries what its sender knows, so a store that has lost its data learns it again from
whoever comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ._breaker import CircuitState
from ._errors import OrchestratorError


class StoreError(OrchestratorError):
    """
    The store has not done what it was asked: it was too slow, or it refused.
    """


class StoreDownError(StoreError):
    """
    The store is not there: the connection is refused, say, and nobody answers.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedState:
    """
    A circuit, as a fleet has it.

    Attributes:
        generation: Grows with every change but the end of a lease and its renewal. A new
            one is the store's clock in milliseconds, or one more than the one before it,
            whichever is more: so a store that lost its data never goes backwards. 0 for a
            circuit of which nothing is known.
        state: ``CLOSED``, ``OPEN`` or ``HALF_OPEN``.
        rest: Seconds from the moment of the answer until an open circuit may be probed, or
            until the lease of the probe ends; 0 or less where that has passed.
        length: Seconds for which it was opened.
        failures: Failures in a row.
        reopenings: Probes in a row that have failed.
        successes: Probes in a row that have succeeded, in half-open.
        paused: Whether it is open because it was asked for a pause.
        pauses: Pauses in a row.
        isolations: How many hold it isolated by hand.
    """

    generation: int = 0
    state: CircuitState = CircuitState.CLOSED
    rest: float = 0.0
    length: float = 0.0
    failures: int = 0
    reopenings: int = 0
    successes: int = 0
    paused: bool = False
    pauses: int = 0
    isolations: int = 0


NOTHING_KNOWN = SharedState()


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """
    A change that somebody asks for.

    Attributes:
        known: What the sender knows of the circuit. Where the store has nothing that it can
            read, or something of a lower generation, it goes on from this: with its
            generation, its rest from now on, and, in half-open, with a lease whose token is
            not known: whoever renews it in that generation, or moves the circuit, has it.
            What is more than a day ahead of the store's clock is not believed, wherever it
            comes from: the answer has a lower generation then.
    """

    known: SharedState


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim(Change):
    """
    To be the probe: done if the circuit is open and its time has passed, or half-open
    without a lease in force, and not isolated. It is half-open then, in a new generation.
    Done also if the lease in force has this token: the answer to an ask that was lost. A
    claim that is not done changes nothing.

    Attributes:
        token: Whatever tells this probe from every other.
        lease: Seconds that it may take.
        longest: Seconds that any lease in this fleet may take: of one that has more to go,
            these are left.
    """

    token: str
    lease: float
    longest: float = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Renew(Change):
    """
    To go on being the probe: done if the circuit is half-open in the generation that is
    known, and the last lease has this token, also if it is over. The generation stays.

    Attributes:
        token: That of the claim.
        lease: Seconds from now on.
    """

    token: str
    lease: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Move(Change):
    """
    To another state: done if the generation is the one that is known and, in half-open, the
    token that of the last lease, or none and that lease is over. It has a new generation
    then, and no lease; runs and counts are forgotten unless it stays half-open.

    Attributes:
        to: The state; its generation and isolations do not matter, and in half-open its
            rest does not either: anybody may probe.
        token: That of the claim, or ``None`` for one who is not the probe.
        force: Do it whatever the generation and the token: it is moved by hand.
    """

    to: SharedState
    token: str | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(Change):
    """
    The failures in a row that a process has seen now, in the place of what it said before;
    0 ends its run. Nothing is changed by one that knows an older generation.

    Done if that opens the circuit: it is closed and not isolated, at least ``processes``
    have a run, and all runs together are at least ``threshold``.

    Attributes:
        process: Whose run it is.
        failures: How many.
        threshold: Failures in a row that open the circuit.
        processes: How many processes must have a run.
        lasts: Seconds for which a run counts if nothing more is said of it.
        to: The state that it opens to; its failures are those of all runs together.
    """

    process: str
    failures: int
    threshold: int
    processes: int
    lasts: float
    to: SharedState


@dataclass(frozen=True, kw_only=True, slots=True)
class Count(Change):
    """
    Calls that a process has seen since it said so last. Nothing is changed by one that
    knows an older generation.

    Done if that opens the circuit: it is closed and not isolated, and in a window there are
    enough calls of which too many failed, and some of these ones did; or too many were
    slow, and some of these were.

    A store keeps the calls of all processes by the time at which it was told of them, in
    buckets: those of a tenth of ``window_seconds``, or of a second where there is no such
    window. The time window holds the last ten buckets, the one that is being filled
    included. The count window holds as many of the last buckets as together have
    ``window_calls`` calls, or all of the last sixty.

    Attributes:
        calls: How many, at least 1.
        failures: How many of them failed.
        slow: How many of them were slow.
        window_calls: Calls in the count window; 0 for no such window.
        window_seconds: Seconds in the time window; 0 for no such window.
        minimum_calls: Calls that a window must hold; for the count window at most
            ``window_calls``.
        failure_rate: The share of failures, from which on it opens; infinite for none.
        slow_rate: The share of slow calls, from which on it opens; infinite for none.
        to: The state that it opens to.
    """

    calls: int
    failures: int
    slow: int
    window_calls: int
    window_seconds: float
    minimum_calls: int
    failure_rate: float
    slow_rate: float
    to: SharedState


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolate(Change):
    """
    By hand, always done: whoever holds an isolation has a token. In a new generation, if
    that makes the number of isolations another one.

    Attributes:
        add: Tokens of isolations that begin.
        remove: Tokens of isolations that end, or ``None`` for all that there were before.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] | None = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """
    What came of a change.

    Attributes:
        done: Whether it was done.
        state: The circuit as it is now, in every case.
    """

    done: bool
    state: SharedState


class StoreSession(Protocol):
    """
    A connection to a store. Its methods are called in tasks of the orchestrator's own,
    several at one time, and are cancelled only when the session is to end.

    Every method raises ``StoreDownError`` where the store is known not to be there, and may
    raise whatever else it likes: the change may have been made then, or may still be.
    """

    async def read(self, circuits: Sequence[str]) -> Sequence[SharedState | None]:
        """
        What there is of these circuits, in their order; ``None`` for one of which there is
        nothing that can be read.
        """
        ...

    async def change(self, circuit: str, change: Change) -> Answer:
        """
        Make a change, whole and at one moment, and tell everybody who listens, unless it is
        none or only of a lease's time, a run, or a count.
        """
        ...

    async def beat(self, process: str, figures: Mapping[str, str]) -> int:
        """
        Say that a process is alive, with what has changed of its figures: text, by the
        names of tools; none for those that are gone. The answer is how many processes have
        said so in the last 10 s, this one included.
        """
        ...

    async def ask(self, word: str) -> None:
        """
        Ask all processes for their figures, this one included.
        """
        ...

    async def figures(self) -> Mapping[str, Mapping[str, str]]:
        """
        What the processes that are alive have said of their figures, by process and tool.
        It may be nothing.
        """
        ...

    async def is_down(self) -> bool:
        """
        Whether it is known that nobody is there. Asked where an answer is late, and to be
        told within half a second.
        """
        ...

    async def leave(self, process: str) -> None:
        """
        Say that a process is no longer there.
        """
        ...


class Store(Protocol):
    """
    Where processes share their circuits.

    Nothing that it is given is secret: names of tools, digests of keys, states, times and
    figures. What it answers is taken for what anybody could have written.
    """

    def session(
        self,
        heard: Callable[[str, SharedState], object],
        asked: Callable[[str], object] | None = None,
    ) -> AbstractAsyncContextManager[StoreSession]:
        """
        A connection, for as long as the ``async with`` lasts. It comes back by itself where
        it is lost.

        Args:
            heard: To be called, in the loop, with the circuit and its state for each change
                that anybody has made, this session included. Some may be lost.
            asked: To be called with the word when somebody asks for figures, likewise.

        Raises:
            StoreDownError: Nobody answers.
        """
        ...
