"""
Faults that strike tools at a rate, the same ones with every run of a seed.
"""

from __future__ import annotations

import functools
import math
import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import anyio
import anyio.from_thread

from orchestrator_async import Registry, Tool

from . import _steps
from ._stand_in import replaced, stand_in

FaultKind = Literal["error", "latency", "hang", "malformed", "huge"]

_KINDS: Final[tuple[FaultKind, ...]] = ("error", "latency", "hang", "malformed", "huge")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """
    A fault that was injected.

    Attributes:
        tool_name: The tool.
        call: Which of the tool's executions it struck, counted from 1.
        kind: ``"error"``, ``"latency"``, ``"hang"``, ``"malformed"`` or ``"huge"``.
        outcome: What it did: the exception, the seconds of the latency, or the step.
    """

    tool_name: str
    call: int
    kind: FaultKind
    outcome: object


class Faults:
    """
    Makes tools fail at given rates.

    Each tool draws from its own sequence, which the seed and its name decide: the third
    execution of ``search`` meets the same fate in every run, whatever other tools do. At
    most one fault strikes an execution, and but for the latency the tool is not run then.
    A stream is struck before its first chunk.

    Args:
        seed: What the sequences are made of. Default 0.
        error: Rate of executions, 0 to 1, that raise. All rates are 0 by default, and
            together at most 1.
        latency: Rate of executions that sleep before they run, on the event loop, where
            time may be virtual.
        hang: Rate of executions that never end.
        malformed: Rate of executions that return text that is no JSON.
        huge: Rate of executions that return a long text.
        errors: Exceptions, or classes of them, of which one is raised. Default: a
            ``ConnectionError``.
        latency_seconds: The least and the most of a latency. Default 0.1 to 2 seconds.
        huge_size: Characters of the long text. Default 1,000,000.
        tools: Names of the tools that it is about. Default: all.

    Attributes:
        injected: The faults, in the order in which they struck.

    Raises:
        ValueError: The rates, the seconds or the size cannot be, or there are no errors.
    """

    def __init__(
        self,
        *,
        seed: int | str = 0,
        error: float = 0.0,
        latency: float = 0.0,
        hang: float = 0.0,
        malformed: float = 0.0,
        huge: float = 0.0,
        errors: Sequence[BaseException | type[BaseException]] = (
            ConnectionError("the connection was refused"),
        ),
        latency_seconds: tuple[float, float] = (0.1, 2.0),
        huge_size: int = 1_000_000,
        tools: Collection[str] | None = None,
    ) -> None:
        self._rates = dict(
            zip(_KINDS, (error, latency, hang, malformed, huge), strict=True)
        )
        _check(self._rates, errors, latency_seconds)
        self._seed = seed
        self._errors = tuple(errors)
        self._least, self._most = latency_seconds
        self._huge = _steps.huge(huge_size)
        self._tools = None if tools is None else frozenset(tools)
        self._drawn: Counter[str] = Counter()
        self._sequences: dict[str, random.Random] = {}
        self._lock = threading.Lock()  # plain functions draw in their threads
        self.injected: list[Fault] = []

    def __repr__(self) -> str:
        rates = ", ".join(f"{kind}={rate}" for kind, rate in self._rates.items() if rate)
        return f"<Faults seed={self._seed!r} {rates}: {len(self.injected)} injected>"

    @property
    def counts(self) -> Counter[FaultKind]:
        """
        How many of each kind were injected.
        """
        return Counter(each.kind for each in self.injected)

    def wrap(self, registry: Registry) -> Registry:
        """
        A new registry with the same tools, struck by faults.

        Schema, validation, settings, circuits and ``ToolContext`` are those of the tools,
        and plain functions run in their threads. The registry itself stays as it is.
        """
        faulty = Registry()
        for tool in registry:
            faulty.add(self._struck(tool) if self._strikes(tool) else tool)
        return faulty

    @contextmanager
    def into(self, registry: Registry) -> Iterator[Self]:
        """
        Strike the tools that a registry has, for the length of a ``with`` block. For a
        registry that is in use already: circuits and figures go on.
        """
        struck = [self._struck(tool) for tool in registry if self._strikes(tool)]
        with replaced(registry, struck):
            yield self

    def reset(self) -> None:
        """
        Begin every sequence anew, and forget what was injected.
        """
        with self._lock:
            self._drawn.clear()
            self._sequences.clear()
            self.injected.clear()

    def _strikes(self, tool: Tool) -> bool:
        return self._tools is None or tool.name in self._tools

    def _struck(self, tool: Tool) -> Tool:
        wrapper = _in_loop if tool.is_async else _in_thread
        if tool.streams:
            wrapper = _in_stream
        draw = functools.partial(self._draw, tool.name)
        return stand_in(tool, functools.partial(wrapper, draw))

    def _draw(self, tool_name: str) -> Fault | None:
        """
        What strikes the next execution of a tool.
        """
        with self._lock:
            self._drawn[tool_name] += 1
            if tool_name not in self._sequences:
                self._sequences[tool_name] = random.Random(f"{self._seed}/{tool_name}")
            # Two numbers a draw, whatever strikes: so a rate that is changed moves no
            # other execution's fate but those on its border.
            sequence = self._sequences[tool_name]
            which, how = sequence.random(), sequence.random()
            for kind, rate in self._rates.items():
                if which < rate:
                    fault = Fault(
                        tool_name=tool_name,
                        call=self._drawn[tool_name],
                        kind=kind,
                        outcome=self._outcome(kind, how),
                    )
                    self.injected.append(fault)
                    return fault
                which -= rate
            return None

    def _outcome(self, kind: FaultKind, how: float) -> object:
        match kind:
            case "error":
                return self._errors[int(how * len(self._errors))]
            case "latency":
                return self._least + how * (self._most - self._least)
            case "hang":
                return _steps.hang()
            case "malformed":
                return _steps.malformed()
        return self._huge


