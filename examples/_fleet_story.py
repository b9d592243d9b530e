"""
The story of the example: what is done to the fleet, and what must be seen of it.

Above it stands ``fleet.py``; below it the parts: the processes, the engine, the service and
the timeline.
"""

from __future__ import annotations

import signal
import time

import anyio
from _fleet_engine import Engine
from _fleet_seen import Fleet
from _fleet_service import Asked, Health
from _fleet_summary import ms
from _fleet_worker import LEASE, RESET_TIMEOUT
from anyio.abc import TaskGroup


class Story(Fleet):
    """
    Seven parts, each with its claims.
    """

    def __init__(self, engine: Engine, tasks: TaskGroup, broken: str | None) -> None:
        super().__init__()
        self.engine = engine
        self._tasks = tasks
        self._broken = broken

    async def run(self) -> None:
        """
        The story, from the first part to the last.
        """
        await self.come_together()
        await self.kill_the_tool()
        await self.watch_the_windows()
        await self.kill_the_prober()
        await self.kill_the_engine()
        await self.bring_the_engine_back()
        await self.heal_the_tool()

    def say(self, what: str) -> None:
        """
        What we do.
        """
        self.timeline.add("", what)

    async def until_asked(self, claim: str, times: int, since: float) -> list[Asked]:
        """
        Wait until the tool was executed so many times since then, and none of it still runs.
        """

        def are_over() -> bool:
            asked = self.asked_since(since)
            return len(asked) >= times and all(each.is_over for each in asked)

        await self.until(claim, are_over)
        return self.asked_since(since)

    async def come_together(self) -> None:
        """
        An engine, four processes, and all is well.
        """
        await self.engine.start()
        self.timeline.head()
        self.say(f"an engine is up at {self.engine.url}, pid {self.engine.pid}")
        url = "" if self._broken == "store" else self.engine.url
        for worker in self.workers:
            await worker.start(self.service.port, url)
            self._tasks.start_soon(worker.listen, self.hear)
        claim = "four processes make a fleet, on asyncio and on trio"
        await self.until(claim, lambda: self.are_all("closed"))
        names = ", ".join(worker.name for worker in self.alive)
        self.summary.claim(claim, True, names)
        self.summary.all_are_there()
        await self.until("calls work", lambda: self.summary.count("ok") > 30)

    async def kill_the_tool(self) -> None:
        """
        Every call fails, and the fleet opens.
        """
        self.say("KILLS THE TOOL: every call of it fails from now on")
        self.service.health, since = Health.DEAD, time.monotonic()
        claim = "the tool dies, and its circuit opens in every process"
        await self.until(claim, lambda: self.are_all("open"))
        first, *_, last = self.moved_to("open", since)
        self.summary.claim(claim, True, f"the last {ms(last - first)} after the first")

    async def watch_the_windows(self) -> None:
        """
        Each second the circuit may be probed, and one call of the whole fleet does.
        """
        claim = "of all processes one probes, once a window"
        since = await self.when_none_is_under_way()
        windows = by_window(await self.until_asked(claim, 3, since))
        self.summary.windows("the tool dead", windows)
        self.summary.claim(claim, _one_each(windows), f"executions: {_sizes(windows)}")

    async def kill_the_prober(self) -> None:
        """
        The process that probes dies in the middle of it: its lease ends, and another has it.
        """
        self.service.health, since = Health.HUNG, time.monotonic()
        claim = "a prober that dies is given up when its lease ends, and not before"
        await self.until(claim, lambda: bool(self.asked_since(since)))
        probe = self.service.asked[-1]
        await anyio.sleep(0.25)
        (prober,) = [each for each in self.workers if each.name == probe.who]
        self.say(f"KILLS THE PROBER, {prober.name}, whose lease has {LEASE:g} s")
        if self._broken != "prober":
            await prober.kill()
            self.timeline.add(prober.name, "is dead", state="gone")
        self.service.health = Health.DEAD
        killed, *others = await self.until_asked(claim, 2, since)
        second, *more = by_window(others)[0]
        waited = second.began - probe.began
        window = [killed, second, *more]
        self.summary.windows("the prober killed", [window], "(one after the other)")
        self.summary.claim(
            claim,
            killed is probe
            and prober.code == -signal.SIGKILL
            and not [at for at in self.moved_to("open", probe.began) if at < second.began]
            and 0.9 * LEASE <= waited <= LEASE + 1
            and not more,
            f"{second.who} probed {waited:.2f} s after {probe.who} had",
        )

    async def kill_the_engine(self) -> None:
        """
        Without an engine each process probes for itself, and calls go on.
        """
        await self.until("the circuit is open again", lambda: self.are_all("open"))
        before, since = self.summary.calls, time.monotonic()
        self.say("KILLS THE ENGINE")
        if self._broken != "engine":
            await self.engine.kill()
        claim = "without the engine each process probes for itself, once a window"
        await self.until(claim, lambda: all(each.name in self.alone for each in self.alive))

        def by_process() -> dict[str, list[list[Asked]]]:
            asked = self.asked_since(since)
            names = [worker.name for worker in self.alive]
            return {name: by_window([a for a in asked if a.who == name]) for name in names}

        def have_all_probed_twice() -> bool:
            every = by_process().values()
            return all(len(own) >= 2 and own[1][0].is_over for own in every)

        await self.until(claim, have_all_probed_twice)
        windows = by_process()
        for name, own in windows.items():
            self.summary.windows(f"no engine, {name}", own)
        seen = "; ".join(f"{name} {_sizes(own)}" for name, own in windows.items())
        holds = all(_one_each(own) for own in windows.values())
        self.summary.claim(claim, holds, f"executions: {seen}")
        calls = self.summary.calls - before
        self.summary.claim("calls go on meanwhile", calls > 0, f"{calls} calls")

    async def bring_the_engine_back(self) -> None:
        """
        It knows nothing, and learns from the processes how the circuit stands.
        """
        began = time.monotonic()
        await self.engine.start()
        what = f"STARTS THE ENGINE AGAIN, empty, pid {self.engine.pid}"
        self.timeline.add("", what, began)
        claim = "the engine is back, and one process probes for all again"
        back = await self.until(claim, lambda: not self.alone)
        since = await self.when_none_is_under_way()
        windows = by_window(await self.until_asked(claim, 2, since))
        self.summary.windows("together again", windows)
        seen = (
            f"all have found it {back - began:.2f} s after; executions: {_sizes(windows)}"
        )
        self.summary.claim(claim, _one_each(windows), seen)

    async def heal_the_tool(self) -> None:
        """
        One call finds out, and the circuit closes for all.
        """
        claim = "the tool is well: one call finds out, and the circuit closes for all"
        await self.until(claim, lambda: self.are_all("open"))
        self.say("HEALS THE TOOL")
        since = time.monotonic()
        if self._broken != "heal":
            self.service.health = Health.WELL
        await self.until(claim, lambda: self.are_all("closed"))
        first, *_, last = self.moved_to("closed", since)
        asked = [each for each in self.asked_since(since) if each.began < first]
        self.summary.windows("the tool healed", [asked])
        self.summary.claim(
            claim, len(asked) == 1, f"the last {ms(last - first)} after the first"
        )
        enough = self.summary.count("ok") + 20
        await self.until("calls work again", lambda: self.summary.count("ok") >= enough)

    async def when_none_is_under_way(self) -> float:
        """
        Wait until no call can be on its way to the tool that began before all circuits were
        open; none can begin now, for a while.

        Returns:
            The time.
        """
        await self.until("the circuit is open everywhere", lambda: self.are_all("open"))
        await anyio.sleep(RESET_TIMEOUT / 4)
        return time.monotonic()

    async def leave(self) -> None:
        """
        The processes leave, and what they have counted is complete.
        """
        self.say("ends the processes that are left")
        async with anyio.create_task_group() as tasks:
            for worker in self.alive:
                tasks.start_soon(worker.leave)
        summary = self.summary
        codes = [worker.code for worker in self.alive]
        summary.claim("they end by themselves", not any(codes), f"exit codes: {codes}")
        claim = "no caller has seen an exception"
        summary.claim(
            claim, summary.raised == 0, f"of {summary.calls} calls {summary.raised}"
        )
        median = summary.median_added()
        claim = "calls are not held up"
        summary.claim(claim, median < 0.005, f"half of them by less than {ms(median)}")


def by_window(asked: list[Asked]) -> list[list[Asked]]:
    """
    Executions of a dead tool by the half-open window in which they were.

    A window ends when its probe has failed, and for ``RESET_TIMEOUT`` from then on there is
    none. So an execution that begins sooner is in the same window as the one before.
    """
    windows: list[list[Asked]] = []
    for each in asked:
        if windows and each.began < windows[-1][-1].ended + 0.95 * RESET_TIMEOUT:
            windows[-1].append(each)
        else:
            windows.append([each])
    return windows


def _one_each(windows: list[list[Asked]]) -> bool:
    return bool(windows) and all(len(window) == 1 for window in windows)


def _sizes(windows: list[list[Asked]]) -> str:
    return ", ".join(str(len(window)) for window in windows)
