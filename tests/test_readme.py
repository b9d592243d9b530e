"""
The documents: what they show runs as shown, and what they list is what there is.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import orchestrator_async
from orchestrator_async import testing
from orchestrator_async._circuit import Circuit, Isolation

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "orchestrator_async"
README = ROOT / "README.md"
DESIGN = ROOT / "docs" / "design.md"
REFERENCE = ROOT / "docs" / "reference.md"
PEERS = ROOT / "docs" / "peers.md"
TESTING = ROOT / "docs" / "testing.md"
MCP = ROOT / "docs" / "mcp.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
FRAMEWORKS = [
    ROOT / "docs" / f"{name}.md"
    for name in (
        *("adapters", "compatibility", "fastmcp", "hermes", "langchain"),
        *("openai-agents", "pydantic-ai"),
    )
]
DOCUMENTS = [README, DESIGN, REFERENCE, PEERS, TESTING, CONFIGURATION, MCP, *FRAMEWORKS]


# --- what is shown runs -------------------------------------------------------------


class Block(NamedTuple):
    """
    A Python block, the heading that it stands under, and the text that it prints.
    """

    heading: str
    code: str
    output: str


def blocks_of(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    pieces = re.finditer(
        r"^## (?P<heading>[^\n]*)$"
        r"|^```python\n(?P<code>.*?)^```$(?:\s*^```text\n(?P<output>.*?)^```$)?",
        text,
        re.MULTILINE | re.DOTALL,
    )
    heading = "First screen"
    for piece in pieces:
        heading = piece["heading"] or heading
        if piece["code"]:
            yield Block(heading, piece["code"], piece["output"] or "")


def file_name(block: Block) -> str:
    """
    The name of the file that a block is, said in its first line, or nothing.
    """
    found = re.match(r"# (\w+\.py)\n", block.code)
    return found[1] if found else ""


SHOWN = list(blocks_of(README))
GUIDE = list(blocks_of(TESTING))


def runs() -> Iterator[Any]:
    """
    Each block on both loops, where it leaves the choice.
    """
    for block in [*SHOWN, *(each for each in GUIDE if not file_name(each))]:
        for backend in ("asyncio", "trio"):
            code = block.code.replace(
                "anyio.run(main)", f"anyio.run(main, backend={backend!r})"
            )
            name = f"{block.heading}, {backend}"
            if code != block.code or backend == "asyncio":
                yield pytest.param(code, block.output, id=name)


@pytest.mark.parametrize(("code", "output"), list(runs()))
def test_what_the_documents_show_prints_what_they_say(code: str, output: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        timeout=60,
        check=False,
    )
    assert ran.stdout == output
    assert ran.returncode == 0


def test_the_tests_that_the_guide_shows_pass(tmp_path: Path) -> None:
    files = [each for each in GUIDE if file_name(each)]
    for each in files:
        (tmp_path / file_name(each)).write_text(each.code, encoding="utf-8")
    assert sorted(map(file_name, files)) == ["conftest.py", "test_agent.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert "4 passed" in ran.stdout, ran.stdout


def test_the_readme_shows_code() -> None:
    assert len(SHOWN) >= 10
    assert "anyio.run(main)" in SHOWN[0].code
    assert len([line for line in SHOWN[0].code.splitlines() if line]) == 15


def test_the_first_screen_is_in_order() -> None:
    text = README.read_text(encoding="utf-8")
    places = [
        text.index(each)
        for each in (
            "pip install orchestrator-async",
            "```python",
            "```text",
            "$ make demo",
            "$ make test",
            "## What it is not",
        )
    ]
    assert places == sorted(places)


# --- the reference --------------------------------------------------------------------


class Section(NamedTuple):
    """
    A heading of the reference, with what stands up to the next heading.
    """

    heading: str
    body: str


def sections() -> list[Section]:
    text = REFERENCE.read_text(encoding="utf-8")
    parts = re.split(r"^(#{2,4} .*)$", text, flags=re.MULTILINE)[1:]
    return [Section(*each) for each in zip(parts[::2], parts[1::2], strict=True)]


def object_named(label: str) -> Any:
    first, *rest = label.split(".")
    found: Any = {"Circuit": Circuit, "Isolation": Isolation}.get(first)
    if found is None:
        found = getattr(orchestrator_async, first)
    for name in rest:
        found = getattr(found, name)
    return found


def signature_of(label: str) -> str:
    """
    The signature of what a label names.
    """
    return shown_signature(label, object_named(label))


def shown_signature(label: str, shown: Any) -> str:
    """
    A signature as the reference shows it, private parameters left out.
    """
    signature = inspect.signature(shown)
    parts = list(_parameters(shown, signature))
    kind, returns = "class", ""
    if not isinstance(shown, type):
        kind = "async def" if inspect.iscoroutinefunction(shown) else "def"
        returns = f" -> {signature.return_annotation}"
    line = f"{kind} {label}({', '.join(parts)}){returns}"
    if len(line) <= 88:
        return line
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{kind} {label}(\n{lines}){returns}"


def _parameters(shown: Any, signature: inspect.Signature) -> Iterator[str]:
    before = None
    parameters = [
        each
        for each in signature.parameters.values()
        if each.name != "self" and not each.name.startswith("_")
    ]
    for each in parameters:
        if before is each.POSITIONAL_ONLY and each.kind is not before:
            yield "/"
        if each.kind is each.KEYWORD_ONLY and before not in (
            each.kind,
            each.VAR_POSITIONAL,
        ):
            yield "*"
        before = each.kind
        stars: dict[Any, str] = {each.VAR_KEYWORD: "**", each.VAR_POSITIONAL: "*"}
        text = f"{stars.get(each.kind, '')}{each.name}"
        if each.annotation is not each.empty:
            text += f": {each.annotation}"
        if each.default is not each.empty:
            text += f" = {_default(shown, each)}"
        yield text
    if before is inspect.Parameter.POSITIONAL_ONLY:
        yield "/"


def _default(owner: Any, parameter: inspect.Parameter) -> str:
    value: Any = parameter.default
    if repr(value) == "<factory>":
        made = {each.name: each.default_factory for each in dataclasses.fields(owner)}
        return f"{getattr(made[parameter.name], '__name__', '?')}()"
    name: str = type(value).__name__
    if dataclasses.is_dataclass(value):
        assert value == getattr(orchestrator_async, name)()
        return f"{name}()"
    if isinstance(value, enum.StrEnum):
        return f"{type(value).__name__}.{value.name}"
    if value == math.inf:
        return "math.inf"
    if callable(value):
        # A method of a built-in object, ``random.random``, belongs to no module itself.
        where = value.__module__ or type(getattr(value, "__self__", None)).__module__
        module = "" if where.startswith("orchestrator") else f"{where}."
        return f"{module}{value.__name__}"
    return repr(value).replace("'", '"')


def named(heading: str) -> str:
    """
    The public name in a heading of the reference, or nothing.
    """
    found = re.fullmatch(r"#{3,4} `([\w.]+)`", heading)
    return found[1] if found else ""


# What of a protocol is shown, where that is one method.
PROTOCOLS = {"Observer": "Observer.__call__", "Store": "Store.session"}

SIGNATURES = [label for label in (named(each.heading) for each in sections()) if label]


def test_the_reference_has_a_heading_for_each_public_name() -> None:
    labels = [named(each.heading) for each in sections() if each.heading[:5] == "### `"]
    theirs = [each for each in labels if each.startswith("testing.")]
    assert sorted(set(labels) - set(theirs)) == orchestrator_async.__all__
    assert sorted(theirs) == [f"testing.{name}" for name in testing.__all__]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize("label", SIGNATURES)
def test_the_reference_shows_the_signature(label: str) -> None:
    body = next(each.body for each in sections() if named(each.heading) == label)
    code = re.findall(r"^```python\n(.*?)\n```$", body, re.MULTILINE | re.DOTALL)
    what = object_named(label)
    if isinstance(what, type) and issubclass(what, enum.Enum):
        assert not code
    elif not isinstance(what, type) and not inspect.isroutine(what):
        assert not code  # an instance
    elif label in PROTOCOLS:
        assert code == [signature_of(PROTOCOLS[label])]
    else:
        assert code == [signature_of(label)]


@pytest.mark.parametrize("label", SIGNATURES)
def test_the_reference_names_what_belongs_to_a_class(label: str) -> None:
    what = object_named(label)
    if not isinstance(what, type):
        return
    rest = [
        each for each in sections() if f"{named(each.heading)}.".startswith(f"{label}.")
    ]
    told = "".join(f"{each.heading}\n{each.body}" for each in rest)
    names = [name for name in vars(what) if not name.startswith("_")]
    if issubclass(what, BaseException):
        names = [name for name in inspect.signature(what).parameters if name != "message"]
    if issubclass(what, enum.Enum):
        names = [f"{each.name}` | `{each.value}" for each in what]
    for name in names:
        assert f"`{name}" in told or f".{name}`" in told or f"{name}:" in told, name


TABLES = [
    label
    for label in orchestrator_async.__all__
    if dataclasses.is_dataclass(getattr(orchestrator_async, label)) and label != "ToolCall"
] + ["testing.Fault"]


@pytest.mark.parametrize("label", TABLES)
def test_a_table_lists_the_fields_of_a_record(label: str) -> None:
    body = next(each.body for each in sections() if named(each.heading) == label)
    listed = re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)
    fields = dataclasses.fields(object_named(label))
    assert listed == [each.name for each in fields if not each.name.startswith("_")]


# --- the design -----------------------------------------------------------------------


class Row(NamedTuple):
    """
    A module as the map has it.
    """

    module: str
    holds: str
    imports: str


def module_map() -> list[Row]:
    text = DESIGN.read_text(encoding="utf-8").partition("## Modules")[2]
    return [Row(*each) for each in re.findall(r"^\| `(\w+)` \| (.+) \|(.*)\|$", text, re.M)]


def test_the_module_map_names_the_modules_that_exist() -> None:
    modules = {each.stem for each in PACKAGE.glob("*.py")}
    packages = {each.parent.name for each in PACKAGE.glob("*/__init__.py")}
    assert sorted(row.module for row in module_map()) == sorted(modules | packages)


def test_a_module_imports_only_what_stands_above_it_in_the_map() -> None:
    above: list[str] = []
    for row in module_map():
        package = sorted((PACKAGE / row.module).rglob("*.py"))
        inside = {each.stem for each in package}
        needed: set[str] = set()
        for path in package or [PACKAGE / f"{row.module}.py"]:
            ours, theirs = imports_of(path)
            late = {"config"} if row.module == "_orchestrator" else set()
            assert ours - inside - late <= set(above), path
            needed |= theirs
        # A package beside the core imports the public names as its users do.
        assert not package or "__init__" in above
        needed -= {PACKAGE.name} if package else set()
        assert needed == set(re.findall(r"\w+", row.imports)), row.module
        above.append(row.module)


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """
    The modules of the package that a module imports when it runs, and the others but for
    those of the standard library.
    """
    ours: set[str] = set()
    theirs: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            theirs.update(each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            theirs.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            ours.update(
                [node.module] if node.module else [each.name for each in node.names]
            )
    return ours, theirs - set(sys.stdlib_module_names)


# --- all of them ----------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    # Without what stands in backticks: a call of what is looked up is no link.
    text = re.sub(r"`[^`\n]*`", "", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }
