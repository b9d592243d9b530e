"""
The tools of one orchestrator, with their circuits and figures, made on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

from ._breaker import CircuitState, Transition
from ._circuit import Circuit
from ._entry import Entry
from ._errors import UnknownToolError
from ._events import CircuitChanged, Observers
from ._log import logger
from ._policy import BreakerPolicy, BreakerSettings, ToolPolicy, ToolSettings
from ._registry import Registry
from ._stats import Figures
from ._threads import Slots
from ._tool import Tool


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
        observers: Observers,
        clean: Callable[[str], str],
    ) -> None:
        self.registry = registry
        self.entries: dict[str, Entry] = {}
        self.circuits: dict[str, Circuit] = {}
        self._policy = policy
        self._circuit_policies = dict(circuits)
        self._observers = observers
        self._clean = clean
        self._kept: dict[str, Entry] = {}
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
            settings = ToolSettings.of(tool.policy, self._policy)
            circuit = self.circuit(tool.circuit_name)
            slots = self._slots_of(tool, settings)
            figures = self.figures(tool.name)
            entry = Entry(tool, settings, circuit, figures, slots, self._clean)
            self.entries[tool.name] = entry
            self._kept.pop(tool.name, None)
        return entry

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
        settings = BreakerSettings.of(
            *(tool.policy.breaker for tool in tools),
            self._circuit_policies.get(name, BreakerPolicy()),
            self._policy.breaker,
        )
        circuit = self.circuits.get(name)
        if circuit is None:
            circuit = self.circuits[name] = Circuit(name, settings, self._changed)
        elif circuit.breaker.settings is not settings:
            circuit.breaker.configure(settings)
        return circuit

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
            self._kept.pop(tool.name, None)
        elif entry is not None:
            self._kept[tool.name] = entry
        circuit = self.circuits.get(tool.circuit_name)
        if circuit is None:
            return
        if self.registry.sharing(tool.circuit_name):
            self.circuit(tool.circuit_name)
        else:
            del self.circuits[tool.circuit_name]
            circuit.retire()

    def tool_added(self, tool: Tool) -> None:
        """
        The registry's word that a tool was added, whose circuit may be in use already.
        """
        if tool.circuit_name in self.circuits:
            self.circuit(tool.circuit_name)

    def _changed(self, circuit: Circuit, transition: Transition) -> None:
        """
        A circuit's word that it has changed its state. No lock is held.
        """
        opened = transition.new is CircuitState.OPEN
        logger.log(
            logging.WARNING if opened else logging.INFO,
            "circuit %s: %s -> %s (%s)%s",
            self._clean(circuit.name),
            transition.old,
            transition.new,
            transition.reason,
            f"; last error: {circuit.last_error}" if opened else "",
        )
        if self._observers.listening:
            wait = circuit.breaker.settings.reset_timeout
            self._observers.tell(
                CircuitChanged(
                    circuit=circuit.name,
                    old=transition.old,
                    new=transition.new,
                    reason=transition.reason,
                    last_error=circuit.last_error,
                    retry_after=wait if opened else None,
                )
            )
