"""
Ctrl-C and its kin: the first one cancels what runs, the second ends the process at once.

A handler of the process and not a task of the loop: it also hears what comes while the loop
is held by a tool, or is not there yet. The loops leave Ctrl-C to whoever was there first.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import anyio
from anyio.lowlevel import current_token

from orchestrator_async import _loop

from ._waking import Waking

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_SHOW_CURSOR: Final = b"\x1b[?25h"


class Interrupts:
    """
    What the process is told by signals.

    Attributes:
        number: That of the first signal that came, or ``None``.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._cancel: Callable[[], object] | None = None
        self._waking: Waking | None = None
        # Before it is known which command it is for, SIGHUP is put off.
        self._hang_up: Callable[[], object] | None = self._put_off
        self._was_hung_up = False

    def install(self) -> None:
        """
        Hear of the signals, but for those that whoever started the process has turned off,
        as ``nohup`` does.
        """
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    @property
    def code(self) -> int | None:
        """
        The exit code of a process that was interrupted.
        """
        return None if self.number is None else 128 + self.number

    @contextmanager
    def cancelling(self, scope: anyio.CancelScope) -> Generator[None, None, None]:
        """
        Cancel the scope by the first signal; outside of this, it ends the program.
        """
        self._cancel = functools.partial(_loop.wake, current_token(), scope.cancel)
        self._waking = Waking(functools.partial(_loop.wake, current_token(), _nothing))
        if self.number is not None:
            scope.cancel()  # it came before, and somebody's code has swallowed it
        try:
            yield
        finally:
            # The loop still ends, and nothing is to be raised into that.
            self._cancel = _nothing

    def ends_by_hang_up(self) -> None:
        """
        From now on SIGHUP ends the program as the others do; also one that came before.
        """
        self._hang_up = None
        if self._was_hung_up:
            self._hear(signal.SIGHUP, None)

    @contextmanager
    def hanging_up(self, hear: Callable[[], object]) -> Generator[None, None, None]:
        """
        Call this in the loop by SIGHUP; also by one that came before.
        """
        self._hang_up = functools.partial(_loop.wake, current_token(), hear)
        if self._was_hung_up:
            hear()
        try:
            yield
        finally:
            self._hang_up = _nothing

    def _put_off(self) -> None:
        self._was_hung_up = True

    def no_loop(self) -> None:
        """
        The loop has ended.
        """
        self._cancel = None
        if self._waking is not None:
            self._waking.end()
            self._waking = None

    def _hear(self, number: int, frame: object) -> None:
        if self._hang_up is not None and signal.Signals(number).name == "SIGHUP":
            self._hang_up()
            return
        if self.number is not None:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # a progress bar had hidden it
            os._exit(128 + number)
        self.number = number
        if self._cancel is None:
            raise SystemExit(128 + number)
        self._cancel()


def _nothing() -> None:
    return None


interrupts: Final = Interrupts()
"""Those of the process, which has no others."""
