"""The kinds of images that policies are trained on and, leaving kinds out, tested on.

There are six families of three kinds. A policy is trained on the training side of a family alone:
of real images that is the training split; of the phantoms it is other scans and photographs than
the experiment's, generated from other seeds, and in three draws that look unlike one another. The
test images of no family are ever looked at. The blood cells are grouped by their photographs; who
RetinaMNIST's patients are, or those of the white cells and of MedNIST, their files do not say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from al_gym import ClassifierConfig, ImageDataset
from al_gym.classifiers.networks import network_over
from al_gym.data import READERS, phantoms
from al_gym.data.medmnist import npz_name
from al_gym.data.phantoms import ChestLook, FundusLook
from benchmarks.matrix.presets import PRESETS

N_COMPONENTS = 256
"""Principal directions of the features, not centred, that are kept: episodes then take two thirds
of the time. They hold 91 to 99 % of the variance. A linear layer on them begins with larger weights
than on all features, as its fan-in is smaller."""

Read = Callable[[Path], ImageDataset]
"""From a folder below which the real files are to all images of a training side."""


@dataclass(frozen=True)
class Family:
    """Images that are alike."""

    kind: str
    """Of the images; kinds are left out as a whole."""
    preset: str
    """The experiment that it is tested in."""
    source: str
    """What the ``source`` of its data sets begins with."""
    draws: tuple[Read, ...]
    """Its training sides."""


@dataclass(frozen=True)
class Features:
    """A training side of a family, as classifiers meet it."""

    values: torch.Tensor
    """(N, 256) float32, or as many components as there are."""
    labels: np.ndarray
    """(N,) int64."""
    groups: np.ndarray
    """(N,) the scan, patient or photograph of each image."""
    fingerprint: str
    """Of the data set that they were made of."""


def _photographs(amount: int, seed: int, look: FundusLook | None = None) -> Read:
    def read(data: Path) -> ImageDataset:
        folder = phantoms.folder("Retinopathy", amount, seed, look)
        n_train, n_test = round(0.69 * amount), round(0.3 * amount)
        return READERS["Retinopathy"](folder, n_train=n_train, n_test=n_test, image_size=64)

    return read


def _scans(amount: int, seed: int, look: ChestLook | None = None) -> Read:
    def read(data: Path) -> ImageDataset:
        folder = phantoms.folder("chestCT", amount, seed, look)
        n_train, n_test = 10 * amount, round(3.5 * amount)
        return READERS["chestCT"](folder, n_train=n_train, n_test=n_test, patch_size=16)

    return read


def _medmnist(flag: str, size: int) -> Read:
    def read(data: Path) -> ImageDataset:
        name = npz_name(flag, size)
        found = sorted(data.rglob(name))
        if not found:
            raise FileNotFoundError(f"there is no {name} in {data} or below")
        return READERS["MedMNIST"](found[0].parent, flag=flag, size=size)

    return read


SCANS = (
    _scans(100, 1),
    _scans(60, 2, ChestLook(2.0, 1.2, 0.2, 0.1, 0.4, (10.0, 40.0), 1.4, (1, 1, 1, 1))),
    _scans(60, 3, ChestLook(1.1, 2.5, 0.7, 0.4, 0.9, (80.0, 200.0), 0.8, (4, 2, 1, 1))),
)
"""Of chest CT: as in the experiment, but other scans; large lesions, distinct in the lung, and
little noise; small ones, distinct where they are calcified, and much noise."""
PHOTOGRAPHS = (
    _photographs(1600, 1),
    _photographs(900, 2, FundusLook((0.6, 1.0), 2.8, (90, 65), 0.4, 0.1, 0.02, (4, 2, 2, 1, 1))),
    _photographs(900, 3, FundusLook((0.3, 0.7), 1.4, (60, 40), 0.3, 0.5, 0.08, (6, 2, 3, 2, 2))),
)
"""Of the fundus: as in the experiment, but other patients; clear findings; faint ones under uneven
light. The grades of the last two are less unequal."""
FAMILIES = {
    "chestct": Family("radiology", "chestct-few", "chestCT", SCANS),
    "retinopathy": Family("fundus", "retinopathy-few", "Retinopathy", PHOTOGRAPHS),
    "retinamnist": Family(
        "fundus", "retinamnist-few", "MedMNIST retinamnist", (_medmnist("retinamnist", 28),)
    ),
    "bloodcells": Family(
        "blood", "bloodcells-few", "MedMNIST bccd_cells", (_medmnist("bccd_cells", 48),)
    ),
    "wbc": Family("blood", "wbc-few", "MedMNIST wbc", (_medmnist("wbc", 64),)),
    "mednist": Family("radiology", "mednist-few", "MedMNIST mednist", (_medmnist("mednist", 64),)),
}
"""By name."""
KINDS = tuple(sorted({family.kind for family in FAMILIES.values()}))
"""Of all families."""
GENERATED = ("chestct", "retinopathy")
"""Families whose images are phantoms."""


def family_of(source: str) -> str | None:
    """The family of a data set, by its ``source``; None if it belongs to none."""
    for name, family in FAMILIES.items():
        if source.startswith(family.source):
            return name
    return None


def training_features(name: str, data: Path) -> tuple[Features, ...]:
    """The features of a family's training sides, from the backbone of its experiment.

    Args:
        name: a key of ``FAMILIES``.
        data: folder below which the npz files of the real images are.

    Raises:
        FileNotFoundError: they are not.
    """
    family = FAMILIES[name]
    settings = PRESETS[family.preset].settings
    config = ClassifierConfig(
        network=settings["network"], weights=settings["weights"], trainable="head", device="cpu"
    )
    found = []
    for read in family.draws:
        dataset = read(data)
        rows = np.arange(len(dataset.labels)) if name in GENERATED else dataset.train
        images = np.ascontiguousarray(dataset.images[rows])
        backbone = network_over(images, np.arange(len(rows)), dataset.n_classes, config)
        values = backbone.features(np.arange(len(rows)))
        directions = torch.linalg.svd(values, full_matrices=False).Vh[:N_COMPONENTS]
        found.append(
            Features(
                (values @ directions.T).contiguous(),
                dataset.labels[rows],
                dataset.groups[rows],
                dataset.fingerprint(),
            )
        )
    return tuple(found)
