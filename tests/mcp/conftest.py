from __future__ import annotations

from collections.abc import Iterator

import pytest

from .running import HttpPeer, Peers, peers


@pytest.fixture
def servers() -> Iterator[Peers]:
    """
    What starts servers for one test, and fails it if one is left.
    """
    with peers() as started:
        yield started


@pytest.fixture(scope="module")
def plain_http() -> Iterator[HttpPeer]:
    """
    The plain server on HTTP, one for all tests of a file: it takes seconds to start.
    """
    with peers() as started, started.http("plain") as peer:
        yield peer


@pytest.fixture
def http_faults(servers: Peers) -> Iterator[HttpPeer]:
    with servers.http("http_faults", "--size", "1000000") as peer:
        yield peer
