"""Active-learning tasks to train policies on: cheap, many, and unlike one another.

A task is drawn from a family's training side: some of its classes, a class balance, a training and
a validation set from different scans, patients or photographs, an initial fraction, a query size,
and sometimes an annotator who errs. Its episodes are those of ``ActiveLearningEnv`` with a linear
head on frozen features, many side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from al_gym import ActiveLearningEnv, ClassifierConfig, EnvConfig, ImageDataset
from al_gym.classifiers import LinearHeads
from al_gym.env import outcome
from al_gym.loop import Loop
from al_gym.run import Run
from al_gym.task import Task as EnvironmentTask
from al_gym.wrappers import ContextObservation
from benchmarks.training.families import Features

Signal = Literal["aulc", "loss", "eq3"]
"""What an episode is worth: the area under the curve of macro F1 on the validation images, minus
that of their cross-entropy, or the mean reward of Eq. 3."""


class Playable(Protocol):
    """A policy that can take part."""

    @property
    def wants(self) -> Mapping[str, bool]:
        """Keywords of the ``ContextObservation`` that it is for."""

    def act(self, observation: dict[str, np.ndarray], n_ranked: int) -> np.ndarray:
        """From an observation and n_s to scores, (n_u,)."""


VALIDATION_SHARE = 0.3
"""Of the groups; a task's validation images come from these."""
N_DIVISIONS = 1000
"""Tried to find sides that have enough of every class."""
FEWEST = 6
"""Images of a class in the training set, and in the validation set."""
FEW_PER_CLASS = 20
"""Labels: what a task with few of them goes on to."""
ON_TO = 0.4
"""Of the training images: what a task with more of them goes on to."""
MOST_QUERIES = 24
"""Of a task."""
CLASSIFIER = ClassifierConfig(
    trainable="head", device="cpu", optimizer="newton", weight_decay=0.1, class_weights="balanced"
)
"""What experiments with few labels train, too."""


@dataclass(frozen=True)
class Task:
    """What all episodes of one comparison have in common."""

    family: str
    draw: int
    """Which of its training sides it is of."""
    config: EnvConfig
    classifier: ClassifierConfig
    labels: np.ndarray
    """(N,) int64 of the family's images; those outside ``classes`` are not used."""
    n_classes: int
    seeds: tuple[int, ...]
    """Of the environment, one a start; never those that experiments count from 0."""
    train: tuple[np.ndarray, ...]
    """Rows of the training set of each start, equal numbers of each class."""
    validation: tuple[np.ndarray, ...]
    """Rows of the validation set of each start, in the order of the classes."""


def draw_task(
    family: str,
    draws: Sequence[Features],
    n_starts: int,
    rng: np.random.Generator,
    n_most: int = 500,
) -> Task:
    """A random task of a family.

    Two of three begin with one label of each class, or with none, and go on to ``FEW_PER_CLASS``
    labels per class at most; the others begin with half of those and go on to ``ON_TO`` of the
    images. No task has more than ``MOST_QUERIES``.

    Args:
        family: its name.
        draws: its training sides, one of which is taken.
        n_starts: of the task; each has images of its own.
        rng: decides everything.
        n_most: images in a training set; it has half of them at least, if there are as many.
    """
    draw = int(rng.integers(len(draws)))
    features = draws[draw]
    counts = np.bincount(features.labels)
    present = np.flatnonzero(counts >= 3 * FEWEST)
    classes = present
    if len(present) > 2 and rng.random() < 0.3:
        n_kept = int(rng.integers(2, len(present)))
        classes = np.sort(rng.choice(present, n_kept, replace=False))
    relabel = np.full(len(counts), -1)
    relabel[classes] = np.arange(len(classes))
    labels = relabel[features.labels]
    sides = [_sides(features, labels, len(classes), rng) for _ in range(n_starts)]
    natural = np.bincount(labels[labels >= 0]) / (labels >= 0).sum()
    share = natural ** (1.0 if rng.random() < 0.5 else rng.uniform(0, 1.3))
    n_train = float(rng.uniform(n_most / 2, n_most))
    counts_of = [
        _counts(share / share.sum(), n, [side[i] for side in sides], labels, len(classes))
        for i, n in enumerate((n_train, 300.0))
    ]
    train, validation = (
        tuple(_draw(side[i], labels, counts_of[i], rng) for side in sides) for i in range(2)
    )
    noise = float(rng.uniform(0, 0.15)) if rng.random() < 0.2 else 0.0
    config = replace(_budget(len(train[0]), len(classes), rng), label_noise=noise)
    seeds = tuple(rng.integers(2**32, 2**33, n_starts).tolist())
    return Task(family, draw, config, CLASSIFIER, labels, len(classes), seeds, train, validation)


