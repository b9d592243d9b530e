"""
Tools that a framework runs, each under a circuit of ours.

A framework hands over a call and the way to run it. The call goes through the orchestrator
like any other, and comes back as a ``ToolResult``, from which the adapter makes what its
framework expects. The tools are in the orchestrator's registry under their names, so that
its settings by name, its figures and its circuits are theirs as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final, Protocol

from orchestrator_async import (
    BreakerPolicy,
    CallRefusedError,
    InvalidResultError,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
)
from orchestrator_async._calls import check_context, given
from orchestrator_async._entry import Entry
from orchestrator_async._outcome import to_text
from orchestrator_async._policy import INHERITED, StandIn, ToolSettings
from orchestrator_async._text import type_name

Handler = Callable[[], Awaitable[Any]]
"""Runs the call in the way of its framework; again, where a retry is made."""


Others = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Runs another tool of the framework, by its name and arguments, as part of a call."""

_NOTHING: Final[Mapping[str, Any]] = {}


class Runner(Protocol):
    """
    What runs calls: an orchestrator, or a conversation of one.
    """

    async def run(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> ToolResult: ...


class Guarding:
    """
    Runs calls of one framework's tools by an orchestrator.

    Args:
        orch: The orchestrator.
        framework: What the tools belong to, for error messages.
        policy: How they are run and judged. Default: as the orchestrator says.
        control_flow: Exception types by which the framework interrupts a run, which are
            raised on and give no verdict: besides those of this or any other policy.
        ignore: Exception types that blame the call, besides those of policies too.
        checks_text: Whether it is a failure where a value cannot be made text, by the
            ``render`` of its tool. Default: a value is made text where somebody reads it.
        default: What ``policy`` is where its user has given none.

    Raises:
        TypeError: ``orch`` is none, or ``policy`` is none.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        *,
        framework: str,
        policy: ToolPolicy | BreakerPolicy | None = None,
        control_flow: tuple[type[BaseException], ...] = (),
        ignore: tuple[type[BaseException], ...] = (),
        checks_text: bool = False,
        default: ToolPolicy = INHERITED,
    ) -> None:
        check_orchestrator(orch)
        self.orch = orch
        self._framework = framework
        self._checks_text = checks_text
        self._policy = as_policy(policy)
        self._default = default
        self._agreed: set[str] = set()
        self._control_flow = control_flow
        self._ignore = ignore

    def run(
        self,
        name: str,
        args: Mapping[str, Any] | Callable[[], Any],
        handler: Handler,
        /,
        *,
        call_id: str | None = None,
        described: Callable[[], Mapping[str, Any]] | None = None,
        runner: Runner | None = None,
        context: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = _NOTHING,
        others: Others | None = None,
    ) -> Coroutine[Any, Any, ToolResult | None]:
        """
        Run a call of a framework's tool, or refuse it. To be awaited at once: whether it
        is refused is decided now.

        Args:
            name: The tool's name.
            args: Its arguments, for guards, events and circuits by key, or what gives them
                where somebody wants them: text that is no JSON object is refused. The
                handler has its own.
            handler: Runs it.
            call_id: The model's id of the call.
            described: Gives what is known of the tool as fields of a ``Tool``
                (``description``, ``parameters``, ``read_only``); asked when the tool is
                seen for the first time.
            runner: A conversation of the orchestrator, to run it in.
            context: What guards and observers find as the call's context, or what gives
                that where somebody wants it.
            others: Runs other tools of the framework that this call asks for: its
                fallback. Default: they are refused.

        Returns:
            What came of it; ``None`` where its handler has succeeded, the framework is to
            have what that gave, and there is nothing more to say: it is cheaper by half.

        Raises:
            ValueError: The registry has a tool of that name which is not this
                framework's, or one with another policy.
            TypeError: The context has a name that looks like an option.
            BaseException: Cancellation, and control flow.
        """
        if not callable(context):
            check_context(context)
        if name not in self._agreed:
            self._agree(name)
        short = None
        if runner is None and (type(args) is dict or callable(args)):
            short = self.orch._shortcut(name)
        if short is not None and self._is_ours(short[0]):
            return self.orch._execution.short(
                *short,
                args,
                call_id,
                context,
                render=self._checks_text,
                handler=handler,
                brief=True,
            )
        self.know(name, described)
        made = (name, handler, others)
        told = given(args), made, call_id, given(context)
        return self._run(runner or self.orch, name, *told)

    async def _run(
        self,
        runner: Runner,
        name: str,
        args: Any,
        made: Made,
        call_id: str | None,
        context: Mapping[str, Any],
    ) -> ToolResult:
        token = _call.set(made)
        try:
            return await runner.run(name, args, call_id=call_id, **context)
        finally:
            _call.reset(token)

    def _is_ours(self, entry: Entry) -> bool:
        fn = entry.fn
        if type(fn) is not ForeignTool or entry.check is not None:
            return False
        return fn.framework == self._framework

    def knows(self, name: str) -> bool:
        """
        Whether the registry has a tool of that name.
        """
        return name in self.orch._entries or self.orch.registry.get(name) is not None

    def settings(self, name: str) -> ToolSettings:
        """
        How a tool that is known is run and judged, all policies taken together.
        """
        return self.orch._fleet.settings(self.orch.registry[name])

    def has_guard(self, name: str) -> bool:
        """
        Whether a guard is asked before calls of a tool of the registry.
        """
        known = self.orch.registry.get(name)
        return known is not None and self.settings(name).guard is not None

    def _policy_of(self, name: str) -> ToolPolicy:
        """
        The policy, in which no tool answers for itself.
        """
        fallback = self._policy.fallback
        if isinstance(fallback, str) and fallback == name:
            return replace(self._policy, fallback=None)
        return self._policy

    def know(self, name: str, described: Callable[[], Mapping[str, Any]] | None) -> None:
        """
        Have a tool in the registry, so that it has a circuit and figures before its first
        call.

        Raises:
            ValueError: As ``run``.
        """
        registry = self.orch.registry
        known = registry.get(name)
        if known is None:
            known_of: dict[str, Any] = {"parameters": _ANYTHING}
            if described is not None:
                known_of = dict(described())
            if not self._checks_text:
                known_of["render"] = partial(_shown, known_of.get("render"))
            fn = ForeignTool(
                name,
                self._framework,
                control_flow=self._control_flow,
                ignore=self._ignore,
            )
            policy = self._policy_of(name)
            registry.add(Tool(fn=fn, name=name, policy=policy, **known_of))
        elif not is_foreign(known, self._framework):
            raise ValueError(
                f"the orchestrator's registry has a tool of its own named {name!r}, which "
                f"is not that of {self._framework}; rename one, or use two orchestrators"
            )

    def _agree(self, name: str) -> None:
        """
        Have one policy for a tool that several such as this are around: the one that was
        given to any of them.

        Raises:
            ValueError: Another one has another policy for it.
        """
        registry = self.orch.registry
        known = registry.get(name)
        if known is None or not is_foreign(known, self._framework):
            return
        mine, theirs = self._policy_of(name), known.policy
        if mine is theirs or mine in (theirs, self._default):
            self._agreed.add(name)
            return
        if theirs != self._default:
            raise ValueError(
                f"{name} has another policy already, by another adapter to "
                f"{self._framework} around a tool of that name: {_differing(mine, theirs)} "
                "differ. Give both the same policy, made once; or give settings by name, "
                "ToolOrchestrator(tools=...); or have a registry for each orchestrator"
            )
        registry.add(replace(known, policy=mine), replace=True)
        self._agreed.add(name)


def _differing(one: ToolPolicy, other: ToolPolicy) -> str:
    names = [each.name for each in fields(one)]
    return ", ".join(each for each in names if getattr(one, each) != getattr(other, each))


Made = tuple[str, Handler, Others | None]
"""The name of a call's tool, its handler, and what runs others."""


def _shown(render: Callable[[Any], str] | None, value: Any) -> str:
    """
    A value as text, for whoever reads it. That it can be made text says nothing of its tool.
    """
    try:
        return to_text(value, tool_name="", render=render)
    except InvalidResultError:
        return f"({type_name(value)})"


_ANYTHING: Final[Mapping[str, Any]] = {"type": "object"}
_call: Final[ContextVar[Made | None]] = ContextVar("_call", default=None)
"""The call that is being made, until its tool is run."""


_left: Final[ContextVar[str | None]] = ContextVar("_left", default=None)


def left_running(name: str) -> None:
    """
    For a handler that is cancelled, to say that what it has run may go on, as a thread does:
    a model that is told of a timeout is told of that as well, and no retry is made.
    """
    _left.set(name)


class ForeignTool(StandIn):
    """
    Stands in a registry for a tool that only its framework can run. Who calls it by
    himself is refused, which is nothing against the tool.
    """

    def __init__(
        self,
        name: str,
        framework: str,
        *,
        control_flow: tuple[type[BaseException], ...] = (),
        ignore: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.name = name
        self.framework = framework
        self.control_flow = control_flow
        self.ignore = ignore

    def may_go_on(self) -> bool:
        """
        Whether its handler has said so, of the call that was given up last.
        """
        if _left.get() != self.name:
            return False
        _left.set(None)
        return True

    async def __call__(self, /, **arguments: Any) -> Any:
        name, handler, others = _call.get() or (None, None, None)
        token = _call.set(None)  # what it calls itself are calls of their own
        try:
            if handler is not None and name == self.name:
                return await handler()
            if others is not None:
                return await others(self.name, arguments)
        finally:
            _call.reset(token)
        raise CallRefusedError(
            f"{self.name} is a tool of {self.framework}, which alone can run it.",
            tool_name=self.name,
        )


def is_foreign(tool: Tool, framework: str | None = None) -> bool:
    """
    Whether a tool stands for one of a framework's: of that one, if it is named.
    """
    fn = tool.fn
    return isinstance(fn, ForeignTool) and framework in (None, fn.framework)


def check_orchestrator(orch: object) -> None:
    """
    Raises:
        TypeError: It is none.
    """
    if not isinstance(orch, ToolOrchestrator):
        raise TypeError(f"orch must be a ToolOrchestrator, not {orch!r:.100}")


def own_tools(orch: ToolOrchestrator) -> list[Tool]:
    """
    The tools of an orchestrator that it can run by itself, in their order.

    Raises:
        TypeError: ``orch`` is none.
    """
    check_orchestrator(orch)
    return [tool for tool in orch.registry if not is_foreign(tool)]


def as_policy(policy: ToolPolicy | BreakerPolicy | None) -> ToolPolicy:
    """
    A policy that was given, as one of a tool.

    Raises:
        TypeError: It is none.
    """
    given: object = policy
    if isinstance(given, BreakerPolicy):
        return ToolPolicy(breaker=given)
    if given is None:
        return ToolPolicy()
    if isinstance(given, ToolPolicy):
        return given
    raise TypeError(f"policy must be a ToolPolicy or a BreakerPolicy, not {given!r:.100}")
