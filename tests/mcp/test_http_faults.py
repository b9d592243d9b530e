"""
That each fault of the server on HTTP is what it says, read from the socket as bytes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from .running import DEADLINE, HttpPeer, Peers, until
from .servers.http_faults import FAULTS

MOST = 2_000_000  # bytes that are read of what has no end


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """
    What came back: the status, the headers, the body as far as it came, and how it ended.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    ended: str


Check = Callable[[Read], None]
CHECKS: dict[str, Check] = {}


def check(*names: str) -> Callable[[Check], Check]:
    def decorate(function: Check) -> Check:
        CHECKS.update(dict.fromkeys(names, function))
        return function

    return decorate


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def ask(
    peer: HttpPeer, body: dict[str, Any], *, enough: int = MOST, hang_up: bool = False
) -> Read:
    """
    Post a message, say at once if that was all, and read until it ends or is enough.
    """
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", peer.port), timeout=DEADLINE) as client:
        head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        if hang_up:
            client.shutdown(socket.SHUT_WR)
        received, ended = b"", "enough"
        try:
            while len(received) < enough:
                if not (more := client.recv(1 << 16)):
                    ended = "closed"
                    break
                received += more
        except ConnectionResetError:
            ended = "reset"
    return parsed(received, ended)


def parsed(received: bytes, ended: str) -> Read:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    return Read(
        status=int(status.split()[1]) if status else 0,
        headers={name.lower(): value for name, value in headers.items()},
        body=body,
        ended=ended,
    )


def call(peer: HttpPeer, tool: str, **options: Any) -> Read:
    params = {"name": tool, "_meta": {"progressToken": "token"}}
    return ask(peer, message("tools/call", **params), **options)


def right(read: Read) -> bool:
    result = json.loads(read.body)["result"]
    return read.status == 200 and result == {"content": [{"type": "text", "text": "fine"}]}


HOW: dict[str, dict[str, Any]] = {"trickle": {"enough": 1}, "silent": {"hang_up": True}}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_fails_in_the_way_that_its_tool_is_named_after(
    fault: str, http_faults: HttpPeer
):
    CHECKS[fault](call(http_faults, fault, **HOW.get(fault, {})))
    if fault == "dies":
        until(lambda: http_faults.process.poll() is not None)
    else:
        assert right(call(http_faults, "ok"))
        assert f"POST tools/call {fault}" in http_faults.control()["requests"]


def test_the_handshake_and_the_list_are_right(http_faults: HttpPeer):
    first = ask(http_faults, message("initialize"))
    assert first.headers["mcp-session-id"]
    assert json.loads(first.body)["result"]["protocolVersion"] == "2025-11-25"
    tools = json.loads(ask(http_faults, message("tools/list")).body)["result"]["tools"]
    assert {tool["name"] for tool in tools} == set(FAULTS)
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools)
    unknown = json.loads(ask(http_faults, message("server/discover")).body)
    assert unknown["error"]["code"] == -32601


def test_a_fault_of_every_request_lasts_until_it_is_taken_back(http_faults: HttpPeer):
    http_faults.control(fault="unavailable")
    assert ask(http_faults, message("initialize")).status == 503
    assert call(http_faults, "ok").status == 503
    http_faults.control(fault=None)
    assert right(call(http_faults, "ok"))


def test_a_fault_can_last_for_some_requests(http_faults: HttpPeer):
    http_faults.control(fault="limited", times=2)
    assert [call(http_faults, "ok").status for _ in range(3)] == [429, 429, 200]


def test_a_fault_can_be_there_from_the_start(servers: Peers):
    with servers.http("http_faults", "--fault", "forbidden") as peer:
        assert ask(peer, message("initialize")).status == 403


@check("ok")
def _(read: Read) -> None:
    assert right(read)


@check("unavailable")
def _(read: Read) -> None:
    assert (read.status, read.headers["retry-after"]) == (503, "7")


@check("limited")
def _(read: Read) -> None:
    assert (read.status, read.headers["retry-after"]) == (429, "3")


@check("limited_until")
def _(read: Read) -> None:
    assert read.status == 429
    assert parsedate_to_datetime(read.headers["retry-after"]).tzinfo is not None


