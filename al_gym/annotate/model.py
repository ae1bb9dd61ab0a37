"""A trained classifier as a file: safetensors whose header has the card, which says the rest.

Of a whole network all weights are there, of a linear layer over a frozen network its own: the
frozen weights come with the package that has them. The card stands beside it once more, in JSON for
people to read.
"""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from al_gym import durable
from al_gym.classifiers.devices import device_of
from al_gym.classifiers.images import DeviceImages
from al_gym.classifiers.networks import NetworkClassifier, last_layer
from al_gym.classifiers.torch_state import own_torch_state
from al_gym.config import ClassifierConfig, plain
from al_gym.data.dataset import ImageDataset
from al_gym.errors import CheckpointError
from al_gym.import_paths import check_trusted, named_in
from al_gym.run import Run

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 1
"""Of the card."""
HEADER = "card"
"""Key of the card in the metadata."""
HEAD = ("weight", "bias")
"""Tensors of a linear layer."""


def save_model(
    folder: Path,
    run: Run,
    dataset: ImageDataset,
    reader: dict[str, Any],
    statistics: tuple[np.ndarray, np.ndarray],
) -> None:
    """Write the classifier of a run; the file is the old one or the new one, whole.

    Args:
        folder: where to.
        run: whose classifier.
        dataset: what it was trained on.
        reader: how files become its images, see ``Project.reader_settings``.
        statistics: mean and deviation (C,) of the training images' channels.

    Raises:
        ValueError: a network of the user's own that has no name.
    """
    config = run.classifier_config
    if not isinstance(config.network, str):
        raise ValueError("network must be a name or an import path, so that a saved model has one")
    classifiers = run.classifiers
    tensors = classifiers.weights(classifiers.state_dict(run.k))
    if config.trainable == "head":
        tensors = {name: tensors[name].reshape(-1, tensors[name].shape[-1]) for name in HEAD}
    labels = run.episode.pool.labels
    card = {
        "format": FORMAT,
        "classes": list(dataset.class_names),
        "images": list(dataset.images.shape[1:]),
        "reader": reader,
        "classifier": asdict(config),
        "mean": statistics[0].tolist(),
        "deviation": statistics[1].tolist(),
        "labels": {name: int((labels == i).sum()) for i, name in enumerate(dataset.class_names)},
        "versions": {name: version(name) for name in ("al-gym", "torch", "torchvision")},
    }
    text = json.dumps(plain(card), indent=2)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    durable.write_bytes(folder / WEIGHTS, save(tensors, {HEADER: text}))
    durable.write_text(folder / CARD, text)


class SavedModel:
    """A classifier that was saved, for images of the same kind.

    Args:
        path: of the file, or of the folder that holds it.
        trust: whether code that the file names, a network of the user's own, may be run.

    Attributes:
        card: what it is.

    Raises:
        FileNotFoundError: it is not there.
        CheckpointError: it is damaged, none of this program's, or of another version; or it names
            code, and ``trust`` is not set.
    """

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        path = Path(path)
        path = path / WEIGHTS if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"there is no model {path}")
        try:
            with safe_open(path, framework="pt") as file:
                self.card = json.loads((file.metadata() or {})[HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if self.card["format"] != FORMAT:
                raise CheckpointError(
                    f"it is of format {self.card['format']}, and this is {FORMAT}"
                )
            self.classes: tuple[str, ...] = tuple(self.card["classes"])
            self.shape: tuple[int, ...] = tuple(self.card["images"])
            if len(self.classes) < 2 or len(self.shape) not in (3, 4):
                raise CheckpointError(f"of {self.classes} and {self.shape} there are no images")
            check_trusted(path, named_in(self.card["classifier"]), trust)
            self._classifier = self._built(tensors)
        except (
            ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError,
        ) as error:  # fmt: skip
            raise CheckpointError(f"{path} is no model that can be used: {error}") from error

    @own_torch_state()
    def _built(self, tensors: dict[str, torch.Tensor]) -> NetworkClassifier:
        config = ClassifierConfig(**self.card["classifier"])
        device = device_of(config)
        shape = (1, self.shape[0], *[1] * (len(self.shape) - 1))
        mean, deviation = (
            torch.tensor(self.card[name]).view(shape).to(device) for name in ("mean", "deviation")
        )
        blank = DeviceImages(np.zeros((1, *self.shape), np.uint8), device)
        classifier = NetworkClassifier(blank, (mean, deviation), len(self.classes), config)
        classifier.initialize(np.random.default_rng(0))  # that of frozen features
        part = classifier.network
        if config.trainable == "head":
            bias = tensors["bias"].flatten()
            last_layer(part).load_state_dict({"weight": tensors["weight"], "bias": bias})
        else:
            part.load_state_dict(tensors)
        return classifier

    @own_torch_state()
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Softmax, (n, M) float32, of images (n, C, [D,] H, W) uint8."""
        over = DeviceImages(images, self._classifier.device)
        found: np.ndarray = (
            self._classifier.over(over).predict(np.arange(len(images))).cpu().numpy()
        )
        return found
