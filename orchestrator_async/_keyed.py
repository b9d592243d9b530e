"""Stub."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ._circuit import Circuit
from ._policy import BreakerSettings


class KeyedCircuits:
    def __init__(self, make: Callable[[str | None], Circuit], capacity: int) -> None:
        self._make, self._all = make, {}

    def take(self, key: str, now: float) -> Circuit:
        circuit = self.ensure(key, now)
        circuit.holders += 1
        return circuit

    def give_back(self, circuit: Circuit, now: float, *, succeeded: bool) -> None:
        circuit.holders -= 1

    def get(self, key: str) -> Circuit | None:
        return self._all.get(key)

    peek = lambda self, key, now: self._all.get(key)

    def ensure(self, key: str, now: float) -> Circuit:
        if key not in self._all:
            self._all[key] = self._make(key)
        return self._all[key]

    def configure(self, settings: BreakerSettings) -> None:
        for each in self:
            each.configure(settings)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)
