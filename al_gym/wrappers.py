"""Observations beyond the softmax matrix, for agents that use them."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class ContextObservation(
    gym.Wrapper[Any, np.ndarray, np.ndarray, np.ndarray],
    gym.utils.RecordConstructorArgs,
):
    """A dictionary: the softmax matrix, and where in the episode it was taken.

    | key | space | value |
    |---|---|---|
    | `softmax` | `Box(0, 1, (n_u, M))` | the state S of Eq. 2, as without the wrapper |
    | `class_counts` | `Box(0, n, (M,))` | labelled samples of each class |
    | `labelled_fraction` | `Box(0, 1, (1,))` | labelled share of the n training samples |
    | `embeddings` | `Box(-inf, inf, (n_u, F))` | features of the penultimate layer |
    | `labelled_embeddings` | `Box(-inf, inf, (B, F))` | those of the labelled samples |
    | `labelled_classes` | `Box(-1, M - 1, (B,))` | their classes, as the annotator gave them |

    All are float32. `embeddings` and `labelled_...` are there if asked for. B is the budget in
    samples. The labelled samples stand in the order of their annotation, the initial set first;
    rows for which there is none yet are 0, with the class -1. What the annotator skipped is not
    among them. Every agent that takes a `Dict` can have them, Stable-Baselines3's
    `MultiInputPolicy` included.

    Args:
        env: an active-learning environment.
        embeddings: also give the pool's features; they cost a pass over the pool in every step, or,
            with `trainable="head"`, a copy.
        labelled: also give the features and classes of all labelled samples, at the like cost.

    Raises:
        ValueError: the environment is none for active learning.
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, np.ndarray],
        *,
        embeddings: bool = False,
        labelled: bool = False,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self, embeddings=bool(embeddings), labelled=bool(labelled)
        )
        gym.Wrapper.__init__(self, env)
        softmax = env.observation_space
        if not env.has_wrapper_attr("run"):
            raise ValueError(f"ContextObservation is for active-learning environments, not {env}")
        if not isinstance(softmax, spaces.Box) or len(softmax.shape) != 2:
            raise ValueError(
                f"ContextObservation needs the softmax matrix as the environment gives it, not "
                f"{softmax}: put it before wrappers that change observations, such as "
                "FlattenObservation, which takes its dictionary, too, and do without flatten=True"
            )
        self._embeddings, self._labelled = embeddings, labelled
        n_u, n_classes = softmax.shape
        run = env.get_wrapper_attr("run")
        n_training = float(run.n_training)
        parts: dict[str, spaces.Space[Any]] = {
            "softmax": softmax,
            "class_counts": spaces.Box(0.0, n_training, (n_classes,), np.float32),
            "labelled_fraction": spaces.Box(0.0, 1.0, (1,), np.float32),
        }
        if embeddings:
            shape = (n_u, run.n_features)
            parts["embeddings"] = spaces.Box(-np.inf, np.inf, shape, np.float32)
        if labelled:
            n, last = run.task.n_budget, float(n_classes - 1)
            shape = (n, run.n_features)
            parts["labelled_embeddings"] = spaces.Box(-np.inf, np.inf, shape, np.float32)
            parts["labelled_classes"] = spaces.Box(-1.0, last, (n,), np.float32)
        self.observation_space = spaces.Dict(parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """As of the environment, with the context."""
        softmax, info = self.env.reset(seed=seed, options=options)
        return self.in_context(softmax, info), info

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], SupportsFloat, bool, bool, dict[str, Any]]:
        """As of the environment, with the context."""
        softmax, reward, terminated, truncated, info = self.env.step(action)
        return self.in_context(softmax, info), reward, terminated, truncated, info

    def in_context(self, softmax: np.ndarray, info: dict[str, Any]) -> dict[str, np.ndarray]:
        """The dictionary of an observation of the environment and its ``info``."""
        run = self.get_wrapper_attr("run")
        pool = run.episode.pool
        counts = np.bincount(pool.labels, minlength=softmax.shape[1])
        observation = {
            "softmax": softmax,
            "class_counts": counts.astype(np.float32),
            "labelled_fraction": np.array([info["labelled_fraction"]], np.float32),
        }
        if self._embeddings:
            observation["embeddings"] = run.embed(pool.indices)
        if self._labelled:
            n, budget = len(pool.labels), run.task.n_budget
            vectors = np.zeros((budget, run.n_features), np.float32)
            classes = np.full(budget, -1, np.float32)
            if n:
                vectors[:n], classes[:n] = run.embed(pool.labelled), pool.labels
            observation |= {"labelled_embeddings": vectors, "labelled_classes": classes}
        return observation
