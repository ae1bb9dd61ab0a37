"""A policy that was trained elsewhere and is applied unchanged: ``drla-transfer``.

    import agents

    policy = agents.load_pretrained("drla-transfer-v0")
    env = al_gym.wrappers.ContextObservation(env)
    action, _ = policy.predict(observation)

The score of a sample is a sum of its features (``pool_features.describe``), whose weights follow
the progress of the episode. The best are then ranked so that the samples of a query are unlike:
each next has the greatest score less a penalty for its similarity to those before it (maximal
marginal relevance: Carbonell and Goldstein, SIGIR 1998). ``benchmarks.train_policy`` trains such
policies.
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
from agents.sets.pool_features import (
    FEATURES,
    PROGRESS,
    PoolState,
    describe,
    normalised,
    require,
    similarity_vectors,
)

FORMAT = "drla-transfer 2"
"""Of a policy's file; raised when an older program could not read it."""
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
            ValueError: it is damaged, or no policy of this format.
        """
        saved = checkpoint.read(path)
        if saved.get("format") != FORMAT:
            raise ValueError(f"{path} has format {saved.get('format')!r}, not {FORMAT!r}")
        try:
            if not isinstance(saved["embeddings"], bool) or not isinstance(saved["card"], dict):
                raise TypeError("embeddings must be true or false, and the card a dictionary")
            policy = cls(saved["embeddings"])
            for name in ("weights", "diversity"):
                expected, found = getattr(policy, name), saved[name]
                if found.shape != expected.shape or found.dtype != expected.dtype:
                    raise ValueError(
                        f"{name} must be {tuple(expected.shape)} {expected.dtype}, "
                        f"not {tuple(found.shape)} {found.dtype}"
                    )
                if not found.isfinite().all():
                    raise ValueError(f"{name} has NaN or infinity in it")
                setattr(policy, name, found)
            policy.card = saved["card"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is not a policy that can be used: {error}") from error
        return policy


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


def load_pretrained(name: str) -> TransferPolicy:
    """A policy that comes with the package, such as ``"drla-transfer-v0"``.

    Raises:
        ValueError: there is none of that name.
    """
    return TransferPolicy.load(pretrained_path(name))


def pretrained_path(name: str) -> Path:
    """The file of a policy that comes with the package; raises as ``load_pretrained`` does."""
    known = {path.stem: path for path in POLICIES.glob("*.safetensors")}
    return lookup("pretrained policy", name, known)
