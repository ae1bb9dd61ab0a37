"""Parts of the user's own, named by import path: ``"package.module:name"``.

To import is to run code. So import paths are taken from the command line and from Python, and from
the files of a run, a project, a model or a preset only by consent; see ``check_trusted``.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from al_gym.errors import CheckpointError

SETTINGS = ("network", "augmentation", "reward", "annotator", "reader")
"""Keywords of ``gymnasium.make`` that may be import paths."""
LIBRARY, SAVED = "skactiveml:", ".safetensors"
"""How names of methods begin and end that are looked up in a library, or read as a policy."""


def is_import_path(name: Any) -> bool:
    """Whether it is written as one."""
    return isinstance(name, str) and ":" in name


def imported(path: str) -> Any:
    """What ``"package.module:name"`` names; the name may have dots.

    Raises:
        ValueError: it is no import path; there is no such module, or no such name in it.
    """
    module_name, _, name = path.partition(":")
    try:
        if not is_import_path(path):  # the module alone would be imported, and so run
            raise ImportError("there is no ':' in it")
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path!r} cannot be imported ({error}); write it as 'package.module:name', and start "
            "Python where the package can be found"
        ) from error
    return found


def named_in(settings: Mapping[str, Any], method: Any = None) -> list[str]:
    """The import paths among what a file says.

    Args:
        settings: keywords of ``gymnasium.make``, or some of them.
        method: the name of a method of ``benchmarks.run``.
    """
    found = [settings.get(name) for name in SETTINGS]
    if not str(method).startswith(LIBRARY) and not str(method).endswith(SAVED):
        found.append(method)
    return [str(each) for each in found if is_import_path(each)]


def check_trusted(path: str | Path, names: Sequence[str], trust: bool) -> None:
    """Refuse a file that would have code run, unless the user has said that it may.

    No package is excepted: by a path such as ``"al_gym.make:importlib.import_module"`` every one
    leads to every other.

    Args:
        path: of the file.
        names: the import paths in it, see ``named_in``.
        trust: the user's consent.

    Raises:
        CheckpointError: it names code, and there is no consent.
    """
    if names and not trust:
        raise CheckpointError(
            f"{path} names code that would be imported and run: {', '.join(map(repr, names))}. If "
            "you know what that is and who wrote the file, say so: --trust on the command line, "
            "trust=True in Python"
        )
