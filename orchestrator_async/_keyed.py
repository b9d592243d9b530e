"""
The circuits of a tool that has one for each key, bounded: so many places, and no more.

A new key that finds all places taken is given that of a circuit which nobody would miss.
Where each of them would be missed, new keys share a circuit. Keys that are known to be
good share another, so that keys which a model has made up cannot close it to them.

Nothing here awaits, locks or looks at a clock: ``now`` is an argument, in seconds of one
monotonic clock. A call costs the same however many keys there are: idle circuits lie on
shelves, in the order in which they would go. What is changed on a shelf by hand is told of,
and put where it belongs when somebody has to go; what has changed in time is found when its
turn comes.

Below it stands ``_circuit``; those who call are ``_entry``, for calls, and ``_fleet``.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from ._breaker import Breaker, CircuitState
from ._circuit import GOOD_OTHERS, OTHERS, SHARED, Circuit
from ._policy import BreakerSettings

# Circuits that one call looks at, at the most: those whose turn it is to go, as many that
# were moved by hand, and if none may go, some of those that stay, for what keeps them may
# be gone untold: the loop of those who wait for them.
_LOOKS: Final = 8
_LOOKS_AROUND: Final = 4

# Seconds by which one time may differ when it is reckoned twice.
_ROUNDING: Final = 0.001


class _Place:
    """
    What a key has that has a circuit of its own.

    Attributes:
        circuit: That circuit.
        good: Whether the last call of this key that gave a verdict left it known good.
        shelf: Where it lies while no call has it in use, else ``None``.
        due: The time in its entry of the heap; infinite if it has none. It may be too
            early, or the circuit on another shelf: that is seen when the time has come.
    """

    __slots__ = ("circuit", "due", "good", "shelf")

    def __init__(self, circuit: Circuit, good: bool) -> None:
        self.circuit: Circuit = circuit
        self.good: bool = good
        self.shelf: _Shelf | None = None
        self.due: float = math.inf


_Shelf: TypeAlias = OrderedDict[str, _Place]


class KeyedCircuits:
    """
    Circuits by key, at most ``capacity`` and the two that are shared.

    Who goes, where a new key needs a place: first the idle that are closed without
    failures, the least recently used of them first; then the idle that are closed with
    failures, the oldest first; then the open ones whose time has come, and that nobody
    probes, the one that has waited for longest first. A failure is one in a row, or a
    failed or slow call in a window. What is in use or waited for stays, and so does what
    is open within its time, isolated, forced open or disabled.

    A key is known good as long as the last of its calls that gave a verdict was a success
    which left its circuit closed. Of keys that have no place, so many are remembered as
    there are places, by their hashes. A key that has not succeeded in this process cannot
    be among them.

    Args:
        make: Makes the circuit of a key, or of those who share one: ``OTHERS`` and
            ``GOOD_OTHERS``.
        capacity: How many keys may have a circuit of their own, at least 1.
        begin: Is told of a circuit once it has its place: what it tells others of may
            lead them here.
        time_for: Seconds on the clock for a circuit that is looked at, where that may be
            the clock of another loop than it knows of; else the ``now`` of the caller.
    """

    __slots__ = (
        "_begin",
        "_capacity",
        "_clean",
        "_due",
        "_failing",
        "_good",
        "_kept",
        "_make",
        "_places",
        "_seen",
        "_shared",
        "_skew",
        "_stirred",
        "_time_for",
    )

    def __init__(
        self,
        make: Callable[[str], Circuit],
        capacity: int,
        *,
        begin: Callable[[Circuit], None] | None = None,
        time_for: Callable[[Circuit], float] | None = None,
    ) -> None:
        self._make = make
        self._begin = begin
        self._time_for = time_for
        self._capacity = capacity
        self._places: dict[str, _Place] = {}
        self._shared: dict[str, Circuit] = {}
        self._good: OrderedDict[int, None] = OrderedDict()  # of keys without a place
        # The shelves. A dict is none: to find its first is slow once many have gone.
        self._clean: _Shelf = OrderedDict()
        self._failing: _Shelf = OrderedDict()
        self._kept: _Shelf = OrderedDict()  # not closed, or disabled, or waited for
        self._stirred: dict[str, None] = {}  # keys whose circuits may lie on the wrong one
        self._due: list[tuple[float, str]] = []  # a heap: when which of the kept may go
        self._seen = self._skew = 0.0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Circuit]:
        """
        All circuits that there are now, also those that are shared.
        """
        own = [place.circuit for place in self._places.values()]
        return iter([*own, *self._shared.values()])

    def take(self, key: str, now: float) -> Circuit:
        """
        The key's circuit, in use by one more call until that gives it back.

        Args:
            key: Any text; it is kept as long as the key has a place.
            now: Seconds on the circuits' clock.
        """
        place = self._places.get(key)
        if place is None:
            circuit = self._newcomer(key, now)
        else:
            circuit = place.circuit
            if place.shelf is not None:
                del place.shelf[key]
                place.shelf = None
        circuit.holders += 1
        return circuit

    def give_back(
        self, circuit: Circuit, key: str, now: float, succeeded: bool | None
    ) -> None:
        """
        One call less has it in use. Never raises, whatever became of the circuit.

        Args:
            circuit: What ``take`` returned.
            key: What it was taken for: a shared circuit does not know.
            now: Seconds on the circuits' clock.
            succeeded: The call's verdict, which its circuit has been told before. False
                also where it was asked for a pause: who is should not share with the
                good. ``None`` where there is none: the call did not run, was cancelled,
                or its success came too late to count.
        """
        if circuit.holders:
            circuit.holders -= 1
        place = self._places.get(key)
        if succeeded is not None:
            self._note(key, place, circuit.breaker, succeeded)
        if place is None or place.circuit is not circuit:
            return
        if place.shelf is None and not circuit.holders:
            self._file(key, place, now)
            if self._shared and place.shelf is not self._kept:
                self._wake_shared()  # one of those may have its place now
        self._has_room(now, newcomers=0)

    def get(self, key: str) -> Circuit | None:
        """
        The key's own circuit, or ``None`` if it has none now. The shared ones are found
        under ``OTHERS`` and ``GOOD_OTHERS``, if there has been a need for them.
        """
        place = self._places.get(key)
        return self._shared.get(key) if place is None else place.circuit

    def peek(self, key: str, now: float) -> Circuit | None:
        """
        The circuit that ``take`` would return, or ``None`` if it would make one.
        """
        place = self._places.get(key)
        if place is not None:
            return place.circuit
        if key not in SHARED and self._could_have_room(now):
            return None
        return self._shared.get(self._name_for(key))

    def make(self, key: str, now: float) -> Circuit:
        """
        The circuit that ``take`` would return, made now if need be for those who wait,
        and not in use by it.
        """
        place = self._places.get(key)
        if place is None and key not in SHARED and self._has_room(now):
            place = self._settle(key)
            place.circuit.untried = place.circuit.state is CircuitState.CLOSED
            self._file(key, place, now)
        return self._share(self._name_for(key)) if place is None else place.circuit

    def ensure(self, key: str, now: float, *, beyond: bool = False) -> Circuit:
        """
        The key's own circuit, made now if it has none, for manual control. It is not in
        use by this: unless something is done with it, it goes when its turn comes.

        Args:
            key: As for ``take``.
            now: Seconds on the circuits' clock.
            beyond: Whether it has a place even where all are taken: one more than there
                are, until somebody may go.

        Raises:
            LookupError: There is no room for it.
        """
        circuit = self.get(key)
        if circuit is not None:
            return circuit
        if key in SHARED:
            return self._share(key)
        if not self._has_room(now) and not beyond:
            raise LookupError(
                f"There is no room for a circuit of the key {key!r}: those of "
                f"{len(self)} other keys are in use, waited for, open, isolated or disabled, "
                f"and max_keys is {self._capacity}. Raise it, or reset one of them."
            )
        place = self._settle(key)
        self._file(key, place, now)
        return place.circuit

    def configure(self, settings: BreakerSettings, now: float = math.nan) -> None:
        """
        Go on with other settings. Where there are fewer places now, those who have to go
        do so in their order, and the rest when they may.

        Args:
            settings: Of all circuits; ``max_keys`` is the number of places.
            now: Seconds on the circuits' clock. Where none can be told, it may be seen
                late that an open circuit's time has come.
        """
        self._capacity = settings.max_keys
        for circuit in self:
            circuit.configure(settings)
        for key in list(self._kept):  # they may be due earlier
            self._refile(key, now)
        left = math.inf
        while len(self._places) < left:
            left = len(self._places)
            self._has_room(now, newcomers=0)
        self._forget_some()
        self._tidy()

    # Keys without a place

    def _newcomer(self, key: str, now: float) -> Circuit:
        if key not in SHARED and self._has_room(now):
            return self._settle(key).circuit
        return self._share(self._name_for(key))

    def _name_for(self, key: str) -> str:
        return GOOD_OTHERS if hash(key) in self._good else OTHERS

    def _settle(self, key: str) -> _Place:
        """
        Give the key a place, with a new circuit.
        """
        place = _Place(self._make(key), hash(key) in self._good)
        self._good.pop(hash(key), None)  # its place knows from here on
        self._places[key] = place
        place.circuit.shelved = self._stir
        self._tell(hash(key))
        if self._begin is not None:
            self._begin(place.circuit)
        return place

    def _share(self, name: str) -> Circuit:
        circuit = self._shared.get(name)
        if circuit is None:
            circuit = self._shared[name] = self._make(name)
        return circuit

    def _wake_shared(self) -> None:
        """
        Have those who wait for a shared circuit look whether there is room for them.
        """
        for circuit in list(self._shared.values()):
            circuit.wake()

    def _tell(self, key: int) -> None:
        """
        Have those who wait for a shared circuit with this key look: it has another now.
        """
        for circuit in list(self._shared.values()):
            circuit.wake_group(key)

    # Known good

    def _note(
        self, key: str, place: _Place | None, breaker: Breaker, succeeded: bool
    ) -> None:
        """
        Take note of a verdict. It is the key's, whichever circuit it was given to.
        """
        good = succeeded
        if succeeded and (breaker.closed_permit is None or breaker.failures):
            if breaker.state is CircuitState.HALF_OPEN:
                return  # a probe of several that it takes
            good = False  # it was slow, and that has opened the circuit
        if place is not None:
            place.good = good
            if good and place.circuit.untried:
                place.circuit.tried()
        elif good:
            self._remember(key)
        elif hash(key) in self._good:
            del self._good[hash(key)]
            self._tell(hash(key))

    def _remember(self, key: str) -> None:
        # Texts are hashed to 64 bits with a secret of the process: nobody can make up a
        # key that passes for another.
        self._good[hash(key)] = None
        self._good.move_to_end(hash(key))
        self._forget_some()

    def _forget_some(self) -> None:
        while len(self._good) > self._capacity:
            key, _ = self._good.popitem(last=False)
            self._tell(key)

    # Places

    def _has_room(self, now: float, newcomers: int = 1) -> bool:
        """
        Whether there is room for so many more, if need be because others have gone. More
        than one goes only where there were more places before: a few at a time.
        """
        most, looks = self._capacity - newcomers, _LOOKS
        while len(self._places) > most:
            key = self._next_to_go(now) if looks else None
            if key is None:
                return False
            self._drop(key)
            looks -= 1
        return True

    def _could_have_room(self, now: float) -> bool:
        """
        Whether there is room for one more, or would be if somebody asked for it. Nobody
        goes for the question but those for whom there are no places any more.
        """
        if not self._has_room(now, newcomers=0):
            return False
        return len(self._places) < self._capacity or self._next_to_go(now) is not None

    def _next_to_go(self, now: float) -> str | None:
        """
        Whose circuit goes next, or ``None`` if none may, as far as a few looks can tell.
        """
        self._sort_in(now)
        for _ in range(_LOOKS):
            key = self._first(now)
            if key is None:
                break
            if self._may_go(self._places[key], now):
                return key
            self._refile(key, now)
        for key in list(islice(self._kept, _LOOKS_AROUND)):
            if self._may_go(self._places[key], now):
                return key
            self._refile(key, now)  # behind the others, and with the entry that it may lack
        return None

    def _stir(self, circuit: Circuit) -> None:
        """
        A circuit's word that something has happened to it without a call. It is but noted:
        a hand has no clock, and may be in the midst of anything.
        """
        assert circuit.key is not None
        self._stirred[circuit.key] = None
        self._wake_shared()

    def _sort_in(self, now: float) -> None:
        """
        Put some of what was told of onto the shelves where it belongs.
        """
        for _ in range(min(_LOOKS, len(self._stirred))):
            key, _ = self._stirred.popitem()
            place = self._places.get(key)
            if place is not None and place.shelf is not None:
                self._refile(key, now)

    def _first(self, now: float) -> str | None:
        """
        Whose turn it is to go, as the shelves have it.
        """
        shelf = self._clean or self._failing
        if shelf:
            return next(iter(shelf))
        time = self._time(now)
        while self._due and self._due[0][0] <= time:
            due, key = self._due[0]
            place = self._places.get(key)
            if place is not None and place.due == due:
                if place.shelf is self._kept:
                    return key
                place.due = math.inf
            heapq.heappop(self._due)
        return None

    def _may_go(self, place: _Place, now: float) -> bool:
        """
        Whether the circuit may go, and it is not one that comes later in the order than
        those it lies with.
        """
        breaker = place.circuit.breaker
        if self._time_for is not None:
            now = self._time_for(place.circuit)
        if breaker.open_for(now):
            return False  # what is most frequent, for a fraction of the price
        shelf = self._shelf_of(place.circuit)
        if shelf is self._kept:
            return place.shelf is shelf and not _wait(place.circuit, now)
        return shelf is self._clean or place.shelf is not self._clean

    def _drop(self, key: str) -> None:
        place = self._places.pop(key)
        self._stirred.pop(key, None)
        assert place.shelf is not None  # it is idle
        del place.shelf[key]
        breaker = place.circuit.breaker
        if place.good and breaker.state is CircuitState.CLOSED and not breaker.failures:
            self._remember(key)
        place.circuit.retire()

    def _refile(self, key: str, now: float) -> None:
        place = self._places[key]
        assert place.shelf is not None  # it is idle
        del place.shelf[key]
        self._file(key, place, now)

    def _file(self, key: str, place: _Place, now: float) -> None:
        """
        Put it last on the shelf where it belongs.
        """
        self._stirred.pop(key, None)
        circuit = place.circuit
        shelf = place.shelf = self._shelf_of(circuit)
        shelf[key] = place
        if shelf is self._kept:
            then = now if self._time_for is None else self._time_for(circuit)
            due = self._time(now) + _wait(circuit, then)
            # An open circuit that is asked again and again is due when it was; one that no
            # time will do for any more is due no longer, or it would hide those after it.
            if abs(due - place.due) > _ROUNDING:
                place.due = due
                if math.isfinite(due):
                    self._push(due, key)

    def _shelf_of(self, circuit: Circuit) -> _Shelf:
        if circuit.breaker.state is not CircuitState.CLOSED or circuit.is_waited_for:
            return self._kept
        return self._failing if circuit.breaker.has_bad_calls else self._clean

    def _push(self, due: float, key: str) -> None:
        heapq.heappush(self._due, (due, key))
        if len(self._due) > 2 * len(self._places):
            self._tidy()

    def _tidy(self) -> None:
        """
        Make the heap anew, without what is left in it of circuits that went on.
        """
        self._due = []
        for key, place in self._places.items():
            if place.shelf is not self._kept:
                place.due = math.inf
            elif math.isfinite(place.due):
                self._due.append((place.due, key))
        heapq.heapify(self._due)

    def _time(self, now: float) -> float:
        """
        Seconds that never go back: where the clock does, what was left of a time is left.
        """
        if math.isfinite(now):
            if now < self._seen:
                self._skew += self._seen - now
            self._seen = now
        return self._seen + self._skew


def _wait(circuit: Circuit, now: float) -> float:
    """
    Seconds until a circuit that is kept may go; infinite where time will not do. Those who
    wait for it would all be let go at once.
    """
    if circuit.breaker.state is CircuitState.DISABLED or circuit.is_waited_for:
        return math.inf
    wait = circuit.breaker.available_in(now)
    return math.inf if wait is None else wait
