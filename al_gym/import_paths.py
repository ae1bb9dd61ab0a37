"""Parts of the user's own, named by import path: ``"package.module:name"``."""

import importlib
from typing import Any


def is_import_path(name: Any) -> bool:
    """Whether it is written as one."""
    return isinstance(name, str) and ":" in name


def imported(path: str) -> Any:
    """What ``"package.module:name"`` names; the name may have dots.

    Raises:
        ValueError: there is no such module, or no such name in it.
    """
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path!r} cannot be imported ({error}); write it as 'package.module:name', and start "
            "Python where the package can be found"
        ) from error
    return found
