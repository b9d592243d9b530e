"""
The right part of it: threads that read requests from sockets, and answer as MCP would.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SESSION = "the-session"
HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "http_faults", "version": "1"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """
    One request, and the socket to answer it on.
    """

    connection: socket.socket
    http: str
    path: str
    headers: Mapping[str, str]
    message: dict[str, Any]
    server: Server

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))

    @property
    def tool(self) -> str:
        params = self.message.get("params")
        return str(params.get("name", "")) if isinstance(params, dict) else ""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def head(self, status: str, *headers: str, length: int | None = None) -> None:
        """
        Send what comes before the body, which is as long as the connection lasts if no
        length is given.
        """
        lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.send("\r\n".join([*lines, "", ""]).encode())

    def respond(self, status: str, body: bytes = b"", *headers: str) -> None:
        self.head(status, *headers, length=len(body))
        self.send(body)

    def json(self, value: Any, *headers: str, status: str = "200 OK") -> None:
        body = json.dumps(value).encode()
        self.respond(status, body, "Content-Type: application/json", *headers)

    def answered(self, result: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": self.message.get("id"), "result": result}


Fault = Callable[[Exchange], None]


class Server(socketserver.ThreadingTCPServer):
    """
    Attributes:
        fault: The name of what every request suffers, or ``None``.
        times: How many more requests suffer it; ``None`` for all of them.
        requests: What was asked, in order: the method, and the name of the tool if any.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, port: int, faults: Mapping[str, Fault], *, elsewhere: str, size: int
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.faults, self.elsewhere, self.size = faults, elsewhere, size
        self.fault: str | None = None
        self.times: int | None = None
        self.requests: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # it has hung up, as it may
            super().handle_error(request, client_address)

    def exchange(self, exchange: Exchange) -> None:
        if exchange.path == "/control":
            self.control(exchange)
            return

        self.requests.append(f"{exchange.http} {exchange.method} {exchange.tool}".strip())
        self.next_fault(exchange)(exchange)

    def control(self, exchange: Exchange) -> None:
        if exchange.http == "POST":
            self.fault = exchange.message.get("fault")
            self.times = exchange.message.get("times")
            self.size = exchange.message.get("size", self.size)
        exchange.json({"requests": self.requests, "fault": self.fault, "times": self.times})

    def next_fault(self, exchange: Exchange) -> Fault:
        fault = self.fault
        if fault is not None and self.times is not None:
            self.times -= 1
            if self.times <= 0:
                self.fault = self.times = None
        if fault is None and exchange.method == "tools/call":
            fault = exchange.tool
        return self.faults.get(fault or "", right)


def right(exchange: Exchange) -> None:
    """
    Answer as an honest server would.
    """
    match exchange.http, exchange.method:
        case "POST", "initialize":
            exchange.json(exchange.answered(HANDSHAKE), f"Mcp-Session-Id: {SESSION}")
        case "POST", "tools/list":
            schema = {"type": "object", "properties": {"text": {"type": "string"}}}
            tools = [
                {
                    "name": name,
                    "description": (fault.__doc__ or "").strip(),
                    "inputSchema": schema,
                }
                for name, fault in exchange.server.faults.items()
            ]
            exchange.json(exchange.answered({"tools": tools}))
        case "POST", "tools/call":
            content = [{"type": "text", "text": "fine"}]
            exchange.json(exchange.answered({"content": content}))
        case "POST", _ if "id" in exchange.message:
            error = {"code": -32601, "message": f"no such method: {exchange.method}"}
            request = exchange.message["id"]
            exchange.json({"jsonrpc": "2.0", "id": request, "error": error})
        case "POST", _:
            exchange.respond("202 Accepted")
        case "DELETE", _:
            exchange.respond("200 OK")
        case _:
            exchange.respond("405 Method Not Allowed")


class _Handler(socketserver.StreamRequestHandler):
    """
    One request to a connection: what comes after a fault would be anybody's guess.
    """

    server: Server

    def handle(self) -> None:
        request = self.rfile.readline().split()
        if len(request) != 3:
            return  # hung up before it asked

        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.exchange(
            Exchange(
                connection=self.connection,
                http=request[0].decode(),
                path=request[1].decode(),
                headers=headers,
                message=json.loads(body or b"{}"),
                server=self.server,
            )
        )
