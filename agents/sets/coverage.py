"""What tells samples apart where labels are few: how the pool lies around the labelled ones.

What ``pool_features`` describes is joined by features of where a sample lies: in how dense a place
(typicality), how far from the labelled samples, and how much of the pool it would cover. Two
samples are as near as their vectors: the embeddings at length 1, as UHerding and TypiClust take
them; or, without embeddings, the roots of the softmax, by which nothing is known of the labelled.

A ``Neighbourhood`` is what depends on the pool alone, ``Labelled`` what the labelled samples add to
it; ``Memory`` keeps both from one query of an episode to the next, which saves time and changes
nothing. ``Coverage`` goes through a query: what was picked counts as labelled.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from agents.sets import pool_features
from agents.sets.pool_features import PoolState, Sizes, describe, moments
from agents.uherding import TOO_NEAR

RADII = ("near", "far", "least")
"""Of the kernels by which samples cover one another; see ``Neighbourhood`` and ``Labelled``."""
QUANTILES = (0.003, 0.05)
"""Of the distances in the pool, which are the first of them."""
FIXED = (*pool_features.FEATURES, "typicality", "agreement")
"""Features that stay as they are while a query is picked."""
CHANGING = (
    "distance",
    *(f"{kind}coverage, {radius}" for radius in RADII for kind in ("", "uncertain ")),
)
"""Features that fall with every pick; see ``Coverage``."""
FEATURES = (*FIXED, *CHANGING)
"""Of every sample; see ``survey``."""
REGIME = (
    "constant", "labels per class", "uncertainty", "unlabelled classes", "neighbours agree",
    "covered, near", "covered, far",
)  # fmt: skip
"""First entries of the context: how far the episode has come, and how few the labels are."""
CONTEXT = (*REGIME, "labelled fraction", "imbalance", "1 / M")
"""Of the whole pool; the mean and the deviation of every feature follow."""
SIZES = Sizes(len(FEATURES), len(CONTEXT) + 2 * len(FEATURES))
"""Of what ``survey`` gives."""
LABELLED_KEYS = ("embeddings", "labelled_embeddings", "labelled_classes")
"""Of the observation, beside those of ``pool_features``, if embeddings are looked at."""
N_ANCHORS = 1024
"""Samples of a pool, at most, by which its density and its coverage are measured."""
N_BY_SOFTMAX = 256
"""As many where they are known by their softmax, anew in every query and in few dimensions."""
N_NEIGHBOURS = 20
"""By which a sample is typical, as of TypiClust's."""
N_BETWEEN = 256
"""Anchors, at most, whose distances to one another give the radii."""
CHUNK = 2**16
"""Numbers at a time: what stays in the cache."""


def require(keys: Collection[str], embeddings: bool) -> None:
    """Refuse observations that do not hold what ``survey`` needs.

    Raises:
        TypeError: naming what is missing.
    """
    wanted = (*pool_features.KEYS, *(LABELLED_KEYS if embeddings else ()))
    missing = [key for key in wanted if key not in keys]
    if missing:
        more = ", embeddings=True, labelled=True" if embeddings else ""
        raise TypeError(
            f"the observation has no {', '.join(missing)}: wrap the environment in "
            f"al_gym.wrappers.ContextObservation(env{more})"
        )


