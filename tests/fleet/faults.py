"""
What an engine does to those who rely on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.stores.engine import Engine, free_port

from .proxy import Proxy

_WRONG_TYPES: Final = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local is = redis.call('TYPE', key).ok
  redis.call('DEL', key)
  if is == 'list' then
    redis.call('SADD', key, 'no list')
  else
    redis.call('RPUSH', key, 'a list')
  end
end
"""
_GARBAGE: Final = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  redis.call('DEL', key)
  redis.call('SET', key, '9:\\0nan 99999999999999999999 \\255')
end
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """
    What a fleet stands on.

    Attributes:
        engine: The engine.
        proxy: What stands before it.
        prefix: Of the fleet's keys.
    """

    engine: Engine
    proxy: Proxy
    prefix: str

    def ask(self, *words: str | int) -> None:
        self.engine.ask(*words)


def _nothing(ground: Ground) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """
    A fault, from its begin to its end.

    Attributes:
        begin: Makes it.
        again: Is done a few times a second as long as it lasts.
        end: Ends it.
        is_fleet_wide: Whether there is one probe a window in the whole fleet while it
            lasts, too: the engine is slow, and then it has gone on, or it lost nothing.
        through_proxy: Whether the fleet is to talk to the engine through the proxy.
    """

    begin: Callable[[Ground], object] = _nothing
    again: Callable[[Ground], object] = _nothing
    end: Callable[[Ground], object] = _nothing
    is_fleet_wide: bool = False
    through_proxy: bool = False


def _restart(ground: Ground) -> None:
    ground.engine.kill()
    ground.engine.restart()


def _spoil(script: str) -> Callable[[Ground], object]:
    return lambda ground: ground.ask("EVAL", script, 0, ground.prefix)


def _delay(seconds: float) -> Callable[[Ground], object]:
    def delay(ground: Ground) -> None:
        ground.proxy.delay = seconds

    return delay


def _cut(ground: Ground) -> None:
    ground.proxy.cut()


def _lost(ground: Ground) -> None:
    """
    What was on its way is gone, so there must be new connections.
    """
    ground.proxy.delay = 0.0
    ground.proxy.cut()


FAULTS: Final[dict[str, Fault]] = {
    "stopped": Fault(
        begin=lambda ground: ground.engine.stop(),
        end=lambda ground: ground.engine.cont(),
        is_fleet_wide=True,
    ),
    "killed": Fault(
        begin=lambda ground: ground.engine.kill(),
        end=lambda ground: ground.engine.restart(),
    ),
    "restarted empty": Fault(begin=_restart),
    "scripts flushed": Fault(
        again=lambda ground: ground.ask("SCRIPT", "FLUSH"), is_fleet_wide=True
    ),
    "flushed": Fault(again=lambda ground: ground.ask("FLUSHALL")),
    "read-only": Fault(
        begin=lambda ground: ground.ask("REPLICAOF", "127.0.0.1", free_port()),
        end=lambda ground: ground.ask("REPLICAOF", "NO", "ONE"),
    ),
    "full": Fault(
        begin=lambda ground: ground.ask("CONFIG", "SET", "maxmemory", 1),
        end=lambda ground: ground.ask("CONFIG", "SET", "maxmemory", 0),
    ),
    "wrong types": Fault(again=_spoil(_WRONG_TYPES)),
    "garbage": Fault(again=_spoil(_GARBAGE)),
    "far away": Fault(
        begin=_delay(0.5), end=_delay(0.0), is_fleet_wide=True, through_proxy=True
    ),
    "lost connections": Fault(again=_cut, through_proxy=True),
    "black hole": Fault(begin=_delay(math.inf), end=_lost, through_proxy=True),
}
