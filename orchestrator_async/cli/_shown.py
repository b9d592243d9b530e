"""
What others have written, as text that does nothing but be read; and results as JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from orchestrator_async._calls import ToolResult
from orchestrator_async._describe import describe_error

# Characters that do something to a terminal or to the direction of writing, that cannot be
# seen, or that no encoding has. Newline and tab are not among them.
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """
    The text with its control characters, but for newline and tab, as escapes of Python.
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """
    JSON that a terminal, too, can be shown; with a newline.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return _CONTROLS.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n"


def record_of(result: ToolResult) -> dict[str, Any]:
    """
    A result as an object of JSON.
    """
    error = result.error
    return {
        "id": result.call_id,
        "name": result.name or None,
        "ok": result.ok,
        "verdict": result.verdict.value,
        "content": result.content,
        "error": None if error is None else describe_error(error),
        "duration": round(result.duration, 6),
        "attempts": result.attempts,
        "source": result.source or None,
        "state": None if result.state is None else result.state.value,
        "retry_after": result.retry_after,
    }
