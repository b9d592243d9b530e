"""
Cases of a fleet are mostly waiting, so some of them run at one time: all that the tests of
this session are about are begun by the first of these, and each test looks at its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pytest

AT_ONCE: Final = 4


@dataclass(frozen=True, eq=False, slots=True)
class Case:
    """
    A case, by the name that its test has.
    """

    name: str
    run: Callable[[], Any]


def cases(*those: tuple[str, Callable[[], Any]]) -> pytest.MarkDecorator:
    """
    Have a test look at what has come of each of these, in ``found``.
    """
    made = [Case(name, run) for name, run in those]
    return pytest.mark.parametrize("case", made, ids=[each.name for each in made])


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest) -> Iterator[dict[Case, Future[Any]]]:
    params = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = [each.params.get("case") for each in params if each is not None]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {case: pool.submit(case.run) for case in wanted if isinstance(case, Case)}
    finally:
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def found(case: Case, running: dict[Case, Future[Any]]) -> Any:
    """
    What has come of the case.
    """
    return running[case].result()
