"""
Further MCP servers, which were collected when the table had been written: what they say was
scored before any row was changed for it.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .databases import SETUP, Postgres
from .found import Found
from .loopback import Net
from .servers import Ask, Server, served

_MISSING = "no such tool"


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of those that are installed.
    """
    for make in (_commands, _shell, _calculator, _editor, _git, _sqlite):
        place = here / make.__name__
        place.mkdir()
        yield from served(make(net, place))
    if shutil.which("pg_ctl") and shutil.which("postgres-mcp"):
        yield from _with_postgres(here)


def _commands(net: Net, here: Path) -> Server:
    def run(command: str, **more: Any) -> dict[str, Any]:
        return {"command": command, **more}

    return Server("mcp commands", ["mcp-server-commands"], [
        Ask("call", "a missing file", "run_command", run("cat nowhere.txt")),
        Ask("call", "no such command", "run_command", run("nowhere-such")),
        Ask("call", "no such directory", "run_command", run("ls", workdir=str(here / "nowhere"))),
        Ask("call", "no command", "run_command", {}),
        Ask("call", "a syntax", "run_command", run("if true; fi")),
        Ask("service", "nobody listens", "run_command", run(f"curl -sS http://{net.refused}/")),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a text", "run_command", run("echo Errors: none")),
    ])  # fmt: skip


def _shell(net: Net, here: Path) -> Server:
    def run(*command: str, **more: Any) -> dict[str, Any]:
        return {"command": list(command), "directory": str(here), **more}

    return Server("mcp shell", ["mcp-shell-server"], [
        Ask("call", "a missing file", "shell_execute", run("cat", "nowhere.txt")),
        Ask("call", "a command that is not allowed", "shell_execute", run("rm", "x")),
        Ask("call", "no command", "shell_execute", run()),
        Ask("call", "no such directory", "shell_execute", {"command": ["ls"], "directory": str(here / "nowhere")}),
        Ask("call", "a directory that is relative", "shell_execute", {"command": ["ls"], "directory": "x"}),
        Ask("call", "a type", "shell_execute", {"command": "ls", "directory": str(here)}),
        Ask("call", "a semicolon", "shell_execute", run("ls", ";", "rm", "x")),
        Ask("call", "a pipe to what is not allowed", "shell_execute", run("ls", "|", "wc")),
        Ask("service", "out of time", "shell_execute", run("sleep", "9", timeout=1)),
        Ask("service", "nobody listens", "shell_execute", run("curl", "-sS", f"http://{net.refused}/")),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a list", "shell_execute", run("ls", "-a")),
    ], {"ALLOW_COMMANDS": "ls,cat,sleep,curl"})  # fmt: skip


