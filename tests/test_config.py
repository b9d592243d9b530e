"""
Settings and servers from a file: what is read, what is refused, and how that is said.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import logging
import math
import os
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestrator_async
from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    LimitPolicy,
    OrchestratorError,
    Registry,
    RetryPolicy,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    any_error,
)
from orchestrator_async.config import (
    Config,
    ConfigError,
    GatewayConfig,
    ServerConfig,
    _policies,
    _read,
    _told,
    load_config,
    read_config,
)

from .support import HandClock, Service, assert_adds_up, fail

GUIDE = Path(__file__).parent.parent / "docs" / "configuration.md"


def read(text: str, env: Mapping[str, str] | None = None) -> Config:
    return read_config(tomllib.loads(text), env=env or {})


def wrong(data: str | Mapping[str, Any], env: Mapping[str, str] | None = None) -> list[str]:
    """
    What is said of it, a line each.
    """
    with pytest.raises(ConfigError) as raised:
        read_config(tomllib.loads(data) if isinstance(data, str) else data, env=env or {})
    return str(raised.value).splitlines()


# The guide


def shown(language: str) -> list[str]:
    text = GUIDE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_example_of_the_guide_is_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REPO", "GITHUB_TOKEN", "WEB_TOKEN"):
        monkeypatch.setenv(name, f"the {name}")
    monkeypatch.chdir(tmp_path)
    Path("agent.toml").write_text(shown("toml")[0], encoding="utf-8")
    names: dict[str, Any] = {}
    exec(shown("python")[0], names)
    config: Config = names["config"]
    assert config.path == Path("agent.toml")
    assert config.policy == ToolPolicy(
        timeout=30,
        judge=any_error,
        breaker=BreakerPolicy(failure_threshold=3, reset_timeout=300),
    )
    assert config.circuits == {"database": BreakerPolicy(failure_threshold=2)}
    assert config.limits == LimitPolicy(max_concurrent=50)
    assert config.groups == {"git": LimitPolicy(calls=30, seconds=60)}
    assert config.retry_budget == BudgetPolicy(share=0.2, a_second=3)
    assert list(config.tools) == ["*", "git__*", "git__git_push"]
    assert config.tools["git__*"] == ToolPolicy(
        timeout=10, retry=RetryPolicy(attempts=3, wait_max=2), group="git"
    )
    assert config.tools["git__git_push"] == ToolPolicy(retry=None)
    assert config.tool_fields("git__git_log") == {"idempotent": True}
    assert config.tool_fields("git__git_push") == {"idempotent": False, "read_only": False}
    assert config.tool_fields("other") == {}
    git, web = config.servers["git"], config.servers["web"]
    assert (git.command, git.args) == ("mcp-server-git", ("--repository", "the REPO"))
    assert git.env == {"TOKEN": "the GITHUB_TOKEN", "LEVEL": "info"}
    assert (git.cwd, git.exclude) == ("/srv/repo", ("git_reset",))
    assert (git.url, git.headers) == (None, None)
    assert web.url == "https://example.com/mcp"
    assert web.headers == {"Authorization": "Bearer the WEB_TOKEN"}
    assert (web.connect_timeout, web.pin, web.trust_annotations) == (30, False, False)
    assert (web.circuit, web.tools, web.exclude) == (None, ("*",), ())
    assert (web.max_tools, web.max_result_size) == (500, 10_000_000)
    assert config.gateway == GatewayConfig(name="orchestrator", figures_tool=False)
    assert isinstance(names["orch"], ToolOrchestrator)


def test_the_errors_of_the_guide_are_those_that_there_are() -> None:
    path = Path("agent.toml")
    with pytest.raises(ConfigError) as raised:
        read(shown("toml")[1])
    error = ConfigError(raised.value.errors, path=path)
    assert f"{error}\n" == shown("text")[0]


def test_the_other_hosts_json_of_the_guide_is_read() -> None:
    config = read_config(json.loads(shown("json")[0]), env={"REPO": "/r"})
    assert config.servers["git"].args == ("--repository", "/r")
    assert config.servers["web"].url == "https://example.com/mcp"


def listed(heading: str) -> list[str]:
    text = GUIDE.read_text(encoding="utf-8")
    section = text.partition(f"### {heading}\n")[2].partition("\n##")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_guides_tables_have_all_keys() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert listed("`orchestrator`") == _told.keys_of(_policies.OrchestratorTable)
    assert listed("`servers.NAME`") == [
        each.name for each in dataclasses.fields(ServerConfig)
    ]
    assert listed("`gateway`") == [each.name for each in dataclasses.fields(GatewayConfig)]
    assert listed('`tools."PATTERN"`') == list(_policies.FIELDS)
    within = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE)
    tables = {
        "retry": _policies.RetryTable,
        "limits": _policies.LimitTable,
        "retry_budget": _policies.BudgetTable,
    }
    assert within == [
        (name, key) for name, each in tables.items() for key in each.model_fields
    ]
    for name in orchestrator_async.config.__all__:
        assert f"| `{name}" in text


# The fields of policies


POLICIES = [BreakerPolicy, ToolPolicy, RetryPolicy, LimitPolicy, BudgetPolicy]
TABLES = {
    BreakerPolicy: _policies.CircuitTable,
    ToolPolicy: _policies.ToolTable,
    RetryPolicy: _policies.RetryTable,
    LimitPolicy: _policies.LimitTable,
    BudgetPolicy: _policies.BudgetTable,
}


@pytest.mark.parametrize("policy", POLICIES)
def test_each_field_of_a_policy_can_be_said_or_is_listed_as_one_that_cannot(
    policy: Any,
) -> None:
    fields = {each.name for each in dataclasses.fields(policy)} - {"breaker"}
    sayable = fields & set(TABLES[policy].model_fields)
    assert fields - sayable == fields & _policies.UNSAYABLE
    assert not sayable & _policies.UNSAYABLE


def test_what_is_listed_as_one_that_cannot_be_said_is_there() -> None:
    known = {each.name for policy in POLICIES for each in dataclasses.fields(policy)}
    assert known >= _policies.UNSAYABLE


def test_each_field_of_a_tool_is_said_or_is_none_of_an_operators() -> None:
    fields = {each.name for each in dataclasses.fields(Tool) if each.name[0] != "_"}
    authors = {"fn", "name", "description", "parameters", "policy", "validate", "render"}
    assert fields == authors | set(_policies.FIELDS)


def test_a_field_of_a_kind_that_is_not_known_is_not_left_out_by_mistake() -> None:
    for kind in (float, set):
        made = dataclasses.make_dataclass("NewPolicy", [("new", kind.__name__)])
        with pytest.raises(KeyError):
            _policies._kinds(made)


def test_no_field_of_a_tools_policy_is_named_like_one_of_its_circuits_or_its_own() -> None:
    tool, circuit = set(ToolPolicy.__slots__), set(BreakerPolicy.__slots__)
    assert not tool & circuit
    assert not (tool | circuit) & set(_policies.FIELDS)


def seconds_of(policy: Any) -> set[str]:
    """
    Those whose words in the docstring are seconds.
    """
    doc = inspect.cleandoc(policy.__doc__ or "")  # Python 3.13 indents it in another way
    text = re.split(r"\n    (?=\w+: )", doc.partition("Args:")[2])
    words = dict(each.split(":", 1) for each in text if ":" in each)
    return {name for name, said in words.items() if re.search(r"\bSeconds\b", said)}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_seconds_by_its_docstring_takes_times(policy: Any) -> None:
    names = seconds_of(policy)
    assert names <= set(_policies._SECONDS.split())
    assert policy is BudgetPolicy or names


def sections() -> Any:
    """
    Each place where times can be said, with the fields that can be times there.
    """
    times = set(_policies._SECONDS.split())
    yield "[orchestrator]", times & set(_policies.OrchestratorTable.model_fields)
    yield "[circuits.x]", times & set(_policies.CircuitTable.model_fields)
    yield "[tools.x]", times & set(_policies.ToolTable.model_fields)
    yield "[tools.x.retry]", times & set(_policies.RetryTable.model_fields)
    yield "[tools.x.limits]", times & set(_policies.LimitTable.model_fields)
    yield '[servers.x]\ncommand = "x"', {"connect_timeout", "read_timeout"}


PLACES = [(where, name) for where, names in sections() for name in sorted(names)]


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_each_field_of_seconds_takes_text_and_numbers(where: str, name: str) -> None:
    by_text, by_number, by_float = (
        read(f"{where}\n{name} = {value}") for value in ('"1m30s"', "90", "90.0")
    )
    assert by_text == by_number == by_float
    assert by_text != read(where)
    assert "5 parsecs" in wrong(f'{where}\n{name} = "5 parsecs"')[0]


# Times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("3ms", 0.003),
        ("30s", 30),
        ("0.1s", 0.1),
        ("5m", 300),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d2h3m4s5ms", 93_784.005),
        ("1m100ms", 60.1),
    ],
)
def test_a_time_is_text_with_units(text: str, seconds: float) -> None:
    assert read(f'[orchestrator]\ntimeout = "{text}"').policy.timeout == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "30", "s", "5 m", "30m1h", "1h1h", "-5s", "5M", "1e3s", "5parsecs"),
        *("٣s", ".5s", "1.s", "+1s", "inf", "1h ", "5s\n", "9" * 400 + "d"),
    ],
)
def test_what_is_no_time_is_said_to_be_none(text: str) -> None:
    [line] = wrong({"orchestrator": {"timeout": text}})
    assert line.startswith('orchestrator.timeout: "')
    assert line.endswith('" is no duration; write "250ms", "30s" or "5m"')
    assert len(line) < 200


@pytest.mark.parametrize("value", [0, -5, "0s", float("inf"), float("nan"), 10**400])
def test_a_time_that_cannot_be_is_refused_in_the_policys_words(value: Any) -> None:
    [line] = wrong({"orchestrator": {"timeout": value}})
    expected = "cannot be; expected a finite number of seconds above 0, or false"
    assert line.endswith(expected)
    [line] = wrong({"servers": {"x": {"command": "x", "connect_timeout": value}}})
    assert line.startswith("servers.x.connect_timeout: ")
    assert "seconds cannot be; write a time above 0" in line


@pytest.mark.parametrize("value", [True, [], {}, 3 + 4j])
def test_what_is_neither_text_nor_a_number_is_no_time(value: Any) -> None:
    [line] = wrong({"orchestrator": {"reset_timeout": value}})
    assert "is no duration" in line


# What is off


def optional(policy: Any) -> list[str]:
    return [
        each.name
        for each in dataclasses.fields(policy)
        if "None" in str(each.type) and each.name not in _policies.UNSAYABLE
    ]


@pytest.mark.parametrize(
    ("where", "name"),
    [("tools.x", each) for each in (*optional(ToolPolicy), *optional(BreakerPolicy))]
    + [("tools.x.limits", each) for each in optional(LimitPolicy)],
)
def test_false_is_none_where_none_can_be(where: str, name: str) -> None:
    policy = read(f"[{where}]\n{name} = false").tools["x"]
    at: Any = policy.limits if where.endswith("limits") else policy
    at = policy.breaker if name in BreakerPolicy.__slots__ else at
    assert getattr(at, name) is None


@pytest.mark.parametrize("name", ["reset_timeout", "max_threads", "failure_threshold"])
def test_false_is_nothing_where_none_cannot_be(name: str) -> None:
    [line] = wrong(f"[tools.x]\n{name} = false")
    assert line.startswith(f"tools.x.{name}: ")
    assert "false" in line


def test_what_all_tools_share_can_be_off() -> None:
    config = read("[orchestrator]\nlimits = false\nretry_budget = false")
    assert (config.limits, config.retry_budget) == (None, None)
    assert read("").retry_budget == BudgetPolicy()
    [line] = wrong("[orchestrator]\nretry_budget = true")
    assert (
        line
        == "orchestrator.retry_budget: expected a table, not true; write { KEY = VALUE }"
    )


# Variables


def filled(text: str, **env: str) -> str:
    config = read_config({"servers": {"x": {"command": "x", "args": [text]}}}, env=env)
    return config.servers["x"].args[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "value"),
        ("<${A}${A}>", "<valuevalue>"),
        ("${A:-other}", "value"),
        ("${NONE:-other}", "other"),
        ("${NONE:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("$${A}", "${A}"),
        ("$$", "$"),
        ("$$$${A}", "$${A}"),
        ("$$${A}", "$value"),
        ("$A $ 5$ {A}", "$A $ 5$ {A}"),
        ("${NONE:-a b=:/}", "a b=:/"),
        ("${AGAIN}", "${A}"),
    ],
)
def test_variables_are_replaced_once(text: str, expected: str) -> None:
    assert filled(text, A="value", EMPTY="", AGAIN="${A}") == expected


@pytest.mark.parametrize(
    "text", ["${", "${A", "${}", "${1}", "${A-b}", "${env:A}", "${A B}"]
)
def test_what_is_no_variable_is_refused_and_not_shown(text: str) -> None:
    lines = wrong({"servers": {"x": {"command": f"secret{text}"}}}, env={"A": "value"})
    assert lines == [
        (
            "servers.x.command: after ${ there is no name and }; "
            "write ${NAME}, or $${ for the text"
        )
    ]


def test_each_text_of_a_server_has_its_variables_replaced() -> None:
    text = """
    [servers.one]
    command = "${A}"
    args = ["${A}"]
    cwd = "${A}"
    env = { NAME = "${A}", "${A}" = "x" }
    [servers.two]
    url = "https://${A}"
    headers = { NAME = "${A}" }
    circuit = "${A}"
    tools = ["${A}"]
    """
    config = read(text, {"A": "v"})
    one, two = config.servers["one"], config.servers["two"]
    assert (one.command, one.args, one.cwd) == ("v", ("v",), "v")
    assert one.env == {"NAME": "v", "${A}": "x"}
    assert (two.url, two.headers) == ("https://v", {"NAME": "v"})
    assert (two.circuit, two.tools) == ("${A}", ("${A}",))


def test_a_variable_that_is_not_set_is_named_with_the_key() -> None:
    text = '[servers."a b"]\nurl = "https://${A}${B}${A}"\nheaders = { X = "${C}" }'
    assert wrong(text) == [
        'servers."a b".url: the variables A, B are not set; set it, or write ${A:-a default}',
        (
            'servers."a b".headers.X: the variable C is not set; '
            "set it, or write ${C:-a default}"
        ),
    ]


def test_variables_are_those_of_the_process_if_no_others_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = {"servers": {"x": {"command": "${CONFIG_TEST}"}}}
    monkeypatch.setenv("CONFIG_TEST", "here")
    assert read_config(data).servers["x"].command == "here"
    monkeypatch.delenv("CONFIG_TEST")
    with pytest.raises(ConfigError, match="CONFIG_TEST"):
        read_config(data)


SECRET = "hunter2\n"


@pytest.mark.parametrize(
    "server",
    [
        {"url": "${S}"},
        {"url": "ftp://${S}"},
        {"url": "https://[${S}"},
        {"url": "https:///${S}"},
        {"url": "https://x", "headers": {"X": "${S}"}},
        {"url": "https://x", "args": ["${S}"]},
        {"command": "${S}", "url": "https://${S}"},
        {"command": "${S}", "headers": {"A": "${S}"}},
        {"command": "${S}", "env": {"A": "${S}", "B": 3}},
        {"command": "${S}", "args": "${S}"},
        {"command": "${S}", "args": {"${S}": "${S}"}},
        {"command": "${S}\0"},
        {"command": "${S}", "env": {"=": "${S}"}},
        {"command": "${S}", "max_tools": "hunter2"},
        {"command": "${S}", "cwd": ["hunter2"]},
    ],
)
def test_no_value_is_shown_where_a_server_is_wrong(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({"servers": {"x": server}}, env={"S": SECRET})
    told = f"{raised.value!r} {raised.value.errors} {caplog.text}"
    assert "hunter2" not in told
    assert raised.value.__context__ is None
    assert all(each["key"].startswith("servers.x") for each in raised.value.errors)


def test_the_repr_of_a_configuration_shows_keys_and_no_values() -> None:
    config = read_config(
        {
            "servers": {
                "one": {
                    "command": "${S}",
                    "args": ["${S}"],
                    "env": {"A": "${S}", "B": "x"},
                },
                "two": {"url": "https://${S}", "headers": {"Authorization": "${S}"}},
                "three": {"command": "x", "cwd": "${S}"},
            }
        },
        env={"S": "hunter2"},
    )
    assert "hunter2" not in repr(config)
    assert "hunter2" not in f"{config} {list(config.servers.values())}"
    assert [repr(each) for each in config.servers.values()] == [
        "<ServerConfig stdio, env: A, B>",
        "<ServerConfig http, headers: Authorization>",
        "<ServerConfig stdio>",
    ]


# Servers


@pytest.mark.parametrize(
    ("server", "key", "says"),
    [
        ({}, "", "there is neither a command nor a url; give one of them"),
        ({"command": ""}, "", "there is neither a command nor a url"),
        ({"command": "x", "url": "https://x"}, "", "there are both a command and a url"),
        (
            {"command": "x", "headers": {"A": "b"}},
            ".headers",
            "a command is sent no headers",
        ),
        ({"url": "https://x", "args": ["x"]}, ".args", "for a server that is started"),
        ({"url": "https://x", "env": {"A": "b"}}, ".env", "for a server that is started"),
        ({"url": "https://x", "cwd": "/"}, ".cwd", "for a server that is started"),
        ({"url": "example.com"}, ".url", "this is no address; write one like"),
        ({"url": "file:///x"}, ".url", "this is no address"),
        ({"url": "http://"}, ".url", "this is no address"),
        ({"url": "https://x", "headers": {"A b": "c"}}, '.headers."A b"', "no header has"),
        ({"url": "https://x", "headers": {"": "c"}}, '.headers.""', "no header has"),
        ({"url": "https://x", "headers": {"A": "b\r\nC: d"}}, ".headers.A", "a line break"),
        (
            {"command": "x", "env": {"A=B": "c"}},
            '.env."A=B"',
            "no variable has such a name",
        ),
        ({"command": "x", "env": {"": "c"}}, '.env.""', "no variable has such a name"),
        (
            {"command": "x", "env": {"A": 8080}},
            ".env.A",
            "expected text, not a whole number",
        ),
        ({"command": "x", "env": ["A=B"]}, ".env", "expected a table, not a list"),
        ({"command": "x", "args": "-v"}, ".args", 'expected a list, not text; write ["...'),
        ({"command": "x", "args": ["-v", 3]}, ".args[1]", "expected text"),
        ({"command": "x\0"}, ".command", "there is a NUL character in it; take it out"),
        ({"command": "x", "pin": 1}, ".pin", "expected true or false, not a whole number"),
        ({"command": "x", "pin": "yes"}, ".pin", "expected true or false, not text"),
        (
            {"command": "x", "max_tools": 0},
            ".max_tools",
            "0 cannot be; write a whole number",
        ),
        ({"command": "x", "max_tools": 2.5}, ".max_tools", "expected a whole number"),
        ({"command": "x", "max_result_size": True}, ".max_result_size", "not true"),
        ({"command": "x", "tools": [""]}, ".tools[0]", "an empty name cannot be"),
        (
            {"command": "x", "exclude": ["y" * 129]},
            ".exclude[0]",
            "a name of 129 characters",
        ),
        ({"command": "x", "circuit": ""}, ".circuit", "an empty name"),
        ({"command": "x", "arguments": []}, ".arguments", 'such key; did you mean "args"?'),
        ({"command": "x", "zzz": []}, ".zzz", "known are command, args, env"),
        (3, "", "expected a table, not a whole number; write { KEY = VALUE }"),
        ({"command": "\ud800"}, ".command", "there is half a character in it"),
    ],
    ids=str,
)
def test_a_server_that_cannot_be_is_told_by_key(server: Any, key: str, says: str) -> None:
    [line, *_] = wrong({"servers": {"git": server}})
    assert line.startswith(f"servers.git{key}: ")
    assert says in line


def test_a_server_can_be_made_by_hand_and_checks_itself() -> None:
    server = ServerConfig(command="x", args=("${A}",), connect_timeout=5, max_tools=5)
    assert (server.connect_timeout, server.max_tools) == (5, 5)
    assert server.args == ("${A}",)  # only what is read from a file has variables
    bad: Any
    for bad in (
        {"url": "no address"},
        {"command": "x", "url": "https://x"},
        {"command": "x", "nothing": 3},
        {"url": "https://x", "headers": {"A": "hunter2\n"}},
        {},
    ):
        with pytest.raises(ValueError, match="ServerConfig") as raised:
            ServerConfig(**bad)
        assert "hunter2" not in str(raised.value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        server.command = "y"  # type: ignore[misc]


def test_two_names_that_are_one_to_the_names_of_tools_are_refused() -> None:
    server = {"command": "x"}
    lines = wrong({"servers": {"a.b": server, "a-b": server, "a_b": server, "a b": server}})
    assert lines == [
        (
            'servers.a_b: the name is too like that of "a.b"; let them differ in letters, '
            "digits, _ or -, which names of tools keep"
        ),
        (
            'servers."a b": the name is too like that of "a.b"; let them differ in letters, '
            "digits, _ or -, which names of tools keep"
        ),
    ]
    assert wrong({"servers": {"": server}})[0].startswith('servers."": an empty name')
    assert list(read_config({"servers": {"é" * 40: server}}).servers) == ["é" * 40]


# What else is wrong


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("orchestra = 3", 'orchestra: there is no such key; did you mean "orchestrator"?'),
        ("tools = 3", "tools: expected a table, not a whole number; give each entry a name"),
        ("[tools]\nx = 3", "tools.x: expected a table, not a whole number"),
        ('[tools.""]', 'tools."": an empty name cannot be; write one of 1 to 128'),
        ("[tools.x]\nreset-timeout = 3", 'such key; did you mean "reset_timeout"?'),
        ("[tools.limits.limits]\ncall = 3", ('tools.limits.limits.call: there is no such key; '
         'did you mean "calls"?')),
        ("[tools.x.retry]\nattempt = 3", 'did you mean "attempts"?'),
        ("[orchestrator.groups.x]\ncall = 3", "orchestrator.groups.x.call: there is no such"),
        ("[orchestrator.retry_budget]\nshares = 3", 'did you mean "share"?'),
        ("[circuits.x]\ntimeout = 3", "circuits.x.timeout: there is no such key"),
        ("[gateway]\nnames = 3", 'gateway.names: there is no such key; did you mean "name"?'),
        ('[gateway]\nname = ""', "gateway.name: an empty name cannot be"),
        ("[gateway]\nfigures_tool = 1", "gateway.figures_tool: expected true or false"),
        ("[tools.x]\nguard = 3", "tools.x.guard: there is no such key; it takes a function"),
        ("[tools.x.retry]\non = []", "tools.x.retry.on: there is no such key; it takes a fun"),
        ("[tools.x]\njudge = 'mine'", 'tools.x.judge: "mine" is no judge; write one of "any_'),
        ("[tools.x]\njudge = 3", "tools.x.judge: a whole number is no judge"),
        ("[tools.x]\nfallback = ''", "tools.x.fallback: an empty name cannot be"),
        ("[tools.x]\ncircuit = ''", "tools.x.circuit: an empty name cannot be"),
        ("[tools.x]\nidempotent = 1", "tools.x.idempotent: expected true or false"),
        ("[tools.x]\nalternatives = ['a', 'b', 'c', 'd']", "4 alternatives are too many; name"),
        ("[tools.x]\nmax_result_size = 3", "3 cannot be; expected at least 200, or false"),
        ("[tools.x]\nfailure_rate = 2", "2.0 cannot be; expected a number above 0 and at mos"),
        ("[tools.x]\njitter = 'x'", "tools.x.jitter: expected a number, not text; write digi"),
        ("[tools.x]\nmax_threads = 2.5", "expected a whole number, not a number"),
        ("[tools.x]\nmax_threads = 1979-05-27", "expected a whole number, not a date"),
        ("[tools.x]\nlimits = { burst = 3 }", "tools.x.limits.burst: 3 cannot be; expected"),
        ("[tools.x]\nlimits = { burst = 0 }", "tools.x.limits.burst: 0 cannot be; expected"),
        ("[tools.x]\nreset_timeout = '5m'\nmax_reset_timeout = '1m'",
         "tools.x.max_reset_timeout: 60.0 cannot be; expected at least reset_timeout=300.0"),
        ("[tools.x]\ngroup = 'y'", ('tools.x.group: there is no group "y"; add it to orchestr'
         "ator.groups: y = { ... }")),
        ("[orchestrator]\ngroup = 'y'", 'orchestrator.group: there is no group "y"; add it'),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_is_wrong_is_told_by_key(text: str, line: str) -> None:
    [said] = wrong(text)
    assert line in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    lines = wrong(
        """
        [orchestrator]
        failure_threshold = 0
        timeout = "5 parsecs"
        limits = { calls = "3", seconds = 0 }
        [circuits.x]
        jitter = 2
        [tools.x]
        group = "none"
        nothing = 3
        [tools.y.retry]
        attempts = 0
        [servers.x]
        command = "${NONE}"
        url = "https://x"
        args = [3]
        [servrs]
        """
    )
    assert sorted(each.partition(": ")[0] for each in lines) == [
        "circuits.x.jitter",
        "orchestrator.failure_threshold",
        "orchestrator.limits.calls",
        "orchestrator.limits.seconds",
        "orchestrator.timeout",
        "servers.x",
        "servers.x.args[0]",
        "servers.x.command",
        "servrs",
        "tools.x.group",
        "tools.x.nothing",
        "tools.y.retry.attempts",
    ]


def test_what_is_shown_of_a_value_is_short_and_nothing_that_a_terminal_obeys() -> None:
    [line] = wrong({"orchestrator": {"timeout": "\x1b[31m\u202e\n" + "x" * 10_000}})
    assert line.startswith('orchestrator.timeout: "\\x1b[31m\\u202e\\nxxx')
    assert len(line) < 250
    [line] = wrong({"\x1b[31m": 3})
    assert line.startswith('"\\x1b[31m": there is no such key')


@pytest.mark.parametrize("where", ["servers", "tools", "circuits", "gateway"])
def test_what_is_no_table_or_has_keys_that_are_no_text_is_refused(where: str) -> None:
    bad: Any
    for bad in (3, [], None, "x", {3: {}}, {None: {}}):
        assert wrong({where: bad})[0].startswith(where)
    odd: Any
    for odd in ({"orchestrator": 3}, {"orchestrator": {"groups": 3}, "tools": {}}, {3: 4}):
        assert wrong(odd)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"[key]": 3}, '"[key]"'),
        ({"gateway": {"[key]": 3}}, 'gateway."[key]"'),
        (
            {"mcpServers": {"x": {"command": "x", "args": [None]}, None: 3}},
            "mcpServers.x.args",
        ),
        ({"mcpServers": {"x": {None: 3}}}, "mcpServers.x"),
    ],
)
def test_odd_keys_are_told_like_others(data: Any, key: str) -> None:
    assert wrong(data)[0].startswith(key)


WORDS = [
    *_told.TOP,
    *_policies.ToolTable.model_fields,
    *_policies.OrchestratorTable.model_fields,
]
WORDS += [each.name for each in dataclasses.fields(ServerConfig)]
WORDS += "mcpServers serverUrl type disabled attempts calls burst seconds share x a.b a_b".split()
NAMES = st.sampled_from([*WORDS, "", "${A}", "[key]", 3, None])
VALUES = st.recursive(
    st.sampled_from([0, 1, -1, 3.5, math.nan, 10**400, True, False, None, "", "5m", "x"])
    | st.sampled_from(["${S}", "${NONE}", "${", "\0", "https://${S}", b"x", ("a",)]),
    lambda within: (
        st.lists(within, max_size=2) | st.dictionaries(NAMES, within, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=1000)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_nothing_but_a_configuration_or_its_errors_comes_of_any_mapping(data: Any) -> None:
    errors: Any = []
    try:
        told = repr(read_config(data, env={"S": "hunter2"}))
    except ConfigError as error:
        errors, told = error.errors, str(error)
        told = told if errors else "nothing"
    assert told != "nothing"
    assert all(each["problem"] and each["hint"] for each in errors)
    assert not errors or len(told.splitlines()) == len(errors)
    assert "hunter2" not in told


def test_a_mapping_of_any_kind_is_read() -> None:
    data = MappingProxyType({"gateway": {"name": "x"}})
    assert read_config(data).gateway.name == "x"
    for bad in ("x", None, ["servers"]):
        with pytest.raises(TypeError, match="expected a mapping, not"):
            read_config(bad)  # type: ignore[arg-type]


def test_the_top_tables_that_are_suggested_are_those_that_there_are() -> None:
    assert list(_read._File.model_fields) == list(_told.TOP)


@pytest.mark.parametrize("name", _policies.JUDGES)
def test_a_judge_is_said_by_its_name(name: str) -> None:
    config = read(f'[orchestrator]\njudge = "{name}"')
    assert config.policy.judge is getattr(orchestrator_async, name)
    assert {"any_error", "exceptions_only"} <= set(_policies.JUDGES)


# Tools


def test_fields_of_tools_are_those_of_all_patterns_the_later_over_the_earlier() -> None:
    config = read(
        """
        [tools."*"]
        polling = true
        idempotent = true
        circuit = "all"
        [tools."git__*"]
        idempotent = false
        alternatives = ["a", "b"]
        [tools.git__log]
        read_only = true
        circuit = false
        """
    )
    assert config.tool_fields("web__get") == {
        "polling": True,
        "idempotent": True,
        "circuit": "all",
    }
    assert config.tool_fields("git__log") == {
        "polling": True,
        "idempotent": False,
        "circuit": None,
        "alternatives": ("a", "b"),
        "read_only": True,
    }
    assert config.tool_fields("Git__log")["idempotent"] is True
    fields = {each.name for each in dataclasses.fields(Tool)}
    assert set(config.tool_fields("git__log")) <= fields


# Errors


def test_an_error_has_its_parts_as_fields_and_pickles() -> None:
    with pytest.raises(ConfigError) as raised:
        read('[tools."git__*"]\ntimeout = "5 parsecs"')
    error = ConfigError(raised.value.errors, path=Path("servers.toml"))
    assert isinstance(error, OrchestratorError)
    assert isinstance(error, ValueError)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert each.errors == (
            {
                "key": 'tools."git__*".timeout',
                "problem": '"5 parsecs" is no duration',
                "hint": 'write "250ms", "30s" or "5m"',
            },
        )
        assert each.path == Path("servers.toml")
        assert str(each) == (
            'servers.toml: tools."git__*".timeout: "5 parsecs" is no duration; '
            'write "250ms", "30s" or "5m"'
        )


def test_the_value_of_a_policy_does_not_fill_the_screen() -> None:
    [line] = wrong({"tools": {"x": {"max_threads": -(10**4000)}}})
    assert len(line) < 250


# Files


def refused(path: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert raised.value.path == Path(path)
    return str(raised.value)


def test_a_file_that_cannot_be_read_is_told_with_its_path(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refused(missing) == (
        f"{missing}: there is no such file; give the path of one in TOML or JSON"
    )
    assert refused(str(tmp_path)) == (
        f"{tmp_path}: this is a directory; give the path of a file in it"
    )
    assert "it cannot be read: Not a directory" in refused(missing.parent / "x" / "y") or (
        "there is no such file" in refused(missing.parent / "x" / "y")
    )
    assert "it cannot be read: File name too long" in refused(tmp_path / ("x" * 300))
    assert "it cannot be read" in refused("a\0b.toml")
    for bad in (3, None, b"x.toml"):
        with pytest.raises(TypeError):
            load_config(bad)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_file_that_may_not_be_read_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("")
    path.chmod(0)
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)  # root may read anything, so somebody else asks
    try:
        told = refused(path)
    finally:
        os.seteuid(mine)
    assert told == f"{path}: it may not be read; change its permissions"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", b"a = \n", "this is no TOML: Invalid value (at line 1, column 5)"),
        (
            "a.toml",
            b"[a]\n[a]\n",
            "this is no TOML: Cannot declare ('a',) twice (at line 2,",
        ),
        ("a.conf", b"{}", "this is no TOML: "),
        ("a.json", b'{"a": ', "this is no JSON: Expecting value (at line 1, column 7)"),
        ("a.json", b"{'a': 3}", "this is no JSON: "),
        ("a.json", b"[]", "expected a table, not a list; write { ... }"),
        ("a.toml", b"[a]\n# \xff", "byte 6 is not UTF-8; save it as UTF-8"),
        ("a.json", b"\xff\xfe{", "byte 0 is not UTF-8"),
        ("a.toml", b"a = " + b"[" * 9999, "it is nested too deep; write it flatter"),
        ("a.json", b'{"a": ' + b"[" * 99999, "it is nested too deep; write it flatter"),
        ("a.toml", b"a = " + b"9" * 9999, "it cannot be read: Exceeds the limit"),
        ("a.json", b'{"a": ' + b"9" * 9999 + b"}", "it cannot be read: Exceeds the limit"),
    ],
)
def test_a_broken_file_is_told_with_the_place(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    told = refused(path)
    assert told.startswith(f"{path}: {says}")
    assert "\n" not in told


def test_each_line_of_an_error_begins_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = 1\nb = 2\n")
    assert [each[: len(str(path)) + 4] for each in refused(path).splitlines()] == [
        f"{path}: a:",
        f"{path}: b:",
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_is_toml_or_json_by_its_name(tmp_path: Path, mark: str) -> None:
    toml, ours, hosts = (tmp_path / name for name in ("a.toml", "a.json", "b.json"))
    toml.write_text(f'{mark}[servers.x]\r\ncommand = "é"', encoding="utf-8")
    server = {"x": {"command": "é"}}
    ours.write_text(mark + json.dumps({"servers": server}), encoding="utf-8")
    hosts.write_text(mark + json.dumps({"mcpServers": server}), encoding="utf-8")
    for path in (toml, ours, hosts):
        config = load_config(path)
        assert config.servers == {"x": ServerConfig(command="é")}
        assert config.path == path
    assert load_config(str(toml), env={}) == load_config(toml)


def test_a_file_without_end_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.touch()
    os.truncate(path, 32_000_001)
    assert refused(path) == (
        f"{path}: it has more than 32,000,000 bytes; give one that is shorter"
    )
    if os.path.exists("/dev/zero"):
        assert "it has more than" in refused("/dev/zero")


# The JSON of other hosts


def hosts(servers: Any, **others: Any) -> Config:
    return read_config({"mcpServers": servers, **others}, env={"A": "value"})


def test_the_servers_of_other_hosts_are_read() -> None:
    config = hosts(
        {
            "git": {"command": "x", "args": ["${A}"], "env": {"B": "${A}"}, "cwd": "/"},
            "typed": {"type": "stdio", "command": "x", "url": None, "env": None},
            "one": {"url": "https://one", "headers": {"B": "${A}"}, "disabled": False},
            "two": {"serverUrl": "https://two", "type": "http"},
            "three": {"httpUrl": "https://three", "transport": "streamable-http"},
            "four": {"url": "https://four", "type": "streamableHttp", "tools": ["a*"]},
        }
    )
    assert config.servers == {
        "git": ServerConfig(command="x", args=("value",), env={"B": "value"}, cwd="/"),
        "typed": ServerConfig(command="x"),
        "one": ServerConfig(url="https://one", headers={"B": "value"}),
        "two": ServerConfig(url="https://two"),
        "three": ServerConfig(url="https://three"),
        "four": ServerConfig(url="https://four", tools=("a*",)),
    }
    assert config == dataclasses.replace(Config(), servers=config.servers)


def test_what_only_a_host_knows_is_ignored_with_a_line_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "orchestrator_async")
    server = {"command": "x", "autoApprove": ["hunter2"], "timeout": 60_000}
    off = {"command": "", "disabled": True, "timeout": 3}
    config = hosts({"git": server, "off": off}, theme="hunter2")
    assert list(config.servers) == ["git"]
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "theme is not known here, and ignored"),
        ("WARNING", "mcpServers.git.autoApprove is not known here, and ignored"),
        ("WARNING", "mcpServers.git.timeout is not known here, and ignored"),
        ("INFO", "mcpServers.off is disabled, and left out"),
    ]


@pytest.mark.parametrize(
    ("server", "line"),
    [
        (
            {"url": "https://x", "type": "sse"},
            'mcpServers.x.type: "sse" is an old transport',
        ),
        (
            {"url": "https://x", "transport": "sse"},
            'mcpServers.x.transport: "sse" is an old',
        ),
        (
            {"url": "https://x", "type": "ws"},
            'x.type: "ws" is no transport; write "stdio" or',
        ),
        (
            {"url": "https://x", "type": 3},
            "mcpServers.x.type: a whole number is no transport",
        ),
        ({"url": "https://x", "type": []}, "mcpServers.x.type: a list is no transport"),
        ({"command": "x", "type": "http"}, 'mcpServers.x.type: "http" needs a url'),
        (
            {"url": "https://x", "type": "stdio"},
            'mcpServers.x.type: "stdio" needs a command',
        ),
        (
            {"command": "x", "disabled": 1},
            "mcpServers.x.disabled: expected true or false, not",
        ),
        (
            {"command": "x", "args": ["${B}"]},
            "mcpServers.x.args[0]: the variable B is not set",
        ),
        ({"args": []}, "mcpServers.x: there is neither a command nor a url"),
        (3, "mcpServers.x: expected a table, not a whole number"),
    ],
)
def test_a_server_of_another_host_that_cannot_be_is_told(server: Any, line: str) -> None:
    [said] = wrong({"mcpServers": {"x": server}})
    assert line in said


@pytest.mark.parametrize("servers", [3, [], None])
def test_servers_of_another_host_that_are_no_table_are_told(servers: Any) -> None:
    assert wrong({"mcpServers": servers})[0].startswith(
        "mcpServers: expected a table, not "
    )


# To an orchestrator


SETTINGS = """
[orchestrator]
failure_threshold = 5
limits = { max_concurrent = 7 }
groups = { g = { calls = 3 } }
[circuits.tool]
jitter = 0.5
[tools."to*"]
failure_threshold = 2
timeout = "5s"
"""


def threshold(orch: ToolOrchestrator, name: str = "tool") -> int:
    return orch.circuit(name).breaker.settings.failure_threshold


def registry() -> tuple[Registry, Service]:
    registry, service = Registry(), Service()
    service.offer(registry)
    service.offer(registry, "other")
    return registry, service


def test_an_orchestrator_has_the_settings_of_the_file() -> None:
    tools, _ = registry()
    orch = read(SETTINGS).orchestrator(tools)
    assert orch.registry is tools
    assert (threshold(orch), threshold(orch, "other")) == (2, 5)
    assert orch.circuit("tool").breaker.settings.jitter == 0.5
    assert orch._fleet.settings(tools["tool"]).timeout == 5
    assert orch._shared == (
        BudgetPolicy(),
        LimitPolicy(max_concurrent=7),
        {"g": LimitPolicy(calls=3)},
    )
    assert read("").orchestrator().registry is orchestrator_async.registry


def test_overrides_stand_in_place_of_what_the_file_says() -> None:
    tools, _ = registry()
    clock = HandClock()
    orch = read(SETTINGS).orchestrator(tools, tools={}, limits=None, clock=clock)
    assert threshold(orch) == 5
    assert orch._shared.limits is None
    with pytest.raises(ValueError, match="failure_threshold is given twice"):
        read(SETTINGS).orchestrator(tools, failure_threshold=3)


def test_settings_are_arguments_of_an_orchestrator_and_of_its_reload() -> None:
    settings = read(SETTINGS).settings()
    tools, _ = registry()
    orch = ToolOrchestrator(tools, **settings)
    orch.reload(**settings)
    assert list(settings["tools"]) == ["to*"]
    settings["tools"].clear()
    assert threshold(orch) == 2


async def test_a_reload_from_a_file_puts_all_in_the_place_of_what_was_and_keeps_what_came(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(SETTINGS)
    tools, service = registry()
    orch = ToolOrchestrator(
        tools,
        clock=HandClock(),
        retry_budget=None,
        timeout=99,
        circuits={"other": BreakerPolicy(jitter=1)},
    )
    service.behaviour = fail
    await orch.dispatch("tool")
    before, circuit = orch.get_fleet_stats(), orch.circuit("tool")
    for way in (path, str(path)):
        orch.reload(way)
    assert orch.get_fleet_stats() == before
    assert orch.circuit("tool") is circuit
    assert (threshold(orch), threshold(orch, "other")) == (2, 5)
    assert orch.circuit("other").breaker.settings.jitter == 0
    assert orch._fleet.settings(tools["other"]).timeout is None
    assert orch._shared.budget == BudgetPolicy()
    await orch.dispatch("tool")
    assert circuit.state == "open"
    path.write_text('[servers.x]\ncommand = "nothing is started"')
    orch.reload(path)
    assert (threshold(orch), threshold(orch, "other")) == (3, 3)
    assert orch._shared == (BudgetPolicy(), None, {})
    assert circuit.state == "open"
    assert orch.stats("tool").total_failures == 2
    assert_adds_up(orch)


def test_a_reload_from_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    tools, service = registry()
    service.offer(tools, "three", circuit="db")
    service.offer(tools, "four", circuit="db")
    orch = read(SETTINGS).orchestrator(tools)
    path.write_text("[orchestrator]\nfailure_threshold = 9\ntimeout = '5 parsecs'")
    with pytest.raises(ConfigError, match=r"a\.toml: orchestrator\.timeout"):
        orch.reload(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        orch.reload(tmp_path / "b.toml")
    path.write_text("[tools.three]\nmax_keys = 1\n[tools.four]\nmax_keys = 2")
    with pytest.raises(ValueError, match="three and four share the circuit db"):
        orch.reload(path)
    with pytest.raises(TypeError, match="int"):
        orch.reload(3)  # type: ignore[arg-type]
    assert (threshold(orch), threshold(orch, "other")) == (2, 5)
    assert orch._shared.limits == LimitPolicy(max_concurrent=7)


@pytest.mark.parametrize(
    "given",
    [
        {"failure_threshold": 3},
        {"reset_timeout": 3},
        {"timeout": None},
        {"policy": ToolPolicy()},
        {"circuits": {}},
        {"retry_budget": None},
        {"limits": None},
        {"groups": {}},
        {"tools": {}},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_path_is_given_alone(given: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[orchestrator]\nfailure_threshold = 9")
    tools, _ = registry()
    orch = ToolOrchestrator(tools)
    with pytest.raises(TypeError, match="a path, or settings, but not both"):
        orch.reload(path, **given)
    assert threshold(orch) == 3
    orch.reload(path)
    assert threshold(orch) == 9


# The module


def test_all_its_public_names_say_what_they_are() -> None:
    config = orchestrator_async.config
    assert config.__all__ == sorted(config.__all__)
    for name in config.__all__:
        assert getattr(config, name).__doc__


def test_pydantic_is_imported_with_it_and_not_before() -> None:
    program = (
        "import sys, orchestrator_async as o\n"
        "o.ToolOrchestrator(o.Registry(), tools={'x': o.ToolPolicy()}).reload()\n"
        "assert 'pydantic' not in sys.modules\n"
        "import orchestrator_async.config\n"
        "assert 'pydantic' in sys.modules\n"
        "assert not {'mcp', 'cyclopts', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=60, check=True)


@pytest.mark.parametrize(
    ("one", "other"), [("a__b", "a_b"), ("a", "a_"), ("a b", "a_b"), ("a", "a__")]
)
def test_servers_whose_tools_would_have_one_name_are_refused(one: str, other: str) -> None:
    servers = {one: {"command": "x"}, other: {"command": "y"}}
    with pytest.raises(ConfigError, match="too like"):
        read_config({"servers": servers})


def test_long_names_of_servers_may_begin_alike() -> None:
    names = [
        "production-database-server-region-east",
        "production-database-server-region-west",
    ]
    config = read_config({"servers": {name: {"command": "x"} for name in names}})
    assert list(config.servers) == names
