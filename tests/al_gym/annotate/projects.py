"""Small projects for tests: images of 12 pixels whose file names tell their class."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from al_gym.annotate.project import Project, Settings
from tests.images_as_folders import drawn, write_csv

CLASSES = ("dark", "grey", "light")
HEAD = {"weights": None, "network": "small2d", "image_size": 12, "group_pattern": r"(p\d+)/"}
"""A linear layer on a random frozen network."""
WHOLE = {**HEAD, "trainable": "all", "learning_rate": 0.02, "pretrain_passes": 2}


def draw_scans(root: Path, n_patients: int = 24) -> Path:
    """Three images a patient, of one class each, in folders that tell nothing; returns the root."""
    rng = np.random.default_rng(0)
    for i in range(3 * n_patients):
        path = root / "scans" / f"p{i // 3:02}" / f"{i:02}-{i % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = 60 + 60 * (i % 3) + rng.normal(0, 40, (12, 12))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return root


def settings_for(root: Path, **changes: Any) -> Settings:
    """24 questions in queries of 4, 6 of them about the test set."""
    values: dict[str, Any] = {
        "root": str(root), "classes": CLASSES, "method": "ms", "query_size": 4, "budget": 24,
        "audit": 0.25, "twice": 0.0, "settings": HEAD, **changes,
    }  # fmt: skip
    return Settings(**values)


def make_project(folder: Path, root: Path, **changes: Any) -> Project:
    return Project.create(folder, settings_for(root, **changes))


def labels_of(project: Project) -> np.ndarray:
    """(N,) int64, the true classes, by the names of the files."""
    names = project.plan.dataset.names.tolist()
    return np.array([int(name.removesuffix(".png")[-1]) for name in names])


def draw_table(root: Path) -> Path:
    """108 images with a csv: sides, patients, and labels of all but two thirds of the training."""
    root.mkdir(parents=True)
    data = drawn(108)
    hidden = [row for row in np.flatnonzero(data.sides == "train").tolist() if row % 9 >= 3]
    write_csv(data, root, frozenset(hidden))
    return root


def tiny(n_channels: int, n_classes: int) -> nn.Module:
    """A network of one's own, by import path."""
    return nn.Sequential(nn.Conv2d(n_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, n_classes))  # fmt: skip
