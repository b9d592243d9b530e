"""
Starts the servers that tests talk to, and sees that none is left.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp import StdioServerParameters

ROOT = Path(__file__).parent.parent.parent
MARK = "TEST_PEER"
DEADLINE = 30.0  # how long a hang may take to be called one, on a loaded machine


class Peers:
    """
    Servers that are known by a mark in their environment, which their children have too.
    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)

    def stdio(self, name: str, *args: str) -> StdioServerParameters:
        """
        How a client starts the server of that name on stdio.
        """
        from mcp import StdioServerParameters  # it takes a second

        command, *rest = self._command(name, *args)
        # The client makes an environment of its own, in which the mark is to be.
        return StdioServerParameters(
            command=command, args=rest, env={MARK: self.mark}, cwd=str(ROOT)
        )

    @contextmanager
    def raw(self, name: str, *args: str) -> Iterator[RawClient]:
        """
        The server of that name on stdio, and a client that expects nothing of it.
        """
        with subprocess.Popen(
            self._command(name, *args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {MARK: self.mark},
            cwd=ROOT,
        ) as process:
            try:
                yield RawClient(process)
            finally:
                process.kill()
                with suppress(BrokenPipeError):  # it may have closed its end before
                    process.stdin.close()  # type: ignore[union-attr]

    @contextmanager
    def http(self, name: str, *args: str, port: int = 0) -> Iterator[HttpPeer]:
        """
        The server of that name on HTTP, ready, and killed at the end.

        One that was killed is started again on the same port by another of these.
        """
        command = [*self._command(name, *args), "--http", str(port)]
        env = os.environ | {MARK: self.mark}
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, env=env, cwd=ROOT
        ) as process:
            try:
                yield HttpPeer(process, _ready(process))
            finally:
                process.kill()

    def alive(self) -> list[int]:
        """
        The processes that have the mark, zombies not among them.
        """
        mark = f"{MARK}={self.mark}".encode()
        return [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0")]

    def end(self) -> None:
        """
        Kill what is left, one by one.
        """
        for pid in self.alive():
            _signal(pid, signal.SIGKILL)
        until(lambda: not self.alive())

    @staticmethod
    def _command(name: str, *args: str) -> list[str]:
        return [sys.executable, "-m", f"tests.mcp.servers.{name}", *args]


@contextmanager
def peers(*, deadline: float = DEADLINE) -> Iterator[Peers]:
    """
    Servers for one test, none of which outlives it.

    Args:
        deadline: Seconds after which one that is still there is one that was left.

    Raises:
        AssertionError: One was left, or a child of one, or a zombie. It has been killed.
    """
    before = child_pids()
    servers = Peers()
    try:
        yield servers
        until(lambda: not servers.alive() and child_pids() <= before, deadline)
    finally:
        servers.end()


class HttpPeer:
    """
    A server on HTTP.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port, self.pid = process, port, process.pid
        self.url = f"http://127.0.0.1:{port}/mcp"

    def kill(self) -> None:
        """
        End it at once, and wait until it has ended.
        """
        self.process.kill()
        self.process.wait(DEADLINE)

    def stop(self) -> None:
        stop(self.pid)

    def resume(self) -> None:
        resume(self.pid)

    def control(self, **state: Any) -> dict[str, Any]:
        """
        Ask ``http_faults`` what was asked of it; with arguments, change what comes next.
        """
        body = json.dumps(state).encode() if state else None
        url = f"http://127.0.0.1:{self.port}/control"
        with urllib.request.urlopen(url, data=body, timeout=DEADLINE) as response:
            return json.load(response)


class RawClient:
    """
    Writes lines to a server and reads lines from it, and trusts it with nothing.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def ask(self, method: str, *, id: Any = 1, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})

    def call(self, name: str = "echo", *, id: Any = 1, **arguments: Any) -> None:
        self.ask("tools/call", id=id, name=name, arguments=arguments)

    def send(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> bytes:
        """
        Some bytes of its output; none when that has ended.

        Raises:
            TimeoutError: There were none until the deadline.
        """
        return _read_some(self.process.stdout)

    def line(self) -> bytes:
        """
        The next line of its output, or what there was when it ended.
        """
        parts = [self._rest]
        while b"\n" not in parts[-1] and (more := self.read()):
            parts.append(more)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def message(self) -> Any:
        return json.loads(self.line())

    def answer(self) -> Any:
        """
        The next message that is an answer: a server that connects late is told of as well.
        """
        while "id" not in (message := self.message()):
            pass
        return message

    def quiet(self) -> bool:
        """
        Whether it has nothing more to say: after what it has been asked, it answers a ping.
        """
        self.ask("ping", id="quiet")
        return self.message().get("id") == "quiet"


@contextmanager
def listening() -> Iterator[str]:
    """
    A URL where connections are accepted by the system, and by nobody else.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/mcp"


def free_port() -> int:
    """
    A port of 127.0.0.1 where nobody listens, so that connections to it are refused.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(condition: Callable[[], object], deadline: float = DEADLINE) -> None:
    """
    Ask at short intervals until it is so.

    Raises:
        AssertionError: It has not become so.
    """
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "it has not become so"
        time.sleep(0.01)


def open_fds(pid: int | None = None) -> dict[int, str]:
    """
    The open files of a process, this one by default: what each descriptor refers to.
    """
    found = {}
    for path in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
        try:
            found[int(path.name)] = os.readlink(path)
        except FileNotFoundError:  # that with which the directory itself is read
            pass
    return found


def child_pids(pid: int | None = None) -> set[int]:
    """
    The children of a process, this one by default, with those that nobody has waited for.
    """
    return {child for child in _pids() if _stat(child)[1:2] == [str(pid or os.getpid())]}


def is_zombie(pid: int) -> bool:
    return _stat(pid)[:1] == ["Z"]


def is_stopped(pid: int) -> bool:
    return _stat(pid)[:1] == ["T"]


def stop(pid: int) -> None:
    """
    Stop a process, and wait until it has stopped.
    """
    _signal(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid))


def resume(pid: int) -> None:
    _signal(pid, signal.SIGCONT)


def memory(pid: int | None = None) -> int:
    """
    The bytes of memory that a process has at the moment, this one by default.
    """
    pages = _read(pid or os.getpid(), "statm").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def _ready(process: subprocess.Popen[bytes]) -> int:
    """
    The port that a server says it is ready on.
    """
    said = b""
    while not (lines := [line for line in said.split(b"\n")[:-1] if line[:6] == b"ready "]):
        more = _read_some(process.stderr)
        assert more, f"it ended before it was ready: {said.decode(errors='replace')}"
        said += more
    return int(lines[0].split()[1])


def _read_some(pipe: Any) -> bytes:
    if not select.select([pipe], [], [], DEADLINE)[0]:
        raise TimeoutError("the server has said nothing")
    return os.read(pipe.fileno(), 1 << 20)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return b""


def _stat(pid: int) -> list[str]:
    """
    What is said of a process behind its name, which may have spaces: state, parent, ...
    """
    return _read(pid, "stat").decode().rpartition(")")[2].split()
