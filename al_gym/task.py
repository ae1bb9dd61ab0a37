"""What runs of Algorithm 1 on one data set have in common: its sizes, and what may be asked."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from al_gym import rewards
from al_gym.config import EnvConfig
from al_gym.data.dataset import ImageDataset
from al_gym.pool import Pool, per_class_counts, stratified_draw


class Task:
    """A data set and the settings of the task, with everything that holds for every seed.

    Args:
        dataset: the images.
        config: the settings.

    Attributes:
        reward: the function that pays, see ``al_gym.rewards``.
        training: data-set indices that the episode is about.
        validation: those held out for rewards that need it.
        n_initial, n_pool, n_budget: size of the initial labelled set, of the pool, and of the
            labelled set at the end.

    Raises:
        ValueError: settings that do not fit the data set.
    """

    def __init__(self, dataset: ImageDataset, config: EnvConfig) -> None:
        self.dataset, self.config = dataset, config
        self.reward = rewards.by_name(config.reward)
        self.training, self.validation = self._divided()
        self._initial_counts = per_class_counts(
            dataset.labels[self.training], dataset.class_names, config.initial_fraction
        )
        self.n_initial = sum(self._initial_counts)
        self.n_pool = len(self.training) - self.n_initial
        self.n_budget = round(config.budget * len(self.training))
        if config.query_size > self.n_pool:
            raise ValueError(
                f"query_size={config.query_size} is larger than the pool of {self.n_pool} images"
            )
        if self.n_budget <= self.n_initial:
            raise ValueError(
                f"budget={config.budget} allows {self.n_budget} labels; the initial set alone has "
                f"{self.n_initial}. Raise budget or lower initial_fraction"
            )

    def _divided(self) -> tuple[np.ndarray, np.ndarray]:
        """The training set without, and with, what is held out of it."""
        dataset, fraction = self.dataset, self.config.validation_fraction
        if fraction is None:
            fraction = 0.1 if self.reward in rewards.NEED_VALIDATION else 0.0
        if fraction == 0:
            return dataset.train, np.array([], np.int64)
        labels = dataset.labels[dataset.train]
        counts = per_class_counts(labels, dataset.class_names, fraction)
        held_out = stratified_draw(dataset.train, labels, counts, np.random.default_rng(0))
        return np.setdiff1d(dataset.train, held_out), held_out

    @property
    def max_steps(self) -> int:
        """Steps in an episode."""
        return math.ceil((self.n_budget - self.n_initial) / self.config.query_size)

    def ends_with(self, pool: Pool) -> bool:
        """Whether the budget is used up by what a pool has labelled."""
        return len(pool.labelled) >= self.n_budget

    def initial_set(self, rng: np.random.Generator) -> np.ndarray:
        """Draw an initial labelled set: ascending data-set indices, each class its share."""
        labels = self.dataset.labels[self.training]
        return stratified_draw(self.training, labels, self._initial_counts, rng)

    def checked_options(self, options: Mapping[str, Any] | None) -> np.ndarray | None:
        """The initial labelled set that options of ``reset`` ask for, if they do.

        Raises:
            ValueError: an unknown option, or indices that cannot be the initial set.
        """
        options = options or {}
        unknown = set(options) - {"labelled"}
        if unknown:
            raise ValueError(f"unknown reset options {sorted(unknown)}; there is 'labelled'")
        if options.get("labelled") is None:
            return None
        indices = np.asarray(options["labelled"])
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise ValueError("options['labelled'] must be a list of data-set rows")
        if len(indices) != self.n_initial or len(np.unique(indices)) != len(indices):
            raise ValueError(
                f"options['labelled'] has {len(indices)} rows, {len(np.unique(indices))} of them "
                f"different; the initial set of this environment has {self.n_initial}, "
                "which initial_fraction decides"
            )
        outside = np.setdiff1d(indices, self.training)
        if len(outside):
            raise ValueError(f"options['labelled']: row {outside[0]} is not in the training set")
        # raises for a class that has no sample among them
        per_class_counts(self.dataset.labels[indices], self.dataset.class_names, 1.0)
        return np.sort(indices)

    def checked_action(self, action: np.ndarray) -> np.ndarray:
        """The action as (n_u,) float64.

        Raises:
            ValueError: a wrong shape, NaN or infinity in it.
        """
        scores = np.asarray(action, dtype=np.float64)
        if scores.shape != (self.n_pool,):
            raise ValueError(
                f"the action has shape {scores.shape}; it must be {(self.n_pool,)}, "
                "one score for each pool row"
            )
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise ValueError(
                f"the action holds {scores[wrong[0]]} at pool row {wrong[0]} "
                f"({len(wrong)} values are not finite); every score must be a number"
            )
        return scores
