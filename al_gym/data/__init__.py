"""Readers: one a source, each returning an ``ImageDataset``."""

from collections.abc import Callable

from al_gym.data import chestct, folder, medmnist, retinopathy
from al_gym.data.dataset import ImageDataset

READERS: dict[str, Callable[..., ImageDataset]] = {
    "chestCT": chestct.load,
    "Retinopathy": retinopathy.load,
    "MedMNIST": medmnist.load,
    "Folder": folder.load,
}
"""Name of a data set -> its reader. Every reader takes ``root`` and keywords of its own."""

__all__ = ["READERS", "ImageDataset"]