def _budget(n: int, n_classes: int, rng: np.random.Generator) -> EnvConfig:
    """Where a task of n training images begins, how many are asked for at a time, and its end."""
    few = min(FEW_PER_CLASS * n_classes, round(ON_TO * n))
    if rng.random() < 1 / 3:
        initial, budget = few / 2, round(ON_TO * n)
    else:
        initial, budget = n_classes * float(rng.random() < 0.8), round(few * rng.uniform(0.4, 1))
    query_size = int(np.clip(np.ceil((budget - initial) / rng.uniform(8, MOST_QUERIES)), 1, 10))
    budget = min(budget, round(initial) + MOST_QUERIES * query_size)
    size: dict[str, Any] = {"initial_fraction": 1e-6}
    if initial == 0:
        size = {"initial_size": 0}
    elif initial > n_classes:
        size = {"initial_fraction": initial / n}
    return EnvConfig(query_size=query_size, budget=budget, **size)


def _sides(
    features: Features, labels: np.ndarray, n_classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a training and of a validation side without a group in common.

    Raises:
        ValueError: no division was found that leaves every class enough on both sides.
    """
    names = np.unique(features.groups)
    for _ in range(N_DIVISIONS):
        held_out = rng.choice(names, round(VALIDATION_SHARE * len(names)), replace=False)
        mask = np.isin(features.groups, held_out)
        sides = tuple(np.flatnonzero(side & (labels >= 0)) for side in (~mask, mask))
        if all((np.bincount(labels[s], minlength=n_classes) >= FEWEST).all() for s in sides):
            return sides[0], sides[1]
    counts = np.bincount(labels[labels >= 0], minlength=n_classes).tolist()
    raise ValueError(
        f"no way was found to leave {FEWEST} images of every class on both sides, of {counts} "
        f"images of the classes in {len(names)} groups"
    )


def _counts(
    share: np.ndarray, n: float, sides: list[np.ndarray], labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """Images of each class: about ``share * n``, and no more than every side has."""
    there = np.min([np.bincount(labels[side], minlength=n_classes) for side in sides], axis=0)
    return np.clip(np.round(share * n), FEWEST, there).astype(int)


def _draw(
    rows: np.ndarray, labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """So many rows of each class, class by class."""
    return np.concatenate(
        [
            rng.choice(rows[labels[rows] == label], count, replace=False)
            for label, count in enumerate(counts)
        ]
    )


class Episodes:
    """Episodes of a task, side by side; each its own environment and head.

    Args:
        task: the task.
        features: the family's.
        starts: which of the task's each begins from.
        wants: keywords of the ``ContextObservation`` that the policies are for.
    """

    def __init__(
        self, task: Task, features: Features, starts: Sequence[int], wants: Mapping[str, bool]
    ) -> None:
        labels = np.maximum(task.labels, 0)
        n, n_classes = len(labels), task.n_classes
        heads = LinearHeads(features.values, np.arange(n), len(starts), n_classes, task.classifier)
        names = tuple(map(str, range(n_classes)))
        images = np.zeros((n, 1, 1, 1), np.uint8)  # whose features are all that is used
        sides = [
            ImageDataset(
                images, labels, names, np.arange(n),
                np.sort(task.train[start]), task.validation[start], task.family,
            )
            for start in starts
        ]  # fmt: skip
        runs = [Run(EnvironmentTask(side, task.config), heads, k) for k, side in enumerate(sides)]
        self._loop = Loop(runs, heads)
        self.envs = [ActiveLearningEnv.of(self._loop, k) for k in range(len(runs))]
        self._contexts = [ContextObservation(env, **wants) for env in self.envs]
        self._loop.begin({k: task.seeds[start] for k, start in enumerate(starts)})

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up; all end together."""
        return self._loop.runs[0].is_over

    def observations(self) -> list[dict[str, np.ndarray]]:
        """What each agent sees."""
        outcomes = [outcome(run) for run in self._loop.runs]
        return [
            context.in_context(each[0], each[4])
            for context, each in zip(self._contexts, outcomes, strict=True)
        ]

    def step(self, actions: Sequence[np.ndarray]) -> None:
        """A query of each."""
        self._loop.step(dict(enumerate(actions)))

    def worth(self, signal: Signal) -> np.ndarray:
        """What the present step of each is worth by a signal."""
        if signal == "eq3":
            return np.array([run.episode.reward for run in self._loop.runs])
        scores = [run.episode.test for run in self._loop.runs]
        if signal == "loss":
            return np.array([-each.cross_entropy for each in scores])
        return np.array([each.macro_f1 for each in scores])


def play(
    task: Task, features: Features, policies: Sequence[Playable], signals: Sequence[Signal]
) -> np.ndarray:
    """Play a task's starts with each policy.

    Args:
        task: the task.
        features: the training side of its family that it is of.
        policies: who acts.
        signals: what to measure.

    Returns:
        (n_signals, n_policies, n_starts), each the mean of a signal over the steps of an episode.
    """
    n_starts = len(task.seeds)
    wanted = {key for policy in policies for key, wants in policy.wants.items() if wants}
    starts = [*range(n_starts)] * len(policies)
    episodes = Episodes(task, features, starts, dict.fromkeys(wanted, True))
    acting = [policy for policy in policies for _ in range(n_starts)]
    worth = []
    while not episodes.is_over:
        seen = episodes.observations()
        n = task.config.query_size
        episodes.step([who.act(each, n) for who, each in zip(acting, seen, strict=True)])
        worth.append([episodes.worth(signal) for signal in signals])
    return np.mean(worth, axis=0).reshape(len(signals), len(policies), n_starts)
