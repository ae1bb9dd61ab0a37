"""What run folders hold, read into frames: one experiment a data set."""

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from al_gym.errors import CheckpointError
from benchmarks.matrix import layout, predictions
from benchmarks.matrix.facts import REFERENCES, Facts, facts_of, order
from benchmarks.matrix.provenance import completed

TEXTS = ("selected", "class_counts", "selected_names")
"""Columns of a curve that are no numbers."""
WHOLE = ("step", "macro_f1", "micro_f1")
"""Columns that every curve has, and a number in every line."""
NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]\d+)?|-?inf|nan", re.ASCII)
"""As Python writes it."""


@dataclass(frozen=True)
class Cell:
    """A folder of results."""

    method: str
    seed: int
    folder: Path
    config: dict[str, Any]


@dataclass(frozen=True)
class Unfinished:
    """A cell that takes no part in any average."""

    method: str
    seed: int
    steps: int
    """Steps done so far."""
    error: str | None
    """What stopped it, in a line, if something did."""


@dataclass(frozen=True)
class Experiment:
    """All cells of one data set."""

    name: str
    config: dict[str, Any]
    """Of the first cell; what decides the curves is the same in all of them."""
    curves: pd.DataFrame
    """Finished cells of methods that have a learning curve: ``method``, ``seed`` and the columns of
    ``curve.csv``, a row a step; and ``predictions``, what a cell has kept of them."""
    supervised: pd.DataFrame
    """The same of methods that are one point, such as ALL."""
    facts: dict[str, Facts]
    """Of every method with a cell, in the order in which reports list them."""
    unfinished: tuple[Unfinished, ...]
    programs: tuple[str, ...]
    """Commits, versions and devices that ran the cells."""

    @property
    def everything(self) -> pd.DataFrame:
        """Curves and single points in one frame, methods in the order of ``methods``."""
        frames = [frame for frame in (self.curves, self.supervised) if not frame.empty]
        if len(frames) < 2:
            return frames[0] if frames else self.curves
        places = {method: place for place, method in enumerate(self.facts)}
        both = pd.concat(frames, ignore_index=True)
        return both.sort_values(
            "method", key=lambda names: names.map(places), kind="stable", ignore_index=True
        )

    @property
    def compared(self) -> pd.DataFrame:
        """The curves of methods that are tested and ranked, which bounds are not."""
        bounds = [method for method, facts in self.facts.items() if not facts.compared]
        return self.curves[~self.curves["method"].isin(bounds)]

    @property
    def without_predictions(self) -> list[str]:
        """Methods that are compared, with a cell that has not kept its predictions."""
        compared = self.compared
        lacking = compared["predictions"].isna() if "predictions" in compared else slice(None)
        return list(compared[lacking]["method"].unique())

    @property
    def methods(self) -> list[str]:
        """Those with a finished cell, in the order of ``facts``."""
        present = set(self.curves["method"]) | set(self.supervised["method"])
        return [name for name in self.facts if name in present]

    @property
    def seeds(self) -> list[int]:
        """Seeds with a finished cell."""
        return sorted({*self.curves["seed"], *self.supervised["seed"]})

    @property
    def baselines(self) -> dict[str, list[str] | None]:
        """Baseline -> the methods tested against it; None: all others."""
        found: dict[str, list[str] | None] = dict.fromkeys(REFERENCES)
        for control in dict.fromkeys(facts.control for facts in self.facts.values()):
            if control is not None and control not in found:
                found[control] = [m for m, facts in self.facts.items() if facts.control == control]
        return found

    def label(self, method: str) -> str:
        """A method's name in tables and figures: in full if short ones would be the same."""
        alike = [other for other in self.facts if label(other) == label(method)]
        bound = method in self.facts and not self.facts[method].compared
        return (label(method) if len(alike) < 2 else method) + (" (bound)" if bound else "")


