"""
A right server of the fewest lines, for others to do wrong in one place each.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

VERSION = "2025-11-25"
METHOD_NOT_FOUND = -32601

Message = dict[str, Any]


def tool(name: str = "echo", **fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    return {"name": name, "description": name, "inputSchema": schema} | fields


class Peer:
    """
    Answers the handshake, a list with one tool, and calls, each on a thread of its own.

    The end of its input ends it whatever those threads do, and a client that has gone shows
    in a write: none of these outlives its test.

    Attributes:
        size: How large it is, what a behaviour makes large, in bytes.
        count: How many there are of what it makes many.
    """

    size = 100_000_000
    count = 100_000

    def __init__(self, *, size: int | None = None, count: int | None = None) -> None:
        self.size = self.size if size is None else size
        self.count = self.count if count is None else count
        self._writing = threading.Lock()

    def run(self) -> None:
        for line in sys.stdin.buffer:
            self.receive(json.loads(line))
        os._exit(0)  # threads that are writing are not waited for

    def receive(self, message: Message) -> None:
        method, request = message.get("method"), message.get("id")
        if method is None or request is None:
            return  # an answer, or a notification

        match method:
            case "initialize":
                self.initialize(request)
            case "tools/list":
                self.answer(request, self.list_tools(message.get("params") or {}))
            case "tools/call":
                thread = threading.Thread(
                    target=self._safely,
                    args=(self.call, request, message["params"]),
                    daemon=True,
                )
                thread.start()
            case _:
                error = {"code": METHOD_NOT_FOUND, "message": f"no such method: {method}"}
                self.send({"id": request, "error": error})

    def _safely(
        self, call: Callable[[Any, Message], None], request: Any, params: Message
    ) -> None:
        try:
            call(request, params)
        except BrokenPipeError:
            os._exit(0)  # nobody reads any more

    # What is right, and to be overridden

    def initialize(self, request: Any) -> None:
        self.answer(
            request,
            {
                "protocolVersion": VERSION,
                "capabilities": {"tools": {"listChanged": True}, "logging": {}},
                "serverInfo": {"name": "hostile", "version": "1"},
            },
        )

    def list_tools(self, params: Message) -> Message:
        return {"tools": self.tools()}

    def tools(self) -> list[Any]:
        return [tool()]

    def call(self, request: Any, params: Message) -> None:
        self.answer(request, self.result(params))

    def result(self, params: Message) -> Any:
        text = (params.get("arguments") or {}).get("text", "fine")
        return {"content": [{"type": "text", "text": text}]}

    # How it is sent

    def answer(self, request: Any, result: Any) -> None:
        self.send({"id": request, "result": result})

    def notify(self, method: str, **params: Any) -> None:
        self.send({"method": method, "params": params})

    def send(self, message: Message) -> None:
        self.write(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """
        Put bytes on the wire as they are, all of them before anybody else's.
        """
        with self._writing:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