Draw = Callable[[], Fault | None]


def _in_loop(draw: Draw, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def faulty(*filled: Any, **arguments: Any) -> Any:
        fault = draw()
        if fault is not None:
            value = await _strike(fault)
            if fault.kind != "latency":
                return value
        return await fn(*filled, **arguments)

    return faulty


def _in_stream(draw: Draw, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def faulty(*filled: Any, **arguments: Any) -> AsyncGenerator[Any, None]:
        fault = draw()
        if fault is not None:
            value = await _strike(fault)
            if fault.kind != "latency":
                yield value
                return
        async with aclosing(fn(*filled, **arguments)) as chunks:
            async for chunk in chunks:
                yield chunk

    return faulty


def _in_thread(draw: Draw, fn: Callable[..., Any]) -> Callable[..., Any]:
    def faulty(*filled: Any, **arguments: Any) -> Any:
        fault = draw()
        if fault is not None:
            # In the loop, so that what hangs there ends with the loop at the latest.
            value = anyio.from_thread.run(_strike, fault)
            if fault.kind != "latency":
                return value
        return fn(*filled, **arguments)

    return faulty


async def _strike(fault: Fault) -> Any:
    if isinstance(fault.outcome, float):
        await anyio.sleep(fault.outcome)
        return None
    return await _steps.play(fault.outcome, {})


def _check(
    rates: dict[FaultKind, float], errors: Sequence[object], seconds: tuple[float, float]
) -> None:
    for kind, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{kind}={rate!r} cannot be; expected a rate from 0 to 1")
    if sum(rates.values()) > 1 + 1e-9:
        raise ValueError(
            f"the rates are {sum(rates.values())} together; expected at most 1"
        )
    if not errors:
        raise ValueError("errors is empty; expected at least one")
    if not 0 <= seconds[0] <= seconds[1] < math.inf:
        raise ValueError(
            f"latency_seconds={seconds!r} cannot be; expected the least and the most"
        )
