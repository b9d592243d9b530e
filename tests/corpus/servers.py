"""
What MCP servers that others wrote return, or answer instead of a result.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from .databases import SETUP, STATEMENTS, Postgres, redis_server
from .exceptions import taken_down
from .found import Found
from .loopback import Net

_MISSING = "no such tool"


class Ask(NamedTuple):
    """
    A call of a tool, and what is to be said of its error.
    """

    label: str
    provoked: str
    tool: str
    args: dict[str, Any]
    why: str = ""


Step = Ask | Callable[[], object]


class Server(NamedTuple):
    """
    A server, and what is done with it: calls, and functions that break something.
    """

    source: str
    command: list[str]
    steps: list[Step]
    env: Mapping[str, str] = MappingProxyType({})


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of those that are installed.
    """
    makers = (
        _everything, _filesystem, _memory, _time, _git, _sqlite, _fetch, _duckdb, _excel,
        _mysql, _kubernetes, _database,
    )  # fmt: skip
    for make in makers:
        place = here / make.__name__
        place.mkdir()
        yield from served(make(net, place))
    if shutil.which("redis-server"):
        yield from _with_redis(net, here)
    if shutil.which("pg_ctl") and shutil.which("mcp-server-postgres"):
        yield from _with_postgres(net, here)


def served(server: Server) -> list[Found]:
    """
    What it gives while all its steps are gone through; nothing if it is not installed.
    """
    if shutil.which(server.command[0]) is None:
        print(f"{server.command[0]} is not installed")
        return []
    found: list[Found] = []
    try:
        anyio.run(_run, server, found)
    except Exception as error:
        print(f"{server.source}: {error!r}")
    return found


async def _run(server: Server, found: list[Found]) -> None:
    parameters = StdioServerParameters(
        command=server.command[0], args=server.command[1:], env={**os.environ, **server.env}
    )
    with open(os.devnull, "w") as null, anyio.fail_after(120):
        async with Client(stdio_client(parameters, errlog=null)) as client:
            for step in server.steps:
                if isinstance(step, Ask):
                    await _ask(client, server.source, step, found)
                else:
                    step()


async def _ask(client: Client, source: str, ask: Ask, found: list[Found]) -> None:
    more = {
        "source": source, "provoked": ask.provoked, "label": ask.label, "why": ask.why,
    }  # fmt: skip
    try:
        result = await client.call_tool(ask.tool, ask.args, read_timeout_seconds=20)
    except Exception as error:
        found.append(taken_down(error, **more))
        return
    text = "\n".join(each.text for each in result.content if hasattr(each, "text"))
    form = "mcp" if result.is_error else "mcp-ok"
    found.append(Found(form=form, text=text, **more))  # type: ignore[arg-type]


def _everything(net: Net, here: Path) -> Server:
    return Server("mcp everything", ["mcp-server-everything"], [
        Ask("call", _MISSING, "nowhere", {}),
        Ask("call", "no argument", "echo", {}),
        Ask("call", "a type", "get-sum", {"a": "x", "b": 1}),
        Ask("call", "an enum", "get-annotated-message", {"messageType": "nonsense"}),
        Ask("call", "a place", "get-structured-content", {"location": "Mars"}),
        Ask("call", "a number", "get-resource-links", {"count": "many"}),
        Ask("call", "a number out of range", "get-resource-links", {"count": 99}),
        Ask("call", "a resource", "get-resource-reference", {"resourceType": "x"}),
        Ask("call", "an id", "get-resource-reference", {"resourceType": "Text", "resourceId": -1}),
        Ask("call", "a URL", "gzip-file-as-resource", {"name": "a", "data": "nonsense"}),
        Ask("call", "a scheme", "gzip-file-as-resource", {"name": "a", "data": "ftp://x/y"}),
        Ask("service", "nobody listens", "gzip-file-as-resource",
            {"name": "a", "data": f"http://{net.refused}/"}),
        Ask("service", "reset", "gzip-file-as-resource",
            {"name": "a", "data": f"http://{net.reset}/"}),
        Ask("content", "an echo", "echo", {"message": "Error handling is next"}),
        Ask("content", "a sum", "get-sum", {"a": 500, "b": 3}),
        Ask("content", "weather", "get-structured-content", {"location": "New York"}),
    ])  # fmt: skip


