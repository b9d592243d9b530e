"""
An agent without a model, and what circuit breakers do for it.

    make demo                                       # or, by hand:
    python examples/agent.py [--backend asyncio|trio] [--port 8080]

It replays a recorded conversation against tools that do real work, kills the service
behind one of them, and later starts it again. About ten seconds; it exits with 0 only if
everything that it claims was seen to happen.

| file                  | what it holds                                              |
|-----------------------|------------------------------------------------------------|
| ``_demo_agent.py``    | **read this first**: the agent, and its conversation       |
| ``_demo_tools.py``    | the tools: HTTP, a subprocess, SQLite in a thread, files   |
| ``_demo_story.py``    | the outage, and what must be seen of it                    |
| ``_demo_stage.py``    | the orchestrator, and the world around it                  |
| ``_demo_process.py``  | the weather server as a process                            |
| ``_demo_screen.py``   | what you see: live in a terminal, a plain log elsewhere    |
| ``weather_server.py`` | the weather service                                        |
| ``transcript.jsonl``  | the assistant's turns in the format of OpenAI's chat API   |
| ``agent.py``          | the command: start, Ctrl-C, clean-up                       |
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

BACKENDS = ("asyncio", "trio")
NEEDED = {"anyio": "anyio", "httpx": "httpx", "rich": "rich", "orchestrator_async": "-e ."}
INTERRUPTED = 130
ENDS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a polite kill, and the end of the terminal."""


def options() -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(
        description="An agent whose weather service is killed."
    )
    backend = os.environ.get("BACKEND", "asyncio")
    parser.add_argument("--backend", choices=BACKENDS, default=backend)
    parser.add_argument("--port", type=int, default=0, help="the weather server's port")
    # For the demo's own tests: with this part of the story left out, checks must fail.
    parser.add_argument(
        "--break", dest="broken", choices=["kill", "restart"], help=argparse.SUPPRESS
    )
    chosen = parser.parse_args()
    if chosen.backend not in BACKENDS:  # argparse does not look at a default
        parser.error(f"BACKEND={chosen.backend}: choose from {', '.join(BACKENDS)}")
    return chosen


def missing(backend: str) -> str:
    """
    What is not installed, and the cure; empty if all is there.
    """
    needed = NEEDED | ({"trio": "trio"} if backend == "trio" else {})
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    cure = " ".join(needed[name] for name in absent)
    return (
        f"The demo needs {', '.join(absent)}. In the project's folder: "
        f"{Path(sys.executable).name} -m pip install {cure}"
    )


def main() -> int:
    """
    Run the demo; 0 if all that it claims happened, 1 if not, 130 after Ctrl-C.
    """
    chosen = options()
    if lacking := missing(chosen.backend):
        print(lacking, file=sys.stderr)
        return 1
    for stream in (sys.stdout, sys.stderr):  # a foreign letter must not end the demo
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    came: list[int] = []
    answer_signals(lambda number, _: came.append(number))
    code = 1
    try:
        with tempfile.TemporaryDirectory(
            prefix="agent-demo-", ignore_cleanup_errors=True
        ) as folder:
            code = run(chosen, Path(folder).resolve(), came)
    except* (BrokenPipeError, SystemExit):  # the reader has left; rich exits then
        write_no_more()
        code = 1
    answer_signals(signal.SIG_IGN)  # the interpreter, as it ends, would forget them
    if code == INTERRUPTED:
        try:
            print("Interrupted. The server is stopped and the folder is gone.", flush=True)
        except OSError:  # the terminal may be what has ended
            write_no_more()
    return code


def write_no_more() -> None:
    """
    Let what is still to be written out go nowhere, as nobody reads it.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(chosen: argparse.Namespace, folder: Path, came: list[int]) -> int:
    """
    Play on the chosen loop.
    """
    print(
        f"A recorded agent on {chosen.backend}, for about 10 s. Starts one process, a "
        f"weather server on 127.0.0.1, kills it and starts it again; runs git; works in "
        f"{folder}, which goes at the end.",
        flush=True,
    )
    # Here, so that the first line does not wait for them.
    import anyio
    from _demo_stage import play

    return anyio.run(play, chosen.port, folder, chosen.broken, came, backend=chosen.backend)


def answer_signals(answer: Any) -> None:
    """
    Have this done about what would end the demo, unless it is ignored as it is.

    It is noted, and looked at where that does no harm: raised anywhere, a Ctrl-C breaks
    off an import, or the clean-up, and people press it more than once.
    """
    for name in ENDS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, answer)


if __name__ == "__main__":
    sys.exit(main())
