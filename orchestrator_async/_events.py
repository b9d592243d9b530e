"""
What observers are told: frozen records, one a happening.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ._breaker import CircuitState
from ._callbacks import is_its_own
from ._checks import is_async
from ._foreign import bare_type_name, is_a
from ._frozen import quick
from ._log import log_with_traceback
from ._outcome import Verdict
from ._text import quote_name
from ._traceback import raise_as_it_was


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CallFinished:
    """
    A tool was run, and the call is over.

    Arguments and context are those of the caller, by reference: an audit log may read
    them, and should write what it keeps. ``repr`` shows neither, nor the value.

    Attributes:
        tool_name: The tool.
        call_id: The caller's id of the call, or ``None``.
        arguments: As the caller gave them: a mapping, JSON text or ``None``.
        context: The keyword arguments of ``dispatch``.
        verdict: What the circuit was told, or would have been by a call that runs
            under the probe which made it.
        late: Whether that came after the circuit had moved on.
        duration: Seconds.
        value: What the tool returned.
        error: What it raised, or what was made of its end.
        state: The circuit's state now.
        attempt: 1 for the first execution of the call.
    """

    tool_name: str
    call_id: str | None
    arguments: Any = field(repr=False)
    context: Mapping[str, Any] = field(repr=False)
    verdict: Verdict
    late: bool
    duration: float
    value: Any = field(repr=False)
    error: BaseException | None = field(repr=False)
    state: CircuitState
    attempt: int = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CallRejected:
    """
    A tool was not run, and the call is answered so, unless a ``RetryScheduled`` follows, or
    an attempt before has run it and has the answer, or a fallback has one.

    Attributes:
        tool_name: The tool, or the name that no tool has, cleaned and cut.
        call_id: The caller's id of the call, or ``None``.
        arguments: As the caller gave them.
        context: The keyword arguments of ``dispatch``.
        reason: ``"circuit"``, ``"limit"``, ``"guard"``, ``"invalid_arguments"``,
            ``"unknown_tool"``, ``"draining"`` or ``"unusable"``.
        retry_after: Seconds after which it may be tried again, or ``None``.
        state: The circuit's state, or ``None`` where there is no circuit.
    """

    tool_name: str
    call_id: str | None
    arguments: Any = field(repr=False)
    context: Mapping[str, Any] = field(repr=False)
    reason: str
    retry_after: float | None
    state: CircuitState | None


finished: Final = quick(CallFinished)
rejected: Final = quick(CallRejected)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CircuitChanged:
    """
    A circuit has changed its state, or would have if it were not disabled.

    Attributes:
        circuit: Its name.
        key: Its key, if it is one of those that a tool has by key; else ``None``.
        old: The state before.
        new: The state after.
        reason: Why, in a few words.
        enforced: False where the circuit is disabled: this is what it would have done.
        last_error: The last failure that it was told of, cleaned, or ``None``.
        retry_after: Seconds that it stays open, if that is what it did.
    """

    circuit: str
    old: CircuitState
    new: CircuitState
    reason: str
    last_error: str | None
    retry_after: float | None
    key: str | None = None
    enforced: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RetryScheduled:
    """
    An attempt has come to nothing, and there will be another.

    Attributes:
        tool_name: The tool.
        call_id: The caller's id of the call, or ``None``.
        attempt: The number of the attempt that has ended, from 1.
        wait: Seconds until the next one.
        error: What the tool raised, or why it was not run; ``None`` if it returned.
    """

    tool_name: str
    call_id: str | None
    attempt: int
    wait: float
    error: BaseException | None = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProgressReported:
    """
    A tool that is running has said how far it has come.

    Attributes:
        tool_name: The tool.
        call_id: The caller's id of the call, or ``None``.
        attempt: 1 for the first execution of the call.
        done: How much is done, in the tool's own unit.
        total: How much there is to do, or ``None`` if the tool has not said.
        message: What it is doing, cleaned, or ``None``.
    """

    tool_name: str
    call_id: str | None
    attempt: int
    done: float
    total: float | None
    message: str | None


Event = CallFinished | CallRejected | CircuitChanged | RetryScheduled | ProgressReported


class Observer(Protocol):
    """
    Whatever can be called with an event. It must not block: the call waits for it.
    """

    def __call__(self, event: Event, /) -> object:
        """Take note of the event."""


class Observers:
    """
    Tells events to observers, each event to all of them before the next event.

    An observer that makes something happen does not see it inside its own call, and
    one that raises is logged once and changes nothing.

    Attributes:
        listening: Those who are told. Empty where an event need not even be made.
    """

    __slots__ = ("_clean", "_complained", "_queue", "_telling", "listening")

    def __init__(self, observers: Iterable[Observer], clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._complained: set[int] = set()
        self.listening: tuple[Observer, ...] = ()
        self._queue: deque[Event] = deque()
        self._telling = False
        for observer in observers:
            self.add(observer)

    def add(self, observer: Observer) -> None:
        """
        Tell this one too.

        Raises:
            TypeError: It cannot be called, or is a coroutine function.
        """
        told: object = observer
        if not callable(told) or is_async(told):
            raise TypeError(
                f"an observer is called with each event and must be a plain function: "
                f"{observer!r}"
            )
        self.listening = (*self.listening, observer)

    def remove(self, observer: Observer) -> None:
        """
        Tell this one no more. Does nothing if it was not told.
        """
        gone = [each for each in self.listening if each == observer]
        self.listening = tuple(each for each in self.listening if each not in gone)
        # Those that were added: a bound method is another object each time it is read.
        self._complained.difference_update(map(id, gone))

    def tell(self, event: Event) -> None:
        """
        Tell the event to all, after those that are being told.
        """
        queue = self._queue
        if self._telling:
            queue.append(event)
            return
        self._telling = True
        interrupt = None
        try:
            while True:
                for observer in self.listening:
                    try:
                        observer(event)
                    except BaseException as error:
                        if is_its_own(error):
                            self._complain(observer, error)
                        elif interrupt is None:
                            # Raised when all is told: who keeps account of circuits
                            # must not miss a change because the program is stopped.
                            interrupt = error
                        else:
                            raise
                if not queue:
                    break
                event = queue.popleft()
        finally:
            self._telling = False
            queue.clear()
        if interrupt is not None:
            try:
                raise_as_it_was(interrupt)
            finally:
                del interrupt

    def _complain(self, observer: Observer, error: BaseException) -> None:
        if id(observer) not in self._complained:
            self._complained.add(id(observer))
            what = f"the observer {_name_of(observer)} raised, and goes on being told"
            log_with_traceback(what, error, self._clean)


def _name_of(observer: object) -> str:
    name = None
    with suppress(Exception):
        name = getattr(observer, "__qualname__", None)
    return quote_name(name if is_a(name, str) else bare_type_name(observer))
