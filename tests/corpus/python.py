"""
What Python's standard library raises.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import configparser
import contextlib
import csv
import ctypes
import datetime
import decimal
import email.utils
import ftplib
import http.client
import imaplib
import importlib
import ipaddress
import json
import multiprocessing
import os
import pathlib
import pickle
import queue
import re
import resource
import shutil
import smtplib
import socket
import sqlite3
import ssl
import statistics
import struct
import subprocess
import sys
import tarfile
import threading
import urllib.request
import uuid
import xml.etree.ElementTree as ET
import xmlrpc.client
import zipfile
import zlib
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .exceptions import provoke
from .found import Found
from .loopback import Net

Case = (
    tuple[str, str, str, Callable[[], Any]] | tuple[str, str, str, Callable[[], Any], str]
)


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of them, in a directory of their own.
    """
    with contextlib.chdir(here):
        Path("full").mkdir()
        Path("full/x").write_text("text")
        Path("text.txt").write_text("text")
        Path("latin.txt").write_bytes(b"caf\xe9")
        for case in [*_files(), *_values(), *_network(net), *_databases(), *_tracebacks()]:
            if isinstance(case, Found):
                yield case
            elif found := provoke(*case):
                yield found


def _files() -> Iterator[Case]:
    python = "python"
    yield python, "call", "a missing file", lambda: open("nowhere.txt")
    yield python, "call", "a directory", lambda: open("full")
    yield python, "call", "a file as a directory", lambda: os.listdir("text.txt")
    yield python, "call", "what is there", lambda: os.mkdir("full")
    yield python, "call", "what is not empty", lambda: os.rmdir("full")
    yield python, "call", "a name too long", lambda: open("x" * 300)
    yield python, "call", "a null in a path", lambda: open("a\0b")
    yield python, "call", "not UTF-8", lambda: Path("latin.txt").read_text("utf-8")
    yield python, "call", "not for reading", lambda: open("text.txt", "a").read()
    yield python, "call", "a closed file", _closed_file
    yield python, "call", "a mode", lambda: open("text.txt", "nonsense")
    yield python, "call", "the same file", lambda: shutil.copyfile("text.txt", "text.txt")
    yield python, "call", "move of nothing", lambda: shutil.move("nowhere", "x")
    yield python, "call", "a tree that is there", lambda: shutil.copytree("full", "full")
    yield python, "call", "an archive's format", lambda: shutil.unpack_archive("text.txt")
    yield python, "call", "no zip", lambda: zipfile.ZipFile("text.txt")
    yield python, "call", "no tar", lambda: tarfile.open("text.txt")
    yield python, "call", "relative", lambda: pathlib.PurePath("/a").relative_to("/b")
    yield python, "call", "a process that is gone", lambda: os.kill(99999999, 0)
    yield python, "call", "a descriptor", lambda: os.read(999, 1)
    yield python, "call", "a chmod of pid 1's", lambda: open("/proc/1/mem", "rb").read(1)
    yield python, "service", "a full disk", _full_disk
    yield python, "service", "no more files", _no_more_files
    yield (
        python,
        "service",
        "no such program",
        lambda: subprocess.run(["nowhere-such"]),
        ("the program is the tool's"),
    )
    yield (
        python,
        "service",
        "a program out of time",
        lambda: subprocess.run(["sleep", "9"], timeout=0.1, check=False),
    )
    yield python, "service", "no memory", lambda: bytearray(2**62)
    yield (
        python,
        "service",
        "no module",
        lambda: importlib.import_module("nowhere_such"),
        ("the tool is not installed whole"),
    )
    yield (
        python,
        "service",
        "no library",
        lambda: ctypes.CDLL("libnowhere.so"),
        ("the tool is not installed whole"),
    )
    yield python, "service", "a broken pipe", _broken_pipe
    yield (
        python,
        "service",
        "a device",
        lambda: os.open("/dev/tty", os.O_RDWR),
        ("there is no terminal"),
    )


def _closed_file() -> None:
    file = open("text.txt")
    file.close()
    file.read()


def _full_disk() -> None:
    with open("/dev/full", "w", buffering=1) as file:
        file.write("x\n")


def _no_more_files() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, limits[1]))
    try:
        for _ in range(50):
            kept.append(os.open("text.txt", os.O_RDONLY))  # noqa: PERF401 - they are closed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in kept:
            os.close(each)


def _broken_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    finally:
        os.close(write)


