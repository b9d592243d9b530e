"""
An observer that keeps what it is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import anyio

from orchestrator_async import CallFinished, CallRejected, CircuitChanged, Event

Kind = TypeVar("Kind", CallFinished, CallRejected, CircuitChanged)


class Recorder:
    """
    An observer that keeps every event: ``ToolOrchestrator(observers=[recorder])``.

    ``len(recorder)`` is how many, and iteration goes over them in their order.

    Attributes:
        events: The events, oldest first.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._inboxes: list[_Inbox] = []

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)
        for each in self._inboxes:
            each.put(event)

    def __len__(self) -> int:
        return len(self.events)

    def __bool__(self) -> bool:
        # ``recorder or default`` must not take an empty one for none.
        return True

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self.events))

    def __repr__(self) -> str:
        return f"<Recorder of {len(self.events)} events>"

    @property
    def finished(self) -> list[CallFinished]:
        """
        The calls that were run.
        """
        return [each for each in self.events if isinstance(each, CallFinished)]

    @property
    def rejected(self) -> list[CallRejected]:
        """
        The calls that were answered without running a tool.
        """
        return [each for each in self.events if isinstance(each, CallRejected)]

    @property
    def changes(self) -> list[CircuitChanged]:
        """
        What circuits did.
        """
        return [each for each in self.events if isinstance(each, CircuitChanged)]

    def of(self, name: str) -> list[Event]:
        """
        What happened to one tool or circuit.

        Args:
            name: The tool, for its calls, or the circuit, for its changes. Without a
                shared circuit they are the same.
        """
        return [each for each in self.events if _name_of(each) == name]

    def clear(self) -> None:
        """
        Forget what was recorded.
        """
        self.events.clear()

    async def wait_for(
        self, kind: type[Kind], where: Callable[[Kind], object] | None = None
    ) -> Kind:
        """
        The first event of a kind, recorded already or to come. Does not sleep and has no
        timeout; ``anyio.fail_after`` around it is one.

        Args:
            kind: ``CallFinished``, ``CallRejected`` or ``CircuitChanged``.
            where: A function of the event, true for the one that is meant. Default: any.
        """
        inbox = _Inbox(self.events)
        self._inboxes.append(inbox)
        try:
            while True:
                event = await inbox.get()
                if isinstance(event, kind) and (where is None or where(event)):
                    return event
        finally:
            self._inboxes.remove(inbox)


class _Inbox:
    """
    The events that one waiting task has yet to look at, whatever is cleared meanwhile.

    The task looks at them itself, as an observer's exception would only be logged.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = deque(events)
        self._more = anyio.Event()

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._more.set()

    async def get(self) -> Event:
        while not self._events:
            self._more = anyio.Event()
            await self._more.wait()
        return self._events.popleft()


def _name_of(event: Event) -> str:
    return event.circuit if isinstance(event, CircuitChanged) else event.tool_name
