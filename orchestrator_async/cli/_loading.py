"""
Registries by name: ``module:registry`` and ``path/file.py:registry``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Final

from orchestrator_async import Registry, ToolOrchestrator
from orchestrator_async._describe import describe_error

from ._errors import CliError
from ._interrupts import interrupts

_NOT_THEIRS: Final = (
    "<frozen ",
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")),
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
)

Found = Registry | ToolOrchestrator


def load(spec: str) -> Found:
    """
    What ``--tools`` names.

    Raises:
        CliError: There is no such thing, or importing it has failed; says where.
    """
    where, _, attribute = spec.rpartition(":")
    if not where or "/" in attribute or attribute.endswith(".py"):
        raise CliError(
            f"--tools {spec}: name the registry as well, such as {spec.rstrip(':')}:registry."
        )
    module = _imported(where)
    try:
        found: object = attrgetter(attribute)(module)
    except AttributeError:
        raise CliError(
            f"--tools {spec}: {where} has no {attribute}.{_others(module)}"
        ) from None
    if not isinstance(found, Found):
        raise CliError(
            f"--tools {spec}: this is a {type(found).__name__}, and no Registry or "
            f"ToolOrchestrator.{_others(module)}"
        )
    return found


def _others(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Found)]
    return f" It has {', '.join(names)}." if names else ""


def _imported(where: str) -> ModuleType:
    is_file = where.endswith(".py")
    folder = os.path.dirname(os.path.abspath(where)) if is_file else os.getcwd()
    try:
        with _looked_in(folder):
            return _executed(Path(where)) if is_file else importlib.import_module(where)
    except CliError:
        raise
    except (Exception, SystemExit) as error:
        if interrupts.code is not None:
            raise SystemExit(interrupts.code) from None
        raise _failed(where, error) from error


@contextmanager
def _looked_in(folder: str) -> Generator[None, None, None]:
    """
    Have modules looked for in the folder first, as for a script that lies there. Afterwards
    it is the last: what we ourselves import later is not to be taken from there.
    """
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the module may have seen to it itself
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _executed(path: Path) -> ModuleType:
    """
    The module that the file is, which is executed once, however often it is named.
    """
    if not path.is_file():
        raise CliError(f"--tools {path}: there is no such file.")
    known = sys.modules.get(path.stem)
    if known is not None and _is_of(known, path):
        return known
    # Its name may be taken by a module that others want.
    name = path.stem if known is None else f"{path.stem} ({path.resolve()})"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path.resolve()


def _failed(where: str, error: BaseException) -> CliError:
    if isinstance(error, ModuleNotFoundError) and where.startswith(error.name or " "):
        return CliError(
            f"--tools {where}: there is no module {error.name}. It is looked for in this "
            "folder and where Python looks."
        )
    return CliError(f"--tools {where}: {describe_error(error)}\n  {_place(error)}")


def _place(error: BaseException) -> str:
    """
    Where it was raised: the last line of the user's own, and not of what that has called.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith(_NOT_THEIRS)]
    last = (own or frames)[-1]
    return f"{last.filename}, line {last.lineno}"
