"""
What can become of an HTTP request, one function each, that writes it on the socket.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from email.utils import formatdate
from itertools import count

from .server import Exchange, Fault, right

CHUNK = 1 << 16
JSON = "Content-Type: application/json"
SSE = "Content-Type: text/event-stream"
FAULTS: dict[str, Fault] = {"ok": right}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def _answer(exchange: Exchange) -> bytes:
    result = {"content": [{"type": "text", "text": "fine"}]}
    return json.dumps(exchange.answered(result)).encode()


def _token(exchange: Exchange) -> object:
    return (exchange.message.get("params", {}).get("_meta") or {}).get("progressToken", 0)


def _event(message: object, *, event_id: str = "") -> bytes:
    lines = f"id: {event_id}\n" if event_id else ""
    return f"{lines}event: message\ndata: {json.dumps(message)}\n\n".encode()


# Refused by a status


@fault
def unavailable(exchange: Exchange) -> None:
    """503, come again in 7 seconds."""
    exchange.respond("503 Service Unavailable", b"down", "Retry-After: 7")


@fault
def limited(exchange: Exchange) -> None:
    """429, come again in 3 seconds."""
    exchange.respond("429 Too Many Requests", b"slow down", "Retry-After: 3")


@fault
def limited_until(exchange: Exchange) -> None:
    """429, come again at a time of day a minute from now."""
    then = formatdate(time.time() + 60, usegmt=True)
    exchange.respond("429 Too Many Requests", b"slow down", f"Retry-After: {then}")


@fault
def unauthorized(exchange: Exchange) -> None:
    """401, with a challenge."""
    challenge = 'WWW-Authenticate: Bearer error="invalid_token"'
    exchange.respond("401 Unauthorized", b"", challenge)


@fault
def forbidden(exchange: Exchange) -> None:
    """403."""
    exchange.respond("403 Forbidden", b"not you")


@fault
def not_found(exchange: Exchange) -> None:
    """404, which says that the session is over."""
    exchange.respond("404 Not Found")


@fault
def broken(exchange: Exchange) -> None:
    """500, with a page for people."""
    page = b"<html><h1>Internal Server Error</h1></html>"
    exchange.respond("500 Internal Server Error", page, "Content-Type: text/html")


@fault
def broken_rpc(exchange: Exchange) -> None:
    """500, with an error of JSON-RPC."""
    error = {"code": -32603, "message": "the database is down"}
    reply = {"jsonrpc": "2.0", "id": exchange.message.get("id"), "error": error}
    exchange.json(reply, "Retry-After: 7", status="500 Internal Server Error")


@fault
def accepted(exchange: Exchange) -> None:
    """202, as if it had been no request."""
    exchange.respond("202 Accepted")


@fault
def redirect(exchange: Exchange) -> None:
    """307 to another origin, where the credentials must not go."""
    exchange.respond(
        "307 Temporary Redirect", b"", f"Location: {exchange.server.elsewhere}"
    )


# The connection breaks


@fault
def reset(exchange: Exchange) -> None:
    """The connection is reset."""
    linger = struct.pack("ii", 1, 0)
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    exchange.connection.close()


@fault
def closed(exchange: Exchange) -> None:
    """The connection ends before there is a word."""


@fault
def cut(exchange: Exchange) -> None:
    """The body is shorter than it was said to be."""
    exchange.head("200 OK", JSON, length=1000)
    exchange.send(_answer(exchange)[:20])


@fault
def cut_chunked(exchange: Exchange) -> None:
    """The connection ends within a chunk."""
    exchange.head("200 OK", JSON, "Transfer-Encoding: chunked")
    exchange.send(b"ff\r\n" + _answer(exchange)[:20])


@fault
def cut_events(exchange: Exchange) -> None:
    """The events end before the answer."""
    exchange.head("200 OK", SSE)
    exchange.send(b": hello\n\n")


@fault
def cut_resumable(exchange: Exchange) -> None:
    """The events end before the answer, and could be resumed, were they not gone."""
    exchange.head("200 OK", SSE)
    exchange.send(b"id: 1\nretry: 50\ndata:\n\n")


@fault
def dies(exchange: Exchange) -> None:
    """The process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


