"""
From a file, or from what stood in it, to a ``Config``, or to all that is wrong with it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from . import _policies as policies
from ._config import Config, GatewayConfig
from ._errors import ConfigError, Key, Problem, key_text, kind_of, quoted, shown
from ._hosts import HOSTS, from_hosts
from ._names import server_part
from ._servers import ServerConfig, of_two_kinds
from ._told import problems_of
from ._values import Name

_MOST: Final = 32_000_000
"""Bytes of a file. Hosts keep more in theirs than servers."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    orchestrator: policies.OrchestratorSaid = policies.Said()
    circuits: dict[Name, policies.Circuit] = {}
    tools: dict[Name, policies.ToolSaid] = {}
    servers: dict[Name, ServerConfig] = {}
    gateway: GatewayConfig = GatewayConfig()


def load_config(
    path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None
) -> Config:
    """
    Read a file: JSON if its name ends in ``.json``, else TOML.

    Args:
        path: The file.
        env: See ``read_config``.

    Raises:
        ConfigError: It cannot be read, or something in it cannot be; says all of it.
        TypeError: ``path`` is no path.
    """
    at = Path(path)
    try:
        data = _parsed(at)
        return replace(read_config(data, env=env), path=at)
    except ConfigError as error:
        raise ConfigError(error.errors, path=at) from None


def read_config(data: Mapping[str, Any], *, env: Mapping[str, str] | None = None) -> Config:
    """
    Read what stood in a file.

    Args:
        data: The tables of a file, or the ``mcpServers`` of a host of MCP servers.
        env: What ``${NAME}`` is replaced from. Default: ``os.environ``.

    Raises:
        ConfigError: Something in it cannot be; says all of it.
        TypeError: ``data`` is no mapping.
    """
    given: object = data
    if not isinstance(given, Mapping):
        raise TypeError(f"expected a mapping, not {kind_of(given)}")
    told: list[Problem] = []
    hosts = HOSTS in data
    if hosts:
        data = {"servers": from_hosts(data, told)}
    context = {"env": os.environ if env is None else env}
    told += _of_servers(data.get("servers"))
    told += _of_groups(data)
    try:
        file = _File.model_validate(dict(data), context=context)
    except ValidationError as error:
        told += problems_of(error)
    if told:
        raise ConfigError(_in_words(told, hosts))
    return _config(file)


def _config(file: _File) -> Config:
    shared = file.orchestrator.others
    return Config(
        servers=file.servers,
        gateway=file.gateway,
        policy=file.orchestrator.policy,
        circuits=file.circuits,
        tools={name: said.policy for name, said in file.tools.items()},
        fields={name: said.others for name, said in file.tools.items() if said.others},
        **shared,
    )


def _in_words(told: list[Problem], hosts: bool) -> Iterator[dict[str, str]]:
    """
    Each once, for one place may be looked at twice.
    """
    for each in dict.fromkeys(told):
        if hosts and each.key[0] == "servers":
            each = each._replace(key=(HOSTS, *each.key[1:]))
        yield each.told()


def _of_servers(servers: Any) -> Iterator[Problem]:
    """
    What is wrong with servers beside one another, and with the keys of each together:
    pydantic would look at that only where all else is right.
    """
    if not isinstance(servers, Mapping):
        return
    known: dict[str, str] = {}
    for name, server in servers.items():
        if not isinstance(name, str):
            continue
        other = known.setdefault(server_part(name), name)
        if other != name:
            problem = f"the name is too like that of {quoted(other)}"
            hint = "let them differ in letters, digits, _ or -, which names of tools keep"
            yield Problem(("servers", name), problem, hint)
        if isinstance(server, Mapping):
            given = [key for key, value in server.items() if value]
            for each in of_two_kinds(given):
                yield each._replace(key=("servers", name, *each.key))


def _of_groups(data: Mapping[str, Any]) -> Iterator[Problem]:
    """
    Groups that tools are of, and that there are not.
    """
    orchestrator = data.get("orchestrator", {})
    groups = orchestrator.get("groups", {}) if isinstance(orchestrator, Mapping) else {}
    tools = data.get("tools", {})
    if not isinstance(groups, Mapping) or not isinstance(tools, Mapping):
        return
    places: list[tuple[Key, Any]] = [(("orchestrator",), orchestrator)]
    places += [(("tools", name), said) for name, said in tools.items()]
    for at, said in places:
        group = said.get("group") if isinstance(said, Mapping) else None
        if isinstance(group, str) and group not in groups:
            hint = f"add it to orchestrator.groups: {key_text((group,))} = {{ ... }}"
            yield Problem((*at, "group"), f"there is no group {quoted(group)}", hint)


def _parsed(path: Path) -> Mapping[str, Any]:
    """
    What stands in a file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        text = _content(path).decode("utf-8-sig")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ConfigError:
        raise  # it is too long
    except UnicodeDecodeError as error:
        raise _unread(f"byte {error.start} is not UTF-8", "save it as UTF-8") from None
    except OSError as error:
        raise _unread(*_of_system(error)) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _unread(f"this is no JSON: {error.msg} (at {where})", "mend it") from None
    except tomllib.TOMLDecodeError as error:
        raise _unread(f"this is no TOML: {shown(str(error))}", "mend it") from None
    except RecursionError:
        raise _unread("it is nested too deep", "write it flatter") from None
    except ValueError as error:
        # A path with a NUL character, or a number of thousands of digits.
        raise _unread(f"it cannot be read: {shown(str(error))}", "mend it") from None
    if not isinstance(data, dict):
        raise _unread(f"expected a table, not {kind_of(data)}", "write { ... }")
    return data


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise _unread(f"it has more than {_MOST:,} bytes", "give one that is shorter")
    return content


def _of_system(error: OSError) -> tuple[str, str]:
    match error:
        case FileNotFoundError():
            return "there is no such file", "give the path of one in TOML or JSON"
        case IsADirectoryError():
            return "this is a directory", "give the path of a file in it"
        case PermissionError():
            return "it may not be read", "change its permissions"
        case _:
            return f"it cannot be read: {error.strerror}", "give the path of another file"


def _unread(problem: str, hint: str) -> ConfigError:
    return ConfigError([Problem((), problem, hint).told()])