def _values() -> Iterator[Case]:
    python, empty = "python", json.loads("{}")
    yield python, "call", "a key", lambda: empty["timeout"]
    yield python, "call", "an index", lambda: [][3]
    yield python, "call", "a number", lambda: int("many")
    yield python, "call", "a float", lambda: float("many")
    yield python, "call", "a division", lambda: 1 / int("0")
    yield python, "call", "a date", lambda: datetime.date.fromisoformat("tomorrow")
    yield python, "call", "a date's form", lambda: datetime.datetime.strptime("x", "%Y")
    yield python, "call", "a month", lambda: datetime.date(2026, 13, 1)
    yield python, "call", "a zone", lambda: zoneinfo.ZoneInfo("Mars/Base")
    yield python, "call", "a decimal", lambda: decimal.Decimal("many")
    yield python, "call", "an address", lambda: ipaddress.ip_address("300.1.1.1")
    yield python, "call", "a UUID", lambda: uuid.UUID("x")
    yield python, "call", "a pattern", lambda: re.compile("(")
    yield python, "call", "base64", lambda: base64.b64decode("a", validate=True)
    yield python, "call", "XML", lambda: ET.fromstring("<a>")
    yield python, "call", "code", lambda: compile("if (", "x", "exec")
    yield python, "call", "a name in code", lambda: eval("nowhere")
    yield python, "call", "an indent", lambda: compile(" a\nb", "x", "exec")
    yield python, "call", "a section", lambda: configparser.ConfigParser().get("a", "b")
    yield (
        python,
        "call",
        "a file of settings",
        lambda: configparser.ConfigParser().read_string("a = 1"),
    )
    yield python, "call", "a dialect", lambda: next(csv.reader(["x"], dialect="nonsense"))
    yield python, "call", "a format", lambda: "{a}".format()
    yield python, "call", "a number's format", lambda: format("x", "d")
    yield python, "call", "an encoding", lambda: "x".encode("nonsense")
    yield python, "call", "no ASCII", lambda: "é".encode("ascii")
    yield python, "call", "two to unpack", lambda: (lambda a, b: a)(*[1])
    yield python, "call", "a root", lambda: __import__("math").sqrt(-1)
    yield python, "call", "a large power", lambda: 10.0**400
    yield python, "call", "a mean of nothing", lambda: statistics.mean([])
    yield python, "call", "no such element", lambda: [].remove(1)
    yield python, "call", "a minimum of nothing", lambda: min([])
    yield python, "call", "a signal", lambda: __import__("signal").Signals(999)
    yield python, "call", "a date of a mail", lambda: email.utils.parsedate_to_datetime("x")
    yield python, "call", "bytes", lambda: struct.unpack("i", b"x")
    yield python, "call", "no zlib", lambda: zlib.decompress(b"text")
    yield python, "call", "a pickle", lambda: pickle.loads(b"text")
    yield (
        python,
        "service",
        "an answer that is no JSON",
        lambda: json.loads("<html>"),
        ("arguments were read before"),
    )
    yield python, "service", "an empty answer", lambda: json.loads(""), "the same"
    yield python, "service", "endless recursion", _recurse
    yield python, "service", "a queue that is full", lambda: _full_queue().put_nowait(1)
    yield python, "service", "a pool that was shut down", _shut_down
    yield python, "service", "a pool whose process died", _broken_pool


def _recurse() -> None:
    _recurse()


def _full_queue() -> asyncio.Queue[int]:
    full: asyncio.Queue[int] = asyncio.Queue(1)
    full.put_nowait(1)
    return full


def _shut_down() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    pool.submit(print)


def _broken_pool() -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        pool.submit(os.abort).result()


