"""
Which event loops of this process use the client library, which can serve one at a time whole.

It has one reader of messages for all clients of a process. On trio, a second loop that uses
it beside the first ends both; on asyncio, the second hears no messages.
"""

from __future__ import annotations

import threading
from collections import Counter

from anyio.lowlevel import EventLoopToken, current_token

from orchestrator_async import _loop
from orchestrator_async._log import logger
from orchestrator_async._store import StoreError

_lock = threading.Lock()
_used: Counter[EventLoopToken] = Counter()
_on_trio: set[EventLoopToken] = set()


def begin() -> EventLoopToken:
    """
    The loop that runs here uses the library from now on; to be given back by ``end``.

    Raises:
        StoreError: It cannot: another loop of trio does, in another thread.
    """
    token, is_trio = current_token(), _loop.running_loop() is None
    with _lock:
        for each in [each for each in _used if not _loop.is_alive(each)]:
            del _used[each]
            _on_trio.discard(each)
        others = [each for each in _used if each != token]
        if is_trio and any(each in _on_trio for each in others):
            raise StoreError(
                "another event loop of trio in this process uses valkey-glide, which can "
                "serve one alone; hand calls to the first loop with anyio.from_thread.run"
            )
        _used[token] += 1
        if is_trio:
            _on_trio.add(token)
    if others:
        logger.warning(
            "another event loop of this process uses valkey-glide, so this one hears of "
            "shared circuits once a second, and not at once"
        )
    return token


def end(token: EventLoopToken) -> None:
    """
    A session of that loop has ended.
    """
    with _lock:
        _used[token] -= 1
        if _used[token] <= 0:
            del _used[token]
            _on_trio.discard(token)
