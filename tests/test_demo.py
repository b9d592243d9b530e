"""
The demo, run as its users run it: as a process of its own, with and without a terminal.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AGENT = ROOT / "examples" / "agent.py"
BACKENDS = ["asyncio", "trio"]
TOO_LONG = 90.0
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals")


class Demo:
    """
    One run of the demo, begun at once.
    """

    def __init__(self, folder: Path, *args: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(AGENT), *args],
            env=environment(folder) | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._ended: tuple[str, str] | None = None

    def end(self) -> tuple[int, str, str]:
        if self._ended is None:
            self._ended = self.process.communicate(timeout=TOO_LONG)
        return self.process.returncode, *self._ended

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        read = ""
        for line in self.process.stdout:
            read += line
            if text in line:
                return read
        raise AssertionError(f"{text!r} did not come: {read}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return kept | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "default",
    }


@contextmanager
def demo(folder: Path, *args: str, env: dict[str, str] | None = None) -> Iterator[Demo]:
    run = Demo(folder, *args, env=env)
    try:
        yield run
    finally:
        run.close()


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Demo]]:
    """
    The runs that go to the end, side by side, for each takes eight seconds of waiting.
    """
    base = tmp_path_factory.mktemp("demo")
    (base / "nothing").mkdir()
    bare = {"PATH": str(base / "nothing"), "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    runs = {
        "asyncio": Demo(base / "asyncio", "--backend", "asyncio"),
        "trio": Demo(base / "trio", env={"BACKEND": "trio"}),
        "without git": Demo(base / "without git", env=bare),
        "no restart": Demo(base / "no restart", "--break", "restart"),
        "no kill": Demo(base / "no kill", "--break", "kill"),
    }
    yield runs
    for run in runs.values():
        run.close()


def pids(output: str) -> list[int]:
    found = [int(pid) for pid in re.findall(r"pid (\d+)", output)]
    assert found, output
    return found


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def assert_nothing_is_left(run: Demo, output: str) -> None:
    assert all(is_gone(pid) for pid in pids(output))
    assert list(run.folder.iterdir()) == []


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_that_it_claims_is_seen(whole_runs: dict[str, Demo], backend: str) -> None:
    code, output, errors = whole_runs[backend].end()
    assert (code, errors) == (0, ""), output + errors
    lines = output.splitlines()
    assert f"on {backend}" in lines[0]
    assert "weather server" in lines[0]
    assert str(whole_runs[backend].folder) in lines[0]
    for line in (
        "circuit get_weather: closed -> open",
        "circuit get_weather: open -> half_open",
        "circuit get_weather: half_open -> open",
        "circuit get_weather: half_open -> closed",
        "The server counted 1 request for a forecast; the callers got 199 CircuitOpenError, 1 ok",
        "✓ of 200 callers at once exactly one reaches the server",
        "✓ the other tools go on working",
        "✓ the weather works again",
    ):
        assert sum(text.strip().startswith((line, f"** {line}")) for text in lines) >= 1, (
            line
        )
    assert "✗" not in output
    assert "\x1b" not in output
    assert re.search(r"^All \d+ claims were seen, in \d", lines[-1])
    assert_nothing_is_left(whole_runs[backend], output)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_takes_less_than_twenty_seconds(
    whole_runs: dict[str, Demo], backend: str
) -> None:
    took = re.search(r"claims were seen, in ([\d.]+) s", whole_runs[backend].end()[1])
    assert took is not None
    assert float(took[1]) < 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_foreign_text_is_shown_as_text(whole_runs: dict[str, Demo], backend: str) -> None:
    output = whole_runs[backend].end()[1]
    assert "we write [bold]x[/], and never [/nope]." in output
    assert "keep [red]dry[/red]" in output


def test_it_fails_and_says_what_was_missed_when_the_server_stays_away(
    whole_runs: dict[str, Demo],
) -> None:
    code, output, errors = whole_runs["no restart"].end()
    assert (code, errors) == (1, "")
    assert "✗ the server is back" in output
    assert "✗ the weather works again" in output
    assert "✓ the third failure opens the circuit" in output
    last = output.splitlines()[-1]
    assert last.startswith("FAILED: ")
    assert "the weather works again" in last
    assert "the third failure opens the circuit" not in last
    assert_nothing_is_left(whole_runs["no restart"], output)


def test_it_fails_when_there_was_no_outage(whole_runs: dict[str, Demo]) -> None:
    code, output, errors = whole_runs["no kill"].end()
    assert (code, errors) == (1, "")
    assert "✗ the weather server was killed" in output
    assert "✗ the third failure opens the circuit" in output
    assert "✗ of 200 callers at once exactly one reaches the server" in output
    assert_nothing_is_left(whole_runs["no kill"], output)


def test_without_git_it_leaves_that_tool_out_and_says_so(
    whole_runs: dict[str, Demo],
) -> None:
    code, output, errors = whole_runs["without git"].end()
    assert (code, errors) == (0, ""), output + errors
    assert "git_log is left out: there is no git on PATH." in output
    assert output.count("git_log") == 1
    assert_nothing_is_left(whole_runs["without git"], output)


def test_an_ascii_terminal_gets_ascii(whole_runs: dict[str, Demo]) -> None:
    output = whole_runs["without git"].end()[1]
    assert output.isascii()
    assert "ok the weather works again" in output


@posix
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("moment", ["A recorded agent", "server runs: pid", "Killing"])
def test_an_interrupt_ends_it_cleanly(tmp_path: Path, backend: str, moment: str) -> None:
    with demo(tmp_path / "run", "--backend", backend) as run:
        read = run.read_until(moment)
        run.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        code, output, errors = run.end()
    assert time.monotonic() - began < 10
    assert code == 130
    assert errors == ""
    assert "Interrupted." in output
    assert list(run.folder.iterdir()) == []
    if "pid" in read:
        assert_nothing_is_left(run, read)


@posix
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("moment", ["A recorded agent", "server runs: pid"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_ends_it_leaves_nothing(
    tmp_path: Path, backend: str, moment: str, name: str
) -> None:
    with demo(tmp_path / "run", "--backend", backend) as run:
        read = run.read_until(moment)
        run.process.send_signal(getattr(signal, name))
        code, output, errors = run.end()
    assert (code, errors) == (130, "")
    assert "Interrupted." in output
    assert list(run.folder.iterdir()) == []
    if "pid" in read:
        assert_nothing_is_left(run, read)


@posix
def test_closing_its_terminal_leaves_nothing(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(AGENT)],
        env=environment(tmp_path) | {"TERM": "xterm-256color", "COLUMNS": "160"},
        preexec_fn=lambda: os.login_tty(theirs),  # so that it hears of the end
        close_fds=False,
    )
    os.close(theirs)
    try:
        output = b""
        while b"server runs: pid" not in output:
            output += os.read(ours, 65536)
        os.close(ours)
        assert process.wait(TOO_LONG) != 0
    finally:
        process.kill()
        process.wait()
    assert all(is_gone(pid) for pid in pids(without_codes(output.decode())))
    assert list(tmp_path.iterdir()) == []


@posix
def test_the_server_does_not_outlive_a_killed_demo(tmp_path: Path) -> None:
    with demo(tmp_path / "run") as run:
        read = run.read_until("server runs: pid")
        run.process.kill()
        run.process.wait(TOO_LONG)
    port = re.search(r"127\.0\.0\.1:(\d+)", read.splitlines()[-1])
    assert port is not None
    deadline = time.monotonic() + 15
    while listens(int(port[1])):
        assert time.monotonic() < deadline, "the server is still there"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@posix
def test_a_terminal_shows_it_live(tmp_path: Path) -> None:
    code, output = in_a_terminal(tmp_path / "run")
    assert code == 0, output
    assert "\x1b[?25l" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    shown = without_codes(output)
    # drawn again and again, not once
    assert shown.count("in flight") > 20
    assert "we write [bold]x[/], and never [/nope]." in shown
    assert "✓ the weather works again" in shown
    assert "Traceback" not in shown
    assert list((tmp_path / "run").iterdir()) == []


@posix
def test_an_interrupt_gives_the_terminal_back(tmp_path: Path) -> None:
    def interrupt(process: subprocess.Popen[bytes], output: str) -> None:
        if "Killing" in output:  # and again and again, as people do
            process.send_signal(signal.SIGINT)

    code, output = in_a_terminal(tmp_path / "run", interrupt)
    assert code == 130
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "Traceback" not in output


def in_a_terminal(
    folder: Path, watch: Callable[[subprocess.Popen[bytes], str], object] | None = None
) -> tuple[int, str]:
    import pty

    folder.mkdir()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(AGENT)],
        env=environment(folder)
        | {"TERM": "xterm-256color", "COLUMNS": "160", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    data = b""
    deadline = time.monotonic() + TOO_LONG
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not chunk:
                break
            data += chunk
            if watch is not None:
                watch(process, data.decode(errors="replace"))
        return process.wait(10), data.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("terminal", [True, False])
def test_no_text_of_others_reaches_the_screen_as_markup_or_control_codes(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.syspath_prepend(AGENT.parent)
    monkeypatch.setenv("TERM", "xterm")
    from _demo_screen import Check, Screen
    from rich.console import Console

    evil = "[bold]x[/] [/nope] \x1b[2J\x1b]0;title\x07 \udcff [link=http://x]y"
    safe = "[bold]x[/] [/nope] ?[2J?]0;title? ? [link=http://x]y"
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=terminal, width=400, color_system="truecolor"
    )
    row = dict.fromkeys(
        ("calls", "successes", "total_failures", "rejected", "in_flight", "avg_time"), 1
    ) | {"state": "closed"}
    with Screen(console) as screen:
        screen.say(evil)
        screen.turn(evil)
        screen.answer("failed", evil, evil, 0.1, json.dumps({"error": evil}))
        screen.answer("ok", evil, evil, 0.1, evil)
        screen.transition(evil, "closed", "open", evil)
        screen.draw({evil: row})
    screen.fleet({evil: row})
    screen.checks([Check(claim=evil, holds=False, seen=evil)])
    output = file.getvalue()
    assert "\x1b[2J" not in output
    assert "\x07" not in output
    assert without_codes(output).count(safe) >= 9


@posix
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_ends_quietly_when_its_reader_leaves(tmp_path: Path, backend: str) -> None:
    with demo(tmp_path / "run", "--backend", backend) as run:
        read = run.read_until("server runs: pid")
        assert run.process.stdout is not None
        assert run.process.stderr is not None
        run.process.stdout.close()
        errors = run.process.stderr.read()
        code = run.process.wait(TOO_LONG)
        run.process.stderr.close()
    assert (code, errors) == (1, "")
    assert_nothing_is_left(run, read)


def test_a_long_answer_is_cut_at_the_terminals_edge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(AGENT.parent)
    monkeypatch.setenv("TERM", "xterm")
    from _demo_screen import Screen
    from rich.console import Console

    file = io.StringIO()
    with Screen(Console(file=file, force_terminal=True, width=100)) as screen:
        screen.answer("ok", "search_files", "{}", 0.1, "word " * 30)
    lines = [line for line in without_codes(file.getvalue()).splitlines() if "word" in line]
    assert len(lines) == 1


def test_a_busy_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with demo(tmp_path / "run", "--port", str(port)) as run:
            code, _, errors = run.end()
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert f"port {port}" in errors
    assert "--port" in errors
    assert list(run.folder.iterdir()) == []


def test_a_missing_package_is_said_in_one_line_with_the_cure(tmp_path: Path) -> None:
    # -S leaves out what is installed
    done = subprocess.run(
        [sys.executable, "-S", str(AGENT)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "pip install" in done.stderr
    assert "httpx" in done.stderr
    assert "rich" in done.stderr


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with demo(tmp_path / "run", env={"BACKEND": "curio"}) as run:
        code, _, errors = run.end()
    assert code == 2
    assert "BACKEND=curio" in errors


def test_the_recording_has_parallel_calls_and_a_models_mistakes() -> None:
    lines = (AGENT.parent / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [json.loads(line) for line in lines]
    assert all(turn["role"] == "assistant" for turn in turns)
    calls = [turn.get("tool_calls", []) for turn in turns]
    assert max(map(len, calls)) > 3
    ids = [call["id"] for turn in calls for call in turn]
    assert len(set(ids)) == len(ids)
    names = {call["function"]["name"] for turn in calls for call in turn}
    assert "get_wether" in names
    assert all(
        isinstance(call["function"]["arguments"], str) for turn in calls for call in turn
    )
