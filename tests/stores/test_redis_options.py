"""
Where a store in an engine is said to be, what is refused, and that no secret is shown.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from orchestrator_async.stores import StoreDownError, StoreError
from orchestrator_async.stores._redis_options import Address, address_from
from orchestrator_async.stores.redis import RedisStore

from .engine import Engine, engine, free_port
from .parts import (
    REAL_LOOPS,
    Listener,
    calls,
    claim,
    isolate,
    moved,
    opened,
    renew,
    run,
    state_of,
)

ROOT = Path(__file__).parent.parent.parent
SECRET = "s3cr3t-w0rd"

on_each_loop = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)


def address(url: str, **options: Any) -> Address:
    return address_from(url, options.get("username"), options.get("password"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", Address(hosts=(("host", 6379),))),
        ("redis://host:1", Address(hosts=(("host", 1),))),
        ("redis://host:65535/", Address(hosts=(("host", 65535),))),
        ("redis://127.0.0.1:7/3", Address(hosts=(("127.0.0.1", 7),), database=3)),
        ("redis://[::1]:7/3", Address(hosts=(("::1", 7),), database=3)),
        ("redis://[fe80::1%eth0]", Address(hosts=(("fe80::1%eth0", 6379),))),
        ("redis://a,b:7,[::1]", Address(hosts=(("a", 6379), ("b", 7), ("::1", 6379)))),
        ("valkey://host", Address(hosts=(("host", 6379),))),
        ("rediss://host", Address(hosts=(("host", 6379),), tls=True)),
        ("valkeys://host", Address(hosts=(("host", 6379),), tls=True)),
        ("redis://:pw@host", Address(hosts=(("host", 6379),), password="pw")),
        (
            "redis://joe:p%40%3A%2F@host",
            Address(hosts=(("host", 6379),), username="joe", password="p@:/"),
        ),
        (
            "redis://joe:p@w:rd@host",
            Address(hosts=(("host", 6379),), username="joe", password="p@w:rd"),
        ),
        ("unix:///run/a%20b.sock", Address(path="/run/a b.sock")),
        ("unix:///run/a@b.sock?db=4", Address(path="/run/a@b.sock", database=4)),
        (
            "unix://joe:pw@/run/it.sock",
            Address(path="/run/it.sock", username="joe", password="pw"),
        ),
    ],
)
def test_a_url_says_where_an_engine_is(url: str, expected: Address) -> None:
    assert address(url) == expected


def test_user_and_password_may_stand_beside_it() -> None:
    found = address("redis://host", username="joe", password="p@:/")
    assert (found.username, found.password) == ("joe", "p@:/")
    found = address("redis://joe@host", password="pw")
    assert (found.username, found.password) == ("joe", "pw")


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("", "url"),
        ("host:6379", "url"),
        ("http://host", "url"),
        ("REDIS://host", "url"),
        ("redis:/host", "url"),
        ("redis://", "url"),
        ("redis://:7", "url"),
        ("redis://host:", "url"),
        ("redis://host:0", "url"),
        ("redis://host:65536", "url"),
        ("redis://host:x", "url"),
        ("redis://host:\u0667", "url"),
        ("redis://a,,b", "url"),
        ("redis://ho st", "url"),
        ("redis://::1", "url"),
        ("redis://host/x", "url"),
        ("redis://host/-1", "url"),
        ("redis://host/0/1", "url"),
        ("redis://host?db=1", "url"),
        ("unix://", "url"),
        ("unix://run/it.sock", "url"),
        ("unix:///run/it.sock?x=1", "url"),
        ("unix:///run/\0.sock", "url"),
        ("redis://joe@host", "password"),
        ("redis+sentinel://host/mymaster", "url: valkey-glide does not ask Sentinels"),
        ("sentinel://host", "url: valkey-glide does not ask Sentinels"),
    ],
)
def test_one_that_is_none_is_refused(url: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}"):
        RedisStore(url)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://joe:{SECRET}@ho st",
        f"redis://joe:{SECRET}@host:{SECRET}",
        f"redis://joe:{SECRET}@host/{SECRET}",
        f"redis://joe:{SECRET}@host?{SECRET}",
        f"redis://joe:{SECRET}#@host:x",
        f"{SECRET}://joe:x@host",
        f"{SECRET}",
        f"redis-sentinel://joe:{SECRET}@host",
        f"unix://joe:{SECRET}@run/x",
        f"unix:///run/x?{SECRET}",
    ],
)
def test_and_nothing_of_it_is_said(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Sentinel") as caught:
        RedisStore(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value, chain=True))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a{b}"}, "prefix"),
        ({"prefix": "a b"}, "prefix"),
        ({"prefix": "ä"}, "prefix"),
        ({"prefix": "a\n"}, "prefix"),
        ({"prefix": "x" * 101}, "prefix"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"request_timeout": -1.0}, "request_timeout"),
        ({"request_timeout": float("nan")}, "request_timeout"),
        ({"request_timeout": float("inf")}, "request_timeout"),
        ({"request_timeout": 0.0001}, "request_timeout"),
        ({"username": "joe"}, "password"),
        ({"ca_file": "ca.pem"}, "ca_file"),
        ({"cert_file": "c.pem", "key_file": "k.pem"}, "cert_file"),
        ({"cert_file": "c.pem"}, "key_file"),
        ({"key_file": "k.pem"}, "cert_file"),
        ({"verify": False}, "verify"),
        ({"url": "unix:///x", "cluster": True}, "cluster"),
        ({"url": "redis://host/1", "cluster": True}, "cluster"),
        ({"url": "redis://:a@host", "password": "b"}, "password"),
        ({"url": "redis://joe:a@host", "username": "joe"}, "username"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        RedisStore(**{"url": "redis://host"} | options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"url": 5}, "url"),
        ({"url": None}, "url"),
        ({"url": b"redis://host"}, "url"),
        ({"prefix": None}, "prefix"),
        ({"username": 5}, "username"),
        ({"password": b"x"}, "password"),
        ({"cluster": 1}, "cluster"),
        ({"request_timeout": "2"}, "request_timeout"),
        ({"request_timeout": True}, "request_timeout"),
        ({"verify": None}, "verify"),
        ({"ca_file": b"x"}, "ca_file"),
        ({"cert_file": 5}, "cert_file"),
        ({"key_file": 5}, "key_file"),
    ],
)
def test_one_of_another_type_as_well(options: dict[str, Any], field: str) -> None:
    with pytest.raises(TypeError, match=f"^{field}: expected"):
        RedisStore(**{"url": "redis://host"} | options)


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "a"},
        {"prefix": "aZ0._:/-" * 12 + "aZ0."},
        {"request_timeout": 0.001},
        {"request_timeout": 3600},
        {"url": "redis://host/0", "cluster": True},
        {"url": "rediss://host", "ca_file": Path("ca.pem")},
        {"url": "rediss://host", "cert_file": "c.pem", "key_file": "k.pem"},
        {"url": "rediss://host", "verify": False},
    ],
)
def test_others_are_not(options: dict[str, Any]) -> None:
    RedisStore(**{"url": "redis://host"} | options)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match="socket_timeout"):
        RedisStore("redis://host", socket_timeout=1)  # type: ignore[call-arg]


# No secret is shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://joe:{SECRET}@host:7/1", "redis://host:7/1"),
        (f"rediss://joe:{SECRET}@host,[::1]:7", "rediss://host:6379,[::1]:7/0"),
        (f"unix://joe:{SECRET}@/run/x", "unix:///run/x"),
    ],
)
def test_a_store_shows_where_it_is_and_no_secret(url: str, shown: str) -> None:
    store = RedisStore(url, prefix="mine")
    assert repr(store) == str(store) == f"RedisStore({shown!r}, prefix='mine')"
    assert SECRET not in repr(vars(store)) + str(vars(store))


@on_each_loop
@pytest.mark.parametrize("unix", [False, True])
async def test_what_an_engine_says_to_a_wrong_password_shows_none(
    unix: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with engine("--requirepass", "another", unix=unix) as it:
        url = it.url.replace("://", f"://joe:{SECRET}@")
        store = RedisStore(url, request_timeout=1.0)
        with pytest.raises(StoreError, match=r"WRONGPASS|AUTH") as caught:
            async with store.session(lambda _, __: None):
                raise AssertionError("it was let in")
        assert not isinstance(caught.value, StoreDownError)
        it.kill()
        with pytest.raises(StoreDownError, match="nobody answers at") as down:
            async with store.session(lambda _, __: None):
                raise AssertionError("nobody is there")
    for error in (caught.value, down.value):
        text = "".join(traceback.format_exception(error, chain=True)) + repr(error)
        assert SECRET not in text
        assert error.__cause__ is error.__context__ is None
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + out + err
    assert not out + err


@on_each_loop
async def test_a_password_lets_in(prefix: str) -> None:
    with engine("--requirepass", SECRET) as it:
        bare = it.url
        cases: list[tuple[str, dict[str, Any]]] = [
            (bare.replace("://", f"://:{SECRET}@"), {}),
            (bare, {"password": SECRET}),
            (bare, {"username": "default", "password": SECRET}),
        ]
        for url, options in cases:
            store = RedisStore(url, prefix=prefix, **options)
            async with store.session(lambda _, __: None) as session:
                assert await session.read(["circuit"]) == [None]
        with pytest.raises(StoreError, match="NOAUTH"):
            async with RedisStore(bare).session(lambda _, __: None):
                raise AssertionError("it was let in")


ACL = (
    "~fleet:1:* resetchannels &fleet:1:changes +@connection +info +time +mget +subscribe +publish "
    "+evalsha +script|load +get +set +del +pexpire "
    "+hget +hset +hdel +hlen +hgetall +sadd +srem +scard "
    "+zadd +zrem +zcard +zremrangebyscore +zrevrangebyscore"
)


@on_each_loop
async def test_a_user_needs_no_more_rights_than_these(own_engine: Engine) -> None:
    own_engine.ask("ACL", "SETUSER", "joe", "reset", "on", ">pw", *ACL.split())
    url = own_engine.url.replace("://", "://joe:pw@")
    listener = Listener()
    async with RedisStore(url, prefix="fleet").session(listener) as session:
        await session.change("a", run())
        await session.change("a", run(failures=0))
        await session.change("a", calls())
        await session.change("a", isolate(add=("a",)))
        await session.change("a", isolate(remove=("a",)))
        await session.change("a", isolate(remove=None))
        state = await moved(session, "a", opened(0.0))
        answer = await session.change("a", claim(state))
        await session.change("a", renew(answer.state))
        await session.read(["a"])
        own_engine.ask("SET", "fleet:1:{a}:state", "garbage")
        assert await session.read(["a"]) == [None]
        await session.beat("one", {"tool": "1"})
        assert await session.figures() == {"one": {"tool": "1"}}
        await session.leave("one")
        await listener.hears(4)
    denied = own_engine.ask("ACL", "LOG")
    assert denied == [], denied


@on_each_loop
async def test_where_nobody_may_be_told_it_is_said_once(
    own_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    own_engine.ask("ACL", "SETUSER", "joe", "on", ">pw", "~*", "&*", "+@all", "-publish")
    url = own_engine.url.replace("://", "://joe:pw@")
    async with RedisStore(url, prefix="fleet").session(lambda _, __: None) as session:
        for failures in (1, 2):
            await moved(session, "a", opened(failures=failures))
            state = await state_of(session, "a")
            assert state is not None
            assert state.failures == failures
    assert caplog.text.count("fleet:1:changes") == 1


# The client library


def said_by(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout + done.stderr


def test_the_library_is_imported_by_the_store_that_stands_on_it_alone() -> None:
    code = (
        "import sys, orchestrator_async, orchestrator_async.stores\n"
        "print([each for each in sys.modules if each.split('.')[0] in ('glide', 'google')])"
    )
    assert said_by(code) == "[]\n"


def test_without_it_the_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['glide'] = None\n"
        "try:\n"
        "    import orchestrator_async.stores.redis\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert 'pip install "orchestrator-async[redis]"' in said_by(code)


QUIET = """
import sys, anyio
from glide import Logger, LogLevel
{first}
from orchestrator_async.stores import StoreError
from orchestrator_async.stores.redis import RedisStore

async def main():
    store = RedisStore("redis://127.0.0.1:{port}", password="wrong")
    try:
        async with store.session(lambda *_: None):
            pass
    except StoreError as error:
        print(type(error).__name__)

anyio.run(main)
print(Logger.logger_level.name)
"""


@pytest.mark.parametrize(
    ("first", "level"), [("", "OFF"), ("Logger.init(LogLevel.ERROR)", "ERROR")]
)
def test_it_writes_nothing_by_itself_unless_it_was_told_to(first: str, level: str) -> None:
    with engine("--requirepass", "another") as it:
        said = said_by(QUIET.format(first=first, port=it.port))
    assert "StoreError" in said.splitlines()
    assert level in said.splitlines()
    assert (len(said.splitlines()) == 2) == (level == "OFF")


def test_making_a_store_asks_nobody() -> None:
    RedisStore(f"redis://127.0.0.1:{free_port()}")
    RedisStore("redis://there-is-no-such-host.invalid")
