"""
Takes down an exception: its classes, what it has beside its text, and the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .found import Found

_KEPT = ("errno", "code", "status", "status_code", "sqlstate", "pgcode", "sqlite_errorname")


def provoke(
    source: str, label: str, provoked: str, function: Callable[[], Any], why: str = ""
) -> Found | None:
    """
    What the function raises; ``None`` if it returns.
    """
    try:
        function()
    except BaseException as error:
        return taken_down(error, source=source, label=label, provoked=provoked, why=why)
    print(f"{source}: {provoked}: nothing was raised")
    return None


def taken_down(error: BaseException, **more: Any) -> Found:
    """
    The exception as a text of the corpus.
    """
    kinds = [each for each in type(error).__mro__ if each is not object]
    kept = {name: _plain(error, name) for name in _KEPT}
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "ResponseMetadata" in response:
        kept["botocore's status"] = response["ResponseMetadata"]["HTTPStatusCode"]
    elif kept["status_code"] is None:
        kept["response.status_code"] = getattr(response, "status_code", None)
    return Found(
        form="exception",
        text=str(error) or repr(error),
        types=tuple(f"{each.__module__}.{each.__qualname__}" for each in kinds),
        attributes={name: value for name, value in kept.items() if value is not None},
        **more,
    )


def _plain(error: BaseException, name: str) -> int | str | None:
    try:
        value = getattr(error, name, None)
    except Exception:
        return None
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None
