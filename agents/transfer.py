"""A policy that was trained elsewhere and is applied unchanged: ``drla-transfer``.

    import agents

    policy = agents.load_pretrained("drla-transfer-v0")
    env = al_gym.wrappers.ContextObservation(env)
    action, _ = policy.predict(observation)

The score of a sample is a sum of its features, whose weights follow the progress of the episode.

``TransferPolicy`` knows the features of ``pool_features.describe``. The best are then ranked so
that the samples of a query are unlike: each next has the greatest score less a penalty for its
similarity to those before it (maximal marginal relevance: Carbonell and Goldstein, SIGIR 1998).
``benchmarks.train_policy`` trains such policies.

``CoveragePolicy`` knows where labels are few, too: the features of ``coverage.survey``, with what
is labelled at the start among them. Each next sample of a query has the greatest score after those
before it count as labelled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import checkpoint
from agents.names import lookup
from agents.policy import ScoringPolicy
from agents.sets import coverage
from agents.sets.pool_features import (
    FEATURES,
    PROGRESS,
    PoolState,
    describe,
    normalised,
    require,
    similarity_vectors,
)
from al_gym.errors import CheckpointError

FORMAT = "drla-transfer 2"
"""Of the file of a ``TransferPolicy``."""
COVERAGE_FORMAT = "drla-transfer 3"
"""Of the file of a ``CoveragePolicy``."""
POLICIES = Path(__file__).parent / "pretrained"
"""Folder of the policies that come with the package; ``README.md`` there is their card."""
N_RANKED = 64
"""Samples ranked with the penalty, the most that a query should have; the rest follow by score."""
N_CANDIDATES = 1024
"""Samples with the greatest scores, of which those are chosen."""


class TransferPolicy(ScoringPolicy):
    """A trained policy for any pool, always deterministic.

    Args:
        embeddings: whether it looks at the pool's embeddings, for their novelty and for similarity;
            otherwise two samples are as similar as their softmax vectors.

    Attributes:
        weights: (K, 3), the score is sum_k x_k weights_k . (1, labels, uncertainty); see
            ``pool_features.describe``. A new policy's are those of MS: 1 for the margin.
        diversity: (3,), the weight of the penalty is diversity . (1, labels, uncertainty), at
            least 0; 0 in a new policy.
        card: what is known of the policy, by name.
    """

    def __init__(self, embeddings: bool = False) -> None:
        self.embeddings = embeddings
        self.weights = torch.zeros(len(FEATURES) + embeddings, len(PROGRESS))
        self.weights[FEATURES.index("margin"), PROGRESS.index("constant")] = 1
        self.diversity = torch.zeros(len(PROGRESS))
        self.card: dict[str, Any] = {}

    @property
    def wants(self) -> dict[str, bool]:
        """Keywords of the ``al_gym.wrappers.ContextObservation`` that it is for."""
        return {"embeddings": self.embeddings}

    def scores(self, observation: Any) -> np.ndarray:
        """Scores of an observation of ``al_gym.wrappers.ContextObservation``.

        What has been labelled must be zeros in the softmax: ``EnvConfig.labelled_rows="zero"``.

        Args:
            observation: with ``softmax`` (n_u, M), ``class_counts`` (M,), ``labelled_fraction``
                (1,) and, for a policy that takes them, ``embeddings`` (n_u, F).

        Returns:
            (n_u,) float32 in [0, 1]. Samples that have left the pool score 0.

        Raises:
            TypeError: the observation lacks a part, or is no dictionary.
            ValueError: NaN or infinity in it, or parts whose shapes do not fit.
        """
        require(observation if isinstance(observation, Mapping) else (), self.embeddings)
        return self.act(observation, N_RANKED)

    def act(self, observation: Mapping[str, np.ndarray], n_ranked: int) -> np.ndarray:
        """``scores`` with only so many ranked, which is enough if a query takes no more."""
        directions = normalised(observation["embeddings"]) if self.embeddings else None
        pool = describe(observation, directions)
        in_pool = pool.features[FEATURES.index("p1")] > 0
        scores = self.unranked(pool)
        if not scores.isfinite().all():
            raise ValueError("the observation has NaN or infinity in it: correct the environment")
        scores.masked_fill_(~in_pool, -torch.inf)
        n_left = int(in_pool.sum())
        if n_left == 0:
            return np.zeros(len(scores), np.float32)
        low, high = scores[in_pool].aminmax()
        # below those that are ranked; not by a sigmoid, which would make large scores equal
        relative = (scores - low) / (high - low).clamp_min(1e-12)
        action = (0.1 + 0.4 * relative).masked_fill_(~in_pool, 0)
        best = scores.topk(min(N_CANDIDATES, n_left)).indices
        weight = max(0.0, float(self.diversity @ pool.context[: len(PROGRESS)]))
        if weight > 0:
            vectors = similarity_vectors(observation["softmax"], directions, best)
            order = spread_out(scores[best], vectors, weight, n_ranked)
            action[best[order]] = torch.linspace(1, 0.6, len(order))
        return action.numpy()

    def unranked(self, pool: PoolState) -> Tensor:
        """What the weights make of a pool, (n,), before the ranking."""
        return (self.weights @ pool.context[: len(PROGRESS)]) @ pool.features

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: str | Path, card: dict[str, Any]) -> Path:
        """Write weights and card to one safetensors file, and return where it lies.

        Args:
            path: destination; the suffix .safetensors is added if missing.
            card: what is to be known of the policy, in JSON types.
        """
        tree = {
            "format": FORMAT,
            "embeddings": self.embeddings,
            "card": card,
            "weights": self.weights,
            "diversity": self.diversity,
        }
        return checkpoint.write(path, tree)

    @classmethod
    def load(cls, path: str | Path) -> "TransferPolicy":
        """Read what ``save`` has written.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is damaged, or no policy of this format.
        """
        return cls._of(_read(path, FORMAT), path)

    @classmethod
    def _of(cls, saved: dict[str, Any], path: str | Path) -> "TransferPolicy":
        policy = cls(saved["embeddings"])
        _adopt(policy, saved, ("weights", "diversity"), path)
        return policy


class CoveragePolicy(ScoringPolicy):
    """A trained policy for any pool and few labels, always deterministic.

    Some of its weights make it a method that is known: 1 for the margin MS, 1 for the coverage
    MaxHerding, 1 for the uncertain coverage UHerding (at the radius of that feature, and without
    its temperature), 1 for the distance CoreSet, 1 for the typicality a ranking by it.

    Args:
        embeddings: whether it looks at the embeddings of the pool and of the labelled samples;
            otherwise two samples are as near as their softmax vectors, and where the labelled ones
            lie is not known.

    Attributes:
        weights: (K, R), the score is sum_k x_k weights_k . c, with the K features of
            ``coverage.FEATURES`` and c the context's R numbers of ``coverage.REGIME``. A new
            policy's are those of MS.
        card: what is known of the policy, by name.
        memory: of the last episodes; several policies that play the same ones may share it.
    """

    def __init__(self, embeddings: bool = False) -> None:
        self.embeddings = embeddings
        self.weights = torch.zeros(len(coverage.FEATURES), len(coverage.REGIME))
        self.weights[coverage.FEATURES.index("margin"), coverage.REGIME.index("constant")] = 1
        self.card: dict[str, Any] = {}
        self.memory = coverage.Memory()

    @classmethod
    def of(cls, weights: Mapping[str, float], embeddings: bool = False) -> "CoveragePolicy":
        """With given weights of features, by their names, whatever the regime; 0 for the others."""
        policy = cls(embeddings)
        policy.weights.zero_()
        for name, weight in weights.items():
            row = coverage.FEATURES.index(name)
            policy.weights[row, coverage.REGIME.index("constant")] = weight
        return policy

    @property
    def wants(self) -> dict[str, bool]:
        """Keywords of the ``al_gym.wrappers.ContextObservation`` that it is for."""
        return {"embeddings": self.embeddings, "labelled": self.embeddings}

    def scores(self, observation: Any) -> np.ndarray:
        """Scores of an observation of ``al_gym.wrappers.ContextObservation``.

        What has been labelled must be zeros in the softmax: ``EnvConfig.labelled_rows="zero"``.

        Args:
            observation: with ``softmax`` (n_u, M), ``class_counts`` (M,), ``labelled_fraction``
                (1,) and, for a policy that takes them, ``embeddings`` (n_u, F),
                ``labelled_embeddings`` (B, F) and ``labelled_classes`` (B,).

        Returns:
            (n_u,) float32 in [0, 1]. Samples that have left the pool score 0.

        Raises:
            TypeError: the observation lacks a part, or is no dictionary.
            ValueError: NaN or infinity in it, or parts whose shapes do not fit.
        """
        keys = observation if isinstance(observation, Mapping) else ()
        coverage.require(keys, self.embeddings)
        return self.act(observation, N_RANKED)

    def act(self, observation: Mapping[str, np.ndarray], n_ranked: int) -> np.ndarray:
        """``scores`` with only so many picked, which is enough if a query takes no more."""
        if self.embeddings:
            labelled = self.memory.of(observation)
        else:
            labelled = coverage.by_softmax(observation["softmax"])
        pool, covered = coverage.survey(observation, labelled)
        in_pool = pool.features[FEATURES.index("p1")] > 0
        weights = self.weights @ pool.context[: len(coverage.REGIME)]
        fixed, changing = weights.tensor_split([len(coverage.FIXED)])
        always = fixed @ pool.features[: len(fixed)]
        if not (always + changing @ covered.features)[in_pool].isfinite().all():
            raise ValueError("the observation has NaN or infinity in it: correct the environment")
        always.masked_fill_(~in_pool, -torch.inf)
        order: list[int] = []
        for _ in range(min(n_ranked, int(in_pool.sum()))):
            if order and changing.any():
                covered.pick(order[-1])
            order.append(int(torch.argmax(always + changing @ covered.features)))
            always[order[-1]] = -torch.inf
        return _ranked(always + changing @ covered.features, order, in_pool)

    def save(self, path: str | Path, card: dict[str, Any]) -> Path:
        """Write weights and card to one safetensors file, and return where it lies.

        Args:
            path: destination; the suffix .safetensors is added if missing.
            card: what is to be known of the policy, in JSON types.
        """
        tree = {
            "format": COVERAGE_FORMAT,
            "embeddings": self.embeddings,
            "card": card,
            "features": list(coverage.FEATURES),
            "regime": list(coverage.REGIME),
            "weights": self.weights,
        }
        return checkpoint.write(path, tree)

    @classmethod
    def load(cls, path: str | Path) -> "CoveragePolicy":
        """Read what ``save`` has written.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is damaged, no policy of this format, or one by other features.
        """
        return cls._of(_read(path, COVERAGE_FORMAT), path)

    @classmethod
    def _of(cls, saved: dict[str, Any], path: str | Path) -> "CoveragePolicy":
        for name, known in (("features", coverage.FEATURES), ("regime", coverage.REGIME)):
            if saved.get(name) != list(known):
                raise _unusable(path, f"its {name} are {saved.get(name)}, not {list(known)}")
        policy = cls(saved["embeddings"])
        _adopt(policy, saved, ("weights",), path)
        return policy


PretrainedPolicy = TransferPolicy | CoveragePolicy
"""Either kind."""


def _ranked(scores: Tensor, order: list[int], in_pool: Tensor) -> np.ndarray:
    """The action whose best are those of ``order``, before the others by their scores, (n,)."""
    action = torch.zeros_like(scores)
    others = scores > -torch.inf
    if others.any():
        low, high = scores[others].aminmax()
        # not by a sigmoid, which would make large scores equal
        action[others] = 0.1 + 0.4 * (scores[others] - low) / (high - low).clamp_min(1e-12)
    action[order] = torch.linspace(1, 0.6, len(order))
    return action.numpy()


# --- files ----------------------------------------------------------------------------------------


def load(path: str | Path) -> PretrainedPolicy:
    """A policy from its file, of whichever kind it is.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or no policy.
    """
    kinds: dict[str, type[PretrainedPolicy]] = {
        FORMAT: TransferPolicy,
        COVERAGE_FORMAT: CoveragePolicy,
    }
    saved = _read(path, *kinds)
    return kinds[saved["format"]]._of(saved, path)


def _read(path: str | Path, *expected: str) -> dict[str, Any]:
    """The tree of a policy's file, of one of some formats, with what all policies have."""
    saved = checkpoint.read(path)
    if saved.get("format") not in expected:
        wanted = "one of " * (len(expected) > 1) + " ".join(map(repr, expected))
        raise CheckpointError(f"{path} has format {saved.get('format')!r}, not {wanted}")
    if not isinstance(saved.get("embeddings"), bool) or not isinstance(saved.get("card"), dict):
        raise _unusable(path, "embeddings must be true or false, and the card a dictionary")
    return saved


