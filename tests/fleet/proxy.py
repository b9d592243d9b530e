"""
A proxy before an engine, which can be far from it, or lose it.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 65536


class Proxy:
    """
    Passes on what it gets.

    Attributes:
        delay: Seconds by which it delays what the engine says; infinite to say nothing.
        port: Where it listens on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        """
        Args:
            port: Of the engine.
        """
        self.delay = 0.0
        self.port = 0
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._listening = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._run()]
        )

    @property
    def url(self) -> str:
        """
        The engine, as seen through it.
        """
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)
        self._loop.close()

    def cut(self) -> None:
        """
        End all connections.
        """
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopping.wait()
        server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.add(far_writer)
            there = asyncio.create_task(self._pass_on(reader, far_writer, False))
            back = asyncio.create_task(self._pass_on(far_reader, writer, True))
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            far_writer.transport.abort()
            there.cancel()
            back.cancel()
            self._writers.discard(far_writer)
        self._writers.discard(writer)
        writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.create_task(self._write(queue, writer))
        try:
            while data := await reader.read(_CHUNK):
                due = self._loop.time() + (self.delay if slow else 0.0)
                queue.put_nowait((due, data))
        except OSError:
            pass
        finally:
            writing.cancel()

    async def _write(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while True:
                due, data = await queue.get()
                if due == math.inf:
                    continue
                if (rest := due - self._loop.time()) > 0:
                    await asyncio.sleep(rest)
                writer.write(data)
                await writer.drain()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """
    A proxy before the engine of this port.
    """
    it = Proxy(port)
    it.start()
    try:
        yield it
    finally:
        it.close()