class Neighbourhood:
    """How the samples of a pool lie to one another.

    Density and coverage are measured at the *anchors*: all samples that count, or, of too many,
    some at equal steps.

    Args:
        vectors: (n, F) float32 at length 1, whose products say how near two samples are.
        counts: (n,) bool, which samples do; None: all.
        n_anchors: how many there are at most.

    Attributes:
        vectors: as given.
        anchors: (R,) int64, their rows.
        cosines: (R, n), of anchors and samples.
        radii: (2,), squared: the ``QUANTILES`` of the squared distances between anchors.
        typicality: (n,) the share of the anchors that lie in a thinner place, that is, whose mean
            distance to their ``N_NEIGHBOURS`` nearest is greater (Hacohen, Dekel and Weinshall,
            Active learning on a budget, ICML 2022, who rank by its inverse).
    """

    def __init__(
        self, vectors: Tensor, counts: Tensor | None = None, n_anchors: int = N_ANCHORS
    ) -> None:
        self.vectors = vectors
        rows = torch.arange(len(vectors))
        rows = rows if counts is None else rows[counts]
        n = min(len(rows), n_anchors)
        self.anchors = rows[torch.arange(n) * len(rows) // max(1, n)]
        self.cosines = vectors[self.anchors] @ vectors.T
        own = torch.arange(n), self.anchors
        held = self.cosines[own]
        self.cosines[own] = -torch.inf  # nobody is a neighbour of their own
        self.radii = self._radii()
        self.typicality = self._typicality()
        self.cosines[own] = held

    def _radii(self) -> Tensor:
        step = max(1, math.ceil(len(self.anchors) / N_BETWEEN))
        between = self.cosines[::step, self.anchors[::step]]
        apart = (2 - 2 * between[between > -torch.inf]).clamp_min(TOO_NEAR)
        if not len(apart):
            return self.vectors.new_ones(len(QUANTILES))
        return apart.quantile(apart.new_tensor(QUANTILES))

    def _typicality(self) -> Tensor:
        k = min(N_NEIGHBOURS, len(self.anchors) - 1)
        if k < 1:
            return self.vectors.new_zeros(len(self.vectors))
        width = max(1, CHUNK // len(self.anchors))
        apart = torch.cat([
            (2 - 2 * part.T.contiguous().topk(k, sorted=False).values).clamp_min_(0).sqrt_().mean(1)
            for part in self.cosines.split(width, dim=1)
        ])  # fmt: skip
        nearer = torch.searchsorted(apart[self.anchors].sort().values, apart, right=True)
        return 1 - nearer / len(self.anchors)


class Labelled:
    """How near the labelled samples of an episode are to those of the pool, and to one another.

    Args:
        neighbourhood: of the pool.

    Attributes:
        neighbourhood: as given.
        nearest: (n,) of every sample of the pool the greatest cosine to a labelled one; -inf
            before there is one.
        nearest_class: (n,) int64, the class of that one; -1 before there is one.
        vectors: (n_l, F), of the labelled samples.
        classes: (n_l,) int64, theirs.
    """

    def __init__(self, neighbourhood: Neighbourhood) -> None:
        self.neighbourhood = neighbourhood
        self.vectors = neighbourhood.vectors[:0]
        self.nearest = neighbourhood.vectors.new_full((len(neighbourhood.vectors),), -torch.inf)
        self.nearest_class = torch.full_like(self.nearest, -1, dtype=torch.int64)
        self.classes = self.nearest_class[:0]
        self._among = self.nearest[:0]  # as nearest, of the labelled among themselves
        self._among_class = self.nearest_class[:0]
        self._least = torch.inf

    @property
    def radii(self) -> Tensor:
        """(3,) squared, by ``RADII``.

        The last is the least distance between two labelled samples, which becomes small as they
        become many (UHerding's: Bae, Oliveira and Sutherland, ICLR 2025); 1 before there are two.
        """
        least = self._least if self._least < torch.inf else 1.0
        return torch.cat([self.neighbourhood.radii, self.nearest.new_tensor([least])])

    def neighbours_agree(self, n_classes: int) -> float:
        """How often the nearest other labelled sample has the same class.

        Leaving one out, over the samples that are not alone in their class; with one more that
        agrees, of M more, so that it is 1 / M before there are any. It stands for how far
        predictions can be trusted: what a classifier says of its own training set does not tell.
        """
        counts = self.classes.bincount(minlength=n_classes)
        tried = counts[self.classes] > 1
        right = tried & (self._among_class == self.classes)
        return (int(right.sum()) + 1) / (int(tried.sum()) + n_classes)

    def add(self, vectors: Tensor, classes: Tensor) -> None:
        """Take note of newly labelled samples.

        One by one, so that the bits of a cosine do not depend on what is labelled with it.

        Args:
            vectors: (m, F) at length 1.
            classes: (m,) int64.
        """
        for vector, label in zip(vectors, classes, strict=True):
            cosines = self.neighbourhood.vectors @ vector.clone()  # at an address like any other
            nearer = cosines > self.nearest
            self.nearest = torch.where(nearer, cosines, self.nearest)
            self.nearest_class = torch.where(nearer, label, self.nearest_class)
            self._add_among(vector, label)

    def _add_among(self, vector: Tensor, label: Tensor) -> None:
        cosines = (self.vectors * vector).sum(1)
        nearer = cosines > self._among
        own, own_class = cosines.new_tensor([-torch.inf]), label.new_tensor([-1])
        if len(cosines):
            best = cosines.argmax()
            own, own_class = cosines[best, None], self.classes[best, None]
            apart = 2 - 2 * cosines
            apart = torch.where(apart > TOO_NEAR, apart, torch.inf)
            self._least = min(self._least, float(apart.min()))
        self._among = torch.cat([torch.where(nearer, cosines, self._among), own])
        among_class = torch.where(nearer, label, self._among_class)
        self._among_class = torch.cat([among_class, own_class])
        self.vectors = torch.cat([self.vectors, vector[None]])
        self.classes = torch.cat([self.classes, label[None]])


def at_length_1(embeddings: np.ndarray) -> Tensor:
    """Embeddings (n, F) as float32 vectors whose products are cosines; zeros stay zeros.

    Raises:
        ValueError: NaN or infinity in them.
    """
    vectors = torch.as_tensor(embeddings, dtype=torch.float32)
    if not vectors.isfinite().all():
        raise ValueError(
            "the embeddings have NaN or infinity in them: correct them where they are made"
        )
    return F.normalize(vectors, dim=1)


def by_softmax(softmax: np.ndarray) -> Labelled:
    """What is known without embeddings: a pool by the roots of its softmax, and nothing labelled.

    The products of the roots are Bhattacharyya coefficients.

    Args:
        softmax: (n, M), with zeros where a sample has left the pool.
    """
    values = torch.as_tensor(softmax, dtype=torch.float32)
    return Labelled(Neighbourhood(values.clamp_min(0).sqrt(), values.any(1), N_BY_SOFTMAX))


@dataclass
class _Kept:
    """An episode as ``Memory`` keeps it."""

    embeddings: np.ndarray
    """(n, F), of the pool."""
    rows: np.ndarray
    """(n_l, F), the embeddings of what is known to be labelled."""
    labelled: Labelled


class Memory:
    """The last few episodes, so that of each only what is new has to be looked at.

    An episode is known by its embeddings and by what was labelled first, as they are compared
    number by number. Of one whose embeddings change from query to query nothing can be kept.

    Args:
        size: how many episodes; each takes about 12 bytes for every number of its embeddings.
    """

    def __init__(self, size: int = 4) -> None:
        self.size = size
        self._kept: list[_Kept] = []

    def of(self, observation: Mapping[str, np.ndarray]) -> Labelled:
        """What is known of the labelled samples of an observation, for ``survey``.

        Args:
            observation: with ``embeddings`` (n, F), ``labelled_embeddings`` (B, F) and
                ``labelled_classes`` (B,), -1 where there is no sample.

        Raises:
            ValueError: NaN or infinity in the embeddings, or parts whose shapes do not fit.
        """
        embeddings, everything, classes = (np.asarray(observation[key]) for key in LABELLED_KEYS)
        shape = (len(classes), *embeddings.shape[1:])
        if everything.shape != shape:
            raise ValueError(f"labelled_embeddings must be {shape}, not {everything.shape}")
        told = classes >= 0
        rows, labels = everything[told], torch.as_tensor(classes[told]).long()
        kept = self._find(embeddings, rows, labels)
        known = len(kept.rows)
        kept.labelled.add(at_length_1(rows[known:]), labels[known:])
        kept.rows = rows
        self._kept = [kept, *(other for other in self._kept if other is not kept)][: self.size]
        return kept.labelled

    def _find(self, embeddings: np.ndarray, rows: np.ndarray, labels: Tensor) -> _Kept:
        """The kept episode that these continue; or a new one, of the same pool if it is known."""
        found = None
        for kept in self._kept:
            if not _equal(kept.embeddings, embeddings):
                continue
            n, found = len(kept.rows), kept
            if _equal(kept.rows, rows[:n]) and torch.equal(kept.labelled.classes, labels[:n]):
                return kept
        if found is not None:
            return replace(found, rows=rows[:0], labelled=Labelled(found.labelled.neighbourhood))
        own = np.array(embeddings)  # who made them may write into them
        return _Kept(own, rows[:0], Labelled(Neighbourhood(at_length_1(own))))


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether all numbers are; the first row, which mostly tells, before the others."""
    return np.array_equal(one[:1], other[:1]) and np.array_equal(one, other)


# --- a query --------------------------------------------------------------------------------------


class Coverage:
    """What each sample would add, while the samples of a query are picked one by one.

    The *coverage* of the pool is the mean over its samples x of the greatest k(x, x'), x' one of
    the labelled samples, with a Gaussian kernel k = exp(-distance^2 / radius^2). What a sample
    would add to it is its gain, the criterion of MaxHerding; weighted by the uncertainty of x, here
    1 - (p1 - p2), that of UHerding (Bae, Oliveira and Sutherland, Uncertainty Herding: one active
    learning method for all label budgets, ICLR 2025). Always to pick the greatest gain is their
    greedy algorithm; always to pick the greatest distance, that of CoreSet. In a pool of more than
    ``N_ANCHORS`` samples its anchors stand for it: gains are then estimates.

    Args:
        labelled: what is known of the labelled samples.
        margin: (n,) the uncertainty.
        in_pool: (n,) bool.

    Attributes:
        features: (7, n), by ``CHANGING``: the distance, 1 - the greatest cosine to a sample that is
            labelled or picked, and 1 before there is one; then, for each radius, the gains, plain
            and weighted, as parts of what was the greatest of them before the first pick.
        covered: (3,) the coverage for each radius before the first pick, in [0, 1].
    """

    def __init__(self, labelled: Labelled, margin: Tensor, in_pool: Tensor) -> None:
        hood = labelled.neighbourhood
        self._vectors, self._cosines = hood.vectors, hood.cosines
        self._nearest, self._at_anchors = labelled.nearest, labelled.nearest[hood.anchors]
        there = in_pool[hood.anchors]
        self._there = there
        share = there / there.sum().clamp_min(1)
        self._weights = torch.stack([share, share * margin[hood.anchors]])
        self._sharpness = 2 / labelled.radii[:, None]
        kernels = self._kernel(self._at_anchors)
        self.covered = kernels @ share
        gains = self._risen(there.nonzero()[:, 0], kernels, None) * in_pool
        self._greatest = gains.amax(2, keepdim=True).clamp_min(torch.finfo(gains.dtype).tiny)
        self.features = torch.cat([self._distance(), (gains / self._greatest).flatten(0, 1)])

    def pick(self, row: int) -> None:
        """Count a sample as labelled: what it covers is no gain to others any more."""
        self._nearest = torch.maximum(self._nearest, self._vectors @ self._vectors[row])
        self.features[:1] = self._distance()
        before, cosines = self._at_anchors, self._cosines[:, row]
        rows = ((cosines > before) & self._there).nonzero()[:, 0]
        lost = self._risen(rows, self._kernel(before), self._kernel(cosines)) / self._greatest
        self.features[1:] -= lost.flatten(0, 1)
        self._at_anchors = torch.maximum(before, cosines)

    def _kernel(self, cosines: Tensor) -> Tensor:
        """(3, R), for each radius."""
        return _exp((cosines - 1) * self._sharpness)

    def _distance(self) -> Tensor:
        return torch.where(self._nearest > -torch.inf, 1 - self._nearest, 1)[None]

    def _risen(self, rows: Tensor, above: Tensor, up_to: Tensor | None) -> Tensor:
        """By how much each sample raises the coverage and the weighted coverage, (3, 2, n).

        Args:
            rows: the anchors that are looked at.
            above: (3, R), how far they are covered.
            up_to: (3, R), above which a rise does not count.
        """
        n = self._cosines.shape[1]
        risen = self._cosines.new_zeros(len(RADII), 2, n)
        for part in rows.split(max(1, CHUNK // (len(RADII) * max(1, n)))):
            cosines = self._cosines.index_select(0, part)  # sooner than by brackets
            kernel = (cosines - 1) * self._sharpness[..., None]
            rise = _exp(kernel).sub_(above[:, part, None]).clamp_min_(0)
            if up_to is not None:
                rise = torch.minimum(rise, (up_to - above)[:, part, None], out=rise)
            risen += self._weights[:, part] @ rise
        return risen


def _exp(values: Tensor) -> Tensor:
    """In place, and no less than e^-60: near the least number of float32 all takes far longer."""
    return values.clamp_min_(-60).exp_()


def survey(observation: Mapping[str, np.ndarray], labelled: Labelled) -> tuple[PoolState, Coverage]:
    """Features of every sample and the context of the pool, where labels may be few.

    Of a sample: what ``pool_features.describe`` says without embeddings; its *typicality*
    (``Neighbourhood``); its *agreement*, the probability that the softmax gives to the class of the
    nearest labelled sample, 0 before there is one; and its distance and its gains of coverage
    (``Coverage``). All are 0 where a sample has left the pool.

    The context is 1; the *labels per class*, log10 of 1 more than their mean, minus 1; the
    *uncertainty*, the mean margin; the share of classes without a label; how often the nearest
    labelled sample agrees (``Labelled.neighbours_agree``); the coverage for the first two radii;
    the labelled fraction; the imbalance of the labels and 1 / M as ``describe`` gives them; and
    over the samples in the pool the mean and the standard deviation of every feature.

    Args:
        observation: of ``al_gym.wrappers.ContextObservation``: ``softmax`` (n, M) with zeros where
            a sample has left the pool, ``class_counts`` (M,), ``labelled_fraction`` (1,).
        labelled: what is known of the labelled samples of this pool.

    Returns:
        The state, with K features and C numbers of context, and the coverage, to go on with.

    Raises:
        TypeError: a part is missing.
        ValueError: parts whose shapes or classes do not fit.
    """
    base = describe(observation)
    softmax = torch.as_tensor(observation["softmax"], dtype=torch.float32)
    n, n_classes = softmax.shape
    hood = labelled.neighbourhood
    if len(hood.vectors) != n:
        raise ValueError(f"there are {len(hood.vectors)} embeddings of {n} samples")
    if len(labelled.classes) and int(labelled.classes.max()) >= n_classes:
        raise ValueError(f"labelled_classes must be below {n_classes}, the number of classes")
    in_pool = softmax.any(1)
    margin = base.features[pool_features.FEATURES.index("margin")]
    coverage = Coverage(labelled, margin, in_pool)
    nearest = labelled.nearest_class
    agreement = softmax.gather(1, nearest.clamp_min(0)[:, None])[:, 0] * (nearest >= 0)
    added = torch.cat([torch.stack([hood.typicality, agreement]), coverage.features]) * in_pool
    features = torch.cat([base.features, added])
    counts = np.asarray(observation["class_counts"])
    known = dict(zip(pool_features.CONTEXT, base.context.tolist(), strict=False))
    context = [
        1.0,
        math.log10(1 + float(counts.sum()) / n_classes) - 1,
        known["uncertainty"],
        float((counts == 0).mean()),
        labelled.neighbours_agree(n_classes),
        *coverage.covered[:2].tolist(),
        known["labelled fraction"],
        known["imbalance"],
        known["1 / M"],
    ]
    return (
        PoolState(features, torch.cat([features.new_tensor(context), *moments(features, in_pool)])),
        coverage,
    )
