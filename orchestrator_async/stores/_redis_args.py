"""
Changes as the words that the script in the engine wants.
"""

from __future__ import annotations

from orchestrator_async._store import (
    Change,
    Claim,
    Count,
    Isolate,
    Move,
    Renew,
    Run,
    SharedState,
)

from ._record import LONGEST_LEASE, bucket_width, count, milliseconds, record_of, share
from ._redis_text import quoted_token, text_of


def arguments_of(change: Change) -> tuple[str, list[str]]:
    """
    The kind of a change, and what follows it.
    """
    kind, words = _words(change)
    return kind, [_text(change.known), *words]


def _words(change: Change) -> tuple[str, list[str]]:
    match change:
        case Claim():
            token = quoted_token(change.token)
            return "claim", [token, _lease(change.lease), _lease(change.longest)]
        case Renew():
            return "renew", [quoted_token(change.token), _lease(change.lease)]
        case Move():
            token, force = quoted_token(change.token), str(int(change.force))
            return "move", [_text(change.to), token, force]
        case Run():
            return "run", _run(change)
        case Count():
            return "count", _count(change)
        case Isolate():
            return "isolate", _isolate(change)
    raise TypeError(f"no such change: {type(change).__name__}")


def _run(run: Run) -> list[str]:
    return [
        _text(run.to),
        quoted_token(run.process),
        str(count(run.failures)),
        _lease(run.lasts),
        str(run.threshold),
        str(run.processes),
    ]


def _count(counted: Count) -> list[str]:
    return [
        _text(counted.to),
        str(count(counted.calls)),
        str(count(counted.failures)),
        str(count(counted.slow)),
        str(count(counted.window_calls)),
        str(int(counted.window_seconds > 0)),
        str(bucket_width(counted.window_seconds)),
        str(counted.minimum_calls),
        repr(share(counted.failure_rate)),
        repr(share(counted.slow_rate)),
    ]


def _isolate(isolate: Isolate) -> list[str]:
    removed = [quoted_token(each) for each in isolate.remove or ()]
    added = [quoted_token(each) for each in isolate.add]
    return [str(int(isolate.remove is None)), str(len(removed)), *removed, *added]


def _text(state: SharedState) -> str:
    return text_of(record_of(state))


def _lease(seconds: float) -> str:
    return str(milliseconds(seconds, LONGEST_LEASE))
