"""
What the adapter imports, and when.
"""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, *args):
        if name.partition(".")[0] == "mcp":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
"""


def said_by(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_importing_the_adapter_does_not_import_the_sdk() -> None:
    code = "import sys, orchestrator_async.adapters.mcp; print('mcp' in sys.modules)"
    assert said_by(code) == "False\n"


def test_without_the_sdk_the_extra_is_named() -> None:
    code = (
        WITHOUT
        + """
from orchestrator_async.adapters.mcp import McpServers
try:
    McpServers({"mcpServers": {}})
except ImportError as error:
    print(error)
"""
    )
    assert 'pip install "orchestrator-async[mcp]"' in said_by(code)
