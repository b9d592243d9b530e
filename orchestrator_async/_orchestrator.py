"""
The orchestrator: a tool's name and arguments in, an answer out.

What users call stands here; how a call goes is in ``_execution``, what it is told in
``_answers``, the tools and circuits in ``_fleet``.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, Self, cast

import anyio
from anyio.lowlevel import EventLoopToken, checkpoint, current_token

from . import _loop
from ._answers import Answers
from ._around import Surroundings
from ._breaker import CircuitState, Permit
from ._calls import (
    Request,
    ToolCall,
    ToolResult,
    call_id_of,
    check_context,
    read_call,
)
from ._chat import Conversation
from ._checks import INHERIT, Inherit
from ._circuit import Circuit
from ._completed import CompletedCalls
from ._conversation import ConversationPolicy
from ._entry import Entry
from ._errors import InvalidArgumentsError, OrchestratorError
from ._events import Observer, Observers, rejected
from ._execution import (
    Execution,
    calling_probe,
    is_late,
    seen_in,
    struck,
    text_of_success,
)
from ._fleet import Fleet, Intended
from ._log import logger
from ._named import Named
from ._policy import (
    BreakerPolicy,
    BudgetPolicy,
    FleetPolicy,
    LimitPolicy,
    ToolPolicy,
    as_tool_policy,
    join,
)
from ._registry import Registry
from ._registry import registry as _registry
from ._reports import Reports
from ._settle import Flight, Seen
from ._sharing import Sharing
from ._snapshot import restore_into, snapshot_of
from ._stats import ToolStats
from ._store import Store
from ._streams import Told, ToolStream
from ._text import clean as default_clean
from ._tool import Format, with_note
from ._traceback import binds_arguments, raise_as_it_was
from ._turn import Turn, check_limit, listed
from ._waiting import Waiter

_NOTE: Final = (
    "(Out of service at the moment: a call would be refused. Do not call it until this "
    "note is gone.)"
)

_BUDGET: Final = BudgetPolicy()
_RULES: Final = ConversationPolicy()
_ALONE: Final = FleetPolicy()


class _Shared(NamedTuple):
    """
    What all tools of an orchestrator share.
    """

    budget: BudgetPolicy | None
    limits: LimitPolicy | None
    groups: Mapping[str, LimitPolicy]


class ToolOrchestrator:
    """
    Runs tools by name, each under a circuit.

    It may be used in one event loop after another, and its circuits are remembered. It
    is not to be used from two threads at the same time: hand calls to the thread of the
    loop with ``anyio.from_thread.run``.

    Args:
        registry: The tools. Default: the module's own ``registry``.
        failure_threshold: Failures in a row that open a circuit. Default 3.
        reset_timeout: Seconds that a circuit stays open before one call may probe.
            Default 300.
        timeout: Seconds that one execution of a tool may take. Default: no timeout.
        policy: Further settings for all tools, or for all circuits.
        circuits: Settings of shared circuits, by their names.
        clock: What tells the time, in seconds, and never goes back. For tests in
            virtual time: ``anyio.current_time``.
        observers: Whoever is told of calls and circuits; see ``Observer``.
        clean: What foreign text (an exception's, say) passes through wherever it goes.
            The default cuts it, masks credentials and takes out control characters.
        retry_budget: How many attempts after the first all calls may make together, or
            ``None`` for no such limit.
        limits: How many calls there may be of all tools together. Default: no limit.
        groups: The same for groups of tools, by the names that ``ToolPolicy.group`` gives.
        tools: Settings for tools by name, or by patterns of names (``"github_*"``). All
            that match apply, a later one over an earlier, field by field; they go before
            the tool's own.
        store: Where circuits are shared with other processes: ``RedisStore``, say. They are
            as long as the orchestrator is entered: ``async with orch:``. Default: they are
            this orchestrator's own.
        fleet: How they are shared.

    Raises:
        TypeError: An argument is of the wrong kind, or an observer cannot be called or is
            a coroutine function; names it.
        ValueError: A setting cannot be, or is given twice; names it.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        failure_threshold: int | Inherit = INHERIT,
        reset_timeout: float | Inherit = INHERIT,
        timeout: float | None | Inherit = INHERIT,
        policy: ToolPolicy | BreakerPolicy | None = None,
        circuits: Mapping[str, BreakerPolicy] | None = None,
        clock: Callable[[], float] = time.monotonic,
        observers: Iterable[Observer] = (),
        clean: Callable[[str], str] = default_clean,
        retry_budget: BudgetPolicy | None = _BUDGET,
        limits: LimitPolicy | None = None,
        groups: Mapping[str, LimitPolicy] | None = None,
        tools: Mapping[str, ToolPolicy | BreakerPolicy] | None = None,
        store: Store | None = None,
        fleet: FleetPolicy = _ALONE,
    ) -> None:
        _check_arguments(registry, circuits, clock, clean)
        _check_store(store, fleet)
        _check_limits(retry_budget, limits, groups)
        settings = _settings(failure_threshold, reset_timeout, timeout, policy)
        self.registry: Registry = _registry if registry is None else registry
        self._clock = clock
        self._clock_is_the_loops = clock is anyio.current_time
        cleaned = _safely(clean)
        self._observers = Observers(observers, cleaned)
        self._fleet = Fleet(
            self.registry,
            settings,
            _checked_circuits(circuits),
            Named(tools),
            self._observers,
            cleaned,
            clock,
            self._clock_is_the_loops,
        )
        self._entries = self._fleet.entries
        self._answers = Answers(cleaned, self._observers)
        self._execution = Execution(
            self._fleet, self._answers, self._observers, clock, cleaned
        )
        self._shared = _Shared(retry_budget, limits, dict(groups or {}))
        self._surroundings = Surroundings(
            self._fleet, self._execution, self._answers, self._observers, *self._shared
        )
        self._fleet.surround = self._surroundings.of
        self._sharing = None if store is None else Sharing(store, fleet, self._fleet)
        self._entered_in: EventLoopToken | None = None

    def __repr__(self) -> str:
        return (
            f"<ToolOrchestrator with {len(self.registry)} tools, "
            f"{len(self._fleet.circuits)} circuits>"
        )

    async def __aenter__(self) -> Self:
        """
        Share the circuits, where there is a store; else nothing happens. Waits for the store
        for a second at most, and for a store that is gone no longer.

        Raises:
            RuntimeError: It is entered already.
        """
        if self._entered_in is not None and _loop.is_alive(self._entered_in):
            raise RuntimeError("this orchestrator is entered already")
        self._entered_in = current_token()
        try:
            if self._sharing is not None:
                await self._sharing.enter()
        except BaseException:
            self._entered_in = None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._sharing is not None:
                await self._sharing.leave()
        finally:
            self._entered_in = None

    # Calls

    @binds_arguments
    async def dispatch(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> str:
        """
        Run a tool and return what the model reads, whatever happens.

        Args:
            name: Name of the tool.
            args: The arguments: a mapping, the JSON text of a model's API, or ``None``.
            call_id: The model's id of the call, for events and for the tool.
            **context: What a tool finds in its ``ToolContext``.

        Returns:
            The tool's text, its value as JSON, or an error as a JSON object that says
            what to do.

        Raises:
            TypeError: ``context`` has a name that looks like an option: ``timeout``,
                ``limit``, ``policy``, ``circuit``.
        """
        # The short path, for a coroutine function on a circuit that lets all calls run:
        # ``Execution.run`` without what such a call does not need. In one piece, as
        # each call of a function would cost a tenth of it.
        if context:
            check_context(context)
            return await self._dispatch_long(name, args, call_id, context)
        try:
            entry = self._entries[name]
        except Exception:
            entry = None
        if entry is None:
            return await self._dispatch_long(name, args, call_id, context)
        breaker = entry.breaker
        permit = breaker.closed_permit
        if permit is None:
            refusal = self._refuse(entry, args, call_id, context)
            if refusal is not None:
                if _loop.in_asyncio_task():
                    await _loop.one_turn()
                else:
                    await checkpoint()
                return refusal
            return await self._dispatch_long(name, args, call_id, context)
        observers = self._observers
        if observers.listening or not entry.simple:
            return await self._dispatch_long(name, args, call_id, context)
        arguments = args
        if type(args) is not dict or entry.check is not None:
            try:
                arguments = entry.binder.bind(args)
            except InvalidArgumentsError as error:
                request = Request(name, args, call_id, context)
                return await _told(self._answers.invalid(entry, error, request))
            if permit is not breaker.closed_permit:  # a validator has moved the circuit
                request = Request(name, args, call_id, context)
                return await self._execution.go_on_to_text(entry, request, arguments)
        clock, figures, timeout = self._clock, entry.figures, entry.timeout
        try:
            started = clock()
        except Exception:
            request = Request(name, args, call_id, context)
            return await self._execution.go_on_to_text(entry, request, arguments)
        try:
            task = _loop.current_task()
        except RuntimeError:
            task = _loop.this_task()
        requests = 0
        if task is not None and task.cancelling():
            requests = _loop.cancel_requests(task)
        scope = failure = closing = None
        text: str | None
        seen: Seen | None
        text = seen = duration = None
        on_time = False
        number = figures.begun = figures.begun + 1
        if figures.alone:
            figures.flights[number] = started
        else:
            figures.alone, figures.alone_since = number, started
        try:
            if timeout is None:
                value = await entry.fn(**arguments)
            else:
                with anyio.move_on_after(timeout) as scope:
                    try:
                        value = await entry.fn(**arguments)
                    except GeneratorExit as closed:
                        closing = closed
                        raise
                if scope.cancelled_caught:
                    raise struck(entry)
            # What the tool took, before its value is made text: that is our time.
            try:
                duration = clock() - started
            except Exception:
                duration = math.nan
            if (task is None or task.cancelling() == requests) and (
                scope is None or not is_late(scope, task)
            ):
                on_time = True
                if type(value) is str and "{" not in value:
                    text = value
                else:
                    text, seen = text_of_success(entry, value)
                counting = breaker.counting
                if (
                    text is not None
                    and not observers.listening
                    and not (counting and duration >= breaker.slow_above)
                ):
                    if permit is not breaker.closed_permit:
                        figures.late += 1
                    elif counting:
                        breaker.succeeded(permit, started + duration, duration)
                    if number == figures.alone:
                        figures.alone = 0
                    else:
                        del figures.flights[number]
                    if duration > 0:
                        figures.total_time += duration
                    return text
        except BaseException as error:
            failure, value = error, None
        try:
            request = Request(name, args, call_id, context)
            flight = Flight(entry, entry.circuit, request, arguments, permit)
            flight.number, flight.started, flight.scope = number, started, scope
            flight.task, flight.requests, flight.closing = task, requests, closing
            flight.on_time = on_time
            flight.ended = None if duration is None else started + duration
            flight.seen = seen_in(text) if seen is None else seen
            told = (await self._execution.land(flight, value, failure)).text
            return "" if told is None else told
        except RecursionError:
            # There is no room even to ask for some: calls nothing, so it cannot fail.
            if number == figures.alone:
                figures.alone = 0
                figures.ignored += 1
            elif number in figures.flights:
                del figures.flights[number]
                figures.ignored += 1
            raise
        finally:
            # An exception refers to this frame, which must not keep it in turn.
            del failure, value, seen

    async def call(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> Any:
        """
        Run a tool and return its own value: ``dispatch`` for programs.

        Args:
            name: Name of the tool.
            args: The arguments: a mapping, JSON text, or ``None``.
            call_id: An id of the call, for events and for the tool.
            **context: What a tool finds in its ``ToolContext``.

        Returns:
            The tool's value, as it was.

        Raises:
            CircuitOpenError: The circuit refused the call.
            UnknownToolError: There is no such tool.
            InvalidArgumentsError: The arguments do not fit.
            ToolTimeoutError: The tool ran over its timeout.
            ToolCancelledError: The tool broke off by itself.
            LimitExceededError: A limit refused the call.
            Exception: Whatever the tool raised, as it was.
        """
        result = await self._run(name, args, call_id, context, render=False)
        try:
            if result.error is not None:
                _raise(result.error, result.name)
            return result.value
        finally:
            del result

    async def run(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> ToolResult:
        """
        Run a tool and return everything that came of it. Raises for no failure.

        Args:
            name: Name of the tool.
            args: The arguments: a mapping, JSON text, or ``None``.
            call_id: The model's id of the call, for events and for the tool.
            **context: What a tool finds in its ``ToolContext``.
        """
        return await self._run(name, args, call_id, context)

    def stream(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> ToolStream:
        """
        Run a tool and give its chunks one by one, for programs: ``call`` for a tool that
        is an async generator, in an ``async with``. Another tool's value is one chunk.

        The call is made when the ``async with`` is entered, up to the first chunk; what
        ``call`` raises is raised there, and by the ``async for`` what the tool raises later.

        Args:
            name: Name of the tool.
            args: The arguments: a mapping, JSON text, or ``None``.
            call_id: An id of the call, for events and for the tool.
            **context: What a tool finds in its ``ToolContext``.
        """
        check_context(context)
        request = Request(name, args, call_id, context)
        run = functools.partial(self._execution.run, render=False)
        return ToolStream()._begin(request, self._execution, run, _raise, Told())

    async def dispatch_all(
        self, calls: Iterable[Any], *, limit: int | None = 16, **context: Any
    ) -> list[ToolResult]:
        """
        Run a turn's tool calls side by side. None of them cancels another by failing.

        Args:
            calls: ``ToolCall`` records, or tool calls of the OpenAI or Anthropic API,
                as dicts or as their clients' objects; or the assistant's message that has
                them. One that cannot be read has its error in its place.
            limit: How many may run at one time; ``None`` for all of them.
            **context: What the tools find in their ``ToolContext``.

        Returns:
            The results, in the order of the calls.

        Raises:
            TypeError: ``calls`` is one call, or nothing that has calls.
            ValueError: ``limit`` is below 1.
        """
        check_context(context)
        entries = listed(calls)
        check_limit(limit)
        return await self._turn(context, limit).results(entries)

    def as_completed(
        self, calls: Iterable[Any], *, limit: int | None = 16, **context: Any
    ) -> CompletedCalls:
        """
        Run a turn's tool calls side by side, and give each result as soon as it is there:
        ``dispatch_all`` for an ``async for``, with the same arguments and errors.

        The calls begin when the first result is asked for. Leaving the loop early cancels
        those that still run; in an ``async with`` it is also waited for until they have
        ended.
        """
        check_context(context)
        entries = listed(calls)
        check_limit(limit)

        def make(tell: Callable[[ToolResult], object]) -> Turn:
            return self._turn(context, limit, tell)

        return CompletedCalls()._begin(entries, make)

    def conversation(
        self,
        *,
        tools: Iterable[str] | None = None,
        policy: ConversationPolicy = _RULES,
        **context: Any,
    ) -> Conversation:
        """
        One run of an agent, with tools, context and limits of its own, for an
        ``async with``. Nothing of it is kept when that ends.

        Args:
            tools: Names of the tools that it may call and is told of, or patterns of
                names: ``"github_*"``. Default: all of them.
            policy: How often it may do what leads nowhere, and how much it may do.
            **context: What the tools find in their ``ToolContext``, in every call.

        Raises:
            TypeError: ``policy`` is no ``ConversationPolicy``.
            ValueError: ``tools`` is one name.
        """
        check_context(context)
        checked: object = policy
        if not isinstance(checked, ConversationPolicy):
            raise TypeError(f"policy={policy!r:.200}: expected a ConversationPolicy")
        return Conversation()._begin(
            self._fleet,
            self._execution,
            self._answers,
            self._offered,
            _raise,
            policy,
            tools,
            context,
        )

    # Figures and circuits

    def get_fleet_stats(self) -> dict[str, dict[str, Any]]:
        """
        The figures of every tool that was called, by name; see ``ToolStats``.
        """
        return {name: asdict(self.stats(name)) for name in self._fleet.called()}

    async def get_fleet_stats_all(self) -> dict[str, dict[str, Any]]:
        """
        The figures of all processes that share the store and are alive, by tool: the sums
        of what ``get_fleet_stats`` tells of each, ``avg_time`` over all executions, and of
        how many ``processes`` they are; ``state`` and ``failures`` of the circuit as this
        process has them, ``None`` for tools that it has not. Without a store, or where it
        does not answer, they are of this one.

        All of them are asked, which takes some milliseconds; a quarter of a second where one
        does not answer: of that one it is what it said last. Raises nothing where the store
        fails.
        """
        if self._sharing is None:
            return Reports(self._fleet).together({})
        return await self._sharing.all_figures()

    def stats(self, name: str) -> ToolStats:
        """
        The figures of one tool.

        Raises:
            UnknownToolError: There is no such tool.
        """
        circuit = self.circuit(self.registry[name].circuit_name)
        keyed = self._fleet.keyed.get(name)
        return self._fleet.figures(name).snapshot(
            state=circuit.state.value,
            failures=circuit.failures,
            last_error=circuit.last_error,
            now=self._time_if_any(),
            keys=0 if keyed is None else len(keyed),
        )

    def circuit(self, name: str, key: str | None = None) -> Circuit:
        """
        A handle on a circuit. Usable outside an event loop.

        Args:
            name: The circuit's name: the tool's, unless the tool shares one.
            key: For a tool whose ``circuit`` is a function: what that returns. Without
                it, the circuit of calls that have no key; it has all calls of the tool
                while it is isolated.

        Raises:
            UnknownToolError: No tool has such a circuit.
            LookupError: The key has no circuit, and there is no room for one more.
            ValueError: There is a key, but the tool has no circuits by key.
        """
        told: object = key
        if not isinstance(told, str | None):
            raise TypeError(f"key={key!r:.200}: expected text, or None")
        circuit = self._fleet.circuits.get(name) or self._fleet.circuit(name)
        return circuit if key is None else self._fleet.circuit_of_key(name, key)

    def reload(
        self,
        path: str | os.PathLike[str] | None = None,
        /,
        *,
        failure_threshold: int | Inherit = INHERIT,
        reset_timeout: float | Inherit = INHERIT,
        timeout: float | None | Inherit = INHERIT,
        policy: ToolPolicy | BreakerPolicy | None = None,
        circuits: Mapping[str, BreakerPolicy] | None = None,
        retry_budget: BudgetPolicy | None | Inherit = INHERIT,
        limits: LimitPolicy | None | Inherit = INHERIT,
        groups: Mapping[str, LimitPolicy] | None = None,
        tools: Mapping[str, ToolPolicy | BreakerPolicy] | None = None,
    ) -> None:
        """
        Go on with other settings, with the state of all circuits and all that was counted.

        Calls that are running end by the settings that they began with. For one circuit
        there is ``Circuit.reload``; for one tool, ``Registry.add(..., replace=True)``.

        Args:
            path: A file of settings, in TOML; see ``orchestrator_async.config``. All that
                it says takes the place of all that there is, and what it does not say is
                the default. It is read at once, and given alone. Servers in it stay as
                they are: ``McpServers`` has a ``reload`` of its own.
            failure_threshold: As for the orchestrator, like all of these. They take the
                place of all that it was made with: what is not given is the default.
            reset_timeout: See there.
            timeout: See there.
            policy: See there.
            circuits: Settings of circuits by name. Default: those that there are.
            retry_budget: See there. Default: the one that there is.
            limits: See there. Default: those that there are.
            groups: See there. Default: those that there are.
            tools: See there. Default: those that there are.

        Raises:
            TypeError: An argument is of the wrong kind, or there is one besides a path.
            ValueError: A setting cannot be, or is given twice; nothing has changed. That
                of a file is a ``ConfigError``, which says where.
        """
        if path is not None:
            inheriting = (failure_threshold, reset_timeout, timeout, retry_budget, limits)
            others = (policy, circuits, groups, tools)
            if any(each is not INHERIT for each in inheriting) or any(
                each is not None for each in others
            ):
                raise TypeError("reload takes a path, or settings, but not both")
            self.reload(**_settings_in(path))
            return
        settings = _settings(failure_threshold, reset_timeout, timeout, policy)
        _check_circuits(circuits)
        checked = None if circuits is None else _checked_circuits(circuits)
        named = None if tools is None else Named(tools)
        before = self._shared
        shared = _Shared(
            before.budget if retry_budget is INHERIT else retry_budget,
            before.limits if limits is INHERIT else limits,
            before.groups if groups is None else groups,
        )
        _check_limits(*shared)
        if named is not None:
            named.check(self.registry)
        self._shared = shared = shared._replace(groups=dict(shared.groups))
        self._surroundings.reload(*shared)
        self._fleet.reload_all(settings, checked, named)
        self._surroundings.configure_gates()

    # From one process to the next

    def snapshot(self) -> dict[str, Any]:
        """
        What another process needs to go on with the circuits, as data that JSON can hold.

        Circuits that are closed and have seen no failure are left out. See ``restore``.
        """
        return snapshot_of(self._fleet)

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """
        Go on with the circuits of another process.

        What was open stays open for what is left of its time, and then one caller probes.
        Of the wall clock nothing more is asked than how long ago the snapshot was taken:
        wherever it has gone wrong, a circuit does not stay open for longer than was left,
        nor than its settings say, and none closes without a probe. What was isolated or
        disabled by hand is so again, and ``unisolate`` or ``reset`` ends it; what was
        forced open is not. Windows begin empty. Circuits of tools that are registered
        later go on when these come.

        Args:
            snapshot: What ``snapshot`` has returned, also by way of JSON.

        Raises:
            TypeError: It is no mapping.
            ValueError: It is damaged, or of a version that is not known; says where.
                Nothing has changed.
        """
        restore_into(self._fleet, snapshot)

    # Waiting

    async def wait_available(
        self,
        name: str,
        args: Any = None,
        /,
        *,
        timeout: float | None = None,
        **context: Any,
    ) -> None:
        """
        Return when the tool's circuit would let a call in now.

        It promises nothing about the next moment: another caller may be the probe. Of
        many who wait, one at a time goes where a call would be the probe; where the
        circuit has closed, all go, at shorter and shorter intervals.

        Args:
            name: Name of the tool.
            args: The call's arguments; asked for where the tool has circuits by key.
            timeout: Seconds to wait at the most; ``None`` for no limit.
            **context: That of the call, for the same reason.

        Raises:
            TimeoutError: It took longer.
            UnknownToolError: There is no such tool, or it was removed meanwhile.
            InvalidArgumentsError: The arguments do not fit, where they are asked for.
            DrainingError: The orchestrator takes no calls any more.
            OrchestratorError: The tool cannot be used; what is wrong with it is the
                ``__cause__``.
            ValueError: ``timeout`` is no number of seconds.
        """
        check_context(context)
        _check_timeout(timeout)
        request = Intended(name, args, context)
        find = functools.partial(self._circuit_to_wait_for, request)
        waiter = Waiter(find, self._fleet.time_for, lambda: request.key)
        await checkpoint()  # not within the timeout, which may be none at all
        with anyio.move_on_after(timeout) as scope:
            await waiter.wait()
        if scope.cancelled_caught:
            circuit = find(False)
            state = CircuitState.CLOSED if circuit is None else circuit.state
            many = ""
            if state in (CircuitState.CLOSED, CircuitState.DISABLED):
                many = " now, and those who have waited go one after another"
            raise TimeoutError(
                f"{name} was not available within {timeout:g} s: its circuit is "
                f"{state}{many}."
            )

    async def drain(self, *, timeout: float | None = None) -> None:
        """
        Take no new calls, and wait for those that are running.

        From here on every call is refused with a ``DrainingError``, those that a running
        tool makes included, until ``resume``, and no fallback is asked. One that is a
        function and runs already is waited for; threads of calls that were given up are not.

        Args:
            timeout: Seconds to wait at the most; ``None`` for no limit.

        Raises:
            TimeoutError: Calls are still running; says of which tools. No new ones are
                taken all the same.
            OrchestratorError: ``resume`` was called while calls were still running.
            ValueError: ``timeout`` is no number of seconds.
        """
        _check_timeout(timeout)
        self._entries = {}  # where the short path finds none
        drain = self._fleet.begin_drain()
        with anyio.move_on_after(timeout) as scope:
            await drain.wait()
        if scope.cancelled_caught and (running := self._fleet.running()):
            tools = ", ".join(f"{name} ({count})" for name, count in running.items())
            raise TimeoutError(f"Still running after {timeout:g} s: {tools}.")

    def resume(self) -> None:
        """
        Take calls again after ``drain``.
        """
        self._fleet.end_drain()
        self._entries = self._fleet.entries

    # What the model is offered

    def offered_tools(
        self, format: Format = "openai", *, hide_open: bool = False
    ) -> list[dict[str, Any]]:
        """
        The tools as a model's API wants to be told of them, in the registry's order.

        All of them, for another list of tools makes the model's prompt another one, which
        no cache has. One whose circuit refuses calls has a note at the end of its
        description, which says the same as long as it does.

        Args:
            format: ``"openai"``, ``"anthropic"`` or ``"mcp"``.
            hide_open: Leave out those whose circuit would refuse a call now. A tool with
                circuits by key is left out only if it is isolated.

        Raises:
            TypeError: A signature does not lend itself to a schema; names the tool.
            ValueError: There is no such format.
        """
        return self._offered(format, hide_open=hide_open)

    def _offered(
        self,
        format: Format,
        *,
        hide_open: bool,
        allows: Callable[[str], bool] | None = None,
    ) -> list[dict[str, Any]]:
        definitions = self.registry.definitions(format)
        offered = []
        for tool, definition in zip(self.registry, definitions, strict=True):
            if allows is not None and not allows(tool.name):
                continue
            if not self._fleet.refuses(tool):
                offered.append(definition)
            elif not hide_open:
                offered.append(with_note(definition, _NOTE))
        return offered

    def add_observer(self, observer: Observer) -> None:
        """
        Tell this one of calls and circuits from now on.

        Raises:
            TypeError: It cannot be called, or is a coroutine function.
        """
        self._observers.add(observer)

    def remove_observer(self, observer: Observer) -> None:
        """
        Tell this one no more.
        """
        self._observers.remove(observer)

    # Beneath

    def _refuse(
        self,
        entry: Entry,
        args: Any,
        call_id: str | None,
        context: Mapping[str, Any],
    ) -> str | None:
        """
        What the model reads if the circuit refuses the call; ``None`` if it does not.
        """
        if entry.keyed is not None or entry.around is not None:
            return None
        state = CircuitState.OPEN
        wait: float | None = None
        try:
            if not self._clock_is_the_loops:
                wait = entry.breaker.open_for(self._clock())
            if not wait:
                refusal = self._execution.refusal(entry, entry.circuit)
                if refusal is None:
                    return None
                state, wait = refusal
        except Exception:
            return None  # the clock failed, and the long path says so
        entry.figures.rejected += 1
        if self._observers.listening:
            self._observers.tell(
                rejected(entry.name, call_id, args, context, "circuit", wait, state)
            )
        return entry.refusal_text(state, wait)

    def _circuit_to_wait_for(self, request: Intended, make: bool) -> Circuit | None:
        """
        What a call would have to wait for, or ``None`` where nothing is in its way: its
        key has no circuit yet and none is to be made, or it is made from within the
        circuit's own probe.
        """
        circuit = self._fleet.circuit_for_call(request, make=make)
        if circuit is None or calling_probe(circuit.breaker) is not None:
            return None
        return circuit

    def _shortcut(self, name: Any) -> tuple[Entry, Permit, float] | None:
        """
        What a call needs to go the short path, and the time now; or ``None``.
        """
        try:
            entry = self._entries[name]
            permit = entry.breaker.closed_permit
            if permit is None or not entry.direct or self._observers.listening:
                return None
            return entry, permit, self._clock()
        except Exception:
            return None  # no such tool, or none yet; or the clock fails

    async def _run(
        self,
        name: Any,
        args: Any,
        call_id: str | None,
        context: Mapping[str, Any],
        *,
        render: bool = True,
    ) -> ToolResult:
        check_context(context)
        short = self._shortcut(name)
        if short is not None:
            # Not in a variable: what is beneath may refer to this frame.
            return cast(
                "ToolResult",
                await self._execution.short(*short, args, call_id, context, render=render),
            )
        request = Request(name, args, call_id, context)
        return await self._execution.run(request, render=render)

    async def _dispatch_long(
        self, name: Any, args: Any, call_id: str | None, context: Mapping[str, Any]
    ) -> str:
        short = self._shortcut(name)
        if short is None:
            return await self._execution.text(Request(name, args, call_id, context))
        # Not in a variable: what is beneath may refer to this frame.
        return cast(
            "ToolResult", await self._execution.short(*short, args, call_id, context)
        ).content

    def _turn(
        self,
        context: Mapping[str, Any],
        limit: int | None,
        tell: Callable[[ToolResult], object] | None = None,
    ) -> Turn:
        return Turn(
            functools.partial(self._run_one, context),
            functools.partial(self._answers.broken_off, context),
            limit,
            self._fleet.line_of,
            tell,
        )

    async def _run_one(self, context: Mapping[str, Any], entry: Any) -> ToolResult:
        try:
            call: ToolCall = read_call(entry)
        except InvalidArgumentsError as error:
            request = Request("", entry, call_id_of(entry), context)
            result = self._answers.malformed(error, request)
            await checkpoint()
            return result
        return await self._run(call.name, call.args, call.id, context)

    def _time_if_any(self) -> float | None:
        try:
            return self._clock()
        except Exception:
            return None  # the clock is a loop's, and none runs


async def _told(answer: ToolResult) -> str:
    await checkpoint()
    return answer.content


def _raise(error: BaseException, tool_name: str) -> NoReturn:
    """
    Raise the tool's error to a program, which a tool cannot end by ``sys.exit``.
    """
    try:
        if isinstance(error, Exception):
            raise_as_it_was(error)
        message = f"{tool_name} tried to end the program: {type(error).__name__}"
        raise OrchestratorError(message, tool_name=tool_name) from error
    finally:
        del error


def _settings(
    failure_threshold: int | Inherit,
    reset_timeout: float | Inherit,
    timeout: float | None | Inherit,
    policy: ToolPolicy | BreakerPolicy | None,
) -> ToolPolicy:
    """
    What an orchestrator is told by its own keywords and by a policy, as one.
    """
    breaker = BreakerPolicy(
        failure_threshold=failure_threshold, reset_timeout=reset_timeout
    )
    given = ToolPolicy(timeout=timeout, breaker=breaker)
    return join(given, as_tool_policy(policy))


def _settings_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    What a file says, whose reading imports pydantic.
    """
    from .config import load_config

    return load_config(path).settings()


def _check_timeout(timeout: object) -> None:
    if timeout is None:
        return
    most = sys.float_info.max
    if type(timeout) not in (int, float) or not 0 <= cast("float", timeout) <= most:
        raise ValueError(
            f"timeout={timeout!r:.200} cannot be; expected a finite number of seconds of "
            "at least 0, or None"
        )


def _check_circuits(circuits: object) -> None:
    if not isinstance(circuits, Mapping | None):
        raise TypeError(
            f"circuits={circuits!r:.200}: expected a mapping of names to BreakerPolicy"
        )


def _check_arguments(
    registry: object, circuits: object, clock: object, clean: object
) -> None:
    if not isinstance(registry, Registry | None):
        raise TypeError(f"registry={registry!r:.200}: expected a Registry, or None")
    _check_circuits(circuits)
    if not callable(clock):
        raise TypeError(f"clock={clock!r:.200}: expected a function that tells seconds")
    if not callable(clean):
        raise TypeError(f"clean={clean!r:.200}: expected a function from text to text")


def _check_store(store: object, fleet: object) -> None:
    is_one = callable(getattr(store, "session", None)) and not isinstance(store, type)
    if store is not None and not is_one:
        # Not the value: it may be a url with a password.
        kind = store.__name__ if isinstance(store, type) else f"a {type(store).__name__}"
        raise TypeError(f"store: expected a Store, or None, not {kind}")
    if not isinstance(fleet, FleetPolicy):
        raise TypeError(f"fleet={fleet!r:.200}: expected a FleetPolicy")


def _check_limits(budget: object, limits: object, groups: object) -> None:
    if not isinstance(budget, BudgetPolicy | None):
        raise TypeError(f"retry_budget={budget!r:.200}: expected a BudgetPolicy, or None")
    if not isinstance(limits, LimitPolicy | None):
        raise TypeError(f"limits={limits!r:.200}: expected a LimitPolicy, or None")
    if not isinstance(groups, Mapping | None):
        raise TypeError(
            f"groups={groups!r:.200}: expected a mapping of names to LimitPolicy"
        )
    for name, each in (groups or {}).items():
        if not isinstance(each, LimitPolicy):
            raise ValueError(f"groups[{name!r}]={each!r}: expected a LimitPolicy")


def _checked_circuits(
    circuits: Mapping[str, BreakerPolicy] | None,
) -> dict[str, BreakerPolicy]:
    checked = dict(circuits or {})
    for name, policy in checked.items():
        if not isinstance(policy, BreakerPolicy):
            raise ValueError(f"circuits[{name!r}]={policy!r}: expected a BreakerPolicy")
    return checked


def _safely(clean: Callable[[str], str]) -> Callable[[str], str]:
    """
    The user's cleaner; where it raises, the default one stands in for it.
    """
    if clean is default_clean:
        return clean

    def safe(text: str) -> str:
        try:
            cleaned: object = clean(text)
        except Exception as error:
            # Without its traceback, which shows what was to be cleaned.
            kind = type(error).__name__
            logger.error("clean raised %s; the default stands in for it", kind)
            cleaned = None
        return cleaned if isinstance(cleaned, str) else default_clean(text)

    return safe


orchestrator: Final = ToolOrchestrator()
"""An orchestrator for the module's own ``registry``, with all defaults."""
