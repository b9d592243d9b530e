"""
The circuits of one orchestrator among those of a fleet: all traffic with the store.

It runs in tasks of its own, which no caller can cancel, for as long as the orchestrator is
entered. A caller waits for nothing but a lease to probe, and for that no longer than it is
told to. What a circuit tells the fleet, and makes of what it hears, is in ``_shared``.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from . import _loop
from ._breaker import CircuitState, Refusal
from ._callbacks import is_its_own
from ._checked_session import CheckedSession, is_sound, is_the_stores
from ._circuit import SHARED, Circuit
from ._describe import describe_error
from ._fleet import Fleet
from ._lease import Lease
from ._line import Line
from ._log import logger
from ._patience import Patience
from ._policy import FleetPolicy
from ._questions import Questions
from ._renewals import Renewals
from ._shared import Link
from ._store import Isolate, SharedState, Store, StoreDownError, StoreError

_BEAT: Final = 1.0
"""Seconds from one look at the store to the next."""

_LOST_BEAT: Final = 0.25
"""The same where the store does not answer."""

_SHORTEST: Final = 0.05
"""Seconds from the end of a session to the next, which grow to one second."""

_LATE: Final = 0.3
"""Seconds after which an answer is late, so that it is looked whether anybody is there."""

_FIRST: Final = 1.0
"""Seconds that entering waits for the store at the most, and leaving to tell it the last."""

_IN_A_ROW: Final = 8
"""Changes of one circuit that the store is told of before others have their turn."""

_LOST_LEASE: Final = 3.0
"""Seconds of a lease that is asked for again, as the answer was lost."""

_AT_ONCE: Final = 64
"""Changes that are on their way at one time."""

_MOST_HEARD: Final = 2_000
"""Changes that are followed from one look to the next: a circuit's are logged."""

_STRANGERS: Final = 500
"""Circuits of tools that were not called here, of which one look asks."""

_SEPARATOR: Final = "\x1f"


