"""
Questions for the figures of all processes: asked on the store's channel, and answered by each
with what has changed in its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import anyio

from . import _loop
from ._checked_session import CheckedSession
from ._fleet import Fleet
from ._line import Line
from ._reports import Reports

_PATIENCE: Final = 0.25
"""Seconds in which other processes tell their figures, or are left out."""

_LOOKS: Final = 25
"""Times to look for these meanwhile."""

_WORD: Final = ""
"""In the place of a tool's name: which questions figures are the answer to."""

_WORDS: Final = 16
_LONGEST_WORD: Final = 100


class Questions:
    """
    Those that one process asks and hears.
    """

    def __init__(self, line: Line, fleet: Fleet) -> None:
        self._line = line
        self._reports = Reports(fleet)
        self._words: list[str] = []  # of those who have asked last
        self._is_unanswered = self._is_answering = False

    def begin(self) -> None:
        """
        The store knows nothing of this process.
        """
        self.forget()
        self._is_answering = False

    def forget(self) -> None:
        """
        What the store was told may be lost.
        """
        self._reports.forget()

    async def ask(self) -> dict[str, dict[str, Any]]:
        """
        The figures of all processes that are alive, by the names of tools; of this one
        alone where the store does not answer.
        """
        found: dict[str, Mapping[str, str]] = {}
        line, done = self._line, _loop.Bell()
        if line.is_up:
            line.start(self._gather, line.session, found, done)
            with anyio.move_on_after(_PATIENCE):
                await done.wait()
        others = {each: said for each, said in found.items() if each != line.process}
        return self._reports.together(others)

    async def _gather(
        self,
        session: CheckedSession,
        found: dict[str, Mapping[str, str]],
        done: _loop.Bell,
    ) -> None:
        """
        Ask all processes, and wait until they have answered.
        """
        began, word = self._line.time(), secrets.token_hex(4)
        try:
            await session.ask(word)
            for _ in range(_LOOKS):
                found.update(await session.figures())
                answers = [word in said.get(_WORD, "").split() for said in found.values()]
                if all(answers) and len(answers) >= self._line.live:
                    return
                await anyio.sleep(_PATIENCE / _LOOKS)
        except Exception as error:
            self._line.missed(error, began)
        finally:
            done.ring()

    def heard(self, word: str) -> None:
        """
        Somebody has asked.
        """
        told: object = word
        if not isinstance(told, str) or len(told) > _LONGEST_WORD:
            return
        if word not in self._words:
            self._words = [*self._words, word][-_WORDS:]
        self._is_unanswered = True
        if self._line.tasks is not None and not self._is_answering:
            self._is_answering = True
            self._line.start(self._answer)

    async def _answer(self) -> None:
        line, began = self._line, self._line.time()
        try:
            while line.session is not None and self._is_unanswered:
                self._is_unanswered = False
                news = {**self._reports.news(), _WORD: " ".join(self._words)}
                line.live = await line.session.beat(line.process, news)
        except Exception as error:
            self.forget()
            line.missed(error, began)
        finally:
            self._is_answering = False
