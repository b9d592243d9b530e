"""
The reference of the adapters, made of their docstrings.

``python -m tests.adapters.reference`` writes docs/adapters.md anew, and a test holds it to
what the code says.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from tests.test_readme import ROOT, shown_signature

DOCUMENT: Final = ROOT / "docs" / "adapters.md"

ADAPTERS: Final = ("pydantic_ai", "openai_agents", "langchain", "fastmcp", "hermes")

_MADE_BY_OTHERS: Final = ("openai_agents.GuardedMCPServer", "langchain.OrchestratorTool")
"""What users get and do not make themselves."""

_HEAD: Final = """\
# Reference of the adapters

Every public name of the modules of `orchestrator_async.adapters` that bridge to frameworks of
agents. How each is used is in its guide; which versions were tested is in
[compatibility.md](compatibility.md). The adapter to MCP servers has its names in
[mcp.md](mcp.md). `ToolOrchestrator`, `ToolPolicy` and the rest of the core are in
[reference.md](reference.md).
"""


def text() -> str:
    """
    The whole document.
    """
    return "\n".join([_HEAD, *(part for name in ADAPTERS for part in _module(name))])


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(f"orchestrator_async.adapters.{name}")
    guide = name.replace("_", "-")
    yield f"## `{name}`\n\n[Guide]({guide}.md).\n"
    for each in module.__all__:
        yield from _name(f"{name}.{each}", getattr(module, each))


def _name(label: str, what: Any) -> Iterator[str]:
    yield f"### `{label}`\n"
    if not inspect.isroutine(what) and not isinstance(what, type):
        yield f"`{str(what).replace('typing.', '').replace('collections.abc.', '')}`\n"
        return
    if label not in _MADE_BY_OTHERS:
        yield f"```python\n{shown_signature(label.rpartition('.')[2], what)}\n```\n"
    yield _plain(inspect.getdoc(what) or "")


def _plain(docstring: str) -> str:
    """
    A docstring as Markdown: its sections as lists.
    """
    blocks: list[str] = []
    for block in re.split(r"\n\n", docstring):
        head, _, rest = block.partition("\n")
        if head in ("Args:", "Attributes:", "Raises:", "Returns:"):
            blocks.append("\n".join(_items(head, textwrap.dedent(rest))))
        else:
            blocks.append(block)
    return "\n\n".join(blocks).replace("``", "`") + "\n"


def _items(head: str, body: str) -> Iterator[str]:
    if head != "Args:":
        yield f"{head[:-1]}:\n"
    if head == "Returns:":
        yield body
        return
    for item in re.split(r"\n(?=\S)", body):
        name, _, told = item.partition(": ")
        told = re.sub(r"\n +", "\n  ", told)
        yield f"- `{name}`: {told}"


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
