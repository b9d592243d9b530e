"""
The stage of the example: everything that is started around the story, and ended after it.

Above it stands ``fleet.py``; below it the story and its parts.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

import anyio
from _fleet_engine import Engine, NoEngineError
from _fleet_seen import NotSeenError
from _fleet_story import Story
from anyio.abc import TaskGroup, TaskStatus

TOO_LONG = 120.0
"""Seconds after which the example gives itself up."""

INTERRUPTED = 130
ENDS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a polite kill, and the end of the terminal."""


async def play(program: str, broken: str | None) -> int:
    """
    Build the stage, play, and take everything down again.

    Args:
        program: The engine's.
        broken: A part of the story to leave out.

    Returns:
        The exit code.
    """
    code = INTERRUPTED
    async with anyio.create_task_group() as tasks:
        stop = anyio.CancelScope()
        await tasks.start(_stop_when_asked, stop)
        with (
            tempfile.TemporaryDirectory(prefix="fleet-example-") as folder,
            anyio.move_on_after(TOO_LONG) as time_limit,
            stop,
        ):
            code = await _build_and_play(Engine(program, Path(folder)), tasks, broken)
        if time_limit.cancelled_caught:
            code = _failed(f"not done within {TOO_LONG:.0f} s")
        tasks.cancel_scope.cancel()
    return code


async def _build_and_play(engine: Engine, tasks: TaskGroup, broken: str | None) -> int:
    story = Story(engine, tasks, broken)
    try:
        await tasks.start(story.service.serve)
        tasks.start_soon(story.timeline.show)
        return await _play(story)
    except NoEngineError as error:
        return _failed(str(error))
    finally:
        for worker in story.workers:
            await worker.close()
        await engine.kill()


async def _play(story: Story) -> int:
    try:
        await story.run()
        await story.leave()
    except NotSeenError:
        pass
    story.timeline.show_until()
    claims = story.summary.claims
    print("", *story.summary.lines(), sep="\n")
    missed = [claim.text for claim in claims if not claim.holds]
    if missed:
        print(f"FAILED: {len(missed)} of {len(claims)} claims were not seen.", flush=True)
        return 1
    took = story.timeline.seconds()
    print(f"All {len(claims)} claims were seen, in {took:.1f} s.", flush=True)
    return 0


def _failed(why: str) -> int:
    print(f"FAILED: {why}", file=sys.stderr)
    return 1


async def _stop_when_asked(
    stop: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    asked = [getattr(signal, name) for name in ENDS if hasattr(signal, name)]
    with anyio.open_signal_receiver(*asked) as signals:
        task_status.started()
        async for _ in signals:  # people press Ctrl-C more than once
            stop.cancel()
