"""Algorithm 1 of the paper, for one run or for several side by side.

``Loop.begin`` is its Initialize line, ``Loop.step`` lines 2 to 6 of an epoch; lines 7 to 12 are the
agent's. A single environment is a loop of one run. A vector environment is one of K, whose
classifiers do the same work together.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from al_gym import phases
from al_gym.annotators import Annotator
from al_gym.classifiers import Classifiers, make_classifiers
from al_gym.classifiers.torch_state import own_torch_state
from al_gym.config import ClassifierConfig, EnvConfig
from al_gym.data.dataset import ImageDataset
from al_gym.errors import NotFiniteError
from al_gym.run import Run, unchanged_if_it_fails
from al_gym.task import Task


class Loop:
    """K runs of Algorithm 1, advanced together.

    Args:
        runs: run k is trained with classifier k.
        classifiers: theirs.

    Attributes:
        runs: the K runs, to look at.
    """

    def __init__(self, runs: Sequence[Run], classifiers: Classifiers) -> None:
        self.runs, self.classifiers = tuple(runs), classifiers

    @classmethod
    @own_torch_state()
    def over(
        cls,
        dataset: ImageDataset,
        config: EnvConfig | None = None,
        classifier_config: ClassifierConfig | None = None,
        n_runs: int = 1,
        annotator: Annotator | None = None,
    ) -> "Loop":
        """Runs that share one data set, and its images on the device.

        Args:
            dataset: the images.
            config: the task.
            classifier_config: the classifiers' settings.
            n_runs: K.
            annotator: who answers, for all of them; None: the data set's labels, wrong at the rate
                ``label_noise``.

        Raises:
            ValueError: settings that do not fit the data set.
        """
        task = Task(dataset, config or EnvConfig())
        if annotator is not None and task.config.label_noise > 0:
            raise ValueError("label_noise belongs to the built-in annotator; give one of the two")
        classifiers = make_classifiers(dataset, classifier_config or ClassifierConfig(), n_runs)
        for counters in classifiers.counters:
            counters.files_decoded = dataset.files_decoded
        return cls([Run(task, classifiers, k, annotator) for k in range(n_runs)], classifiers)

    def begin(self, seeds: Mapping[int, int | None], labelled: np.ndarray | None = None) -> None:
        """Initialize: pretrain the classifiers on (X_l, Y_l), and compute the first state S.

        Args:
            seeds: by the number of the run; None goes on with the run's generator.
            labelled: ascending data-set indices of the initial set; None: drawn by the seed.

        Raises:
            NotFiniteError: a classifier has diverged. All runs are as they were.
        """
        runs = [self.runs[k] for k in seeds]
        with self.unchanged_if_it_fails(seeds), self._dated(lambda _: "after pretraining"):
            for run, seed in zip(runs, seeds.values(), strict=True):
                self.classifiers.counters[run.k].clear()
                if seed is not None:
                    run.rng, _ = seeding.np_random(seed)
            phases.pretrain(runs, [run.draw_start_seed(seeds[run.k]) for run in runs], labelled)
            for run in runs:
                run.begin_episode()

    def step(self, actions: Mapping[int, np.ndarray]) -> None:
        """One epoch of Algorithm 1: from the scores of the pool to the next state and the reward.

        Args:
            actions: (n_u,) finite scores, by the number of the run; the other runs stay.

        Raises:
            ValueError: a wrong shape, NaN or infinity in an action; an answer of the annotator
                that is neither a class nor -1. All runs are as they were, whatever is raised.
            gymnasium.error.ResetNeeded: an episode is over, or has not begun.
            NotFiniteError: a classifier has diverged, or a reward is NaN or infinite.
        """
        if not actions:
            return
        runs = [self.runs[k] for k in actions]
        before = [run.running_episode() for run in runs]
        scores = [run.task.checked_action(actions[run.k]) for run in runs]
        now: Callable[[Run], str] = lambda run: f"in step {run.episode.step + 1}"  # noqa: E731
        with self.unchanged_if_it_fails(actions), self._dated(now):
            for run in runs:
                self.classifiers.counters[run.k].clear()
            # line 3: select the n_s unlabelled samples that the actor scores highest
            selected = [run.select(each) for run, each in zip(runs, scores, strict=True)]
            # line 4: annotate them; what the annotator skips leaves the pool without a label
            answers = [run.annotate(rows) for run, rows in zip(runs, selected, strict=True)]
            # line 5: update the classifier with (X_l, Y_l) := (X_l, Y_l) and the new samples
            pools = [
                episode.pool.annotated(rows, labels)
                for episode, rows, labels in zip(before, selected, answers, strict=True)
            ]
            phases.update(runs, pools)
            # line 6, and line 2 of the next epoch: the state S', Eq. 2 ...
            states = phases.states(runs, pools)
            # ... and what the reward r, Eq. 3, is made of
            queries = phases.judged(runs, before, selected, answers)
            validation = phases.evaluations(runs, [run.task.validation for run in runs])
            # beside Algorithm 1: the learning curve
            test = phases.evaluations(
                runs, [run.test_images_due(pool) for run, pool in zip(runs, pools, strict=True)]
            )
            for i, run in enumerate(runs):
                run.adopt(pools[i], states[i], queries[i], validation[i], test[i])

    @contextlib.contextmanager
    def unchanged_if_it_fails(self, ks: Sequence[int] | Mapping[int, Any]) -> Iterator[None]:
        """See ``run.unchanged_if_it_fails``; the block has a PyTorch state of its own."""
        with own_torch_state(), unchanged_if_it_fails([self.runs[k] for k in ks]):
            yield

    @contextlib.contextmanager
    def _dated(self, when: Callable[[Run], str]) -> Iterator[None]:
        """Say when numbers became NaN or infinite and, of several runs, in which."""
        try:
            yield
        except NotFiniteError as error:
            which = f" of environment {error.k}" if len(self.runs) > 1 else ""
            error.args = (f"{when(self.runs[error.k])}{which}: {error}",)
            raise
