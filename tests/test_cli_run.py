"""
The terminal program's ``run``: many calls out of a file, or as they come.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async.cli._batch import Batch, Tally
from orchestrator_async.cli._errors import CliError
from orchestrator_async.cli._lines import MAX_LINE, Line, Lines, UnreadableError, call_in
from orchestrator_async.cli._stdio import Output

from .cli_program import START, TOOLS, begun, environment, in_a_terminal, run, without_codes
from .support import Service, when_blocked
from .test_cli import on_each_backend

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX streams")

CALLS = [
    {"name": "add", "args": {"a": 1, "b": 2}, "id": "ours"},
    {"name": "add", "arguments": '{"a": 2, "b": 2}', "id": 7},
    {"id": "openai", "function": {"name": "add", "arguments": '{"a": 3, "b": 2}'}},
    {"type": "function_call", "call_id": "responses", "name": "add", "arguments": "{}"},
    {"type": "tool_use", "id": "anthropic", "name": "call_id", "input": {}},
]


def jsonl(calls: Iterable[Any]) -> str:
    return "".join(f"{json.dumps(each)}\n" for each in calls)


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


# --- the program ----------------------------------------------------------------------


@posix
@on_each_backend
def test_each_call_of_a_file_is_answered_with_its_line_and_id(
    backend: str, tmp_path: Path
) -> None:
    (tmp_path / "calls.jsonl").write_text(f"\n{jsonl(CALLS)}".rstrip("\n"))
    ended = run("run", "calls.jsonl", "--backend", backend, cwd=tmp_path)
    assert ended.code == 1
    found = {each["line"]: (each["id"], each["content"][:9]) for each in records(ended.out)}
    assert found == {
        2: ("ours", "3"),
        3: ("7", "4"),
        4: ("openai", "5"),
        5: ("responses", '{"error":'),
        6: ("anthropic", "anthropic"),
    }


@posix
def test_all_is_well_if_all_calls_are_ok() -> None:
    ended = run("run", "-", input=jsonl(CALLS[:3]))
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert lines[0] == "3 answered, 0 failed"
    assert lines[1].split() == [
        "tool",
        "calls",
        "ok",
        "failed",
        "refused",
        "invalid",
        "average",
    ]
    assert lines[2].split()[:6] == ["add", "3", "3", "0", "0", "0"]
    assert run("run", input="") == (0, "", "0 answered, 0 failed\n")


@posix
def test_figures_are_one_object_of_json_on_request() -> None:
    ended = run("run", "--json", input=jsonl([*CALLS, {"name": "fail"}]))
    figures = json.loads(ended.err)
    assert (figures["answered"], figures["failed"]) == (6, 2)
    assert figures["tools"]["add"]["successes"] == 3
    assert figures["tools"]["fail"]["last_error"] == "ConnectionError: no route  to host"


@posix
def test_a_line_that_cannot_be_read_has_its_error_in_its_place() -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps(CALLS[0]).encode(),
        b"  \r",
        b"{nope",
        b"\xff",
        b"9" * 5000,
        b'{"id": "x", "type": "text"}',
        b"[]",
        b'{"args": {}}',
        b'{"name": 3}',
        json.dumps(CALLS[2]).encode() + b"\r",
    ]
    ended = run("run", "--ordered", input=b"\n".join(lines))
    assert ended.code == 1
    found = records(ended.out)
    assert [each["line"] for each in found] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [each["ok"] for each in found] == [True, *[False] * 7, True]
    assert found[1]["content"].startswith("Line 3 is no JSON: ")
    assert found[1]["content"].endswith(", at column 2.")
    assert found[2]["content"] == "Line 4 is not text in UTF-8."
    assert found[3]["content"].startswith("Line 5 is no JSON that can be read: ")
    for each in found[4:8]:
        assert '{"name": ..., "args": {...}, "id": ...}' in each["content"]
    assert [each["id"] for each in found] == [
        "ours",
        *[None] * 3,
        "x",
        *[None] * 3,
        "openai",
    ]
    assert "9 answered, 7 failed" in ended.err


@posix
@on_each_backend
def test_a_call_is_answered_before_the_next_line_comes(backend: str) -> None:
    with begun("run", "-", "--backend", backend) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(jsonl([{"name": "add", "args": {"a": number, "b": 0}}]))
            assert json.loads(process.stdout.readline())["content"] == str(number)
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdin = None


@posix
@on_each_backend
def test_what_tools_print_is_not_among_the_results(backend: str) -> None:
    ended = run("run", "--backend", backend, input=jsonl([{"name": "talk"}] * 2))
    assert [each["content"] for each in records(ended.out)] == ["read ''"] * 2
    assert ended.err.count("from the tool\n") == 2
    assert ended.err.count("from its program ''\n") == 2


@posix
@on_each_backend
def test_one_call_does_not_wait_for_another_unless_the_order_is_to_be_kept(
    backend: str,
) -> None:
    with begun("run", "-", "--limit", "2", "--backend", backend) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(jsonl([{"name": "hang"}, *CALLS[:3]]))
        lines = [json.loads(process.stdout.readline())["line"] for _ in range(3)]
        assert lines == [2, 3, 4]


@posix
def test_a_reader_that_leaves_ends_it_quietly_and_cancels_what_runs() -> None:
    with begun("run", "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(jsonl([{"name": "hang"}]))
        assert process.stderr.readline() == "started\n"
        process.stdout.close()
        process.stdin.write(jsonl([{"name": "add", "args": {"a": 1, "b": 1}}]))
        assert process.stderr.read() == "cleaned up\n"
        assert process.wait(30) == 1
        process.stdin.close()
        process.stdin = process.stdout = None


@posix
def test_input_that_breaks_off_is_said_after_the_figures(tmp_path: Path) -> None:
    ended = run("run", ".", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "0 answered, 0 failed\norchestrator-async: . cannot be read: Is a directory.\n"
    )


@posix
@on_each_backend
def test_pipes_that_do_not_block_are_waited_for(backend: str) -> None:
    # Whoever has the other end may have made them so: they share the flag.
    ours, theirs = os.pipe(), os.pipe()
    for descriptor in (ours[0], theirs[1]):
        os.set_blocking(descriptor, False)
    size = 300_000
    process = subprocess.Popen(
        [*START, "run", "--backend", backend, "--tools", f"{TOOLS}:registry"],
        stdin=ours[0],
        stdout=theirs[1],
        stderr=subprocess.PIPE,
        env=environment(),
    )
    os.close(ours[0])
    os.close(theirs[1])
    try:
        with open(theirs[0], encoding="utf-8") as results, open(ours[1], "w") as calls:
            for number in (1, 2):
                call = {"name": "echo", "args": {"text": str(number), "times": size}}
                calls.write(jsonl([call]))
                calls.flush()
                assert json.loads(results.readline())["content"] == str(number) * size
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


# --- on a terminal --------------------------------------------------------------------


@posix
@on_each_backend
def test_a_terminal_is_shown_how_far_it_is(backend: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    seen: list[str] = []

    def watch(process: subprocess.Popen[bytes], shown: str) -> None:
        if "0 answered, 0 failed, 0 running" in shown and not seen:
            seen.append(shown)
            os.write(write, jsonl([{"name": "talk"}, {"name": "fail"}]).encode())
        if "2 answered, 1 failed, 0 running" in shown and len(seen) == 1:
            seen.append(shown)
            os.close(write)

    with open(tmp_path / "out", "wb") as out:
        code, shown = in_a_terminal(
            "run",
            "-",
            "--backend",
            backend,
            streams=["stderr"],
            watch=watch,
            stdin=read,
            stdout=out,
        )
    os.close(read)
    assert code == 1
    assert len(seen) == 2
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    text = without_codes(shown)
    assert "from the tool" in text
    assert "2 answered, 1 failed\ntool" in text
    assert {each["ok"] for each in records((tmp_path / "out").read_text())} == {True, False}


@posix
def test_a_file_is_shown_as_a_bar(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text(jsonl([CALLS[0]] * 200))
    with open(tmp_path / "out", "wb") as out:
        code, shown = in_a_terminal(
            "run", str(tmp_path / "calls"), streams=["stdin", "stderr"], stdout=out
        )
    assert code == 0
    assert "━" in shown
    assert "200 answered, 0 failed, 0 running" in without_codes(shown)


@posix
@pytest.mark.parametrize(
    ("streams", "env"),
    [(["stdout", "stderr"], {}), (["stderr"], {"TERM": "dumb"})],
    ids=["results on the same screen", "dumb terminal"],
)
def test_there_is_no_bar_where_it_would_be_in_the_way(
    streams: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "calls").write_text(jsonl([CALLS[0]]))
    with open(tmp_path / "out", "wb") as out:
        others: dict[str, Any] = {} if "stdout" in streams else {"stdout": out}
        _, shown = in_a_terminal(
            "run",
            str(tmp_path / "calls"),
            streams=streams,
            env=env,
            stdin=subprocess.DEVNULL,
            **others,
        )
    assert "running" not in shown
    assert "\x1b[?25l" not in shown
    assert "1 answered, 0 failed" in shown


# --- the batch ------------------------------------------------------------------------


class Gate(Output):
    """
    An output whose reader is slow: nothing is written until it is opened.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.gate = anyio.Event()
        self.texts: list[str] = []

    async def send(self, text: str) -> None:
        await self.gate.wait()
        self.texts.append(text)

    @property
    def lines(self) -> list[int]:
        return [each["line"] for each in records("".join(self.texts))]


