"""
Circuits as data, for the process that comes after this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ._breaker import Saved
from ._circuit import SHARED
from ._fleet import Fleet

_VERSION: Final = 1
_MOST: Final = 1_000_000_000

_FLAGS: Final = ("is_open", "paused", "disabled", "isolated")
_COUNTS: Final = ("failures", "reopenings")


def snapshot_of(fleet: Fleet) -> dict[str, Any]:
    """
    All that has happened to the circuits, as data that JSON can hold.
    """
    circuits = [_as_data(*at, each) for at, each in fleet.all_pending().items()]
    for circuit in fleet.all_circuits():
        saved = circuit.breaker.saved(fleet.time_for(circuit))
        # Those who share a circuit here are not those who would share it there.
        if saved != _NOTHING and circuit.key not in SHARED:
            circuits.append(_as_data(circuit.name, circuit.key, saved))
    return {"version": _VERSION, "taken_at": _wall_time(), "circuits": circuits}


def restore_into(fleet: Fleet, snapshot: object) -> None:
    """
    Have the circuits go on with what a snapshot says, if all of it makes sense.

    Raises:
        TypeError: It is no mapping.
        ValueError: It does not make sense; says where.
    """
    if not isinstance(snapshot, Mapping):
        raise TypeError(
            f"a snapshot is a mapping, not a {type(snapshot).__name__}; one that was "
            "written as JSON has to be read with json.loads first"
        )
    version = snapshot.get("version")
    if type(version) is not int or version != _VERSION:
        raise ValueError(f"snapshot: version={_shown(version)}; expected {_VERSION}")
    taken_at = _seconds(snapshot, "taken_at", "snapshot")
    circuits = snapshot.get("circuits")
    if not isinstance(circuits, list):
        raise ValueError(f"snapshot: circuits={_shown(circuits)}; expected a list")
    # What the wall clock says is believed only so far as it shortens a wait.
    passed = max(0.0, _wall_time() - taken_at)
    saved: dict[tuple[str, str | None], Saved] = {}
    for index, data in enumerate(circuits):
        where = f"snapshot: circuits[{index}]"
        at, each = _read(data, where)
        if at in saved:
            raise ValueError(f"{where}: {at[0]!r:.100} is there twice")
        saved[at] = each._replace(rest=each.rest - passed)
    fleet.restore(saved)


def _as_data(name: str, key: str | None, saved: Saved) -> dict[str, Any]:
    has = {} if key is None else {"key": key}
    return {"name": name, **has, **saved._asdict()}


def _read(data: object, where: str) -> tuple[tuple[str, str | None], Saved]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}={_shown(data)}; expected an object")
    name, key = data.get("name"), data.get("key")
    if not isinstance(name, str):
        raise ValueError(f"{where}: name={_shown(name)}; expected text")
    if not isinstance(key, str | None):
        raise ValueError(f"{where}: key={_shown(key)}; expected text, or none")
    for field in _FLAGS:
        if type(data.get(field)) is not bool:
            said = _shown(data.get(field))
            raise ValueError(f"{where}: {field}={said}; expected a bool")
    for field in _COUNTS:
        count: object = data.get(field)
        if type(count) is not int or not 0 <= count <= _MOST:
            raise ValueError(
                f"{where}: {field}={_shown(count)}; expected a whole number from 0 on"
            )
    fields = {field: data[field] for field in (*_FLAGS, *_COUNTS)}
    saved = Saved(rest=_seconds(data, "rest", where), **fields)
    for field in ("rest", "paused", "reopenings"):
        if not saved.is_open and getattr(saved, field):
            raise ValueError(f"{where}: {field}={_shown(data[field])}, and it is not open")
    return (name, key), saved


def _seconds(data: Mapping[Any, Any], field: str, where: str) -> float:
    said: object = data.get(field)
    try:
        if type(said) in (int, float) and 0 <= (seconds := float(said)) < math.inf:  # type: ignore[arg-type]
            return seconds
    except OverflowError:
        pass  # a number of hundreds of digits
    raise ValueError(f"{where}: {field}={_shown(said)}; expected seconds, from 0 on")


def _shown(said: object) -> str:
    """
    The head of what was there instead. Not everything can be shown: not a number of
    thousands of digits, nor lists within lists within lists.
    """
    try:
        return repr(said)[:100]
    except Exception:
        return f"({type(said).__name__})"


def _wall_time() -> float:
    return datetime.now(UTC).timestamp()


_NOTHING: Final = Saved(
    is_open=False,
    rest=0.0,
    paused=False,
    reopenings=0,
    failures=0,
    disabled=False,
    isolated=False,
)
