"""One run of Algorithm 1: what it knows and remembers."""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from al_gym import phases, rewards
from al_gym.annotators import (
    Annotator,
    NoisyAnnotator,
    OracleAnnotator,
    checked_annotation,
    checked_answer,
)
from al_gym.classifiers import Classifiers, Lesson
from al_gym.classifiers.counters import Counters
from al_gym.classifiers.torch_state import own_torch_state
from al_gym.config import ClassifierConfig, EnvConfig
from al_gym.data.dataset import UNKNOWN, ImageDataset
from al_gym.episode import Episode, Query, Start
from al_gym.errors import NotFiniteError
from al_gym.metrics import NOT_MEASURED, Evaluation
from al_gym.pool import Pool
from al_gym.task import Task


class Run:
    """One run of Algorithm 1: how far it has come, and what its classifier makes of images.

    This is what wrappers, agents and programs may use beyond the Gymnasium API; they reach it with
    ``env.get_wrapper_attr("run")``. ``Loop`` advances it.

    Args:
        task: the data set and the settings.
        classifiers: those of the loop.
        k: which of them is this run's.
        annotator: who answers; None: the data set's labels, wrong at the rate ``label_noise``.

    Attributes:
        task: with ``dataset`` and ``config``, and the sizes that hold for every seed.
        rng: the generator of everything that is drawn after the start.
        start: the beginning of the episode; None before there is one.
        keeps_predictions: whether evaluations say what class each image was given.
    """

    def __init__(
        self, task: Task, classifiers: Classifiers, k: int = 0, annotator: Annotator | None = None
    ) -> None:
        self.task, self.classifiers, self.k = task, classifiers, k
        self.own_annotator = self.annotator = annotator
        self.rng = np.random.default_rng()
        self.start: Start | None = None
        self._episode: Episode | None = None
        self.keeps_predictions = False

    @property
    def dataset(self) -> ImageDataset:
        """The images."""
        return self.task.dataset

    @property
    def config(self) -> EnvConfig:
        """The settings of the task."""
        return self.task.config

    @property
    def classifier_config(self) -> ClassifierConfig:
        """The settings of the classifier."""
        return self.classifiers.config

    @property
    def n_training(self) -> int:
        """Size of the training set that the episode is about, the images held out apart."""
        return len(self.task.training)

    @property
    @own_torch_state()
    def n_features(self) -> int:
        """F, the size of the classifier's penultimate layer."""
        return self.classifiers.n_features

    @property
    def has_begun(self) -> bool:
        """Whether there has been a reset."""
        return self._episode is not None

    @property
    def is_over(self) -> bool:
        """Whether the budget, or the pool, is used up; False before the first reset."""
        return self._episode is not None and self.task.ends_with(self._episode.pool)

    @property
    def episode(self) -> Episode:
        """The record of the episode: pool, state, query, learning curve.

        Raises:
            gymnasium.error.ResetNeeded: there is none yet.
        """
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self._episode

    @property
    def selected_names(self) -> tuple[str, ...]:
        """Which files were just asked about, best score first: ``ImageDataset.names``."""
        episode = self.episode
        return tuple(self.dataset.names[episode.pool.indices[episode.query.rows]].tolist())

    @property
    def counters(self) -> Counters:
        """Work done since the last ``reset`` or ``step`` began; before, what reading took."""
        return replace(self.classifiers.counters[self.k])

    def start_fingerprint(self) -> str:
        """32 hexadecimal digits of the episode's beginning: initial set and pretrained weights."""
        _ = self.episode
        assert self.start is not None
        digest = hashlib.blake2b(self.start.rows.tobytes(), digest_size=16)
        for name, tensor in self.classifiers.weights(self.start.classifier).items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    # --- what the loop does with it ---------------------------------------------------------------

    def draw_start_seed(self, seed: int | None) -> int:
        """The seed of the next start: the last one's, unless a new one is asked for."""
        if self.start is None or seed is not None or self.config.resample_initial:
            return int(self.rng.integers(2**63))
        return self.start.seed

    def draw_initial_set(self, rng: np.random.Generator) -> np.ndarray:
        """Ascending data-set rows of an initial set, while the classifier is untrained."""
        return self.task.initial_set.draw(rng, partial(self.classifiers.embed, self.k))

    def initial_labels(self, rows: np.ndarray) -> np.ndarray:
        """Classes of an initial set, (n,) int64: the data set's, or the annotator's.

        Raises:
            ValueError: the annotator skips so many that the budget is used up.
        """
        if not self.task.initial_set.is_asked or not len(rows):
            return self.dataset.labels[rows]
        labels = self._ask(rows)
        n_skipped = int((labels == UNKNOWN).sum())
        if self.task.labels_left(len(rows) - n_skipped, n_skipped) == 0:
            raise ValueError(
                f"the annotator skipped {n_skipped} of the {len(rows)} images of the initial set, "
                f"which uses up budget={self.config.budget} at skip_cost={self.config.skip_cost}"
            )
        return labels

    def begin_episode(self) -> None:
        """Set the record to that of an episode that begins at the start."""
        assert self.start is not None
        start = self.start
        pool = Pool.start(self.task.training, start.rows, start.labels, self.rng)
        self._episode = Episode(
            pool=pool,
            step=0,
            softmax=start.softmax,
            query=Query.nothing(self.dataset.n_classes),
            validation=start.validation,
            test=start.test,
            evaluated_at=0,
            curve=((len(pool.labelled), start.test.macro_f1, start.test.micro_f1),),
        )

    def running_episode(self) -> Episode:
        """The record of an episode that is not over.

        Raises:
            gymnasium.error.ResetNeeded: it is over, or there is none.
        """
        episode = self.episode
        if self.is_over:
            raise gym.error.ResetNeeded("the episode is over: the budget is used up; call reset()")
        return episode

    def select(self, scores: np.ndarray) -> np.ndarray:
        """Pool rows of the n_s highest scores, best first; at the end those that are left."""
        pool = self.episode.pool
        return pool.top(scores, min(self.config.query_size, self.task.n_affordable(pool)))

    def annotate(self, rows: np.ndarray) -> np.ndarray:
        """The annotator's classes of pool rows, (n,) int64; -1 where it cannot tell."""
        return self._ask(self.episode.pool.indices[rows])

    def _ask(self, indices: np.ndarray) -> np.ndarray:
        assert self.annotator is not None
        return checked_annotation(self.annotator, indices, self.dataset.n_classes)

    def test_images_due(self, pool: Pool) -> np.ndarray:
        """The test images if a look at them is due after a step that leaves ``pool``, or none."""
        step = self.episode.step + 1
        due = self.task.ends_with(pool) or step % self.config.eval_every == 0
        return self.dataset.test if due else np.array([], np.int64)

    def adopt(
        self,
        pool: Pool,
        softmax: np.ndarray,
        query: Query,
        validation: Evaluation | None,
        test: Evaluation | None,
    ) -> None:
        """Put together the record of a step that has been done, with its reward."""
        before = self.episode
        reward = self._reward(rewards.Outcome(query.sample_rewards, before.validation, validation))
        after = replace(
            before, pool=pool, step=before.step + 1, softmax=softmax, query=query,
            validation=validation, reward=reward,
        )  # fmt: skip
        if test is not None:
            point = (len(pool.labelled), test.macro_f1, test.micro_f1)
            curve = (*before.curve, point)
            after = replace(after, test=test, evaluated_at=after.step, curve=curve)
        self._episode = after

    def _reward(self, outcome: rewards.Outcome) -> float:
        """What the step pays."""
        reward = float(self.task.reward(outcome))
        if not math.isfinite(reward):
            error = NotFiniteError(
                f"reward={self.config.reward!r} paid {reward}: no agent can learn from that. "
                "Correct the function, which must give a finite number for every step"
            )
            error.k = self.k
            raise error
        return reward

    def built_in_annotator(self, rng: np.random.Generator) -> Annotator:
        """The data set's labels, wrong at the rate ``label_noise``."""
        labels, names = self.dataset.labels, self.dataset.names
        if self.config.label_noise == 0:
            return OracleAnnotator(labels, names)
        return NoisyAnnotator(
            labels, self.dataset.n_classes, error_rate=self.config.label_noise,
            seed=int(rng.integers(2**63)), names=names,
        )  # fmt: skip

    def way_back(self) -> Callable[[], None]:
        """A function that brings the run back to where it is now."""
        weights = self.classifiers.state_dict(self.k)
        rng, generator = self.rng, self.rng.bit_generator.state
        kept = self.start, self.annotator, self._episode

        def go_back() -> None:
            self.classifiers.load_state_dict(self.k, weights)
            self.rng = rng
            self.rng.bit_generator.state = generator
            self.start, self.annotator, self._episode = kept

        return go_back

    def keep_predictions(self) -> None:
        """From the next reset on let evaluations say what class each image was given.

        ``episode.test.predicted`` has it for the test images. A byte an image leaves the device at
        each look at them. What the run has done so far is forgotten.
        """
        if not self.keeps_predictions:
            self.keeps_predictions, self.start, self._episode = True, None, None

    # --- beyond the episode -----------------------------------------------------------------------

    @own_torch_state()
    def predict(self, indices: np.ndarray) -> np.ndarray:
        """Softmax of images of the data set, (n, M) float32.

        Raises:
            NotFiniteError: the classifier has diverged.
        """
        _ = self.episode
        if not len(indices):
            return np.zeros((0, self.dataset.n_classes), np.float32)
        return phases.softmax([self], [indices])[0]

    @own_torch_state()
    def embed(self, indices: np.ndarray) -> np.ndarray:
        """Features of the penultimate layer, (n, F) float32, of images of the data set.

        They are what the classifier makes of the images, NaN and infinity included.
        """
        _ = self.episode
        return self.classifiers.embed(self.k, indices)

    @own_torch_state()
    def last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (M, F) and bias (M,) of the classifier's last layer, float32.

        The softmax of ``embed(indices) @ weight.T + bias`` is the prediction.
        """
        _ = self.episode
        return self.classifiers.last_layer(self.k)

    @own_torch_state()
    def predict_with_dropout(self, indices: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Softmax of images of the data set under random dropout masks, (n_draws, n, M) float32.

        Raises:
            ValueError: the network has no dropout.
        """
        _ = self.episode
        rng = np.random.default_rng(seed)
        return self.classifiers.predict_with_dropout(self.k, indices, n_draws, rng)

    @own_torch_state()
    def evaluate_retrained(self, pool: Pool | None = None) -> Evaluation:
        """Evaluate on the test set a fresh classifier trained on what is labelled.

        Args:
            pool: with what is labelled; None: the episode's as it is now.

        It starts from this episode's initial weights and is trained for ``retraining_passes``,
        whatever was labelled in which order. The episode goes on unchanged. Without test images
        all scores are NaN.
        """
        chosen = self.episode.pool if pool is None else pool
        assert self.start is not None
        if not len(self.dataset.test):
            return NOT_MEASURED
        kept = self.classifiers.state_dict(self.k)
        try:
            _, weights_rng, fit_rng, _ = phases.generators(self.start.seed)
            self.classifiers.initialize(self.k, weights_rng)
            lesson = Lesson(self.k, chosen.labelled, chosen.labels, fit_rng)
            self.classifiers.fit([lesson], self.retraining_passes(len(chosen.labelled)))
            (evaluation,) = phases.evaluations([self], [self.dataset.test])
            assert evaluation is not None
            return evaluation
        finally:
            self.classifiers.load_state_dict(self.k, kept)

    @own_torch_state()
    def correct(self, indices: np.ndarray, labels: np.ndarray, retrain: bool = False) -> None:
        """Change labels that the annotator has given: people make up their minds.

        The classifier is trained with the new ones from the next update on.

        Args:
            indices: (n,) different data-set rows that were asked about.
            labels: (n,) their classes now; -1: it cannot be told, after all.
            retrain: do that update now, outside of any step.

        Raises:
            ValueError: an image that was not asked about, or a class that there is not.
            NotFiniteError: the classifier has diverged. Whatever is raised, the run is as it was.
        """
        labels = checked_answer(labels, indices, self.dataset.n_classes)
        pool = self.episode.pool.corrected(indices, labels)
        with unchanged_if_it_fails([self]):
            softmax = self.episode.softmax
            if retrain:
                phases.update([self], [pool])
                (softmax,) = phases.states([self], [pool])
            self._episode = replace(self.episode, pool=pool, softmax=softmax)

    @property
    def online_gradient_steps(self) -> int:
        """Gradient steps of the classifier in an episode up to the budget, if nothing is skipped.

        665 queries of the paper take 77,117; thirty passes over its whole training set, 6,570.
        """
        c, task = self.classifier_config, self.task
        sizes = task.n_initial + task.config.query_size * np.arange(1, task.max_steps + 1)
        updates = np.ceil(np.minimum(sizes, task.n_budget) / c.batch_size).sum()
        pretraining = c.pretrain_passes * math.ceil(task.n_initial / c.batch_size)
        return pretraining + c.update_passes * int(updates)

    def retraining_passes(self, n: int) -> int:
        """Passes over n samples in which a new classifier learns as long as that of an episode.

        They take ``online_gradient_steps``: whatever it is trained on, a classifier that is trained
        less long is no measure of what the labels are worth. With ``update="scratch"`` they are
        ``pretrain_passes``, since the episode's are trained that way; with "newton", which
        converges, their number does not matter.
        """
        c = self.classifier_config
        if c.update == "scratch":
            return c.pretrain_passes
        return math.ceil(self.online_gradient_steps / math.ceil(n / c.batch_size)) if n else 0

    def fully_labelled(self) -> Pool:
        """The pool after a question about all that is left, which the annotator is asked.

        The episode goes on unchanged.

        Raises:
            ValueError: a label is not known, and there is no annotator to ask.
        """
        pool = self.episode.pool
        rest = np.flatnonzero(pool.available)
        return pool.annotated(rest, self.annotate(rest))

    def evaluate_fully_supervised(self) -> Evaluation:
        """``evaluate_retrained`` with ``fully_labelled``: ALL, trained on the whole training set.

        The labels are the annotator's, those of the initial set included; what it skips is left
        out.
        """
        return self.evaluate_retrained(self.fully_labelled())

    @own_torch_state()
    def state_dict(self) -> dict[str, Any]:
        """The running episode, for ``load_state_dict`` in another process.

        A tree of dictionaries, arrays, tensors, numbers and strings. An annotator of one's own
        keeps its own state.
        """
        episode, start = self.episode, self.start
        assert start is not None
        return {
            "start": {
                "seed": start.seed, "labelled": start.rows, "labels": start.labels,
                "is_drawn": start.is_drawn,
            },
            "episode": asdict(episode),
            "classifier": self.classifiers.state_dict(self.k),
            "np_random": self.rng.bit_generator.state,
        }  # fmt: skip

    @own_torch_state()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of a run with the same data set and settings.

        The start is pretrained again, which its seed decides, so that later resets find it; then
        everything is set as it was. On the CPU the episode continues bit for bit.

        Raises:
            ValueError: the state belongs to a pool of another size.
            RuntimeError: it belongs to another network or optimizer; the run stays as it was.
        """
        n_pool = len(state["episode"]["pool"]["indices"])
        if n_pool != self.task.n_pool:
            raise ValueError(
                f"the state has a pool of {n_pool} images, this environment one of "
                f"{self.task.n_pool}"
            )
        # states written before annotators could be asked at the start have but the first two
        start = {"labels": None, "is_drawn": False, **state["start"]}
        with unchanged_if_it_fails([self]):
            phases.pretrain([self], [start["seed"]], start["labelled"], start["labels"])
            assert self.start is not None
            self.start = replace(self.start, is_drawn=start["is_drawn"])
            self.classifiers.load_state_dict(self.k, state["classifier"])
            self.rng.bit_generator.state = state["np_random"]
            self._episode = Episode.from_tree(state["episode"])


@contextlib.contextmanager
def unchanged_if_it_fails(runs: Sequence[Run]) -> Iterator[None]:
    """Weights, momentum, generator and episode of some runs go back if the block raises."""
    # before a run has begun there is nothing to go back to
    ways_back = [run.way_back() for run in runs if run.has_begun]
    try:
        yield
    except BaseException:
        for go_back in ways_back:
            go_back()
        raise
