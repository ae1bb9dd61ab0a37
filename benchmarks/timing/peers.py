"""What people would use instead of the environment's step, each as its users write it.

All of them do the same work: one pass over the labelled images in batches of 16, then, in batches
of 64, the softmax of the whole pool and the accuracy on the test images. None of this is for use;
it is here to be measured.
"""

import contextlib
import copy
import csv
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from al_gym import ActiveLearningEnv, ImageDataset
from al_gym.classifiers import Lesson, Networks
from al_gym.classifiers.networks import NetworkClassifier
from al_gym.data.dataset import split_groups

BATCH, INFERENCE = 16, 64
Loop = Callable[[], None]
Read = Callable[[int], Tensor]
"""The transformed image of a data-set row."""


class Items(Dataset[Any]):
    """Rows of a data set, read and transformed one by one."""

    def __init__(self, read: Read, rows: np.ndarray, labels: np.ndarray) -> None:
        self._read, self._rows, self._labels = read, rows, labels

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Image and label."""
        return self._read(self._rows[i]), int(self._labels[i])


def from_memory(dataset: ImageDataset) -> Read:
    """Transforms as public code has them: torchvision's for photographs, arithmetic for volumes."""
    if dataset.images.ndim == 5:
        return lambda i: (torch.from_numpy(dataset.images[i]).float() / 255 - 0.5) / 0.25
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    )
    return lambda i: transform(Image.fromarray(np.moveaxis(dataset.images[i], 0, -1)))


def photographs(root: Path, dataset: ImageDataset, seed: int = 0) -> list[Path]:
    """The file of every row of a Retinopathy data set, by the same draw as its reader's."""
    with (root / "trainLabels.csv").open() as file:
        names = [row["image"] for row in csv.DictReader(file)]
    patients = np.array([name.rpartition("_")[0] for name in names])
    sides = split_groups(
        patients, len(dataset.train), len(dataset.test), np.random.default_rng(seed)
    )
    return [root / "train" / f"{names[i]}.jpeg" for i in np.concatenate(sides)]


def from_files(paths: list[Path], size: int) -> Read:
    """The same photographs, opened and decoded whenever they are needed."""
    transform = transforms.Compose([
        transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.25] * 3),
    ])  # fmt: skip
    return lambda i: transform(Image.open(paths[i]).convert("RGB"))


def network_of(env: ActiveLearningEnv) -> NetworkClassifier:
    """The classifier of an environment that trains a whole network."""
    assert isinstance(env.run.classifiers, Networks)
    return env.run.classifiers.members[env.run.k]


def labelled(env: ActiveLearningEnv) -> tuple[np.ndarray, np.ndarray]:
    """Images labelled so far, and their labels, (n_l,) each."""
    return env.run.episode.pool.labelled, env.run.episode.pool.labels


def train(classifier: NetworkClassifier, indices: np.ndarray, labels: np.ndarray) -> None:
    """One pass over some images."""
    classifier.fit(Lesson(0, indices, labels, np.random.default_rng(0)), 1)


