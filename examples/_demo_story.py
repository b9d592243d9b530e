"""
The story of the demo: an outage, and what must be seen of it.

It kills the weather server under an agent, brings it back, and writes down each claim
with what was seen; the demo succeeds only if every claim holds. Above it stands
``_demo_stage``, below it ``_demo_agent``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter

import anyio
import httpx
from _demo_agent import Player, refused

from orchestrator_async import ToolResult, UnknownToolError

CALLERS = 200
REFUSALS = 500


class Story(Player):
    """
    Seven parts, each with its checks.
    """

    async def run(self) -> None:
        """
        The story, from the first turn to the last.
        """
        await self.in_good_weather()
        await self.kill_the_server()
        await self.be_refused()
        await self.probe_too_early()
        await self.bring_it_back()
        await self.send_the_crowd()
        await self.after_the_outage()

    async def in_good_weather(self) -> None:
        """
        Everything works, and a model's mistakes are no fault of a tool.
        """
        first = await self.play()
        self.check("every tool works", _all_ok(first), _tally(first))
        wrong = await self.play()
        hints = [
            r.error.did_you_mean for r in wrong if isinstance(r.error, UnknownToolError)
        ]
        blamed = sum(row["total_failures"] for row in self.orch.get_fleet_stats().values())
        self.check(
            "a model's mistakes are answered, with a hint, and held against no tool",
            not any(r.ok for r in wrong) and hints == [("get_weather",)] and blamed == 0,
            f"{_tally(wrong)}; hint: {', '.join(name for hint in hints for name in hint)}; "
            f"failures counted: {blamed}",
        )
        right = await self.play()
        self.check("the corrected calls work", _all_ok(right), _tally(right))

    async def kill_the_server(self) -> None:
        """
        The service dies; the third failure in a row opens its circuit.
        """
        self.screen.say(f"Killing the weather server, pid {self.weather.pid}.")
        code = await self.weather.kill() if self.broken != "kill" else None
        alive = await self.weather.count()
        self.check(
            "the weather server was killed",
            code not in (None, 0) and alive is None,
            f"exit code {code}, {'still answers' if alive else 'nobody listens'}",
        )
        self.in_the_outage = await self.play() + await self.play()
        failed = _weather(self.in_the_outage)
        self.check(
            "calls then fail for real",
            len(failed) == 3
            and all(isinstance(r.error, httpx.TransportError) for r in failed),
            _tally(failed),
        )
        self.check("the third failure opens the circuit", *self.moved("closed -> open"))

    async def be_refused(self) -> None:
        """
        An open circuit refuses at once, and the other tools go on.
        """
        ran, rejected = self.figure("calls"), self.figure("rejected")
        results = await self.play()
        turned_away = _weather(results)
        took = await self.time_refusals()
        ran, rejected = self.figure("calls") - ran, self.figure("rejected") - rejected
        self.check(
            "an open circuit runs nothing",
            ran == 0 and rejected == len(turned_away) + REFUSALS,
            f"{rejected} refused, {ran} run",
        )
        self.check("a refusal takes microseconds", *self.in_short(took))
        self.screen.say(f"Refused at once: {self.checks[-1].seen}.")
        told = json.loads(turned_away[0].content)
        wait, text = told.get("retry_after"), told.get("error", "")
        self.check(
            "a refusal tells the model what to do",
            told.get("circuit_breaker") is True and wait in (1, 2) and f"{wait} s" in text,
            text,
        )
        self.in_the_outage += results + await self.play()

    async def probe_too_early(self) -> None:
        """
        The time is over and the server still down: one call tries, and the circuit opens again.
        """
        await self.wait_for_probe()
        self.in_the_outage += await self.play()
        moved = self.moved("open -> half_open", "half_open -> open")
        self.check("a probe that fails opens it again", *moved)
        others = [r for r in self.in_the_outage if r.name != "get_weather"]
        self.check("the other tools go on working", _all_ok(others), _tally(others))

    async def bring_it_back(self) -> None:
        """
        A new process takes the port of the old one.
        """
        old = self.weather.pid, self.weather.port
        if self.broken is None:
            await self.weather.start()
            self.screen.say(f"The weather server is back: pid {self.weather.pid}.")
        new = self.weather.pid, self.weather.port
        count = await self.weather.count()
        self.check(
            "the server is back, a new process on the same port",
            old[0] != new[0] and old[1] == new[1] and count == (0, new[0]),
            f"pid {old[0]} -> {new[0]}, port {old[1]} -> {new[1]}, {_requests(count)}",
        )

    async def send_the_crowd(self) -> None:
        """
        Many callers come at once to a circuit that may be probed.
        """
        await self.wait_for_probe()
        self.screen.say(f"{CALLERS} callers at once.")
        ran, rejected = self.figure("calls"), self.figure("rejected")
        results: list[ToolResult] = []

        async def one_caller() -> None:
            results.append(await self.orch.run("get_weather", {"city": "Oslo"}))

        async with anyio.create_task_group() as group:
            for _ in range(CALLERS):
                group.start_soon(one_caller)
        ran, rejected = self.figure("calls") - ran, self.figure("rejected") - rejected
        count = await self.weather.count()
        self.screen.say(
            f"The server counted {_requests(count)}; the callers got {_tally(results)}."
        )
        self.check(
            f"of {CALLERS} callers at once exactly one reaches the server",
            count is not None and count[0] == 1,
            f"it counted {_requests(count)}",
        )
        self.check(
            f"the library runs 1 and refuses {CALLERS - 1}",
            (ran, rejected) == (1, CALLERS - 1)
            and sum(r.ok for r in results) == 1
            and sum(refused(r) for r in results) == CALLERS - 1,
            f"{ran} run, {rejected} refused; the callers got {_tally(results)}",
        )
        moved = self.moved("open -> half_open", "half_open -> closed")
        self.check("the probe's success closes the circuit", *moved)

    async def after_the_outage(self) -> None:
        """
        The weather is back, and the conversation is whole.
        """
        again = _weather(await self.play())
        count = await self.weather.count()
        self.check(
            "the weather works again",
            bool(again)
            and _all_ok(again)
            and count is not None
            and count[0] == 1 + len(again),
            f"{_tally(again)}; it counted {_requests(count)}",
        )
        await self.play()
        messages = self.agent.messages
        asked = [
            call["id"] for message in messages for call in message.get("tool_calls", [])
        ]
        answered = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
        self.check(
            "each tool call has its answer in the conversation",
            asked == answered,
            f"{len(messages)} messages, {len(asked)} calls, {len(answered)} answers",
        )

    async def time_refusals(self) -> list[float]:
        """
        Seconds that each of many refusals takes, as its caller sees it.
        """
        took = []
        for _ in range(REFUSALS):
            start = time.perf_counter()
            result = await self.orch.run("get_weather", {"city": "Oslo"})
            took.append(time.perf_counter() - start)
            if not refused(result):
                return []
        return took

    def in_short(self, took: list[float]) -> tuple[bool, str]:
        """
        Whether those times are microseconds, and what they are.
        """
        if not took:
            return False, "not refused"
        median, most = statistics.median(took), statistics.quantiles(took, n=10)[-1]
        return median < 0.001, (
            f"of {len(took)} measured the median took {self.screen.seconds(median)}, "
            f"9 in 10 at most {self.screen.seconds(most)}"
        )


def _weather(results: list[ToolResult]) -> list[ToolResult]:
    return [result for result in results if result.name == "get_weather"]


def _all_ok(results: list[ToolResult]) -> bool:
    return bool(results) and all(result.ok for result in results)


def _tally(results: list[ToolResult]) -> str:
    kinds = Counter("ok" if r.ok else type(r.error).__name__ for r in results)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"


def _requests(count: tuple[int, int] | None) -> str:
    if count is None:
        return "nothing, for no server answers"
    return f"{count[0]} request{'' if count[0] == 1 else 's'} for a forecast"
