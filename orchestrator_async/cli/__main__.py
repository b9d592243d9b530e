"""
``python -m orchestrator_async.cli``.
"""

from __future__ import annotations

import sys

from orchestrator_async.cli import main

# Processes that a tool starts may import this module too.
if __name__ == "__main__":  # pragma: no branch
    sys.exit(main())
