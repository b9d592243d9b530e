"""
A gateway on the standard input and output of its process.

The SDK has this transport too. Here what waits for input is no reason for the process not to
end, and what anybody prints is not on the wire.
"""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from orchestrator_async._threads import Slots, ThreadedCall

from ._wire import Wire

if TYPE_CHECKING:
    from ._gateway import Gateway

T = TypeVar("T")

_CHUNK: Final = 65_536
_LAST_WORDS: Final = 1.0
"""Seconds for what is left to be written, when the input has ended."""


async def serve_stdio(gateway: Gateway) -> None:
    """
    Serve one host on the standard input and output, until the input ends.

    From here on the process's own standard input is empty, and what anybody prints goes to
    standard error, also what its children print.

    Args:
        gateway: What is served.
    """
    server = gateway.server()
    with _taken() as (read, write):
        wire = Wire(
            lambda: _in_thread(functools.partial(_read, read)),
            lambda data: _in_thread(functools.partial(_write, write, data)),
        )
        incoming, read_stream = anyio.create_memory_object_stream[Any](0)
        write_stream, outgoing = anyio.create_memory_object_stream[Any](0)
        with incoming, read_stream, write_stream, outgoing:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wire.read, incoming)
                tasks.start_soon(wire.write, outgoing)
                options = server.create_initialization_options()
                await server.run(read_stream, write_stream, options)
                with anyio.move_on_after(_LAST_WORDS):
                    await wire.written.wait()
                tasks.cancel_scope.cancel()


@contextmanager
def _taken() -> Iterator[tuple[int, int]]:
    """
    Take the standard streams away from everybody else, and give them back.
    """
    sys.stdout.flush()
    read, write = os.dup(0), os.dup(1)
    try:
        empty = os.open(os.devnull, os.O_RDONLY)
        try:
            os.dup2(empty, 0)
        finally:
            os.close(empty)
        os.dup2(2, 1)
        yield read, write
        sys.stdout.flush()
    finally:
        os.dup2(read, 0)
        os.dup2(write, 1)
        # The copies stay open: a thread may still wait there, and the number that it has must
        # not become that of another file.


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:  # another process has made it so
            select.select([descriptor], [], [])
        except OSError:
            return b""  # a terminal or a socket that has gone


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
        except OSError:
            return  # nobody reads any more, and the end of the input says so


async def _in_thread(fn: Callable[[], T]) -> T:
    """
    Run it in a thread that nobody waits for if this is cancelled.
    """
    slots = Slots(1)
    slots.take()
    value: T = await ThreadedCall(slots).wait(fn)
    return value
