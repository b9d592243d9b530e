"""
What is said where a package is missing, too old or too new.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator_async.adapters._requiring import require


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """
    A package in version 2.10.0.
    """
    (tmp_path / "puppet_theatre.py").write_text("")
    info = tmp_path / "puppet_theatre-2.10.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: puppet-theatre\nVersion: 2.10.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "puppet-theatre"


def asked(
    distribution: str, at_least: str = "2.9", below: str = "3", **options: str | None
) -> None:
    options = {"module": "puppet_theatre", "extra": "puppets", **options}
    require(
        distribution,
        module=str(options["module"]),
        extra=options["extra"],
        at_least=at_least,
        below=below,
    )


@pytest.mark.parametrize(
    ("at_least", "below"), [("2.9", "3"), ("2.10", "2.11"), ("2", "2.10.0.1")]
)
def test_a_version_between_the_two_will_do(
    installed: str, at_least: str, below: str
) -> None:
    asked(installed, at_least, below)


@pytest.mark.parametrize(
    ("at_least", "below"), [("2.11", "3"), ("1", "2.10"), ("1", "2.9.9")]
)
def test_another_is_named_with_those_that_were_tested(
    installed: str, at_least: str, below: str
) -> None:
    with pytest.raises(ImportError, match=r"and 2\.10\.0 is installed") as caught:
        asked(installed, at_least, below)
    assert f"from {at_least} to below {below}" in str(caught.value)


def test_where_it_is_missing_the_extra_is_named() -> None:
    with pytest.raises(ImportError, match=r'pip install "orchestrator-async\[puppets\]"'):
        asked("puppet-theatre")


def test_where_no_extra_has_it_it_is_named_itself() -> None:
    with pytest.raises(ImportError, match="not installed: pip install puppet-theatre"):
        asked("puppet-theatre", extra=None)


def test_a_package_without_its_module_is_missing(installed: str) -> None:
    with pytest.raises(ImportError, match="which is not installed"):
        asked(installed, module="no_such_module")


def test_a_version_that_is_no_number_is_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "puppet_theatre.py").write_text("")
    info = tmp_path / "puppet_theatre-odd.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: puppet-theatre\nVersion: odd\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match="odd is installed"):
        asked("puppet-theatre", "1", "2")
