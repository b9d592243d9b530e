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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BACKENDS = ("asyncio", "trio")
NEEDED = {"anyio": "anyio", "httpx": "httpx", "rich": "rich", "orchestrator_async": "-e ."}
INTERRUPTED = 130
ENDS = ("SIGTERM", "SIGHUP")


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
    for name in ENDS:  # until the loop runs, they end it as Ctrl-C does
        if (
            hasattr(signal, name)
            and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL
        ):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    code = INTERRUPTED
    # Plainly, and `except*`: Ctrl-C may come alone or in a group, from here or from the loop.
    try:
        with tempfile.TemporaryDirectory(
            prefix="agent-demo-", ignore_cleanup_errors=True
        ) as folder:
            try:
                code = run(chosen, Path(folder).resolve())
            finally:
                ignore_signals()
    except* KeyboardInterrupt:
        pass
    except* (BrokenPipeError, SystemExit):  # the reader has left; rich exits then
        write_no_more()
        code = 1
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


def run(chosen: argparse.Namespace, folder: Path) -> int:
    """
    Play on the chosen loop.
    """
    print(
        f"A recorded agent on {chosen.backend}, for about 10 s. Starts one process, a "
        f"weather server on 127.0.0.1, kills it and starts it again; runs git; works in "
        f"{folder}, which goes at the end.",
        flush=True,
    )
    with signals_held():
        # Here, so that the first line does not wait for them.
        import anyio
        from _demo_stage import play

    code = anyio.run(play, chosen.port, folder, chosen.broken, backend=chosen.backend)
    return INTERRUPTED if code is None else code


@contextmanager
def signals_held() -> Iterator[None]:
    """
    Let what would interrupt the block do so at its end: an import that is broken off
    leaves files open.
    """
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda *noted: came.append(noted[0]))
        for number in (getattr(signal, name, None) for name in ("SIGINT", *ENDS))
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def ignore_signals() -> None:
    """
    Let nothing interrupt the end: the folder goes now, which takes no time. People press
    Ctrl-C more than once.
    """
    for name in ("SIGINT", *ENDS):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
