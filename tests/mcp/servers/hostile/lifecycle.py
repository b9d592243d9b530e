"""
Servers that do not begin as they should, or do not end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

from .peer import VERSION, Message, Peer


class Mute(Peer):
    """Reads everything, and never says a word."""

    def receive(self, message: Message) -> None:
        pass


class Version(Peer):
    """Speaks a version of the protocol that nobody knows."""

    def answer(self, request: Any, result: Any) -> None:
        if "protocolVersion" in result:
            result |= {"protocolVersion": "1999-12-31"}
        super().answer(request, result)


class RefusesInitialize(Peer):
    """Answers the handshake with an error."""

    def initialize(self, request: Any) -> None:
        self.send({"id": request, "error": {"code": -32603, "message": "out of licences"}})


class Exits(Peer):
    """Ends at once, with a code and a word why."""

    def run(self) -> None:
        sys.stderr.write("hostile: no API key: set HOSTILE_KEY\n")
        sys.exit(3)


class ExitsLater(Peer):
    """Ends in the middle of a call, with a code and a word why."""

    def call(self, request: Any, params: Message) -> None:
        sys.stderr.write("hostile: out of memory\n")
        sys.stderr.flush()
        os._exit(3)


class ClosesStdout(Peer):
    """Closes its output in the middle of a call, and stays alive."""

    def call(self, request: Any, params: Message) -> None:
        _close(1)


class ClosesStdin(Peer):
    """Closes its input in the middle of a call, answers it, and stays alive."""

    def receive(self, message: Message) -> None:
        if message.get("method") == "tools/call":
            _close(0)
            self.answer(message["id"], self.result(message["params"]))
            _live_on()
        super().receive(message)


class Stops(Peer):
    """Stops itself in the middle of a call, as a debugger would."""

    def call(self, request: Any, params: Message) -> None:
        # Sent to the process, it could reach another thread, and this one be a word ahead.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        super().call(request, params)  # once somebody continues it


class Stays(Peer):
    """Heeds neither the end of its input nor SIGTERM."""

    def run(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for line in sys.stdin.buffer:
            self.receive(json.loads(line))
        os.write(2, b"hostile: staying\n")
        _live_on()


class Deaf(Peer):
    """Reads nothing after the list of tools, so that what is sent to it is held up."""

    def receive(self, message: Message) -> None:
        if message.get("method") == "tools/list":
            self.answer(message["id"], {"tools": self.tools()})
            _live_on()
        super().receive(message)


class WithoutTools(Peer):
    """Offers no tools, and says so."""

    def initialize(self, request: Any) -> None:
        self.answer(
            request,
            {
                "protocolVersion": VERSION,
                "capabilities": {},
                "serverInfo": {"name": "hostile", "version": "1"},
            },
        )


class ListsOnce(Peer):
    """Says that its tools have changed, and then cannot list them any more."""

    listed = False

    def receive(self, message: Message) -> None:
        if message.get("method") == "tools/list" and self.listed:
            error = {"code": -32603, "message": "the list is lost"}
            self.send({"id": message["id"], "error": error})
            return
        super().receive(message)
        if message.get("method") == "tools/list":
            self.listed = True
            self.notify("notifications/tools/list_changed")


class AsksThenFails(Peer):
    """Asks for folders in the middle of a call, and fails without them."""

    def call(self, request: Any, params: Message) -> None:
        self.send({"id": "asked", "method": "roots/list"})
        text = [{"type": "text", "text": "no folders"}]
        self.answer(request, {"content": text, "isError": True})


class AsksThenDies(Peer):
    """Asks for folders in the middle of a call, and is killed."""

    def receive(self, message: Message) -> None:
        super().receive(message)
        if message.get("id") == "asked":
            os.kill(os.getpid(), signal.SIGKILL)  # it was answered

    def call(self, request: Any, params: Message) -> None:
        self.send({"id": "asked", "method": "roots/list"})


def _close(stream: int) -> None:
    """
    Close a stream, and what else leads there: uvloop gives its children a second of each.
    """
    end = os.fstat(stream)
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.path.samestat(os.fstat(fd), end):
                os.close(fd)
        except OSError:  # that with which the directory itself was read
            pass


def _live_on() -> None:
    """
    Stay as long as there is somebody who could be bothered by it.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(0)


LIFECYCLE: dict[str, type[Peer]] = {
    "mute": Mute,
    "version": Version,
    "refuses_initialize": RefusesInitialize,
    "exits": Exits,
    "exits_later": ExitsLater,
    "closes_stdout": ClosesStdout,
    "closes_stdin": ClosesStdin,
    "stops": Stops,
    "stays": Stays,
    "deaf": Deaf,
    "without_tools": WithoutTools,
    "asks_then_fails": AsksThenFails,
    "asks_then_dies": AsksThenDies,
    "lists_once": ListsOnce,
}
