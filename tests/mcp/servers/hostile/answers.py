"""
Answers to a call that are too much, not enough, or not answers.
"""

from __future__ import annotations

import json
from typing import Any

from .peer import Message, Peer

CHUNK = 1 << 16


class Silent(Peer):
    """Never answers a call."""

    def call(self, request: Any, params: Message) -> None:
        pass


class Huge(Peer):
    """A right answer in one line, of so many bytes."""

    def result(self, params: Message) -> Any:
        return {"content": [{"type": "text", "text": "x" * self.size}]}


class EndlessLine(Peer):
    """A line without an end."""

    def call(self, request: Any, params: Message) -> None:
        start = {"jsonrpc": "2.0", "id": request, "result": {"content": [{"type": "text"}]}}
        self.write(json.dumps(start).encode()[:-4] + b', "text": "')
        while True:
            self.write(b"x" * CHUNK)


class Garbage(Peer):
    """Lines that are nothing, before and after the right answer."""

    LINES = (
        b"",
        b"Hello!",
        b"{",
        b"\xff\xfe\x00",
        b'{"jsonrpc": "2.0"',
        b"null",
        b"[]",
        b"17",
    )

    def call(self, request: Any, params: Message) -> None:
        for line in self.LINES:
            self.write(line + b"\n")
        super().call(request, params)
        self.write(b"bye\n")


class NotUtf8(Peer):
    """Bytes that are no text, inside of an answer."""

    def call(self, request: Any, params: Message) -> None:
        answer = {"jsonrpc": "2.0", "id": request, "result": self.result({})}
        self.write(json.dumps(answer).encode().replace(b"fine", b"\xff\xfe") + b"\n")


class NotRpc(Peer):
    """JSON that is no JSON-RPC, before the right answer."""

    def call(self, request: Any, params: Message) -> None:
        for message in (
            {"hello": "there"},
            {"jsonrpc": "1.0", "id": request, "result": {}},
            {"jsonrpc": "2.0", "id": request},
            {"jsonrpc": "2.0", "id": {"a": 1}, "result": {}},
            [{"jsonrpc": "2.0", "id": request, "result": {}}],
        ):
            self.write(json.dumps(message).encode() + b"\n")
        super().call(request, params)


class UnknownIds(Peer):
    """Answers to what was never asked, before the right one."""

    def call(self, request: Any, params: Message) -> None:
        for other in (10**6, -1, "no such id", None):
            self.answer(other, self.result({"arguments": {"text": "another's"}}))
        super().call(request, params)


class Twice(Peer):
    """The answer, and another to the same call."""

    def call(self, request: Any, params: Message) -> None:
        super().call(request, params)
        self.answer(request, self.result({"arguments": {"text": "the second"}}))


class FalseClose(Peer):
    """An error that looks as if the connection were closed, which it is not."""

    def call(self, request: Any, params: Message) -> None:
        self.send(
            {"id": request, "error": {"code": -32000, "message": "Connection closed"}}
        )


class LongError(Peer):
    """An error whose message and data are long, and speak to the terminal."""

    size = 1_000_000

    def call(self, request: Any, params: Message) -> None:
        message = "\x1b[2J" + "x" * self.size
        error = {"code": -32603, "message": message, "data": {"trace": message}}
        self.send({"id": request, "error": error})


def answering(result: Any) -> type[Peer]:
    """
    A peer whose calls have this result.
    """

    class Answering(Peer):
        def result(self, params: Message) -> Any:
            return result

    return Answering


ANSWERS: dict[str, type[Peer]] = {
    "silent": Silent,
    "huge": Huge,
    "endless_line": EndlessLine,
    "garbage": Garbage,
    "not_utf8": NotUtf8,
    "not_rpc": NotRpc,
    "unknown_ids": UnknownIds,
    "answered_twice": Twice,
    "false_close": FalseClose,
    "long_error": LongError,
    "result_text": answering("fine"),
    "result_null": answering(None),
    "result_empty": answering({}),
    "result_number": answering({"content": 17}),
    "result_block": answering({"content": [{"type": "hologram", "data": "x"}]}),
    "result_image": answering(
        {"content": [{"type": "image", "data": "not base64!", "mimeType": "image/png"}]}
    ),
    "result_asks": answering({"resultType": "input_required", "inputRequests": {}}),
}