def _network(net: Net) -> Iterator[Case]:
    def opened(address: str, path: str = "/", scheme: str = "http") -> Callable[[], Any]:
        return lambda: urllib.request.urlopen(
            f"{scheme}://{address}{path}", timeout=0.5
        ).read()

    def connected(address: str) -> Callable[[], Any]:
        host, _, port = address.rpartition(":")
        return lambda: socket.create_connection((host, int(port)), 0.3).recv(1)

    async def through(address: str) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"x\n")
        await reader.readexactly(100)

    name = "the name may also be the argument"
    urllib_ = "python"
    yield urllib_, "service", "nobody listens", opened(net.refused)
    yield urllib_, "service", "reset", opened(net.reset)
    yield urllib_, "service", "closed", opened(net.closed)
    yield urllib_, "service", "no answer in time", opened(net.silent)
    yield urllib_, "service", "no HTTP", opened(net.garbage)
    yield urllib_, "service", "half an answer", opened(net.partial)
    yield (
        urllib_,
        "service",
        "a name that cannot be resolved",
        opened("nowhere.invalid"),
        name,
    )
    yield urllib_, "service", "TLS to a plain port", opened(net.http, scheme="https")
    for status in (500, 502, 503, 504, 429):
        yield urllib_, "service", f"status {status}", opened(net.http, f"/status/{status}")
    yield (
        urllib_,
        "service",
        "status 401",
        opened(net.http, "/status/401"),
        "its credential",
    )
    for status in (400, 403, 404, 405, 409, 410, 422):
        yield urllib_, "call", f"status {status}", opened(net.http, f"/status/{status}")
    yield urllib_, "call", "a loop", opened(net.http, "/loop"), "this address loops"
    yield urllib_, "call", "a scheme", opened("example.com", scheme="foo")
    yield urllib_, "call", "no URL", lambda: urllib.request.urlopen("nonsense")
    yield urllib_, "call", "a port", opened("127.0.0.1:x")
    yield urllib_, "call", "a space", opened("127.0.0.1", "/a b")
    yield urllib_, "call", "a file", lambda: urllib.request.urlopen("file:///nowhere/x")

    host, _, port = net.refused.rpartition(":")
    _, _, silent = net.silent.rpartition(":")
    _, _, garbage = net.garbage.rpartition(":")
    _, _, closed = net.closed.rpartition(":")
    python = "python"
    yield python, "service", "a socket, refused", connected(net.refused)
    yield python, "service", "a socket, no answer", connected(net.silent)
    yield (
        python,
        "service",
        "a name",
        lambda: socket.getaddrinfo("nowhere.invalid", 80),
        name,
    )
    yield (
        python,
        "service",
        "a port that is taken",
        lambda: socket.create_server(("127.0.0.1", int(net.http.rpartition(":")[2]))),
    )
    yield (
        python,
        "service",
        "an address of another",
        lambda: socket.create_server(("192.0.2.1", 8080)),
    )
    yield python, "service", "a stream, refused", lambda: asyncio.run(through(net.refused))
    yield python, "service", "a stream, closed", lambda: asyncio.run(through(net.closed))
    yield python, "service", "a stream, reset", lambda: asyncio.run(through(net.reset))
    yield (
        python,
        "service",
        "a wait",
        lambda: asyncio.run(asyncio.wait_for(asyncio.sleep(9), 0.1)),
    )
    yield (
        python,
        "service",
        "a future",
        lambda: concurrent.futures.Future[int]().result(0.1),
    )
    yield (
        python,
        "service",
        "TLS",
        lambda: ssl.create_default_context().wrap_socket(
            socket.create_connection((host, int(garbage))), server_hostname="x"
        ),
    )
    yield (
        python,
        "service",
        "a socket that is not connected",
        lambda: socket.socket().send(b"x"),
    )
    yield (
        python,
        "service",
        "http.client",
        lambda: http.client.HTTPConnection(host, int(garbage), timeout=1).getresponse(),
    )
    yield python, "service", "ftp, refused", lambda: ftplib.FTP().connect(host, int(port))
    yield (
        python,
        "service",
        "ftp, no answer",
        lambda: ftplib.FTP(timeout=0.3).connect(host, int(silent)),
    )
    yield (
        python,
        "service",
        "ftp, no ftp",
        lambda: ftplib.FTP(timeout=1).connect(host, int(garbage)),
    )
    yield python, "service", "ftp, closed", lambda: _after_a_word(ftplib.FTP, host, closed)
    yield python, "service", "smtp, refused", lambda: smtplib.SMTP(host, int(port))
    yield (
        python,
        "service",
        "smtp, no smtp",
        lambda: smtplib.SMTP(host, int(garbage), timeout=1),
    )
    yield (
        python,
        "service",
        "smtp, silent",
        lambda: smtplib.SMTP(host, int(silent), timeout=0.3),
    )
    yield python, "service", "smtp, not connected", lambda: smtplib.SMTP().noop()
    yield python, "service", "imap, no imap", lambda: imaplib.IMAP4(host, int(garbage), 1)
    yield (
        python,
        "service",
        "xmlrpc, status 503",
        lambda: xmlrpc.client.ServerProxy(net.status(503)).f(),
    )
    yield (
        python,
        "call",
        "xmlrpc, status 404",
        lambda: xmlrpc.client.ServerProxy(net.status(404)).f(),
    )


def _after_a_word(kind: Any, host: str, port: str) -> None:
    with socket.create_connection((host, int(port))) as one:
        one.sendall(b"x")
    client = kind(timeout=0.3)
    client.connect(host, int(port))


