"""The four kinds of images that policies are trained on and, leaving one out, tested on.

A policy is trained on the training side of a family alone. Of RetinaMNIST and the blood cells these
are the training splits; of the phantoms, other scans and photographs than the experiment's,
generated from another seed. The test images of no family are ever looked at. The blood cells are
grouped by their photographs; who RetinaMNIST's patients are its file does not say.
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
from benchmarks.matrix.presets import PRESETS

N_COMPONENTS = 256
"""Principal directions of the features, not centred, that are kept: episodes then take two thirds
of the time. They hold 91 to 99 % of the variance. A linear layer on them begins with larger weights
than on all features, as its fan-in is smaller."""
TRAINING_SEED = 1
"""Of the phantoms; the experiments' have 0."""


@dataclass(frozen=True)
class Family:
    """One kind of images."""

    preset: str
    """The experiment that it is tested in."""
    source: str
    """What the ``source`` of its data sets begins with."""
    read: Callable[[Path], ImageDataset]
    """All images of the training side, from a folder below which the real files are."""


@dataclass(frozen=True)
class Features:
    """The training side of a family, as classifiers meet it."""

    values: torch.Tensor
    """(N, 256) float32."""
    labels: np.ndarray
    """(N,) int64."""
    groups: np.ndarray
    """(N,) the scan, patient or photograph of each image."""
    fingerprint: str
    """Of the data set that they were made of."""


def _photographs(data: Path) -> ImageDataset:
    folder = phantoms.folder("Retinopathy", 1600, TRAINING_SEED)
    return READERS["Retinopathy"](folder, n_train=1100, n_test=480, image_size=64)


def _scans(data: Path) -> ImageDataset:
    folder = phantoms.folder("chestCT", 100, TRAINING_SEED)
    return READERS["chestCT"](folder, n_train=1000, n_test=350, patch_size=16)


def _medmnist(flag: str, size: int) -> Callable[[Path], ImageDataset]:
    def read(data: Path) -> ImageDataset:
        name = npz_name(flag, size)
        found = sorted(data.rglob(name))
        if not found:
            raise FileNotFoundError(f"there is no {name} in {data} or below")
        return READERS["MedMNIST"](found[0].parent, flag=flag, size=size)

    return read


FAMILIES = {
    "chestct": Family("chestct-features", "chestCT", _scans),
    "retinopathy": Family("retinopathy-features", "Retinopathy", _photographs),
    "retinamnist": Family(
        "retinamnist-features", "MedMNIST retinamnist", _medmnist("retinamnist", 28)
    ),
    "bloodcells": Family("bloodcells-features", "MedMNIST bccd_cells", _medmnist("bccd_cells", 48)),
}
"""By name."""


def family_of(source: str) -> str | None:
    """The family of a data set, by its ``source``; None if it belongs to none."""
    for name, family in FAMILIES.items():
        if source.startswith(family.source):
            return name
    return None


def training_features(name: str, data: Path) -> Features:
    """The features of a family's training side, from the backbone of its experiment.

    Args:
        name: a key of ``FAMILIES``.
        data: folder below which the npz files of the real images are.

    Raises:
        FileNotFoundError: they are not.
    """
    family = FAMILIES[name]
    dataset = family.read(data)
    rows = np.arange(len(dataset.labels)) if data_is_generated(name) else dataset.train
    settings = PRESETS[family.preset].settings
    config = ClassifierConfig(
        network=settings["network"], weights=settings["weights"], trainable="head", device="cpu"
    )
    images = np.ascontiguousarray(dataset.images[rows])
    backbone = network_over(images, np.arange(len(rows)), dataset.n_classes, config)
    values = backbone.features(np.arange(len(rows)))
    directions = torch.linalg.svd(values, full_matrices=False).Vh[:N_COMPONENTS]
    return Features(
        (values @ directions.T).contiguous(),
        dataset.labels[rows],
        dataset.groups[rows],
        dataset.fingerprint(),
    )


def data_is_generated(name: str) -> bool:
    """Whether a family's images are phantoms."""
    return FAMILIES[name].source in phantoms.GENERATORS
