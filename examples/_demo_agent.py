"""
The agent of the demo, and what plays a recorded model to it.

:class:`Agent` is the part to copy: a conversation, and one ``dispatch_all`` a turn. Above
it stands ``_demo_story``; below it the orchestrator, by its public names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
from _demo_process import WeatherProcess
from _demo_screen import Check, Screen

from orchestrator_async import (
    CircuitChanged,
    CircuitOpenError,
    InvalidArgumentsError,
    ToolOrchestrator,
    ToolResult,
    UnknownToolError,
)

TRANSCRIPT = Path(__file__).with_name("transcript.jsonl")
THINKING = 0.3
"""Seconds before a turn, in which a model would think."""

Message = dict[str, Any]


class Agent:
    """
    A conversation in the chat format, whose tool calls go through an orchestrator.
    """

    def __init__(self, orch: ToolOrchestrator) -> None:
        self.orch = orch
        self.messages: list[Message] = []

    async def take(self, turn: Message) -> list[ToolResult]:
        """
        Append the assistant's turn, run its tool calls side by side, append the answers.
        """
        self.messages.append(turn)
        results = await self.orch.dispatch_all(turn.get("tool_calls", []))
        self.messages += [result.message("openai") for result in results]
        return results


class Player:
    """
    Plays a recording turn by turn, and writes down what is seen meanwhile.

    Args:
        orch: The orchestrator, with its tools.
        weather: The weather server's process, running.
        screen: Where all of it is shown.
        left_out: Tools of the recording that this machine cannot run.
        broken: The deed to leave undone: ``"kill"``, ``"restart"`` or ``None``.
    """

    def __init__(
        self,
        orch: ToolOrchestrator,
        weather: WeatherProcess,
        screen: Screen,
        left_out: set[str],
        broken: str | None,
    ) -> None:
        self.agent = Agent(orch)
        self.orch = orch
        self.weather = weather
        self.screen = screen
        self.left_out = left_out
        self.broken = broken
        self.checks: list[Check] = []
        self.moves: list[str] = []
        self.in_the_outage: list[ToolResult] = []
        lines = TRANSCRIPT.read_text(encoding="utf-8").splitlines()
        self._turns = iter([json.loads(line) for line in lines])
        orch.add_observer(self.observe)

    def observe(self, event: object) -> None:
        """
        Hear of all that happens; what moves a circuit is kept and shown.
        """
        if isinstance(event, CircuitChanged):
            self.moves.append(f"{event.old} -> {event.new}")
            self.screen.transition(event.circuit, event.old, event.new, event.reason)

    async def play(self) -> list[ToolResult]:
        """
        The next turn of the recording, shown.
        """
        self.screen.status = "The model thinks."
        await anyio.sleep(THINKING)
        turn: Message = next(self._turns)
        calls = [
            call
            for call in turn.get("tool_calls", [])
            if call["function"]["name"] not in self.left_out
        ]
        if calls:
            turn = turn | {"tool_calls": calls}
        self.screen.turn(turn["content"])
        results = await self.agent.take(turn)
        for call, result in zip(calls, results, strict=True):
            arguments = call["function"]["arguments"]
            self.screen.answer(
                _kind(result), result.name, arguments, result.duration, result.content
            )
        return results

    async def wait_for_probe(self) -> None:
        """
        Ask when to come back, and wait until then.
        """
        refusal = await self.orch.run("get_weather", {"city": "Oslo"})
        if refusal.retry_after is not None:
            wait = refusal.retry_after + 0.05
            self.screen.say(
                f"Waiting {self.screen.seconds(wait)}, until the circuit may be probed."
            )
            await anyio.sleep(wait)

    def check(self, claim: str, holds: bool, seen: str) -> None:
        """
        Write down a claim, whether it holds, and what was seen.
        """
        self.checks.append(Check(claim=claim, holds=holds, seen=seen))

    def moved(self, *moves: str) -> tuple[bool, str]:
        """
        Whether these were the circuit's last moves, and where it is now.
        """
        last = self.moves[-len(moves) :]
        state = str(self.orch.circuit("get_weather").state)
        return (
            last == list(moves) and moves[-1].endswith(state),
            f"{', '.join(last) or 'no move'}; it is {state}",
        )

    def figure(self, name: str) -> int:
        """
        One figure of the weather tool, as the library counts it.
        """
        return int(self.orch.get_fleet_stats()["get_weather"][name])


def refused(result: ToolResult) -> bool:
    """
    Whether a circuit refused the call.
    """
    return isinstance(result.error, CircuitOpenError)


def _kind(result: ToolResult) -> str:
    match result.error:
        case CircuitOpenError():
            return "refused"
        case InvalidArgumentsError() | UnknownToolError():
            return "invalid"
    return "ok" if result.ok else "failed"
