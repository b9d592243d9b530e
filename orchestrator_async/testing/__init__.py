"""
Helpers for the tests of those who use the package: tools that do what a script says,
faults at a rate, circuits that are held open, a clock, and a recorder of events.

They are written against the package's public names and anyio; nothing in the package
imports them. Fixtures for pytest are in ``orchestrator_async.testing.pytest_plugin``.
"""

from __future__ import annotations

from ._clock import FakeClock
from ._faults import Fault, Faults
from ._forced import forced_open
from ._recorder import Recorder
from ._scripted import ScriptedTool, ScriptEndedError
from ._steps import Step, broken_off, garbage, hang, huge, malformed, slow

__all__ = [
    "FakeClock",
    "Fault",
    "Faults",
    "Recorder",
    "ScriptEndedError",
    "ScriptedTool",
    "Step",
    "broken_off",
    "forced_open",
    "garbage",
    "hang",
    "huge",
    "malformed",
    "slow",
]
