"""
Waiting until a circuit lets a call in, many at a time and without a stampede.

Those who wait for one circuit stand in a row. Only the first of them looks at the clock:
it sleeps on the loop for as long as the circuit says, and is woken when something changes.
The others sleep until they are the first. Who is let go wakes the next one; how soon that
one may go depends on the circuit:

- Where a call would be the probe, one goes, and a second later the next, should nobody
  have probed by then. That holds for those who come later too, and so the circuit keeps
  it while the row is empty.
- Where the circuit has closed, all go, but not at once: the first alone, the others at
  shorter and shorter intervals, so that a service that has just come back is not met by
  all who have missed it.
- Where one has another circuit now, one stands in the row of that, also if it is closed:
  those who are moved may be as many as those who are let go. A key that has no circuit
  has one made, at the same shorter and shorter intervals. Nothing is known of it: until
  a call has succeeded, one goes a second, as where a call would be the probe.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import anyio
from anyio.lowlevel import current_token

from . import _loop
from ._breaker import CircuitState
from ._circuit import KEYED, SHARED, Circuit

_RECHECK: Final = 5.0
"""Seconds after which the circuit is looked at again, should nobody have told of a change:
an operator in another thread, say."""

_LONGEST_SLEEP: Final = 86_400.0
"""What patience with another kind of clock comes to at the most: else it would end in an
infinite sleep."""

_PROBE_GAP: Final = 1.0
_FIRST_GAP: Final = 0.1


class Waiters:
    """
    Those who wait for one circuit in the loop that runs, in the order in which they came.
    """

    __slots__ = ("_groups", "_row", "_token")

    def __init__(self) -> None:
        # Each with its group. A dict's first is slow to find once many have gone.
        self._row: OrderedDict[Waiter, int | None] = OrderedDict()
        self._groups: dict[int, OrderedDict[Waiter, None]] = {}
        self._token = current_token()

    def __len__(self) -> int:
        return len(self._row)

    @property
    def is_of_this_loop(self) -> bool:
        """
        Whether it is the loop that runs in which they wait. Those of a loop that was
        dropped stand in their row for ever, and nobody is to stand behind them.
        """
        return _loop.runs_here(self._token)

    @property
    def is_alive(self) -> bool:
        """
        Whether the loop in which they wait still runs, here or in another thread.
        """
        return self.is_of_this_loop or _loop.is_alive(self._token)

    def wake(self) -> None:
        """
        Have the first one look.
        """
        for waiter in self._row:
            waiter.wake()
            break

    def wake_all(self) -> None:
        """
        Have all of them look: some may have to wait for another circuit now.
        """
        for waiter in tuple(self._row):
            waiter.wake()

    def wake_group(self, group: int) -> None:
        """
        Have the first one of a group look, wherever it stands: the group may have another
        circuit now. If so it leaves, and the next one of them looks.
        """
        for waiter in self._groups.get(group, ()):
            waiter.wake()
            break

    def join(self, waiter: Waiter, group: int | None) -> None:
        """
        Stand at the end of the row, and of the group if one is told.
        """
        self._row[waiter] = group
        if group is not None:
            self._groups.setdefault(group, OrderedDict())[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """
        Stand there no more. Awaits nothing, so whoever is cancelled can do it.
        """
        was_first, led = self.is_first(waiter), self.leads(waiter)
        group = self._row.pop(waiter)
        if group is not None:
            del self._groups[group][waiter]
            if not self._groups[group]:
                del self._groups[group]
            elif led:
                self.wake_group(group)
        if was_first:
            self.wake()

    def is_first(self, waiter: Waiter) -> bool:
        """
        Whether nobody stands before it.
        """
        return next(iter(self._row)) is waiter

    def leads(self, waiter: Waiter) -> bool:
        """
        Whether it has a group, nobody of which stands before it.
        """
        group = self._row[waiter]
        return group is not None and next(iter(self._groups[group])) is waiter


class Pace(NamedTuple):
    """
    Who was let go since the circuit last let a probe in or changed its state.

    It outlives the row: whoever comes when that is empty is not the first for it. Those
    who are moved to a circuit come one by one, and each may find nobody there.

    Attributes:
        let_go: How many.
        at: When the last of them, on the clock of the loop.
    """

    let_go: int
    at: float

    def gap(self, *, probing: bool) -> float:
        """
        Seconds until the next one may go, now that the circuit would let it in.
        """
        now = anyio.current_time()
        if now < self.at:
            return 0.0  # that was by the clock of another loop
        gap = _PROBE_GAP if probing else _FIRST_GAP / self.let_go
        return self.at + gap - now

    @classmethod
    def after(cls, pace: Pace | None) -> Pace:
        """
        One more is let go. It begins anew where the last went so long ago that he has
        nothing to do with this one, or the many who went then would be counted for ever.
        """
        now = anyio.current_time()
        if pace is None or not 0 <= now - pace.at < _PROBE_GAP:
            return cls(1, now)
        return cls(pace.let_go + 1, now)


class Waiter:
    """
    One who waits.

    Args:
        find: The circuit that it waits for, as it is now, or ``None`` where the call would
            have a new one, unless that is to be made; raises where there will be none.
        time_for: Seconds on a circuit's clock, or NaN.
        key: The key that its circuit was found by, if it was by a key.
    """

    def __init__(
        self,
        find: Callable[[bool], Circuit | None],
        time_for: Callable[[Circuit], float],
        key: Callable[[], str | None],
    ) -> None:
        self._find = find
        self._time_for = time_for
        self._key = key
        self._woken = _loop.Bell()
        self._rest = self._slept = math.nan

    def wake(self) -> None:
        """
        Have it look at its circuit.
        """
        self._woken.ring()

    async def wait(self) -> None:
        """
        Return when a call would be let in now. Awaits nothing where that is so already.

        Raises:
            UnknownToolError: There is no such circuit any more.
        """
        circuit = self._find(False)
        if circuit is None or (
            circuit.breaker.closed_permit is not None and circuit.waiters is None
        ):
            return
        while circuit is not None:
            row = circuit.waiters
            if row is None or not row.is_of_this_loop:
                row = circuit.waiters = Waiters()
            row.join(self, self._group(circuit))
            try:
                other = await self._stand(circuit, row)
            finally:
                row.leave(self)
                if not len(row) and circuit.waiters is row:
                    circuit.waiters = None
                    circuit.stir()
            circuit = other

    async def _stand(self, circuit: Circuit, row: Waiters) -> Circuit | None:
        """
        Wait in the row until it may go, or has to wait for another circuit, which is
        returned. Where it may not go at once, it awaits something: a circuit that is
        another whenever one asks must not keep the loop from all else.
        """
        found: Circuit | None = circuit
        while found is circuit or found is None:
            if not (row.is_first(self) or (found is None and row.leads(self))):
                await self._woken.wait()
            else:
                pause = self._pause(circuit) if found is circuit else _gap(circuit)
                if pause <= 0:
                    circuit.pace = Pace.after(circuit.pace)
                    return None if found is circuit else self._find(True)
                with anyio.move_on_after(pause) as scope:
                    await self._woken.wait()
                if not scope.cancelled_caught:
                    self._slept = math.nan
            self._woken = _loop.Bell()  # before it looks: nothing is missed meanwhile
            found = self._find(False)
        return found

    def _group(self, circuit: Circuit) -> int | None:
        """
        With whom it may have another circuit than others in the row: where keys share a
        circuit with those of its key, and where a hand holds the tool's with all who have
        a key; the others wait for that one.
        """
        key = self._key()
        if key is None or not (circuit.key is None or circuit.key in SHARED):
            return None
        return KEYED if circuit.key is None else hash(key)

    def _pause(self, circuit: Circuit) -> float:
        """
        Seconds to sleep unless something changes; 0 for none.
        """
        rest = circuit.breaker.available_in(self._time_for(circuit))
        self._slept = math.nan if rest is None or rest == 0 else self._slept
        if rest == 0:
            return _gap(circuit, probing=_is_probed(circuit))
        if rest is None:
            return _RECHECK
        pause = self._patience(rest)
        if circuit.key in SHARED:
            pause = min(pause, _RECHECK)  # there may be room for its key before that
        self._rest, self._slept = rest, pause
        return pause

    def _patience(self, rest: float) -> float:
        """
        The rest, but longer each time where the loop has slept and the circuit's clock has
        not moved as far: it is another kind of clock, and to ask it often is no use.
        """
        if self._rest - rest < self._slept / 2:
            return max(rest, min(2 * self._slept, _LONGEST_SLEEP))
        return rest


def _is_probed(circuit: Circuit) -> bool:
    """
    Whether a call that it lets in would be a probe, or is as good as one.
    """
    return circuit.untried or circuit.state not in (
        CircuitState.CLOSED,
        CircuitState.DISABLED,
    )


def _gap(circuit: Circuit, *, probing: bool = False) -> float:
    """
    Seconds until the next one may go from its row, if nothing else is in the way.
    """
    return 0.0 if circuit.pace is None else circuit.pace.gap(probing=probing)
