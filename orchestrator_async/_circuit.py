"""
One circuit in the async world: the breaker, the lock that guards it, and its link to a fleet.

The lock is held while a failure is counted, which may trip the circuit, while a probe
is claimed and while its success or failure is applied. No await stands between taking
and releasing it, so it is always free for those who ask in the loop that it was made
for. Where processes share the circuit, who would be the probe has asked them before, and holds
nothing meanwhile. What cannot have the lock (no loop runs, the caller is being cancelled) goes
on without: each change of the breaker is one synchronous function.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from . import _loop
from ._breaker import (
    Breaker,
    CircuitState,
    Permit,
    Refusal,
    Ruling,
    Saved,
    Standing,
    Transition,
)
from ._callbacks import is_its_own
from ._errors import OrchestratorError
from ._policy import BreakerPolicy, BreakerSettings

if TYPE_CHECKING:
    from ._shared import Link
    from ._waiting import Pace, Waiters

# Keys of the circuits that are shared by keys which have no place. A user's key that
# reads the same has none, so there are never two circuits of one key.
OTHERS: Final = "(others)"
GOOD_OTHERS: Final = "(others, good so far)"
SHARED: Final = (OTHERS, GOOD_OTHERS)

# The group of those who wait for a tool's own circuit though they have a key.
KEYED: Final = 0


class Keeper(Protocol):
    """
    Whoever has made a circuit, and is told of it.
    """

    def changed(self, circuit: Circuit, transition: Transition) -> None:
        """Its state has changed, or would have. No lock is held."""

    def time_for(self, circuit: Circuit) -> float:
        """Seconds on its clock, or NaN where that tells none."""

    def complain(self, circuit: Circuit, what: str, error: BaseException) -> None:
        """Something of the user's raised: to be logged, once."""

    def reload(self, circuit: Circuit, policy: BreakerPolicy | None) -> None:
        """It is to go on with other settings."""

    def has_moved(self, circuit: Circuit) -> None:
        """Another loop than before uses it."""


class ForeignLoopError(OrchestratorError):
    """
    The circuit is in use by an event loop of another thread at this moment.
    """

    def __init__(self, circuit: str) -> None:
        super().__init__(
            f"The circuit {circuit} is in use by an event loop in another thread. Use "
            "one orchestrator a thread, or hand the call to the first loop with "
            "anyio.from_thread.run."
        )


