"""What training is made of beside gradients: class weights, optimizers, rates, and when to stop.

Networks have PyTorch's optimizers. Those of linear heads are the same formulas for many heads at
once, each with moments and a count of steps of its own.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from al_gym.config import ClassifierConfig
from al_gym.data.dataset import ImageDataset

BETAS = (0.9, 0.999)
"""Decay of Adam's first and second moments, as PyTorch's."""
EPSILON = 1e-8
"""What Adam adds to the root of the second moment, as PyTorch does."""


class Validation(NamedTuple):
    """Images that decide when training stops."""

    indices: np.ndarray
    """(n,) int, images of the data set."""
    labels: np.ndarray
    """(n,) int64, their classes."""


def validation_of(dataset: ImageDataset, config: ClassifierConfig) -> Validation | None:
    """The data set's own validation split where training may stop early; otherwise None.

    Raises:
        ValueError: the data set has none.
    """
    if config.early_stopping is None:
        return None
    if not len(dataset.validation):
        raise ValueError(
            f"early_stopping={config.early_stopping} needs validation images, and {dataset.source} "
            "has none: MedMNIST's are read with validation=True, a folder's lie in val/ beside "
            "train/ and test/; or leave early_stopping out"
        )
    return Validation(dataset.validation, dataset.labels[dataset.validation])


def check_class_weights(config: ClassifierConfig, class_names: Sequence[str]) -> None:
    """Raise a ValueError unless the weights that are given are as many as the classes."""
    given = config.class_weights
    if isinstance(given, tuple) and len(given) != len(class_names):
        raise ValueError(
            f"class_weights has {len(given)} numbers; there are {len(class_names)} classes, "
            f"{', '.join(class_names)}"
        )


def class_weights(config: ClassifierConfig, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights of the classes in the cross-entropy of samples with these labels, (M,) float32.

    "balanced" gives every class that has a sample the same sum of weights, and all samples n; a
    class without one has weight 1, which nothing is multiplied by.
    """
    if isinstance(config.class_weights, tuple):
        return np.array(config.class_weights, np.float32)
    weights = np.ones(n_classes)
    if config.class_weights == "balanced":
        counts = np.bincount(labels, minlength=n_classes)
        there = counts > 0
        weights[there] = len(labels) / (there.sum() * counts[there])
    return weights.astype(np.float32)


def learning_rate(config: ClassifierConfig, step: int, n_steps: int) -> float:
    """The learning rate of gradient step ``step``, from 0 on, of ``n_steps`` of one training.

    "cosine": learning_rate (1 + cos(pi step / n_steps)) / 2.
    """
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (1 + math.cos(math.pi * step / n_steps)) / 2


# --- networks -------------------------------------------------------------------------------------


def optimizer_over(
    parameters: Iterable[nn.Parameter], config: ClassifierConfig
) -> torch.optim.Optimizer:
    """PyTorch's optimizer of the settings."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, rate, BETAS, EPSILON, weight_decay=decay)


def set_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]) -> None:
    """Set what an optimizer remembers, in place where it remembers something already.

    Recorded graphs know these very tensors. Zeros are the same as nothing.

    Args:
        optimizer: with one group of parameters.
        moments: by the number of the parameter, as in a ``state_dict``; a parameter that is missing
            has no past.

    Raises:
        RuntimeError: they are another optimizer's.
    """
    names = {"momentum_buffer"}
    if not isinstance(optimizer, torch.optim.SGD):
        names = {"exp_avg", "exp_avg_sq", "step"}
    foreign = set().union(*moments.values()) - names
    if foreign:
        raise RuntimeError(f"the state belongs to another optimizer: {sorted(foreign)} are in it")
    (group,) = optimizer.param_groups
    for i, parameter in enumerate(group["params"]):
        state, values = optimizer.state[parameter], moments.get(i, {})
        for name, tensor in state.items():
            if tensor is not None and values.get(name) is None:
                tensor.zero_()
        for name, value in values.items():
            if state.get(name) is not None:
                state[name].copy_(value)
            elif value is not None:  # PyTorch keeps the count of steps on the host
                place = torch.device("cpu") if name == "step" else parameter.device
                state[name] = value.to(place, copy=True)


# --- linear heads ---------------------------------------------------------------------------------


def sgd_step(
    values: Tensor,
    total: Tensor,
    momentum: Tensor,
    divisor: int,
    rate: float,
    config: ClassifierConfig,
) -> None:
    """One step of stochastic gradient descent, in place, as ``torch.optim.SGD`` takes it.

    Args:
        values: (k, ...) a weight or bias of k heads.
        total: like ``values``, its gradients, summed over the samples of a batch; changed.
        momentum: like ``values``.
        divisor: what the sum is divided by: the samples in a batch, or 1.
        rate: the learning rate.
        config: with momentum and weight decay.
    """
    if config.weight_decay > 0:
        total.add_(values, alpha=divisor * config.weight_decay)
    if config.momentum > 0:
        moving = momentum.mul_(config.momentum).add_(total, alpha=1 / divisor)
        values.sub_(moving, alpha=rate)
    else:
        values.sub_(total, alpha=rate / divisor)


def adam_step(
    values: Tensor,
    total: Tensor,
    moments: tuple[Tensor, Tensor],
    steps: Tensor,
    divisor: int,
    rate: float,
    config: ClassifierConfig,
) -> None:
    """One step of Adam (Kingma and Ba, 2015) or AdamW (Loshchilov and Hutter, 2019), in place.

    As ``torch.optim.Adam`` and ``AdamW`` take it.

    Args:
        values: as of ``sgd_step``, like ``total``, ``divisor`` and ``rate``.
        total: see there.
        moments: like ``values`` each, the moving means of the gradient and of its square.
        steps: (k, 1, 1) float32, each head's number of steps with this one.
        divisor: see there.
        rate: see there.
        config: with optimizer and weight decay.
    """
    gradient = total.div_(divisor)
    if config.optimizer == "adamw":
        values.mul_(1 - rate * config.weight_decay)
    elif config.weight_decay > 0:
        gradient.add_(values, alpha=config.weight_decay)
    first, second = moments
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    # 1 - beta ** steps, without the loss of digits that float32 would have near 1
    unbiased = [-torch.expm1(steps * math.log(beta)) for beta in BETAS]
    deviation = (second / unbiased[1]).sqrt_().add_(EPSILON)
    values.sub_(first.div(deviation).div_(unbiased[0]), alpha=rate)


# --- when to stop ---------------------------------------------------------------------------------


class EarlyStopping:
    """The best of one classifier's passes, and whether it is worth going on.

    Args:
        patience: so many passes in a row without a better one end it; None: nothing does.
    """

    def __init__(self, patience: int | None) -> None:
        self.best: dict[str, Any] | None = None
        """What the best pass left, a ``state_dict``; None as long as no loss is a number."""
        self._patience = patience
        self._least = math.inf
        self._waited = 0

    def is_over(self, loss: float, state: Callable[[], dict[str, Any]]) -> bool:
        """Take note of a pass, and say whether to stop after it.

        Args:
            loss: cross-entropy on the validation images after it.
            state: gives the classifier's ``state_dict`` then, asked for if it is the best.
        """
        if loss < self._least:
            self._least, self.best, self._waited = loss, state(), 0
        else:
            self._waited += 1
        return self._patience is not None and self._waited >= self._patience
