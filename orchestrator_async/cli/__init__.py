"""
The terminal program: ``orchestrator-async``, or ``python -m orchestrator_async.cli``.

It lists the tools of a registry, makes one call or a file of them, and serves them to a
model's host. One module a command; ``_running`` has what all of them share. Nothing else
imports this package, and it alone needs cyclopts and rich.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from ._interrupts import interrupts


def main() -> int:
    """
    Run the program on the arguments of the process.

    Returns:
        The exit code: 0 where all went well, 1 for a call that failed, 2 for wrong usage,
        3 for a call that was refused, and 128 more than the number of the signal that
        ended it.
    """
    interrupts.install()
    if not all(map(find_spec, ("cyclopts", "rich"))):
        sys.stderr.write(
            "orchestrator-async needs cyclopts and rich: "
            'pip install "orchestrator-async[cli]"\n'
        )
        return 2
    from ._app import start

    return start()