def _filesystem(net: Net, here: Path) -> Server:
    root = here / "root"
    root.mkdir()
    (root / "text.txt").write_text("one\ntwo\n")
    (root / "full").mkdir()
    (root / "full" / "x").write_text("text")
    (root / "loop").symlink_to(root / "loop")
    (root / "out").symlink_to("/etc")
    (root / "bytes").write_bytes(bytes(range(256)))
    (root / "log.txt").write_text("ERROR: one\nERROR: two\nERROR: three\n")
    (root / "guide.md").write_text("# Errors\n\nError: this word begins each message.\n")
    (root / "notes.txt").write_text("Errors in the plan: none found.\n")
    (root / "json.txt").write_text('{"errors": [], "timeout": 30}')

    def at(name: str) -> str:
        return str(root / name)

    return Server("mcp filesystem", ["mcp-server-filesystem", str(root)], [
        Ask("call", "a missing file", "read_text_file", {"path": at("nowhere.txt")}),
        Ask("call", "a directory", "read_text_file", {"path": at("full")}),
        Ask("call", "outside", "read_text_file", {"path": "/etc/passwd"}),
        Ask("call", "outside by a link", "read_text_file", {"path": at("out/passwd")}),
        Ask("call", "a loop of links", "read_text_file", {"path": at("loop")}),
        Ask("call", "head and tail", "read_text_file",
            {"path": at("text.txt"), "head": 1, "tail": 1}),
        Ask("call", "no path", "read_text_file", {}),
        Ask("call", "a type", "read_text_file", {"path": 3}),
        Ask("call", "a number", "read_text_file", {"path": at("text.txt"), "head": "x"}),
        Ask("call", "an edit that matches nothing", "edit_file",
            {"path": at("text.txt"), "edits": [{"oldText": "nope", "newText": "x"}]}),
        Ask("call", "an edit of nothing", "edit_file",
            {"path": at("nowhere.txt"), "edits": []}),
        Ask("call", "an edit without text", "edit_file", {"path": at("text.txt"), "edits": [{}]}),
        Ask("call", "to write in no directory", "write_file",
            {"path": at("nowhere/x"), "content": "x"}),
        Ask("call", "to write a directory", "write_file", {"path": at("full"), "content": "x"}),
        Ask("call", "to list a file", "list_directory", {"path": at("text.txt")}),
        Ask("call", "to list nothing", "list_directory_with_sizes", {"path": at("nowhere")}),
        Ask("call", "an order", "list_directory_with_sizes",
            {"path": str(root), "sortBy": "nonsense"}),
        Ask("call", "to move nothing", "move_file",
            {"source": at("nowhere"), "destination": at("y")}),
        Ask("call", "to move onto", "move_file",
            {"source": at("text.txt"), "destination": at("full")}),
        Ask("call", "several, all missing", "read_multiple_files", {"paths": [at("a1"), at("b1")]},
            "a result that says so of each"),
        Ask("call", "no files", "read_multiple_files", {"paths": []}),
        Ask("call", "a directory where a file is", "create_directory", {"path": at("text.txt")}),
        Ask("call", "a file as a directory", "create_directory", {"path": at("text.txt/x")}),
        Ask("call", "a name too long", "write_file", {"path": at("x" * 300), "content": "x"}),
        Ask("call", "a null", "write_file", {"path": at("a\0b"), "content": "x"}),
        Ask("call", "a tree of nothing", "directory_tree", {"path": at("nowhere")}),
        Ask("content", "nothing matches", "search_files", {"path": str(root), "pattern": "zzz"},
            "a result, and no error"),
        Ask("call", "the info of nothing", "get_file_info", {"path": at("nowhere")}),
        Ask("call", "a picture of nothing", "read_media_file", {"path": at("nowhere.png")}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a log", "read_text_file", {"path": at("log.txt")}),
        Ask("content", "a guide", "read_text_file", {"path": at("guide.md")}),
        Ask("content", "notes", "read_text_file", {"path": at("notes.txt")}),
        Ask("content", "JSON", "read_text_file", {"path": at("json.txt")}),
        Ask("content", "a list", "list_directory", {"path": str(root)}),
        Ask("content", "done", "write_file", {"path": at("new.txt"), "content": "x"}),
        lambda: shutil.rmtree(root),
        Ask("service", "the directory went away", "write_file",
            {"path": at("x.txt"), "content": "x"}, "it looks like a path that is wrong"),
    ])  # fmt: skip


def _memory(net: Net, here: Path) -> Server:
    file = here / "memory.json"
    entity = {"name": "a", "entityType": "b", "observations": []}

    def damage() -> None:
        file.write_text("no JSON")

    def replace() -> None:
        file.unlink()
        file.mkdir()

    return Server("mcp memory", ["mcp-server-memory"], [
        Ask("call", "no such entity", "add_observations",
            {"observations": [{"entityName": "nobody", "contents": ["x"]}]}),
        Ask("call", "no entities", "create_entities", {}),
        Ask("call", "an entity without a type", "create_entities", {"entities": [{"name": "x"}]}),
        Ask("call", "a type", "create_relations", {"relations": "x"}),
        Ask("call", "a query", "search_nodes", {"query": 3}),
        Ask("call", "names", "open_nodes", {}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "made", "create_entities", {"entities": [entity]}),
        Ask("content", "all", "read_graph", {}),
        damage,
        Ask("service", "its file is damaged", "read_graph", {}),
        replace,
        Ask("service", "its file is a directory", "create_entities", {"entities": [entity]},
            "EISDIR of a path that is its own"),
        lambda: shutil.rmtree(here),
        Ask("service", "its directory is gone", "create_entities",
            {"entities": [entity | {"name": "z"}]}, "ENOENT of a path that is its own"),
    ], {"MEMORY_FILE_PATH": str(file)})  # fmt: skip


def _time(net: Net, here: Path) -> Server:
    return Server("mcp time", ["mcp-server-time"], [
        Ask("call", "a zone", "get_current_time", {"timezone": "Mars/Base"}),
        Ask("call", "no zone", "get_current_time", {}),
        Ask("call", "an empty zone", "get_current_time", {"timezone": ""}),
        Ask("call", "a type", "get_current_time", {"timezone": 3}),
        Ask("call", "a time", "convert_time",
            {"source_timezone": "UTC", "time": "noon", "target_timezone": "UTC"}),
        Ask("call", "an hour", "convert_time",
            {"source_timezone": "UTC", "time": "25:00", "target_timezone": "UTC"}),
        Ask("call", "a target", "convert_time",
            {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Nowhere"}),
        Ask("call", "a path", "get_current_time", {"timezone": "../../etc/passwd"}),
        Ask("call", "no time", "convert_time", {"source_timezone": "UTC"}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "the time", "get_current_time", {"timezone": "UTC"}),
    ])  # fmt: skip


def _git(net: Net, here: Path) -> Server:
    repo = here / "repo"
    subprocess.run(
        f"git init -q -b main {repo} && cd {repo} && git config user.email a@example.com && "
        "git config user.name A && echo a > b.txt && git add . && "
        "git commit -qm 'Error: say which file is missing' && git branch other && "
        "git checkout -q other && echo z > b.txt && git commit -qam 'Failed to parse: done' && "
        "git checkout -q main && echo q > b.txt && git commit -qam third",
        shell=True, check=True,
    )  # fmt: skip
    at = {"repo_path": str(repo)}
    return Server("mcp git", ["mcp-server-git"], [
        Ask("call", "no repository", "git_status", {"repo_path": str(here)}),
        Ask("call", "nothing there", "git_status", {"repo_path": str(here / "nowhere")}),
        Ask("call", "no path", "git_status", {}),
        Ask("call", "a revision", "git_show", {**at, "revision": "nowhere"}),
        Ask("call", "a branch", "git_checkout", {**at, "branch_name": "nowhere"}),
        Ask("call", "a branch that exists", "git_create_branch", {**at, "branch_name": "other"}),
        Ask("call", "a base", "git_create_branch",
            {**at, "branch_name": "y", "base_branch": "nowhere"}),
        Ask("call", "a name", "git_create_branch", {**at, "branch_name": "a..b"}),
        Ask("call", "a file", "git_add", {**at, "files": ["nowhere.txt"]}),
        Ask("call", "an option as a file", "git_add", {**at, "files": ["--nonsense"]}),
        Ask("call", "files", "git_add", {**at, "files": "x"}),
        Ask("call", "a target", "git_diff", {**at, "target": "nowhere"}),
        Ask("call", "an option as a target", "git_diff", {**at, "target": "--output=x"}),
        Ask("call", "a count", "git_log", {**at, "max_count": "many"}),
        Ask("call", "a kind of branch", "git_branch", {**at, "branch_type": "nonsense"}),
        Ask("call", "a commit", "git_branch",
            {**at, "branch_type": "local", "contains": "nowhere"}),
        Ask("call", "outside", "git_add", {**at, "files": ["../x"]}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a log", "git_log", at),
        Ask("content", "a commit", "git_show", {**at, "revision": "HEAD"}),
        lambda: (repo / ".git" / "index.lock").touch(),
        Ask("service", "a lock of another's", "git_add", {**at, "files": ["b.txt"]}),
        Ask("service", "a lock at a reset", "git_reset", at),
    ])  # fmt: skip


def _sqlite(net: Net, here: Path) -> Server:
    file = here / "a.db"
    holder: list[sqlite3.Connection] = []

    def lock() -> None:
        holder.append(sqlite3.connect(file))
        holder[0].execute("begin exclusive")

    def damage() -> None:
        holder[0].rollback()
        holder[0].close()
        file.write_bytes(b"this is no database any more" * 1000)

    def read(query: str) -> dict[str, Any]:
        return {"query": query}

    return Server("mcp sqlite", ["mcp-server-sqlite", "--db-path", str(file)], [
        Ask("content", "made", "create_table", read("create table t (id integer primary key, x not null)")),
        Ask("content", "a row", "write_query", read("insert into t values (1, 'Error: none')")),
        Ask("content", "rows", "read_query", read("select * from t")),
        Ask("call", "no such table", "read_query", read("select * from nowhere")),
        Ask("call", "no such column", "read_query", read("select nope from t")),
        Ask("call", "a syntax", "read_query", read("select from from")),
        Ask("call", "no select", "read_query", read("delete from t")),
        Ask("call", "a select to write", "write_query", read("select 1")),
        Ask("call", "a key twice", "write_query", read("insert into t values (1, 2)")),
        Ask("call", "a null", "write_query", read("insert into t values (2, null)")),
        Ask("call", "no create", "create_table", read("select 1")),
        Ask("call", "a table that exists", "create_table", read("create table t (x)")),
        Ask("call", "no such table to describe", "describe_table", {"table_name": "a b"}),
        Ask("call", "no query", "read_query", {}),
        Ask("call", "no arguments", "append_insight", {}),
        Ask("call", "two statements", "write_query", read("insert into t values (3,3); select 1")),
        Ask("call", _MISSING, "nowhere", {}),
        lock,
        Ask("service", "the database is locked", "write_query", read("insert into t values (7, 7)")),
        damage,
        Ask("service", "the database is damaged", "read_query", read("select * from t")),
        lambda: shutil.rmtree(here),
        Ask("service", "its directory is gone", "read_query", read("select * from t")),
    ])  # fmt: skip


def _fetch(net: Net, here: Path) -> Server:
    def at(url: str) -> dict[str, Any]:
        return {"url": url}

    name = "the name may also be the argument"
    return Server("mcp fetch", ["mcp-server-fetch", "--ignore-robots-txt", "--allow-private-ips"], [
        Ask("service", "nobody listens", "fetch", at(f"http://{net.refused}/")),
        Ask("service", "reset", "fetch", at(f"http://{net.reset}/")),
        Ask("service", "closed", "fetch", at(f"http://{net.closed}/")),
        Ask("service", "no HTTP", "fetch", at(f"http://{net.garbage}/")),
        Ask("service", "half an answer", "fetch", at(f"http://{net.partial}/")),
        Ask("service", "a name", "fetch", at("http://nowhere.invalid/"), name),
        Ask("service", "TLS to a plain port", "fetch", at(f"https://{net.http}/")),
        Ask("service", "status 500", "fetch", at(net.status(500))),
        Ask("service", "status 503", "fetch", at(net.status(503))),
        Ask("service", "status 429", "fetch", at(net.status(429))),
        Ask("call", "status 404", "fetch", at(net.status(404))),
        Ask("call", "status 403", "fetch", at(net.status(403))),
        Ask("call", "a loop", "fetch", at(f"http://{net.http}/loop"), "this address loops"),
        Ask("call", "no URL", "fetch", at("nonsense")),
        Ask("call", "a scheme", "fetch", at("foo://example.com/")),
        Ask("call", "no argument", "fetch", {}),
        Ask("call", "a length", "fetch", at(net.status(200)) | {"max_length": -1}),
        Ask("call", "a start past the end", "fetch", at(net.status(200)) | {"start_index": 99999}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a page", "fetch", at(net.status(200))),
    ])  # fmt: skip


def _duckdb(net: Net, here: Path) -> Server:
    def run(query: str) -> dict[str, Any]:
        return {"query": query}

    return Server("mcp duckdb", ["mcp-server-duckdb", "--db-path", str(here / "a.duck")], [
        Ask("content", "made", "query", run("create table t (id int primary key, x int not null)")),
        Ask("content", "a row", "query", run("insert into t values (1, 1)")),
        Ask("call", "no such table", "query", run("select * from nowhere")),
        Ask("call", "no such column", "query", run("select nope from t")),
        Ask("call", "a syntax", "query", run("selec 1")),
        Ask("call", "a function", "query", run("select nope(1)")),
        Ask("call", "a key twice", "query", run("insert into t values (1, 1)")),
        Ask("call", "a null", "query", run("insert into t values (2, null)")),
        Ask("call", "a number", "query", run("select 'x'::int")),
        Ask("call", "a table that exists", "query", run("create table t (x int)")),
        Ask("call", "a file", "query", run("select * from 'nowhere.csv'")),
        Ask("call", "a group", "query", run("select id, count(*) from t")),
        Ask("call", "an aggregate", "query", run("select sum('x')")),
        Ask("call", "a parameter", "query", run("select ?")),
        Ask("call", "a setting", "query", run("set nope = 1")),
        Ask("call", "a range", "query", run("select 999::tinyint")),
        Ask("call", "no query", "query", {}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("service", "memory", "query", run("set memory_limit='1MB'; set temp_directory=''; select list(range) from range(9999999)")),
    ])  # fmt: skip


def _excel(net: Net, here: Path) -> Server:
    (here / "no.xlsx").write_text("text")

    def at(file: str, **more: Any) -> dict[str, Any]:
        return {"path": str(here / file), "sheet": "A", **more}

    return Server("mcp excel", ["excel-mcp-server", "stdio"], [
        Ask("call", "no file", "clear_range", at("nowhere.xlsx", range="A1")),
        Ask("call", "no workbook", "clear_range", at("no.xlsx", range="A1")),
        Ask("call", "no argument", "clear_range", {}),
        Ask("call", "a type", "find_cells", {"path": str(here / "nowhere.xlsx"), "query": 3}),
        Ask("call", "rows", "write_range", at("x.xlsx", at="A1", rows="x")),
        Ask("call", "a chart", "delete_chart", at("no.xlsx", name="x")),
        Ask("call", "a kind", "merge_cells", at("no.xlsx", range="A1:B2", action="nonsense")),
        Ask("call", "no such macro", "read_vba", {"path": str(here / "nowhere.xlsm")}),
        Ask("call", _MISSING, "nowhere", {}),
    ])  # fmt: skip


def _mysql(net: Net, here: Path) -> Server:
    host, _, port = net.refused.rpartition(":")
    env = {"MYSQL_HOST": host, "MYSQL_PORT": port, "MYSQL_USER": "u", "MYSQL_PASSWORD": "p",
           "MYSQL_DATABASE": "d"}  # fmt: skip
    return Server("mcp mysql", ["mysql_mcp_server"], [
        Ask("service", "nobody listens", "execute_sql", {"query": "select 1"}),
        Ask("service", "the schema", "get_schema_info", {}),
        Ask("service", "a sample", "get_table_sample", {"table_name": "t"}),
        Ask("call", "no query", "execute_sql", {}),
        Ask("call", "a name", "get_table_sample", {"table_name": "a; drop"}),
        Ask("call", _MISSING, "nowhere", {}),
    ], env)  # fmt: skip


def _kubernetes(net: Net, here: Path) -> Server:
    config = here / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: 'http://{net.refused}'}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
    )
    return Server("mcp kubernetes", ["mcp-server-kubernetes"], [
        Ask("service", "no cluster", "kubectl_get", {"resourceType": "pods"}),
        Ask("service", "to describe", "kubectl_describe", {"resourceType": "pod", "name": "x"}),
        Ask("service", "logs", "kubectl_logs", {"resourceType": "pod", "name": "x"}),
        Ask("service", "to scale", "kubectl_scale", {"name": "x", "replicas": 1}),
        Ask("service", "resources", "list_api_resources", {}),
        Ask("service", "helm is not there", "install_helm_chart",
            {"name": "x", "chart": "y", "namespace": "z"}, "the tool is not installed whole"),
        Ask("call", "a manifest", "kubectl_apply", {"filename": str(here / "nowhere.yaml")}),
        Ask("call", "no manifest", "kubectl_apply", {}),
        Ask("call", "a context", "kubectl_context", {"operation": "set", "name": "nowhere"}),
        Ask("call", "an operation", "kubectl_context", {"operation": "nonsense"}),
        Ask("call", "no kind", "kubectl_get", {}),
        Ask("call", "no forward", "stop_port_forward", {"id": "nowhere"}),
        Ask("call", "a command", "exec_in_pod", {"name": "x", "command": "ls -l"}),
        Ask("call", _MISSING, "nowhere", {}),
    ], {"KUBECONFIG": str(config)})  # fmt: skip


def _database(net: Net, here: Path) -> Server:
    def run(query: str) -> dict[str, Any]:
        return {"query": query}

    return Server("mcp database", ["ea-database-server", str(here / "b.db")], [
        Ask("content", "made", "create_table", run("create table t (id integer primary key, x not null)")),
        Ask("call", "no such table", "read_query", run("select * from nowhere")),
        Ask("call", "a syntax", "read_query", run("select from from")),
        Ask("call", "no select", "read_query", run("delete from t")),
        Ask("call", "a select to write", "write_query", run("select 1")),
        Ask("call", "a null", "write_query", run("insert into t values (2, null)")),
        Ask("call", "no create", "create_table", run("select 1")),
        Ask("call", "no alter", "alter_table", run("select 1")),
        Ask("call", "not confirmed", "drop_table", {"table_name": "t", "confirm": False}),
        Ask("call", "no such table to drop", "drop_table", {"table_name": "x", "confirm": True}),
        Ask("call", "no such table to describe", "describe_table", {"table_name": "x"}),
        Ask("call", "a format", "export_query", run("select 1") | {"format": "nonsense"}),
        Ask("call", "no insight", "append_insight", {}),
        Ask("call", _MISSING, "nowhere", {}),
    ])  # fmt: skip


def _with_redis(net: Net, here: Path) -> Iterator[Found]:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server(here))
        subprocess.run(["redis-cli", "-p", str(port), "set", "text", "x"], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        yield from served(Server("mcp redis", ["redis-mcp-server", "--host", "127.0.0.1", "--port", str(port)], [
            Ask("call", "another kind", "sadd", {"name": "text", "value": "y"}),
            Ask("call", "another kind of list", "zrange", {"key": "text", "start": 0, "end": 1}),
            Ask("call", "another kind of stream", "xadd", {"key": "text", "fields": {"a": "b"}}),
            Ask("content", "no such key", "get", {"key": "nowhere"}, "a result, and no error"),
            Ask("call", "no such index", "get_index_info", {"index_name": "nowhere"}),
            Ask("call", "no group", "xreadgroup", {"key": "s", "group_name": "g", "consumer_name": "c"}),
            Ask("call", "an id", "xdel", {"key": "text", "entry_id": "x"}),
            Ask("call", "a section", "info", {"section": 3}),
            Ask("call", "no argument", "get", {}),
            Ask("content", "a name that is not there", "smembers", {"name": "nowhere"}, "a result, and no error"),
            Ask("call", "no subscription", "read_messages", {"subscription_id": "nowhere"}),
            Ask("call", _MISSING, "nowhere", {}),
            Ask("content", "set", "set", {"key": "a", "value": "b"}),
            Ask("content", "a size", "dbsize", {}),
            stack.close,
            Ask("service", "the server is gone", "get", {"key": "text"}),
            Ask("service", "to set", "set", {"key": "a", "value": "b"}),
            Ask("service", "to add", "sadd", {"name": "s", "value": "y"}),
            Ask("service", "its size", "dbsize", {}),
            Ask("service", "to publish", "publish", {"channel": "c", "message": "m"}),
        ]))  # fmt: skip
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server(here))
        subprocess.run(["redis-cli", "-p", str(port), "lpush", "list", "x"], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        yield from served(Server("mcp redis node", ["mcp-server-redis", f"redis://127.0.0.1:{port}"], [
            Ask("content", "set", "set", {"key": "a", "value": "b"}),
            Ask("content", "no such key", "get", {"key": "nowhere"}, "a result, and no error"),
            Ask("call", "another kind", "get", {"key": "list"}),
            Ask("call", "no argument", "set", {"key": "a"}),
            Ask("call", "a type", "delete", {"key": 3}),
            Ask("call", _MISSING, "nowhere", {}),
        ]))  # fmt: skip


def _with_postgres(net: Net, here: Path) -> Iterator[Found]:
    import psycopg

    server = Postgres(here)
    for statement in SETUP.split(";"):
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(statement)
    steps: list[Step] = [
        Ask(label, provoked, "query", {"sql": text})
        for label, provoked, text in STATEMENTS
        if "terminate" not in text and "; " not in text
    ]
    yield from served(Server("mcp postgres", ["mcp-server-postgres", server.url()], [
        *steps,
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "rows", "query", {"sql": "select 1 as error"}),
        server.stop,
        Ask("service", "the server is gone", "query", {"sql": "select 1"}),
        Ask("service", "it is still gone", "query", {"sql": "select 1"}),
    ]))  # fmt: skip
    server.start()
    try:
        yield from served(Server("mcp postgres", ["mcp-server-postgres", server.url(database="nope")], [
            Ask("service", "no such database", "query", {"sql": "select 1"}, "the tool was set up with it"),
        ]))  # fmt: skip
    finally:
        server.stop()
