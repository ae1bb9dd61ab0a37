"""Experiments: files of TOML, in ``benchmarks/presets`` or of one's own."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from al_gym.errors import DataError
from al_gym.import_paths import check_trusted, named_in
from al_gym.names import lookup

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parents[1] / "presets"
PAPER_METHODS = ("random", "lc", "ms", "en", "fusion", "all", "drla")
"""Those that the paper compares."""


@dataclass(frozen=True)
class Preset:
    """An experiment: a data set, how it is set up, and who takes part."""

    dataset: str
    """As in ``envs_registry``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keywords of ``gymnasium.make`` beside the profile's."""
    methods: tuple[str, ...] = PAPER_METHODS
    title: str | None = None
    """What its folder is called; None: after the data set."""


def read(path: Path) -> Preset:
    """The preset in a file of TOML: ``dataset``, ``methods``, ``title``, a table ``[settings]``.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not TOML, lacks ``dataset``, or has a key that means nothing.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not TOML: {error}") from None
    unknown = sorted(set(content) - {"dataset", "methods", "title", "settings"})
    if unknown:
        raise DataError(
            f"{path}: unknown key {unknown[0]!r}; there are dataset, methods, title and the table "
            "[settings], which takes every keyword of gymnasium.make"
        )
    title = content.get("title")
    if title is not None and not re.fullmatch(r"\w[\w.-]*", str(title)):
        raise DataError(f"{path}: title names a folder: letters, digits, _ - and ., not {title!r}")
    dataset, settings = content.get("dataset"), content.get("settings", {})
    methods = content.get("methods", list(PAPER_METHODS))
    if not isinstance(dataset, str):
        raise DataError(f"{path}: dataset must name a data set, such as dataset = 'chestCT'")
    if not isinstance(settings, dict):
        raise DataError(f"{path}: settings must be a table, [settings]")
    if not isinstance(methods, list) or not all(isinstance(name, str) for name in methods):
        raise DataError(f"{path}: methods must be a list of names")
    return Preset(dataset, settings, tuple(methods), title)


def find(name: str, trust: bool = False) -> Preset:
    """A built-in preset by name, or that of a file whose name ends in .toml.

    Args:
        name: of the preset, or the path of the file.
        trust: whether code that the file names, such as a method of the user's own, may be run.

    Raises:
        ValueError: an unknown name, or what ``read`` raises; a file that names code, where
            ``trust`` is not set.
    """
    if name.endswith(".toml"):
        preset = read(Path(name))
        methods = [path for method in preset.methods for path in named_in({}, method)]
        check_trusted(name, [*named_in(preset.settings), *methods], trust)
        return preset
    return lookup("preset", name, PRESETS)


PRESETS = {path.stem: read(path) for path in sorted(FOLDER.glob("*.toml"))}
"""The built-in presets, by name."""
