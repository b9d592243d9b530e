"""
The judge that tells errors of the service from those of the caller, and how often it is right.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest
from mcp_types import CallToolResult, ErrorData, ImageContent, TextContent

from orchestrator_async import (
    CircuitOpenError,
    CircuitState,
    InvalidArgumentsError,
    Outcome,
    Registry,
    ToolContext,
    ToolOrchestrator,
    Verdict,
    service_errors,
)
from orchestrator_async._error_patterns import (
    BLAMING_ERRNOS,
    CALL,
    CODE,
    LIMIT,
    LOOK,
    OPENINGS,
    PHRASE,
    ROWS,
    SERVICE,
    TYPES,
    WORD,
    Opening,
    Patterns,
    Row,
    words_of,
)
from orchestrator_async._error_weights import STARTS, WORDS
from orchestrator_async._error_words import Weights, parts_of
from tests.corpus import fit, score
from tests.corpus.found import CORPUS, FORMS, LABELS, Found, load, skeleton

FAILURE, IGNORE, SUCCESS = Verdict.FAILURE, Verdict.IGNORE, Verdict.SUCCESS


def raised(error: BaseException, **more: Any) -> Verdict:
    return service_errors(Outcome(error=error, **more))


def returned(value: Any) -> Verdict:
    return service_errors(Outcome(value=value))


def said(text: str) -> Verdict:
    return returned({"error": text})


def refused() -> CircuitOpenError:
    return CircuitOpenError(
        tool_name="other", circuit="other", state="open", failures=3, retry_after=1.0
    )


# --- what is raised


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (FileNotFoundError(2, "No such file or directory"), IGNORE),
        (FileNotFoundError("x"), IGNORE),
        (PermissionError(13, "Permission denied"), IGNORE),
        (KeyError("timeout"), IGNORE),
        (IndexError("list index out of range"), IGNORE),
        (ValueError("x"), IGNORE),
        (ValueError("the store answered: connection refused"), FAILURE),
        (ZeroDivisionError("division by zero"), IGNORE),
        (NotImplementedError(), IGNORE),
        (re.error("bad pattern, timeout"), IGNORE),
        (json.JSONDecodeError("Expecting value", "<html>", 0), FAILURE),
        (ConnectionRefusedError(111, "x"), FAILURE),
        (ConnectionError("not found"), FAILURE),
        (TimeoutError("no such file"), FAILURE),
        (MemoryError(), FAILURE),
        (EOFError(), FAILURE),
        (subprocess.TimeoutExpired("x", 1), FAILURE),
        (OSError(errno.ENOSPC, "x"), FAILURE),
        (OSError(errno.EHOSTUNREACH, "x"), FAILURE),
        (OSError(errno.EINVAL, "x"), IGNORE),
        (OSError(123456, "no such file"), IGNORE),
        (OSError("no such file"), IGNORE),
        (OSError(), FAILURE),
        (RuntimeError(), FAILURE),
        (AttributeError("'X' object has no attribute 'y'"), IGNORE),
        (SystemExit(3), FAILURE),
    ],
)
def test_an_exception_is_placed_by_its_type_or_else_by_its_words(
    error: BaseException, verdict: Verdict
) -> None:
    assert raised(error) is verdict


class OfStatus(Exception):
    def __init__(self, status: object, text: str = "", at: str = "status_code") -> None:
        super().__init__(text)
        setattr(self, at, status)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((each, IGNORE) for each in (400, 403, 404, 405, 409, 410, 413, 422, 451)),
        *((each, FAILURE) for each in (401, 402, 407, 408, 421, 425, 429, 500, 503, 599)),
    ],
)
def test_a_status_counts_before_words(status: int, verdict: Verdict) -> None:
    other = "connection refused" if verdict is IGNORE else "no such file"
    assert raised(OfStatus(status, other)) is verdict
    assert (
        raised(OfStatus(SimpleNamespace(status_code=status), other, "response")) is verdict
    )
    assert returned({"error": other, "status": status}) is verdict
    assert returned({"error": {"message": other, "code": status}}) is verdict


def test_a_quota_counts_before_a_status() -> None:
    assert raised(OfStatus(403, "API rate limit exceeded for user")) is FAILURE
    assert raised(OfStatus(400, "Your credit balance is too low")) is FAILURE
    assert returned({"error": "quota exceeded", "status": 403}) is FAILURE


def test_what_the_system_says_of_a_number_is_placed_as_the_number_is() -> None:
    failing = (
        "ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ETIMEDOUT ENETDOWN ENETUNREACH ENETRESET "
        "EHOSTDOWN EHOSTUNREACH ENOTCONN EADDRINUSE EADDRNOTAVAIL ENOBUFS ENOSPC EDQUOT EMFILE "
        "ENFILE ENOMEM EIO EROFS ENODEV ENXIO ESTALE EAGAIN EBUSY EDEADLK ENOLCK EINTR"
    )
    for number in filter(None, BLAMING_ERRNOS):
        assert said(f"open: {os.strerror(number)}") is IGNORE, os.strerror(number)
    for name in failing.split():
        assert said(f"open: {os.strerror(getattr(errno, name))}") is FAILURE, name


def test_a_status_that_tells_of_no_error_leaves_it_to_the_words() -> None:
    assert raised(OfStatus(302, "no such file")) is IGNORE
    assert raised(OfStatus(204, "connection refused")) is FAILURE


def test_the_codes_of_other_protocols_are_read() -> None:
    class MCPError(Exception):
        def __init__(self, data: ErrorData) -> None:
            super().__init__(data.message)
            self.code = data.code

    assert raised(MCPError(ErrorData(code=-32602, message="x"))) is IGNORE
    assert raised(MCPError(ErrorData(code=-32001, message="x"))) is FAILURE
    assert raised(MCPError(ErrorData(code=-32603, message="no such table: x"))) is IGNORE
    assert raised(MCPError(ErrorData(code=-32603, message="x"))) is FAILURE
    assert raised(OfStatus("42P01", "x", "sqlstate")) is IGNORE
    assert raised(OfStatus("57P01", "x", "pgcode")) is FAILURE
    assert raised(OfStatus("SQLITE_BUSY", "x", "sqlite_errorname")) is FAILURE


def test_a_group_is_a_failure_if_one_of_its_members_is() -> None:
    blaming, failing = KeyError("x"), ConnectionError("x")
    assert raised(ExceptionGroup("x", [blaming, ValueError("y")])) is IGNORE
    inner = ExceptionGroup("not found", [blaming, failing])
    assert raised(ExceptionGroup("not found", [blaming, inner])) is FAILURE
    refusal = refused()
    assert raised(ExceptionGroup("x", [blaming, refusal])) is IGNORE
    assert raised(ExceptionGroup("x", [refusal])) is IGNORE


def test_what_cannot_be_placed_is_placed_by_its_cause() -> None:
    def caused(*causes: BaseException) -> BaseException:
        for error, cause in itertools.pairwise(causes):
            error.__cause__ = cause
        return causes[0]

    plain = [RuntimeError("x") for _ in range(9)]
    assert raised(caused(plain[0], KeyError("y"))) is IGNORE
    assert raised(caused(plain[1], ConnectionError("y"))) is FAILURE
    assert raised(caused(plain[2], ExceptionGroup("x", [KeyError("y")]))) is IGNORE
    assert raised(caused(RuntimeError("no such table"), ConnectionError("y"))) is IGNORE
    assert raised(caused(*plain, KeyError("y"))) is FAILURE  # too far down
    handled = RuntimeError("x")
    handled.__context__ = KeyError("y")
    assert raised(handled) is FAILURE  # it was only being handled


def test_refusals_and_blamed_arguments_keep_their_verdicts() -> None:
    context = ToolContext(tool_name="here")
    refusal = refused()
    assert raised(refusal) is IGNORE
    assert raised(InvalidArgumentsError("x", tool_name="here"), context=context) is IGNORE
    assert raised(InvalidArgumentsError("x"), context=context) is IGNORE
    inner = InvalidArgumentsError("invalid value", tool_name="other")
    assert raised(inner, context=context) is FAILURE
    answer = {"error": "it is down", "tool_name": "x", "circuit_breaker": True}
    assert returned(answer) is IGNORE
    assert returned(json.dumps(answer)) is IGNORE


# --- what is returned


class Model(pydantic.BaseModel):
    error: Any = None
    message: str = ""


@dataclasses.dataclass
class Data:
    error: Any = None


@pytest.mark.parametrize(
    "error", ["not found: x", {"message": "no such file"}, ["not found"]]
)
def test_a_returned_error_is_read_in_whatever_it_is(error: Any) -> None:
    for value in ({"error": error}, Model(error=error), Data(error)):
        assert returned(value) is IGNORE
    assert returned(json.dumps({"error": error})) is IGNORE
    assert returned(f"\n{json.dumps({'error': error}, indent=1)}") is IGNORE


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ({"error": True, "message": "no such file"}, IGNORE),
        ({"error": True, "message": "connection refused"}, FAILURE),
        ({"error": True}, FAILURE),
        ({"error": 404}, FAILURE),
        ({"error": "x", "error_type": "FileNotFoundError"}, IGNORE),
        ({"error": {"type": "rate_limit_error"}}, FAILURE),
        ({"error": {"code": -32602}}, IGNORE),
        ({"error": {"code": True, "message": "x"}}, FAILURE),
        ({"error": {"status": "NOT_FOUND", "message": "x"}}, IGNORE),
        ({"error": {"status": 302, "message": "not found"}}, IGNORE),
        ({"error": SimpleNamespace(message="not found")}, FAILURE),
        ({"success": False, "message": "no such table"}, IGNORE),
        ({"success": False, "message": "connection refused"}, FAILURE),
        ({"success": True, "message": "no such table"}, SUCCESS),
        ({"success": 0}, SUCCESS),
        ({"error": None, "rows": []}, SUCCESS),
        ({"error": ""}, SUCCESS),
        ({}, SUCCESS),
        ([{"error": "x"}], SUCCESS),
        (None, SUCCESS),
        (3, SUCCESS),
        (b"Error: x", SUCCESS),
        (object(), SUCCESS),
        ('{"error": ', SUCCESS),
        ('{"data": {"error": "x"}}', SUCCESS),
        ('{"\\u0065rror": "no such file"}', IGNORE),
        ('{"success": false, "message": "no such file"}', IGNORE),
        ('["error"]', SUCCESS),
    ],
)
def test_objects_and_their_texts_tell_of_errors(value: Any, verdict: Verdict) -> None:
    assert returned(value) is verdict


def mcp(text: str, *, is_error: bool) -> CallToolResult:
    block = TextContent(type="text", text=text)
    return CallToolResult(content=[block], is_error=is_error)


def test_a_result_of_mcp_is_known_by_its_shape() -> None:
    missing, down = "ENOENT: no such file or directory", "connect ECONNREFUSED 127.0.0.1:1"
    assert returned(mcp(missing, is_error=True)) is IGNORE
    assert returned(mcp(down, is_error=True)) is FAILURE
    assert returned(mcp("something else", is_error=True)) is FAILURE
    assert returned(mcp(missing, is_error=False)) is SUCCESS
    assert returned(mcp("Database error: no such table: x", is_error=False)) is IGNORE
    assert returned(mcp("Database error: disk I/O error", is_error=False)) is FAILURE
    assert returned(mcp('{"error": "no such file"}', is_error=False)) is IGNORE
    raw = {"content": [{"type": "text", "text": missing}], "isError": True}
    assert returned(raw) is IGNORE
    assert returned(SimpleNamespace(content=raw["content"], is_error=True)) is IGNORE


def test_only_blocks_with_a_text_are_read() -> None:
    image = ImageContent(type="image", data="bm90IGZvdW5k", mime_type="image/png")
    text = TextContent(type="text", text="not found")
    assert returned(CallToolResult(content=[image, text], is_error=True)) is IGNORE
    assert returned(CallToolResult(content=[image], is_error=True)) is FAILURE
    assert returned(CallToolResult(content=[], is_error=True)) is FAILURE
    error = TextContent(type="text", text="Error: not found")
    assert returned(CallToolResult(content=[error, text])) is SUCCESS  # one of several
    assert returned({"content": "Error: not found", "isError": True}) is SUCCESS
    assert returned({"content": [error], "isError": "yes"}) is SUCCESS


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Error: no such file", IGNORE),
        ("error: connection refused", FAILURE),
        ("Error: oops", FAILURE),
        ("  \nDatabase error: no such table: x", IGNORE),
        ("fatal: not a git repository", IGNORE),
        ("An unexpected error occurred", FAILURE),
        ("Error executing tool x: not found", IGNORE),
        ("Error calling tool 'x': not found", IGNORE),
        ("Failed to fetch http://x/: connection refused", FAILURE),
        ("KeyError: 'x'", IGNORE),
        ("MCP error -32602: Tool x not found", IGNORE),
        ("[Errno 2] No such file or directory: 'x'", IGNORE),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'x'\n", IGNORE),
        ("Traceback (most recent call last):\n  File x\nConnectionError\n", FAILURE),
        (
            "Traceback (most recent call last):\n  File x\nKeyError: 'x'\nand so on.",
            SUCCESS,
        ),
        ("Errors", SUCCESS),
        ("Errors: none", SUCCESS),
        ("Error rate: 0.2", SUCCESS),
        ("Mean squared error: 0.25", SUCCESS),
        ("Standard error: tiny", SUCCESS),
        ("System error: 5", SUCCESS),
        ("Error handling in Go: a tour", SUCCESS),
        ("ERROR: one\nERROR: two", SUCCESS),
        ("no such file", SUCCESS),
        ("Not found among the guests: Mr. Smith", SUCCESS),
        ("Error: " + "a long article about errors. " * 50, SUCCESS),
        ("", SUCCESS),
    ],
)
def test_a_text_is_an_error_only_if_its_beginning_says_so(
    text: str, verdict: Verdict
) -> None:
    assert returned(text) is verdict

    class Text(str):
        __slots__ = ()

    assert returned(Text(text)) is verdict


# --- what cannot be looked at


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("do not look")


class HostileError(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("do not look")

    def __str__(self) -> str:
        raise RuntimeError("do not look")


class Interrupting(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class InterruptingValue:
    @property
    def content(self) -> Any:
        raise KeyboardInterrupt


class InterruptingText:
    def __repr__(self) -> str:
        raise KeyboardInterrupt


def test_what_raises_when_it_is_looked_at_makes_the_judge_raise_nothing() -> None:
    assert raised(HostileError()) is FAILURE
    assert returned(Hostile()) is SUCCESS
    assert returned({"error": Hostile()}) is FAILURE
    deep: Exception = KeyError("x")
    for _ in range(5000):
        deep = ExceptionGroup("x", [deep])
    assert raised(deep) is FAILURE
    with pytest.raises(KeyboardInterrupt):
        raised(Interrupting())
    for value in (InterruptingValue(), {"error": [InterruptingText()]}):
        with pytest.raises(KeyboardInterrupt):
            returned(value)


@pytest.mark.parametrize(
    "piece",
    ["a", " ", "error ", "error: ", "no ", "404 ", "(", "'", "\n", "not ", "é", "aA"],
)
def test_a_megabyte_of_anything_is_read_at_both_ends_alone(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert len(words_of(text)) <= 4 * LOOK + 10
    assert returned(text) is SUCCESS
    said(text)
    raised(RuntimeError(text))
    returned(mcp(text, is_error=True))
    assert said("no such file " + "x " * 500_000) is IGNORE
    assert said("x " * 500_000 + " connection refused") is FAILURE
    assert said("x " * 250_000 + " connection refused" + " x" * 250_000) is FAILURE


# --- the rules of the table


def test_the_strongest_row_decides_and_the_service_where_both_are_equal() -> None:
    rows = [
        Row(WORD, SERVICE, "word", ""),
        Row(PHRASE, CALL, "phrase", ""),
        Row(PHRASE, SERVICE, "both", ""),
        Row(CODE, CALL, "code", ""),
        Row(LIMIT, SERVICE, "limit", ""),
    ]
    say = Patterns(rows, OPENINGS).say
    assert say("word phrase") is CALL
    assert say("both phrase") is SERVICE
    assert say("both code") is CALL
    assert say("code limit") is SERVICE
    assert say("code", at_most=LIMIT) is None
    assert say("words") is None


def test_names_are_read_as_words() -> None:
    for name in ("NOT_FOUND", "NotFound", "notFound", "Not   found", "not\nfound"):
        assert words_of(name) == "not found"
    assert words_of("can\N{RIGHT SINGLE QUOTATION MARK}t") == "can't"


def test_the_cause_that_a_text_names_is_asked_before_the_whole() -> None:
    assert said("fetch failed [cause]: Error: unknown scheme") is IGNORE
    assert said("cause: fetch failed, caused by something odd") is FAILURE
    assert said("no such table. Caused by: java.net.ConnectException: x") is FAILURE


def test_words_within_a_path_or_an_option_are_data() -> None:
    assert said("There is no branch, use --set-upstream") is IGNORE
    assert said("is not there: /srv/network/timeout") is IGNORE


def test_a_table_without_openings_takes_no_text_for_an_error() -> None:
    assert not Patterns(ROWS, []).begins_an_error("Error: x")


# --- the weights of words


WEIGHTS = Weights(
    words={"tea": -7, "cold": 30, "spoon": -30, "cup": -6, "big cup": 99},
    starts={"none": -1, "word call": 5, "word service": 0, "phrase service": 10},
)


def test_all_words_together_blame_the_call_where_one_of_them_does() -> None:
    assert WEIGHTS.blame_the_call("tea", "none")
    assert not WEIGHTS.blame_the_call("tea, cold", "none")
    assert WEIGHTS.blame_the_call("tea, cold, with a spoon", "none")
    assert WEIGHTS.blame_the_call("tea", "word service")
    assert not WEIGHTS.blame_the_call("tea", "phrase service")


def test_what_adds_up_to_nothing_is_a_failure() -> None:
    assert not WEIGHTS.blame_the_call("spoon and cold", "word service")


def test_a_text_blames_nobody_if_no_word_does_by_itself() -> None:
    assert not WEIGHTS.blame_the_call("cup", "none")
    assert not WEIGHTS.blame_the_call("", "none")
    assert not WEIGHTS.blame_the_call("", "word call")
    assert WEIGHTS.blame_the_call("cup", "word call")


def test_words_count_once_and_by_their_beginnings_and_pairs_end_at_a_stop() -> None:
    assert parts_of("connection connected, can't go") == {
        "connec", "connec connec", "can't", "can't go", "go",
    }  # fmt: skip


def test_data_in_a_text_is_not_read_as_words() -> None:
    for data in (
        "https://host/timeout?x=y",
        "'time out'",
        '"timeout"',
        "`a.b`",
        "../x/y.z",
    ):
        assert parts_of(f"is {data} here") == {"is", "_", "here", "is _", "_ here"}
    assert parts_of("don't 'say that it is' x") == {
        "don't", "say", "that", "it", "is", "x", "say that", "that it", "it is",
        "don't say", "is x",
    }  # fmt: skip
    assert parts_of("error executing tool a b: x") == {"_", "x", "_ x"}


def test_the_beginning_of_a_text_is_weighed() -> None:
    assert "cup" in parts_of("x " * 59 + "cup")
    assert "cup" not in parts_of("x " * 60 + "cup")


def test_words_are_weighed_where_the_table_is_weak() -> None:
    rows = [
        Row(CODE, SERVICE, "code", ""),
        Row(CODE, CALL, "code", ""),
        Row(PHRASE, SERVICE, "phrase|both", ""),
        Row(PHRASE, CALL, "blame|both", ""),
        Row(WORD, SERVICE, "serve", ""),
        Row(WORD, CALL, "call", ""),
    ]
    patterns = Patterns(rows, OPENINGS, WEIGHTS)
    for strong in ("code", "phrase", "caused by: phrase", "caused by: both"):
        assert patterns.say(f"spoon {strong}") is SERVICE
    assert patterns.say("cold blame") is CALL
    assert patterns.say("cold call") is SERVICE
    for weak in ("both", "serve", "call"):
        assert patterns.say(f"spoon {weak}") is CALL
    assert patterns.say("serve") is SERVICE
    assert patterns.say("spoon") is None
    assert patterns.guess("spoon") is CALL
    assert patterns.guess("cold") is SERVICE
    assert Patterns(rows).guess("spoon") is SERVICE


@pytest.mark.parametrize(
    "text", ["boom", "an error occurred", "operation failed", "42", ""]
)
def test_an_error_of_which_nothing_is_known_is_a_failure(text: str) -> None:
    assert raised(RuntimeError(text)) is FAILURE
    assert returned(mcp(text, is_error=True)) is FAILURE
    assert returned(mcp(f"Error executing tool x: {text}", is_error=True)) is FAILURE
    assert returned(mcp(f"Error calling tool 'x-y': {text}", is_error=True)) is FAILURE
    assert returned(mcp("Error calling tool 'x-y'", is_error=True)) is FAILURE
    assert returned({"error": text or True}) is FAILURE


# --- in an orchestrator


async def test_missing_files_do_not_take_a_tool_away_and_a_dead_database_does() -> None:
    registry, answer = Registry(), [""]

    @registry.tool(judge=service_errors)
    async def read(path: str) -> Any:
        return mcp(answer[0], is_error=True)

    orch = ToolOrchestrator(registry, failure_threshold=3)
    answer[0] = "ENOENT: no such file or directory, open '/x'"
    for _ in range(10):
        await orch.run("read", {"path": "x"})
    assert orch.circuit("read").state is CircuitState.CLOSED
    answer[0] = "could not connect to server: Connection refused"
    for _ in range(3):
        await orch.run("read", {"path": "x"})
    assert orch.circuit("read").state is CircuitState.OPEN


# --- the corpus


@pytest.fixture(scope="module")
def corpus() -> list[Found]:
    return load()


def test_the_corpus_is_large_and_of_many_sources(corpus: list[Found]) -> None:
    errors = [each for each in corpus if each.label != "content"]
    assert len(errors) >= 300
    assert len({each.source for each in errors}) >= 12
    labels = Counter(each.label for each in errors)
    assert min(labels.values()) >= 0.29 * len(errors)
    assert len(corpus) - len(errors) >= 50
    assert {each.label for each in corpus} == set(LABELS)
    assert {each.form for each in corpus} <= set(FORMS)


def test_no_text_of_the_corpus_is_there_twice(corpus: list[Found]) -> None:
    assert len({each.id for each in corpus}) == len(corpus)
    assert len({each.text for each in corpus}) == len(corpus)
    assert len(set(map(skeleton, corpus))) == len(corpus)


def test_no_text_of_the_corpus_has_a_path_of_the_machine_that_collected_it() -> None:
    text = CORPUS.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(?:tmp|root|work|home)/", text)


def everything_prompted() -> list[tuple[Row | Opening, list[str]]]:
    rows: list[Row | Opening] = [*ROWS, *OPENINGS]
    return [(row, row.prompted_by.split()) for row in rows if row.prompted_by != "standard"]


def test_each_row_matches_the_texts_that_prompted_it(corpus: list[Found]) -> None:
    by_id = {each.id: each for each in corpus}
    prompted = everything_prompted()
    assert len(prompted) > 20
    for row, ids in prompted:
        for name in ids:
            found = by_id[name]
            if isinstance(row, Opening):
                assert Patterns([], [row]).begins_an_error(found.text), name
                continue
            kind = found.types[0].rpartition(".")[2] if found.types else ""
            parts = [kind, found.attributes.get("sqlite_errorname", ""), found.text]
            assert Patterns([row], []).say(words_of(": ".join(filter(None, parts)))), name
            is_weaker = row.prompted_by in {shown_by for _, shown_by in score.RETIRED}
            label = "service" if row.says is SERVICE else "call"
            assert is_weaker or found.label == label, name
    for _, shown_by in score.RETIRED:
        assert all(name in by_id for name in shown_by.split())


def test_a_row_that_texts_of_several_folds_prompted_is_one_phrase(
    corpus: list[Found],
) -> None:
    """
    Were it several, one source could bring in a phrase under the name of another.
    """
    by_id = {each.id: each for each in corpus}
    for row, _ in everything_prompted():
        folds = score.folds_of(row.prompted_by, by_id, score.by_source)
        pattern = row.words if isinstance(row, Row) else row.begins
        pattern = re.sub(r"\\.", "", pattern)
        while "(" in pattern:
            pattern = re.sub(r"\([^()]*\)", "", pattern)
        assert len(folds) == 1 or "|" not in pattern, row


def test_a_fold_is_judged_without_the_rows_that_it_alone_prompted(
    corpus: list[Found],
) -> None:
    by_id = {each.id: each for each in corpus}
    without = score.patterns_without("bash", by_id, score.by_source)
    assert Patterns().say("x: unbound variable") is CALL
    assert without.say("x: unbound variable") is None
    assert without.say("no such file") is CALL
    back = score.patterns_without("rust", by_id, score.by_source)
    assert back.say("thread panicked at x") is SERVICE
    assert Patterns().say("thread panicked at x") is None


@pytest.fixture(scope="module")
def whole(corpus: list[Found]) -> fit.Fit:
    return fit.Fit(corpus)


@pytest.fixture(scope="module")
def crossed(corpus: list[Found], whole: fit.Fit) -> score.Score:
    return score.cross_validated(corpus, score.by_source, whole.weights)


@pytest.fixture(scope="module")
def by_families(corpus: list[Found]) -> score.Score:
    weights = fit.Fit(corpus, score.by_family).weights
    return score.cross_validated(corpus, score.by_family, weights)


def test_the_judge_is_as_right_on_sources_it_does_not_know_as_is_said_of_it(
    corpus: list[Found], crossed: score.Score, by_families: score.Score
) -> None:
    chance = fit.Fit(corpus, score.by_chance).weights
    assert score.cross_validated(corpus, score.by_chance, chance).share >= 0.95
    assert crossed.share >= 0.945
    assert crossed.share_of("service") >= 0.89
    assert crossed.share_of("call") >= 0.965
    assert crossed.share_of("content") >= 0.98
    assert by_families.share >= 0.935
    assert score.fitted(corpus, score.standard_only()).share >= 0.855


def test_the_weights_make_the_table_better_on_what_neither_knows(
    corpus: list[Found], crossed: score.Score, by_families: score.Score
) -> None:
    assert crossed.share > score.cross_validated(corpus).share + 0.01
    by_table = score.cross_validated(corpus, score.by_family).share
    assert by_families.share > by_table + 0.015


def test_the_weights_are_those_that_the_fit_gives(whole: fit.Fit) -> None:
    assert fit.written(whole.weights()) == fit.WEIGHTS.read_text(encoding="utf-8")


def test_the_weights_are_read_as_they_were_written(whole: fit.Fit) -> None:
    assert whole.weights() == Weights(words=WORDS, starts=STARTS)
    assert not {part for part in WORDS if {"nowher", "nonsen"} & set(part.split())}


def test_what_is_left_out_is_not_learned(corpus: list[Found], whole: fit.Fit) -> None:
    """
    What the fold left out is said to be makes no difference to what is learned without it.
    """
    other = {"service": "call", "call": "service", "content": "content"}
    turned = fit.Fit(
        [
            dataclasses.replace(each, label=other[each.label])
            if each.source == "git"
            else each
            for each in corpus
        ]
    )
    assert turned.weights("git") == whole.weights("git")
    assert turned.weights() != whole.weights()


def test_the_fit_sees_of_each_text_what_the_table_says_that_had_no_part_in_it(
    corpus: list[Found], whole: fit.Fit
) -> None:
    by_id = {each.id: each for each in corpus}
    tables: dict[str, Patterns] = {}
    for text in whole.texts:
        own = text.found.source
        if own not in tables:
            tables[own] = score.patterns_without(own, by_id, score.by_source)
        says = tables[own].say(text.words)
        row = whole.row_of(text, {own})
        kind = None if row == "none" else CALL if row.endswith("call") else SERVICE
        assert says is kind, text.found.id


def test_the_page_on_the_judge_has_its_figures(
    corpus: list[Found], crossed: score.Score, by_families: score.Score
) -> None:
    page = (CORPUS.parents[2] / "docs" / "judging.md").read_text(encoding="utf-8")
    weights = Weights(words=WORDS, starts=STARTS)
    for each in (
        crossed,
        by_families,
        score.cross_validated(corpus),
        score.cross_validated(corpus, score.by_family),
        score.fitted(corpus, score.standard_only()),
        score.fitted(corpus, Patterns(weights=weights)),
    ):
        assert f"{each.share:.1%}".replace("%", " %") in page
    assert f"{len(WORDS):,} words and pairs" in page
    for found, _ in crossed.wrong:
        assert f"({found.id})" in page
    for source, counts in crossed.by_source.items():
        assert f"| {source} | {counts[True]} | {counts[False]} |" in page


def test_the_score_is_printed() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.corpus.score"],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert "wrong:" in ran.stdout
    assert re.search(
        r"^cross-validated by sources: 9\d\.\d% of \d+", ran.stdout, re.MULTILINE
    )


def test_types_of_the_standard_library_are_named_as_they_are() -> None:
    for name in TYPES:
        module, _, kind = name.rpartition(".")
        found = getattr(__import__(module, fromlist=[kind]), kind, None)
        assert found is not None or name == "re.PatternError"
    assert errno.ENOENT in BLAMING_ERRNOS
    assert errno.ECONNREFUSED not in BLAMING_ERRNOS
