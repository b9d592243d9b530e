from __future__ import annotations

import importlib.util
import logging
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

from .clock import AutojumpEventLoop

# A loaded machine is slow now and then, and ``anyio_backend`` is a fixture of each test.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("here")


def pytest_configure() -> None:
    """
    Hear of signals as a program in the foreground does. In the background of a shell they
    are turned off, for whatever tests start, too.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            heard = number is signal.SIGINT
            signal.signal(number, signal.default_int_handler if heard else signal.SIG_DFL)


LOOPS = ["asyncio", "asyncio+uvloop", "trio"]
if importlib.util.find_spec("uvloop") is None:
    LOOPS.remove("asyncio+uvloop")


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """
    Every async test runs on three loops, each time with a fresh loop and clock. A module
    of very many tests may say ``DEBUG = False``: asyncio's debug mode doubles their time.
    """
    debug = getattr(request.module, "DEBUG", True)
    match request.param:
        case "asyncio":
            return "asyncio", {"debug": debug, "loop_factory": AutojumpEventLoop}
        case "asyncio in real time":
            return "asyncio", {"debug": debug}
        case "asyncio+uvloop":
            return "asyncio", {"use_uvloop": True}
        case "trio":
            return "trio", {"clock": MockClock(autojump_threshold=0)}
        case "trio in real time":
            return "trio", {}
        case other:
            raise ValueError(f"no such backend: {other!r}")


class Summary(Counter[str]):
    """
    Numbers to be shown at the end of a run, added up over the tests.
    """

    def add(self, what: str, number: int) -> None:
        self[what] += number


SUMMARY = pytest.StashKey[Summary]()


@pytest.fixture
def summary(request: pytest.FixtureRequest) -> Summary:
    """
    What is added to it is printed when all tests are over, also with ``-q``.
    """
    return request.config.stash.setdefault(SUMMARY, Summary())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for what, number in config.stash.get(SUMMARY, Summary()).items():
        terminalreporter.write_line(f"{what}: {number:,}")


@pytest.fixture
def without_log() -> Iterator[None]:
    """
    What is logged of thousands of calls would take longer than the calls.
    """
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
