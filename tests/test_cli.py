"""
The terminal program: what it lists and calls, where it finds tools, and how it fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

import orchestrator_async

from .cli_program import (
    ROOT,
    TOOLS,
    Ended,
    environment,
    in_a_terminal,
    redirected,
    run,
    without_codes,
)
from .cli_tools import EVIL

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX streams")

BACKENDS = ["asyncio", "uvloop", "trio"]
# What is not installed for all: what is linked to where it is looked for, and nothing else.
_MEASURED = """
import coverage, sys
coverage.process_startup()
from orchestrator_async.cli import main
sys.exit(main())
"""
WITHOUT_SITE = [sys.executable, "-S", "-W", "error", "-c", _MEASURED]
COMMANDS = ["tools", "call", "run", "serve"]
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)


def said(ended: Ended) -> str:
    """
    What a failure is said in: some lines on standard error, and no traceback.
    """
    assert ended.out == ""
    assert "Traceback" not in ended.err
    err = ended.err.replace("imported\n", "")
    assert err.startswith("orchestrator-async: ")
    assert 1 <= len(err.splitlines()) <= 2
    return err.removeprefix("orchestrator-async: ").rstrip("\n")


# --- tools ----------------------------------------------------------------------------


@on_each_backend
def test_the_tools_are_listed_with_their_descriptions(backend: str) -> None:
    ended = run("tools", "--backend", backend)
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split(None, 1) for line in ended.out.splitlines()]
    assert [row[0] for row in rows][:3] == ["tool", "add", "echo"]
    assert rows[1][1].strip() == "Add two numbers."


@pytest.mark.parametrize("format", [None, "openai", "anthropic", "mcp"])
def test_the_tools_are_told_as_the_apis_want_them(format: str | None) -> None:
    option = ["--json"] if format is None else ["--format", format]
    ended = run("tools", *option)
    registry = _tools().registry
    assert json.loads(ended.out) == registry.definitions(format or "openai")
    assert (ended.code, ended.err) == (0, "")


def _tools() -> Any:
    from . import cli_tools

    return cli_tools


def test_schemas_are_shown_on_request() -> None:
    ended = run("tools", "--schemas")
    assert ended.code == 0
    name, description, rest = ended.out.split("\n", 2)
    assert (name, description) == ("add", "Add two numbers.")
    assert json.JSONDecoder().raw_decode(rest)[0]["required"] == ["a", "b"]
    bare = run("tools", "--schemas", tools=f"{TOOLS}:wide").out.partition("bare\n")[2]
    assert json.loads(bare)["properties"] == {}


def test_no_tools_are_said_to_be_none() -> None:
    assert run("tools", tools=f"{TOOLS}:empty") == (0, "There are no tools.\n", "")
    assert run("tools", "--json", tools=f"{TOOLS}:empty").out == "[]\n"


def test_a_tool_without_a_schema_is_named() -> None:
    ended = run("tools", tools=f"{TOOLS}:broken")
    assert ended.code == 2
    assert "no_schema" in said(ended)


@pytest.mark.parametrize("options", [[], ["--schemas"], ["--json"], ["--format", "mcp"]])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_of_others_is_markup_or_does_anything_to_a_terminal(
    options: list[str], terminal: bool
) -> None:
    args = ("tools", *options)
    if terminal:
        code, shown = in_a_terminal(*args, tools=f"{TOOLS}:evil")
        shown = without_codes(shown)
    else:
        code, shown, _ = run(*args, tools=f"{TOOLS}:evil")
    assert code == 0
    assert "[red]x[/] [/nope] [link=http://x]y" in " ".join(shown.split())
    assert_does_nothing(shown)


def assert_does_nothing(shown: str) -> None:
    for letter in shown:
        assert letter == "\n" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs")


def test_wide_letters_do_not_break_the_columns() -> None:
    ended = run("tools", tools=f"{TOOLS}:wide")
    lines = ended.out.splitlines()
    widths = {_width(line.rstrip()) for line in lines}
    assert max(widths) <= 80
    begins = {_width(line[: line.index("都")]) for line in lines if line.startswith("天気")}
    begins |= {line.index("description") for line in lines if line.startswith("tool")}
    begins |= {line.index("A tool") for line in lines if line.startswith("plain")}
    assert len(begins) == 1
    assert "".join(re.findall(r"[^ -~\s]", ended.out)).count("天気予報を返します。") == 8


def _width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def test_colours_are_for_terminals_that_have_them() -> None:
    plain = [
        in_a_terminal("tools", env=env)[1] for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"})
    ]
    assert "\x1b[1m" in in_a_terminal("tools")[1]
    assert "\x1b[3" not in plain[0]
    assert "\x1b" not in plain[1]


# --- call -----------------------------------------------------------------------------


@on_each_backend
@pytest.mark.parametrize(
    "text", ["3", "two\nlines\n", "", "nul \x00 esc \x1b[2J", "é 天 🙂"]
)
def test_what_a_model_would_read_is_printed_byte_for_byte(backend: str, text: str) -> None:
    args = json.dumps({"text": text})
    assert run("call", "echo", args, "--backend", backend) == (0, text, "")


def test_a_terminal_is_shown_control_characters_and_does_not_obey_them() -> None:
    code, shown = in_a_terminal(
        "call", "evil", tools=f"{TOOLS}:evil", stdin=subprocess.DEVNULL
    )
    assert code == 0
    escaped = (
        r"[red]x[/] [/nope] [link=http://x]y \x1b[2J\x1b]0;title\x07 \x9b31m \u202e \ud800"
    )
    assert shown == f"{escaped}\n"
    _, shown = in_a_terminal("call", "echo", '{"text": "a\\tb\\n"}')
    assert shown.expandtabs() == "a\tb\n".expandtabs()


def test_text_that_no_encoding_has_is_printed_as_an_escape() -> None:
    ended = run("call", "evil", tools=f"{TOOLS}:evil")
    assert (ended.code, ended.out) == (0, EVIL.replace("\ud800", r"\ud800"))


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["add", '{"a": 1, "b": 2}'], 0, "3"),
        (["fail"], 1, "no route"),
        (["says_error"], 1, "out of paper"),
        (["leave"], 1, "leave ended by raising KeyboardInterrupt"),
        (["ad"], 2, "Did you mean add?"),
        (["add", '{"a": 1, "b": "x"}'], 2, "b: a valid integer"),
        (["add", "no JSON"], 2, "JSON"),
        (["refused"], 3, "paper is down"),
    ],
)
@on_each_backend
def test_the_exit_code_says_how_a_call_has_ended(
    backend: str, args: list[str], code: int, words: str
) -> None:
    ended = run("call", *args, "--backend", backend)
    assert (ended.code, ended.err) == (code, "")
    assert words in ended.out


@pytest.mark.parametrize("name", ["talk", "fail", "leave", "ad"])
def test_a_result_is_one_object_of_json(name: str) -> None:
    ended = run("call", name, "--json")
    assert len(ended.out.splitlines()) == 1
    record = json.loads(ended.out)
    assert list(record) == (
        "id name ok verdict content error duration attempts source state retry_after".split()
    )
    assert record["ok"] == (ended.code == 0) == (record["error"] is None)
    assert record["name"] == name
    assert record["attempts"] == (name not in ("ad", "leave"))
    assert_does_nothing(ended.out)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_tools_print_goes_to_standard_error_and_nothing_is_there_to_be_read(
    options: list[str],
) -> None:
    ended = run("call", "talk", "{}", *options, input="not for tools")
    assert (ended.code, ended.err) == (0, "from the tool\nfrom its program ''\n")
    content = json.loads(ended.out)["content"] if options else ended.out
    assert content == "read ''"


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("option", [["-"], []])
def test_arguments_are_read_from_standard_input(option: list[str], end: str) -> None:
    assert run("call", "add", *option, input='\ufeff{"a": 1, "b": 2}' + end).out == "3"


def test_arguments_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text('{"a": 1, "b": 2}')
    assert run("call", "add", "@args.json", cwd=tmp_path).out == "3"
    assert run("call", "echo", input="").out == "nothing"
    assert in_a_terminal("call", "echo", "{}")[1] == "nothing\n"


def test_a_terminal_is_not_asked_for_arguments_unless_it_is_to_be() -> None:
    assert in_a_terminal("call", "echo") == (0, "nothing\n")

    read, write = os.pipe()
    os.write(write, b'{"text": "typed"}')
    os.close(write)
    code, shown = in_a_terminal("call", "echo", "-", stdin=read)
    os.close(read)
    assert (code, shown) == (0, "typed\n")


@pytest.mark.parametrize(
    ("args", "input", "words"),
    [
        (
            ["call", "add", "@nowhere.json"],
            None,
            "nowhere.json cannot be read: No such file",
        ),
        (["call", "add", "@."], None, ". cannot be read: Is a directory"),
        (["call", "add", "-"], b"\xff", "Standard input is not text in UTF-8"),
        (["call", "add", "-"], b" " * 10_000_001, "Standard input is too long"),
        (["run", "nowhere.jsonl"], None, "nowhere.jsonl cannot be read: No such file"),
    ],
)
def test_input_that_cannot_be_read_is_named(
    args: list[str], input: bytes | None, words: str, tmp_path: Path
) -> None:
    ended = run(*args, input=input, cwd=tmp_path)
    assert ended.code == 2
    assert words in said(ended)


@on_each_backend
@pytest.mark.parametrize(
    ("name", "words"), [("hang", "stopped"), ("wait", "still be running")]
)
def test_a_call_may_be_given_a_time(backend: str, name: str, words: str) -> None:
    ended = run("call", name, "--timeout", "0.05", "--json", "--backend", backend)
    assert ended.code == 1
    record = json.loads(ended.out)
    assert "within its 0.05 s" in record["content"]
    assert words in record["content"]
    assert record["error"].startswith("ToolTimeoutError")


@on_each_backend
def test_a_tool_may_have_processes_that_import_the_program_again(backend: str) -> None:
    assert run("call", "in_a_process", "--backend", backend) == (0, "3.0", "")


# --- usage ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cal"], 'Did you mean "call"?'),
        (["call"], "NAME requires an argument"),
        (["call", "add", "--tolls", "x"], "Did you mean --tools?"),
        (["call", "add", "--backend", "tokio"], '"asyncio", "trio", "uvloop"'),
        (["call", "add", "--timeout", "0"], "above 0"),
        (["call", "add", "--timeout", "nan"], "above 0"),
        (["run", "--limit", "0"], "1"),
        (["call", "\x1b[2J[red]x", "{}", "more"], "more"),
    ],
)
def test_wrong_usage_is_said_in_two_lines(args: list[str], words: str) -> None:
    ended = run(*args, tools=None)
    assert ended.code == 2
    assert words in said(ended)
    assert ended.err.splitlines()[-1] == "More: --help"
    assert_does_nothing(ended.err)


def test_without_tools_it_says_how_to_name_them() -> None:
    ended = run("tools", tools=None)
    assert ended.code == 2
    assert "--tools module:registry" in said(ended)


@pytest.mark.parametrize("args", [[], *([command] for command in COMMANDS)])
def test_help_fits_on_a_screen(args: list[str]) -> None:
    ended = run(*args, "--help", tools=None, env={"COLUMNS": "80", "LINES": "24"})
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) < 24  # the prompt has a line too
    assert max(map(len, lines)) <= 80
    assert "--" in ended.out


def test_help_says_the_exit_codes() -> None:
    for command, codes in {"call": "0 1 2 3 130 143", "run": "0 1 2 130 143"}.items():
        text = run(command, "--help", tools=None).out.partition("Exit code:")[2]
        assert re.findall(r"\b\d+\b", text.partition("╭")[0]) == codes.split()


def test_it_tells_its_version() -> None:
    from importlib.metadata import version

    assert run("--version", tools=None) == (0, f"{version('orchestrator-async')}\n", "")


def test_it_is_installed_as_a_program() -> None:
    program = Path(sys.executable).with_name("orchestrator-async")
    ended = run("call", "add", '{"a": 1, "b": 2}', start=[str(program)])
    assert ended == (0, "3", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    installed = run(
        "--install-completion", "--shell", "bash", tools=None, env={"HOME": str(tmp_path)}
    )
    assert installed.code == 0, installed
    [script] = [path for path in tmp_path.rglob("orchestrator-async*") if path.is_file()]

    def completed(*words: str) -> set[str]:
        asked = (
            f'source "{script}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            'COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; '
            '_orchestrator_async; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", asked, "bash", "orchestrator-async", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return {line.strip() for line in done.stdout.splitlines()}

    assert completed("ca") == {"call"}
    assert {"tools", "call", "run", "serve"} <= completed("")
    assert completed("run", "--ord") == {"--ordered"}
    assert completed("run", "--backend", "t") == {"trio"}


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_its_packages_it_says_how_to_install_them(
    tmp_path: Path, missing: str
) -> None:
    _link_packages(tmp_path, missing)
    ended = run(
        "tools",
        tools=None,
        start=WITHOUT_SITE,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert ended.code == 2
    assert ended.out == ""
    [line] = ended.err.splitlines()
    assert 'pip install "orchestrator-async[cli]"' in line


def _link_packages(folder: Path, *missing: str) -> None:
    """
    All that is installed here, but for some of it.
    """
    (folder / "orchestrator_async").symlink_to(ROOT / "orchestrator_async")
    for each in sorted(_site_packages().iterdir()):
        if each.stem not in missing and not each.name.startswith("__"):
            (folder / each.name).symlink_to(each)


def _site_packages() -> Path:
    import anyio

    return Path(anyio.__file__).parent.parent


def test_a_loop_that_is_not_installed_is_named(tmp_path: Path) -> None:
    _link_packages(tmp_path, "uvloop")
    ended = run(
        "tools",
        "--backend",
        "uvloop",
        start=WITHOUT_SITE,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert ended.code == 2
    assert said(ended) == "uvloop is not installed: pip install uvloop"


# --- where tools are ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "agent"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text(_module("from_package"))
    (tmp_path / "beside.py").write_text("name = 'from_file'")
    (tmp_path / "mine.py").write_text("from beside import name\n" + _module("from_file"))
    (tmp_path / "json.py").write_text(_module("from_json"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(_module("from_other"))
    return tmp_path


def _module(name: str) -> str:
    return (
        "import sys\n"
        "from orchestrator_async import Registry\n"
        "sys.stderr.write('imported\\n')\n"
        "class Agent:\n"
        "    registry = Registry()\n"
        "registry = Registry()\n"
        f"@registry.tool\nasync def {name}() -> str:\n    return 'yes'\n"
        f"@Agent.registry.tool\nasync def {name}_too() -> str:\n    return 'yes'\n"
    )


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (["agent.tools:registry"], ["from_package"]),
        (["agent.tools:Agent.registry"], ["from_package_too"]),
        (["mine.py:registry"], ["from_file"]),
        (["./mine.py:registry", "other/mine.py:registry"], ["from_file", "from_other"]),
        (["json.py:registry"], ["from_json"]),
        (["mine.py:registry", "mine:Agent.registry"], ["from_file", "from_file_too"]),
        (["json.py:registry", "json.py:Agent.registry"], ["from_json", "from_json_too"]),
        (["mine.py:registry", "mine.py:registry"], ["from_file"]),
    ],
)
def test_tools_are_taken_from_modules_and_files(
    folder: Path, specs: list[str], names: list[str]
) -> None:
    options = [word for spec in specs for word in ("--tools", spec)]
    ended = run("tools", "--json", *options, tools=None, cwd=folder)
    assert ended.code == 0, ended.err
    assert [each["function"]["name"] for each in json.loads(ended.out)] == names
    modules = {spec.partition(":")[0].removesuffix(".py") for spec in specs}
    assert ended.err == "imported\n" * len(modules)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mine.py", "mine.py: name the registry as well, such as mine.py:registry"),
        ("agent", "agent: name the registry as well, such as agent:registry"),
        ("nowhere.py:registry", "nowhere.py: there is no such file"),
        ("nowhere:registry", "there is no module nowhere."),
        ("agent.nothing:registry", "there is no module agent.nothing."),
        ("mine.py:registy", "mine.py has no registy. It has registry."),
        ("beside.py:registry", "beside.py has no registry."),
        (
            "mine.py:sys",
            "this is a module, and no Registry or ToolOrchestrator. It has registry.",
        ),
        (
            "wrong.py:registry",
            "NameError: name 'nope' is not defined\n  {}/wrong.py, line 2",
        ),
        ("syntax.py:registry", "line 1"),
        ("needs.py:registry", "No module named 'nothing'\n  {}/needs.py, line 1"),
        ("deep.py:registry", "JSONDecodeError: Expecting value"),
        ("leaves.py:registry", "SystemExit: 3\n  {}/leaves.py, line 2"),
    ],
)
def test_tools_that_cannot_be_had_are_told_with_the_reason(
    folder: Path, spec: str, words: str
) -> None:
    (folder / "wrong.py").write_text("\nnope\n")
    (folder / "syntax.py").write_text("def :\n")
    (folder / "needs.py").write_text("import nothing\n")
    (folder / "deep.py").write_text("from json import loads\nloads('x')\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "json.py").unlink()
    ended = run("tools", tools=spec, cwd=folder)
    assert ended.code == 2
    assert words.format(folder) in said(ended)


@pytest.mark.parametrize("tools", ["mine.py:registry", "mine:registry", "late.py:registry"])
def test_what_lies_beside_the_tools_is_theirs_and_not_the_programs(
    folder: Path, tools: str
) -> None:
    (folder / "json.py").unlink()
    (folder / "rich").mkdir()
    (folder / "rich" / "__init__.py").write_text("raise RuntimeError('not mine')")
    (folder / "late.py").write_text(
        "import sys\nsys.path.pop(0)\n"
        "from orchestrator_async import Registry\n"
        "registry = Registry()\n"
        "@registry.tool\nasync def late() -> str:\n    import beside\n    return beside.name\n"
    )
    assert run("tools", tools=tools, cwd=folder).code == 0
    if tools.startswith("late"):
        assert run("call", "late", tools=tools, cwd=folder).out == "from_file"


def test_an_error_deep_in_a_library_is_placed_where_the_module_has_called_it(
    folder: Path,
) -> None:
    (folder / "json.py").unlink()
    (folder / "deep.py").write_text("from json import loads\n\nloads('x')\n")
    ended = run("tools", tools="deep.py:registry", cwd=folder)
    assert said(ended).endswith(f"\n  {folder}/deep.py, line 3")


def test_the_traceback_is_shown_on_request(folder: Path) -> None:
    (folder / "wrong.py").write_text("\nnope\n")
    ended = run("tools", "--debug", tools="wrong.py:registry", cwd=folder)
    assert ended.code == 2
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.splitlines()[-1] == f"  {folder}/wrong.py, line 2"
    # A message that comes from nowhere has no traceback.
    assert "Traceback" not in run("tools", "--debug", tools=None).err


def test_two_registries_with_a_tool_of_one_name_are_refused(folder: Path) -> None:
    (folder / "again.py").write_text(_module("from_file"))
    options = ("--tools", "mine.py:registry", "--tools", "again.py:registry")
    ended = run("tools", *options, tools=None, cwd=folder)
    assert ended.code == 2
    assert "from_file" in ended.err


def test_an_orchestrator_keeps_its_settings_and_there_can_be_one() -> None:
    calls = '{"name": "fail"}\n' * 3
    options = ("--limit", "1", "--tools", f"{TOOLS}:wide")
    ended = run("run", *options, tools=f"{TOOLS}:orchestrator", input=calls)
    states = [json.loads(line)["state"] for line in ended.out.splitlines()]
    assert states == ["open"] * 3
    two = ("--tools", f"{TOOLS}:other_orchestrator")
    ended = run("tools", *two, tools=f"{TOOLS}:orchestrator")
    assert ended.code == 2
    assert "only one of them can be a ToolOrchestrator" in said(ended)


# --- streams --------------------------------------------------------------------------


def test_output_that_nobody_reads_ends_it_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    for command in (["tools"], ["call", "echo"], ["run"]):
        ended = run(*command, input='{"name": "echo"}\n', stdout=write)
        assert (ended.code, ended.err) == (1, ""), command
    os.close(write)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
@pytest.mark.parametrize("command", [["tools"], ["call", "echo"], ["run"]])
def test_output_that_cannot_be_written_is_said(command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        ended = run(*command, input='{"name": "echo"}\n', stdout=full)
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == (
        "orchestrator-async: The output cannot be written: No space left on device."
    )


NO_OUTPUT = "There is no standard output to write to."
NO_INPUT = "There is no standard input to read"


@pytest.mark.parametrize(
    ("command", "redirections", "code", "words"),
    [
        ("tools", ">&-", 1, NO_OUTPUT),
        ("tools", "<&-", 0, ""),
        ("tools", "2>&-", 0, ""),
        ("call echo", ">&- </dev/null", 1, NO_OUTPUT),
        ("call echo", "<&-", 0, ""),
        ("call echo -", "<&-", 2, f"{NO_INPUT} the arguments from."),
        ("call talk", "</dev/null 2>&-", 0, ""),
        ("run", "</dev/null >&-", 0, "0 answered"),
        ("run", "<&-", 2, f"{NO_INPUT} calls from."),
        ("run", "</dev/null 2>&-", 0, ""),
    ],
)
def test_streams_that_were_closed_are_missed_where_they_are_needed(
    command: str, redirections: str, code: int, words: str
) -> None:
    ended = redirected(f'{command} --tools "{TOOLS}:registry"', redirections)
    assert ended.code == code
    assert words in ended.err
    assert (ended.err == "") == (words == "")


def test_a_message_that_nobody_can_be_told_is_let_go() -> None:
    assert redirected("tools", "2>&-") == (2, "", "")


def test_an_error_that_nobody_has_thought_of_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from orchestrator_async import Registry\n"
        "class Odd(Registry):\n"
        "    def definitions(self, format='openai'):\n"
        "        raise ExceptionGroup('odd', [RuntimeError('what now')])\n"
        "registry = Odd()\n"
    )
    ended = run("tools", tools="odd.py:registry", cwd=tmp_path)
    assert ended.code == 1
    assert said(ended) == "RuntimeError: what now"
    ended = run("tools", "--debug", tools="odd.py:registry", cwd=tmp_path)
    assert "Traceback" in ended.err


# --- the package ----------------------------------------------------------------------


def test_importing_the_library_does_not_import_the_program() -> None:
    code = "import orchestrator_async, sys; print('orchestrator_async.cli' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout == "False\n"
    assert "cli" not in orchestrator_async.__all__