@check("unauthorized")
def _(read: Read) -> None:
    assert read.status == 401
    assert read.headers["www-authenticate"].startswith("Bearer")


@check("forbidden")
def _(read: Read) -> None:
    assert read.status == 403


@check("not_found")
def _(read: Read) -> None:
    assert (read.status, read.body) == (404, b"")


@check("broken")
def _(read: Read) -> None:
    assert (read.status, read.headers["content-type"]) == (500, "text/html")
    assert read.body.startswith(b"<html>")


@check("broken_rpc")
def _(read: Read) -> None:
    assert (read.status, read.headers["content-type"]) == (500, "application/json")
    assert json.loads(read.body)["error"]["message"] == "the database is down"


@check("accepted")
def _(read: Read) -> None:
    assert (read.status, read.body) == (202, b"")


@check("redirect")
def _(read: Read) -> None:
    assert (read.status, read.headers["location"]) == (307, "http://127.0.0.1:9/mcp")


@check("reset")
def _(read: Read) -> None:
    assert (read.ended, read.status) == ("reset", 0)


@check("closed")
def _(read: Read) -> None:
    assert (read.ended, read.status) == ("closed", 0)


@check("dies")
def _(read: Read) -> None:
    assert read.status == 0
    assert read.ended in ("closed", "reset")


@check("cut")
def _(read: Read) -> None:
    assert read.ended == "closed"
    assert 0 < len(read.body) < int(read.headers["content-length"])


@check("cut_chunked")
def _(read: Read) -> None:
    assert (read.ended, read.headers["transfer-encoding"]) == ("closed", "chunked")
    assert len(read.body) < 255


@check("cut_events")
def _(read: Read) -> None:
    assert (read.ended, read.headers["content-type"]) == ("closed", "text/event-stream")
    assert read.body == b": hello\n\n"


@check("cut_resumable")
def _(read: Read) -> None:
    assert read.ended == "closed"
    assert read.body == b"id: 1\nretry: 50\ndata:\n\n"


@check("garbage", "empty")
def _(read: Read) -> None:
    assert (read.status, read.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError):
        json.loads(read.body)


@check("page")
def _(read: Read) -> None:
    assert (read.status, read.headers["content-type"]) == (200, "text/html")


@check("garbage_event")
def _(read: Read) -> None:
    assert read.body == b"event: message\ndata: garbage\n\n"


@check("other_id")
def _(read: Read) -> None:
    assert json.loads(read.body)["id"] != 1


@check("no_answer")
def _(read: Read) -> None:
    assert "id" not in json.loads(read.body)


@check("wrong_result")
def _(read: Read) -> None:
    assert json.loads(read.body)["result"] == {"content": 17}


@check("huge")
def _(read: Read) -> None:
    assert len(json.loads(read.body)["result"]["content"][0]["text"]) == 1_000_000


@check("huge_event")
def _(read: Read) -> None:
    data = read.body.removeprefix(b"event: message\ndata: ")
    assert len(json.loads(data)["result"]["content"][0]["text"]) == 1_000_000


@check("huge_error")
def _(read: Read) -> None:
    assert (read.status, len(read.body)) == (503, 1_000_000)


@check("endless")
def _(read: Read) -> None:
    assert read.ended == "enough"
    assert read.body.endswith(b"x" * 1_000_000)


@check("endless_head")
def _(read: Read) -> None:
    assert read.ended == "enough"
    assert len(read.headers) > 1000
    assert read.body == b""


@check("comments")
def _(read: Read) -> None:
    assert read.ended == "enough"
    assert set(read.body.split(b"\n\n")[:-1]) == {b": keep-alive"}


@check("progress")
def _(read: Read) -> None:
    assert read.ended == "enough"
    events = read.body.split(b"\n\n")[:-1]
    last = json.loads(events[-1].partition(b"data: ")[2])
    assert last["params"] == {"progressToken": "token", "progress": len(events) - 1}


@check("trickle")
def _(read: Read) -> None:
    assert read.status == 200
    assert len(read.body) < int(read.headers["content-length"])


@check("silent")
def _(read: Read) -> None:
    assert (read.status, read.ended) == (0, "closed")  # since we hung up
