"""
Whether a package that an optional part stands on is there, in a version that it was tried with.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def require(
    distribution: str,
    *,
    module: str,
    extra: str | None,
    at_least: str,
    below: str,
) -> None:
    """
    Raise ``ImportError`` unless a package can be imported in a version that will do.

    Nothing of it is imported. One that is there without a word of its version, as in a
    program that was frozen into one file, is let pass.

    Args:
        distribution: What pip calls it.
        module: What is imported of it.
        extra: The extra of ours that installs it, or ``None`` where none does.
        at_least: The first version that will do.
        below: The first after it that will not.
    """
    what = distribution if extra is None else f'"orchestrator-async[{extra}]"'
    if not _is_there(module):
        raise ImportError(
            f"this needs {distribution}, which is not installed: pip install {what}"
        )
    try:
        found: str | None = version(distribution)
    except PackageNotFoundError:
        return
    if found is None or _parts(at_least) <= _parts(found) < _parts(below):
        return
    raise ImportError(
        f"this was tested with {distribution} from {at_least} to below {below}, and "
        f'{found} is installed: pip install "{distribution}>={at_least},<{below}"'
    )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _parts(version: str) -> tuple[int, ...]:
    """
    The numbers at the beginning of a version: what comes before a release is that release.
    """
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    parts = [] if numbers is None else [int(each) for each in numbers[0].split(".")]
    while parts and not parts[-1]:
        parts.pop()  # 3.0 is 3
    return tuple(parts)
