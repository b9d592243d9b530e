"""
What the drivers of databases raise, and Redis and PostgreSQL of this machine say.

The servers are started in a directory of their own, on 127.0.0.1, and ended by their pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .exceptions import provoke
from .found import Found
from .loopback import Net
from .python import Case


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def when_open(port: int, seconds: float = 20.0) -> None:
    """
    Ask until somebody listens there.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


@contextlib.contextmanager
def redis_server(here: Path, *options: str) -> Iterator[int]:
    """
    A Redis on 127.0.0.1, by its port.
    """
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(
        [*command, "--dir", str(here), *options], stdout=subprocess.DEVNULL
    )
    try:
        when_open(port)
        yield port
    finally:
        server.terminate()
        server.wait()


class Postgres:
    """
    A PostgreSQL on 127.0.0.1. It does not run as root, so that root runs it as another.
    """

    def __init__(self, here: Path) -> None:
        self._data, self._log = here / "pg", here / "pg.log"
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.port = free_port()
        here.chmod(0o777)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres")
        self.start()

    def _run(self, *command: str) -> None:
        program = shutil.which(command[0]) or command[0]
        subprocess.run(
            [*self._as, program, *command[1:]], check=True, stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' "
            "-c max_connections=8 -c superuser_reserved_connections=1"
        )
        self._run(
            "pg_ctl",
            "-D",
            str(self._data),
            "-l",
            str(self._log),
            "-w",
            "-o",
            options,
            "start",
        )

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def url(
        self, user: str = "postgres", database: str = "postgres", password: str = ""
    ) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"


