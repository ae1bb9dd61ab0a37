"""What policies for any pool see of it: a few numbers for every sample, and a context for all.

The numbers mean the same for any pool and any number of classes, so that weights for them can be
taken from one data set to another. They are kept with the samples last, (K, n): a feature
of all samples is then one stretch of memory.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FEATURES = ("p1", "p2", "p3", "margin", "entropy", "expected reward", "deficit", "rarity")
"""Of every sample; see ``describe``."""
NOVELTY = "novelty"
"""The feature more that embeddings give."""
PROGRESS = ("constant", "labels", "uncertainty")
"""First entries of the context, which say how far the episode has come."""
CONTEXT = (*PROGRESS, "labelled fraction", "imbalance", "1 / M")
"""Of the whole pool; the mean and the deviation of every feature follow."""
KEYS = ("softmax", "class_counts", "labelled_fraction")
"""Of the observation."""
CHUNK = 2**14
"""Samples at a time: what stays in the cache."""


class PoolState(NamedTuple):
    """A pool as it is described to policies and set networks."""

    features: Tensor
    """(K, n) float32; all 0 where a sample has left the pool."""
    context: Tensor
    """(C,) float32."""


class Sizes(NamedTuple):
    """Of a pool's description, whatever the number of its samples."""

    n_features: int
    """K, of a sample."""
    n_context: int
    """C, of the pool."""


def context_size(n_features: int) -> int:
    """C, of K features."""
    return len(CONTEXT) + 2 * n_features


SIZES = Sizes(len(FEATURES), context_size(len(FEATURES)))
"""Of what ``describe`` gives without embeddings."""


def require(keys: Collection[str], embeddings: bool = False) -> None:
    """Refuse observations that do not hold what ``describe`` needs.

    Args:
        keys: of the observation.
        embeddings: whether it needs them.

    Raises:
        TypeError: naming what is missing.
    """
    wanted = (*KEYS, "embeddings") if embeddings else KEYS
    missing = [key for key in wanted if key not in keys]
    if missing:
        raise TypeError(
            f"the observation has no {', '.join(missing)}: wrap the environment in "
            f"al_gym.wrappers.ContextObservation(env{', embeddings=True' if embeddings else ''})"
        )


def describe(
    observation: Mapping[str, np.ndarray], directions: Tensor | None = None, device: Any = "cpu"
) -> PoolState:
    """Features of every sample and the context of the pool.

    Of a sample with softmax p: the three largest values p1, p2, p3; the margin 1 - (p1 - p2) and
    the entropy over log M, as MS and EN score; p1 - sum p^2, what Eq. 3 pays on average if the
    classifier is calibrated; the *deficit*, the mean under p of log(a class's share in the pool's
    predictions / its share of the labels); the *rarity*, the mean under p of -log(M * its share of
    the labels). With embeddings the *novelty*: 1 minus the greatest cosine to a sample that has
    left the pool in this episode, labelled or skipped; 0 before any has.

    Shares, of the labels and of the predictions, are taken with one more of each class than there
    is, so that none is 0.

    The context is 1; log10 of the number of labels, minus 2; the mean margin; the labelled
    fraction; the imbalance of the labels, 1 - their entropy / log M; 1 / M; and over the samples in
    the pool the mean and the standard deviation of every feature.

    Args:
        observation: of ``al_gym.wrappers.ContextObservation``: ``softmax`` (n, M) with zeros where
            a sample has left the pool, ``class_counts`` (M,), ``labelled_fraction`` (1,).
        directions: (n, F), the ``normalised`` embeddings, to have the novelty too.
        device: where to compute.

    Raises:
        TypeError: a part is missing.
        ValueError: parts whose shapes do not fit.
    """
    require(observation)
    softmax = torch.as_tensor(observation["softmax"], dtype=torch.float32, device=device)
    counts = torch.as_tensor(observation["class_counts"], dtype=torch.float32, device=device)
    n_classes = softmax.shape[1]
    if counts.shape != (n_classes,):
        raise ValueError(f"class_counts must be ({n_classes},), not {tuple(counts.shape)}")
    if directions is not None and len(directions) != len(softmax):
        raise ValueError(f"there are {len(directions)} embeddings of {len(softmax)} samples")
    in_pool = softmax.any(1)
    n_in_pool = int(in_pool.sum())
    labelled = (counts + 1) / (counts.sum() + n_classes)
    predicted = (softmax.sum(0) + 1) / (n_in_pool + n_classes)
    logs = torch.stack([(predicted / labelled).log(), -(n_classes * labelled).log()])
    features = softmax.new_empty(len(FEATURES) + (directions is not None), len(softmax))
    for part, out in zip(softmax.split(CHUNK), features.split(CHUNK, dim=1), strict=True):
        _describe_samples(part, logs, out)
    if directions is not None:
        features[-1] = novelty(directions, in_pool) * in_pool
    shares = labelled * labelled.log()
    mean, spread = moments(features, in_pool)
    whole = [
        1.0,
        math.log10(max(float(counts.sum()), 1.0)) - 2,
        float(mean[FEATURES.index("margin")]),
        float(observation["labelled_fraction"][0]),
        1 + float(shares.sum()) / math.log(max(n_classes, 2)),
        1 / n_classes,
    ]
    return PoolState(features, torch.cat([features.new_tensor(whole), mean, spread]))


