"""
The package as its users see it: names, docstrings, errors, imports.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import enum
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import orchestrator_async
from orchestrator_async import (
    BreakerPolicy,
    CallRefusedError,
    CircuitOpenError,
    CircuitState,
    DrainingError,
    DuplicateToolError,
    InvalidArgumentsError,
    InvalidResultError,
    LimitExceededError,
    OrchestratorError,
    Outcome,
    Registry,
    Tool,
    ToolCall,
    ToolCancelledError,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    ToolTimeoutError,
    UnknownToolError,
    Verdict,
)

PACKAGE = Path(orchestrator_async.__file__).parent
NAMES = orchestrator_async.__all__
# Parts that stand beside the core may need more than it does.
CORE = sorted(PACKAGE.glob("*.py"))

PROMISED = """
    BreakerPolicy CircuitOpenError CircuitState DuplicateToolError InvalidArgumentsError
    LimitExceededError OrchestratorError Outcome Registry Tool ToolCall
    ToolCancelledError ToolContext ToolOrchestrator ToolPolicy ToolResult ToolStats
    ToolTimeoutError UnknownToolError Verdict orchestrator registry
""".split()


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert list(NAMES) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        assert getattr(orchestrator_async, name) is not None
    assert set(PROMISED) <= set(NAMES)


def test_nothing_public_is_left_out_of_all() -> None:
    public = {
        name
        for name, value in vars(orchestrator_async).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and name != "annotations"
    }
    assert public == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_docstring(name: str) -> None:
    value = getattr(orchestrator_async, name)
    assert inspect.getdoc(value)
    if not inspect.isclass(value):
        return
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")
    for method, function in vars(value).items():
        if method.startswith("_") or not inspect.isroutine(function):
            continue
        assert inspect.getdoc(function), f"{name}.{method}"


def test_every_module_has_a_docstring() -> None:
    for path in CORE:
        assert ast.get_docstring(ast.parse(path.read_text())), path.name


def test_the_ready_made_orchestrator_has_the_ready_made_registry() -> None:
    assert orchestrator_async.orchestrator.registry is orchestrator_async.registry
    assert ToolOrchestrator().registry is orchestrator_async.registry
    empty = Registry()
    assert ToolOrchestrator(empty).registry is empty


def test_signatures_are_those_that_were_promised() -> None:
    keyword = inspect.Parameter.KEYWORD_ONLY
    of = inspect.signature(ToolOrchestrator).parameters
    assert list(of)[:7] == [
        "registry",
        "failure_threshold",
        "reset_timeout",
        "timeout",
        "policy",
        "circuits",
        "clock",
    ]
    assert all(each.kind is keyword for name, each in of.items() if name != "registry")
    for method in ("dispatch", "call", "run"):
        of = inspect.signature(getattr(ToolOrchestrator, method)).parameters
        assert list(of) == ["self", "name", "args", "call_id", "context"]
        assert of["name"].kind is of["args"].kind is inspect.Parameter.POSITIONAL_ONLY
        assert of["args"].default is of["call_id"].default is None
        assert inspect.iscoroutinefunction(getattr(ToolOrchestrator, method))
    of = inspect.signature(ToolOrchestrator.dispatch_all).parameters
    assert of["calls"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert of["limit"].kind is keyword
    assert of["limit"].default == 16
    of = inspect.signature(Registry.tool).parameters
    for name in (
        "name description parameters timeout circuit judge is_failure idempotent validate "
        "policy"
    ).split():
        assert of[name].kind is keyword
    assert of["validate"].default is True


def test_options_that_nobody_knows_are_refused() -> None:
    make: Any
    for make in (ToolOrchestrator, ToolPolicy, BreakerPolicy, Registry().tool):
        with pytest.raises(TypeError):
            make(treshold=3)


ERRORS: list[tuple[OrchestratorError, type[BaseException], dict[str, Any]]] = [
    (OrchestratorError("no", tool_name="t"), Exception, {"tool_name": "t"}),
    (DrainingError(tool_name="t"), OrchestratorError, {"tool_name": "t"}),
    (
        CircuitOpenError(
            tool_name="t",
            circuit="c",
            state="open",
            retry_after=41.5,
            failures=3,
            alternatives=["a", "b"],
        ),
        OrchestratorError,
        {
            "tool_name": "t",
            "circuit": "c",
            "state": "open",
            "retry_after": 41.5,
            "failures": 3,
            "alternatives": ("a", "b"),
        },
    ),
    (
        CircuitOpenError(
            tool_name="t", circuit="c", state="isolated", retry_after=None, failures=0
        ),
        OrchestratorError,
        {"retry_after": None, "alternatives": ()},
    ),
    (
        UnknownToolError(tool_name="t", did_you_mean=["a"]),
        LookupError,
        {"tool_name": "t", "did_you_mean": ("a",)},
    ),
    (
        InvalidArgumentsError(
            tool_name="t", errors=[{"argument": "x", "expected": "a value"}]
        ),
        ValueError,
        {"tool_name": "t", "errors": ({"argument": "x", "expected": "a value"},)},
    ),
    (InvalidArgumentsError("mine"), ValueError, {"tool_name": None, "errors": ()}),
    (
        ToolTimeoutError(tool_name="t", timeout=3.5, still_running=True),
        TimeoutError,
        {"tool_name": "t", "timeout": 3.5, "still_running": True},
    ),
    (
        InvalidResultError(tool_name="t", result_type="socket"),
        TypeError,
        {"tool_name": "t", "result_type": "socket"},
    ),
    (ToolCancelledError(tool_name="t"), OrchestratorError, {"tool_name": "t"}),
    (
        CircuitOpenError(
            tool_name="t",
            circuit="c",
            state="open",
            retry_after=7.0,
            failures=0,
            reason="6 of the last 10 calls failed",
            paused=True,
        ),
        OrchestratorError,
        {"reason": "6 of the last 10 calls failed", "paused": True},
    ),
    (DuplicateToolError("taken", tool_name="t"), ValueError, {"tool_name": "t"}),
    (
        CallRefusedError("not today", tool_name="t"),
        OrchestratorError,
        {"tool_name": "t", "reason": "not today"},
    ),
    (
        LimitExceededError(tool_name="t", limit="threads", size=4, retry_after=2.5),
        OrchestratorError,
        {"tool_name": "t", "limit": "threads", "size": 4, "retry_after": 2.5},
    ),
]


@pytest.mark.parametrize(
    ("error", "builtin", "fields"),
    ERRORS,
    ids=[f"{n} {type(error).__name__}" for n, (error, *_) in enumerate(ERRORS)],
)
def test_errors_carry_fields_are_builtins_too_and_pickle(
    error: OrchestratorError, builtin: type[BaseException], fields: dict[str, Any]
) -> None:
    assert isinstance(error, OrchestratorError)
    assert isinstance(error, builtin)
    again = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)]
    for each in [error, copy.copy(error), copy.deepcopy(error), *again]:
        assert type(each) is type(error)
        assert str(each) == str(error) != ""
        assert each.args == error.args
        for name, value in fields.items():
            assert getattr(each, name) == value


def test_every_exception_of_ours_is_seen_to_pickle() -> None:
    public = {
        value
        for value in vars(orchestrator_async).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert public == {type(error) for error, *_ in ERRORS}


def test_an_error_of_a_users_own_class_pickles_too() -> None:
    error = MyError(3, tool_name="t")
    again = pickle.loads(pickle.dumps(error))
    assert (again.number, again.tool_name, str(again)) == (3, "t", "3 of them")


class MyError(OrchestratorError):
    def __init__(self, number: int, *, tool_name: str) -> None:
        super().__init__(f"{number} of them", tool_name=tool_name)
        self.number = number


def test_states_and_verdicts_are_lower_case_text() -> None:
    assert issubclass(CircuitState, enum.StrEnum)
    assert {each.name: each.value for each in CircuitState} == {
        "CLOSED": "closed",
        "OPEN": "open",
        "HALF_OPEN": "half_open",
        "ISOLATED": "isolated",
        "DISABLED": "disabled",
    }
    assert [each.name for each in Verdict] == ["SUCCESS", "FAILURE", "IGNORE"]
    assert pickle.loads(pickle.dumps(CircuitState.OPEN)) is CircuitState.OPEN


@pytest.mark.parametrize(
    "record",
    [
        ToolCall("t"),
        ToolContext(tool_name="t"),
        ToolResult(name="t"),
        Outcome(),
        Tool(fn=print, name="t"),
        BreakerPolicy(),
        ToolPolicy(),
    ],
    ids=lambda record: type(record).__name__,
)
def test_records_are_frozen_and_have_slots(record: Any) -> None:
    name = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, "x")
    assert not hasattr(record, "__dict__")


def test_records_hide_what_may_be_private() -> None:
    secret = {"password": "hunter2"}
    records = [
        ToolCall("t", secret, "c"),
        ToolContext(tool_name="t", data=secret),
        ToolResult(name="t", content="hunter2", value=secret, error=ValueError("hunter2")),
        Outcome(value=secret),
    ]
    for record in records:
        assert "hunter2" not in repr(record)
    assert "'t'" in repr(records[0])
    assert "'c'" in repr(records[0])


def test_a_tool_call_is_made_by_position() -> None:
    call = ToolCall("t", {"x": 1}, "c")
    assert (call.name, call.args, call.id) == ("t", {"x": 1}, "c")
    assert ToolCall("t") == ToolCall("t", None, None)


# Imports


def imported_by(statement: str) -> set[str]:
    said = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in said.stdout.split()}


def test_importing_the_package_imports_nothing_that_is_slow() -> None:
    ours = imported_by("import orchestrator_async")
    assert "orchestrator_async" in ours
    banned = {"pydantic", "pydantic_core", "griffe", "griffelib", "stamina", "tenacity"}
    assert not ours & banned


def test_importing_the_package_imports_no_loop_that_anyio_does_not() -> None:
    anyio = imported_by("import anyio, anyio.abc, anyio.lowlevel, anyio.from_thread")
    ours = imported_by("import orchestrator_async")
    for loop in ("asyncio", "trio", "uvloop"):
        assert loop not in ours or loop in anyio
    assert "trio" not in ours
    assert "uvloop" not in ours


def test_a_tool_without_validation_imports_no_pydantic() -> None:
    names = imported_by(
        "import anyio\n"
        "from orchestrator_async import Registry, ToolOrchestrator\n"
        "registry = Registry()\n"
        "@registry.tool(validate=False)\n"
        "async def tool(x):\n"
        "    return 'x'\n"
        "orch = ToolOrchestrator(registry)\n"
        "assert anyio.run(orch.dispatch, 'tool', {'x': 1}) == 'x'\n"
        "assert 'unknown' in anyio.run(orch.dispatch, 'tol', {'x': 1})\n"
    )
    assert not names & {"pydantic", "pydantic_core", "trio"}


def test_stamina_is_imported_by_the_first_tool_with_retries() -> None:
    program = (
        "import anyio, sys\n"
        "from orchestrator_async import Registry, RetryPolicy, ToolOrchestrator, ToolPolicy\n"
        "registry = Registry()\n"
        "policy = ToolPolicy(total_timeout=9, retry={})\n"
        "@registry.tool(validate=False, policy=policy)\n"
        "async def tool():\n"
        "    return 'x'\n"
        "orch = ToolOrchestrator(registry)\n"
        "assert 'stamina' not in sys.modules\n"
        "assert anyio.run(orch.dispatch, 'tool') == 'x'\n"
    )
    assert not imported_by(program.format("None")) & {"stamina", "tenacity"}
    assert "stamina" in imported_by(program.format("RetryPolicy()"))


def test_text_that_cannot_tell_of_an_error_is_not_parsed() -> None:
    names = imported_by(
        "from orchestrator_async import Outcome, Verdict, any_error\n"
        "for text in ('{\"output\": \"x\"}', 'The log says {\"error\": \"x\"}', '{', ''):\n"
        "    assert any_error(Outcome(value=text)) is Verdict.SUCCESS\n"
    )
    assert "pydantic_core" not in names


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_imports_no_loop(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"__import__", "import_module", "importlib.import_module"}:
                names = [ast.unparse(node.args[0]).strip("'\"")]
        for name in names:
            top = name.partition(".")[0]
            assert top not in {"asyncio", "trio", "uvloop", "sniffio"}


def test_time_is_named_in_one_place() -> None:
    naming = {
        path.stem
        for path in CORE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(each.name == "time" for each in node.names)
    }
    assert naming == {"_orchestrator"}


@pytest.mark.parametrize("module", ["_breaker", "_errors", "_policy", "_stats", "_outcome"])
def test_what_decides_does_no_waiting(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    for node in ast.walk(tree):
        assert not isinstance(node, (ast.Await, ast.AsyncFunctionDef, ast.AsyncWith))
        if isinstance(node, ast.Import):
            assert all(each.name.partition(".")[0] != "anyio" for each in node.names)
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] != "anyio"


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("stream", "call"),
        ("run", "call"),
        ("dispatch", "call"),
        ("as_completed", "dispatch_all"),
    ],
)
def test_who_calls_in_another_way_calls_in_the_same_words(one: str, other: str) -> None:
    def words(offer: object, name: str) -> list[object]:
        return [*inspect.signature(getattr(offer, name)).parameters.values()]

    orch = ToolOrchestrator(Registry())
    assert words(orch, one) == words(orch, other)
    assert words(orch.conversation(), one) == words(orch, other)