def _calculator(net: Net, here: Path) -> Server:
    def of(expression: Any) -> dict[str, Any]:
        return {"expression": expression}

    return Server("mcp calculator", ["mcp-server-calculator"], [
        Ask("call", "a division", "calculate", of("1 / 0")),
        Ask("call", "a syntax", "calculate", of("1 +")),
        Ask("call", "a name", "calculate", of("nowhere + 1")),
        Ask("call", "a function", "calculate", of("nowhere(1)")),
        Ask("call", "a root", "calculate", of("sqrt(-1)")),
        Ask("call", "a large power", "calculate", of("10.0 ** 400")),
        Ask("call", "a type", "calculate", of("1 + 'x'")),
        Ask("call", "an attribute", "calculate", of("(1).nowhere")),
        Ask("call", "nothing", "calculate", of("")),
        Ask("call", "no expression", "calculate", {}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a sum", "calculate", of("250 + 253")),
    ])  # fmt: skip


def _editor(net: Net, here: Path) -> Server:
    (here / "text.txt").write_text("one\ntwo\n")
    (here / "latin.txt").write_bytes(b"caf\xe9")

    def read(name: str, start: int = 1, **more: Any) -> dict[str, Any]:
        return {
            "files": [{"file_path": str(here / name), "ranges": [{"start": start, **more}]}]
        }

    def edit(name: str, **more: Any) -> dict[str, Any]:
        return {
            "files": [{"path": str(here / name), "file_hash": "", "patches": [], **more}]
        }

    return Server("mcp text editor", ["mcp-text-editor"], [
        Ask("call", "a missing file", "get_text_file_contents", read("nowhere.txt")),
        Ask("call", "a relative path", "get_text_file_contents", {"files": [{"file_path": "x", "ranges": [{"start": 1}]}]}),
        Ask("call", "no files", "get_text_file_contents", {}),
        Ask("call", "a directory", "get_text_file_contents", read(".")),
        Ask("call", "not UTF-8", "get_text_file_contents", read("latin.txt")),
        Ask("call", "an encoding", "get_text_file_contents", {**read("text.txt"), "encoding": "nonsense"}),
        Ask("call", "a hash", "edit_text_file_contents", edit("text.txt", file_hash="x")),
        Ask("call", "a missing file to edit", "edit_text_file_contents", edit("nowhere/x.txt", patches=[{"start": 1, "contents": "x", "range_hash": ""}], file_hash="x")),
        Ask("call", "no path", "edit_text_file_contents", {"files": [{"file_hash": "x"}]}),
        Ask("call", _MISSING, "nowhere", {}),
        Ask("content", "a file", "get_text_file_contents", read("text.txt")),
    ])  # fmt: skip


def _git(net: Net, here: Path) -> Server:
    repo = here / "repo"
    subprocess.run(
        f"git init -q -b main {repo} && cd {repo} && git config user.email a@example.com && "
        "git config user.name A && echo a > b.txt && git add . && git commit -qm first && "
        "git branch other",
        shell=True, check=True,
    )  # fmt: skip
    at = {"path": str(repo)}
    return Server("mcp git node", ["git-mcp-server"], [
        Ask("call", "no repository", "git_status", {"path": str(here)}),
        Ask("call", "nothing there", "git_status", {"path": str(here / "nowhere")}),
        Ask("call", "no directory was set", "git_status", {}),
        Ask("call", "a revision", "git_show", {**at, "object": "nowhere"}),
        Ask("call", "a branch", "git_checkout", {**at, "target": "nowhere"}),
        Ask("call", "a branch to merge", "git_merge", {**at, "branch": "nowhere"}),
        Ask("call", "nothing to commit", "git_commit", {**at, "message": "x"}),
        Ask("call", "no message", "git_commit", at),
        Ask("call", "a remote", "git_fetch", {**at, "remote": "nowhere"}),
        Ask("call", "no upstream", "git_pull", at),
        Ask("call", "a tag", "git_tag", {**at, "mode": "delete", "tagName": "nowhere"}),
        Ask("call", "a mode", "git_tag", {**at, "mode": "nonsense"}),
        Ask("call", "a stash", "git_stash", {**at, "mode": "pop"}),
        Ask("call", "a rebase", "git_rebase", {**at, "mode": "start", "upstream": "nowhere"}),
        Ask("call", "a diff", "git_diff", {**at, "target": "nowhere"}),
        Ask("call", "a file", "git_add", {**at, "files": ["nowhere.txt"]}),
        Ask("call", "not confirmed", "git_clean", {**at, "force": False}),
        Ask("service", "nobody listens", "git_clone", {"url": f"http://{net.refused}/x.git", "path": str(here / "x")}),
        Ask("service", "status 503", "git_clone", {"url": net.status(503) + "/x.git", "path": str(here / "y")}),
        Ask("call", "status 404", "git_clone", {"url": net.status(404) + "/x.git", "path": str(here / "z")}),
        lambda: (repo / ".git" / "index.lock").touch(),
        Ask("service", "a lock of another's", "git_add", {**at, "files": ["b.txt"]}),
        Ask("call", _MISSING, "nowhere", {}),
    ])  # fmt: skip


def _sqlite(net: Net, here: Path) -> Server:
    file = here / "a.db"
    with sqlite3.connect(file) as made:
        made.execute("create table t (id integer primary key, x not null)")
        made.execute("insert into t values (1, 1)")
    made.close()

    def damage() -> None:
        file.write_bytes(b"this is no database any more" * 1000)

    def run(text: str) -> dict[str, Any]:
        return {"sql": text}

    return Server("mcp sqlite node", ["mcp-sqlite-server", str(file)], [
        Ask("call", "no such table", "query", run("select * from nowhere")),
        Ask("call", "a syntax", "query", run("selec 1")),
        Ask("call", "a key twice", "query", run("insert into t values (1, 2)")),
        Ask("call", "no such table to read", "read_records", {"table": "nowhere"}),
        Ask("call", "no such column", "create_record", {"table": "t", "data": {"nope": 1}}),
        Ask("call", "a null", "create_record", {"table": "t", "data": {"id": 3}}),
        Ask("call", "no conditions", "delete_records", {"table": "t", "conditions": {}}),
        Ask("call", "a schema", "get_table_schema", {"tableName": "nowhere"}),
        Ask("call", "no argument", "query", {}),
        Ask("call", _MISSING, "nowhere", {}),
        damage,
        Ask("service", "the database is damaged", "query", run("select * from t")),
    ])  # fmt: skip


def _with_postgres(here: Path) -> Iterator[Found]:
    import psycopg

    place = here / "postgres"
    place.mkdir()
    here.chmod(0o777)
    server = Postgres(place)
    for statement in SETUP.split(";"):
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(statement)

    def run(query: str) -> dict[str, Any]:
        return {"operation": "select", "query": query}

    yield from served(Server("mcp postgres node", ["postgres-mcp", "--connection-string", server.url()], [
        Ask("call", "no such table", "pg_execute_query", run("select * from nowhere")),
        Ask("call", "a syntax", "pg_execute_query", run("select from from")),
        Ask("call", "no select", "pg_execute_query", run("drop table t")),
        Ask("call", "an operation", "pg_execute_query", {"operation": "nonsense", "query": "x"}),
        Ask("call", "no query", "pg_execute_query", {}),
        Ask("call", "a key twice", "pg_execute_mutation", {"operation": "insert", "table": "t", "data": {"id": 1, "x": 1}}),
        Ask("call", "a column", "pg_execute_mutation", {"operation": "insert", "table": "t", "data": {"nope": 1}}),
        Ask("call", "no table to change", "pg_execute_mutation", {"operation": "delete", "table": "nowhere", "where": "1=1"}),
        Ask("call", "no where", "pg_execute_mutation", {"operation": "delete", "table": "t"}),
        Ask("call", "a statement", "pg_execute_sql", {"sql": "selec 1"}),
        Ask("call", "a table that exists", "pg_manage_schema", {"operation": "create_table", "tableName": "t", "columns": []}),
        Ask("call", _MISSING, "nowhere", {}),
        server.stop,
        Ask("service", "the server is gone", "pg_execute_query", run("select 1")),
        Ask("service", "to change", "pg_execute_mutation", {"operation": "insert", "table": "t", "data": {"id": 9, "x": 1}}),
    ]))  # fmt: skip