# What is answered is no answer


@fault
def garbage(exchange: Exchange) -> None:
    """Something else, said to be JSON."""
    exchange.respond("200 OK", b"\x00\xffgarbage", JSON)


@fault
def empty(exchange: Exchange) -> None:
    """Nothing, said to be JSON."""
    exchange.respond("200 OK", b"", JSON)


@fault
def page(exchange: Exchange) -> None:
    """A page for people, as of a proxy that wants a password."""
    exchange.respond("200 OK", b"<html>Sign in</html>", "Content-Type: text/html")


@fault
def garbage_event(exchange: Exchange) -> None:
    """An event whose data is no JSON."""
    exchange.respond("200 OK", b"event: message\ndata: garbage\n\n", SSE)


@fault
def other_id(exchange: Exchange) -> None:
    """The answer to another request."""
    exchange.json(exchange.answered({"content": []}) | {"id": 10**6})


@fault
def no_answer(exchange: Exchange) -> None:
    """JSON-RPC, but a notification."""
    exchange.json({"jsonrpc": "2.0", "method": "notifications/nonsense"})


@fault
def wrong_result(exchange: Exchange) -> None:
    """An answer whose result is none of a tool."""
    exchange.json(exchange.answered({"content": 17}))


# Too much, too slow


@fault
def huge(exchange: Exchange) -> None:
    """A right answer of very many bytes."""
    before, _, after = _answer(exchange).partition(b"fine")
    exchange.head("200 OK", JSON, length=len(before) + exchange.server.size + len(after))
    exchange.send(before)
    _much(exchange)
    exchange.send(after)


@fault
def huge_event(exchange: Exchange) -> None:
    """The same as one event."""
    before, _, after = _answer(exchange).partition(b"fine")
    exchange.head("200 OK", SSE)
    exchange.send(b"event: message\ndata: " + before)
    _much(exchange)
    exchange.send(after + b"\n\n")


@fault
def huge_error(exchange: Exchange) -> None:
    """503 with a body of very many bytes, said to be JSON."""
    exchange.head("503 Service Unavailable", JSON, length=exchange.server.size)
    _much(exchange)


@fault
def endless(exchange: Exchange) -> None:
    """JSON without an end."""
    exchange.head("200 OK", JSON)
    exchange.send(_answer(exchange).partition(b"fine")[0])
    while True:
        exchange.send(b"x" * CHUNK)


@fault
def endless_head(exchange: Exchange) -> None:
    """Headers without an end."""
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in count():
        exchange.send(f"X-{number}: {'x' * 1000}\r\n".encode())


@fault
def comments(exchange: Exchange) -> None:
    """Comments instead of events, as fast as they can be sent."""
    exchange.head("200 OK", SSE)
    while True:
        exchange.send(b": keep-alive\n\n" * 1000)


@fault
def progress(exchange: Exchange) -> None:
    """Progress without an end, as fast as it can be sent."""
    exchange.head("200 OK", SSE)
    for number in count():
        params = {"progressToken": _token(exchange), "progress": number}
        message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        exchange.send(_event(message))


@fault
def trickle(exchange: Exchange) -> None:
    """A right answer, a byte a second."""
    answer = _answer(exchange)
    exchange.head("200 OK", JSON, length=len(answer))
    for byte in answer:
        exchange.send(bytes([byte]))
        time.sleep(1)


@fault
def silent(exchange: Exchange) -> None:
    """No answer, on a connection that stays."""
    while exchange.connection.recv(CHUNK):  # until it hangs up
        pass


def _much(exchange: Exchange) -> None:
    left = exchange.server.size
    while left > 0:
        exchange.send(b"x" * min(CHUNK, left))
        left -= CHUNK
