"""
What steers the tools of a fleet: a file that each of them reads when it is called.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """
    What a tool does.

    Attributes:
        mode: ``"well"``, ``"dead"`` or ``"hang"``: until it is something else.
        takes: Seconds that it takes.
        hung: How a call ends that hangs in one of these processes, instead.
    """

    mode: str = "well"
    takes: float = 0.0
    hung: dict[str, str] = field(default_factory=dict)

    @property
    def after_hanging(self) -> str:
        """
        What becomes here of a call that hangs.
        """
        return self.hung.get(str(os.getpid()), self.mode)


class Switch:
    """
    One tool's.
    """

    def __init__(self, folder: Path, tool: str) -> None:
        self._path = folder / f"{tool}.switch"

    def set(self, behaviour: Behaviour) -> None:
        """
        Have it behave so from now on.
        """
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(asdict(behaviour)))
        new.replace(self._path)

    def read(self) -> Behaviour:
        return Behaviour(**json.loads(self._path.read_bytes()))
