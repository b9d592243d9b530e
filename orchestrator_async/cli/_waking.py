"""
A loop that waits, and is to hear of a signal at once.

Python hands a signal to its handler when the main thread next runs Python code. One that comes
the moment before the loop begins to wait is noted, and nobody hears of it until something else
happens. uvloop and trio have Python write to a descriptor that wakes them; asyncio has not.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable


class Waking:
    """
    Calls a function in a thread of its own at each signal, where the loop does not hear of
    them by itself. To be made and ended in the main thread.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._writer: socket.socket | None = None
        before = signal.set_wakeup_fd(-1)
        if before != -1:
            signal.set_wakeup_fd(before)
            return
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(
            target=self._listen, args=(reader,), name="signals", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """
        Listen no more.
        """
        if self._writer is None:
            return
        now = signal.set_wakeup_fd(-1)
        if now not in (self._writer.fileno(), -1):
            signal.set_wakeup_fd(now)  # somebody has come after us
        self._writer.close()
        self._thread.join()

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while reader.recv(4096):
                self._wake()
