"""
The standard streams, which are the program's own: tools have others in their place.

What a tool prints, or a program that it runs, would stand among the results; and what it
reads would be missing among the calls. So the descriptors themselves are changed, and not
only ``sys.stdout``. Reading and writing is done in daemon threads: whoever waits there can
be cancelled, on every loop and for every kind of file, and the loop is never held.
"""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from orchestrator_async._threads import Slots, ThreadedCall

from ._errors import CliError

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

_CHUNK: Final = 65536


class Stdio:
    """
    The standard streams as the program was given them.

    Attributes:
        input: The descriptor to read from, or ``None`` if there is none.
        output: Where results go.
    """

    def __init__(self, input: int | None, output: Output) -> None:
        self.input = input
        self.output = output

    @classmethod
    def take(cls) -> Self:
        """
        Take the streams from the process: from here on its standard input is empty, and its
        standard output is what its standard error is.
        """
        for number in (0, 1, 2):
            _fill(number)
        kept = [
            None if stream is None else os.dup(number)
            for number, stream in enumerate((sys.stdin, sys.stdout))
        ]
        _replace(0, os.open(os.devnull, os.O_RDONLY))
        _replace(1, os.dup(2))
        if sys.stdout is not None:
            # What is printed is to be seen when it is, and not at the end.
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return cls(kept[0], Output(kept[1]))

    def give_back(self) -> None:
        """
        Put the streams back, for whoever keeps them from tools himself.

        Raises:
            CliError: One of them is not there.
        """
        if self.input is None or self.output.descriptor is None:
            raise CliError("There is no standard input and output to serve on.")
        sys.stdout.flush()
        os.dup2(self.input, 0)
        os.dup2(self.output.descriptor, 1)


def _fill(number: int) -> None:
    """
    Have something behind a standard stream that whoever started the process has closed, lest
    the next file that is opened be taken for it.
    """
    try:
        os.fstat(number)
    except OSError:
        _replace(number, os.open(os.devnull, os.O_RDWR))


def _replace(number: int, descriptor: int) -> None:
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)


class Output:
    """
    Standard output, for results.

    Attributes:
        descriptor: The descriptor, or ``None`` if there is none.
        is_terminal: Whether somebody reads it on a screen.
    """

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor
        self.is_terminal = descriptor is not None and os.isatty(descriptor)

    def write(self, text: str) -> None:
        """
        Write the text, all of it.

        Raises:
            CliError: It cannot be written. The message is empty if nobody reads any more.
        """
        if self.descriptor is None:
            raise CliError("There is no standard output to write to.", 1)
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[_written(self.descriptor, left) :]
        except BrokenPipeError:
            raise CliError("", 1) from None
        except OSError as error:
            raise CliError(f"The output cannot be written: {error.strerror}.", 1) from None

    async def send(self, text: str) -> None:
        """
        Write the text, while the loop goes on. One task at a time.

        Raises:
            CliError: As for ``write``.
        """
        await in_thread(functools.partial(self.write, text))

    def show(self, *things: Any) -> None:
        """
        Write what rich makes of the things on a terminal or in a file such as this.

        Raises:
            CliError: As for ``write``.
        """
        if self.descriptor is None:
            raise CliError("There is no standard output to write to.", 1)
        with open(self.descriptor, "w", encoding="utf-8", closefd=False) as file:
            console = _console(file)
            with console.capture() as captured:
                for each in things:
                    console.print(each)
        self.write(captured.get())


def _console(file: Any) -> Console:
    from rich.console import Console

    return Console(file=file, markup=False, highlight=False, emoji=False)


def _written(descriptor: int, data: memoryview) -> int:
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:  # another process has made it so
            select.select([], [descriptor], [])


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            select.select([descriptor], [], [])


async def read_chunk(descriptor: int, name: str) -> bytes:
    """
    What there is to read, as soon as there is anything; nothing at the end.

    Args:
        descriptor: Where from.
        name: What a person calls it.

    Raises:
        CliError: It cannot be read.
    """
    try:
        return await in_thread(functools.partial(_read, descriptor))
    except OSError as error:
        raise CliError(f"{name} cannot be read: {error.strerror}.") from None


async def read_all(descriptor: int, name: str, most: int) -> bytes:
    """
    All that there is to read.

    Raises:
        CliError: It cannot be read, or is more than so many bytes.
    """
    read = bytearray()
    while chunk := await read_chunk(descriptor, name):
        read += chunk
        if len(read) > most:
            raise CliError(f"{name} is too long: more than {most:,} bytes.")
    return bytes(read)


def opened(path: str) -> int:
    """
    The descriptor of a file that is to be read.

    Raises:
        CliError: It cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}.") from None


async def in_thread(fn: Callable[[], T]) -> T:
    """
    Run it in a thread that nobody waits for if this is cancelled.
    """
    slots = Slots(1)
    slots.take()
    value: T = await ThreadedCall(slots).wait(fn)
    return value
