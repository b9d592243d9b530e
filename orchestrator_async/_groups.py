"""
What asyncio's task groups ask of their task and forget to take back.

A group whose child fails while the group waits for its children asks its own task to be
cancelled, and catches that. Before Python 3.13 it leaves the request behind: the task
counts one for ever, and whoever asks whether somebody has cancelled it is misled. The
group is found in the traceback of the error that it has raised.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ._foreign import cause_of, context_of, is_a, members_of, traceback_of

_LEAVES_REQUESTS: Final = sys.version_info < (3, 13)
_MOST_ERRORS: Final = 200


def take_back_requests(task: Any, error: BaseException, most: int) -> None:
    """
    Take back what groups have asked of the task in vain, as far as the error tells.

    Args:
        task: The asyncio task.
        error: What came out of the code that may have held such groups.
        most: How many requests there are that nobody accounts for.
    """
    if not _LEAVES_REQUESTS:
        return  # pragma: no cover - Python 3.13
    groups = {id(group) for each in _errors(error) for group in _groups(each, task)}
    for _ in range(min(most, len(groups))):
        task.uncancel()


def _errors(error: BaseException) -> Iterator[BaseException]:
    """
    The error, those that it holds, and those that led to it.
    """
    seen: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting and len(seen) < _MOST_ERRORS:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen[id(each)] = each
        yield each
        waiting += [cause_of(each), context_of(each)]
        if is_a(each, BaseExceptionGroup):
            waiting += members_of(each)


def _groups(error: BaseException, task: Any) -> Iterator[Any]:
    """
    The groups of this task that the error came out of, and that left a request.
    """
    leaving = sys.modules["asyncio.taskgroups"].TaskGroup.__aexit__.__code__
    traceback = traceback_of(error)
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code is leaving and _left_one(frame.f_locals, task):
            yield frame.f_locals["self"]
        traceback = traceback.tb_next


def _left_one(leaving: Mapping[str, Any], task: Any) -> bool:
    """
    Whether a group that was left with these variables has left a request behind. What
    cancelled the body of a group was taken back when the body ended.
    """
    group, body_raised = leaving.get("self"), leaving.get("et")
    requested = getattr(group, "_parent_cancel_requested", False)
    return bool(requested) and body_raised is None and group._parent_task is task  # type: ignore[union-attr]
