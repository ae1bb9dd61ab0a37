"""Linear heads over frozen features, trained side by side as batched matrix products.

With ``trainable="head"`` every image is passed through the backbone once; from then on a classifier
is a matrix and a vector, and K of them, one an run, are three-dimensional tensors. A single
environment has K = 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_gym.classifiers import newton, optimization
from al_gym.classifiers.counters import Counters
from al_gym.classifiers.devices import to_host, torch_seeded
from al_gym.classifiers.interface import Lesson
from al_gym.classifiers.networks import NO_DROPOUT
from al_gym.classifiers.optimization import EarlyStopping, Validation
from al_gym.config import ClassifierConfig

FreshHead = Callable[[np.random.Generator], nn.Linear]
TENSORS = ("weight", "bias", "weight_momentum", "bias_momentum")
"""Of a head, by name."""
ADAM_TENSORS = (*TENSORS, "weight_square", "bias_square", "steps")
"""Of a head that Adam trains: its momentum is the first moment."""
ADAMS = ("adam", "adamw")
AT_ONCE = 2**21
"""Most features that are solved for together: in float64 16 MiB, which caches hold."""


@dataclass(frozen=True)
class _Pupils:
    """k heads that learn side by side, each from n images of its own."""

    lessons: list[Lesson]
    generators: list[torch.Generator]
    """k, for the dropout."""
    positions: Tensor
    """(k, n) int64, where the features are."""
    truth: Tensor
    """(k, n, M) float32, one-hot."""
    weights: Tensor | None
    """(k, n) float32, of each image in the cross-entropy; None: equal ones."""

    def without(self, finished: list[bool]) -> "_Pupils":
        """Those that have not finished."""
        left = [i for i, each in enumerate(finished) if not each]
        return _Pupils(
            [self.lessons[i] for i in left],
            [self.generators[i] for i in left],
            self.positions[left],
            self.truth[left],
            None if self.weights is None else self.weights[left],
        )


class LinearHeads:
    """K linear classifiers over the same features.

    Args:
        features: (N, F) float32 of every image, on the device.
        training: (n,) images that are predicted together most of the time; they are kept together.
        n_heads: K.
        n_classes: M.
        config: the settings.
        fresh_head: draws a new last layer; None: ``nn.Linear`` with its usual initial weights.
        validation: what decides when training stops; None: it goes through all its passes.
    """

    def __init__(
        self,
        features: Tensor,
        training: np.ndarray,
        n_heads: int,
        n_classes: int,
        config: ClassifierConfig,
        fresh_head: FreshHead | None = None,
        validation: Validation | None = None,
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
        self._square: tuple[Tensor, ...] = ()
        self._steps: tuple[Tensor, ...] = ()
        if config.optimizer in ADAMS:
            self._square = (torch.zeros_like(self.weight), torch.zeros_like(self.bias))
            self._steps = (torch.zeros(n_heads, 1, 1, device=self.device),)
        self._validation = validation
        self._gathered = torch.empty(0, n_features, device=self.device)

    @property
    def n_features(self) -> int:
        """F."""
        return self.features.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What training changes of all heads, by name; the first axis is that of the heads."""
        names = ADAM_TENSORS if self.config.optimizer in ADAMS else TENSORS
        values = (self.weight, self.bias, *self.momentum, *self._square, *self._steps)
        return dict(zip(names, values, strict=True))

    def positions(self, indices: np.ndarray) -> Tensor:
        """Where the features of images are, int64."""
        return torch.as_tensor(self._position[indices], device=self.device)

    # --- weights ----------------------------------------------------------------------------------

    def initialize(self, k: int, rng: np.random.Generator) -> None:
        """Draw head k anew; the backbone stays."""
        fresh = self._fresh_head(rng)
        self.weight[k].copy_(fresh.weight.detach())
        self.bias[k].copy_(fresh.bias.detach())
        for moment in (*self.momentum, *self._square, *self._steps):
            moment[k].zero_()

    def weights(self, state: dict[str, Any]) -> dict[str, Tensor]:
        """See ``Classifiers``; what the optimizer remembers of a layer counts as its weights."""
        return state

    def state_dict(self, k: int) -> dict[str, Any]:
        """Head and what its optimizer remembers, copied, each with a first axis of 1."""
        return {name: value.clone() for name, value in self._of(k).items()}

    def load_state_dict(self, k: int, state: dict[str, Any]) -> None:
        """Head and what its optimizer remembers, in place."""
        foreign = set(state) - set(self._of(k))
        if foreign:
            raise RuntimeError(
                f"the state belongs to another optimizer: {sorted(foreign)} are in it"
            )
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
        return {name: tensor[k : k + 1] for name, tensor in self.tensors.items()}

    def _which(self, ks: Sequence[int]) -> slice | list[int]:
        """Heads as an index: all of them are a view, some of them are copied."""
        chosen = list(ks)
        return slice(None) if chosen == list(range(len(self.weight))) else chosen

    # --- Eq. 1 ------------------------------------------------------------------------------------

    def fit(self, lessons: Sequence[Lesson], passes: int) -> None:
        """See ``Classifiers``; lessons of one length are learned together.

        With ``optimizer="newton"`` any number of passes but 0 means as many as it needs.
        """
        lessons = [lesson for lesson in lessons if len(lesson.indices)]
        if not lessons:
            return
        if len({len(lesson.indices) for lesson in lessons}) > 1:
            for lesson in lessons:
                self.fit([lesson], passes)
            return
        if self.config.optimizer == "newton":
            at_once = max(1, AT_ONCE // (len(lessons[0].indices) * self.n_features))
            for i in range(0, len(lessons) if passes else 0, at_once):
                self._solve(self._pupils(lessons[i : i + at_once]))
            return
        pupils = self._pupils(lessons)
        stopping = {lesson.k: EarlyStopping(self.config.early_stopping) for lesson in lessons}
        for i in range(passes):
            self._pass(pupils, i, passes)
            if self._validation is None:
                continue
            ks = [lesson.k for lesson in pupils.lessons]
            finished = [
                stopping[k].is_over(loss, partial(self.state_dict, k))
                for k, loss in zip(ks, self._validation_losses(ks), strict=True)
            ]
            if all(finished):
                break
            if any(finished):
                pupils = pupils.without(finished)
        for k, each in stopping.items():
            if each.best is not None:
                self.load_state_dict(k, each.best)

    def _pupils(self, lessons: list[Lesson]) -> _Pupils:
        """Lessons of one length on the device; every generator moves on by the dropout's seed."""
        n_classes = self.weight.shape[1]
        labels = [each.labels for each in lessons]
        truth = torch.as_tensor(np.stack(labels), device=self.device)
        weights = None
        if self.config.class_weights is not None:
            found = [optimization.class_weights(self.config, each, n_classes) for each in labels]
            weights = torch.as_tensor(np.stack(found), device=self.device).gather(1, truth)
        seeds = [int(each.rng.integers(2**63)) for each in lessons]
        return _Pupils(
            lessons=lessons,
            generators=[torch.Generator(self.device).manual_seed(seed) for seed in seeds],
            positions=torch.stack([self.positions(each.indices) for each in lessons]),
            truth=F.one_hot(truth, n_classes).float(),
            weights=weights,
        )

    def _solve(self, pupils: _Pupils) -> None:
        """Bring heads to where the regularised cross-entropy is least."""
        k, n = pupils.positions.shape
        weights = pupils.weights
        if weights is None:
            weights = torch.ones(k, n, device=self.device)
        total = weights.double().sum(1, keepdim=True)
        decay = torch.full_like(total[:, 0], self.config.weight_decay)
        if self.config.loss_reduction == "sum":
            decay /= total[:, 0]
        inputs = self.features[pupils.positions]
        solution = newton.solve(inputs, pupils.truth, weights / total, decay)
        which = self._which([lesson.k for lesson in pupils.lessons])
        self.weight[which], self.bias[which] = solution.weight.float(), solution.bias.float()
        for lesson, passes in zip(pupils.lessons, solution.passes.tolist(), strict=True):
            self.counters[lesson.k].samples_trained += passes * n

    def _pass(self, pupils: _Pupils, i: int, passes: int) -> None:
        """Pass ``i`` of so many."""
        _, n, n_classes = pupils.truth.shape
        which = self._which([lesson.k for lesson in pupils.lessons])
        # views of a slice, which are trained in place; copies of a list
        trained = {name: tensor[which] for name, tensor in self.tensors.items()}
        order = torch.as_tensor(
            np.stack([lesson.rng.permutation(n) for lesson in pupils.lessons]), device=self.device
        )
        n_parts = math.ceil(n / self.config.batch_size)
        positions = pupils.positions.gather(1, order).tensor_split(n_parts, dim=1)
        truth = pupils.truth.gather(1, order[:, :, None].expand(-1, -1, n_classes))
        targets = truth.tensor_split(n_parts, dim=1)
        weights: Sequence[Tensor | None] = [None] * n_parts
        if pupils.weights is not None:
            weights = pupils.weights.gather(1, order).tensor_split(n_parts, dim=1)
        for j, batch in enumerate(zip(positions, targets, weights, strict=True), i * n_parts):
            rate = optimization.learning_rate(self.config, j, passes * n_parts)
            self._step(trained, *batch, pupils.generators, rate)
        if not isinstance(which, slice):
            for name, tensor in self.tensors.items():
                tensor[which] = trained[name]
        for lesson in pupils.lessons:
            self.counters[lesson.k].samples_trained += n

    def _step(
        self,
        trained: dict[str, Tensor],
        positions: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        generators: list[torch.Generator],
        rate: float,
    ) -> None:
        """One gradient step of k heads on k batches: positions (k, B), targets (k, B, M)."""
        k, size = positions.shape
        inputs = self._gather(positions.flatten()).view(k, size, -1)
        if self.config.dropout > 0:
            for each, generator in zip(inputs, generators, strict=True):
                _drop(each, self.config.dropout, generator)
        weight, bias = trained["weight"], trained["bias"]
        softmax = F.softmax(torch.baddbmm(bias, inputs, weight.transpose(1, 2)), dim=2)
        # the gradient by the logits of the summed cross-entropy; the step divides it for the mean
        error, is_mean = softmax.sub_(targets), self.config.loss_reduction == "mean"
        if weights is not None:
            scale = size / weights.sum(1, keepdim=True) if is_mean else 1
            error.mul_((weights * scale)[:, :, None])
        divisor = size if is_mean else 1
        gradients = (torch.bmm(error.transpose(1, 2), inputs), error.sum(1, keepdim=True))
        if self.config.optimizer != "sgd":
            trained["steps"].add_(1)
        for name, gradient in zip(("weight", "bias"), gradients, strict=True):
            values, momentum = trained[name], trained[f"{name}_momentum"]
            if self.config.optimizer == "sgd":
                optimization.sgd_step(values, gradient, momentum, divisor, rate, self.config)
            else:
                moments, steps = (momentum, trained[f"{name}_square"]), trained["steps"]
                optimization.adam_step(values, gradient, moments, steps, divisor, rate, self.config)

    def _validation_losses(self, ks: Sequence[int]) -> list[float]:
        """Cross-entropy of heads on the validation images, in nats."""
        assert self._validation is not None
        indices, labels = self._validation
        truth = torch.as_tensor(labels, device=self.device)
        inputs = self.features[self.positions(indices)]
        losses = []
        for k in ks:
            logits = F.linear(inputs, self.weight[k], self.bias[k, 0])
            losses.append(F.cross_entropy(logits, truth))
            self.counters[k].samples_forwarded += len(indices)
        return torch.stack(losses).tolist()

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
