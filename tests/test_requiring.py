"""
What is said where a package is missing, too old or too new.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator_async._requiring import require

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "orchestrator_async"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    A folder that packages are imported from.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(place: Path, version: str | None, module: str = "puppet_theatre") -> None:
    """
    Put a package there; without a word of its version if that is ``None``.
    """
    (place / f"{module}.py").write_text("")
    if version is not None:
        info = place / f"puppet_theatre-{version}.dist-info"
        info.mkdir()
        said = f"Metadata-Version: 2.1\nName: puppet-theatre\nVersion: {version}\n"
        (info / "METADATA").write_text(said)


def ask(
    at_least: str = "2.9",
    below: str = "3",
    *,
    module: str = "puppet_theatre",
    extra: str | None = "puppets",
) -> None:
    require("puppet-theatre", module=module, extra=extra, at_least=at_least, below=below)


@pytest.mark.parametrize(
    ("at_least", "below"),
    [("2.9", "3"), ("2.10", "2.11"), ("2.10.0", "3.0"), ("2", "2.10.0.1")],
)
def test_a_version_between_the_two_will_do(place: Path, at_least: str, below: str) -> None:
    install(place, "2.10.0")
    ask(at_least, below)


@pytest.mark.parametrize(
    ("at_least", "below"), [("2.11", "3"), ("1", "2.10"), ("1", "2.9.9"), ("2.10.0.1", "3")]
)
def test_another_is_named_with_those_that_were_tested(
    place: Path, at_least: str, below: str
) -> None:
    install(place, "2.10.0")
    with pytest.raises(ImportError, match=r"and 2\.10\.0 is installed") as caught:
        ask(at_least, below)
    assert f"from {at_least} to below {below}" in str(caught.value)
    assert f'pip install "puppet-theatre>={at_least},<{below}"' in str(caught.value)


def test_what_comes_before_a_release_counts_as_that_release(place: Path) -> None:
    install(place, "3.0.0rc1")
    ask("3", "4")
    with pytest.raises(ImportError, match=r"and 3\.0\.0rc1 is installed"):
        ask("2", "3")


def test_a_version_that_is_no_number_is_the_oldest(place: Path) -> None:
    install(place, "odd")
    with pytest.raises(ImportError, match="odd is installed"):
        ask("1", "2")


def test_where_it_is_missing_the_extra_is_named() -> None:
    with pytest.raises(ImportError, match=r'pip install "orchestrator-async\[puppets\]"'):
        ask()


def test_where_no_extra_has_it_it_is_named_itself() -> None:
    with pytest.raises(ImportError, match="not installed: pip install puppet-theatre"):
        ask(extra=None)


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module"])
def test_a_package_without_its_module_is_missing(place: Path, module: str) -> None:
    install(place, "2.10.0")
    with pytest.raises(ImportError, match="which is not installed"):
        ask(module=module)


def test_one_that_says_nothing_of_its_version_is_let_pass(place: Path) -> None:
    install(place, None)
    ask()


def required() -> Iterator[tuple[str, str, str]]:
    """
    What optional parts require: where, the extra that installs it, and how that would say it.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id == "require" and isinstance(node.args[0], ast.Constant):
                said = {
                    each.arg: str(each.value.value)
                    for each in node.keywords
                    if isinstance(each.value, ast.Constant)
                }
                extra = said["extra"]
                if extra != "None":
                    bounds = f">={said['at_least']},<{said['below']}"
                    yield path.name, extra, f"{node.args[0].value!s}{bounds}"


def test_the_extras_install_what_the_optional_parts_require() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = settings["project"]["optional-dependencies"]
    found = list(required())
    assert {"fastmcp", "redis"} <= {extra for _, extra, _ in found}
    for name, extra, wanted in found:
        named = {re.split("[<>=]", each)[0]: each for each in extras[extra]}
        distribution = re.split("[<>=]", wanted)[0]
        # What an extra does not name comes with what it names.
        assert named.get(distribution, wanted) == wanted, name
