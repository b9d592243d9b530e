"""
The stage of the demo: the world, the server and the orchestrator around the story.

Above it stands ``agent.py``; below it the story and its parts.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import anyio
import httpx
from _demo_process import DemoError, WeatherProcess
from _demo_screen import Check, Screen
from _demo_story import Story
from _demo_tools import make_registry, make_world

from orchestrator_async import ToolOrchestrator

TOO_LONG = 60.0
"""Seconds after which the demo gives itself up."""

INTERRUPTED = 130


async def play(port: int, folder: Path, broken: str | None, came: list[int]) -> int:
    """
    Build the stage, play, and take everything down again.

    Args:
        port: The weather server's; 0 for any.
        folder: To work in.
        broken: A part of the story to leave out.
        came: The signals that asked for an end. It may grow meanwhile.

    Returns:
        The exit code.
    """
    # The library warns of a circuit that opens; here an observer shows that.
    logging.getLogger("orchestrator_async").setLevel(logging.ERROR)
    code = INTERRUPTED
    stop = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_when_asked, stop, came)
        with anyio.move_on_after(TOO_LONG) as time_limit, stop:
            code = await _play(port, folder, broken)
        if time_limit.cancelled_caught:
            print(f"FAILED: not done within {TOO_LONG:.0f} s.", file=sys.stderr)
            code = 1
        group.cancel_scope.cancel()
    return code


async def _play(port: int, folder: Path, broken: str | None) -> int:
    began = time.perf_counter()
    weather = WeatherProcess(port)
    try:
        await weather.start()
        with Screen() as screen:
            screen.say(f"The weather server runs: pid {weather.pid}, {weather.url}.")
            git, why_not = await anyio.to_thread.run_sync(make_world, folder)
            left_out = set() if git else {"git_log"}
            if why_not:
                screen.say(f"The tool git_log is left out: {why_not}.")
            async with httpx.AsyncClient(base_url=weather.url, trust_env=False) as client:
                registry = make_registry(client, folder, git)
                orch = ToolOrchestrator(
                    registry, failure_threshold=3, reset_timeout=2.0, timeout=5.0
                )
                definitions = registry.definitions(format="openai")
                offered = ", ".join(each["function"]["name"] for each in definitions)
                screen.say(f"A model would be offered: {offered}.")
                story = Story(orch, weather, screen, left_out, broken)
                async with anyio.create_task_group() as group:
                    group.start_soon(_draw, screen, orch)
                    await story.run()
                    group.cancel_scope.cancel()
        code = await weather.kill()
        gone = code is not None and await weather.count() is None
        story.check(
            "no server is left behind", gone, f"pid {weather.pid}, exit code {code}"
        )
        screen.fleet(orch.get_fleet_stats())
        screen.checks(story.checks)
        return _verdict(screen, story.checks, time.perf_counter() - began)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        await weather.kill()


def _verdict(screen: Screen, checks: list[Check], took: float) -> int:
    missed = [check.claim for check in checks if not check.holds]
    if missed:
        screen.write(
            (f"FAILED: {len(missed)} of {len(checks)} claims were not seen: ", "bold red"),
            "; ".join(missed),
        )
        return 1
    screen.write(
        (f"All {len(checks)} claims were seen, in {took:.1f} s: ", "bold green"),
        "the weather server was killed, its circuit opened and refused, the other tools went "
        "on, one caller in a crowd tried the new server, and the weather works again.",
    )
    return 0


async def _draw(screen: Screen, orch: ToolOrchestrator) -> None:
    while True:
        screen.draw(orch.get_fleet_stats())
        await anyio.sleep(0.1)


async def _stop_when_asked(stop: anyio.CancelScope, came: list[int]) -> None:
    # A signal's handler can wake no loop in a way that both loops know.
    while not came:  # noqa: ASYNC110
        await anyio.sleep(0.05)
    stop.cancel()