class Feed:
    """
    A long file of calls that counts how much of it is read.
    """

    def __init__(self, calls: int, name: str = "tool") -> None:
        self.left = calls
        self.name = name

    async def __call__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.left:
            return b""
        self.left -= 1
        return jsonl([{"name": self.name}]).encode()


def batch(
    service: Service, output: Output, *, limit: int, ordered: bool = False
) -> tuple[Batch, Tally]:
    registry, tally = Registry(), Tally()
    service.offer(registry)
    orch = ToolOrchestrator(registry)
    return Batch(orch, output, limit=limit, ordered=ordered, tally=tally), tally


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_reader_that_is_slow_holds_up_the_calls_and_the_input(
    ordered: bool,
) -> None:
    service, output, feed = Service(), Gate(), Feed(50)
    made, tally = batch(service, output, limit=3, ordered=ordered)
    async with anyio.create_task_group() as group:
        group.start_soon(made.run, feed)
        await when_blocked()
        assert service.runs == 3
        assert feed.left == 50 - 4  # and one that waits for a place
        output.gate.set()
    assert sorted(output.lines) == list(range(1, 51))
    assert (tally.begun, tally.answered, tally.failed) == (50, 50, 0)
    assert service.most_running <= 3


async def test_results_keep_the_order_of_the_calls_if_they_are_to() -> None:
    release = [anyio.Event() for _ in range(3)]
    turns = iter(release)

    async def wait() -> str:
        await next(turns).wait()
        return "done"

    output = Gate()
    output.gate.set()
    made, _ = batch(Service(wait), output, limit=3, ordered=True)
    async with anyio.create_task_group() as group:
        group.start_soon(made.run, Feed(3))
        await when_blocked()
        release[2].set()
        release[1].set()
        await when_blocked()
        assert output.lines == []
        release[0].set()
    assert output.lines == [1, 2, 3]


