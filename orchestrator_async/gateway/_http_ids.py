"""
The ids of the requests that each session waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic_core import from_json


class Ids:
    """
    Of two requests with one id at one time, the SDK would send the answer to the second and
    none to the first.
    """

    def __init__(self) -> None:
        self._open: set[tuple[str, str]] = set()

    @contextmanager
    def holding(self, session: str | None, body: bytes) -> Iterator[bool]:
        """
        Hold the request's id, if it has one, while it is answered; whether nobody else does.
        """
        request = None if session is None else _id(body)
        if session is None or request is None:
            yield True
            return
        key = session, request
        if key in self._open:
            yield False
            return
        self._open.add(key)
        try:
            yield True
        finally:
            self._open.discard(key)


def _id(body: bytes) -> str | None:
    """
    The id of the request that this is, as the SDK tells them apart: 1 is "1".
    """
    try:
        message = from_json(body)
    except ValueError:
        return None
    if not isinstance(message, dict) or "method" not in message:
        return None  # an answer has the id of a request of ours
    given = message.get("id")
    return str(given) if isinstance(given, int | str) else None
