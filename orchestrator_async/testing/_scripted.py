"""
A tool that does what it is told to, in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal, Self

from orchestrator_async import Registry, Tool, ToolContext, ToolPolicy

from ._stand_in import replaced, stand_in
from ._steps import play

After = Literal["repeat", "cycle", "fail"]

_SETTINGS: Final = frozenset({"timeout", "judge", "is_failure", "policy"})


class ScriptEndedError(AssertionError):
    """
    A scripted tool was called more often than its script has outcomes.

    The tools that ``ScriptedTool`` makes let it through ``dispatch``, so that a test
    fails by it instead of an agent reading it.
    """

    def __init__(self, message: str = "", /) -> None:
        super().__init__(message)


class ScriptedTool:
    """
    A tool whose executions take the outcomes of a script, in the order in which they
    begin.

    It is an async callable: ``registry.add(scripted.tool())`` or
    ``registry.tool(scripted)`` makes it a tool of its own, and ``instead_of`` puts it in
    the place of a real one.

    Args:
        outcomes: The script, at least one. A value is returned; an exception, or a class
            of them, is raised; a function, as ``hang()`` and the other steps are, is
            called with the arguments, awaited if it is async, and what it returns is
            returned.
        name: Its name. Default ``"scripted"``.
        after: What happens when the script is over: ``"repeat"``, the default, its last
            outcome again; ``"cycle"``, all of it again; ``"fail"``, a
            ``ScriptEndedError``.

    Attributes:
        name: Its name.
        calls: Executions that were begun.
        arguments: The arguments of each, without a ``ToolContext``.
        contexts: The ``ToolContext`` of each that had one.
        running: Executions that are going on.
        most_running: The most that have gone on at one time.

    Raises:
        ValueError: The script is empty, or ``after`` is none of those.
    """

    def __init__(
        self, outcomes: Iterable[object], *, name: str = "scripted", after: After = "repeat"
    ) -> None:
        self._outcomes = tuple(outcomes)
        if not self._outcomes:
            raise ValueError("a script has at least one outcome")
        if after not in ("repeat", "cycle", "fail"):
            raise ValueError(f"after={after!r}: expected 'repeat', 'cycle' or 'fail'")
        self.name: str = name
        self.__name__: str = name
        self._after = after
        self.calls: int = 0
        self.arguments: list[dict[str, Any]] = []
        self.contexts: list[ToolContext] = []
        self.running: int = 0
        self.most_running: int = 0

    def __repr__(self) -> str:
        return (
            f"<ScriptedTool {self.name!r}: {self.calls} calls, "
            f"{self.left} of {len(self._outcomes)} outcomes left>"
        )

    @property
    def left(self) -> int:
        """
        Outcomes of the script that no execution has taken yet.
        """
        return max(0, len(self._outcomes) - self.calls)

    @property
    def overrun(self) -> int:
        """
        Executions that were begun after the script was over.
        """
        return max(0, self.calls - len(self._outcomes))

    async def __call__(self, **arguments: Any) -> Any:
        """
        The next outcome.

        Raises:
            ScriptEndedError: The script is over, and ``after`` is ``"fail"``.
        """
        number, self.calls = self.calls, self.calls + 1
        shown: dict[str, Any] = {}
        for key, value in arguments.items():
            if isinstance(value, ToolContext):
                self.contexts.append(value)
            else:
                shown[key] = value
        self.arguments.append(shown)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await play(self._outcome(number), arguments)
        finally:
            self.running -= 1

    def _outcome(self, number: int) -> object:
        count = len(self._outcomes)
        if number < count:
            return self._outcomes[number]
        match self._after:
            case "repeat":
                return self._outcomes[-1]
            case "cycle":
                return self._outcomes[number % count]
        raise self._ended()

    def _ended(self) -> ScriptEndedError:
        count = len(self._outcomes)
        return ScriptEndedError(
            f"{self.name} has been called {self.calls} times, and its script has "
            f"{count} outcome{'s' * (count != 1)}"
        )

    def verify(self) -> None:
        """
        Fail the test if a script that is to ``"fail"`` when it is over was called after
        that, also where what is tested has swallowed the error.

        Raises:
            ScriptEndedError: It was.
        """
        if self._after == "fail" and self.overrun:
            raise self._ended()

    def tool(self, like: Tool | Callable[..., Any] | None = None, **options: Any) -> Tool:
        """
        A ``Tool`` that runs the script, for ``registry.add``.

        Args:
            like: A tool or function whose schema, docstring and settings it has. Default:
                none, and it takes any arguments.
            **options: Those of ``Registry.tool``, which go before what ``like`` has; any
                of ``timeout``, ``judge``, ``is_failure`` and ``policy`` before all of its
                settings. ``name`` is the script's by default.

        Raises:
            TypeError: There is no such option.
        """
        options = {"name": self.name, **options}
        made = Registry()  # it knows the options, and checks them
        made.tool(**options)(self)
        (tool,) = made
        if like is not None:
            like = like if isinstance(like, Tool) else Tool(fn=like)
            given = {name: getattr(tool, name) for name in options if hasattr(tool, name)}
            if not _SETTINGS.isdisjoint(options):
                given["policy"] = tool.policy
            tool = replace(self._standing_in(like), **given)
        return self._strict(tool)

    @contextmanager
    def instead_of(self, registry: Registry, name: str | None = None) -> Iterator[Self]:
        """
        Stand in for a tool of a registry for the length of a ``with`` block.

        Schema, validation, settings, circuit and figures stay the tool's. The script runs
        in the event loop, also in the place of a plain function.

        Args:
            registry: The registry that has the tool.
            name: The tool. Default: the script's name.

        Raises:
            UnknownToolError: There is none.
        """
        real = registry[self.name if name is None else name]
        with replaced(registry, [self._strict(self._standing_in(real))]):
            yield self

    def _standing_in(self, tool: Tool) -> Tool:
        def stand(fn: Callable[..., Any]) -> Callable[..., Any]:
            async def scripted(*filled: Any, **arguments: Any) -> Any:
                return await self(**arguments)  # a partial fills in the others

            return scripted

        return stand_in(tool, stand)

    def _strict(self, tool: Tool) -> Tool:
        """
        A tool that cannot hide from a test that its script is over.
        """
        if self._after != "fail":
            return tool
        policy: ToolPolicy = tool.policy
        set_to = policy.control_flow
        others = set_to if isinstance(set_to, tuple) else ()
        return replace(
            tool, policy=replace(policy, control_flow=(*others, ScriptEndedError))
        )
