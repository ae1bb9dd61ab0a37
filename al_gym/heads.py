"""Linear heads over frozen features, trained side by side as batched matrix products.

With ``trainable="head"`` every image is passed through the backbone once; from then on a classifier
is a matrix and a vector, and K of them, one an environment, are three-dimensional tensors. A single
environment has K = 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_gym.classifier import (
    NO_DROPOUT,
    Classifier,
    ClassifierConfig,
    NetworkClassifier,
    Snapshot,
    find_device,
    to_host,
    torch_seeded,
)
from al_gym.counters import Counters
from al_gym.images import DeviceImages

Some = slice | list[int]
"""Which of the heads."""
TENSORS = ("weight", "bias", "weight_momentum", "bias_momentum")
"""Of a head, by name."""


class LinearHeads:
    """K linear classifiers over the same features.

    Args:
        features: (N, F) float32 of every image, on the device.
        training_rows: rows that are predicted together most of the time; they are kept together.
        n_heads: K.
        n_classes: M.
        config: the settings.
    """

    def __init__(
        self,
        features: Tensor,
        training_rows: np.ndarray,
        n_heads: int,
        n_classes: int,
        config: ClassifierConfig,
    ) -> None:
        self.config = config
        self.device = features.device
        others = np.setdiff1d(np.arange(len(features)), training_rows)
        order = np.concatenate([training_rows, others])
        self.features = features[torch.as_tensor(order, device=self.device)]
        self._position = np.empty(len(order), np.int64)
        self._position[order] = np.arange(len(order))
        n_features = features.shape[1]
        self.weight = torch.zeros(n_heads, n_classes, n_features, device=self.device)
        self.bias = torch.zeros(n_heads, 1, n_classes, device=self.device)
        self.momentum = (torch.zeros_like(self.weight), torch.zeros_like(self.bias))
        self._gathered = torch.empty(0, n_features, device=self.device)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What training changes of all heads, in the order of ``TENSORS``."""
        return (self.weight, self.bias, *self.momentum)

    def rows(self, rows: np.ndarray) -> Tensor:
        """Where the features of data-set rows are, int64."""
        return torch.as_tensor(self._position[rows], device=self.device)

    # --- Eq. 1 ------------------------------------------------------------------------------------

    def fit(
        self,
        heads: Some,
        rows: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        passes: int,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        """Minimise the cross-entropy (Eq. 1) of k heads at once, by SGD with the exact gradient.

        Args:
            heads: which k of them.
            rows: k times (n,) int, into the images; the same n for all.
            labels: k times (n,) int.
            passes: shuffled passes over the rows.
            rngs: k generators; each decides the order, and the dropout, of its head.
        """
        n, n_classes = len(rows[0]), self.weight.shape[1]
        positions = torch.stack([self.rows(each) for each in rows])
        truth = F.one_hot(torch.as_tensor(np.stack(labels), device=self.device), n_classes).float()
        # views of a slice, which are trained in place; copies of a list
        trained = [tensor[heads] for tensor in self.tensors]
        n_batches = math.ceil(n / self.config.batch_size)
        generators = [
            torch.Generator(self.device).manual_seed(int(rng.integers(2**63))) for rng in rngs
        ]
        for _ in range(passes):
            order = torch.as_tensor(
                np.stack([rng.permutation(n) for rng in rngs]), device=self.device
            )
            shuffled = positions.gather(1, order)
            targets = truth.gather(1, order[:, :, None].expand(-1, -1, n_classes))
            for part, target in zip(
                shuffled.tensor_split(n_batches, dim=1),
                targets.tensor_split(n_batches, dim=1),
                strict=True,
            ):
                self._step(trained, part, target, generators)
        if not isinstance(heads, slice):
            for tensor, values in zip(self.tensors, trained, strict=True):
                tensor[heads] = values

    def _step(
        self,
        trained: list[Tensor],
        positions: Tensor,
        targets: Tensor,
        generators: list[torch.Generator],
    ) -> None:
        """One gradient step of k heads on k batches: positions (k, B), targets (k, B, M)."""
        k, size = positions.shape
        inputs = self._gather(positions.flatten()).view(k, size, -1)
        if self.config.dropout > 0:
            for each, generator in zip(inputs, generators, strict=True):
                _drop(each, self.config.dropout, generator)
        weight, bias, *momenta = trained
        softmax = F.softmax(torch.baddbmm(bias, inputs, weight.transpose(1, 2)), dim=2)
        # the gradient by the logits of the summed cross-entropy; below it becomes that of the mean
        error = softmax.sub_(targets)
        gradients = (torch.bmm(error.transpose(1, 2), inputs), error.sum(1, keepdim=True))
        for values, gradient, momentum in zip((weight, bias), gradients, momenta, strict=True):
            if self.config.weight_decay > 0:
                gradient.add_(values, alpha=size * self.config.weight_decay)
            if self.config.momentum > 0:
                moving = momentum.mul_(self.config.momentum).add_(gradient, alpha=1 / size)
                values.sub_(moving, alpha=self.config.learning_rate)
            else:
                values.sub_(gradient, alpha=self.config.learning_rate / size)

    def _gather(self, positions: Tensor) -> Tensor:
        """Features at ``positions``, in memory that is used again: fresh pages cost more."""
        if len(self._gathered) < len(positions):
            self._gathered = self.features.new_empty(len(positions), self.features.shape[1])
        out = self._gathered[: len(positions)]
        return torch.index_select(self.features, 0, positions, out=out)

    # --- Eq. 2 ------------------------------------------------------------------------------------

    def predict(self, heads: Some, rows: Sequence[np.ndarray]) -> tuple[list[Tensor], list[int]]:
        """Softmax of k heads, each of rows of its own.

        Unless few rows of a stretch are wanted, the whole stretch goes through all heads as one
        matrix product: the features are read once, and nothing is picked out before, which would
        cost more than the product.

        Returns:
            k times (n, M) float32 on the device, and k numbers of rows that passed through a head.
        """
        positions = [self.rows(each) for each in rows]
        low = min(int(self._position[each].min()) for each in rows)
        high = max(int(self._position[each].max()) for each in rows) + 1
        weight, bias = self.weight[heads], self.bias[heads]
        if 2 * sum(map(len, rows)) < high - low:
            logits = [
                F.linear(self.features[each], w, b[0])
                for each, w, b in zip(positions, weight, bias, strict=True)
            ]
            return [F.softmax(each, dim=1) for each in logits], [len(each) for each in rows]
        together = F.linear(self.features[low:high], weight.flatten(0, 1), bias.flatten())
        # class by class: a softmax over rows of a few values takes ten times as long
        softmax = F.softmax(together.T.reshape(*weight.shape[:2], high - low), dim=1)
        asked_for = [softmax[k].T[each - low] for k, each in enumerate(positions)]
        return asked_for, [high - low] * len(rows)


class HeadClassifier(Classifier):
    """One of the ``LinearHeads``.

    Args:
        heads: all of them.
        index: which one this is.
        fresh_head: draws a new last layer.
    """

    def __init__(
        self,
        heads: LinearHeads,
        index: int,
        fresh_head: Callable[[np.random.Generator], nn.Linear],
    ) -> None:
        self.config = heads.config
        self.device = heads.device
        self.counters = Counters()
        self.heads = heads
        self.slice = slice(index, index + 1)
        self._fresh_head = fresh_head

    @property
    def is_random(self) -> bool:
        """Whether there is dropout on the features."""
        return self.config.dropout > 0

    @property
    def n_features(self) -> int:
        """F."""
        return self.heads.features.shape[1]

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """What training changes, as views into the tensors of all heads."""
        return {
            name: tensor[self.slice]
            for name, tensor in zip(TENSORS, self.heads.tensors, strict=True)
        }

    # --- weights ----------------------------------------------------------------------------------

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw the head anew; the backbone stays."""
        fresh = self._fresh_head(rng)
        tensors = self._tensors
        tensors["weight"].copy_(fresh.weight.detach())
        tensors["bias"].copy_(fresh.bias.detach())
        for momentum in (tensors["weight_momentum"], tensors["bias_momentum"]):
            momentum.zero_()

    def snapshot(self) -> Snapshot:
        """Head and momentum, copied."""
        return Snapshot({name: value.clone() for name, value in self._tensors.items()}, [])

    def restore(self, snapshot: Snapshot) -> None:
        """Head and momentum go back, in place."""
        for name, value in self._tensors.items():
            value.copy_(snapshot.weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Head and momentum."""
        return dict(self.snapshot().weights)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Head and momentum, in place."""
        wrong = {
            name: tuple(value.shape)
            for name, value in self._tensors.items()
            if name not in state or state[name].shape != value.shape
        }
        if wrong:
            raise RuntimeError(f"the state belongs to another network: there is no {wrong} in it")
        self.restore(Snapshot(state, []))

    # --- Eq. 1 and 2 ------------------------------------------------------------------------------

    def fit(
        self, rows: np.ndarray, labels: np.ndarray, passes: int, rng: np.random.Generator
    ) -> None:
        """This head alone; ``LinearHeads.fit`` takes several at once."""
        self.heads.fit(self.slice, [rows], [labels], passes, [rng])
        self.counters.samples_trained += passes * len(rows)

    def predict(self, rows: np.ndarray) -> Tensor:
        """This head alone; ``LinearHeads.predict`` takes several at once."""
        (softmax,), (n_forwarded,) = self.heads.predict(self.slice, [rows])
        self.counters.samples_forwarded += n_forwarded
        return softmax

    def predict_with_dropout(
        self, rows: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``Classifier.predict_with_dropout``."""
        if not self.is_random:
            raise ValueError(NO_DROPOUT)
        features = self.heads.features[self.heads.rows(rows)]
        weight, bias = self._tensors["weight"][0], self._tensors["bias"][0, 0]
        draws = []
        with torch_seeded(rng, self.device):
            for _ in range(n_draws):
                kept = F.dropout(features, self.config.dropout)
                draws.append(F.softmax(F.linear(kept, weight, bias), dim=1))
        self.counters.samples_forwarded += n_draws * len(rows)
        return to_host(torch.stack(draws), self.counters)

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """The kept features of ``rows``."""
        return to_host(self.heads.features[self.heads.rows(rows)], self.counters)


def make_classifiers(
    images: np.ndarray,
    n_classes: int,
    training_rows: np.ndarray,
    config: ClassifierConfig,
    n: int = 1,
) -> list[Classifier]:
    """Classifiers that share the images, or the features of them.

    Args:
        images: (N, C, [D,] H, W), uint8 or int16.
        n_classes: M.
        training_rows: rows whose statistics normalise the images (never the test rows).
        config: the settings.
        n: how many.
    """
    shared = DeviceImages(images, find_device(config.device), config.images)
    statistics = shared.channel_statistics(training_rows)

    def network() -> NetworkClassifier:
        return NetworkClassifier(shared, statistics, n_classes, config)

    if config.trainable == "all":
        return [network() for _ in range(n)]
    backbone = network()
    backbone.initialise(np.random.default_rng(0))
    features = backbone.features(np.arange(len(images)))
    heads = LinearHeads(features, training_rows, n, n_classes, config)
    return [HeadClassifier(heads, index, backbone.fresh_head) for index in range(n)]


def classifiers_over(
    features: Tensor, n_classes: int, config: ClassifierConfig, n: int
) -> list[Classifier]:
    """Linear classifiers over features that are there already.

    Args:
        features: (N, F) float32, on the device.
        n_classes: M.
        config: the settings; the network is not looked at.
        n: how many.
    """
    heads = LinearHeads(features, np.arange(len(features)), n, n_classes, config)

    def fresh_head(rng: np.random.Generator) -> nn.Linear:
        with torch_seeded(rng, torch.device("cpu")):
            return nn.Linear(features.shape[1], n_classes)

    return [HeadClassifier(heads, index, fresh_head) for index in range(n)]


def _drop(values: Tensor, probability: float, generator: torch.Generator) -> None:
    """Dropout in place, with a generator of one's own."""
    kept = torch.empty_like(values).bernoulli_(1 - probability, generator=generator)
    values.mul_(kept.div_(1 - probability))
