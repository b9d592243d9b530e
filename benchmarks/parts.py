"""
What each part of a circuit, and each part around it, adds to a call on the loop that runs.

All are compared with ``dispatch`` of a tool that has none of them, on the same circuit
that is closed; a failure with one that nobody asks for a pause.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields
from itertools import cycle, islice
from typing import Any

from orchestrator_async import (
    BreakerPolicy,
    ConversationPolicy,
    LimitPolicy,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
)

from .calls import args, broken_tool, dispatching, orchestrated, tool
from .measure import Batch, Effort, Row, in_turn

NEVER = 10**9
"""Failures in a row that are not reached."""

POLICIES: dict[str, BreakerPolicy] = {
    "open time, jitter, probes": BreakerPolicy(
        reset_multiplier=2, jitter=0.5, success_threshold=3, max_pause=60
    ),
    "count window": BreakerPolicy(window_calls=100),
    "time window": BreakerPolicy(window_seconds=60),
    "slow calls": BreakerPolicy(window_calls=100, slow_duration=60),
    "both windows and slow calls": BreakerPolicy(
        window_calls=100, window_seconds=60, failure_rate=0.5, slow_duration=60
    ),
}


def keyed(keys: int, max_keys: int) -> Batch:
    """
    Calls with so many keys in turn, where so many can be kept.
    """
    registry = Registry()
    registry.tool(
        name="tool",
        validate=False,
        circuit=lambda arguments, context: str(arguments["city"]),
        policy=BreakerPolicy(max_keys=max_keys),
    )(tool)
    dispatch = ToolOrchestrator(registry).dispatch
    given = cycle([{"city": number} for number in range(keys)])

    async def batch(times: int) -> None:
        for each in islice(given, times):
            await dispatch("tool", each)

    return batch


def disabled() -> Batch:
    """
    Calls on a circuit that is disabled, and closed beneath.
    """
    orch = orchestrated()
    orch.circuit("tool").disable()
    return dispatching(orch)


def waiting() -> Batch:
    """
    Waiting for a circuit that is closed, which takes one turn of the loop.
    """
    wait = orchestrated().wait_available

    async def batch(times: int) -> None:
        for _ in range(times):
            await wait("tool")

    return batch


def failing(**options: Any) -> Batch:
    """
    Calls that fail, and never open the circuit.
    """
    policy = BreakerPolicy(failure_threshold=NEVER, **options)
    return dispatching(orchestrated(broken_tool, policy=policy), args)


async def let(call: ToolCall, context: ToolContext) -> None:
    """
    A guard that lets every call go on.
    """


MANY = 10**6

AROUND: dict[str, ToolPolicy] = {
    "a whole call's time": ToolPolicy(total_timeout=60),
    "retries": ToolPolicy(retry=RetryPolicy()),
    "a limit of calls at one time": ToolPolicy(limits=LimitPolicy(max_concurrent=MANY)),
    "a limit of calls in a time": ToolPolicy(limits=LimitPolicy(calls=MANY, seconds=0.01)),
    "a fallback": ToolPolicy(fallback="another"),
    "a guard": ToolPolicy(guard=let),
    "the size of results": ToolPolicy(max_result_size=10_000),
    "all parts around": ToolPolicy(
        total_timeout=60,
        retry=RetryPolicy(),
        limits=LimitPolicy(max_concurrent=MANY, calls=MANY, seconds=0.01),
        fallback="another",
        guard=let,
        max_result_size=10_000,
    ),
}
"""The parts around a circuit, none of which has anything to do."""


def conversing() -> Batch:
    """
    Calls of a conversation, which it counts.
    """
    off = {each.name: None for each in fields(ConversationPolicy)}
    chat = orchestrated().conversation(policy=ConversationPolicy(**off))

    async def batch(times: int) -> None:
        for _ in range(times):
            await chat.dispatch("tool", args)

    return batch


CHUNKS = 10


async def pieces(city: int) -> AsyncIterator[str]:
    """
    A tool that has its answer in so many chunks.
    """
    for _ in range(CHUNKS):
        yield "sun "


def streaming(**options: Any) -> Batch:
    """
    Streams that are read to their end.
    """
    stream = orchestrated(pieces, **options).stream

    async def batch(times: int) -> None:
        for _ in range(times):
            async with stream("tool", args) as chunks:
                async for _ in chunks:
                    pass

    return batch


def joining() -> Batch:
    """
    Streams that are dispatched.
    """
    return dispatching(orchestrated(pieces))


def turning(as_completed: bool) -> Batch:
    """
    Turns of so many calls, their results as they come or all at once.
    """
    orch, calls = orchestrated(), [ToolCall("tool", args)] * CHUNKS

    async def batch(times: int) -> None:
        for _ in range(times):
            if as_completed:
                async for _ in orch.as_completed(calls):
                    pass
            else:
                await orch.dispatch_all(calls)

    return batch


async def parts(loop: str, effort: Effort) -> list[Row]:
    """
    Calls on healthy circuits with one part or another.
    """
    cases: dict[str, Batch] = {"dispatch": dispatching(orchestrated())}
    for name, policy in POLICIES.items():
        cases[name] = dispatching(orchestrated(policy=policy))
    cases["disabled"] = disabled()
    cases["8 keys"] = keyed(8, 1_000)
    cases["1,000 keys"] = keyed(1_000, 1_000)
    cases["100,000 keys, room for 1,000"] = keyed(100_000, 1_000)
    cases["100,000 keys, room for all"] = keyed(100_000, 100_000)
    cases["wait_available"] = waiting()
    for name, around in AROUND.items():
        cases[name] = dispatching(orchestrated(policy=around))
    cases["a conversation"] = conversing()
    cases["a failure"] = failing(max_pause=None)
    cases["a failure, asked for a pause"] = failing()
    cases["a failure, a time window"] = failing(
        window_seconds=60, minimum_calls=NEVER, max_pause=None
    )
    cases["10 chunks, joined"] = joining()
    cases["a stream of 10 chunks"] = streaming()
    cases["a timed stream of 10 chunks"] = streaming(timeout=60)
    cases["10 calls in a turn"] = turning(False)
    cases["10 calls as they come"] = turning(True)
    times = await in_turn(cases, effort)

    def against(name: str) -> str:
        return "a failure" if name.startswith("a failure") else "dispatch"

    return [
        Row(
            loop=loop,
            name=f"part: {name}",
            cost=times.ns(name),
            ratio=times.ratio(name, against(name)),
            against=against(name),
        )
        for name in cases
        if name != against(name)
    ]