def moments(features: Tensor, in_pool: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every feature over the samples in the pool, (K,) each.

    Args:
        features: (K, n), 0 where a sample has left the pool.
        in_pool: (n,) bool.
    """
    n_in_pool = max(int(in_pool.sum()), 1)
    mean = features.sum(1) / n_in_pool
    # around the mean, as differences of squares would cancel
    square = sum(
        (part - mean[:, None]).square_().mul_(mask).sum(1)
        for part, mask in zip(features.split(CHUNK, dim=1), in_pool.split(CHUNK), strict=True)
    )
    return mean, (square / n_in_pool).sqrt()


def _describe_samples(softmax: Tensor, logs: Tensor, out: Tensor) -> None:
    """Write the features of some samples, softmax (n, M), into ``out`` (K, n)."""
    classes = softmax.T.contiguous()
    first, second, third = out[0], out[1], out[2]
    first.copy_(classes[0])
    second.zero_()
    third.zero_()
    for values in classes[1:]:  # the largest three so far
        torch.maximum(third, torch.minimum(second, values), out=third)
        torch.maximum(second, torch.minimum(first, values), out=second)
        torch.maximum(first, values, out=first)
    in_pool = first > 0
    out[3] = (1 - first + second) * in_pool
    information = classes.clamp_min(torch.finfo(classes.dtype).tiny).log_().mul_(classes)
    out[4] = information.sum(0) / -math.log(max(len(classes), 2))
    out[5] = first - classes.square().sum(0)
    torch.mm(logs, classes, out=out[6:8])


def normalised(embeddings: np.ndarray) -> Tensor:
    """Embeddings (n, F) around their mean, at length 1: their products are cosines.

    Raises:
        ValueError: NaN or infinity in them.
    """
    vectors = torch.as_tensor(embeddings, dtype=torch.float32)
    mean = vectors.mean(0)
    if not mean.isfinite().all():  # as it is not if any of them is not
        raise ValueError(
            "the embeddings have NaN or infinity in them: correct them where they are made"
        )
    return F.normalize(vectors - mean, dim=1)


def similarity_vectors(softmax: np.ndarray, directions: Tensor | None, rows: Tensor) -> Tensor:
    """Vectors of length 1, (..., F), of some samples; their products say how alike two are.

    The directions if there are any, whose products are cosines; otherwise the roots of the softmax
    (n, M), whose products are Bhattacharyya coefficients.

    Args:
        softmax: (n, M).
        directions: (n, F), the ``normalised`` embeddings, or None.
        rows: (...) int64, which samples.
    """
    if directions is not None:
        return directions[rows]
    return torch.as_tensor(softmax, dtype=torch.float32)[rows].sqrt()


def novelty(directions: Tensor, in_pool: Tensor) -> Tensor:
    """1 - the greatest cosine to a sample that has left the pool, (n,); 0 before any has."""
    left = directions[~in_pool]
    if not len(left):
        return directions.new_zeros(len(directions))
    nearest = [(part @ left.T).amax(1) for part in directions.split(CHUNK)]
    return 1 - torch.cat(nearest)


def strategy(name: Literal["lc", "ms", "en"], features: Tensor) -> Tensor:
    """The scores that LC, MS or EN gives, (..., n), by features (..., K, n)."""
    if name == "lc":
        return 1 - features[..., FEATURES.index("p1"), :]
    return features[..., FEATURES.index("margin" if name == "ms" else "entropy"), :]


def flatten(state: PoolState) -> Tensor:
    """(C + K * n,), for a replay buffer."""
    return torch.cat([state.context, state.features.flatten()])


def unflatten(flat: Tensor, sizes: Sizes) -> PoolState:
    """Undo ``flatten``; leading dimensions stay: (..., C + K * n) -> (..., K, n) and (..., C)."""
    k, c = sizes
    return PoolState(flat[..., c:].unflatten(-1, (k, -1)), flat[..., :c])