def label(method: str) -> str:
    """A method's name as it is shown: ours in capitals, others by their class or their file."""
    if re.fullmatch(r"[a-z0-9-]+", method):
        return method.upper()
    return Path(method.rpartition(":")[2]).name.removesuffix(".safetensors")


def load(folders: Sequence[Path]) -> list[Experiment]:
    """Read run folders; cells of one data set in several of them are put together.

    Raises:
        FileNotFoundError: a folder without a cell.
        CheckpointError: a config or a curve is damaged.
        ValueError: cells of one data set whose settings differ, or that are there twice.
    """
    return [read(name, cells) for name, cells in find(folders).items()]


def find(folders: Sequence[Path]) -> dict[str, list[Cell]]:
    """The cells of each data set in run folders, in the order in which reports list them.

    Raises:
        FileNotFoundError: a folder without a cell.
        CheckpointError: a config is damaged.
        ValueError: a cell is there twice.
    """
    found: dict[str, dict[tuple[str, int], Cell]] = {}
    for folder in folders:
        paths = sorted(folder.glob(f"*/*/seed*/{layout.CONFIG}"))
        if not paths:
            raise FileNotFoundError(
                f"no results in {folder}: it holds no */*/seed*/{layout.CONFIG}"
            )
        for path in paths:
            cells = found.setdefault(path.parents[2].name, {})
            config = completed(layout.read_config(path))
            seed = int(path.parent.name.removeprefix("seed"))
            cell = Cell(config.get("method", path.parents[1].name), seed, path.parent, config)
            other = cells.setdefault((cell.method, seed), cell)
            if other is not cell:
                raise ValueError(
                    f"{cell.method} with seed {seed} is in {other.folder} and {cell.folder}"
                )
    return {
        name: sorted(cells.values(), key=lambda cell: (order(cell.method), cell.seed))
        for name, cells in sorted(found.items())
    }


def read(name: str, cells: list[Cell]) -> Experiment:
    """Read the cells of one data set, as ``find`` has put them.

    Raises:
        CheckpointError: a curve is damaged.
        ValueError: settings, starts or test images differ.
    """
    first = cells[0]
    for cell in cells:
        different = layout.difference(first.config, cell.config, layout.SHARED)
        if different:
            raise ValueError(f"{cell.folder} cannot be compared with {first.folder}: {different}")
    _check_starts(cells)
    facts = {cell.method: facts_of(cell.method, cell.config) for cell in cells}
    curves: list[Curve] = []
    supervised: list[Curve] = []
    unfinished = []
    for cell in cells:
        curve = _curve(cell)
        if (cell.folder / layout.RESULT).exists():
            (curves if facts[cell.method].has_curve else supervised).append(curve)
        else:
            steps = max(0, curve.n_lines - 1)
            unfinished.append(Unfinished(cell.method, cell.seed, steps, _error(cell.folder)))
    _check_truths([*curves, *supervised])
    programs = {
        f"commit {cell.config.get('commit')}, {cell.config.get('device')}, "
        + ", ".join(f"{package} {number}" for package, number in cell.config["versions"].items())
        for cell in cells
    }
    return Experiment(
        name, first.config, _together(curves), _together(supervised), facts, tuple(unfinished),
        tuple(sorted(programs)),
    )  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """The text of a cell's curve, which has been checked."""

    cell: Cell
    names: bytes
    """The line of its columns; empty if there is none."""
    lines: bytes
    n_lines: int
    predictions: predictions.Predictions | None
    """What a finished cell has kept of them."""


def _curve(cell: Cell) -> Curve:
    names, lines, n_lines = _checked(cell.folder / layout.CURVE)
    is_finished = (cell.folder / layout.RESULT).exists()
    kept = predictions.read(cell.folder, n_lines) if is_finished else None
    return Curve(cell, names, lines, n_lines, kept)