async def test_output_that_breaks_ends_the_calls_that_run() -> None:
    cancelled: list[str] = []

    async def wait() -> str:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.append("yes")
            raise
        return ""

    class Broken(Gate):
        async def send(self, text: str) -> None:
            await anyio.lowlevel.checkpoint()
            raise CliError("no space", 1)

    service = Service(wait)
    made, tally = batch(service, Broken(), limit=5)
    feed = Feed(2)

    async def read() -> bytes:
        if not feed.left:
            await when_blocked()
            feed.name, feed.left = "nobody", 100
        return await feed()

    with pytest.raises(CliError, match="no space"):
        await made.run(read)
    assert cancelled == ["yes"] * 2
    assert tally.answered == 0
    assert not made.is_cut_off


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_batch_can_be_cancelled_wherever_it_waits(ordered: bool) -> None:
    service, output = Service(), Gate()
    made, tally = batch(service, output, limit=2, ordered=ordered)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(made.run, Feed(9)))
            await when_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert (service.running, tally.answered) == (0, 0)


# --- lines ----------------------------------------------------------------------------


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_lines_are_the_same_however_they_come(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(places) if a < b]
    lines = Lines()
    found = [line for chunk in [*chunks, b""] for line in lines.feed(chunk)]
    whole = enumerate(data.split(b"\n"), 1)
    assert found == [Line(number, line) for number, line in whole if line.strip()]


def test_of_a_line_that_is_too_long_nothing_is_kept() -> None:
    lines, piece = Lines(), b"x" * (MAX_LINE // 4)
    for _ in range(4):
        assert list(lines.feed(piece)) == []
    assert list(lines.feed(b"\n" + piece)) == [Line(1, piece * 4)]
    for _ in range(9):
        assert list(lines.feed(piece)) == []
    assert lines._held == []
    assert list(lines.feed(b"\n{}\n")) == [Line(2, None), Line(3, b"{}")]
    with pytest.raises(
        UnreadableError, match="Line 2 is too long: more than 10,000,000 bytes"
    ):
        call_in(Line(2, None))


def test_a_line_that_is_nested_too_deep_is_no_tool_call() -> None:
    with pytest.raises(UnreadableError, match="Line 1 is no JSON that can be read"):
        call_in(Line(1, b"[" * 100_000))
