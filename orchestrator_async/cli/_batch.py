"""
Many calls side by side, as they come, and their results as they are there.

Memory is bounded by the number of calls that may run: a call keeps its place until its
result has been written, and no line is read before there is a place for it. So a reader
who is slow holds up the calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from orchestrator_async import ToolOrchestrator
from orchestrator_async._calls import ToolResult

from ._answering import answer
from ._errors import CliError
from ._lines import Line, Lines, UnreadableError, call_in
from ._shown import as_json, record_of
from ._stdio import Output


@dataclass(kw_only=True, slots=True)
class Tally:
    """
    How far a batch has come.

    Attributes:
        read: Bytes that were read.
        begun: Calls that were begun.
        answered: Calls whose results were written.
        failed: Those of them that were not ok.
    """

    read: int = 0
    begun: int = 0
    answered: int = 0
    failed: int = 0


class Batch:
    """
    Makes the calls of a file.

    Args:
        orch: Runs the tools.
        output: Where the results go.
        limit: How many calls may run at one time.
        ordered: Whether the results have the order of the calls.
        tally: Is kept up to date.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        output: Output,
        *,
        limit: int,
        ordered: bool,
        tally: Tally,
    ) -> None:
        self._orch = orch
        self._output = output
        self._ordered = ordered
        self._tally = tally
        self._places = anyio.Semaphore(limit)
        self._writing = anyio.Lock()
        self._pending: list[str] = []
        self._failure: CliError | None = None

    @property
    def is_cut_off(self) -> bool:
        """
        Whether nobody reads the results any more.
        """
        return self._failure is not None and not str(self._failure)

    async def run(self, read: Callable[[], Awaitable[bytes]]) -> None:
        """
        Make all calls, and return when their results have been written.

        Args:
            read: Gives more of the file, and nothing at its end.

        Raises:
            CliError: Something cannot be read or written.
        """
        async with anyio.create_task_group() as group:
            try:
                await self._begin(group, read)
            except CliError as error:
                self._failed(group, error)
        if self._failure is not None:
            raise self._failure

    async def _begin(self, group: TaskGroup, read: Callable[[], Awaitable[bytes]]) -> None:
        lines, before = Lines(), anyio.Event()
        before.set()
        while True:
            chunk = await read()
            self._tally.read += len(chunk)
            for line in lines.feed(chunk):
                await self._places.acquire()
                self._tally.begun += 1
                due = anyio.Event()
                group.start_soon(self._work, group, line, before, due)
                before = due
            if not chunk:
                return

    async def _work(
        self,
        group: TaskGroup,
        line: Line,
        before: anyio.Event,
        due: anyio.Event,
    ) -> None:
        try:
            result = await self._result(line)
            text = as_json({"line": line.number, **record_of(result)})
            if self._ordered:
                await before.wait()
            self._pending.append(text)
            due.set()
            await self._write_pending()
        except CliError as error:
            self._failed(group, error)
            return
        self._tally.answered += 1
        self._tally.failed += not result.ok
        self._places.release()

    async def _write_pending(self) -> None:
        """
        Return when all that is pending has been written: by this task, or by the one that
        wrote while it waited.
        """
        async with self._writing:
            text = "".join(self._pending)
            self._pending.clear()
            if text:
                await self._output.send(text)

    async def _result(self, line: Line) -> ToolResult:
        try:
            call = call_in(line)
        except UnreadableError as error:
            message = str(error)
            return ToolResult(name="", call_id=error.call_id, content=message, error=error)
        return await answer(self._orch, call)

    def _failed(self, group: TaskGroup, error: CliError) -> None:
        # Not raised within the group, which would make a group of errors of it.
        self._failure = error
        group.cancel_scope.cancel()
