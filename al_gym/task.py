"""What runs of Algorithm 1 on one data set have in common: its sizes, and what may be asked."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from al_gym import rewards, starts
from al_gym.config import EnvConfig
from al_gym.data.dataset import UNKNOWN, ImageDataset
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
        initial_set: the images labelled at the start, as far as no seed decides them.
        n_initial, n_pool, n_budget: size of the initial labelled set, of the pool, and of the
            labelled set at the end.

    Raises:
        ValueError: settings that do not fit the data set.
        FileNotFoundError: there is no such file with an initial set.
    """

    def __init__(self, dataset: ImageDataset, config: EnvConfig) -> None:
        self.dataset, self.config = dataset, config
        self.reward = rewards.by_name(config.reward)
        self.training, self.validation = self._divided()
        self.initial_set = starts.initial_set(dataset, self.training, config)
        self.n_initial = self.initial_set.size
        self.n_pool = len(self.training) - self.n_initial
        self.n_budget = self._budget()
        if config.query_size > self.n_pool:
            raise ValueError(
                f"query_size={config.query_size} is larger than the pool of {self.n_pool} images"
            )
        if self.n_budget <= self.n_initial:
            raise ValueError(
                f"budget={config.budget} allows {self.n_budget} labels; the initial set alone has "
                f"{self.n_initial}. Raise budget (an int is a number of images, a float a share of "
                "the training set), or begin with fewer: initial_fraction, initial_size"
            )

    def _budget(self) -> int:
        """Labels at the end.

        Raises:
            ValueError: more than there are images.
        """
        budget, n_training = self.config.budget, len(self.training)
        if not isinstance(budget, int):
            return round(budget * n_training)
        if budget > n_training:
            raise ValueError(f"budget={budget} is more than the {n_training} training images")
        return budget

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
        """Steps in an episode; with a ``skip_cost`` other than 1 skipped images change them."""
        return math.ceil((self.n_budget - self.n_initial) / self.config.query_size)

    def ends_with(self, pool: Pool) -> bool:
        """Whether the budget, or the pool, is used up."""
        return self.n_affordable(pool) == 0

    def n_affordable(self, pool: Pool) -> int:
        """Images of a pool that may still be asked about, if all of them get a label."""
        left = self.labels_left(len(pool.labelled), len(pool.skipped))
        return min(left, int(pool.available.sum()))

    def labels_left(self, n_labelled: int, n_skipped: int) -> int:
        """Labels that the budget still pays for."""
        spent = n_labelled + self.config.skip_cost * n_skipped
        # costs such as 0.1 do not add up to whole numbers exactly
        return max(0, math.floor(self.n_budget - spent + 1e-9))

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
                f"different; the initial set of this environment has {self.n_initial}, which "
                "initial_fraction, initial_size or initial_set decides"
            )
        outside = np.setdiff1d(indices, self.training)
        if len(outside):
            raise ValueError(f"options['labelled']: row {outside[0]} is not in the training set")
        unknown = indices[self.dataset.labels[indices] == UNKNOWN]
        if len(unknown) and not self.initial_set.is_asked:
            raise ValueError(
                f"options['labelled']: the label of {self.dataset.names[unknown[0]]}, row "
                f"{unknown[0]}, is not known; initial_set='random' asks the annotator for it"
            )
        return np.sort(indices).astype(np.int64)

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