def _training(env: ActiveLearningEnv) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A copy of the environment's network in PyTorch's usual layout, and its optimizer."""
    network = copy.deepcopy(network_of(env).network).to(memory_format=torch.contiguous_format)
    config = env.run.classifier_config
    return network, torch.optim.SGD(network.parameters(), 1e-4, config.momentum)


def _accuracy(env: ActiveLearningEnv, softmax: np.ndarray) -> float:
    return float((softmax.argmax(1) == env.run.dataset.labels[env.run.dataset.test]).mean())


def network_alone(env: ActiveLearningEnv) -> Loop:
    """Hardly a loop at all: the network on floats that are ready, in the environment's own layout.

    What the arithmetic costs in PyTorch, and so the least that a loop of its kernels could take.
    """
    network, optimizer = _training(env)
    layout = torch.channels_last if env.run.dataset.images.ndim == 4 else torch.contiguous_format
    network = network.to(memory_format=layout)
    images = (torch.from_numpy(env.run.dataset.images).float() / 255 - 0.5) / 0.25
    images = images.contiguous(memory_format=layout)

    def step() -> None:
        rows, labels = (
            torch.from_numpy(part)
            for part in (env.run.episode.pool.labelled, env.run.episode.pool.labels)
        )
        n_batches = -(-len(rows) // BATCH)
        network.train()
        for part, truth in zip(
            rows.tensor_split(n_batches), labels.tensor_split(n_batches), strict=True
        ):
            loss = F.cross_entropy(network(images[part]), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        known = set(rows.tolist())
        unlabelled = [row for row in env.run.episode.pool.indices.tolist() if row not in known]
        with torch.inference_mode():
            for part in torch.tensor([*unlabelled, *env.run.dataset.test]).split(INFERENCE):
                network(images[part])

    return step


def data_loader_loop(env: ActiveLearningEnv, read: Read) -> Loop:
    """A loop over ``DataLoader``s, as in most repositories of papers."""
    network, optimizer = _training(env)
    device = network_of(env).device

    def softmax_of(rows: np.ndarray) -> np.ndarray:
        network.eval()
        parts = []
        with torch.no_grad():
            for images, _ in DataLoader(Items(read, rows, np.zeros(len(rows))), INFERENCE):
                parts.append(F.softmax(network(images.to(device)), dim=1).cpu())
        return torch.cat(parts).numpy()

    def step() -> None:
        network.train()
        for images, labels in DataLoader(
            Items(read, *labelled(env)),
            BATCH,
            shuffle=True,
        ):
            loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        softmax_of(env.run.episode.pool.indices)
        _accuracy(env, softmax_of(env.run.dataset.test))

    return step


def baal_loop(env: ActiveLearningEnv, read: Read) -> Loop:
    """Baal's ``ModelWrapper``.

    Raises:
        ImportError: baal is not installed (extra ``bench``).
    """
    with contextlib.redirect_stdout(io.StringIO()):
        import structlog
        from baal.modelwrapper import ModelWrapper, TrainingArgs
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    network, optimizer = _training(env)
    arguments = TrainingArgs(
        optimizer=optimizer,
        batch_size=BATCH,
        epoch=1,
        use_cuda=network_of(env).device.type == "cuda",
        workers=0,
        criterion=nn.CrossEntropyLoss(),
    )
    wrapper = ModelWrapper(network, arguments)

    def softmax_of(rows: np.ndarray) -> np.ndarray:
        items = Items(read, rows, np.zeros(len(rows)))
        arguments.batch_size = INFERENCE
        logits = wrapper.predict_on_dataset(items, iterations=1, verbose=False)[..., 0]
        arguments.batch_size = BATCH
        return F.softmax(torch.from_numpy(logits), dim=1).numpy()

    def step() -> None:
        wrapper.train_on_dataset(Items(read, *labelled(env)))
        softmax_of(env.run.episode.pool.indices)
        _accuracy(env, softmax_of(env.run.dataset.test))

    return step


def skorch_loop(env: ActiveLearningEnv) -> Loop:
    """Skorch's ``NeuralNetClassifier`` on arrays of floats that were transformed beforehand.

    modAL, which people put around it, does not run with a present scikit-learn (0.4.2.1 asks for
    ``force_all_finite``, and for skorch 0.9), and would add to the time.

    Raises:
        ImportError: skorch is not installed (extra ``bench``).
    """
    from skorch import NeuralNetClassifier

    images = (env.run.dataset.images.astype(np.float32) / 255 - 0.5) / 0.25
    network, _ = _training(env)
    estimator = NeuralNetClassifier(
        network, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=1e-4,
        optimizer__momentum=env.run.classifier_config.momentum, max_epochs=1, batch_size=BATCH,
        iterator_train__shuffle=True, iterator_valid__batch_size=INFERENCE, train_split=None,
        verbose=0,
        classes=np.arange(env.run.dataset.n_classes), device=str(network_of(env).device),
    )  # fmt: skip

    def step() -> None:
        rows, labels = labelled(env)
        estimator.partial_fit(images[rows], labels)
        estimator.predict_proba(images[env.run.episode.pool.indices])
        _accuracy(env, estimator.predict_proba(images[env.run.dataset.test]))

    return step
