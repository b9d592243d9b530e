"""
A tool as one orchestrator has it: its settings decided, with its circuit and figures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from ._breaker import Breaker, CircuitState, Refusal
from ._callbacks import is_its_own
from ._calls import Request, ToolContext, ToolResult
from ._circuit import Circuit
from ._errors import CircuitOpenError, OrchestratorError
from ._foreign import bare_type_name, is_a
from ._keyed import KeyedCircuits
from ._log import log_with_traceback
from ._outcome import (
    Judge,
    any_error,
    error_text,
    exceptions_only,
    of_value,
    value_judge,
)
from ._policy import ToolSettings
from ._stats import Figures
from ._threads import Slots
from ._tool import Binder, Tool

_LONGEST_KEY: Final = 128

Step = Callable[[Request, bool], Awaitable[ToolResult]]
"""A part of a call's way: runs what is within it. Whether the value is made text, too."""


class Entry:
    """
    What a dispatch needs of a tool, at hand.

    Attributes:
        judge: What the tool's own judge is, or ``None`` for the ready-made ones.
        judge_value: What that says of a value alone, where it says it.
        reads_values: Whether a returned ``error`` counts.
        direct: Whether a short path can run it: a coroutine function that wants no context,
            and has one circuit.
        simple: Whether that of ``dispatch`` can, as it has no judge of its own either.
        keyed: Its circuits by key, where it has such; ``circuit`` is then that of calls
            that have none.
        streams: Whether the tool is an async generator.
        around: What a call goes through instead of being run at once, for a tool with
            parts around its calls; else ``None``.
    """

    __slots__ = (
        "_clean",
        "_closed_among",
        "_named",
        "_refusal_alternatives",
        "_refusal_generation",
        "_refusal_seconds",
        "_refusal_text",
        "around",
        "binder",
        "breaker",
        "check",
        "circuit",
        "complained",
        "direct",
        "figures",
        "fn",
        "is_async",
        "judge",
        "judge_value",
        "keyed",
        "name",
        "reads_values",
        "settings",
        "simple",
        "slots",
        "streams",
        "timeout",
        "tool",
    )

    def __init__(
        self,
        tool: Tool,
        settings: ToolSettings,
        circuit: Circuit,
        keyed: KeyedCircuits | None,
        figures: Figures,
        slots: Slots | None,
        clean: Callable[[str], str],
        closed_among: Callable[[tuple[str, ...]], tuple[str, ...]],
    ) -> None:
        self.tool = tool
        self.name = tool.name
        self.fn = tool.fn
        self.is_async = tool.is_async
        self.streams = tool.streams
        self.settings = settings
        self.timeout = settings.timeout
        self.circuit = circuit
        self.breaker: Breaker = circuit.breaker
        self.keyed = keyed
        self.figures = figures
        self.binder = Binder(tool, settings)
        self.check = self.binder.check
        self.judge, self.reads_values = _judge_of(settings)
        self.judge_value = value_judge(self.judge)
        self._clean = clean
        self.complained: set[str] | None = None  # most have nothing to complain of
        self.slots = slots
        self.around: Step | None = None
        self.direct = (
            self.is_async
            and not self.streams
            and self.binder.context_parameter is None
            and keyed is None
            and settings.max_result_size is None
        )
        self.simple = self.direct and self.judge is None
        self._refusal_generation = -1
        self._refusal_seconds: int | None = None
        self._refusal_text = ""
        self._refusal_alternatives: tuple[str, ...] = ()
        self._named = tool.alternatives
        self._closed_among = closed_among

    @property
    def alternatives(self) -> tuple[str, ...]:
        """
        The tools to point to, of those that it names: their circuits are closed now.
        """
        return self._closed_among(self._named) if self._named else ()

    @property
    def lease(self) -> float:
        """
        Seconds that a probe by this tool may hold its place.
        """
        return self.settings.lease(self.breaker.settings)

    def refusal_error(
        self,
        refusal: Refusal,
        circuit: Circuit,
        allows: Callable[[str], bool] | None = None,
    ) -> CircuitOpenError:
        """
        The refusal by a circuit as the error that ``call`` raises, with those alternatives
        that the caller may be told of.
        """
        breaker = circuit.breaker
        failures, reason, paused = breaker.failures, breaker.reason, breaker.paused
        if breaker.is_forced_open:
            failures = max(failures, breaker.settings.failure_threshold)
            reason, paused = "", False
        return CircuitOpenError(
            tool_name=self.name,
            circuit=circuit.name,
            state=refusal.state.value,
            retry_after=refusal.retry_after,
            failures=failures,
            reason=reason,
            paused=paused,
            key=circuit.key,
            alternatives=tuple(filter(allows or bool, self.alternatives)),
        )

    def refusal_text(
        self,
        state: CircuitState,
        wait: float | None,
        circuit: Circuit | None = None,
        allows: Callable[[str], bool] | None = None,
    ) -> str:
        """
        A refusal as the model reads it. Rendered once a second, however many ask the
        tool's own circuit and may be told of all tools.
        """
        if allows is not None:
            return self._render(state, wait, circuit or self.circuit, allows)
        if circuit is not None and circuit is not self.circuit:
            return self._render(state, wait, circuit)
        seconds = None if wait is None else math.ceil(wait)
        if (
            seconds != self._refusal_seconds
            or self.breaker.generation != self._refusal_generation
            # Their circuits change while this one stays as it is.
            or (self._named and self.alternatives != self._refusal_alternatives)
        ):
            self._refusal_alternatives = self.alternatives
            self._refusal_text = self._render(state, wait, self.circuit)
            self._refusal_seconds = seconds
            self._refusal_generation = self.breaker.generation
        return self._refusal_text

    def _render(
        self,
        state: CircuitState,
        wait: float | None,
        circuit: Circuit,
        allows: Callable[[str], bool] | None = None,
    ) -> str:
        error = self.refusal_error(Refusal(state, wait), circuit, allows)
        more: dict[str, Any] = {
            "circuit_breaker": True,
            "state": state.value,
            "retry_after": None if wait is None else math.ceil(wait),
            "alternatives": list(error.alternatives),
        }
        return error_text(str(error), self.name, **more)

    def take(self, key: str | None, now: float) -> Circuit:
        """
        The circuit of a call with that key, taken; it has to be given back. Without a key
        it is the tool's own.
        """
        if key is None or self.keyed is None:
            return self.circuit
        return self.keyed.take(key, now)

    def give_back(
        self, circuit: Circuit, key: str | None, now: float, succeeded: bool | None
    ) -> None:
        """
        A call that has taken this circuit is over; ``succeeded`` is what it has told it,
        or ``None`` for nothing.
        """
        if key is not None and self.keyed is not None:
            self.keyed.give_back(circuit, key, now, succeeded)

    def surround(self, step: Step | None) -> None:
        """
        Have calls go through this.
        """
        self.around = step
        self.direct = self.direct and step is None
        self.simple = self.simple and step is None

    def key_of(self, arguments: Mapping[str, Any], request: Request) -> str | None:
        """
        The key of a call's circuit, or ``None`` where it has none. One that cannot be had
        is none, which is logged once.
        """
        of = self.tool.circuit_key
        assert of is not None
        context = ToolContext(
            tool_name=self.name, call_id=request.call_id, data=request.context
        )
        try:
            key: object = of(MappingProxyType(arguments), context)
            if key is None:
                return None
            if is_a(key, str):
                return short_key(str.__str__(key))
            if hasattr(key, "close"):
                key.close()  # a coroutine that nobody will await
            raise TypeError(f"expected text or None, not a {bare_type_name(key)}")
        except BaseException as raised:
            if not is_its_own(raised, self.settings.control_flow):
                raise
            what = "its circuit function gave no key, so the tool's own circuit is used"
            self.complain(what, raised)
            return None

    def complain(self, what: str, error: BaseException) -> None:
        """
        Log, the first time, that something of the tool's author raised.
        """
        if self.complained is None:
            self.complained = set()
        if what not in self.complained:
            self.complained.add(what)
            log_with_traceback(f"{self.name}: {what}", error, self._clean)


def short_key(key: str) -> str:
    """
    A key as it is kept: a long one by its beginning and a digest of the whole.
    """
    if len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[:60]}...{digest}"


def unusable(tool_name: str, cause: Exception) -> OrchestratorError:
    """
    What is wrong with a tool that cannot be used, as its callers are told.
    """
    error = OrchestratorError(
        f"{tool_name} cannot be called: it is not defined rightly, which is not "
        "your mistake. It was not run; use another tool.",
        tool_name=tool_name,
    )
    error.__cause__ = cause
    return error


def _judge_of(settings: ToolSettings) -> tuple[Judge | None, bool]:
    """
    The tool's own judge, and whether a returned ``error`` counts where it is silent.
    """
    if settings.is_failure is not None:
        return of_value(settings.is_failure), True
    if settings.judge is any_error or settings.judge is None:
        return None, True
    if settings.judge is exceptions_only:
        return None, False
    return settings.judge, True
