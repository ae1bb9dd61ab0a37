"""A small matrix, run once."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import run
from benchmarks.matrix import layout

METHODS = ("random", "ms", "all", "drla", "sb3-ddpg", "sb3-ppo")


def without_seconds(path: Path) -> list[list[str]]:
    """The curve, byte for byte, but for its columns of seconds."""
    with path.open() as file:
        return [
            [
                value
                for value, name in zip(row, layout.COLUMNS, strict=True)
                if "seconds" not in name
            ]
            for row in csv.reader(file)
        ]


def curves(out: Path) -> dict[str, tuple[list[list[str]], bytes]]:
    """Every curve below a run folder, and what was predicted of the test images along it."""
    return {
        str(p.relative_to(out)): (without_seconds(p), p.with_name(layout.PREDICTIONS).read_bytes())
        for p in out.rglob(layout.CURVE)
    }


@pytest.fixture(scope="session")
def folder_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 images of 8 pixels, three classes told by brightness."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = np.clip(60 + 60 * labels[:, None, None] + rng.normal(0, 50, (150, 8, 8)), 0, 255)
    np.savez(root / "images.npz", images=images.astype(np.uint8), labels=labels)
    return root


@pytest.fixture(scope="session")
def settings(folder_root: Path) -> Any:
    """A function that makes a ``RunConfig`` on those images."""

    def make(out: Path, **changes: Any) -> run.RunConfig:
        given = {
            "dataset": "Folder", "methods": METHODS, "out": out, "seeds": 2, "root": folder_root,
            "query_size": 6, "budget": 0.4, "checkpoint_every": 2, "set": ("pretrain_passes=5",),
        }  # fmt: skip
        return run.RunConfig(**{**given, **changes})

    return make


@pytest.fixture(scope="session")
def finished(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished matrix. Copy before changing."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert run.main(settings(out)) == 0
    return out