def _databases() -> Iterator[Case]:
    python = "python"
    with sqlite3.connect("b.db") as made:
        made.execute("create table t (id integer primary key, x not null, y check (y > 0))")
        made.execute("insert into t values (1, 1, 1)")
    made.close()

    def run(statement: str, values: Any = (), path: str = "b.db") -> Callable[[], Any]:
        def do() -> None:
            connection = sqlite3.connect(path, timeout=0.1, uri=True)
            try:
                connection.execute(statement, values)
            finally:
                connection.close()

        return do

    yield python, "call", "no such table", run("select * from nowhere")
    yield python, "call", "no such column", run("select nope from t")
    yield python, "call", "a syntax", run("selec 1")
    yield python, "call", "a function", run("select nope(1)")
    yield python, "call", "half a statement", run("select (1")
    yield python, "call", "a key twice", run("insert into t values (1, 1, 1)")
    yield python, "call", "a null", run("insert into t values (2, null, 1)")
    yield python, "call", "a check", run("insert into t values (2, 1, -1)")
    yield python, "call", "a table that exists", run("create table t (x)")
    yield python, "call", "bindings", run("select ?", ())
    yield python, "call", "a binding's type", run("select ?", ([],))
    yield python, "call", "two statements", run("select 1; select 2")
    yield python, "call", "values", run("insert into t values (1)")
    yield python, "call", "a large number", run("select ?", (2**70,))
    yield python, "call", "a mismatch", run("insert into t values ('x', 1, 1)")
    yield python, "call", "a view", run("drop view t")
    yield python, "call", "a row of two", run("select (1, 2) = 1")
    yield python, "service", "a directory", run("select 1", path="full")
    yield python, "service", "no database", run("select * from t", path="latin.txt")
    yield (
        python,
        "service",
        "for reading",
        run("insert into t values (3,1,1)", path="file:b.db?mode=ro"),
    )
    yield python, "service", "locked", _locked(run)
    yield python, "service", "closed", _closed
    yield python, "service", "interrupted", _interrupted
    yield python, "service", "full", _full
    yield python, "service", "a thread", _other_thread, "the tool is written wrongly"


def _locked(run: Callable[..., Callable[[], Any]]) -> Callable[[], Any]:
    def do() -> None:
        holder = sqlite3.connect("b.db")
        holder.execute("begin exclusive")
        try:
            run("insert into t values (5, 1, 1)")()
        finally:
            holder.rollback()
            holder.close()

    return do


def _closed() -> None:
    connection = sqlite3.connect("b.db")
    connection.close()
    connection.execute("select 1")


def _interrupted() -> None:
    connection = sqlite3.connect(":memory:")
    connection.set_progress_handler(lambda: 1, 10)
    connection.execute("with recursive c(x) as (select 1 union all select x+1 from c) "
                       "select count(*) from c").fetchall()  # fmt: skip


def _full() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("pragma max_page_count=2")
    connection.execute("create table big (x)")
    connection.execute("insert into big values (zeroblob(1000000))")


def _other_thread() -> None:
    connection = sqlite3.connect(":memory:")
    result: queue.Queue[BaseException] = queue.Queue()

    def run() -> None:
        try:
            connection.execute("select 1")
        except BaseException as error:
            result.put(error)

    threading.Thread(target=run).start()
    raise result.get()


def _tracebacks() -> Iterator[Found]:
    """
    What a program in Python prints as it dies, which shell tools return as text.
    """
    for label, provoked, code in (
        ("call", "a missing file", "open('nowhere.txt')"),
        ("call", "a key", "{}['a']"),
        ("call", "a number", "int('x')"),
        ("call", "a division", "1 / 0"),
        ("call", "while another is handled", "try: {}['a']\nexcept KeyError: open('nowhere')"),
        ("service", "refused", "import socket; socket.create_connection(('127.0.0.1', 1))"),
        (
            "service",
            "raised from another",
            (
                "try: raise OSError(111, 'x')\n"
                "except OSError as e: raise ConnectionError('the store is away') from e"
            ),
        ),
        ("service", "out of time", "import asyncio; asyncio.run(asyncio.wait_for(asyncio.sleep(9), .1))"),
        ("service", "a name", "import urllib.request as u; u.urlopen('http://nowhere.invalid')"),
        ("service", "no module", "import nowhere_such"),
    ):  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        yield Found(
            source="python", provoked=provoked, form="text", text=ran.stderr,
            label=label,
        )  # fmt: skip
