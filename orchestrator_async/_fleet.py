"""
The tools of one orchestrator, with their circuits and figures, made on first use.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from . import _loop
from ._breaker import CircuitState, Saved, Transition
from ._calls import Request, read_call
from ._circuit import Circuit
from ._draining import Drain, unwatch
from ._entry import Entry, Step, short_key, unusable
from ._errors import (
    DrainingError,
    InvalidArgumentsError,
    OrchestratorError,
    UnknownToolError,
)
from ._events import CircuitChanged, Observers
from ._keyed import KeyedCircuits
from ._log import log_with_traceback, logger
from ._named import Named
from ._policy import BreakerPolicy, BreakerSettings, ToolPolicy, ToolSettings
from ._registry import Registry
from ._stats import Figures
from ._threads import Slots
from ._tool import Tool


class Intended(Request):
    """
    A call that somebody means to make, with its key. A key is asked for once a tool: the
    function that gives it need not say the same twice, and one waits for one circuit.
    """

    __slots__ = ("key", "tool")

    def __init__(self, name: str, args: Any, context: Mapping[str, Any]) -> None:
        super().__init__(name, args, None, context)
        self.tool: Tool | None = None  # that whose key it has
        self.key: str | None = None


class _Pending(NamedTuple):
    """
    What was saved of a circuit that has not come yet: what, when, and by the clock of
    which loop, if it is a loop's.
    """

    saved: Saved
    then: float
    loop: EventLoopToken | None


class Fleet:
    """
    Entries by the names of tools, and circuits by their own.

    Nothing is kept of a name that the registry does not know, and nothing of a tool
    that was removed.
    """

    def __init__(
        self,
        registry: Registry,
        policy: ToolPolicy,
        circuits: Mapping[str, BreakerPolicy],
        named: Named,
        observers: Observers,
        clean: Callable[[str], str],
        clock: Callable[[], float],
        clock_is_the_loops: bool,
    ) -> None:
        named.check(registry)
        self.registry = registry
        self.entries: dict[str, Entry] = {}
        self.circuits: dict[str, Circuit] = {}
        self.keyed: dict[str, KeyedCircuits] = {}
        self._policy = policy
        self._circuit_policies = dict(circuits)
        self._named = named
        self._overrides: dict[str, BreakerPolicy] = {}
        self._clock = clock
        self._clock_is_the_loops = clock_is_the_loops
        self._closed_among = self.closed_among  # one for all: each would be 64 bytes
        self.drain: Drain | None = None
        self.surround: Callable[[Entry], Step | None] = _nothing_around
        self.join: Callable[[Circuit], object] | None = None  # other processes
        self._saved: dict[tuple[str, str | None], _Pending] = {}
        self._leaving: list[tuple[str, Figures]] = []
        self._answering: dict[str, Figures] = {}
        self._observers = observers
        self._clean = clean
        self._kept: dict[str, Entry] = {}
        self._complained: set[str] = set()  # names of circuits
        # Kept alive by the calls whose threads run, and by the entries.
        self._slots: WeakValueDictionary[str, Slots] = WeakValueDictionary()
        registry.watch(self)

    def entry(self, tool: Tool) -> Entry:
        """
        The tool's entry, made now if there is none.

        Raises:
            TypeError: Its signature does not lend itself to a schema.
        """
        entry = self.entries.get(tool.name)
        if entry is None:
            circuit = self.circuit(tool.circuit_name)
            settings = self.settings(tool)
            keyed = self._keyed(tool, circuit)
            slots = self._slots_of(tool, settings)
            figures = self.figures(tool.name)
            entry = Entry(
                tool,
                settings,
                circuit,
                keyed,
                figures,
                slots,
                self._clean,
                self._closed_among,
            )
            before = self._kept.get(tool.name)
            if before is not None and before.tool is tool and before.settings == settings:
                entry.complained = before.complained
            entry.surround(self.surround(entry))
            self.entries[tool.name] = entry
            self._kept.pop(tool.name, None)
        return entry

    def settings(self, tool: Tool) -> ToolSettings:
        """
        A tool's settings, as they are now.
        """
        levels = (*self._named.levels(tool.name), tool.policy, self._policy)
        return ToolSettings.of(*levels).besides(tool.fn)

    def _keyed(self, tool: Tool, circuit: Circuit) -> KeyedCircuits | None:
        """
        The circuits by key of a tool that has such. They are the same as long as it has.
        """
        if tool.circuit_key is None:
            return None
        keyed = self.keyed.get(tool.name)
        if keyed is None:

            def make(key: str) -> Circuit:
                return self._made(Circuit(tool.name, circuit.breaker.settings, self, key))

            keyed = self.keyed[tool.name] = KeyedCircuits(
                make,
                circuit.breaker.settings.max_keys,
                begin=self._restore,
                time_for=self.time_for if self._clock_is_the_loops else None,
            )
            self._place_saved(tool.name, keyed)
        return keyed

    def _slots_of(self, tool: Tool, settings: ToolSettings) -> Slots | None:
        """
        The threads' places of a plain function: those of the tool that had its name
        before, if some of its threads still run, so that no hung tool gets a second set.
        """
        if tool.is_async:
            return None
        slots = self._slots.get(tool.name)
        if slots is None:
            slots = self._slots[tool.name] = Slots(settings.max_threads)
        slots.size = settings.max_threads
        return slots

    def called(self) -> list[str]:
        """
        Names of the tools that were called.
        """
        return [*self.entries, *self._kept]

    def figures(self, name: str) -> Figures:
        """
        A tool's figures, also of one that was not called or was replaced since.
        """
        entry = self.entries.get(name) or self._kept.get(name)
        return Figures() if entry is None else entry.figures

    def circuit(self, name: str) -> Circuit:
        """
        The circuit of that name, with the settings of all the tools that have it now.

        Raises:
            UnknownToolError: No tool has it.
        """
        tools = self.registry.sharing(name)
        if not tools:
            raise self._no_circuit(name)
        levels = [
            self._overrides.get(name, BreakerPolicy()),
            *(each.breaker for tool in tools for each in self._named.levels(tool.name)),
            *(tool.policy.breaker for tool in tools),
            self._circuit_policies.get(name, BreakerPolicy()),
            self._policy.breaker,
        ]
        # Hundreds of tools that share a circuit say the same, mostly by the same policy.
        settings = BreakerSettings.of(*{id(each): each for each in levels}.values())
        circuit = self.circuits.get(name)
        if circuit is None:
            circuit = self.circuits[name] = self._made(Circuit(name, settings, self))
            self._restore(circuit)
        elif circuit.breaker.settings != settings:
            circuit.configure(settings)
            if name in self.keyed:
                self.keyed[name].configure(settings, self.time())
        return circuit

    def _made(self, circuit: Circuit) -> Circuit:
        if self.join is not None:
            self.join(circuit)
        return circuit

    def circuit_of_key(self, name: str, key: str) -> Circuit:
        """
        The circuit of a key of that tool, made now if there is none.

        Raises:
            LookupError: There is no room for one more.
            ValueError: The tool has no circuits by key.
        """
        tool = self.registry.get(name)
        if tool is None or tool.circuit_key is None:
            raise ValueError(f"{name} has no circuits by key, so key={key!r:.200} is wrong")
        keyed = self.entry(tool).keyed
        assert keyed is not None
        return keyed.ensure(short_key(key), self.time())

    def circuit_for_call(self, request: Intended, *, make: bool = False) -> Circuit | None:
        """
        The circuit that a call would ask now, or ``None`` where its key has none yet and
        none is to be made.

        Raises:
            UnknownToolError: There is no such tool.
            InvalidArgumentsError: The arguments do not fit, where there is a key.
            DrainingError: No calls are taken any more.
            OrchestratorError: The tool cannot be used.
        """
        tool = self.registry[request.name]
        if self.drain is not None:
            raise DrainingError(tool_name=tool.name)
        try:
            entry = self.entry(tool)
        except Exception as error:
            raise unusable(tool.name, error) from error
        if request.tool is not tool:
            request.key = None
            if entry.keyed is not None:
                request.key = entry.key_of(entry.binder.bind(request.args), request)
            request.tool = tool
        key = request.key
        if key is None or entry.breaker.refusal_by_hand() is not None:
            return entry.circuit
        assert entry.keyed is not None
        if make:
            return entry.keyed.make(key, self.time())
        return entry.keyed.peek(key, self.time())

    @property
    def line_of(self) -> Callable[[Any], str | None] | None:
        """
        What tells the line in which a call of a turn stands, if there are any.
        """
        return self._line_of if self.registry.has_writers else None

    def _line_of(self, call: Any) -> str | None:
        """
        That of its circuit, if its tool says that it changes something.
        """
        try:
            tool = self.registry.get(read_call(call).name)
        except InvalidArgumentsError:
            return None
        return tool.circuit_name if tool is not None and tool.read_only is False else None

    def refuses(self, tool: Tool) -> bool:
        """
        Whether a call of the tool would be refused now, whatever its arguments.
        """
        if tool.circuit_name not in self.circuits:
            return False
        circuit = self.circuits[tool.circuit_name]
        if tool.circuit_key is not None:
            return circuit.breaker.refusal_by_hand() is not None
        return circuit.breaker.refusal(self.time_for(circuit)) is not None

    def closed_among(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """
        Those of the names whose circuits let all calls run, and are not being tried again,
        say. With circuits by key: by hand. A name that the registry does not know is one of
        a tool from elsewhere, of which nothing is known.
        """
        return tuple(name for name in names if self._is_closed(name))

    def _is_closed(self, name: str) -> bool:
        tool = self.registry.get(name)
        if tool is None:
            return True
        circuit = self.circuits.get(tool.circuit_name)
        if circuit is None:
            return True
        if tool.circuit_key is not None:
            return circuit.breaker.refusal_by_hand() is None
        return circuit.state in (CircuitState.CLOSED, CircuitState.DISABLED)

    def _no_circuit(self, name: str) -> UnknownToolError:
        tool = self.registry.get(name)
        if tool is None:
            return self.registry.unknown(name)
        return UnknownToolError(tool_name=name, did_you_mean=[tool.circuit_name])

    def tool_changed(self, tool: Tool, *, removed: bool) -> None:
        """
        The registry's word that a tool was replaced or removed.
        """
        entry = self.entries.pop(tool.name, None)
        if removed:
            gone = entry or self._kept.pop(tool.name, None)
            self._leaving = [each for each in self._leaving if each[1].in_flight]
            if gone is not None and gone.figures.in_flight:
                self._leaving.append((tool.name, gone.figures))
        elif entry is not None:
            self._kept[tool.name] = entry
        circuit = self.circuits.get(tool.circuit_name)
        if circuit is None:
            return
        if removed or getattr(self.registry.get(tool.name), "circuit_key", None) is None:
            self._drop_keys(tool.name)
        if self.registry.sharing(tool.circuit_name):
            self.circuit(tool.circuit_name)
            # Those who wait for the tool may stand anywhere in the rows of its circuits.
            for each in (circuit, *self.keyed.get(tool.name, ())):
                if each.waiters is not None:
                    each.waiters.wake_all()
        else:
            del self.circuits[tool.circuit_name]
            self._overrides.pop(tool.circuit_name, None)
            self._complained.discard(tool.circuit_name)
            circuit.retire()

    def check(self, tool: Tool) -> None:
        """
        The registry's question whether a tool can come, before anything has changed.

        Raises:
            ValueError: The settings by name are not one for those that would share its
                circuit.
        """
        others = self.registry.sharing(tool.circuit_name)
        self._named.check([*(each for each in others if each.name != tool.name), tool])

    def tool_added(self, tool: Tool) -> None:
        """
        The registry's word that a tool was added, whose circuit may be in use already.
        """
        saved = (tool.circuit_name, None) in self._saved
        if saved or tool.circuit_name in self.circuits:
            self.circuit(tool.circuit_name)

    def _drop_keys(self, name: str) -> None:
        keyed = self.keyed.pop(name, None)
        if keyed is not None:
            for circuit in keyed:
                circuit.retire()

    # From one process to the next

    def restore(self, saved: Mapping[tuple[str, str | None], Saved]) -> None:
        """
        Have circuits go on with what was saved of them, now or when they are made.
        """
        now, loop = self.time(), _loop_if_any() if self._clock_is_the_loops else None
        self._saved |= {at: _Pending(each, now, loop) for at, each in saved.items()}
        for circuit in list(self.all_circuits()):
            self._restore(circuit)
        for name in dict.fromkeys(name for name, _ in self._saved):
            if (name, None) in self._saved and self.registry.sharing(name):
                self.circuit(name)
            tool = self.registry.get(name)
            if tool is not None and tool.circuit_key is not None:
                keyed = self._keyed(tool, self.circuit(name))
                assert keyed is not None
                self._place_saved(name, keyed)

    def _place_saved(self, name: str, keyed: KeyedCircuits) -> None:
        """
        Make the circuits of the keys that were saved, before a call of one of them can
        come. What may not be called has a place even where all are taken: among those who
        share one it would be called as soon as these are.
        """
        for at in [at for at in self._saved if at[0] == name]:
            key = at[1]
            if key is None or at not in self._saved:
                continue  # it is the tool's own, or an observer has asked for it
            saved = self.pending(*at)
            stays = saved.isolated or saved.disabled or (saved.is_open and saved.rest > 0)
            with suppress(LookupError):
                keyed.ensure(short_key(key), self.time(), beyond=stays)

    def _restore(self, circuit: Circuit) -> None:
        if (circuit.name, circuit.key) in self._saved:
            saved = self.pending(circuit.name, circuit.key)
            del self._saved[circuit.name, circuit.key]
            circuit.restore(saved)

    def pending(self, name: str, key: str | None) -> Saved:
        """
        What is left of what was saved of a circuit that has not come yet.
        """
        saved, then, loop = self._saved[name, key]
        passed = self.time() - then
        if not passed > 0 or (loop is not None and not _loop.runs_here(loop)):
            passed = 0.0  # by the clock of another loop, nothing can be told
        return saved._replace(rest=max(0.0, saved.rest - passed))

    def all_pending(self) -> dict[tuple[str, str | None], Saved]:
        """
        The same of all such circuits that refuse calls or are disabled. A tool that never
        comes again must not be handed from one process to the next for ever.
        """
        all_of_them = {at: self.pending(*at) for at in self._saved}
        return {
            at: saved
            for at, saved in all_of_them.items()
            if saved.rest or saved.isolated or saved.disabled
        }

    # Draining

    def running(self) -> dict[str, int]:
        """
        How many calls of which tools are running, also of tools that were removed.
        """
        running: dict[str, int] = {}
        for name, figures in self._all_figures():
            if figures.in_flight:
                running[name] = running.get(name, 0) + figures.in_flight
        return running

    def begin_drain(self) -> Drain:
        """
        Take no calls any more.
        """
        if self.drain is None:
            self.drain = Drain(self.running)
            for _, figures in self._all_figures():
                if figures.in_flight:
                    self.drain.watch(figures)
            for circuit in list(self.all_circuits()):
                circuit.wake()
        return self.drain

    def end_drain(self) -> None:
        """
        Take calls again.
        """
        if self.drain is not None:
            self.drain.call_off()
            self.drain = None
        for _, figures in self._all_figures():
            unwatch(figures)

    @contextmanager
    def answering(self, name: str) -> Iterator[None]:
        """
        A function answers in the place of this tool, and is waited for like a call of it.
        It is no execution, so the tool's own figures do not have it.
        """
        figures = self._answering.setdefault(name, Figures())
        number = figures.begin(0.0)
        try:
            yield
        finally:
            figures.end(number)
            if not figures.in_flight:
                del self._answering[name]

    def _all_figures(self) -> Iterator[tuple[str, Figures]]:
        for name, entry in [*self.entries.items(), *self._kept.items()]:
            yield name, entry.figures
        yield from self._leaving
        yield from self._answering.items()

    def all_circuits(self) -> Iterator[Circuit]:
        """
        Every circuit that there is now.
        """
        yield from self.circuits.values()
        for keyed in self.keyed.values():
            yield from keyed

    # What circuits say; see ``Keeper``

    def changed(self, circuit: Circuit, transition: Transition) -> None:
        """
        A circuit's word that it has changed its state, or would have.
        """
        opened = transition.new is CircuitState.OPEN
        key = "" if circuit.key is None else f" [{circuit.key}]"
        logger.log(
            logging.WARNING if opened else logging.INFO,
            "circuit %s: %s%s -> %s (%s)%s",
            self._clean(circuit.name + key),
            "" if transition.enforced else "disabled, else ",
            transition.old,
            transition.new,
            transition.reason,
            f"; last error: {circuit.last_error}" if opened else "",
        )
        if self._observers.listening:
            self._observers.tell(
                CircuitChanged(
                    circuit=circuit.name,
                    key=circuit.key,
                    old=transition.old,
                    new=transition.new,
                    reason=transition.reason,
                    enforced=transition.enforced,
                    last_error=circuit.last_error,
                    retry_after=circuit.opened_for if opened else None,
                )
            )

    def time(self) -> float:
        """
        Seconds on the clock, or NaN where it is a loop's and none runs.
        """
        try:
            return self._clock()
        except Exception:
            return math.nan

    def time_for(self, circuit: Circuit) -> float:
        """
        The same for a circuit, which goes on with the clock where that is a new loop's.
        """
        now = self.time()
        if self._clock_is_the_loops and not math.isnan(now):
            with suppress(OrchestratorError):  # said when a call asks for a permit
                circuit.follow_loop(now)
        return now

    def has_moved(self, circuit: Circuit) -> None:
        """
        A circuit's word that another loop than before uses it.
        """
        if self.join is not None:
            self.join(circuit)

    def complain(self, circuit: Circuit, what: str, error: BaseException) -> None:
        """
        A circuit's word that something of the user's raised, which is logged once.
        """
        if circuit.name not in self._complained:
            self._complained.add(circuit.name)
            log_with_traceback(f"circuit {circuit.name}: {what}", error, self._clean)

    def reload(self, circuit: Circuit, policy: BreakerPolicy | None) -> None:
        """
        A circuit's word that it is to go on with other settings.
        """
        if policy is None:
            self._overrides.pop(circuit.name, None)
        else:
            self._overrides[circuit.name] = policy
        self._complained.discard(circuit.name)
        self.circuit(circuit.name)

    def reload_all(
        self,
        policy: ToolPolicy,
        circuits: Mapping[str, BreakerPolicy] | None,
        named: Named | None,
    ) -> None:
        """
        Go on with other settings, with all circuits and figures.
        """
        self._policy = policy
        if named is not None:
            self._named = named
        if circuits is not None:
            self._circuit_policies = dict(circuits)
        self._kept |= self.entries
        self.entries.clear()
        self._complained.clear()
        for name in self.circuits:
            self.circuit(name)


def _nothing_around(entry: Entry) -> None:
    """
    What stands around a tool's calls before anything was put there.
    """


def _loop_if_any() -> EventLoopToken | None:
    try:
        return current_token()
    except anyio.NoEventLoopError:
        return None
