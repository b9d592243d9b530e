"""
The means of these tests: that they start servers, see what becomes of them, and leave none.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from .running import (
    HttpPeer,
    Peers,
    child_pids,
    free_port,
    is_stopped,
    is_zombie,
    listening,
    memory,
    open_fds,
    peers,
    until,
)


def test_a_server_is_among_the_living_until_it_is_left(servers: Peers):
    with servers.raw("hostile", "silent") as client:
        assert client.quiet()
        assert servers.alive() == [client.process.pid]
        assert client.process.pid in child_pids()
    assert servers.alive() == []
    assert client.process.pid not in child_pids()


def test_a_server_that_is_left_alive_fails_the_test_and_is_killed():
    with pytest.raises(AssertionError), peers(deadline=0.1) as servers:
        command = servers._command("hostile", "stays")
        env = os.environ | {"TEST_PEER": servers.mark}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env)
        until(servers.alive)
    assert servers.alive() == []
    process.communicate()


def test_a_zombie_fails_the_test():
    with pytest.raises(AssertionError), peers(deadline=0.1) as servers:
        zombie = subprocess.Popen([sys.executable, "-c", ""])
        until(lambda: is_zombie(zombie.pid))
    assert servers.alive() == []
    zombie.wait()


def test_the_children_of_a_server_have_its_mark(servers: Peers):
    env = os.environ | {"TEST_PEER": servers.mark}
    script = "import subprocess; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", script], env=env) as process:
        until(lambda: len(servers.alive()) == 2)
        process.kill()
        process.wait()
        assert len(servers.alive()) == 1  # an orphan, and known all the same
        servers.end()


def test_a_server_that_was_killed_comes_back_on_the_same_port(servers: Peers):
    with servers.http("http_faults") as first:
        first.kill()
        with servers.http("http_faults", port=first.port) as second:
            assert second.url == first.url
            assert second.pid != first.pid
            assert second.control()["requests"] == []


def test_a_server_that_is_stopped_goes_on_when_it_is_resumed(http_faults: HttpPeer):
    http_faults.stop()
    assert is_stopped(http_faults.pid)
    http_faults.resume()
    assert http_faults.control()["fault"] is None


def test_a_server_that_cannot_start_says_why(http_faults: HttpPeer, servers: Peers):
    with (
        pytest.raises(AssertionError, match="Address already in use"),
        servers.http("http_faults", port=http_faults.port),
    ):
        pass


def test_nobody_listens_on_a_free_port():
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port()))


def test_a_connection_is_accepted_where_nobody_answers():
    with listening() as url, socket.socket() as client:
        port = int(url.rpartition(":")[2].partition("/")[0])
        client.settimeout(0.01)
        client.connect(("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_open_files_and_memory_are_those_of_a_process(servers: Peers, tmp_path):
    path = tmp_path / "open"
    with path.open("w") as file:
        assert open_fds()[file.fileno()] == str(path)
    assert str(path) not in open_fds().values()

    with servers.raw("hostile", "silent") as client:
        assert client.quiet()
        assert set(open_fds(client.process.pid)) == {0, 1, 2}
        assert 1_000_000 < memory(client.process.pid) < memory()
