"""
The guide to the terminal program: what it shows is what is printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cli_program import ROOT, environment
from .test_cli import COMMANDS

GUIDE = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")


def shown() -> Iterator[tuple[str, str]]:
    """
    The commands of the guide, each with what it prints.
    """
    for block in re.findall(r"^```console\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = piece.partition("\n")
            yield command, output


def plain(output: str) -> str:
    """
    Without what differs from one run to the next: how long it took, and spaces at the ends.
    """
    output = re.sub(r'("duration"|\\"execution_time\\"): [\d.e-]+', r"\1: TIME", output)
    output = re.sub(r"\d\.\d{3} s", "TIME s", output)
    return "\n".join(line.rstrip() for line in output.splitlines())


def test_what_the_guide_shows_is_what_is_printed(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n# shop.py\n(.*?)^```$", GUIDE, re.M | re.DOTALL)
    (tmp_path / "shop.py").write_text(code, encoding="utf-8")
    commands = list(shown())
    calls = dict(commands)["cat calls.jsonl"]
    (tmp_path / "calls.jsonl").write_text(calls, encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, output in commands:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert plain(done.stdout) == plain(output), command
    assert len(commands) >= 10


def test_the_guide_has_a_section_for_each_command() -> None:
    assert [
        each for each in re.findall(r"^## (\w+)$", GUIDE, re.M) if each in COMMANDS
    ] == (COMMANDS)
    for command in COMMANDS:
        assert f"orchestrator-async {command} " in GUIDE
