"""
The service behind the fleet's tool, which is the witness of the example: whatever the
processes say, a tool was run if the service was asked, and it is asked by name.

Above it stands ``_fleet_story``, in whose process it runs; ``_fleet_worker`` asks it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import anyio
from anyio.abc import SocketStream, TaskStatus

QUICK, SLOW = 0.01, 0.15
"""Seconds that an answer takes, and what tells of a failure."""


class Health(Enum):
    """
    How the service is.
    """

    WELL = "well"
    DEAD = "dead"
    HUNG = "hung"


@dataclass(slots=True)
class Asked:
    """
    The service was asked once: the tool was executed.

    Attributes:
        who: By which process.
        began: When, on the monotonic clock.
        ended: When it answered, or saw its caller gone; infinite until then.
        answer: What it answered: ``"sun"``, ``"down"``, or nothing.
    """

    who: str
    began: float
    ended: float = math.inf
    answer: str = ""

    @property
    def is_over(self) -> bool:
        """
        Whether that has ended.
        """
        return self.ended < math.inf


class Service:
    """
    A service of this process, which can be made to fail.

    Attributes:
        health: How it is.
        port: Where it listens.
        asked: Each time that it was asked, in order.
    """

    def __init__(self, told: Callable[[Asked], object]) -> None:
        """
        It does not listen yet.

        Args:
            told: Called with each ``Asked`` when that begins, and when it ends.
        """
        self.health = Health.WELL
        self.port = 0
        self.asked: list[Asked] = []
        self._told = told

    async def serve(self, *, task_status: TaskStatus[None]) -> None:
        """
        Listen, for good.
        """
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        async with listener:
            self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
            task_status.started()
            await listener.serve(self._attend)

    async def _attend(self, stream: SocketStream) -> None:
        async with stream:
            try:
                who = (await stream.receive()).decode().strip()
                asked = Asked(who, time.monotonic())
                self.asked.append(asked)
                self._told(asked)
                answer = await self._answer_to(stream)
                asked.ended, asked.answer = time.monotonic(), answer
                self._told(asked)
                await stream.send(f"{answer}\n".encode())
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass  # the caller has gone

    async def _answer_to(self, stream: SocketStream) -> str:
        if self.health is Health.HUNG:
            try:
                await stream.receive()  # until it hangs up: it has nothing more to say
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
            return ""
        answer = "sun" if self.health is Health.WELL else "down"
        await anyio.sleep(QUICK if answer == "sun" else SLOW)
        return answer