class Sharing:
    """
    One process of a fleet.
    """

    def __init__(self, store: Store, policy: FleetPolicy, fleet: Fleet) -> None:
        self._store = store
        self._policy = policy
        self._fleet = fleet
        self._patience = Patience(policy.engine_patience)
        self._line = Line(fleet, self._patience)
        self._renewals = Renewals(self._line)
        self._questions = Questions(self._line, fleet)
        self._links: dict[str, Link] = {}
        self._fresh: dict[Link, None] = {}
        self._dirty: dict[Link, None] = {}
        self._ended: anyio.Event | None = None
        self._first: anyio.Event | None = None
        self._telling: anyio.Lock | None = None
        self._heard_of = 0  # changes since the last beat
        self._turn = 0  # among the circuits that no call has asked for yet
        self._beat_began: float | None = None
        self._has_said_so = False
        fleet.join = self.join

    @property
    def process(self) -> str:
        """
        By which the store knows this process; another one each time that it is entered.
        """
        return self._line.process

    # Circuits

    def join(self, circuit: Circuit) -> None:
        """
        A circuit has come, or has come to another loop: it is one of the fleet's where it
        is used in the loop of this session, or nowhere yet.
        """
        if circuit.key in SHARED:
            return  # those who share it here are not those who share it there
        if self._line.loop is not None and circuit.is_elsewhere(self._line.loop):
            self._part(circuit)
            return
        if circuit.link is not None:
            return
        link = circuit.link = Link(id_of(circuit), circuit, self)
        self._links[link.id] = link
        if self._line.tasks is not None:
            self._fresh[link] = None
            self._line.ring()

    def _part(self, circuit: Circuit) -> None:
        """
        It is of a loop in another thread, whose clock may be another one as well.
        """
        link, circuit.link = circuit.link, None
        if link is None:
            return
        link.retire()
        logger.warning(
            "circuit %s is used in another loop than the one that entered the orchestrator, "
            "and is its own there: have one orchestrator a thread",
            circuit.name,
        )

    def forget(self, link: Link) -> None:
        """
        Its circuit is in use no more.
        """
        if self._links.get(link.id) is link:
            del self._links[link.id]
        self._fresh.pop(link, None)
        self._dirty.pop(link, None)
        if link.has_last_words and self._line.tasks is not None:
            link.give_up_lease(self._line.time())
            self.wake(link)

    # What links ask for; see ``Carrier``

    @property
    def quorum(self) -> int:
        """
        How many processes must have a run of failures: at least two, and the more, the more
        there are. A fleet of hundreds has one or two in a run at any time.
        """
        return max(2, math.ceil(self._line.live * self._policy.quorum))

    @property
    def longest_lease(self) -> float:
        """
        Seconds that a lease may last before it is renewed.
        """
        return self._policy.lease

    @property
    def engine_patience(self) -> float:
        """
        Seconds for which asks may be in vain.
        """
        return self._policy.engine_patience

    def is_up(self, now: float) -> bool:
        """
        Whether the store is to be asked before a probe.
        """
        if self._line.tasks is None and not self._has_said_so:
            self._has_said_so = True
            logger.warning(
                "an orchestrator with a store was not entered, so its circuits are its own: "
                "use it within 'async with orchestrator:'"
            )
        if not self._line.is_up or not self._line.is_of_this_loop:
            return False
        self._patience.look(now)
        return self._line.is_up

    def wake(self, link: Link) -> None:
        """
        It has something to tell the fleet.
        """
        self._dirty[link] = None
        self._line.ring()

    def renew(self, link: Link, lease: Lease, *, at_once: bool = False) -> None:
        """
        Keep the lease for as long as its probe runs, and may.
        """
        if at_once:
            self._renewals.once(link, lease)
        else:
            self._renewals.keep(link, lease)

    def release(self, lease: Lease) -> None:
        """
        Its probe does not run any more, or is no longer the fleet's.
        """
        self._renewals.release(lease)

    # Callers

    async def ask(self, link: Link, lease: float) -> Refusal | bool:
        """
        Ask the fleet for the lease of a probe, and wait for a moment. Whoever calls next has
        it, if it comes.

        Returns:
            Why nobody may probe now; or whether this call is to probe without a lease.
        """
        done = self._begin_to_ask(link, lease)
        with anyio.move_on_after(self._policy.probe_wait):
            await done.wait()
        if done.is_set():
            link.in_time()
            return False
        alone = link.goes_alone(self._line.time())
        return alone or Refusal(link.circuit.state, 1.0)

    def _begin_to_ask(self, link: Link, lease: float) -> anyio.Event:
        link.asking, done = True, anyio.Event()
        self._line.start(self._ask, link, lease, done)
        return done

    async def _ask(self, link: Link, lease: float, done: anyio.Event) -> None:
        began = self._line.time()
        session = self._line.session
        try:
            if session is None:
                return
            claim = link.claim(began, lease)
            # What has no time limit of its own is not to keep the circuit open for ever.
            with anyio.fail_after(max(self._policy.engine_patience, _FIRST)):
                answer = await session.change(link.id, claim)
            if not link.claimed(claim, answer, began, self._line.time()):
                raise StoreError("it does not do what it is told")
            self._patience.changed()
            self._answered()
            if link.circuit.link is not link:
                self.forget(link)  # with the lease that has come for it
        except Exception as error:
            link.unanswered(began)
            self._line.missed(error, began, ask=True)
        finally:
            link.asking = False
            done.set()

    async def all_figures(self) -> dict[str, dict[str, Any]]:
        """
        The figures of all processes that are alive, by the names of tools; of this one
        alone where the store does not answer.
        """
        return await self._questions.ask()

    # From beginning to end

    async def enter(self) -> None:
        """
        Begin. Waits until the store has told how the circuits stand, for a second at most.
        """
        self._line.begin()
        self._questions.begin()
        self._renewals.begin()
        for link in list(self._links.values()):
            link.asking = False
            self.join(link.circuit)
        self._fresh = dict.fromkeys(self._links.values())
        self._first, self._ended = anyio.Event(), anyio.Event()
        self._telling = anyio.Lock()
        # In a task of the loop's own: whatever a store does to the tasks that it runs in, it
        # does to no user's; and who enters need not be who leaves.
        _loop.spawn(functools.partial(self._run, self.process, self._ended))
        try:
            with anyio.move_on_after(_FIRST):
                await self._first.wait()
        except BaseException:
            self._line.end()
            raise

    async def leave(self) -> None:
        """
        Tell the fleet the last, for a second at most, and end.
        """
        session, ended = self._line.session, self._ended
        assert ended is not None
        try:
            if session is not None and not self._patience.is_over:
                with anyio.move_on_after(_FIRST):
                    await self._farewell(session)
        finally:
            self._line.end()
            with anyio.move_on_after(_FIRST, shield=True):
                await ended.wait()

    async def _run(self, process: str, ended: anyio.Event) -> None:
        """
        All traffic with the store, until the end.
        """
        try:
            if self._line.loop is None or process != self.process:
                return  # it has ended before it began
            async with anyio.create_task_group() as tasks:
                self._line.tasks = tasks
                for link in list(self._links.values()):
                    if link.lease is not None:  # its probe runs on from before
                        self._renewals.keep(link, link.lease)
                await self._stay()
        except BaseException as error:
            if not is_its_own(error):
                raise
            logger.error("what shares circuits has ended: %s", describe_error(error))
        finally:
            if process == self.process:
                self._line.end()
            ended.set()

    async def _farewell(self, session: CheckedSession) -> None:
        done = anyio.Event()

        async def say() -> None:
            try:
                for link in list(self._links.values()):
                    link.give_up_lease(self._line.time())
                await self._tell_all(session)
                await session.leave(self.process)
            except Exception as error:
                self._line.missed(error, self._line.time())
            finally:
                done.set()

        self._line.start(say)
        await done.wait()

    async def _stay(self) -> None:
        """
        Have a session, whatever happens to the store.
        """
        wait = _SHORTEST
        while True:
            began = self._line.time()
            try:
                async with self._store.session(
                    self._heard, self._questions.heard
                ) as session:
                    await self._attend(CheckedSession(session))
            except BaseException as error:
                if not is_the_stores(error):
                    raise
                self._patience.lose(describe_error(error))
                self._questions.forget()
            finally:
                self._line.session = None
            assert self._first is not None
            self._first.set()
            if self._line.time() - began > 1.0:
                wait = _SHORTEST  # it was one for a while
            await anyio.sleep(wait * random.uniform(0.75, 1.25))
            wait = min(1.0, wait * 2)

    async def _attend(self, session: CheckedSession) -> None:
        self._line.session = session
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell, session)
            tasks.start_soon(self._watch, session)
            while True:
                await self._beat(session)
                assert self._first is not None
                self._first.set()
                seconds = _LOST_BEAT if self._patience.is_over else _BEAT
                await anyio.sleep(seconds * random.uniform(0.75, 1.0))

    async def _watch(self, session: CheckedSession) -> None:
        """
        Find out early that nobody is there: an answer that never comes takes long.
        """
        while True:
            await anyio.sleep(_LOST_BEAT)
            began = self._beat_began
            if began is None or self._patience.is_over:
                continue
            if self._line.time() - began < _LATE:
                continue
            is_down = await session.is_down()
            if began == self._beat_began:  # it has still not answered
                error = StoreDownError if is_down else StoreError
                self._line.missed(error("it does not answer"), began)

    # Once a second

    async def _beat(self, session: CheckedSession) -> None:
        began = self._beat_began = self._line.time()
        try:
            await self._beat_once(session, began)
        finally:
            self._beat_began = None

    async def _beat_once(self, session: CheckedSession, began: float) -> None:
        self._heard_of = 0
        try:
            self._line.live = await session.beat(self.process, {})
            await self._look(session, list(self._links.values()), self._strangers())
            if self._patience.wants_a_change and self._links:
                link = next(iter(self._links.values()))
                change = Isolate(known=link.known_now(began))  # none, but the store's word
                await session.change(link.id, change)
                self._patience.changed()
        except Exception as error:
            self._line.missed(error, began)
            return
        self._answered()
        now = self._line.time()
        for link in list(self._links.values()):
            link.tidy(now)
            if link.has_lost_an_answer:
                self._begin_to_ask(link, _LOST_LEASE)
            link.due = True
            if link.has_news:
                self._dirty[link] = None
        self._line.ring()

    async def _look(
        self, session: CheckedSession, links: list[Link], names: list[str]
    ) -> None:
        """
        Hear how circuits stand; also those that no call here has asked for yet.
        """
        ids = [*(link.id for link in links), *names]
        if not ids:
            return
        states = await session.read(ids)
        now = self._line.time()
        for link, state in zip(links, states, strict=False):
            if state is None:
                link.missing(now)
            else:
                link.hear(state, now)
        for name, state in zip(names, states[len(links) :], strict=False):
            if state is not None:
                self._heard(name, state)

    def _strangers(self) -> list[str]:
        """
        Circuits of tools that nobody has called here yet: some of them, in turn, if there are
        very many; and all where the store was lost.
        """
        names = list(dict.fromkeys(tool.circuit_name for tool in self._fleet.registry))
        if not self._patience.is_over and len(names) > _STRANGERS:
            begin = self._turn % len(names)
            self._turn = begin + _STRANGERS
            names = [*names, *names][begin : begin + _STRANGERS]
        return [name for name in names if name not in self._links]

    def _heard(self, id: str, state: SharedState) -> None:
        """
        Somebody has changed a circuit.
        """
        told: object = id
        self._heard_of += 1
        if self._heard_of > _MOST_HEARD:
            return  # the next look has it
        if not isinstance(told, str) or not is_sound(state):
            return
        link = self._links.get(id)
        if link is None:
            closed = state.state is CircuitState.CLOSED and not state.isolations
            if closed or not self._fleet.registry.sharing(id):
                return
            self.join(self._fleet.circuit(id))
            link = self._links.get(id)
        if link is not None:
            link.hear(state, self._fleet.time_for(link.circuit))

    # What circuits tell

    async def _tell(self, session: CheckedSession) -> None:
        while True:
            if not self._dirty and not self._fresh:
                await self._line.wait()
            self._line.answer()
            if self._patience.is_over:
                await self._line.wait()
                continue
            await self._tell_all(session)

    async def _tell_all(self, session: CheckedSession) -> None:
        assert self._telling is not None
        async with self._telling:
            await self._tell_these(session)

    async def _tell_these(self, session: CheckedSession) -> None:
        fresh = list(self._fresh)
        self._fresh.clear()
        if fresh:
            await self._quietly(lambda: self._look(session, fresh, []))
        while self._dirty and not self._patience.is_over:
            links = list(self._dirty)[:_AT_ONCE]
            for link in links:
                self._dirty.pop(link, None)
            async with anyio.create_task_group() as tasks:
                for link in links:
                    tasks.start_soon(self._tell_of, session, link)

    async def _tell_of(self, session: CheckedSession, link: Link) -> None:
        """
        Tell the fleet what there is to tell of a circuit, one thing after the other.
        """
        for _ in range(_IN_A_ROW):
            began = self._line.time()
            change = link.next_change(began)
            if change is None:
                return
            try:
                answer = await session.change(link.id, change)
                self._patience.changed()
                self._answered()
                link.answered(change, answer, self._line.time())
            except Exception as error:
                self._line.missed(error, began)
                return  # the next beat goes on with it

    async def _quietly(self, fn: Callable[[], Awaitable[object]]) -> None:
        began = self._line.time()
        try:
            await fn()
        except Exception as error:
            self._line.missed(error, began)

    # Whether the store answers

    def _answered(self) -> None:
        if not self._patience.answered() or self._line.tasks is None:
            return
        for link in list(self._links.values()):
            if lease := link.lacks_lease(self._line.time()):
                self._begin_to_ask(link, lease)
            if link.has_news:
                self._dirty[link] = None
        self._line.ring()


def id_of(circuit: Circuit) -> str:
    """
    What a circuit is called in a store. A key is made of arguments, which are nobody's
    business there, so it has a digest of that.
    """
    if circuit.key is None:
        return circuit.name
    digest = hashlib.sha256(circuit.key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{circuit.name}{_SEPARATOR}{digest[:32]}"
