"""Record the golden curves anew: only where a change of behaviour is intended, and says so.

python -m tests.golden.record
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import cell, run
from benchmarks.matrix import layout
from benchmarks.matrix.methods import chosen
from tests.golden.cases import CASES, CURVES, FOLDER, VECTORS, machine, single, vector
from tests.samples import make_dataset

CELLS = FOLDER / "cells"
IMAGES = FOLDER / "golden.npz"
METHODS = {"network": ("fusion", "all", "sb3-td3"), "head": ("random", "drla", "all")}
STOPPED = {"network": ("fusion",), "head": ("random", "drla")}
"""Methods by what is trained, and those of them whose cells were also stopped on their way."""
STOPPED_AFTER = 3
"""Steps after which they were."""


def main() -> None:
    """Write the curves and the cells."""
    torch.set_num_threads(1)
    arrays = {"machine": np.array(machine())}
    for kind, names, play in (("single", CASES, single), ("vector", VECTORS, vector)):
        for name in names:
            arrays |= {f"{kind}/{name}/{key}": value for key, value in play(name).items()}
    np.savez_compressed(CURVES, **arrays)
    _write_images()
    shutil.rmtree(CELLS, ignore_errors=True)
    for trained, methods in METHODS.items():
        settings = {"flag": "golden", "root": str(FOLDER), "query_size": 6, "budget": 0.5}
        settings |= {"trainable": "head"} if trained == "head" else {}
        experiment = run.Experiment("MedMNIST-golden", None, "MedMNIST", settings, chosen(methods))
        out = CELLS / trained / "finished"
        config = run.RunConfig(out=out, seeds=1, checkpoint_every=1, agent={"width": 16})
        records, _ = run.prepare(experiment, config)
        for folder, record in records.items():
            layout.create(folder, record)
            cell.run(folder)
            (folder / layout.LOCK).unlink(missing_ok=True)
            _without_root(folder)
            if record["method"] in STOPPED[trained]:
                _half_done(folder, CELLS / trained / "stopped" / folder.relative_to(out))


def _write_images() -> None:
    data = make_dataset(n_train=60, n_test=40, size=28)
    noise = np.random.default_rng(1).normal(0, 60, (100, 28, 28))
    faint = 100 + 4 * data.labels[:, None, None] + noise  # so that there is something to learn
    images = np.clip(faint, 0, 255).astype(np.uint8)
    parts = {"train": slice(0, 60), "test": slice(60, None)}
    np.savez_compressed(
        IMAGES,
        **{f"{name}_images": images[rows] for name, rows in parts.items()},
        **{f"{name}_labels": data.labels[rows, None] for name, rows in parts.items()},
    )


def _without_root(folder: Path) -> None:
    """The images lie wherever the repository does: a test puts their folder in again."""
    record = json.loads((folder / layout.CONFIG).read_text())
    record["settings"]["root"] = "."
    record["source"] = "MedMNIST golden"
    (folder / layout.CONFIG).write_text(json.dumps(record, indent=2))


def _half_done(finished: Path, folder: Path) -> None:
    """The same cell, stopped on its way."""
    record: dict[str, Any] = json.loads((finished / layout.CONFIG).read_text())
    record["settings"]["root"] = str(FOLDER)
    layout.create(folder, record)
    write = cell.checkpoint.write

    def stopped(path: Any, tree: dict[str, Any]) -> Any:
        written = write(path, tree)
        if len(tree["recorder"]["lines"]) - 2 >= STOPPED_AFTER:
            raise KeyboardInterrupt
        return written

    cell.checkpoint.write = stopped
    try:
        cell.run(folder)
    except KeyboardInterrupt:
        pass
    finally:
        cell.checkpoint.write = write
    (folder / layout.LOCK).unlink(missing_ok=True)
    _without_root(folder)


if __name__ == "__main__":
    main()
