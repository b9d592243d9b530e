"""
The Makefile, where its variables name what cannot be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", *args], cwd=ROOT, env=clean | variables, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["my venv", ""])
def test_an_environment_that_make_cannot_name_is_refused(name: str) -> None:
    done = make(f"VENV={name}", "lint")
    assert done.returncode != 0
    assert "one name without spaces" in done.stderr


def test_a_python_that_does_not_run_is_told_in_its_own_words(tmp_path: Path) -> None:
    stand_in = tmp_path / "python3.99"
    stand_in.write_text(
        "#!/bin/sh\necho 'pyenv: python3.99: no such command' >&2\nexit 127\n"
    )
    stand_in.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = make("PYTHON=python3.99", f"VENV={tmp_path / 'venv'}", "lint", PATH=path)
    assert done.returncode != 0
    assert "pyenv: python3.99: no such command" in done.stderr
    assert "make PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()
