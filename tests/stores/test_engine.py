"""
The engine that tests start.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from .engine import Engine, EngineError, engine, free_port, program


@pytest.mark.parametrize("unix", [False, True])
def test_it_answers_while_it_runs_and_comes_back_empty(unix: bool) -> None:
    with engine(unix=unix) as it:
        url, pid = it.url, it.pid
        assert it.ask("SET", "a", "é") == "OK"
        assert it.ask_all(("GET", "a"), ("GET", "b"), ("LRANGE", "c", 0, -1)) == [
            "é",
            None,
            [],
        ]
        assert it.ask("SET", "a", b"\xff") == "OK"
        assert it.ask("GET", "a") == b"\xff"
        with pytest.raises(EngineError, match="unknown command"):
            it.ask("NO-SUCH-COMMAND")
        it.kill()
        assert not it.is_running
        with pytest.raises(OSError):
            it.ask("PING")
        it.restart()
        assert (it.url, it.ask("GET", "a")) == (url, None)
        assert it.pid != pid
        pid = it.pid
        assert it.info()["process_id"] == str(pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_is_stopped_and_goes_on() -> None:
    with engine() as it:
        it.stop()
        assert state_of(it.pid) == "T"
        it.cont()
        assert it.ask("PING") == "PONG"


def state_of(pid: int) -> str:
    """
    What the system says a process does, once that is settled.
    """
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


def test_one_that_is_stopped_is_ended_all_the_same() -> None:
    with engine(unix=True) as it:
        pid = it.pid
        it.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_what_cannot_start_says_why() -> None:
    it = Engine("--no-such-option", "x")
    with pytest.raises(AssertionError, match="no-such-option"):
        it.start()
    it.close()


def test_its_program_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_ASYNC_TEST_ENGINE", "/opt/redis-server")
    assert program() == "/opt/redis-server"
    monkeypatch.delenv("ORCHESTRATOR_ASYNC_TEST_ENGINE")
    assert Path(program()).name in ("redis-server", "valkey-server")


def test_free_ports_are_where_the_system_gives_none() -> None:
    assert all(10_000 <= free_port() < 20_000 for _ in range(20))
