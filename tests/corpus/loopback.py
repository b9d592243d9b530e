"""
Servers on 127.0.0.1 that misbehave.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Self


class Net:
    """
    An address of each kind of bad server, by its name; and an HTTP server that answers
    ``/status/503`` with that status, ``/loop`` with itself, and other paths with a page.
    """

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.refused = f"127.0.0.1:{listener.getsockname()[1]}"
        self.reset = self._serve(_reset)
        self.silent = self._serve(_silent)
        self.closed = self._serve(_close)
        self.garbage = self._serve(_garbage)
        self.partial = self._serve(_partial)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        self.http = f"127.0.0.1:{server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def status(self, number: int) -> str:
        return f"http://{self.http}/status/{number}"

    def _serve(self, behave: Callable[[socket.socket], None]) -> str:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(
                        target=_behave, args=(behave, listener.accept()[0]), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _behave(behave: Callable[[socket.socket], None], peer: socket.socket) -> None:
    with contextlib.suppress(OSError), peer:
        behave(peer)


def _reset(peer: socket.socket) -> None:
    peer.recv(1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _silent(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


def _close(peer: socket.socket) -> None:
    peer.recv(65536)


def _garbage(peer: socket.socket) -> None:
    peer.sendall(b"hello there\r\n\r\n")
    peer.recv(65536)


def _partial(peer: socket.socket) -> None:
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of")


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/loop"):
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        number = self.path.partition("/status/")[2].partition("/")[0]
        status = int(number) if number.isdigit() else 200
        reason = http.HTTPStatus(status).phrase
        is_json = "json" in self.path
        page = json.dumps({"message": reason}) if is_json else f"<html>{reason}</html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if is_json else "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page.encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass
