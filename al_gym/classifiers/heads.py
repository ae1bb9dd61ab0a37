"""Linear heads over frozen features, trained side by side as batched matrix products.

With ``trainable="head"`` every image is passed through the backbone once; from then on a classifier
is a matrix and a vector, and K of them, one an run, are three-dimensional tensors. A single
environment has K = 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_gym.classifiers.counters import Counters
from al_gym.classifiers.interface import Lesson
from al_gym.classifiers.networks import NO_DROPOUT, to_host, torch_seeded
from al_gym.config import ClassifierConfig

FreshHead = Callable[[np.random.Generator], nn.Linear]
TENSORS = ("weight", "bias", "weight_momentum", "bias_momentum")
"""Of a head, by name."""


class LinearHeads:
    """K linear classifiers over the same features.

    Args:
        features: (N, F) float32 of every image, on the device.
        training: (n,) images that are predicted together most of the time; they are kept together.
        n_heads: K.
        n_classes: M.
        config: the settings.
        fresh_head: draws a new last layer; None: ``nn.Linear`` with its usual initial weights.
    """

    def __init__(
        self,
        features: Tensor,
        training: np.ndarray,
        n_heads: int,
        n_classes: int,
        config: ClassifierConfig,
        fresh_head: FreshHead | None = None,
    ) -> None:
        self.config = config
        self.device = features.device
        self.counters = [Counters() for _ in range(n_heads)]
        self._fresh_head = fresh_head or linear_head(features.shape[1], n_classes)
        others = np.setdiff1d(np.arange(len(features)), training)
        order = np.concatenate([training, others])
        self.features = features[torch.as_tensor(order, device=self.device)]
        self._position = np.empty(len(order), np.int64)
        self._position[order] = np.arange(len(order))
        n_features = features.shape[1]
        self.weight = torch.zeros(n_heads, n_classes, n_features, device=self.device)
        self.bias = torch.zeros(n_heads, 1, n_classes, device=self.device)
        self.momentum = (torch.zeros_like(self.weight), torch.zeros_like(self.bias))
        self._gathered = torch.empty(0, n_features, device=self.device)

    @property
    def n_features(self) -> int:
        """F."""
        return self.features.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What training changes of all heads, in the order of ``TENSORS``."""
        return (self.weight, self.bias, *self.momentum)

    def positions(self, indices: np.ndarray) -> Tensor:
        """Where the features of images are, int64."""
        return torch.as_tensor(self._position[indices], device=self.device)

    # --- weights ----------------------------------------------------------------------------------

    def initialize(self, k: int, rng: np.random.Generator) -> None:
        """Draw head k anew; the backbone stays."""
        fresh = self._fresh_head(rng)
        self.weight[k].copy_(fresh.weight.detach())
        self.bias[k].copy_(fresh.bias.detach())
        for momentum in self.momentum:
            momentum[k].zero_()

    def weights(self, state: dict[str, Any]) -> dict[str, Tensor]:
        """See ``Classifiers``; the momentum of a linear layer counts as one of its weights."""
        return state

    def state_dict(self, k: int) -> dict[str, Any]:
        """Head and momentum, copied, each with a first axis of 1."""
        return {name: value.clone() for name, value in self._of(k).items()}

    def load_state_dict(self, k: int, state: dict[str, Any]) -> None:
        """Head and momentum, in place."""
        wrong = {
            name: tuple(value.shape)
            for name, value in self._of(k).items()
            if name not in state or state[name].shape != value.shape
        }
        if wrong:
            raise RuntimeError(f"the state belongs to another network: there is no {wrong} in it")
        for name, value in self._of(k).items():
            value.copy_(state[name])

    def _of(self, k: int) -> dict[str, Tensor]:
        """What training changes of head k, as views into the tensors of all heads."""
        return {name: tensor[k : k + 1] for name, tensor in zip(TENSORS, self.tensors, strict=True)}

    def _which(self, ks: Sequence[int]) -> slice | list[int]:
        """Heads as an index: all of them are a view, some of them are copied."""
        chosen = list(ks)
        return slice(None) if chosen == list(range(len(self.weight))) else chosen

    # --- Eq. 1 ------------------------------------------------------------------------------------

    def fit(self, lessons: Sequence[Lesson], passes: int) -> None:
        """See ``Classifiers``; lessons of one length are learned together."""
        if len({len(lesson.indices) for lesson in lessons}) > 1:
            for lesson in lessons:
                self.fit([lesson], passes)
            return
        n, n_classes = len(lessons[0].indices), self.weight.shape[1]
        labels = np.stack([lesson.labels for lesson in lessons])
        rngs = [lesson.rng for lesson in lessons]
        positions = torch.stack([self.positions(lesson.indices) for lesson in lessons])
        truth = F.one_hot(torch.as_tensor(labels, device=self.device), n_classes).float()
        which = self._which([lesson.k for lesson in lessons])
        # views of a slice, which are trained in place; copies of a list
        trained = [tensor[which] for tensor in self.tensors]
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
        if not isinstance(which, slice):
            for tensor, values in zip(self.tensors, trained, strict=True):
                tensor[which] = values
        for lesson in lessons:
            self.counters[lesson.k].samples_trained += passes * n

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

    def predict(self, ks: Sequence[int], indices: Sequence[np.ndarray]) -> list[Tensor]:
        """See ``Classifiers``.

        Unless few images of a stretch are wanted, the whole stretch goes through all heads as one
        matrix product: the features are read once, and nothing is picked out before, which would
        cost more than the product.
        """
        positions = [self.positions(each) for each in indices]
        low = min(int(self._position[each].min()) for each in indices)
        high = max(int(self._position[each].max()) for each in indices) + 1
        which = self._which(ks)
        weight, bias = self.weight[which], self.bias[which]
        few = 2 * sum(map(len, indices)) < high - low
        for k, each in zip(ks, indices, strict=True):
            self.counters[k].samples_forwarded += len(each) if few else high - low
        if few:
            logits = [
                F.linear(self.features[each], w, b[0])
                for each, w, b in zip(positions, weight, bias, strict=True)
            ]
            return [F.softmax(each, dim=1) for each in logits]
        together = F.linear(self.features[low:high], weight.flatten(0, 1), bias.flatten())
        # class by class: a softmax over rows of a few values takes ten times as long
        softmax = F.softmax(together.T.reshape(*weight.shape[:2], high - low), dim=1)
        return [softmax[i].T[each - low] for i, each in enumerate(positions)]

    def predict_with_dropout(
        self, k: int, indices: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``Classifiers``; the dropout is on the features."""
        if self.config.dropout == 0:
            raise ValueError(NO_DROPOUT)
        features = self.features[self.positions(indices)]
        draws = []
        with torch_seeded(rng, self.device):
            for _ in range(n_draws):
                kept = F.dropout(features, self.config.dropout)
                draws.append(F.softmax(F.linear(kept, self.weight[k], self.bias[k, 0]), dim=1))
        self.counters[k].samples_forwarded += n_draws * len(indices)
        return to_host(torch.stack(draws), self.counters[k])

    def embed(self, k: int, indices: np.ndarray) -> np.ndarray:
        """The kept features."""
        return to_host(self.features[self.positions(indices)], self.counters[k])

    def last_layer(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Head k."""
        weight, bias = (to_host(t, self.counters[k]) for t in (self.weight[k], self.bias[k, 0]))
        return weight, bias


def linear_head(n_features: int, n_classes: int) -> FreshHead:
    """Draws ``nn.Linear`` layers with PyTorch's usual initial weights."""

    def fresh(rng: np.random.Generator) -> nn.Linear:
        with torch_seeded(rng, torch.device("cpu")):
            return nn.Linear(n_features, n_classes)

    return fresh


def _drop(values: Tensor, probability: float, generator: torch.Generator) -> None:
    """Dropout in place, with a generator of one's own."""
    kept = torch.empty_like(values).bernoulli_(1 - probability, generator=generator)
    values.mul_(kept.div_(1 - probability))