class Circuit:
    """
    A handle on one circuit, by name. Its methods are synchronous, and work outside an
    event loop too.

    Attributes:
        name: The circuit's name, which is the tool's unless several tools share it.
        key: What a tool's ``circuit`` function has made of the arguments, for one of the
            circuits of such a tool; else ``None``.
        last_error: The last failure that it was told of, cleaned, or ``None``.
    """

    __slots__ = (
        "_keeper",
        "_lock",
        "_series",
        "_thread",
        "_token",
        "breaker",
        "holders",
        "key",
        "last_error",
        "link",
        "name",
        "pace",
        "shelved",
        "untried",
        "waiters",
    )

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        keeper: Keeper,
        key: str | None = None,
    ) -> None:
        self.name: str = name
        self.key: str | None = key
        self.last_error: str | None = None
        self.breaker: Breaker = Breaker(settings)
        self.waiters: Waiters | None = None
        self.pace: Pace | None = None  # none where nobody was let go lately
        self.link: Link | None = None  # to a fleet
        self.untried: bool = False  # made for those who wait, and no call has succeeded
        self.holders: int = 0  # calls that have it in use, where it may be evicted
        # Whoever keeps it on a shelf, and is told of what happens to it without a call.
        self.shelved: Callable[[Circuit], None] | None = None
        self._keeper: Keeper | None = keeper
        self._lock: anyio.Lock | None = None
        self._token: EventLoopToken | None = None
        self._thread: int | None = None
        self._series = object()  # of isolations: those since ``unisolate``
        self._draw_by(settings)

    def __repr__(self) -> str:
        key = "" if self.key is None else f" key={self.key!r}"
        return f"<Circuit {self.name!r}{key} {self.state} failures={self.failures}>"

    @property
    def state(self) -> CircuitState:
        """
        The state now. ``OPEN`` stays until a caller claims the probe.
        """
        return self.breaker.state

    @property
    def failures(self) -> int:
        """
        Failures in a row, now.
        """
        return self.breaker.failures

    def isolate(self) -> Isolation:
        """
        Refuse every call until the isolation is lifted.

        Isolations add up: each one is lifted by its own ``release``, or at the end of
        its ``with`` block; ``unisolate`` lifts all. After the last the circuit is what
        it was before. The idea of a handle that is counted is cockatiel's.

        Raises:
            OrchestratorError: No call asks this circuit any more; so do all the others
                that move it by hand.
        """
        self._check_in_use()
        token = None if self.link is None else self.link.isolated()
        self._announce(self.breaker.isolate())
        return Isolation(self, self._series, as_open=False, token=token)

    def force_open(self) -> Isolation:
        """
        Refuse every call as if failures had opened it, until that is lifted.

        An isolation for drills and tests: those who are refused read what they would
        read of a tool that is down, with the ``reset_timeout`` as the time to wait. No
        caller probes. Where the circuit is isolated as well, that is what shows. The
        name is resilience4j's.
        """
        self._check_in_use()
        self._announce(self.breaker.isolate(as_open=True))
        return Isolation(self, self._series, as_open=True)

    def unisolate(self) -> None:
        """
        Lift every isolation, whoever holds it.
        """
        self._check_in_use()
        if self.link is not None:
            self.link.unisolated()
        self._series = object()
        self._announce(self.breaker.release_all())

    def disable(self) -> None:
        """
        Admit every call, whatever happens, until ``reset`` or ``trip`` ends it.

        It goes on counting, and beneath it goes on as it would: what it would have done
        is told to the log and to observers (``CircuitChanged`` with ``enforced=False``),
        and the figures count the calls that it would have refused. The idea is the state
        METRICS_ONLY of resilience4j.
        """
        self._check_in_use()
        self._announce(self.breaker.disable())

    def trip(self) -> None:
        """
        Open the circuit as failures would: after the time that it stays open, one caller
        probes. Does not lift an isolation.
        """
        now = self._check_in_use().time_for(self)
        transition = self.breaker.trip(now)
        self._tell_fleet(now)
        self._announce(transition)

    def reset(self) -> None:
        """
        Close the circuit and forget its failures. Does not lift an isolation.
        """
        keeper = self._check_in_use()
        transition = self.breaker.reset()
        if self.link is not None:
            self._tell_fleet(keeper.time_for(self))
        self._announce(transition)

    def reload(self, policy: BreakerPolicy | None) -> None:
        """
        Go on with other settings, with the state and all that was counted.

        Args:
            policy: What it has a say in goes before the settings of the tools and of the
                orchestrator; ``None`` for those alone again.

        Raises:
            TypeError: It is no ``BreakerPolicy``.
            OrchestratorError: No call asks this circuit any more.
        """
        told: object = policy
        if not isinstance(told, BreakerPolicy | None):
            raise TypeError(f"policy={policy!r:.200}: expected a BreakerPolicy, or None")
        self._check_in_use().reload(self, policy)

    def release(self, series: object, *, as_open: bool, token: str | None = None) -> None:
        """
        Lift one isolation, unless ``unisolate`` has lifted it with all others. Of a
        circuit that is in use no more too: a ``with`` block may end after its tool.
        """
        if series is self._series:
            link = self.link
            if link is not None and token is not None and not link.released(token):
                return  # another process has lifted it
            self._announce(self.breaker.release(as_open=as_open))

    # For the fleet

    def _tell_fleet(self, now: float) -> None:
        if self.link is not None:
            self.link.moved(now, force=True)

    def adopt(self, standing: Standing, now: float, reason: str) -> None:
        """
        Stand as the fleet says.
        """
        self._announce(self.breaker.adopt(standing, now, reason))

    def hold(self, held: bool) -> None:
        """
        Be isolated because another process has isolated it, or no more.
        """
        self._announce(self.breaker.hold(held))

    def lift(self, number: int) -> None:
        """
        Have so many isolations less, as somebody else has lifted all.
        """
        for _ in range(number):
            self._announce(self.breaker.release())

    # For the orchestrator

    def is_elsewhere(self, token: EventLoopToken) -> bool:
        """
        Whether another loop than this uses it, which still runs.
        """
        mine = self._token
        return mine is not None and mine != token and _loop.is_alive(mine)

    @property
    def opened_for(self) -> float:
        """
        Seconds for which it was opened last; of one that is forced open, what those who
        ask are told.
        """
        breaker = self.breaker
        forced = breaker.is_forced_open
        return breaker.settings.reset_timeout if forced else breaker.length

    def retire(self) -> None:
        """
        Say no more: no call asks it from here on. Its last tool is gone, or its key was
        given up for another, and what has its name may be another circuit.
        """
        link, self.link = self.link, None
        self._keeper = self.shelved = None
        if link is not None:
            link.retire()
        self.wake()

    @property
    def is_waited_for(self) -> bool:
        """
        Whether somebody waits for it. Who did in a loop that was dropped does no more.
        """
        return self.waiters is not None and self.waiters.is_alive

    def stir(self) -> None:
        """
        Something has happened to it that no call has brought about.
        """
        if self.shelved is not None:
            self.shelved(self)

    def configure(self, settings: BreakerSettings) -> None:
        """
        Go on with other settings.
        """
        keeper = self._keeper
        self.breaker.configure(settings)
        self._draw_by(settings)
        if self.link is not None:
            self.link.configure(math.nan if keeper is None else keeper.time_for(self))
        self.wake()

    def restore(self, saved: Saved) -> None:
        """
        Go on with what another process has saved.
        """
        now = math.nan if self._keeper is None else self._keeper.time_for(self)
        transition = self.breaker.restore(saved, now)
        if self.link is not None and saved.is_open:
            self.link.moved(now)
        if self.link is not None and saved.isolated:
            self.link.isolated()
        self._announce(transition)

    def wake(self) -> None:
        """
        Have those who wait for the circuit look at it.
        """
        if self.waiters is not None:
            self.waiters.wake()

    def tried(self) -> None:
        """
        A call has succeeded: those who wait need not go as if to probe.
        """
        self.untried, self.pace = False, None
        self.wake()

    def wake_group(self, group: int) -> None:
        """
        Have those look who wait for it in this group: they may have another circuit now,
        and whoever stands before them may have none.
        """
        if self.waiters is not None:
            self.waiters.wake_group(group)

    def admit(self, now: float, lease: float, average: float) -> Permit | Refusal:
        """
        A permit, or why not. A probe is claimed with the lock held.

        Raises:
            ForeignLoopError: An event loop of another thread uses the circuit.
        """
        if not self._acquire():
            return Refusal(self.state, 1.0)
        link = self.link
        try:
            rest = lease if link is None else link.lease_for(lease, now)
            permit, transition = self.breaker.admit(now, rest, average)
        finally:
            self._release()
        if isinstance(permit, Permit) and permit is self.breaker.probe:
            self.pace = None  # whoever is let go after this one is the first again
            if link is not None:
                link.took(permit, now, lease)
        try:
            self._announce(transition)
        except BaseException:
            # An observer was interrupted, and the caller never gets its permit.
            assert isinstance(permit, Permit)  # nothing else is told of
            self.ignored(permit, now)
            raise
        return permit

    def succeeded(self, permit: Permit, now: float, duration: float) -> bool:
        """
        Give the permit back with a success; whether that came too late to count.
        """
        breaker = self.breaker
        if permit is breaker.closed_permit and not duration >= breaker.slow_above:
            return breaker.succeeded(permit, now, duration).late
        if self.link is not None and self.link.is_overdue(permit, now):
            if not duration >= breaker.slow_above:
                self.link.succeeded_late(permit, now)
            return self.ignored(permit, now)
        return self._rule(permit, now, lambda: breaker.succeeded(permit, now, duration))

    def failed(self, permit: Permit, now: float, duration: float, error: str) -> bool:
        """
        Give the permit back with a failure; whether that came too late to count.
        """
        self.last_error = error
        breaker = self.breaker
        return self._rule(permit, now, lambda: breaker.failed(permit, now, duration))

    def throttled(
        self, permit: Permit, now: float, seconds: float | None, error: str
    ) -> bool:
        """
        Give the permit back with a failure that asks for a pause; whether that came too
        late to count.

        Where good keys share it, that is no verdict on it: one of them was asked, which
        is good no longer and leaves, and the others go on.
        """
        self.last_error = error
        if self.key == GOOD_OTHERS:
            return self.ignored(permit, now)
        breaker = self.breaker
        return self._rule(permit, now, lambda: breaker.throttled(permit, now, seconds))

    def ignored(self, permit: Permit, now: float) -> bool:
        """
        Give the permit back without a verdict. Takes no lock: a call that is being
        cancelled, or whose loop is gone, can do it too.
        """
        ruling = self.breaker.ignored(permit, now)
        if self.link is not None:
            self.link.ruled(permit, now, ruling)
        self.wake()
        return ruling.late

    def follow_loop(self, now: float) -> None:
        """
        Where the clock is the loop's own and the loop is a new one, go on with that.
        """
        token = current_token()
        if token != self._token:
            self._adopt(token)
            self.breaker.rebase(now)

    # Beneath

    def _check_in_use(self) -> Keeper:
        """
        Its keeper: what has none is asked by no call, and to move it would do nothing.
        """
        if self._keeper is None:
            key = "" if self.key is None else ", key"
            raise OrchestratorError(
                f"This circuit of {self.name} is asked by no call any more: its last tool "
                "was removed, or its key was given up for another. Ask "
                f"orch.circuit(name{key}) anew."
            )
        return self._keeper

    def _rule(self, permit: Permit, now: float, decide: Callable[[], Ruling]) -> bool:
        try:
            locked = self._acquire()
        except ForeignLoopError:
            self.ignored(permit, now)
            raise
        try:
            ruling = decide()
        finally:
            if locked:
                self._release()
        if self.link is not None:
            self.link.ruled(permit, now, ruling)
        if ruling.transition is None:
            self.wake()
        else:
            self._announce(ruling.transition)
        return ruling.late

    def _acquire(self) -> bool:
        """
        Take the lock, made on first use for the loop that runs; whether that worked.
        """
        try:
            token = current_token()
            if token != self._token:
                self._adopt(token)
            assert self._lock is not None
            self._lock.acquire_nowait()
        except (anyio.WouldBlock, anyio.NoEventLoopError):
            return False
        return True

    def _release(self) -> None:
        assert self._lock is not None
        self._lock.release()

    def _adopt(self, token: EventLoopToken) -> None:
        thread = threading.get_ident()
        if (
            self._token is not None
            and self._thread != thread
            and _loop.is_alive(self._token)
        ):
            raise ForeignLoopError(self.name)
        self._lock = anyio.Lock()  # which may find the stack full
        self._token, self._thread = token, thread
        if self._keeper is not None:
            self._keeper.has_moved(self)

    def _announce(self, transition: Transition | None) -> None:
        if transition is None:
            return
        self.untried, self.pace = False, None
        self.stir()
        self.wake()
        if self.key is None:
            self.wake_group(KEYED)  # who have waited as long as a hand held all keys
        if transition.old is not transition.new and self._keeper is not None:
            self._keeper.changed(self, transition)

    def _draw_by(self, settings: BreakerSettings) -> None:
        self.breaker.draw = self._draw if settings.jitter else None

    def _draw(self) -> float:
        """
        What the source of chance says; no chance where it says nothing that can be used,
        which is logged once.
        """
        try:
            drawn = float(self.breaker.settings.jitter_source())
            if 0.0 <= drawn <= 1.0:
                return drawn
            raise ValueError(f"{drawn!r} is not a number from 0 to 1")
        except BaseException as error:
            if not is_its_own(error):
                raise
            if self._keeper is not None:
                self._keeper.complain(self, "its jitter_source is of no use", error)
            return 0.0


class Isolation:
    """
    One isolation of a circuit, to be lifted once. Also a context manager.
    """

    __slots__ = ("_as_open", "_circuit", "_series", "_token")

    def __init__(
        self, circuit: Circuit, series: object, *, as_open: bool, token: str | None = None
    ) -> None:
        self._circuit: Circuit | None = circuit
        self._series = series
        self._as_open = as_open
        self._token = token

    def release(self) -> None:
        """
        Lift this isolation. A second time does nothing.
        """
        circuit, self._circuit = self._circuit, None
        if circuit is not None:
            circuit.release(self._series, as_open=self._as_open, token=self._token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
