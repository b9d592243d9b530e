"""
The exceptions. They import nothing, and every other module may import them.

Each carries its facts as fields and makes its message of them; each says who is at
fault, and pickles. Where a builtin says the same (``LookupError``, ``TimeoutError``)
the class is one of those too, so that ``except TimeoutError`` means what it says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

NOT_RUN: Final = " The tool was not run. Correct the arguments and call it again."


def _restore(
    cls: type[OrchestratorError], args: tuple[Any, ...], fields: dict[str, Any]
) -> OrchestratorError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error


class OrchestratorError(Exception):
    """
    Everything this library raises of its own.

    Attributes:
        tool_name: The tool that was asked for, or ``None`` where no tool is concerned.
    """

    tool_name: str | None = None

    def __init__(self, message: str = "", /, *, tool_name: str | None = None) -> None:
        super().__init__(message)
        self.tool_name = tool_name

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class CircuitOpenError(OrchestratorError):
    """
    The circuit refused the call; the tool was not run. Nobody's fault but the tool's.

    Attributes:
        circuit: Name of the circuit, which several tools may share.
        state: ``"open"``, ``"half_open"`` or ``"isolated"``.
        retry_after: Seconds until a call may be admitted; ``None`` only for a circuit
            that was isolated by hand.
        failures: Failures in a row that the circuit has seen.
        reason: Why it opened: ``"3 failures in a row"``, say. Empty where it has not: for a
            pause, or an isolation of a circuit without failures.
        paused: Whether the service is not down, but has asked for a pause.
        key: The circuit's key, where the tool has a circuit for each; else ``None``. The
            message does not name it: it may be a secret.
        alternatives: Names of other tools to try, at most three.
    """

    def __init__(
        self,
        *,
        tool_name: str,
        circuit: str,
        state: str,
        retry_after: float | None,
        failures: int,
        reason: str = "",
        paused: bool = False,
        key: str | None = None,
        alternatives: Sequence[str] = (),
    ) -> None:
        if failures and not reason and not paused:
            reason = "1 failure" if failures == 1 else f"{failures} failures in a row"
        before, after = _refusal_text(
            tool_name, state, reason, alternatives, paused=paused, keyed=key is not None
        )
        seconds = "" if retry_after is None else str(math.ceil(retry_after))
        super().__init__(f"{before}{seconds}{after}", tool_name=tool_name)
        self.circuit = circuit
        self.state = state
        self.retry_after = retry_after
        self.failures = failures
        self.reason = reason
        self.paused = paused
        self.key = key
        self.alternatives: tuple[str, ...] = tuple(alternatives)


def _refusal_text(
    tool_name: str,
    state: str,
    reason: str,
    alternatives: Sequence[str],
    *,
    paused: bool,
    keyed: bool,
) -> tuple[str, str]:
    """
    What a refusal says, as the text before and after the whole seconds to wait.

    In two halves because the words change with the circuit and the figure with every
    call. There is no figure for an isolated circuit: the first half is then the whole.
    """
    what, again = (" for these arguments", "with them ") if keyed else ("", "")
    instead = "use another tool or answer without it."
    if keyed:
        instead = "others may work; else " + instead
    if alternatives:
        instead = f"use {' or '.join(alternatives)} instead, or answer without it."
    after = "a pause" if paused else "failures"
    match state:
        case "isolated":
            words = f"has been taken out of service{what}. Do not call it {again}"
            return f"{tool_name} {words.rstrip()}; {instead}", ""
        case "half_open":
            why = f"is being tried again{what} after {after}"
        case _ if paused:
            why = f"is not down{what}, but has had too many calls and asked for a pause"
        case _:
            why = f"is down{what}" + (f" ({reason})" if reason else "")
    return f"{tool_name} {why}. Do not call it {again}again for ", f" s; {instead}"


class UnknownToolError(OrchestratorError, LookupError):
    """
    No tool has that name. The caller's mistake, often a model's.

    Attributes:
        did_you_mean: The closest names that exist, best first, at most three.
        reason: What is known of why there is none, as a sentence: that it was taken away by
            its server, say. Empty where nothing is.
    """

    def __init__(
        self, *, tool_name: str, did_you_mean: Sequence[str] = (), reason: str = ""
    ) -> None:
        hint = "Call one of the tools that you were given."
        if did_you_mean:
            hint = f"Did you mean {' or '.join(did_you_mean)}?"
        because = f" {reason}" if reason else ""
        super().__init__(
            f"There is no tool named {tool_name}.{because} {hint}", tool_name=tool_name
        )
        self.did_you_mean: tuple[str, ...] = tuple(did_you_mean)
        self.reason = reason


class InvalidArgumentsError(OrchestratorError, ValueError):
    """
    The arguments do not fit. The caller's mistake: the circuit hears nothing of it.

    A tool may raise it too, to say that what it was asked for makes no sense.

    Attributes:
        errors: One mapping a bad argument, with its path under ``argument`` and what
            was expected of it under ``expected``.
    """

    def __init__(
        self,
        message: str = "",
        /,
        *,
        tool_name: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        if not message:
            message = f"The arguments for {tool_name or 'the tool'} are not valid"
            said = [f"{entry['argument']}: {entry['expected']}" for entry in errors]
            message += f" ({'; '.join(said)})" if said else ""
            message += "." if tool_name is None else f".{NOT_RUN}"
        super().__init__(message, tool_name=tool_name)
        self.errors: tuple[Mapping[str, str], ...] = tuple(errors)


class ToolTimeoutError(OrchestratorError, TimeoutError):
    """
    The tool ran over its own timeout. The tool's fault.

    Attributes:
        timeout: The timeout, in seconds.
        still_running: Whether the tool may go on in the background, which a worker
            thread does: it cannot be stopped.
        chunk: Whether that was the time of one chunk of a stream.
    """

    def __init__(
        self,
        *,
        tool_name: str,
        timeout: float,
        still_running: bool = False,
        chunk: bool = False,
    ) -> None:
        what = "yield its next chunk" if chunk else "finish"
        rest = (
            "It may still be running, so what it does may yet happen; do not repeat it blindly."
            if still_running
            else "It was stopped. Try something smaller, or another tool."
        )
        super().__init__(
            f"{tool_name} did not {what} within its {timeout:g} s. {rest}",
            tool_name=tool_name,
        )
        self.timeout = timeout
        self.still_running = still_running
        self.chunk = chunk


class ToolCancelledError(OrchestratorError):
    """
    The tool ended cancelled although nobody cancelled its caller. The tool's fault.

    The task group of a connection that died does that to whoever waits on it.

    Attributes:
        begun: Whether the tool was entered: not where a turn's task was cancelled before
            its first step.
        late: Whether the time of its caller was over, while somebody still reads the
            results of a turn.
    """

    def __init__(self, *, tool_name: str, begun: bool = True, late: bool = False) -> None:
        if late:
            what = "was stopped" if begun else "was not run"
            what += ", for the time of its caller was over. Use what there is"
        elif begun:
            what = "broke off by itself, as a lost connection does. Try it once more"
        else:
            what = "was not run, for its task was cancelled before it began. "
            what += "Try it once more"
        super().__init__(f"{tool_name} {what}, or use another tool.", tool_name=tool_name)
        self.begun = begun
        self.late = late


class DuplicateToolError(OrchestratorError, ValueError):
    """
    The name is taken, by a tool or by a circuit that other tools share.
    """


class InvalidResultError(OrchestratorError, TypeError):
    """
    The tool returned what cannot be made JSON. The tool's fault.

    Attributes:
        result_type: Name of the type of what it returned.
    """

    def __init__(self, *, tool_name: str, result_type: str, reason: str = "") -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"{tool_name} returned {result_type}, which cannot be made JSON{because}. "
            "It did run. Its author should return text, or data that JSON can hold.",
            tool_name=tool_name,
        )
        self.result_type = result_type


class LimitExceededError(OrchestratorError):
    """
    A limit refused the call; the tool was not run. Nobody's fault, and no verdict.

    Attributes:
        limit: Which limit: ``"threads"`` for the worker threads of a plain function,
            ``"concurrency"`` for calls at one time, ``"rate"`` for calls in a time.
        size: How much it allows.
        retry_after: Seconds after which a call may be let in; an estimate.
        scope: Whose limit it is, as a message says it: ``"group github"``, say; empty
            where it is the tool's own.
        seconds: In how many seconds a rate allows so many calls; else ``None``.
    """

    def __init__(
        self,
        *,
        tool_name: str,
        limit: str,
        size: int,
        retry_after: float,
        scope: str = "",
        seconds: float | None = None,
    ) -> None:
        of = f" of {scope}" if scope else ""
        if seconds is not None:
            said = f"may not be called that often: {size} calls{of} in {seconds:g} s"
        elif limit == "concurrency":
            said = f"is busy: {size} of {size} calls{of} are running"
        else:
            said = f"is busy: {size} of {size} {limit} in use"
        super().__init__(
            f"{tool_name} {said}. Try again in {math.ceil(retry_after)} s, or use another "
            "tool.",
            tool_name=tool_name,
        )
        self.limit = limit
        self.size = size
        self.retry_after = retry_after
        self.scope = scope
        self.seconds = seconds


class DrainingError(OrchestratorError):
    """
    The orchestrator takes no new calls, as ``drain`` was called. Nobody's fault.
    """

    def __init__(self, *, tool_name: str) -> None:
        super().__init__(
            f"{tool_name} was not run: the program is being shut down and takes no more "
            "calls. Answer with what you have.",
            tool_name=tool_name,
        )


class CallRefusedError(OrchestratorError):
    """
    A guard has refused the call; the tool was not run. Nobody's fault, and no verdict.

    Attributes:
        reason: What the guard has said.
    """

    def __init__(self, reason: str, *, tool_name: str) -> None:
        super().__init__(reason, tool_name=tool_name)
        self.reason = reason
