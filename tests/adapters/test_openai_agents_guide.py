"""
The guide to the adapter for the Agents SDK, its example, and what it says without the SDK.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agents import set_trace_processors

from .openai_model import Script, call

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "openai-agents.md").read_text(encoding="utf-8")


def said_by(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""
    return done.stdout


def calls_of(times: int) -> list[list[Any]]:
    return [[call("weather", f"c{n}", city="Bonn")] for n in range(times)]


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio in real time", "asyncio+uvloop"], indirect=True
)
async def test_the_blocks_of_the_guide_run(capsys: pytest.CaptureFixture[str]) -> None:
    set_trace_processors([])
    names: dict[str, Any] = {"__name__": "guide", "model": Script(*calls_of(2))}
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        code = compile(block, "guide", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, names)
        else:
            exec(code, names)
        names["model"] = Script(*calls_of(9))
    assert capsys.readouterr().out.split() == ["2", "refusals"]
    assert [tool.name for tool in names["orch"].registry] == ["weather", "add"]


def test_the_example_shows_a_tool_that_dies_and_returns() -> None:
    lines = said_by("examples/openai_agents_agent.py").splitlines()
    assert lines.count("  the service is asked about Bonn") == 3
    assert any("weather is down" in line for line in lines)
    assert lines[-2:] == ["the model reads: sun in Bonn", "the agent says: Take a hat."]


def test_the_sdk_is_imported_by_the_adapter_alone() -> None:
    code = (
        "import sys, orchestrator_async, orchestrator_async.adapters\n"
        "print('agents' in sys.modules, 'openai' in sys.modules)\n"
    )
    assert said_by("-c", code) == "False False\n"


ASKING = """
try:
    import orchestrator_async.adapters.openai_agents
except ImportError as error:
    print(error)
"""


def test_without_the_sdk_the_extra_is_named() -> None:
    code = f"import sys, orchestrator_async._requiring\nsys.path[:] = [{str(ROOT)!r}]\n"
    assert 'pip install "orchestrator-async[openai-agents]"' in said_by("-c", code + ASKING)


def test_another_version_of_the_sdk_is_named(tmp_path: Path) -> None:
    info = tmp_path / "openai_agents-0.25.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: openai-agents\nVersion: 0.25.0\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    said = said_by("-c", code + ASKING)
    assert "0.24 to below 0.25, and 0.25.0 is installed" in said
