"""
That each server that misbehaves does so, in the way it says, and does the rest right.

What a client makes of it is not asked here: these read bytes, and trust nobody.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from .running import DEADLINE, Peers, RawClient, is_stopped, resume, until
from .servers.hostile import BEHAVIOURS
from .servers.hostile.listings import NAMES

Check = Callable[[RawClient], None]

CHECKS: dict[str, Check] = {}
SMALL = ("--size", "100000", "--count", "1000")  # of what is large and many


def check(*names: str) -> Callable[[Check], Check]:
    def decorate(function: Check) -> Check:
        CHECKS.update(dict.fromkeys(names, function))
        return function

    return decorate


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_hostile_server_does_what_it_is_named_after(behaviour: str, servers: Peers):
    with servers.raw("hostile", behaviour, *SMALL) as client:
        CHECKS[behaviour](client)


def test_what_is_large_is_as_large_as_it_says_if_nobody_says_smaller():
    sizes = {name: kind.size for name, kind in BEHAVIOURS.items()}
    assert sizes["huge"] == 100_000_000
    assert sizes["schema_huge"] == 10_000_000
    assert sizes["descriptions"] == sizes["long_error"] == 1_000_000
    assert BEHAVIOURS["many"].count == 100_000
    assert BEHAVIOURS["schema_deep"].count == 10_000


def test_a_hostile_server_ends_with_its_input(servers: Peers):
    for behaviour in ("silent", "stderr_flood", "mute"):
        with servers.raw("hostile", behaviour) as client:
            client.call()
            client.process.communicate(timeout=DEADLINE)  # closes its input, reads the rest
            assert client.process.returncode == 0


def handshake(client: RawClient) -> Any:
    client.ask("initialize", id="first", protocolVersion="2025-11-25")
    message = client.message()
    assert message["id"] == "first"
    return message["result"]


def listed(client: RawClient, **params: Any) -> Any:
    client.ask("tools/list", id="list", **params)
    message = client.message()
    assert message["id"] == "list"
    return message["result"]


def tools(client: RawClient) -> list[Any]:
    return listed(client)["tools"]


def answered(client: RawClient) -> Any:
    client.call(text="hello")
    message = client.message()
    assert message["id"] == 1
    return message["result"]


def right(result: Any) -> bool:
    return result == {"content": [{"type": "text", "text": "hello"}]}


# Listings


@check("twice")
def _(client: RawClient) -> None:
    assert handshake(client)["capabilities"]["tools"] == {"listChanged": True}
    first, second = tools(client)
    assert first["name"] == second["name"]
    assert first["description"] != second["description"]
    assert right(answered(client))


@check("prefixed")
def _(client: RawClient) -> None:
    assert [tool["name"] for tool in tools(client)] == ["other__echo", "echo"]


@check("names")
def _(client: RawClient) -> None:
    assert [tool["name"] for tool in tools(client)] == NAMES
    assert len(NAMES[0]) == 1000
    assert "" in NAMES


@check("surrogate")
def _(client: RawClient) -> None:
    with pytest.raises(UnicodeEncodeError):
        tools(client)[0]["name"].encode()


@check("descriptions")
def _(client: RawClient) -> None:
    long, bad = tools(client)
    assert len(long["description"]) == 100_000
    assert "gnore previous instructions" in bad["description"]
    assert "\x1b[" in bad["title"]


@check("nameless")
def _(client: RawClient) -> None:
    assert ["name" in tool for tool in tools(client)] == [True, False]


@check("unschemed")
def _(client: RawClient) -> None:
    assert ["inputSchema" in tool for tool in tools(client)] == [True, False]


@check("schema_list", "schema_type", "schema_string", "schema_loop", "schema_remote")
def _(client: RawClient) -> None:
    good, bad = (tool["inputSchema"] for tool in tools(client))
    assert good["type"] == "object"
    assert isinstance(bad, list) or bad["type"] != "object" or "$ref" in bad
    assert right(answered(client))


@check("schema_huge")
def _(client: RawClient) -> None:
    assert len(tools(client)[1]["inputSchema"]["description"]) == 100_000


@check("schema_deep")
def _(client: RawClient) -> None:
    client.ask("tools/list", id="list")
    line = client.line()
    assert line.count(b'"properties":{"a":') == 1000
    assert line.count(b"{") == line.count(b"}")


@check("output_type", "output_missed", "output_loop", "output_remote", "output_pattern")
def _(client: RawClient) -> None:
    (tool,) = tools(client)
    assert tool["outputSchema"]["type"] in ("object", 17)
    assert answered(client)["structuredContent"]["text"][0] == "a"


@check("many")
def _(client: RawClient) -> None:
    names = {tool["name"] for tool in tools(client)}
    assert len(names) == 1000


@check("endless_pages")
def _(client: RawClient) -> None:
    first = listed(client)
    second = listed(client, cursor=first["nextCursor"])
    assert first["tools"] != second["tools"]
    assert first["nextCursor"] != second["nextCursor"]


@check("same_page")
def _(client: RawClient) -> None:
    first = listed(client)
    assert listed(client, cursor=first["nextCursor"]) == first


# Answers


@check("silent")
def _(client: RawClient) -> None:
    handshake(client)
    client.call()
    assert client.quiet()


@check("huge")
def _(client: RawClient) -> None:
    assert answered(client)["content"][0]["text"] == "x" * 100_000


@check("endless_line")
def _(client: RawClient) -> None:
    client.call()
    text = b""
    while len(text) < 10_000_000:
        text += client.read()
    assert text.startswith(b'{"jsonrpc": "2.0", "id": 1, "result"')
    assert text.endswith(b"x" * 1_000_000)
    assert b"\n" not in text


@check("garbage")
def _(client: RawClient) -> None:
    client.call(text="hello")
    lines = [client.line() for _ in range(10)]
    assert right(json.loads(lines[8])["result"])
    assert b"Hello!" in lines
    assert b"\xff\xfe\x00" in lines
    assert lines[-1] == b"bye"


@check("not_utf8")
def _(client: RawClient) -> None:
    client.call()
    with pytest.raises(UnicodeDecodeError):
        client.line().decode()


@check("not_rpc")
def _(client: RawClient) -> None:
    client.call(text="hello")
    wrong = [client.message() for _ in range(5)]
    assert wrong[0] == {"hello": "there"}
    assert right(client.message()["result"])


@check("unknown_ids")
def _(client: RawClient) -> None:
    client.call(text="hello")
    assert 1 not in [client.message()["id"] for _ in range(4)]
    assert right(client.message()["result"])


@check("answered_twice")
def _(client: RawClient) -> None:
    assert right(answered(client))
    second = client.message()
    assert second["id"] == 1
    assert not right(second["result"])


@check("false_close")
def _(client: RawClient) -> None:
    client.call()
    assert client.message()["error"] == {"code": -32000, "message": "Connection closed"}
    assert client.quiet()


@check("long_error")
def _(client: RawClient) -> None:
    client.call()
    assert len(client.message()["error"]["message"]) > 100_000


@check("result_text", "result_null", "result_empty", "result_number", "result_block")
@check("result_image", "result_asks")
def _(client: RawClient) -> None:
    assert not right(answered(client))
    assert client.quiet()


# Floods


def many(client: RawClient, method: str, **params: Any) -> Any:
    """
    Call, and take the last of very many messages, all of that method.
    """
    handshake(client)
    client.ask("tools/call", id=1, name="echo", _meta={"progressToken": "token"})
    messages = [client.message() for _ in range(2000)]
    assert {message["method"] for message in messages} == {method}
    return messages[-1]


@check("progress_flood")
def _(client: RawClient) -> None:
    last = many(client, "notifications/progress")
    assert last["params"] == {"progressToken": "token", "progress": 2000}


@check("progress_then_answer")
def _(client: RawClient) -> None:
    client.ask("tools/call", id=1, name="echo", _meta={"progressToken": 5})
    reports = [client.message()["params"] for _ in range(1000)]
    assert reports[-1] == {"progressToken": 5, "progress": 999}
    assert client.message()["id"] == 1


@check("log_flood")
def _(client: RawClient) -> None:
    many(client, "notifications/message")


@check("list_changed_flood")
def _(client: RawClient) -> None:
    many(client, "notifications/tools/list_changed")


@check("unknown_flood")
def _(client: RawClient) -> None:
    many(client, "notifications/nonsense")


@check("garbage_flood")
def _(client: RawClient) -> None:
    client.call()
    assert {client.line() for _ in range(2000)} == {b"garbage"}


@check("ping_flood")
def _(client: RawClient) -> None:
    last = many(client, "ping")
    for _ in range(100):  # more than a pipe holds, and all of it is read
        client.send({"jsonrpc": "2.0", "id": last["id"], "result": {"x": "x" * 10_000}})


@check("deaf_ping_flood")
def _(client: RawClient) -> None:
    many(client, "ping")


@check("sampling_flood")
def _(client: RawClient) -> None:
    many(client, "sampling/createMessage")


@check("elicitation_flood")
def _(client: RawClient) -> None:
    many(client, "elicitation/create")


@check("roots_flood")
def _(client: RawClient) -> None:
    assert many(client, "roots/list")["id"] == "r2000"


@check("stderr_flood")
def _(client: RawClient) -> None:
    client.call()
    assert client.process.stderr is not None
    assert len(client.process.stderr.read(1_000_000)) == 1_000_000
    assert client.quiet()


@check("stderr_then_answer")
def _(client: RawClient) -> None:
    client.call(text="hello")
    assert client.process.stderr is not None
    for _ in range(1000):
        assert client.process.stderr.readline().endswith(b"this is no help\x1b[0m\n")
    assert right(client.message()["result"])


# Lifecycle


@check("mute")
def _(client: RawClient) -> None:
    client.ask("initialize")
    client.ask("ping")
    client.process.stdin.close()  # type: ignore[union-attr]
    assert client.line() == b""


@check("version")
def _(client: RawClient) -> None:
    assert handshake(client)["protocolVersion"] == "1999-12-31"
    assert right(answered(client))


@check("refuses_initialize")
def _(client: RawClient) -> None:
    client.ask("initialize")
    assert client.message()["error"]["message"] == "out of licences"


@check("exits")
def _(client: RawClient) -> None:
    assert client.line() == b""
    assert client.process.wait(DEADLINE) == 3
    assert b"HOSTILE_KEY" in client.process.stderr.read()  # type: ignore[union-attr]


@check("exits_later")
def _(client: RawClient) -> None:
    handshake(client)
    client.call()
    assert client.line() == b""
    assert client.process.wait(DEADLINE) == 3
    assert b"out of memory" in client.process.stderr.read()  # type: ignore[union-attr]


@check("closes_stdout")
def _(client: RawClient) -> None:
    handshake(client)
    client.call()
    assert client.line() == b""
    assert client.process.poll() is None


@check("closes_stdin")
def _(client: RawClient) -> None:
    handshake(client)
    assert right(answered(client))
    with pytest.raises(BrokenPipeError):
        client.call()
    assert client.process.poll() is None


@check("stops")
def _(client: RawClient) -> None:
    client.call(text="hello")
    until(lambda: is_stopped(client.process.pid))
    resume(client.process.pid)
    assert right(client.message()["result"])


@check("stays")
def _(client: RawClient) -> None:
    assert right(answered(client))
    client.process.stdin.close()  # type: ignore[union-attr]
    assert b"staying" in client.process.stderr.readline()  # type: ignore[union-attr]
    client.process.terminate()
    assert client.process.poll() is None


@check("deaf")
def _(client: RawClient) -> None:
    assert tools(client)
    pipe = client.process.stdin.fileno()  # type: ignore[union-attr]
    os.set_blocking(pipe, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 1000)


@check("without_tools")
def _(client: RawClient) -> None:
    assert handshake(client)["capabilities"] == {}


@check("lists_once")
def _(client: RawClient) -> None:
    assert len(tools(client)) == 1
    assert client.message()["method"] == "notifications/tools/list_changed"
    client.ask("tools/list", id="again")
    assert client.message()["error"]["message"] == "the list is lost"


@check("asks_then_fails")
def _(client: RawClient) -> None:
    assert len(tools(client)) == 1
    client.call()
    assert client.message()["method"] == "roots/list"
    assert client.message()["result"]["isError"]


@check("asks_then_dies")
def _(client: RawClient) -> None:
    assert len(tools(client)) == 1
    client.call()
    assert client.message()["method"] == "roots/list"
    client.send({"jsonrpc": "2.0", "id": "asked", "result": {"roots": []}})
    assert client.process.wait(DEADLINE) == -9
