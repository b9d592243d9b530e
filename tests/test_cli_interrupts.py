"""
The terminal program under real signals: what runs is cancelled, and nothing is left.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator_async.cli._waking import Waking

from .cli_program import START, TOOLS, begun, environment, in_a_terminal
from .test_cli import on_each_backend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
on_each_signal = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
Process = subprocess.Popen[str]


def next_line(process: Process) -> str:
    assert process.stderr is not None
    return process.stderr.readline().rstrip("\n")


def rest(process: Process) -> tuple[str, str]:
    return process.communicate(timeout=30)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@on_each_backend
@on_each_signal
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_call_is_cancelled_and_cleans_up(
    backend: str, number: signal.Signals, options: list[str]
) -> None:
    with begun("call", "hang", "{}", *options, "--backend", backend) as process:
        assert next_line(process) == "started"
        process.send_signal(number)
        assert rest(process) == ("", "cleaned up\n")
        assert process.returncode == CODES[number]


@on_each_backend
@on_each_signal
def test_a_run_is_cancelled_and_says_how_far_it_was(
    backend: str, number: signal.Signals
) -> None:
    with begun("run", "-", "--json", "--backend", backend) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"name": "echo"}\n')
        assert json.loads(process.stdout.readline())["ok"]
        process.stdin.write('{"name": "hang"}\n')
        assert next_line(process) == "started"
        process.send_signal(number)
        out, err = rest(process)
        assert (out, process.returncode) == ("", CODES[number])
        cleaned, figures = err.splitlines()
        assert cleaned == "cleaned up"
        assert json.loads(figures)["tools"]["echo"]["successes"] == 1


@on_each_backend
def test_reading_input_is_cancelled(backend: str) -> None:
    with begun("run", "-", "--backend", backend) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"name": "echo"}\n')
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@on_each_backend
def test_a_thread_that_hangs_does_not_keep_the_program(backend: str) -> None:
    with begun("call", "wait", "{}", "--backend", backend) as process:
        assert next_line(process) == "started"
        process.send_signal(signal.SIGINT)
        assert rest(process) == ("", "")
        assert process.returncode == 130


@on_each_backend
@on_each_signal
def test_programs_that_tools_have_started_end(backend: str, number: signal.Signals) -> None:
    with begun("call", "child", "{}", "--backend", backend) as process:
        pid = int(next_line(process))
        process.send_signal(number)
        assert rest(process) == ("", "")
        assert process.returncode == CODES[number]
    deadline = time.monotonic() + 15
    while not is_gone(pid):
        assert time.monotonic() < deadline, "the program is still there"
        time.sleep(0.02)


@on_each_backend
@pytest.mark.parametrize(
    ("tool", "first"), [("hang_on", "not yet"), ("hold_the_loop", "heard")]
)
def test_the_second_signal_ends_it_at_once(backend: str, tool: str, first: str) -> None:
    with begun("call", tool, "{}", "--backend", backend) as process:
        assert next_line(process) == "started"
        process.send_signal(signal.SIGINT)
        assert next_line(process) == first
        process.send_signal(signal.SIGINT)
        assert rest(process) == ("", "")
        assert process.returncode == 130


@on_each_backend
def test_a_signal_is_heard_by_a_loop_that_it_does_not_break_off(backend: str) -> None:
    with begun("call", "signal_elsewhere", "{}", "--backend", backend) as process:
        assert rest(process) == ("", "cleaned up\n")
        assert process.returncode == 130


def test_a_loop_that_hears_of_signals_by_itself_is_left_to_it() -> None:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        signal.set_wakeup_fd(writer.fileno())
        try:
            waking = Waking(lambda: None)
            waking.end()
        finally:
            assert signal.set_wakeup_fd(-1) == writer.fileno()


def test_whoever_comes_after_it_stays() -> None:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        waking = Waking(lambda: None)
        signal.set_wakeup_fd(writer.fileno())
        waking.end()
        assert signal.set_wakeup_fd(-1) == writer.fileno()


@on_each_signal
@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_a_loop_that_is_about_to_end_is_left_to_it(
    backend: str, number: signal.Signals
) -> None:
    args = ("call", "hold_the_end", "{}", "--timeout", "0.05", "--backend", backend)
    with begun(*args) as process:
        assert next_line(process) == "the call is over"
        process.send_signal(number)
        out, err = rest(process)
        assert "within its 0.05 s" in out
        assert err == "heard\n"
        assert process.returncode == CODES[number]


@on_each_signal
@pytest.mark.parametrize("then", ["raise", "sys.exit(5)", "1 / 0", "pass"])
def test_a_module_that_is_being_imported_is_interrupted_whatever_it_does_then(
    tmp_path: Path, number: signal.Signals, then: str
) -> None:
    (tmp_path / "slow.py").write_text(
        "import sys, threading\n"
        "from orchestrator_async import Registry\n"
        "registry = Registry()\n"
        "try:\n"
        "    print('importing', file=sys.stderr, flush=True)\n"
        "    threading.Event().wait()\n"
        "except BaseException:\n"
        f"    {then}\n"
    )
    with begun("tools", tools=f"{tmp_path}/slow.py:registry") as process:
        assert next_line(process) == "importing"
        process.send_signal(number)
        assert rest(process) == ("", "")
        assert process.returncode == CODES[number]


def test_a_signal_that_was_turned_off_stays_so() -> None:
    command = f'trap "" INT; exec "$@" run - --tools "{TOOLS}:registry"'
    process = subprocess.Popen(
        ["sh", "-c", command, "sh", *START],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        bufsize=1,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write('{"name": "echo"}\n')
            assert json.loads(process.stdout.readline())["ok"]
            process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdin = None
    finally:
        process.kill()
        process.communicate()


@on_each_backend
@pytest.mark.parametrize("times", [1, 2])
def test_the_terminal_has_its_cursor_back(backend: str, times: int, tmp_path: Path) -> None:
    tool, words = (
        ("hang", ["started"]) if times == 1 else ("hang_on", ["started", "not yet"])
    )
    (tmp_path / "calls").write_text(json.dumps({"name": tool}))
    sent: list[str] = []

    def press(process: subprocess.Popen[bytes], shown: str) -> None:
        if len(sent) < len(words) and words[len(sent)] in shown:
            sent.append(words[len(sent)])
            process.send_signal(signal.SIGINT)

    with open(tmp_path / "out", "wb") as out:
        code, shown = in_a_terminal(
            "run",
            str(tmp_path / "calls"),
            "--backend",
            backend,
            streams=["stdin", "stderr"],
            stdout=out,
            watch=press,
        )
    assert code == 130
    assert sent == words
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "Traceback" not in shown
