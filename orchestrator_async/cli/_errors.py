"""
What the program tells whoever runs it: on standard error, in a line or two.
"""

from __future__ import annotations

import sys

from orchestrator_async._text import clean


class CliError(Exception):
    """
    The program cannot go on. The message is for whoever runs it; none where there is
    nobody to read it. What it was raised from is shown with ``--debug``.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def tell(text: str, limit: int = 4000) -> None:
    """
    Print a message on standard error, if there is one.
    """
    if sys.stderr is not None:
        sys.stderr.write(clean(text, limit=limit) + "\n")
