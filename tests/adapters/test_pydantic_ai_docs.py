"""
The guide, the example, and what importing the adapter to Pydantic AI does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "pydantic-ai.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", GUIDE, re.M | re.DOTALL
)


def said_by(*command: str) -> str:
    """
    What a program prints, which is to print nothing else and to end well.
    """
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def plain(output: str) -> str:
    return re.sub(r'"execution_time": [\d.]+', '"execution_time": 0.0', output)


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=["circuits", "retries"])
def test_the_code_of_the_guide_prints_what_it_shows(code: str, output: str) -> None:
    assert plain(said_by("-c", code)) == output


def test_all_code_of_the_guide_is_run() -> None:
    assert GUIDE.count("```python\n") == len(BLOCKS) == 2


def test_the_example_shows_a_tool_that_dies_and_returns() -> None:
    path = ROOT / "examples" / "pydantic_ai_agent.py"
    lines = said_by(str(path)).splitlines()
    weather = [line.split()[0] for line in lines if line.split()[1] == "get_weather"]
    assert weather == ["success", "failed", "failed", "failed", "success", "success"]
    circuits = [line.split("  (")[0].strip() for line in lines if "->" in line]
    assert circuits == [
        "circuit get_weather: closed -> open",
        "circuit get_weather: open -> half_open",
        "circuit get_weather: half_open -> closed",
    ]
    assert sum(line.startswith("success  get_time") for line in lines) == 6
    assert lines[-1] == "get_weather ran 5 times and was refused 1 times."
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100


def test_the_package_imports_no_framework() -> None:
    code = (
        "import sys, orchestrator_async, orchestrator_async.adapters; "
        "print('pydantic_ai' in sys.modules)"
    )
    assert said_by("-c", code) == "False\n"


WITHOUT = """
import sys
from importlib import metadata

def version(name):
    raise metadata.PackageNotFoundError(name)

metadata.version = version

class Missing:
    def find_spec(self, name, *args):
        if name.partition(".")[0] == "pydantic_ai":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
try:
    import orchestrator_async.adapters.pydantic_ai
except ImportError as error:
    print(error)
"""


def test_without_the_framework_the_extra_is_named() -> None:
    assert 'pip install "orchestrator-async[pydantic-ai]"' in said_by("-c", WITHOUT)


TOLD = """
try:
    import orchestrator_async.adapters.pydantic_ai
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("version", ["2.59.1", "3.0.0"])
def test_a_version_that_is_too_old_or_too_new_is_told_of(
    version: str, tmp_path: Path
) -> None:
    info = tmp_path / f"pydantic_ai_slim-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: pydantic-ai-slim\nVersion: {version}\n"
    )
    said = said_by("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{TOLD}")
    assert "from 2.60 to below 3" in said
    assert f"{version} is installed" in said
