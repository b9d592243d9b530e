"""
What results of hermes say of its tools. The texts are its own; it need not be there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from orchestrator_async import LimitExceededError, Outcome, Verdict
from orchestrator_async.adapters.hermes import hermes_errors

COMMAND = {"output": "", "exit_code": 0, "error": None}
SHUT_OUT = "Blocked: URL targets a private or internal network address"


def page(error: str | None) -> dict[str, Any]:
    return {"url": "http://x", "title": "", "content": "", "error": error}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        # What hermes has caught
        ({"error": "[TOOL_ERROR] Tool execution failed: ConnectionError: x"}, "failure"),
        ({"error": "[TOOL_ERROR] Tool execution failed: ValueError: boom"}, "failure"),
        ({"error": "[TOOL_ERROR] Tool execution failed: FileNotFoundError"}, "failure"),
        (
            {
                "error": "Tool handler returned unsupported result type: dict",
                "error_type": "tool_result_contract",
            },
            "failure",
        ),
        # Commands
        (COMMAND, "success"),
        ({**COMMAND, "exit_code": 3}, "success"),
        ({**COMMAND, "exit_code": 130, "output": "[Command interrupted]"}, "success"),
        ({**COMMAND, "exit_code": 124, "output": "[Command timed out]"}, "success"),
        ({**COMMAND, "exit_code": 124, "error": "Command timed out after 1 s"}, "ignore"),
        ({**COMMAND, "exit_code": 1, "error": "ConnectionError: refused"}, "ignore"),
        ({**COMMAND, "exit_code": -1, "error": "", "status": "pending_approval"}, "ignore"),
        (
            {**COMMAND, "exit_code": -1, "error": "It timed out", "status": "blocked"},
            "ignore",
        ),
        ({**COMMAND, "exit_code": -1, "error": "Docker daemon is not running"}, "failure"),
        ({**COMMAND, "exit_code": -1, "error": "Invalid command: expected str"}, "ignore"),
        # Pages
        ({"results": [page(None), page("503 Service Unavailable")]}, "success"),
        ({"results": [page(SHUT_OUT), page("503 Service Unavailable")]}, "failure"),
        ({"results": [page(SHUT_OUT)]}, "ignore"),
        ({"results": []}, "success"),
        ({"results": ["a page"]}, "success"),
        ({"results": [page(None)], "error": "connection refused"}, "failure"),
        # All else
        ({"content": "1|x", "total_lines": 1}, "success"),
        ({"content": "", "error": "File not found: /nope"}, "ignore"),
        ({"success": False, "error": "Could not find a match for old_string"}, "ignore"),
        ({"error": "Connection refused"}, "failure"),
    ],
)
def test_the_verdict_is(value: Any, verdict: str) -> None:
    assert hermes_errors(Outcome(value=json.dumps(value))) == verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ("plain text", "success"),
        ('"exit_code" alone is no object', "success"),
        ('["exit_code"]', "success"),
        ({"_multimodal": True, "content": [{"type": "text", "text": "503"}]}, "success"),
        (json.dumps({"exit_code": 0, "error": "refused", "x": "y" * 20_000}), "failure"),
    ],
)
def test_of_what_is_no_short_object_it_is(value: Any, verdict: str) -> None:
    assert hermes_errors(Outcome(value=value)) == verdict


def test_what_is_raised_is_judged_as_everywhere() -> None:
    assert hermes_errors(Outcome(error=ConnectionError("x"))) is Verdict.FAILURE
    assert hermes_errors(Outcome(error=FileNotFoundError("x"))) is Verdict.IGNORE
    busy = LimitExceededError(tool_name="a", limit="threads", size=1, retry_after=1)
    assert hermes_errors(Outcome(error=busy)) is Verdict.IGNORE


def said_by(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_importing_the_adapter_imports_nothing_of_hermes() -> None:
    code = """
import sys
import orchestrator_async.adapters
print([*filter(lambda name: "hermes" in name, sys.modules)])
import orchestrator_async.adapters.hermes.plugin
print({"tools", "model_tools", "agent", "hermes_cli", "mcp"} & set(sys.modules))
"""
    assert said_by(code) == "[]\nset()\n"


@pytest.mark.parametrize("name", ["HermesTools", "HermesCircuits"])
def test_without_hermes_it_is_named(name: str) -> None:
    code = f"""
import sys
sys.path[:] = [each for each in sys.path if "site-packages" not in each] + sys.path
import importlib.metadata as metadata
from orchestrator_async.adapters.hermes import {name}

class Nothing(metadata.DistributionFinder):
    def find_distributions(self, context=None):
        return []
    def find_spec(self, *args):
        return None

sys.meta_path[:] = [Nothing()]
try:
    {name}()
except ImportError as error:
    print(error)
"""
    assert "not installed: pip install hermes-agent" in said_by(code)