def _adopt(
    policy: PretrainedPolicy, saved: dict[str, Any], names: tuple[str, ...], path: str | Path
) -> None:
    """Give a new policy the tensors and the card of a file."""
    for name in names:
        expected, found = getattr(policy, name), saved.get(name)
        if not isinstance(found, Tensor):
            raise _unusable(path, f"{name} is no tensor, or is missing: it has no shape")
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise _unusable(
                path,
                f"{name} must be {tuple(expected.shape)} {expected.dtype}, "
                f"not {tuple(found.shape)} {found.dtype}",
            )
        if not found.isfinite().all():
            raise _unusable(path, f"{name} has NaN or infinity in it")
        setattr(policy, name, found)
    policy.card = saved["card"]


def _unusable(path: str | Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is not a policy that can be used: {why}")


# --- a query whose samples are unlike -------------------------------------------------------------


def spread_out(scores: Tensor, vectors: Tensor, weight: float, n: int) -> Tensor:
    """Positions of n samples, each the best by score - weight * similarity to those before it.

    The similarity to several is the greatest; below 0 it counts as 0. The first n of a longer list
    are the list of n.

    Args:
        scores: (m,).
        vectors: (m, F) at length 1; similarities are their products.
        weight: of the penalty.
        n: how many; all m if there are no more.

    Returns:
        (min(n, m),) int64.
    """
    values = scores.clone()
    penalty = torch.zeros_like(scores)
    order = []
    for _ in range(min(n, len(scores))):
        row = int(torch.argmax(values - weight * penalty))
        order.append(row)
        torch.maximum(penalty, vectors @ vectors[row], out=penalty)
        values[row] = -torch.inf
    return torch.tensor(order, dtype=torch.int64)


def load_pretrained(name: str) -> PretrainedPolicy:
    """A policy that comes with the package, such as ``"drla-transfer-v0"``.

    Raises:
        ValueError: there is none of that name.
    """
    return load(pretrained_path(name))


def pretrained_path(name: str) -> Path:
    """The file of a policy that comes with the package; raises as ``load_pretrained`` does."""
    return lookup("pretrained policy", name, pretrained())


def pretrained() -> dict[str, Path]:
    """The files of the policies that come with the package, by name."""
    return {path.stem: path for path in sorted(POLICIES.glob("*.safetensors"))}
