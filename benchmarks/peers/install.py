"""
Installs the peers one by one, so that one which cannot be had does not cost the others.

Run by ``make peers``, in the environment of the peers: the arguments are pip's. What was
refused, and why, is written beside the environment's own files, for the table to say.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from . import NOT_INSTALLED

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def main(arguments: list[str]) -> int:
    """
    Install what there is.
    """
    refused: dict[str, str] = {}
    for requirement in requirements():
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *arguments, requirement],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            name = re.split(r"[=;<>~! ]", requirement, maxsplit=1)[0]
            refused[name] = reason(done.stderr)
            print(f"{name} is left out: {refused[name]}", file=sys.stderr)
    (Path(sys.prefix) / NOT_INSTALLED).write_text(json.dumps(refused))
    return 0


def requirements() -> list[str]:
    """
    The lines that name something.
    """
    lines = REQUIREMENTS.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def reason(told: str) -> str:
    """
    Pip's first error, in a line that fits a table.
    """
    errors = re.findall(r"^ERROR: (.*)", told, re.MULTILINE)
    first = errors[0] if errors else "pip failed"
    return "not installed: " + re.sub(r"\(from versions: .*", "", first)[:120].strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
