"""
The four tools of the demo, each doing real work, and the small world that they work on.

Above it stands ``_demo_story``, which calls the tools through the orchestrator; below
it nothing but the standard library, anyio, httpx and the library's registry.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx

from orchestrator_async import InvalidArgumentsError, Registry

NOTES = {
    "routes.md": "North: Oslo, Bergen, Tromsø.\nEvery delivery leaves before the weather turns.\n",
    "drivers.md": "Ask for the boat two days ahead.\n",
    "style.md": "For emphasis we write [bold]x[/], and never [/nope].\n",
}
ORDERS = [
    ("Oslo", 42, ""),
    ("Bergen", 17, "keep [red]dry[/red]"),
    ("Tromsø", 9, "by boat"),
    ("Oslo", 5, ""),
]


def make_registry(weather: httpx.AsyncClient, folder: Path, git: str | None) -> Registry:
    """
    The tools, over a world made by :func:`make_world`.

    Args:
        weather: A client of the weather service.
        folder: Where the files, the database and the repository are.
        git: Path of the program; without it there is no ``git_log``.
    """
    registry = Registry()

    @registry.tool
    async def get_weather(city: str, days: int = 1) -> dict[str, Any]:
        """Forecast for a city.

        Args:
            city: Name of the city.
            days: How many days, 1 to 14.
        """
        answer = await weather.get("/forecast", params={"city": city, "days": days})
        if answer.status_code == 404:
            # The model's mistake, not the service's: the circuit hears nothing of it.
            known = ", ".join(answer.json()["cities"])
            raise InvalidArgumentsError(
                f"No forecast for {city}. There is one for {known}."
            )
        answer.raise_for_status()
        forecast: dict[str, Any] = answer.json()
        return forecast

    # A plain function: it runs in a worker thread and holds up nobody.
    @registry.tool
    def query_orders(sql: str) -> list[dict[str, Any]]:
        """Read the table orders(id, city, crates, note) in SQLite. Reading only.

        Args:
            sql: One SELECT statement; at most 20 rows come back.
        """
        database = f"{(folder / 'orders.db').as_uri()}?mode=ro"
        with closing(sqlite3.connect(database, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute(sql).fetchmany(20)]
            except sqlite3.Error as error:
                raise InvalidArgumentsError(f"SQLite says: {error}.") from error

    @registry.tool
    async def search_files(text: str) -> list[str]:
        """Lines of the notes that contain a text.

        Args:
            text: What to look for, in any case.
        """
        found = []
        async for path in anyio.Path(folder / "notes").glob("*.md"):
            lines = (await path.read_text(encoding="utf-8")).splitlines()
            found += [
                f"{path.name}: {line}" for line in lines if text.lower() in line.lower()
            ]
        return sorted(found)

    if git is not None:

        @registry.tool
        async def git_log(count: int = 5, path: str = ".") -> str:
            """The last commits, newest first.

            Args:
                count: How many.
                path: Only those that touched this file or folder.
            """
            command = [git, "log", f"-{count}", "--format=%h %an: %s", "--", path]
            done = await anyio.run_process(command, cwd=folder, env=git_environment(folder))
            return done.stdout.decode(errors="replace")

    registry.build()  # the schemas now, not while the first call waits
    return registry


def make_world(folder: Path) -> tuple[str | None, str]:
    """
    Write the notes, the database and the repository.

    Returns:
        The path of git, and why it is missing: one of the two is empty.
    """
    notes = folder / "notes"
    notes.mkdir()
    for name, text in NOTES.items():
        (notes / name).write_text(text, encoding="utf-8")
    with closing(sqlite3.connect(folder / "orders.db")) as connection, connection:
        connection.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, city, crates, note)"
        )
        connection.executemany(
            "INSERT INTO orders (city, crates, note) VALUES (?, ?, ?)", ORDERS
        )
    git = shutil.which("git")
    if git is None:
        return None, "there is no git on PATH"
    try:
        _make_repository(git, folder)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"git does not work here ({error})"
    return git, ""


def _make_repository(git: str, folder: Path) -> None:
    def run(*words: str) -> None:
        settings = ["user.name=Demo", "user.email=demo@example.org", "commit.gpgSign=false"]
        options = [word for setting in settings for word in ("-c", setting)]
        subprocess.run(
            [git, *options, *words],
            cwd=folder,
            env=git_environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=20,
        )

    run("init", "--quiet", "--template=")
    for name in NOTES:
        run("add", f"notes/{name}")
        run("commit", "--quiet", "--no-verify", "-m", f"Add [i]{name}[/i]")


def git_environment(folder: Path) -> Mapping[str, str]:
    """
    The environment without the user's git: no configuration, no hooks, no GIT_DIR.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    return kept | {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
