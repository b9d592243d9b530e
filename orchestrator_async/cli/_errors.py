"""
What ends the program with a message.
"""

from __future__ import annotations


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