def _together(curves: list[Curve]) -> pd.DataFrame:
    """The curves below each other.

    Neighbours with the same columns are parsed at once, since pandas takes a millisecond each time.
    """
    if not curves:
        return pd.DataFrame(columns=["method", "seed", *layout.COLUMNS])
    frames = []
    for names, same in itertools.groupby(curves, lambda curve: curve.names):
        group = list(same)
        counts = [curve.n_lines for curve in group]
        frame = _parsed(names + b"".join(curve.lines for curve in group)).assign(
            method=np.repeat([curve.cell.method for curve in group], counts),
            seed=np.repeat([curve.cell.seed for curve in group], counts),
        )
        kept = [curve.predictions or np.nan for curve in group]
        if any(curve.predictions for curve in group):
            frame["predictions"] = np.repeat(np.array(kept, dtype=object), counts)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _check_truths(curves: list[Curve]) -> None:
    """All cells that have kept predictions made them of the same test images.

    Raises:
        ValueError: they did not.
    """
    kept = [curve.predictions for curve in curves if curve.predictions]
    for each in kept:
        if not each.truth.is_of(kept[0].truth):
            raise ValueError(
                f"{each.path.parent} has other test images, or other groups of them, than "
                f"{kept[0].path.parent}: they cannot be compared"
            )


def _check_starts(cells: list[Cell]) -> None:
    """The methods of a seed began alike, wherever they were run.

    Raises:
        ValueError: they did not.
    """
    starts: dict[int, Path] = {}
    for cell in cells:
        path = cell.folder / layout.START
        if path.exists():
            other = starts.setdefault(cell.seed, path)
            if other.read_text() != path.read_text():
                raise ValueError(
                    f"{cell.folder} and {other.parent} did not begin with the same labelled set "
                    "and weights: they cannot be compared"
                )


def read_curve(path: Path) -> pd.DataFrame:
    """A ``curve.csv``, without a last line that was torn; no rows if there is none.

    Raises:
        CheckpointError: it is damaged; names the line.
    """
    names, lines, _ = _checked(path)
    return _parsed(names + lines)


def _checked(path: Path) -> tuple[bytes, bytes, int]:
    """The line of names of a ``curve.csv``, its whole lines below, and their number.

    Raises:
        CheckpointError: it is damaged; names the line.
    """
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        return b"", b"", 0
    try:
        n_lines = _check_curve(whole.decode("utf-8"))
    except (ValueError, csv.Error) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}. Remove the folder of the cell, and run it anew"
        ) from None
    end = whole.index(b"\n") + 1
    return whole[:end], whole[end:], n_lines


def _parsed(text: bytes) -> pd.DataFrame:
    """The frame of lines that have been checked."""
    if not text:
        return pd.DataFrame(columns=list(layout.COLUMNS))
    return pd.read_csv(io.BytesIO(text), dtype=dict.fromkeys(TEXTS, str))


def _check_curve(text: str) -> int:
    """Refuse lines that pandas would fill up, or take for texts; returns the number of steps.

    Raises:
        ValueError: a line is not as the recorder writes it.
    """
    names, *lines = csv.reader(io.StringIO(text), strict=True)
    if len(set(names)) < len(names) or not set(WHOLE) <= set(names) <= set(layout.COLUMNS):
        raise ValueError(f"line 1 has the columns {','.join(names)}")
    for step, line in enumerate(lines):
        if len(line) != len(names):
            raise ValueError(f"the line of step {step} has {len(line)} cells of {len(names)}")
        for name, cell in zip(names, line, strict=True):
            if name not in TEXTS and not _is_value(name, cell):
                raise ValueError(f"{name} of step {step} is {cell!r}")
        if line[names.index("step")] != str(step):
            raise ValueError(f"step {line[names.index('step')]} stands where {step} should be")
    return len(lines)


def _is_value(name: str, cell: str) -> bool:
    """Whether a cell of the column can have been written."""
    if not cell:
        return name not in WHOLE
    is_number = NUMBER.fullmatch(cell) is not None
    return is_number and (name in layout.HEALTH or abs(float(cell)) < 2**53)


def _error(folder: Path) -> str | None:
    path = folder / layout.ERROR
    return path.read_text().partition("\n")[0] if path.exists() else None
