"""
How a call ended: the verdict table, from its top to its bottom.

Everything here is synchronous and is asked once the tool has ended and our own timeout
scope has been left. ``_execution`` then gives the permit back and acts on the
``End``, which may need an await; nothing is decided after one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import anyio

from . import _loop
from ._breaker import Permit
from ._callbacks import is_control_flow, is_its_own
from ._caller import Caller
from ._calls import Request, context_for_judges
from ._circuit import Circuit
from ._entry import Entry
from ._errors import (
    InvalidArgumentsError,
    InvalidResultError,
    ToolCancelledError,
    ToolTimeoutError,
)
from ._foreign import context_of, is_a, members_of
from ._outcome import (
    Outcome,
    Verdict,
    judge_error,
    judge_value,
    opinion,
    outcome_of,
    to_text,
)
from ._policy import HANGS, StandIn
from ._threads import ThreadedCall
from ._traceback import codes_of, ends_in_ours, raise_as_it_was

if TYPE_CHECKING:
    from ._held import Pause
    from ._progress import Reporter
    from ._steps import Steps


class Flight(Caller):
    """
    One execution of a tool that is going on, with all that it has taken.

    Attributes:
        entry: The tool.
        circuit: What admitted it.
        key: What that has it for, if it is one of those by key.
        request: What the caller asked for.
        arguments: The keyword arguments that became of it.
        permit: What the circuit admitted it with.
        is_probe: Whether the circuit's fate hangs on it.
        nested: Whether it runs under the permit of a probe that called it, which
            alone votes.
        number: The tool's figures know it by this.
        started: When it began, on the orchestrator's clock.
        timeout: Seconds that it may take, or ``None``.
        is_cut: Whether those are what is left of the whole call's time, not the tool's own.
        scope: The scope of that timeout, if there is one.
        pause: What holds its time while it waits for a person, if it ever did.
        thread: The worker thread's part of it, if it has one.
        reporter: What tells of its progress, if the tool can.
        steps: What gets its chunks, if the tool is an async generator.
        on_time: Whether it is known that the tool ended within its timeout, and that nobody
            had asked to cancel the task by then.
        ended: When it ended, on the orchestrator's clock, if that was asked already.
        seen: What a short path has seen of the value already, if it has looked at it.
        by_handler: Whether something else was run in the place of the tool's function.
        closing: What the tool ended by if the coroutine was closed. The scope that it
            leaves may put an error of its own in the place of that.
    """

    __slots__ = (
        "arguments",
        "by_handler",
        "circuit",
        "closing",
        "ended",
        "entry",
        "is_cut",
        "is_probe",
        "key",
        "nested",
        "no_text",
        "number",
        "on_time",
        "pause",
        "permit",
        "reporter",
        "request",
        "scope",
        "seen",
        "started",
        "steps",
        "thread",
        "timeout",
    )

    def __init__(
        self,
        entry: Entry,
        circuit: Circuit,
        request: Request,
        arguments: Mapping[str, Any],
        permit: Permit,
    ) -> None:
        super().__init__()
        self.entry = entry
        self.circuit = circuit
        self.request = request
        self.arguments = arguments
        self.permit = permit
        self.is_probe = self.nested = False
        self.key: str | None = None
        self.number = 0
        self.started = 0.0
        self.scope: anyio.CancelScope | None = None
        self.thread: ThreadedCall | None = None
        self.closing: GeneratorExit | None = None
        self.on_time = self.is_cut = self.by_handler = False
        self.ended: float | None = None
        self.timeout: float | None = None
        self.reporter: Reporter | None = None
        self.seen: Seen | None = None
        self.pause: Pause | None = None
        self.steps: Steps | None = None

    @property
    def allowed(self) -> float | None:
        """
        The timeout that its own is the rest of: that of the whole call, or the tool's.
        """
        steps, course = self.timed_steps, self.request.course
        if steps is not None:
            return steps.allowed
        if self.is_cut and course is not None:
            return course.total_timeout
        return self.entry.timeout

    @property
    def timed_steps(self) -> Steps | None:
        """
        Its steps, where their timeout counts, and not one of the whole execution.
        """
        steps = self.steps
        if steps is None or (steps.joined and not steps.has_struck):
            return None
        return steps

    @property
    def hang_after(self) -> float:
        """
        Seconds after which a caller who gives it up has waited for a tool that hangs.
        """
        steps = self.steps
        return self.entry.settings.hang_after if steps is None else steps.hang_after

    @property
    def spent(self) -> float:
        """
        Seconds that the tool has taken before it was last begun, or asked for more.
        """
        return 0.0 if self.steps is None else self.steps.spent

    @property
    def is_left(self) -> bool:
        """
        Whether a caller who gives it up leaves a stream of which he has had something.
        """
        steps = self.steps
        return steps is not None and steps.begun and not steps.joined

    def closed_by(self) -> GeneratorExit | None:
        """
        What ended the tool, if its coroutine was closed beneath a scope of ours.
        """
        if self.closing is None and self.thread is not None:
            return self.thread.closing
        return self.closing

    def timeout_struck(self) -> bool:
        """
        Whether the tool's own timeout has passed; on asyncio a scope that never got
        to cancel anything does not know.
        """
        scope = self.scope
        if self.steps is not None and self.steps.has_struck:
            return True
        if scope is None or self.on_time:
            return False
        return scope.cancel_called or scope.deadline <= anyio.current_time()


class Seen:
    """
    What a short path has seen of a value, where the call has not simply succeeded: whoever
    judges it takes that and does not look again, which neither the value (a generator,
    say) nor the tool's judge need bear.

    Each is what a look has come to, and what it has raised; ``None`` where there was none.

    Attributes:
        text: The value as text.
        said: The verdict of the tool's own judge, or else that of what was returned.
    """

    __slots__ = ("said", "text")

    def __init__(self, text: Look = None, said: Look = None) -> None:
        self.text = text
        self.said = said

    def take(self, name: str) -> Any:
        """
        What a look has come to, or raise what it has raised. Once: an error that is raised
        refers to the frames of those who know it, and is not to be held by what they know.
        """
        found, error = getattr(self, name)
        setattr(self, name, None)
        try:
            if error is not None:
                raise_as_it_was(error)
            return found
        finally:
            del error


Look = tuple[Any, BaseException | None] | None


class End:
    """
    How a call ended, and what is to be done about it.

    Attributes:
        verdict: What the tool deserves.
        value: What it returned.
        error: What the answer tells of.
        text: What it returned, as the model reads it.
        cancelled: Whether it ended because the caller was cancelled.
        timed_out: Whether its own timeout struck.
        not_run: Whether the tool was never entered.
        refused: Whether what it returned is the refusal of a call of its own.
        blamed: Whether what it returned is an error of which its judge has said that it
            tells nothing of the tool.
        duration: Seconds that the tool took.
        throttled: Whether it failed by asking for a pause, which is not counted.
        retry_after: Seconds after which it may be called again, if it has said so.
        late: Whether the circuit had moved on when it was told.
        goes_up: What is raised on, whatever the caller asked for.
        reassert: Whether the caller's cancellation was lost and must be raised anew.
    """

    __slots__ = (
        "blamed",
        "cancelled",
        "duration",
        "error",
        "goes_up",
        "late",
        "not_run",
        "reassert",
        "refused",
        "retry_after",
        "text",
        "throttled",
        "timed_out",
        "value",
        "verdict",
    )

    def __init__(
        self,
        verdict: Verdict,
        value: Any = None,
        error: BaseException | None = None,
        *,
        cancelled: bool = False,
        timed_out: bool = False,
        not_run: bool = False,
        goes_up: BaseException | None = None,
        reassert: bool = False,
    ) -> None:
        self.verdict = verdict
        self.value = value
        self.error = error
        self.text: str | None = None
        self.late = self.throttled = False
        self.retry_after: float | None = None
        self.duration = 0.0
        self.cancelled = cancelled
        self.timed_out = timed_out
        self.not_run = not_run
        self.refused = self.blamed = False
        self.goes_up = goes_up
        self.reassert = reassert


def end_with_value(flight: Flight, value: Any, duration: float, render: bool) -> End:
    """
    The end of a call whose tool returned.
    """
    end = End(Verdict.SUCCESS, value)
    struck = flight.timeout_struck()
    asked = not flight.on_time and flight.task_was_cancelled()
    if asked or (struck and flight.caller_is_cancelled()):
        # The tool swallowed the caller's cancellation. A scope asserts it again at the
        # caller's next checkpoint; a request to an asyncio task is made once.
        end.reassert, end.cancelled = asked, True
    elif struck:
        end.timed_out, end.verdict = True, _verdict_of_timeout(flight, duration)
    if render:
        try:
            end.text = _text_of(flight, value)
        except InvalidResultError as error:
            # Ours, so nobody wants to know where it was raised: in a frame that has it.
            end.error = error.with_traceback(None)
    if end.error is not None:
        end.verdict = Verdict.FAILURE
    elif end.verdict is Verdict.SUCCESS:
        _judge(flight, end, duration)
    if end.verdict is Verdict.FAILURE and not end.timed_out:
        end.cancelled = end.cancelled or flight.caller_is_cancelled()
        if end.cancelled and duration < flight.hang_after:
            end.verdict = Verdict.IGNORE
    return end


def end_with_error(flight: Flight, error: BaseException, duration: float) -> End:
    """
    The end of a call out of whose tool an exception came.
    """
    closing = error if is_a(error, GeneratorExit) else flight.closed_by()
    if closing is not None:
        # The coroutine is being closed; there may be no loop left to ask.
        return End(Verdict.IGNORE, error=error, goes_up=closing)
    entry = flight.entry
    if flight.task_was_cancelled():
        flight.take_back_requests(error)
    own, cancellation = part(error)
    if flight.caller_is_cancelled():
        fatal = own is not None and _is_fatal(own)
        up = error if fatal else as_it_came(flight, cancellation)
        return _end_cancelled(flight, error, up, duration)
    struck = flight.timeout_struck()
    if own is not None and _is_fatal(own):
        verdict = _verdict_of_timeout(flight, duration) if struck else Verdict.IGNORE
        return End(verdict, error=error, goes_up=error, timed_out=struck)
    if struck:
        verdict = _verdict_of_timeout(flight, duration)
        return End(verdict, error=_timeout(flight, error), timed_out=True)
    if own is None:
        broken = ToolCancelledError(tool_name=entry.name)
        broken.__cause__ = error
        return End(Verdict.FAILURE, error=broken)
    if is_control_flow(own, entry.settings.control_flow):
        return End(Verdict.IGNORE, error=error, goes_up=error)
    if is_a(own, TypeError) and _was_never_entered(flight, own):
        expected = str(own).removeprefix(f"{entry.fn!r} ")
        wrong = InvalidArgumentsError(
            tool_name=entry.name,
            errors=[{"argument": "(all)", "expected": expected}],
        )
        return End(Verdict.IGNORE, error=wrong, not_run=True)
    return End(_condemned(flight, own, duration), error=own)


def end_in_the_dark(
    flight: Flight,
    value: Any,
    error: BaseException | None,
    broken: BaseException,
    *,
    flow: bool,
) -> End:
    """
    The end of a call that cannot be looked at: the tool ended with something whose own
    code raised, in a group that splits itself, say. It has failed, unless there is an
    interrupt in it, or the caller was cancelled, who goes before. Where it is
    ``flow``, the control flow of the tool's judge, that goes up, and there is no verdict.
    """
    if not flow:
        flight.entry.complain("how it ended cannot be told", broken)
    if error is not None and fatal_in(error) is not None:
        return End(Verdict.IGNORE, error=error, goes_up=error)
    if flight.caller_is_cancelled():
        return End(Verdict.IGNORE, value, error, cancelled=True, reassert=True)
    if flow:
        return End(Verdict.IGNORE, value, error, goes_up=broken)
    return End(Verdict.FAILURE, value, broken if error is None else error)


def _end_cancelled(
    flight: Flight,
    error: BaseException,
    up: BaseException | None,
    duration: float,
) -> End:
    """
    The caller was cancelled: no verdict, but that a tool which was given up after
    ``hang_after`` seconds hangs.
    """
    hangs = duration >= flight.hang_after
    verdict = Verdict.FAILURE if hangs else Verdict.IGNORE
    if not hangs and flight.is_left:
        verdict = verdict_of_leaving(flight, duration)
    return End(
        verdict,
        error=_timeout(flight, error) if hangs else error,
        cancelled=True,
        goes_up=up,
        reassert=up is None,
    )


def verdict_of_leaving(flight: Flight, duration: float = 0.0) -> Verdict:
    """
    A stream that is left before its end has shown a probe that the tool is well, unless it
    has told of an error; of another call nobody knows how it would have ended. The tool's
    own judge, who is to see all of it, is asked only whether that was an error.
    """
    assert flight.steps is not None
    gathered, said = flight.steps.gathered, flight.steps.gathered.said
    if said is Verdict.SUCCESS and flight.entry.reads_values:
        said = judge_value(gathered.value())
    if said is not Verdict.SUCCESS and gathered.is_whole:
        opinion = _opinion(flight, duration, value=gathered.value())
        said = said if opinion is None else opinion
    if said is not Verdict.SUCCESS:
        return said
    return Verdict.SUCCESS if flight.is_probe else Verdict.IGNORE


def _verdict_of_timeout(flight: Flight, duration: float) -> Verdict:
    """
    The tool's own timeout is its failure. That of the whole call is, if the tool had time
    enough: attempts and queues before it may have left it next to none.
    """
    steps = flight.timed_steps
    is_cut = flight.is_cut if steps is None else steps.is_cut
    if not is_cut or duration >= flight.hang_after:
        return Verdict.FAILURE
    if steps is not None and flight.spent + duration >= HANGS * (steps.allowed or 0.0):
        return Verdict.FAILURE  # it had the time, in many steps
    return Verdict.IGNORE


def _timeout(flight: Flight, error: BaseException) -> ToolTimeoutError:
    entry = flight.entry
    timeout = ToolTimeoutError(
        tool_name=entry.name,
        timeout=flight.allowed or flight.hang_after,
        still_running=_may_go_on(flight),
        chunk=flight.timed_steps is not None and not flight.timed_steps.is_cut,
    )
    if not is_a(error, ToolTimeoutError):
        timeout.__cause__ = error
    return timeout


def _may_go_on(flight: Flight) -> bool:
    """
    Whether what the tool has run may still be running, though it was given up.
    """
    if flight.thread is not None:
        return flight.thread.running
    fn = flight.entry.fn
    return issubclass(type(fn), StandIn) and cast("StandIn", fn).may_go_on()


def _judge(flight: Flight, end: End, duration: float) -> None:
    gathered = None if flight.steps is None else flight.steps.gathered
    said = None
    if gathered is None or gathered.is_whole:
        said = _opinion(flight, duration, value=end.value)
    if said is not None:
        end.verdict = said
        if said is Verdict.IGNORE:
            end.blamed = judge_value(end.value) is not Verdict.SUCCESS
    elif flight.entry.reads_values:
        end.verdict = _verdict_of(flight, end.value)
        if gathered is not None and end.verdict is Verdict.SUCCESS:
            end.verdict = gathered.said
        end.refused = end.verdict is Verdict.IGNORE


def _text_of(flight: Flight, value: Any) -> str:
    """
    The value as the model reads it.

    Raises:
        InvalidResultError: It cannot be made JSON.
    """
    if flight.seen is not None and flight.seen.text is not None:
        text: str = flight.seen.take("text")
        return text
    entry = flight.entry
    return to_text(value, tool_name=entry.name, render=entry.tool.render)


def _verdict_of(flight: Flight, value: Any) -> Verdict:
    """
    What the value itself says, of which the tool's judge has no opinion.
    """
    if flight.seen is not None and flight.seen.said is not None:
        verdict: Verdict = flight.seen.take("said")
        return verdict
    return judge_value(value)


def _condemned(flight: Flight, error: BaseException, duration: float) -> Verdict:
    said = _opinion(flight, duration, error=error)
    if said is not None:
        return said
    entry = flight.entry
    return judge_error(error, tool_name=entry.name, ignore=entry.settings.ignore)


def _opinion(
    flight: Flight, duration: float, value: Any = None, error: BaseException | None = None
) -> Verdict | None:
    """
    What the tool's own judge says; one that raises says nothing, and is logged once.
    """
    entry = flight.entry
    if entry.judge is None:
        return None
    request = flight.request
    try:
        if error is None and flight.seen is not None and flight.seen.said is not None:
            said: Verdict | None = flight.seen.take("said")
            return said
        took = flight.spent + duration
        outcome = outcome_for(entry, value, error, took, request.call_id, request.context)
        return opinion(entry.judge, outcome)
    except BaseException as raised:
        if not is_its_own(raised, entry.settings.control_flow):
            raise
        entry.complain("its judge raised, so it has no opinion", raised)
        return None


def outcome_for(
    entry: Entry,
    value: Any,
    error: BaseException | None,
    duration: float,
    call_id: str | None,
    data: Mapping[str, Any],
) -> Outcome:
    """
    What the tool's judge sees of a call.
    """
    context = context_for_judges(entry.name, call_id, data)
    return outcome_of(value, error, duration, context)


def part(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """
    What is the foreign code's own of an exception, and a cancellation that is in it.
    """
    cancelled = anyio.get_cancelled_exc_class()
    if is_a(error, cancelled):
        return None, error
    if _loop.is_cancellation_of_asyncio(error):
        return None, None  # on trio, where it cancels nobody
    if not is_a(error, BaseExceptionGroup) or is_a(error, ExceptionGroup):
        return error, None
    cancellations, own = error.split(cancelled)
    return own, None if cancellations is None else _leaf(cancellations)


def as_it_came(caller: Caller, cancellation: BaseException | None) -> BaseException | None:
    """
    The cancellation, but not one that the tool has raised in the place of another: by
    the context alone anyio can tell whose it is, and where the caller is handling an
    error, Python puts that in the place of the context.

    Nor is it one of asyncio's that came out of thin air as the caller's scope was
    cancelled: the scope would not know it for its own, and the task would end by it.
    """
    if cancellation is None or is_a(context_of(cancellation), type(cancellation)):
        return None
    if caller.task is None or caller.task_was_cancelled():
        return cancellation
    return cancellation if _loop.is_of_a_scope(cancellation) else None


def _leaf(group: BaseException) -> BaseException:
    while is_a(group, BaseExceptionGroup):
        group = members_of(group)[0]
    return group


def _is_fatal(error: BaseException) -> bool:
    """
    Whether it holds what no program answers: a ``KeyboardInterrupt``, say. Leaving by
    ``SystemExit`` is a tool's way of failing.
    """
    if is_a(error, (Exception, SystemExit)):
        return False
    if is_a(error, BaseExceptionGroup):
        return any(_is_fatal(each) for each in members_of(error))
    return True


def _was_never_entered(flight: Flight, error: TypeError) -> bool:
    """
    Whether the arguments could not be bound, so that no frame of the tool was entered,
    at the most those of decorators around it.
    """
    if flight.by_handler:
        return False
    if ends_in_ours(error):
        return True
    fn = flight.entry.fn
    if flight.entry.check is not None or not hasattr(fn, "__wrapped__"):
        return False
    if getattr(inspect.unwrap(fn), "__code__", None) in codes_of(error):
        return False
    try:
        inspect.signature(fn).bind(**flight.arguments)
    except (TypeError, ValueError):
        return True
    return False


def fatal_in(group: BaseException) -> BaseException | None:
    """
    The first exception in a group that no program answers.
    """
    if not is_a(group, BaseExceptionGroup):
        ours = is_a(group, anyio.get_cancelled_exc_class())
        return group if _is_fatal(group) and not ours else None
    found = (fatal_in(each) for each in members_of(group))
    return next((each for each in found if each is not None), None)
