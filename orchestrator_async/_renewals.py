"""
Leases of probes that run, kept for as long as these may.
"""

from __future__ import annotations

from typing import Final

import anyio

from . import _loop
from ._lease import Lease
from ._line import Line
from ._shared import Link

_PAUSE: Final = 0.05
"""Seconds between two renewals of a lease at the least."""


class Renewals:
    """
    Those of one process.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._over: dict[Lease, _loop.Bell] = {}

    def begin(self) -> None:
        """
        No probe of before is anybody's any more.
        """
        self._over.clear()

    def keep(self, link: Link, lease: Lease) -> None:
        """
        Renew the lease until its probe has ended, or may go on no more.
        """
        self._line.start(self._keep, link, lease)

    def once(self, link: Link, lease: Lease) -> None:
        """
        Renew it now: the store may have lost it.
        """
        self._line.start(self._renew, link, lease)

    def release(self, lease: Lease) -> None:
        """
        Its probe has ended.
        """
        if over := self._over.get(lease):
            over.ring()

    async def _keep(self, link: Link, lease: Lease) -> None:
        if lease in self._over or link.lease is not lease:
            return
        over, pause = _loop.Bell(), 0.0
        self._over[lease] = over
        try:
            while lease.until < lease.last - _PAUSE:
                rest = lease.until - self._line.time()
                wait = rest / 3 if rest > lease.length / 2 else 0.0
                with anyio.move_on_after(max(wait, pause)):
                    await over.wait()
                if not await self._renew(link, lease):
                    return
                pause = _PAUSE
        finally:
            self._over.pop(lease, None)

    async def _renew(self, link: Link, lease: Lease) -> bool:
        """
        Whether there was something to renew.
        """
        line = self._line
        session, began = line.session, line.time()
        renew = link.renewal(lease, began)
        if renew is None:
            return False
        if session is not None and line.is_up:
            try:
                answer = await session.change(link.id, renew)
                link.renewed(lease, renew, answer, began)
            except Exception as error:
                line.missed(error, began)
        return True
