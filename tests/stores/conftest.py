from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from .engine import Engine, engine

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Engine]:
    """
    One engine for all tests that do it no harm, each under a prefix of its own.
    """
    with engine(unix=True) as it:
        yield it


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """
    An engine for one test.
    """
    with engine() as it:
        yield it


@pytest.fixture
def prefix() -> str:
    """
    What no other test's keys begin with.
    """
    return f"test-{next(_NUMBERS)}"
