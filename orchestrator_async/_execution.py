"""
One call, from its beginning to its end.

The order is: refuse if the circuit refuses, bind and validate the arguments, take a
thread's slot, claim the circuit's permit, run, judge, give everything back. Up to the
tool's own first await, and from its end until all is given back, nothing awaits.

Where nobody observes, a coroutine function on a closed circuit goes a short path: the same,
without what such a call does not need. What does not end as a plain success lands with all
others.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Final, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from . import _loop
from ._answers import Answers
from ._breaker import Breaker, Permit, Refusal
from ._callbacks import is_control_flow
from ._calls import (
    Course,
    Request,
    ToolContext,
    ToolResult,
    copied,
    given,
    reporting,
    result,
)
from ._circuit import Circuit
from ._conversation import Call
from ._entry import Entry
from ._errors import (
    InvalidArgumentsError,
    OrchestratorError,
    ToolTimeoutError,
)
from ._events import Observers, finished
from ._fleet import Fleet
from ._foreign import is_a
from ._marks import Marks, put, take_off
from ._outcome import Verdict, judge_value, opinion, to_text
from ._progress import Reporter
from ._settle import (
    End,
    Flight,
    Seen,
    end_in_the_dark,
    end_with_error,
    end_with_value,
    outcome_for,
    verdict_of_leaving,
)
from ._stack import check_room, is_deep, with_room
from ._steps import LAST, Steps
from ._threads import NoThreadError, ThreadedCall
from ._throttle import Throttle, throttle_of_error, throttle_of_value
from ._traceback import binds_arguments, raise_as_it_was

_NOTHING: Final[Mapping[str, Any]] = {}

_SUCCESS: Final = Verdict.SUCCESS
"""To look it up in its class takes 40 ns, of the 1,300 of a call."""

_SAYS: Final = {Verdict.SUCCESS: True, Verdict.FAILURE: False, Verdict.IGNORE: None}


class _Wanted(NamedTuple):
    """
    A call that would be the probe of a circuit which a fleet shares, and has to ask first;
    or that has asked, and is to probe though the fleet has not answered (``alone``).
    """

    circuit: Circuit
    arguments: Mapping[str, Any]
    key: str | None = None
    alone: bool = False


class _Probe(NamedTuple):
    breaker: Breaker
    permit: Permit

    @property
    def is_over(self) -> bool:
        return not self.breaker.covers(self.permit)


_Probes = Marks[_Probe]

_probes: ContextVar[_Probes] = ContextVar("orchestrator_async_probes")
"""The probes that this code runs under: what they call shares their permits."""


class Execution:
    """
    Runs calls for one orchestrator.
    """

    def __init__(
        self,
        fleet: Fleet,
        answers: Answers,
        observers: Observers,
        clock: Callable[[], float],
        clean: Callable[[str], str],
    ) -> None:
        self._clean = clean
        self._fleet = fleet
        self._answers = answers
        self._endings = answers.endings
        self._observers = observers
        self._clock = clock
        self._clock_is_the_loops = clock is anyio.current_time

    async def run(self, request: Request, *, render: bool = True) -> ToolResult:
        """
        Run the tool, with the parts around its calls, and return what came of it, or why
        it was not run.

        Args:
            request: What the caller asked for.
            render: Whether a value is also made text, which can fail.

        Raises:
            BaseException: Cancellation and control flow, and nothing else.
        """
        entry = self._entry(request)
        if isinstance(entry, ToolResult):
            await checkpoint()
            return entry
        if entry.around is not None:
            request.course = Course(entry.tool, entry.settings.total_timeout)
            return await entry.around(request, render)
        return await self.go_on(entry, request, render)

    @binds_arguments
    async def short(
        self,
        entry: Entry,
        permit: Permit,
        started: float,
        args: Any,
        call_id: str | None,
        context: Any,
        *,
        render: bool = True,
        handler: Callable[[], Awaitable[Any]] | None = None,
        brief: bool = False,
    ) -> ToolResult | None:
        """
        The same as ``run``, on the short path, which ``dispatch`` has written out for
        itself.

        Args:
            entry: The tool, which is ``direct``, and nobody observes.
            permit: The one with which its circuit lets all calls run.
            started: The time now.
            args: What the caller has sent. Where there is a handler, it alone has them, and
                what gives them will do.
            call_id: The caller's id of the call.
            context: What the tool could find in its context, if it wanted one, or what
                gives that.
            render: Whether a value is also made text, which can fail.
            handler: What is run in the place of the tool's own function.
            brief: Whether nothing is to be told of a success.

        Returns:
            What came of it; ``None`` for a success of which nothing is told.

        Raises:
            BaseException: Cancellation and control flow, and nothing else.
        """
        breaker = entry.breaker
        arguments = {} if handler is not None else args
        if type(arguments) is not dict or entry.check is not None:
            arguments = self._bound(entry, args, call_id, context)
            if isinstance(arguments, ToolResult):
                try:
                    await checkpoint()
                    return arguments
                finally:
                    del arguments  # as below
            started = self._time_now()  # what the arguments took is not the tool's
            if permit is not breaker.closed_permit or math.isnan(started):
                request = Request(entry.name, args, call_id, context)
                return await self.go_on(entry, request, render, arguments)
        figures, timeout = entry.figures, entry.timeout
        try:
            task = _loop.current_task()
        except RuntimeError:
            task = _loop.this_task()
        requests = 0
        if task is not None and task.cancelling():
            requests = _loop.cancel_requests(task)
        scope = failure = closing = None
        text: str | None = None
        seen: Seen | None = None
        ended: float | None = None
        on_time = False
        number = figures.begin(started)
        try:
            if timeout is None:
                if handler is None:
                    value = await entry.fn(**arguments)
                else:
                    value = await handler()
            else:
                with anyio.move_on_after(timeout) as scope:
                    try:
                        if handler is None:
                            value = await entry.fn(**arguments)
                        else:
                            value = await handler()
                    except GeneratorExit as closed:
                        closing = closed
                        raise
                if scope.cancelled_caught:
                    raise struck(entry)
            try:
                ended = self._clock()
                duration = ended - started
            except Exception:
                ended = duration = math.nan
            if (task is None or task.cancelling() == requests) and (
                scope is None or not is_late(scope, task)
            ):
                on_time = True
                if entry.judge is not None:
                    if entry.judge_value is None:
                        context = given(context)
                    text, seen = text_of_success(
                        entry, value, render, duration, call_id, context
                    )
                elif type(value) is str and "{" not in value:
                    text = value
                else:
                    text, seen = text_of_success(entry, value, render)
                counting = breaker.counting
                if (
                    text is not None
                    and not self._observers.listening
                    and not (counting and duration >= breaker.slow_above)
                ):
                    late = permit is not breaker.closed_permit
                    if late:
                        figures.late += 1
                    elif counting:
                        breaker.succeeded(permit, ended, duration)
                    figures.end(number)
                    if duration > 0:
                        figures.total_time += duration
                    else:
                        duration = 0.0
                    if brief:
                        return None
                    name = entry.name
                    verdict = Verdict.IGNORE if late else _SUCCESS
                    state = breaker.state
                    return result(  # in the order of its fields
                        *(name, call_id, text if render else "", value, None, True),
                        *(verdict, late, state, name, duration, 1),
                    )
        except BaseException as error:
            failure, value = error, None
        try:
            if handler is not None:
                args, context = given(args), given(context)
            request = Request(entry.name, args, call_id, context)
            flight = Flight(entry, entry.circuit, request, arguments, permit)
            flight.number, flight.started, flight.scope = number, started, scope
            flight.task, flight.requests, flight.closing = task, requests, closing
            flight.on_time, flight.ended = on_time, ended
            flight.seen = seen_in(text, render) if seen is None else seen
            flight.by_handler = handler is not None
            render = render or brief  # there is something to be told
            return result_of(flight, await self.land(flight, value, failure, render=render))
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

    def _bound(
        self, entry: Entry, args: Any, call_id: str | None, context: Mapping[str, Any]
    ) -> Mapping[str, Any] | ToolResult:
        """
        The keyword arguments, or what the caller is told where they do not fit.
        """
        try:
            return entry.binder.bind(args)
        except InvalidArgumentsError as error:
            request = Request(entry.name, args, call_id, context)
            return self._answers.invalid(entry, error, request)

    async def text(self, request: Request) -> str:
        """
        The same as ``run``, and return what the model reads.
        """
        entry = self._entry(request)
        if isinstance(entry, ToolResult):
            await checkpoint()
            return entry.content
        if entry.around is not None:
            request.course = Course(entry.tool, entry.settings.total_timeout)
            return (await entry.around(request, True)).content
        return await self.go_on_to_text(entry, request)

    async def attempt(self, request: Request, render: bool) -> ToolResult:
        """
        Run the tool once: what is within all the parts around.

        Its settings are what they are now. A tool that was replaced while the call waited
        is not run in its place: nobody has asked that one's guard, the arguments were made
        for the other, and another attempt may have run that already.
        """
        assert request.course is not None
        entry = self._entry_of(request.course.tool, request)
        if isinstance(entry, ToolResult):
            await checkpoint()
            return entry
        return await self.go_on(entry, request, render)

    def _entry_of(self, tool: object, request: Request) -> Entry | ToolResult:
        """
        What a call has that was made for this tool and has waited, or why it is not run.
        """
        entry = self._entry(request)
        if not isinstance(entry, ToolResult) and entry.tool is not tool:
            return self._answers.replaced(entry.tool, request)
        return entry

    def turned_away(self, entry: Entry, request: Request) -> ToolResult | None:
        """
        What a call is told that would not be run now, by its arguments or its circuit, or
        ``None``. Claims nothing: to be asked before it waits for anything.
        """
        course = request.course
        assert course is not None
        if self._fleet.drain is not None:
            return self._answers.draining(entry.tool, request)
        if (call := request.counted) and (stopped := self._stopped(call, request)):
            return stopped
        try:
            if entry.keyed is None and (refusal := self.refusal(entry, entry.circuit)):
                return self._answers.refused(entry, entry.circuit, refusal, request)
            course.arguments = self.arguments(entry, request)
            if entry.keyed is not None and entry.breaker.refusal_by_hand() is None:
                course.key = (entry.key_of(course.arguments, request),)
            circuit = self.circuit_of(entry, request)
            if circuit is None or (refusal := self.refusal(entry, circuit)) is None:
                return None
            return self._answers.refused(entry, circuit, refusal, request)
        except InvalidArgumentsError as error:
            return self._answers.invalid(entry, error, request)
        except Exception as error:
            if is_control_flow(error, entry.settings.control_flow):
                raise  # out of what gives the key
            return self._answers.unusable(entry.tool, error, request)

    def circuit_of(self, entry: Entry, request: Request) -> Circuit | None:
        """
        The circuit of a call that was not turned away, or ``None`` where its key has none
        yet.
        """
        course = request.course
        assert course is not None
        key = None if course.key is None else course.key[0]
        if key is None or entry.keyed is None:
            return entry.circuit
        return entry.keyed.peek(key, self._time_now())

    async def go_on(
        self,
        entry: Entry,
        request: Request,
        render: bool,
        arguments: Mapping[str, Any] | None = None,
    ) -> ToolResult:
        """
        The same as ``run``, without the parts around. A call that a short path cannot take
        any further, as its circuit has moved while its arguments were made, has those.
        """
        flight = self._take_off(entry, request, arguments)
        if isinstance(flight, _Wanted):
            flight = await self._asked(entry, request, flight)
        try:
            if isinstance(flight, ToolResult):
                await checkpoint()
                return flight
            if entry.streams and request.streams:
                return await self._opened(flight)
            return result_of(flight, await self._flown(flight, render))
        finally:
            # The error that it tells of refers to this frame, by way of one that it left.
            del flight

    async def go_on_to_text(
        self,
        entry: Entry,
        request: Request,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """
        The same, and return what the model reads.
        """
        check_room()
        flight = self._take_off(entry, request, arguments)
        if isinstance(flight, _Wanted):
            flight = await self._asked(entry, request, flight)
        try:
            if isinstance(flight, ToolResult):
                await checkpoint()
                return flight.content
            return _text(await self._flown(flight, True))
        finally:
            del flight  # as above

    async def _flown(self, flight: Flight, render: bool) -> End:
        error = value = None
        try:
            value = await self._fly(flight)
        except BaseException as raised:
            error = raised
        try:
            return await self.land(flight, value, error, render=render)
        finally:
            # An exception refers to this frame, which must not keep it in turn.
            del error, value

    # Streams

    async def _opened(self, flight: Flight) -> ToolResult:
        """
        Take a stream's first chunk; what came of it where there is none.
        """
        request = flight.request
        chunk, end = await self.advance(flight)
        if end is not None:
            request.is_empty = end.error is None
            return result_of(flight, end)
        assert flight.steps is not None
        flight.steps.first = chunk
        request.opened = flight
        if request.course is not None:
            request.course.opened = True
        return result(
            name=flight.entry.name,
            call_id=request.call_id,
            content="",
            value=None,
            error=None,
            ok=True,
            verdict=Verdict.IGNORE,
            late=False,
            state=flight.circuit.state,
            source=flight.entry.name,
            duration=flight.spent,
            attempts=1,
            retry_after=None,
        )

    async def advance(self, flight: Flight) -> tuple[Any, End | None]:
        """
        The next chunk of a stream; or ``LAST``, and how it has ended.

        Raises:
            BaseException: Cancellation and control flow, and nothing else.
        """
        check_room()
        error = chunk = value = None
        flight.started = self._time_now()
        try:
            chunk = await self._step(flight)
            if chunk is LAST:
                assert flight.steps is not None
                value = flight.steps.gathered.value()
        except BaseException as raised:
            error, chunk = raised, LAST
        try:
            if chunk is not LAST:
                # Python 3.11 traces no frame at once that something was thrown into.
                if not flight.task_was_cancelled():  # pragma: no branch - see above
                    self._note_time(flight)
                    return chunk, None
                # It has swallowed what was asked of the task.
                end = await self._left(flight, cancelled=True)
                await flight.reassert()
                return LAST, end  # its clean-up has taken that back
            if flight.steps is not None:
                try:
                    if is_a(error, GeneratorExit):
                        flight.steps.close_at_once()
                    else:
                        await self._closed(flight)
                except BaseException as raised:
                    error = raised
            return LAST, await self.land(flight, value, error, render=False)
        finally:
            del error, chunk, value

    async def leave(
        self, flight: Flight, *, cancelled: bool, at_once: bool = False
    ) -> None:
        """
        End a stream before its end, because its consumer does not want the rest.

        Args:
            flight: The execution.
            cancelled: Whether that is because the consumer was cancelled.
            at_once: Whether nothing can be awaited any more.

        Raises:
            BaseException: A cancellation, or an interrupt.
        """
        flight.started = self._time_now()
        if at_once:
            try:
                assert flight.steps is not None
                flight.steps.close_at_once()
            finally:
                self._ended_early(flight, cancelled, at_once=True)
            return
        await self._left(flight, cancelled=cancelled)

    async def _left(self, flight: Flight, *, cancelled: bool) -> End:
        try:
            await self._closed(flight)
        finally:
            end = self._ended_early(flight, cancelled)
        return end

    def _ended_early(
        self, flight: Flight, cancelled: bool, *, at_once: bool = False
    ) -> End:
        self._note_time(flight)
        end = End(Verdict.IGNORE, cancelled=cancelled)
        end.duration = flight.spent
        assert flight.steps is not None
        flight.steps.left = end
        try:
            end.verdict = verdict_of_leaving(flight)
        except BaseException as raised:
            flow = is_control_flow(raised, flight.entry.settings.control_flow)
            if not flow or not (cancelled or at_once):
                raise  # else there is something that goes before it
        finally:
            with_room(self._close, flight, end, self._time_now())
        return end

    async def _closed(self, flight: Flight) -> None:
        """
        Have the tool clean up after its last step.
        """
        assert flight.steps is not None
        token = self._under_probe(flight)
        try:
            await flight.steps.close()
        finally:
            take_off(_probes, token)

    @binds_arguments
    async def _step(self, flight: Flight) -> Any:
        token = self._under_probe(flight)
        try:
            flight.remember_task()
            if flight.steps is None:
                arguments = self._arguments_of(flight)
                generator = flight.entry.fn(**arguments)
                flight.steps = Steps(flight, generator, joined=False)
            return await flight.steps.next()
        finally:
            take_off(_probes, token)

    def _note_time(self, flight: Flight) -> None:
        """
        The tool has taken that long since it was begun, or asked for more.
        """
        assert flight.steps is not None
        flight.steps.spent += max(0.0, self._time_now() - flight.started)

    def _under_probe(self, flight: Flight) -> Token[_Probes] | None:
        """
        Have what the tool calls share its permit, if it is a probe.
        """
        if not flight.is_probe:
            return None
        return put(_probes, (_Probe(flight.circuit.breaker, flight.permit),))

    # Refusals

    def refusal(self, entry: Entry, circuit: Circuit) -> Refusal | None:
        """
        Why the circuit would refuse the call now, or ``None``.
        """
        breaker = circuit.breaker
        if breaker.closed_permit is not None:
            return None
        now = self._clock()
        if self._clock_is_the_loops:
            with suppress(OrchestratorError):  # said when the permit is claimed
                circuit.follow_loop(now)
        if calling_probe(breaker) is not None:
            return None
        if breaker.probe is None:
            return breaker.refusal(now)
        return breaker.refusal(now, entry.figures.average)

    async def land(
        self,
        flight: Flight,
        value: Any,
        error: BaseException | None,
        *,
        render: bool = True,
    ) -> End:
        """
        Judge the call, give everything back, then return or raise. Awaits only then.
        """
        end = None
        try:
            end = with_room(self._settled, flight, value, error, render)
            if end.goes_up is not None:
                raise_as_it_was(end.goes_up)
            if end.reassert:
                await flight.reassert()
            elif end.not_run:
                await checkpoint()
            return end
        finally:
            del error, end, value

    def _settled(
        self, flight: Flight, value: Any, error: BaseException | None, render: bool
    ) -> End:
        now = self._time_now() if flight.ended is None else flight.ended
        held = 0.0 if flight.pause is None else flight.pause.seconds(now)
        duration = max(0.0, now - flight.started - held)
        try:
            if error is None:
                end = end_with_value(flight, value, duration, render)
            else:
                end = end_with_error(flight, error, duration)
        except RecursionError as too_deep:
            # A group of groups of groups that cannot be looked into.
            end = End(Verdict.FAILURE, value, too_deep)
        except BaseException as broken:
            flow = is_control_flow(broken, flight.entry.settings.control_flow)
            if not flow and not is_a(broken, Exception):
                self._close(flight, End(Verdict.IGNORE), now)
                raise
            end = end_in_the_dark(flight, value, error, broken, flow=flow)
        end.duration = flight.spent + duration
        try:
            self._close(flight, end, now)
            return end
        finally:
            del error, end, value

    def _time_now(self) -> float:
        """
        The time, or NaN where the clock fails: a loop's, say, when that is gone.
        """
        try:
            return self._clock()
        except Exception:
            return math.nan

    # Taking off

    def _entry(self, request: Request) -> Entry | ToolResult:
        """
        The tool that was asked for, or why there is none.
        """
        tool = self._fleet.registry.get(request.name)
        if tool is None:
            unknown = self._fleet.registry.unknown(request.name, request.allows)
            return self._answers.unknown(unknown, request)
        if self._fleet.drain is not None:
            return self._answers.draining(tool, request)
        if (call := request.counted) and (stopped := self._stopped(call, request)):
            return stopped
        try:
            return self._fleet.entry(tool)
        except Exception as error:
            return self._answers.unusable(tool, error, request)

    def _stopped(self, call: Call, request: Request) -> ToolResult | None:
        """
        What a call is told whose conversation was ended while it waited, or ``None``.
        """
        stop = call.rules.stop
        if stop is None:
            return None
        reason = stop.reason or "over"
        return self._answers.stopped(stop.advice, reason, request, stop=True)

    def _take_off(
        self,
        entry: Entry,
        request: Request,
        arguments: Mapping[str, Any] | None = None,
        wanted: _Wanted | None = None,
    ) -> Flight | ToolResult | _Wanted:
        """
        A flight, or why there is none; of a call that has its arguments, if they are given,
        or that has asked its fleet.
        """
        try:
            if wanted is not None:
                arguments, key = wanted.arguments, wanted.key
                return self._with_circuit(entry, request, arguments, key, wanted)
            if arguments is not None:
                return self._with_circuit(entry, request, arguments, None)
            return self._admitted(entry, request)
        except InvalidArgumentsError as error:
            return self._answers.invalid(entry, error, request)
        except Exception as error:
            if is_control_flow(error, entry.settings.control_flow):
                raise  # out of what gives the key
            return self._answers.unusable(entry.tool, error, request)

    async def _asked(
        self, entry: Entry, request: Request, wanted: _Wanted
    ) -> Flight | ToolResult:
        """
        The same for a call that has to ask its fleet before it can be the probe.
        """
        link = wanted.circuit.link
        said = False if link is None else await link.ask(entry.lease)
        if isinstance(said, Refusal):
            return self._answers.refused(entry, wanted.circuit, said, request)
        now = self._entry_of(entry.tool, request)
        if isinstance(now, ToolResult):
            return now
        flight = self._take_off(now, request, wanted=wanted._replace(alone=said))
        assert not isinstance(flight, _Wanted)
        return flight

    def _admitted(self, entry: Entry, request: Request) -> Flight | ToolResult | _Wanted:
        circuit = entry.circuit
        if entry.keyed is None:
            refusal = self.refusal(entry, circuit)
        else:  # which circuit it is cannot be told yet; that of the tool has all by hand
            refusal = circuit.breaker.refusal_by_hand()
        if refusal is not None:
            return self._answers.refused(entry, circuit, refusal, request)
        arguments = self._arguments(entry, request)
        key = None if entry.keyed is None else self._key_of(entry, arguments, request)
        return self._with_circuit(entry, request, arguments, key)

    def _with_circuit(
        self,
        entry: Entry,
        request: Request,
        arguments: Mapping[str, Any],
        key: str | None,
        asked: _Wanted | None = None,
    ) -> Flight | ToolResult | _Wanted:
        now = self._clock()
        if entry.keyed is None:
            return self._claimed(entry, entry.circuit, request, arguments, now, asked)
        circuit = entry.take(key, now)
        flight: Flight | ToolResult | _Wanted | None = None
        try:
            refusal = self.refusal(entry, circuit)
            if refusal is not None:
                return self._answers.refused(entry, circuit, refusal, request)
            flight = self._claimed(entry, circuit, request, arguments, now, asked)
            if isinstance(flight, _Wanted):
                flight = flight._replace(key=key)
            return flight
        finally:
            if isinstance(flight, Flight):
                flight.key = key
            else:
                entry.give_back(circuit, key, now, None)

    def _arguments(self, entry: Entry, request: Request) -> Mapping[str, Any]:
        """
        The keyword arguments, unless a part around the call has had to make them already.
        """
        course = request.course
        if course is None:
            return entry.binder.bind(request.args)
        if course.arguments is None:
            return self.arguments(entry, request)
        arguments, course.arguments = course.arguments, None
        return arguments

    def _key_of(
        self, entry: Entry, arguments: Mapping[str, Any], request: Request
    ) -> str | None:
        """
        The key, unless the attempt has been asked for it already: who gives it need not
        say the same twice.
        """
        course = request.course
        if course is None or course.key is None:
            return entry.key_of(arguments, request)
        (key,), course.key = course.key, None
        return key

    def arguments(self, entry: Entry, request: Request) -> Mapping[str, Any]:
        """
        The keyword arguments, for one who gets them. Where others get them too, what he
        does to them changes nothing for these.

        Raises:
            InvalidArgumentsError: They do not fit.
        """
        made = self.made(entry, request)
        if request.kept:
            with suppress(RecursionError):  # nested too deep to be copied from here
                made = copied(made)
        return made

    def made(self, entry: Entry, request: Request) -> Mapping[str, Any]:
        """
        The keyword arguments, made once a call: a default that is drawn would be another
        each time. Not to be changed.

        Raises:
            InvalidArgumentsError: They do not fit.
        """
        course = request.course
        assert course is not None
        if course.made is None:
            args = copied(request.args) if request.kept else request.args
            course.made = entry.binder.bind(args)
        return course.made

    def _claimed(
        self,
        entry: Entry,
        circuit: Circuit,
        request: Request,
        arguments: Mapping[str, Any],
        now: float,
        asked: _Wanted | None,
    ) -> Flight | ToolResult | _Wanted:
        """
        Take what the call needs, last of all its circuit's permit.
        """
        nested = calling_probe(circuit.breaker)
        goes_alone = asked is not None and asked.alone
        if circuit.link is not None and nested is None and not goes_alone:
            said = circuit.link.before_probe(now)
            if said is True:
                if asked is None:
                    return _Wanted(circuit, arguments)
                said = Refusal(circuit.state, 1.0)
            if said is not False:
                return self._answers.refused(entry, circuit, said, request)
        rest = math.inf
        if request.course is not None and request.course.deadline < math.inf:
            # Before anything is taken, as there may be no loop to ask.
            rest = request.course.deadline - anyio.current_time()
        thread = None
        if entry.slots is not None:
            if not entry.slots.take():
                return self._answers.limited(entry, circuit, request)
            thread = ThreadedCall(entry.slots)
        permit: Permit | Refusal | None = None
        try:
            permit = nested or self._permit(entry, circuit, now)
        finally:
            if thread is not None and not isinstance(permit, Permit):
                thread.give_up()
        if isinstance(permit, Refusal):
            return self._answers.refused(entry, circuit, permit, request)
        entry.figures.would_reject += permit.is_bystanders
        flight = Flight(entry, circuit, request, arguments, permit)
        flight.nested = nested is not None
        flight.is_probe = not nested and permit is circuit.breaker.probe
        flight.thread = thread
        flight.started = now
        flight.number = entry.figures.begin(now)
        flight.timeout = entry.timeout
        if request.counted is not None:
            request.counted.entered = True
        course = request.course
        if course is not None:
            course.ran, course.was_probe = True, flight.is_probe
            if rest < (math.inf if flight.timeout is None else flight.timeout):
                flight.timeout, flight.is_cut = rest, True
        return flight

    def _permit(self, entry: Entry, circuit: Circuit, now: float) -> Permit | Refusal:
        permit = circuit.breaker.closed_permit
        if permit is not None:
            return permit
        return circuit.admit(now, entry.lease, entry.figures.average)

    # Flying

    async def _fly(self, flight: Flight) -> Any:
        """
        Run the tool, under its own timeout if it has one.
        """
        token = self._under_probe(flight)
        try:
            flight.remember_task()
            if flight.timeout is None:
                return await self._enter(flight)
            with anyio.move_on_after(flight.timeout) as flight.scope:
                try:
                    return await self._enter(flight)
                except GeneratorExit as closing:
                    flight.closing = closing
                    raise
            raise struck(flight.entry, flight.allowed)
        finally:
            if flight.thread is not None:
                flight.thread.give_up()
            take_off(_probes, token)

    @binds_arguments
    async def _enter(self, flight: Flight) -> Any:
        entry, request = flight.entry, flight.request
        arguments = self._arguments_of(flight)
        if entry.streams:
            flight.steps = Steps(flight, entry.fn(**arguments), joined=True)
            return await flight.steps.all()
        if flight.thread is None:
            return await entry.fn(**arguments)
        try:
            value = await flight.thread.wait(functools.partial(entry.fn, **arguments))
        except NoThreadError as error:
            if request.course is not None:
                request.course.ran = False
            count = threading.active_count()
            raise self._answers.no_thread(entry, count, "system threads") from error
        return await value if _is_awaitable(value) else value

    def _arguments_of(self, flight: Flight) -> Mapping[str, Any]:
        """
        The tool's arguments, with its context where it wants that.
        """
        entry, request, course = flight.entry, flight.request, flight.request.course
        name = entry.binder.context_parameter
        if name is None:
            return flight.arguments
        deadline = anyio.current_effective_deadline()
        if course is not None:
            deadline = min(deadline, course.deadline)
        context = ToolContext(
            tool_name=entry.name,
            call_id=request.call_id,
            attempt=1 if course is None else course.attempt,
            deadline=deadline,
            timeout=entry.settings.longest,
            idempotency_key=(
                os.urandom(16).hex() if course is None else course.idempotency_key
            ),
            data=request.context,
        )
        flight.reporter = Reporter(flight, self._observers, self._clean, self._time_now)
        reporting(context, flight.reporter)
        return {**flight.arguments, name: context}

    # Landing

    def _close(self, flight: Flight, end: End, now: float) -> None:
        """
        Give the permit back with the verdict, count, and tell the observers.
        """
        entry = flight.entry
        if flight.reporter is not None:
            flight.reporter.end()
        if flight.steps is not None:
            flight.steps.release()
        try:
            why = self._given_back(flight, end, now)
        except BaseException:
            # Who is told that the circuit has changed is told of the call as well.
            if self._observers.listening:
                self._tell(flight, end)
            raise
        finally:
            if flight.key is not None:
                said = None if end.late or flight.nested else _SAYS[end.verdict]
                entry.give_back(flight.circuit, flight.key, now, said)
        if flight.request.course is not None:
            breaker = flight.circuit.breaker
            if end.not_run:
                flight.request.course.ran = False
            flight.request.course.ended(
                failed=end.verdict is Verdict.FAILURE,
                blamed=end.blamed,
                pause=breaker.open_for(now) if breaker.paused else 0.0,
            )
        end.text = self._endings.text(entry, end, why)
        if end.verdict is Verdict.FAILURE:
            self._endings.log(entry, end, why)
        if self._observers.listening:
            self._tell(flight, end)

    def _given_back(self, flight: Flight, end: End, now: float) -> str:
        """
        Give the permit back with the verdict, and count; what the circuit was told.
        """
        entry = flight.entry
        circuit = flight.circuit
        why, read = "", False
        try:
            why = self._endings.why(end)
            throttle = self._throttle(flight, end)
            read = True
            end.late = self._vote(flight, end, why, throttle, now)
        except OrchestratorError as foreign:
            entry.complain("its verdict could not be given", foreign)
            end.verdict, end.error, end.timed_out = Verdict.IGNORE, foreign, False
            end.throttled, end.retry_after = False, None
            why = self._endings.why(end)
        except BaseException:
            # Interrupted within foreign code: a cleaner, an exception's text, an observer.
            if not read:
                end.verdict = Verdict.IGNORE  # it was not given
            if not flight.nested:
                circuit.ignored(flight.permit, now)
            raise
        finally:
            _count(flight, end)
        return why

    def _tell(self, flight: Flight, end: End) -> None:
        entry, request = flight.entry, flight.request
        state = flight.circuit.state
        if end.not_run:
            reason = "invalid_arguments"
            self._answers.tell(entry.name, reason, request, None, state)
            return
        self._observers.tell(
            finished(
                tool_name=entry.name,
                call_id=request.call_id,
                arguments=request.args,
                context=request.context,
                verdict=Verdict.IGNORE if end.late else end.verdict,
                late=end.late,
                duration=end.duration,
                value=None if request.streams and entry.streams else end.value,
                error=end.error,
                state=state,
                attempt=1 if request.course is None else request.course.attempt,
            )
        )

    def _vote(
        self, flight: Flight, end: End, why: str, throttle: Throttle | None, now: float
    ) -> bool:
        """
        Give the permit back; whether that came too late to count.
        """
        circuit, permit, duration = flight.circuit, flight.permit, end.duration
        if flight.nested:
            return False
        if end.verdict is Verdict.SUCCESS:
            return circuit.succeeded(permit, now, duration)
        if end.verdict is not Verdict.FAILURE:
            return circuit.ignored(permit, now)
        if throttle is None:
            return circuit.failed(permit, now, duration, why)
        late = circuit.throttled(permit, now, throttle.seconds, why)
        if end.retry_after is None and circuit.breaker.paused and not late:
            end.retry_after = circuit.breaker.length
        return late

    def _throttle(self, flight: Flight, end: End) -> Throttle | None:
        """
        Whether a failure asks for a pause, where such are given.
        """
        most = flight.circuit.breaker.settings.max_pause
        if end.verdict is not Verdict.FAILURE or end.timed_out:
            return None
        if most is None and flight.request.course is None:
            return None
        if end.error is None:
            throttle = throttle_of_value(end.value)
        else:
            throttle = throttle_of_error(end.error)
        if throttle is not None and throttle.seconds is not None:
            end.retry_after = (
                throttle.seconds if most is None else min(throttle.seconds, most)
            )
        if most is None:
            return None  # it is a failure like others
        end.throttled = throttle is not None
        return throttle


def is_late(scope: anyio.CancelScope, task: Any) -> bool:
    """
    Whether the timeout has struck. A tool that blocks the loop keeps the scope from
    knowing, so the loop's time is looked at too.
    """
    if scope.cancel_called:
        return True
    now: float = anyio.current_time() if task is None else _loop.running_loop().time()
    return scope.deadline <= now


def text_of_success(
    entry: Entry,
    value: Any,
    render: bool = True,
    duration: float = 0.0,
    call_id: str | None = None,
    context: Mapping[str, Any] = _NOTHING,
) -> tuple[str | None, Seen | None]:
    """
    The value as the model reads it, empty where nobody does. Where it is no success, what
    was seen of it, for whoever judges the call: in the same order, and each thing once.
    """
    text, is_made = "", False
    said: Verdict | None = _SUCCESS
    try:
        if render:
            text = to_text(value, tool_name=entry.name, render=entry.tool.render)
        is_made = True
        if entry.judge is None:
            if entry.reads_values:
                said = judge_value(value)
        elif entry.judge_value is not None:
            said = entry.judge_value(value)
        else:
            took = max(0.0, duration)
            outcome = outcome_for(entry, value, None, took, call_id, context)
            said = opinion(entry.judge, outcome)
    except BaseException as error:
        if is_deep():
            return None, Seen()  # where there is room, it may come to something else
        if not is_made:
            return None, Seen(text=(None, error))
        return None, Seen(text=(text, None) if render else None, said=(None, error))
    if said is _SUCCESS:
        return text, None
    return None, Seen(text=(text, None) if render else None, said=(said, None))


def seen_in(text: str | None, render: bool = True) -> Seen | None:
    """
    What was seen of the value of a success that is to be judged all the same.
    """
    if text is None:
        return None
    return Seen(text=(text, None) if render else None, said=(Verdict.SUCCESS, None))


def struck(entry: Entry, timeout: float | None = None) -> ToolTimeoutError:
    """
    What stands for the value of a tool that was stopped by its own timeout, or by another.
    """
    timeout = timeout or entry.timeout
    assert timeout is not None
    return ToolTimeoutError(tool_name=entry.name, timeout=timeout)


def _is_awaitable(value: object) -> bool:
    try:
        return inspect.isawaitable(value)
    except Exception:
        return False  # it raises when it is looked at


def calling_probe(breaker: Breaker) -> Permit | None:
    """
    The permit of the circuit's probe, if the call comes from within it.
    """
    for other, permit in _probes.get(()):
        if other is breaker and breaker.covers(permit):
            return permit
    return None


def _count(flight: Flight, end: End) -> None:
    figures = flight.entry.figures
    figures.end(flight.number)
    if end.not_run:
        figures.not_run += 1
        figures.invalid += 1
        return
    figures.total_time += end.duration
    figures.late += end.late
    figures.timeouts += end.timed_out
    figures.throttled += end.throttled
    if end.verdict is Verdict.FAILURE:
        figures.total_failures += 1
    elif end.verdict is Verdict.IGNORE and end.cancelled:
        figures.cancelled += 1
    elif end.verdict is Verdict.IGNORE:
        figures.ignored += 1


def result_of(flight: Flight, end: End) -> ToolResult:
    """
    All that there is to say of a call that has ended.
    """
    name = flight.entry.name
    return result(
        name=name,
        call_id=flight.request.call_id,
        content=_text(end),
        value=end.value,
        error=end.error,
        ok=end.error is None
        and end.verdict is not Verdict.FAILURE
        and not (end.refused or end.blamed),
        verdict=Verdict.IGNORE if end.late else end.verdict,
        late=end.late,
        state=flight.circuit.state,
        source=name,
        duration=end.duration,
        attempts=0 if end.not_run else 1,
        retry_after=end.retry_after,
    )


def _text(end: End) -> str:
    # Not by its truth: a class of text may have a length that raises.
    return "" if end.text is None else end.text
