"""What a cell's folder holds: file names, the columns of a curve, and ``config.json``.

Little more than the standard library is imported, so that reading results costs nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_gym import durable
from al_gym.errors import CheckpointError

FORMAT = 4
"""Of a cell's folder; raised when an older program could not go on with it: 3 named the files, 4
kept what was predicted."""
HEALTH = (
    "saturated", "tied", "rank_correlation", "q", "q_limit", "actor_gradient", "critic_gradient",
)  # fmt: skip
"""Columns of ``curve.csv`` that say how an agent does that learns on the episode: what
``agents.ddpg.health`` knew of it when it had chosen, empty for all other methods."""
COLUMNS = (
    "step", "n_labelled", "labelled_fraction", "macro_f1", "micro_f1", "reward",
    "selected", "class_counts", "retrained_macro_f1", "retrained_micro_f1",
    "acquisition_seconds", "training_seconds", "n_skipped", "selected_names",
    *HEALTH,
)  # fmt: skip
"""Of ``curve.csv``. The line of step 0 is the start: it has no reward, and its training seconds are
those of the reset. ``selected`` are the data-set rows just annotated, best score first, and
``class_counts`` the labelled samples of each class. The retrained columns are empty where no
classifier was trained from scratch. Acquisition seconds are the method's own: choosing and, if it
learns, learning. Training seconds are the environment's; of cells that run side by side, they are
those of all of them and of waiting for one another. ``n_skipped`` counts the images whose class the
annotator could not tell so far. ``selected_names`` are the names of the images
just annotated, in the order of ``selected``, as a JSON list, since file names may hold spaces and
commas. A curve that an older program began goes on without the columns it began without."""
CONFIG, CURVE, RESULT = "config.json", "curve.csv", "result.json"
CHECKPOINT, START, ERROR = "checkpoint.safetensors", "start.txt", "error.txt"
FAILURE = "failure.safetensors"
LOCK, HOLDER = "lock", "holder.json"
PREDICTIONS, TEST_IMAGES = "predictions.bin", "test_images.npz"
"""Names of a cell's files."""
SHARED = (
    "dataset", "fingerprint", "environment", "initial_file", "classifier", "threads", "retrain_at",
    "retraining",
)  # fmt: skip
"""Keys of ``config.json`` that decide a curve and are the same for all methods compared."""
TYPES = {
    "format": int, "method": str, "seed": int, "threads": int, "checkpoint_every": int,
    "environment": dict, "classifier": dict, "versions": dict, "agent": dict, "retrain_at": list,
}  # fmt: skip
"""What some keys of ``config.json`` hold, where they are there."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a ``config.json``.

    Raises:
        CheckpointError: it cannot be read, because it was torn for example.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no object")
        for name, kind in TYPES.items():
            if name in config and type(config[name]) is not kind:
                raise ValueError(f"{name} is {config[name]!r}, and no {kind.__name__}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove its folder, or run it"
        ) from None
    return config


def is_finished(folder: Path) -> bool:
    """Whether a cell has come to its end, and its curve is all there.

    After a damage to the disk the two may not be: then the cell is to be run again.
    """
    try:
        steps = json.loads((folder / RESULT).read_text())["steps"]
        curve = (folder / CURVE).read_bytes()
        # a line of names, one of the start, and one a step
        return curve.endswith(b"\n") and curve.count(b"\n") == int(steps) + 2
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def tidy(folder: Path) -> None:
    """Remove from a finished cell what a process that was killed at its end has left."""
    for name in (CHECKPOINT, ERROR, HOLDER):
        (folder / name).unlink(missing_ok=True)
    durable.sweep(folder)


def has_begun(folder: Path) -> bool:
    """Whether a cell has got somewhere, so that it goes on by the ``config.json`` it has."""
    return any((folder / name).exists() for name in (RESULT, CHECKPOINT))


def create(folder: Path, config: dict[str, Any]) -> None:
    """Make a cell's folder; one that has got somewhere keeps the ``config.json`` it began with.

    The file is not waited for: a cell has it on disk before it begins, and one that was torn before
    is written anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if has_begun(folder):
        return
    path, text = folder / CONFIG, json.dumps(config, indent=2)
    # of ten thousand cells each waits for no disk: one that is torn is no JSON, and written anew
    if not path.exists() or path.read_text(errors="replace") != text:
        path.write_text(text, encoding="utf-8")


def difference(there: dict[str, Any], here: dict[str, Any], keys: Sequence[str]) -> str:
    """How two ``config.json`` differ in ``keys``, in words; empty if they do not."""
    ours, theirs = (_flat({key: config.get(key) for key in keys}) for config in (here, there))
    names = [name for name in {**ours, **theirs} if not _same(name, ours, theirs)]
    shown = [f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} here" for name in names[:5]]
    return "; ".join(shown) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


def _same(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    here, there = ours.get(name), theirs.get(name)
    if name == "environment.budget" and type(here) is not type(there):
        return False  # 1 is an image, 1.0 all of them
    return bool(here == there)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries by their path, such as ``environment.query_size``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
