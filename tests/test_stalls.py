from __future__ import annotations

from typing import Any

import pytest

from . import stalls


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["--case", "number", "--limit", "1e9"], 0, "0 over 1e+09 ms"),
        (["--case", "number", "--limit", "0", "--backend", "trio"], 1, "3 over 0 ms"),
        (["--case", "there is none"], 1, "no case has 'there is none' in its name"),
    ],
    ids=["within", "over", "none"],
)
def test_the_exit_status_says_whether_a_case_is_over_the_limit(
    argv: Any, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stalls.main(argv) == status
    assert said in capsys.readouterr().out
