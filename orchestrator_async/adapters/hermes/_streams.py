"""
The program's own ``sys.stdout`` and ``sys.stderr``.

While a script of hermes calls a tool, hermes leads both nowhere, for the whole program, and
puts back what it has found. Two scripts at once find each other's, and what is put back last
may be closed.
"""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Any, Final

_NAMES: Final = ("stdout", "stderr")


class OwnStreams:
    """
    Keeps them, from the beginning of the first script to the end of the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts = 0
        self._own: dict[str, Any] = {}

    def __enter__(self) -> None:
        with self._lock:
            if not self._scripts:
                self._own = {name: getattr(sys, name) for name in _NAMES}
            self._scripts += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._scripts -= 1
        self.put_back()

    def put_back(self) -> None:
        """
        Put them back where hermes has put what leads nowhere.
        """
        with self._lock:
            for name, own in self._own.items():
                if getattr(getattr(sys, name), "name", None) == os.devnull:
                    setattr(sys, name, own)


own_streams: Final = OwnStreams()