STATEMENTS = (
    ("call", "no such table", "select * from nowhere"),
    ("call", "no such column", "select nope from t"),
    ("call", "a syntax", "selec 1"),
    ("call", "half a statement", "select (1"),
    ("call", "no such function", "select nope(1)"),
    ("call", "a key twice", "insert into t values (1, 1)"),
    ("call", "a null", "insert into t values (2, null)"),
    ("call", "a check", "insert into t values (2, -1)"),
    ("call", "a foreign key", "insert into u values (99)"),
    ("call", "a table that exists", "create table t (x int)"),
    ("call", "a division", "select 1 / 0"),
    ("call", "a number", "select 'x'::int"),
    ("call", "a number too large", "select 99999999999::int"),
    ("call", "a date", "select 'tomorrowish'::date"),
    ("call", "a type", "select 1 = 'x'::text"),
    ("call", "no such type", "select 1::nope"),
    ("call", "no such schema", "create table nope.t (x int)"),
    ("call", "an aggregate", "select x, count(*) from t"),
    ("call", "two of one name", "select x from t, t as t2"),
    ("call", "a pattern", "select 'x' ~ '('"),
    ("call", "JSON", "select '{'::json"),
    ("call", "what others need", "drop table t"),
    ("call", "a text too long", "insert into u2 values ('xxxxx')"),
    ("call", "no such role", "set role nobody"),
    ("call", "reading only", "begin read only; insert into t values (7, 7)"),
    ("call", "a right", "set role guest; select * from t"),
    ("call", "no such database", "drop database nope"),
    ("call", "a setting", "set nope = 1"),
    ("call", "two rows", "select (select x from t union all select 2)"),
    ("call", "columns", "insert into t values (1, 2, 3)"),
    ("call", "a limit", "select 1 limit -1"),
    ("call", "a file", "copy t from '/nowhere/x'"),
    ("service", "out of time", "set statement_timeout = 50; select pg_sleep(9)"),
    ("service", "no memory", "select repeat('x', 1073741819)"),
    ("service", "ended by an operator", "select pg_terminate_backend(pg_backend_pid())"),
    (
        "service",
        "cancelled by an operator",
        "select pg_cancel_backend(pg_backend_pid()), pg_sleep(1)",
    ),
)
SETUP = """
create table t (id int primary key, x int not null check (x > 0)); insert into t values (1, 1);
create table u (id int references t); create role guest; create table u2 (x varchar(3));
create role keeper login password 'x'
"""


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of those that are installed.
    """
    for case in _all(net, here):
        if found := provoke(*case):
            yield found


def _all(net: Net, here: Path) -> Iterator[Case]:
    if importlib.util.find_spec("redis") and shutil.which("redis-server"):
        yield from _redis(net, here)
    if importlib.util.find_spec("psycopg") and shutil.which("pg_ctl"):
        yield from _postgres(net, here)
    if importlib.util.find_spec("pymysql"):
        yield from _mysql(net)
    if importlib.util.find_spec("pymongo"):
        yield from _mongo(net)
    if importlib.util.find_spec("sqlalchemy"):
        yield from _alchemy(net)


def _redis(net: Net, here: Path) -> Iterator[Case]:
    import redis

    name = "redis"

    def at(port: int | str, *command: Any, **options: Any) -> Callable[[], Any]:
        def do() -> None:
            client = redis.Redis(
                port=int(port), retry=None, socket_timeout=0.5, protocol=2, **options
            )
            with client:
                client.execute_command(*command)

        return do

    with redis_server(here) as port:
        at(port, "SET", "text", "x")()
        at(port, "LPUSH", "list", "x")()
        yield name, "call", "another kind", at(port, "LPUSH", "text", "y")
        yield name, "call", "no number", at(port, "INCR", "text")
        yield name, "call", "an unknown command", at(port, "FROB")
        yield name, "call", "too few arguments", at(port, "GET")
        yield name, "call", "a syntax", at(port, "SET", "a", "b", "nonsense")
        yield name, "call", "a time to live", at(port, "SET", "a", "b", "EX", "-1")
        yield name, "call", "no such key", at(port, "RENAME", "nowhere", "x")
        yield name, "call", "an index", at(port, "LSET", "list", "9", "x")
        yield name, "call", "no script", at(port, "EVALSHA", "0" * 40, "0")
        yield name, "call", "a script", at(port, "EVAL", "nonsense(", "0")
        yield name, "call", "a script that fails", at(port, "EVAL", "return nope.x", "0")
        yield name, "call", "a database", at(port, "SELECT", "99")
        yield (
            name,
            "call",
            "no group",
            at(port, "XREADGROUP", "GROUP", "a", "b", "STREAMS", "s", ">"),
        )
        yield name, "call", "a subcommand", at(port, "CONFIG", "NONSENSE")
        yield name, "call", "a setting", at(port, "CONFIG", "SET", "nonsense", "1")
        yield name, "call", "a place", at(port, "GEOADD", "g", "999", "999", "x")
        yield name, "call", "a cursor", at(port, "SCAN", "x")
        yield name, "call", "a bit", at(port, "SETBIT", "b", "-1", "1")
        yield name, "call", "an id", at(port, "XADD", "s", "0-0", "a", "b")
        yield (
            name,
            "service",
            "memory",
            _after(at(port, "CONFIG", "SET", "maxmemory", "1"), at(port, "SET", "a", "b")),
        )
        at(port, "CONFIG", "SET", "maxmemory", "0")()
        yield (
            name,
            "service",
            "a replica",
            _after(at(port, "REPLICAOF", "127.0.0.1", "1"), at(port, "SET", "a", "b")),
        )
        yield (
            name,
            "service",
            "a replica without its master",
            _after(
                at(port, "CONFIG", "SET", "replica-serve-stale-data", "no"),
                at(port, "GET", "a"),
            ),
        )
    with redis_server(here, "--requirepass", "secret") as port:
        yield name, "service", "no password", at(port, "GET", "a"), "its credential"
        yield (
            name,
            "service",
            "a wrong one",
            at(port, "GET", "a", password="x"),
            "its credential",
        )
    with redis_server(here, "--maxclients", "1") as port:
        with socket.create_connection(("127.0.0.1", port)):
            yield name, "service", "too many clients", at(port, "GET", "a")
    for kind in ("refused", "reset", "closed", "silent", "garbage"):
        yield name, "service", kind, at(getattr(net, kind).rpartition(":")[2], "GET", "a")
    yield name, "service", "a name", at(1, "GET", "a", host="nowhere.invalid")


def _after(first: Callable[[], Any], then: Callable[[], Any]) -> Callable[[], Any]:
    def do() -> None:
        first()
        then()

    return do


def _postgres(net: Net, here: Path) -> Iterator[Case]:
    import psycopg

    server = Postgres(here)
    for statement in SETUP.split(";"):
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(statement)

    def run(text: str, url: str = "") -> Callable[[], Any]:
        def do() -> None:
            with psycopg.connect(
                url or server.url(), autocommit=True, connect_timeout=2
            ) as one:
                for statement in text.split("; "):
                    one.execute(statement)  # type: ignore[call-overload]

        return do

    name = "psycopg"
    for label, provoked, text in STATEMENTS:
        yield name, label, provoked, run(text)
    yield (
        name,
        "service",
        "no such database",
        run("select 1", server.url(database="nope")),
        ("the tool was set up with it"),
    )
    yield name, "service", "no such user", run("select 1", server.url("nobody")), "the same"
    yield name, "service", "a lock", _locked(psycopg, server)
    yield name, "service", "too many connections", _crowded(psycopg, server)
    yield name, "service", "a closed connection", _closed(psycopg, server)
    yield (
        name,
        "call",
        "a parameter",
        lambda: psycopg.connect(server.url()).execute("select %s", ()),
    )
    yield (
        name,
        "call",
        "a value",
        lambda: psycopg.connect(server.url()).execute("select %s", (object(),)),
    )
    if importlib.util.find_spec("asyncpg"):
        yield from _asyncpg(net, server)
    stopped = psycopg.connect(server.url())
    server.stop()
    yield name, "service", "the server went away", lambda: stopped.execute("select 1")
    yield name, "service", "the server is away", run("select 1")
    for kind in ("reset", "closed", "silent", "garbage"):
        url = f"postgresql://u@{getattr(net, kind)}/d"
        yield name, "service", kind, run("select 1", url)
    yield name, "service", "a name", run("select 1", "postgresql://u@nowhere.invalid/d")


def _locked(psycopg: Any, server: Postgres) -> Callable[[], Any]:
    def do() -> None:
        with psycopg.connect(server.url()) as one, psycopg.connect(server.url()) as two:
            one.execute("lock table t")
            two.execute("set lock_timeout = 50")
            two.execute("select * from t")

    return do


def _crowded(psycopg: Any, server: Postgres) -> Callable[[], Any]:
    def do() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(psycopg.connect(server.url("keeper", password="x")))

    return do


def _closed(psycopg: Any, server: Postgres) -> Callable[[], Any]:
    def do() -> None:
        connection = psycopg.connect(server.url())
        connection.close()
        connection.execute("select 1")

    return do


def _asyncpg(net: Net, server: Postgres) -> Iterator[Case]:
    import asyncpg

    def run(text: str, url: str = "", *values: Any) -> Callable[[], Any]:
        async def do() -> None:
            connection = await asyncpg.connect(url or server.url(), timeout=1)
            try:
                for statement in text.split("; "):
                    await connection.fetch(statement, *values)
            finally:
                await asyncio.wait_for(connection.close(), 1)

        return lambda: asyncio.run(do())

    name = "asyncpg"
    for label, provoked, text in STATEMENTS[:12] + STATEMENTS[-4:]:
        yield name, label, provoked, run(text)
    yield name, "call", "a value", run("select $1::int", "", "x")
    yield name, "call", "too few values", run("select $1::int")
    yield (
        name,
        "service",
        "no such database",
        run("select 1", server.url(database="nope")),
        ("the tool was set up with it"),
    )
    for kind in ("refused", "reset", "closed", "silent", "garbage"):
        yield (
            name,
            "service",
            kind,
            run("select 1", f"postgresql://u@{getattr(net, kind)}/d"),
        )


def _mysql(net: Net) -> Iterator[Case]:
    import pymysql

    for kind in ("refused", "reset", "closed", "silent", "garbage"):
        host, _, port = getattr(net, kind).rpartition(":")
        options = {"host": host, "port": int(port), "connect_timeout": 1, "read_timeout": 1}
        yield "pymysql", "service", kind, lambda o=options: pymysql.connect(**o)  # type: ignore[misc]
    yield "pymysql", "service", "a name", lambda: pymysql.connect(host="nowhere.invalid")


def _mongo(net: Net) -> Iterator[Case]:
    import pymongo

    def client(address: str) -> Any:
        return pymongo.MongoClient(
            f"mongodb://{address}/", serverSelectionTimeoutMS=500, connectTimeoutMS=300
        )

    name = "pymongo"
    for kind in ("refused", "reset", "silent", "garbage"):
        yield name, "service", kind, lambda a=getattr(net, kind): client(a).x.y.find_one()  # type: ignore[misc]
    one = client(net.refused)
    yield name, "call", "a name", lambda: one["a b"]
    yield name, "call", "a collection", lambda: one.x["a$b"]
    yield name, "call", "a filter", lambda: one.x.y.find("x")
    yield name, "call", "an update", lambda: one.x.y.update_one({}, {"a": 1})
    yield name, "call", "a document", lambda: one.x.y.insert_one([])
    yield name, "call", "a URL", lambda: pymongo.MongoClient("nonsense://x")


def _alchemy(net: Net) -> Iterator[Case]:
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://")

    def run(text: str, on: Any = engine) -> Callable[[], Any]:
        def do() -> None:
            with on.connect() as connection:
                connection.execute(sa.text(text)).scalar_one()

        return do

    name = "sqlalchemy"
    yield name, "call", "no such table", run("select * from nowhere")
    yield name, "call", "a syntax", run("selec 1")
    yield name, "call", "a parameter", run("select :x")
    yield name, "call", "no row", run("select 1 where 1 = 0")
    yield name, "call", "two rows", run("select 1 union select 2")
    yield name, "call", "a URL", lambda: sa.create_engine("nonsense")
    yield (
        name,
        "service",
        "refused",
        run("select 1", sa.create_engine(f"postgresql+psycopg://u@{net.refused}/d")),
    )
    yield (
        name,
        "service",
        "no file",
        run("select 1", sa.create_engine("sqlite:////nowhere/x/y")),
    )
    yield name, "service", "a pool that is full", _no_pool(sa)


def _no_pool(sa: Any) -> Callable[[], Any]:
    def do() -> None:
        engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_timeout=0.1,
        )
        with engine.connect():
            engine.connect()

    return do
