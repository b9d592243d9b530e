"""
Errors in a line: what an exception is and says, fit to be shown.

No exception can keep itself from being described. Above it lies ``_report``, which shows
where they came from as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ._callbacks import is_its_own
from ._foreign import is_a, members_of
from ._text import WITHHELD, Allowance, clean, type_name

_INNER_ERRORS = 5


def describe_error(error: BaseException, clean: Callable[[str], str] = clean) -> str:
    """
    Say what an exception is: ``"TypeName: its message"``, cleaned.

    An exception group names the errors inside it, five at most, however deep they lie:
    "unhandled errors in a TaskGroup" alone helps nobody.

    Args:
        error: Any exception, also one whose ``__str__`` raises.
        clean: What the text goes through.

    Returns:
        One text, whose length is bounded.
    """
    if not is_a(error, BaseExceptionGroup):
        return _describe_one(error, clean)

    piece = Allowance(clean, 2000).piece
    whole = _describe_one(error, piece)
    described: list[str] = []
    for inner in _leaves(error):
        if len(described) == _INNER_ERRORS:
            described.append("and more")
            break
        described.append(_describe_one(inner, piece))
    return f"{whole}: {'; '.join(described)}"


def message_of(error: BaseException) -> str:
    """
    What the exception says, not cleaned; also of one whose ``__str__`` raises.
    """
    try:
        return str(error)
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return "(its message cannot be had)"


def _describe_one(error: BaseException, clean: Callable[[str], str]) -> str:
    name = type_name(error)
    try:
        shown = clean(message_of(error))
    except Exception:
        # A cleaner that fails has not said that the message may be seen.
        shown = WITHHELD
    return f"{name}: {shown}" if shown else name


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    # By hand and bounded: groups nest deeper than Python recurses.
    waiting: list[BaseException] = [group]
    for _ in range(1000):
        if not waiting:
            return
        error = waiting.pop()
        if is_a(error, BaseExceptionGroup):
            waiting.extend(reversed(members_of(error)[: 2 * _INNER_ERRORS]))
        else:
            yield error
