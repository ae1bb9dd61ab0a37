"""Active learning as a Markov decision process: Algorithm 1 of the paper behind ``gymnasium.Env``.

Wang, Yan, Zhang, Cao, Yang, Ng, "Deep Reinforcement Active Learning for Medical Image
Classification", MICCAI 2020, https://doi.org/10.1007/978-3-030-59710-8_4.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from al_gym import metrics, rendering, rewards, work
from al_gym.annotators import Annotator, NoisyAnnotator, OracleAnnotator, checked_annotation
from al_gym.classifier import Classifier, ClassifierConfig, Snapshot
from al_gym.counters import Counters
from al_gym.data.dataset import ImageDataset
from al_gym.episode import Episode, Query
from al_gym.heads import make_classifiers
from al_gym.pool import Pool, per_class_counts, stratified_draw


@dataclass(frozen=True)
class EnvConfig:
    """The task. What the classifier does is in ``ClassifierConfig``."""

    initial_fraction: float = 0.05
    """Share of each class that is labelled at the start, at least one sample a class."""
    query_size: int = 5
    """n_s, samples annotated in a step."""
    budget: float = 1.0
    """Share of the training set that may be labelled in the end, the initial set included."""
    reward: str | rewards.Reward = "misclassification"
    """A name in ``al_gym.rewards.REWARDS``, or a function of ``rewards.Outcome``."""
    reward_timing: Literal["before_update", "after_update"] = "before_update"
    """Whose predictions Eq. 3 judges: those in S, as r(S, a) is written, or those of the updated
    classifier, as one may read Algorithm 1, line 6."""
    labelled_rows: Literal["zero", "predict"] = "zero"
    """Rows of annotated samples in the observation: zero, or still predicted."""
    validation_fraction: float | None = None
    """Share of each class held out of the training set for rewards that need it; None: 0.1 for
    those, 0 for the others. The images are the same for every seed."""
    label_noise: float = 0.0
    """Probability that the built-in annotator is wrong. The initial set has the true labels."""
    eval_every: int = 1
    """Steps between two looks at the test set; there is always one at the start and the end."""
    resample_initial: bool = False
    """Draw a new initial set at every reset; otherwise only at one with a seed."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: naming the setting and what it may be.
        """
        if not 0 < self.initial_fraction < 1:
            raise ValueError(
                f"initial_fraction must lie between 0 and 1, not {self.initial_fraction}"
            )
        if not 0 < self.budget <= 1:
            raise ValueError(f"budget must lie in (0, 1], not {self.budget}")
        if self.query_size < 1 or self.eval_every < 1:
            raise ValueError("query_size and eval_every must be at least 1")
        if self.reward_timing not in ("before_update", "after_update"):
            raise ValueError(
                f"reward_timing must be before_update or after_update, not {self.reward_timing!r}"
            )
        if self.labelled_rows not in ("zero", "predict"):
            raise ValueError(f"labelled_rows must be zero or predict, not {self.labelled_rows!r}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise must lie in [0, 1], not {self.label_noise}")
        if self.validation_fraction is not None and not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must lie in [0, 1), not {self.validation_fraction}"
            )


@dataclass(frozen=True)
class Start:
    """The beginning of an episode, kept so that the next one need not pretrain again."""

    seed: int
    labelled: np.ndarray
    weights: Snapshot
    softmax: np.ndarray
    """(n_u, M) float32, the first state."""
    validation: metrics.Scores | None
    test: metrics.Scores


class ActiveLearningEnv(gym.Env[np.ndarray, np.ndarray]):
    """Choose which images to annotate next; the classifier is retrained on the answers.

    ## Description
    A data set of medical images is split into a small labelled set (X_l, Y_l), a pool X_u of n_u
    images whose labels are hidden, and a test set. In every step the agent scores the pool, the
    n_s images with the highest scores are annotated, and the classifier is trained on with the
    enlarged labelled set.

    ## Action Space
    `Box(0, 1, (n_u,), float32)`: a score for each pool row. Rows already annotated are excluded;
    the others are ranked in descending order and the first n_s are annotated. Only the order
    counts. Equal scores are ranked in a random order of the pool that is drawn at reset, since
    clipped noisy scores tie at 0 and 1 all the time.

    ## Observation Space
    `Box(0, 1, (n_u, M), float32)`, the state S of Eq. 2: row i is the classifier's softmax of pool
    row i over the M classes. A row of zeros has left the pool (`labelled_rows="predict"` keeps
    predicting it). n_u is the size of the pool at the start and is fixed.

    ## Rewards
    Eq. 3 (`reward="misclassification"`): the mean over the annotated samples of Pr(predicted
    class) - Pr(true class), from the predictions in S, before the update. It is in [0, 1).
    `reward_timing="after_update"` judges the updated classifier instead. `"f1_gain"` and
    `"loss_gain"` measure on images held out of the training set, never on the test set.

    ## Starting State
    Of each class, `round(initial_fraction * count)` samples, at least one, are labelled, and a
    freshly initialised classifier is pretrained on them for `pretrain_passes`. Both depend on the
    seed alone, so that all methods compared on one seed start alike. A reset without a seed finds
    the same initial set and restores the pretrained weights; `resample_initial=True` draws anew.
    `reset(options={"labelled": rows})` starts from the given data-set rows, as many as the initial
    set has.

    ## Episode End
    `terminated` when the budget, or the pool, is used up; the last query takes what is left. Never
    `truncated`: the budget is part of the task.

    ## Information
    `reset` and `step` return in `info`:

    | key | value |
    |---|---|
    | `labelled_fraction` | labelled share of the training set (held-out images apart) |
    | `n_labelled` | number of labelled samples |
    | `macro_f1`, `micro_f1` | on the test set; the last known values between two looks |
    | `evaluated_at` | the step after which they were measured |
    | `selected` | (n_s,) int64, pool rows just annotated, best score first; empty after `reset` |
    | `sample_rewards` | (n_s,) float32, the summands of Eq. 3 |
    | `available` | (n_u,) bool, pool rows not annotated yet |
    | `dataset` | where the images come from |

    Beyond the standard API, reached with `get_wrapper_attr`: `max_steps`, the length of an
    episode; `query_size`, n_s; `dataset`; `pool_indices` and `labelled`, which data-set rows are
    which; `embed()`, `pool_embeddings()` and `predict_with_dropout()`, what the classifier makes of
    images; `retrained_scores()` and `fully_supervised_scores()`; `state_dict()` and
    `load_state_dict()`, to go on in another process; `start_fingerprint()`; `classifier`, and
    `counters`, the work done.

    ## Arguments
    `gymnasium.make("ActiveLearning-chestCT-v0", ...)` takes `profile`, `root`, every field of
    `EnvConfig` and `ClassifierConfig`, and every argument of the data set's reader by keyword; see
    `al_gym.make.make_env`. The class itself takes

    Args:
        dataset: the images.
        config: the task.
        classifier: the classifier's settings.
        annotator: who answers; None: the data set's labels, wrong at the rate `label_noise`.
        learner: the classifier itself, from `al_gym.heads.make_classifiers`, where several
            environments share their images; None: one of its own.
        render_mode: "rgb_array", a sheet of the images just queried beside the learning curve;
            "ansi", a line of text.

    Raises:
        ValueError: settings that do not fit the data set.

    ## Version History
    * v0: initial version
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        dataset: ImageDataset,
        config: EnvConfig | None = None,
        classifier: ClassifierConfig | None = None,
        *,
        annotator: Annotator | None = None,
        learner: Classifier | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.config = config or EnvConfig()
        self.render_mode = render_mode
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode must be one of {self.metadata['render_modes']}, not {render_mode!r}"
            )
        if annotator is not None and self.config.label_noise > 0:
            raise ValueError("label_noise belongs to the built-in annotator; give one of the two")
        self._own_annotator = annotator
        self._reward = rewards.by_name(self.config.reward)
        self._divide_training_set()
        n_u, n_classes = self._n_pool, dataset.n_classes
        self.observation_space = spaces.Box(0.0, 1.0, (n_u, n_classes), np.float32)
        self.action_space = spaces.Box(0.0, 1.0, (n_u,), np.float32)
        self.classifier_config = classifier or ClassifierConfig()
        if learner is None:
            (learner,) = make_classifiers(
                dataset.images, n_classes, dataset.train, self.classifier_config
            )
        self._classifier = learner
        self._classifier.counters.files_decoded = dataset.files_decoded
        self._test_labels = dataset.labels[dataset.test]
        self._validation_labels = dataset.labels[self._validation_rows]
        self._start: Start | None = None
        self._episode: Episode | None = None

    def _divide_training_set(self) -> None:
        """Hold out the validation images and fix all sizes, which hold for every seed."""
        config, names = self.config, self.dataset.class_names
        rows = self.dataset.train
        fraction = config.validation_fraction
        if fraction is None:
            fraction = 0.1 if self._reward in rewards.NEED_VALIDATION else 0.0
        self._validation_rows = np.array([], np.int64)
        if fraction > 0:
            labels = self.dataset.labels[rows]
            self._validation_rows = stratified_draw(
                rows, labels, per_class_counts(labels, names, fraction), np.random.default_rng(0)
            )
            rows = np.setdiff1d(rows, self._validation_rows)
        self._training_rows = rows
        self._initial_counts = per_class_counts(
            self.dataset.labels[rows], names, config.initial_fraction
        )
        self._n_initial = sum(self._initial_counts)
        self._n_pool = len(rows) - self._n_initial
        self._n_budget = round(config.budget * len(rows))
        if config.query_size > self._n_pool:
            raise ValueError(
                f"query_size={config.query_size} is larger than the pool of {self._n_pool} images"
            )
        if self._n_budget <= self._n_initial:
            raise ValueError(
                f"budget={config.budget} allows {self._n_budget} labels; the initial set alone has "
                f"{self._n_initial}. Raise budget or lower initial_fraction"
            )

    @property
    def n_training(self) -> int:
        """Size of the training set that the episode is about, the images held out apart."""
        return len(self._training_rows)

    @property
    def max_steps(self) -> int:
        """Steps in an episode."""
        return math.ceil((self._n_budget - self._n_initial) / self.config.query_size)

    @property
    def query_size(self) -> int:
        """n_s, samples annotated in a step."""
        return self.config.query_size

    @property
    def has_begun(self) -> bool:
        """Whether there has been a reset."""
        return self._episode is not None

    @property
    def is_over(self) -> bool:
        """Whether the budget, or the pool, is used up; False before the first reset."""
        return self._episode is not None and len(self._episode.pool.labelled) >= self._n_budget

    # --- Algorithm 1 ------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: pretrain the classifier on the initial labelled set, compute S.

        Args:
            seed: draws a new initial set and new weights, and decides the whole trajectory.
            options: ``{"labelled": rows}``, data-set rows to start from instead.

        Raises:
            ValueError: an unknown option, or rows that cannot be the initial set.
        """
        with self.unchanged_if_it_fails():
            beginning = self.beginning(seed=seed, options=options)
            self.adopt(*work.run([self._classifier], [beginning]))
        observation, _, _, _, info = self.outcome()
        return observation, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Annotate the n_s best-scored samples and train on: lines 3 to 6 and 2 of Algorithm 1.

        A step that raises leaves the environment as it was.

        Args:
            action: (n_u,) finite scores.

        Returns:
            S' (n_u, M), the reward, terminated, False, info.

        Raises:
            ValueError: a wrong shape, NaN or infinity in the action; an answer of the annotator
                that is no class.
            gymnasium.error.ResetNeeded: the episode is over, or has not begun.
            FloatingPointError: the classifier has diverged.
        """
        with self.unchanged_if_it_fails():
            self.adopt(*work.run([self._classifier], [self.transition(action)]))
        return self.outcome()

    def beginning(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> work.Program[Episode]:
        """``reset`` up to its work: what ``ActiveLearningVectorEnv`` runs for many at once."""
        given = self._given_initial_set(options)
        super().reset(seed=seed)
        self._classifier.counters = Counters()
        start_seed = None if self._start is None else self._start.seed
        if start_seed is None or seed is not None or self.config.resample_initial:
            start_seed = int(self.np_random.integers(2**63))
        start = yield from self._begin(start_seed, given)
        pool = Pool.start(
            self._training_rows, start.labelled, self.dataset.labels[start.labelled], self.np_random
        )
        nothing = Query(
            np.array([], np.int64),
            np.array([], np.int64),
            np.zeros((0, self.dataset.n_classes), np.float32),
            np.array([], np.float32),
        )
        return Episode(
            pool=pool,
            step=0,
            softmax=start.softmax,
            query=nothing,
            validation=start.validation,
            test=start.test,
            evaluated_at=0,
            curve=((len(start.labelled), start.test.macro_f1, start.test.micro_f1),),
        )

    def transition(self, action: np.ndarray) -> work.Program[Episode]:
        """``step`` up to its work: lines 3 to 6 and 2 of Algorithm 1."""
        before = self._running_episode()
        scores = self._checked_scores(action)
        self._classifier.counters = Counters()
        # line 3: select n_s samples
        n_left = self._n_budget - len(before.pool.labelled)
        rows = before.pool.top(scores, min(self.config.query_size, n_left))
        # line 4: annotate them
        indices = before.pool.indices[rows]
        labels = checked_annotation(self._annotator, indices, self.dataset.n_classes)
        pool = before.pool.annotated(rows, labels)
        # line 5: update the classifier with the enlarged labelled set
        passes = self._classifier.prepare_update(self.np_random)
        yield work.Fit(pool.labelled, pool.labels, passes, self.np_random)
        # line 2 of the next epoch: the new state S'
        softmax = yield from self._state(pool.indices, pool.available)
        # line 6: the reward, Eq. 3
        judged = before.softmax[rows]
        if self.config.reward_timing == "after_update":
            judged = yield work.Predict(indices)
        query = Query(rows, labels, judged, rewards.sample_rewards(judged, labels))
        validation = yield from self._validation_scores()
        reward = self._reward(rewards.Outcome(query.sample_rewards, before.validation, validation))
        step = before.step + 1
        test, evaluated_at, curve = before.test, before.evaluated_at, before.curve
        if len(pool.labelled) >= self._n_budget or step % self.config.eval_every == 0:
            test, evaluated_at = (yield from self._test_scores()), step
            curve = (*curve, (len(pool.labelled), test.macro_f1, test.micro_f1))
        return Episode(
            pool, step, softmax, query, validation, test, evaluated_at, curve, float(reward)
        )

    def adopt(self, episode: Episode) -> None:
        """Take what ``beginning`` or ``transition`` has returned for the present state."""
        self._episode = episode

    def outcome(self) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """What the last ``step`` has brought."""
        episode = self._begun_episode()
        return episode.softmax.copy(), episode.reward, self.is_over, False, self._info(episode)

    # --- beyond the standard API ------------------------------------------------------------------

    @property
    def classifier(self) -> Classifier:
        """The classifier itself, to look at."""
        return self._classifier

    @property
    def counters(self) -> Counters:
        """Work done since the last ``reset`` or ``step`` began; before, what reading took."""
        return replace(self._classifier.counters)

    @property
    def scores(self) -> metrics.Scores:
        """On the test set, when it was last looked at."""
        return self._begun_episode().test

    @property
    def episode(self) -> Episode:
        """The record of the episode; ``adopt`` takes it back."""
        return self._begun_episode()

    @property
    def pool_indices(self) -> np.ndarray:
        """(n_u,) int64, the data-set row of every pool row."""
        return self._begun_episode().pool.indices.copy()

    @property
    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Data-set rows (n_l,) in the order of their annotation, and their labels (n_l,)."""
        pool = self._begun_episode().pool
        return pool.labelled.copy(), pool.labels.copy()

    def embed(self, indices: np.ndarray) -> np.ndarray:
        """Features of the penultimate layer, (n, F) float32, of the data-set rows ``indices``."""
        self._begun_episode()
        return self._classifier.embed(indices)

    def pool_embeddings(self) -> np.ndarray:
        """Features of the penultimate layer of every pool row, (n_u, F) float32; computed now."""
        return self.embed(self._begun_episode().pool.indices)

    def predict_with_dropout(self, indices: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Softmax of data-set rows under random dropout masks, (n_draws, n, M) float32.

        Raises:
            ValueError: the network has no dropout.
        """
        self._begun_episode()
        rng = np.random.default_rng(seed)
        return self._classifier.predict_with_dropout(indices, n_draws, rng)

    def retrained_scores(self) -> metrics.Scores:
        """Test scores of a fresh classifier trained on what is labelled now.

        It starts from this episode's initial weights and is trained for ``pretrain_passes``,
        whatever was labelled in which order. The episode goes on unchanged.
        """
        return self._retrained_scores(self._begun_episode().pool)

    def fully_supervised_scores(self) -> metrics.Scores:
        """Test scores of a classifier trained on the whole training set: the paper's ALL.

        It is trained as ``retrained_scores`` does, with the annotator's labels, the initial set's
        true ones included. The episode goes on unchanged.
        """
        pool = self._begun_episode().pool
        rest = pool.indices[pool.available]
        labels = checked_annotation(self._annotator, rest, self.dataset.n_classes)
        return self._retrained_scores(pool.annotated(np.flatnonzero(pool.available), labels))

    def start_fingerprint(self) -> str:
        """32 hexadecimal digits of the episode's beginning: initial set and pretrained weights."""
        self._begun_episode()
        assert self._start is not None
        digest = hashlib.blake2b(self._start.labelled.tobytes(), digest_size=16)
        for name, tensor in self._start.weights.weights.items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """The running episode, for ``load_state_dict`` in another process.

        A tree of dictionaries, arrays, tensors, numbers and strings. An annotator of one's own
        keeps its own state.
        """
        episode = self._begun_episode()
        assert self._start is not None
        return {
            "start": {"seed": self._start.seed, "labelled": self._start.labelled},
            "episode": asdict(episode),
            "classifier": self._classifier.state_dict(),
            "np_random": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of an environment with the same data set and settings.

        The start is pretrained again, which its seed decides, so that later resets find it; then
        everything is set as it was. On the CPU the episode continues bit for bit.

        Raises:
            ValueError: the state belongs to a pool of another size.
        """
        episode = state["episode"]
        n_pool = len(episode["pool"]["indices"])
        if n_pool != self._n_pool:
            raise ValueError(
                f"the state has a pool of {n_pool} images, this environment one of {self._n_pool}"
            )
        start = self._begin(state["start"]["seed"], state["start"]["labelled"])
        work.run([self._classifier], [start])
        self._classifier.load_state_dict(state["classifier"])
        self.np_random = np.random.default_rng()
        self.np_random.bit_generator.state = state["np_random"]
        scores = {
            name: None if episode[name] is None else metrics.Scores(**episode[name])
            for name in ("validation", "test")
        }
        parts = {"pool": Pool(**episode["pool"]), "query": Query(**episode["query"])}
        curve = tuple(tuple(point) for point in episode["curve"])
        self._episode = Episode(**{**episode, **scores, **parts, "curve": curve})

    def render(self) -> Any:
        """The last query and the learning curve, in the way of ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode, as in gym.make(id, render_mode='ansi')")
            return None
        episode = self._begun_episode()
        if self.render_mode == "ansi":
            return rendering.line(episode, self.max_steps, self.n_training)
        return rendering.sheet(episode, self.dataset)

    # --- parts ------------------------------------------------------------------------------------

    def _begin(self, seed: int, given: np.ndarray | None) -> work.Program[Start]:
        """Initialise and pretrain for this start, or restore the weights if it is the last one."""
        split_rng, weights_rng, fit_rng, noise_rng = _generators(seed)
        labelled = given
        if labelled is None:
            labels = self.dataset.labels[self._training_rows]
            labelled = stratified_draw(self._training_rows, labels, self._initial_counts, split_rng)
        last = self._start
        if last is not None and last.seed == seed and np.array_equal(last.labelled, labelled):
            self._classifier.restore(last.weights)
            return last
        self._classifier.initialise(weights_rng)
        passes = self._classifier.config.pretrain_passes
        yield work.Fit(labelled, self.dataset.labels[labelled], passes, fit_rng)
        self._annotator = self._own_annotator or self._built_in_annotator(noise_rng)
        indices = np.setdiff1d(self._training_rows, labelled)
        self._start = Start(
            seed,
            labelled,
            self._classifier.snapshot(),
            (yield from self._state(indices, np.ones(len(indices), bool))),
            (yield from self._validation_scores()),
            (yield from self._test_scores()),
        )
        return self._start

    def _retrained_scores(self, pool: Pool) -> metrics.Scores:
        """Test scores after training this start's initial weights on what ``pool`` has labelled."""
        assert self._start is not None
        kept = self._classifier.snapshot()
        try:
            _, weights_rng, fit_rng, _ = _generators(self._start.seed)
            self._classifier.initialise(weights_rng)
            passes = self._classifier.config.pretrain_passes
            self._classifier.fit(pool.labelled, pool.labels, passes, fit_rng)
            (scores,) = work.run([self._classifier], [self._test_scores()])
            return scores
        finally:
            self._classifier.restore(kept)

    def _built_in_annotator(self, rng: np.random.Generator) -> Annotator:
        labels, noise = self.dataset.labels, self.config.label_noise
        if noise == 0:
            return OracleAnnotator(labels)
        seed = int(rng.integers(2**63))
        return NoisyAnnotator(labels, self.dataset.n_classes, error_rate=noise, seed=seed)

    def _state(self, indices: np.ndarray, available: np.ndarray) -> work.Program[np.ndarray]:
        """S, Eq. 2: the softmax of the pool; rows that have left it are zero and cost nothing."""
        if self.config.labelled_rows == "predict" or available.all():
            return (yield work.Predict(indices))
        softmax = np.zeros((self._n_pool, self.dataset.n_classes), np.float32)
        if available.any():
            softmax[available] = yield work.Predict(indices[available])
        return softmax

    def _test_scores(self) -> work.Program[metrics.Scores]:
        return (yield work.Score(self.dataset.test, self._test_labels))

    def _validation_scores(self) -> work.Program[metrics.Scores | None]:
        if not len(self._validation_rows):
            return None
        return (yield work.Score(self._validation_rows, self._validation_labels))

    def _info(self, episode: Episode) -> dict[str, Any]:
        n_labelled = len(episode.pool.labelled)
        return {
            "labelled_fraction": n_labelled / self.n_training,
            "n_labelled": n_labelled,
            "macro_f1": episode.test.macro_f1,
            "micro_f1": episode.test.micro_f1,
            "evaluated_at": episode.evaluated_at,
            "selected": episode.query.rows.copy(),
            "sample_rewards": episode.query.sample_rewards.copy(),
            "available": episode.pool.available.copy(),
            "dataset": self.dataset.source,
        }

    @contextlib.contextmanager
    def unchanged_if_it_fails(self) -> Iterator[None]:
        """Weights, optimiser, generator and episode go back if the block raises."""
        if self._episode is None:  # there is nothing yet
            yield
            return
        weights = self._classifier.snapshot()
        generator = self.np_random.bit_generator.state
        kept = self._start, self._annotator, self._episode
        try:
            yield
        except BaseException:
            self._classifier.restore(weights)
            self.np_random.bit_generator.state = generator
            self._start, self._annotator, self._episode = kept
            raise

    def _begun_episode(self) -> Episode:
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self._episode

    def _running_episode(self) -> Episode:
        episode = self._begun_episode()
        if self.is_over:
            raise gym.error.ResetNeeded("the episode is over: the budget is used up; call reset()")
        return episode

    def _checked_scores(self, action: np.ndarray) -> np.ndarray:
        scores = np.asarray(action, dtype=np.float64)
        if scores.shape != self.action_space.shape:
            raise ValueError(
                f"the action has shape {scores.shape}; it must be {self.action_space.shape}, "
                "one score a pool row"
            )
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise ValueError(
                f"the action holds {scores[wrong[0]]} at pool row {wrong[0]} "
                f"({len(wrong)} values are not finite); every score must be a number"
            )
        return scores

    def _given_initial_set(self, options: dict[str, Any] | None) -> np.ndarray | None:
        options = options or {}
        unknown = set(options) - {"labelled"}
        if unknown:
            raise ValueError(f"unknown reset options {sorted(unknown)}; there is 'labelled'")
        if options.get("labelled") is None:
            return None
        rows = np.asarray(options["labelled"])
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise ValueError("options['labelled'] must be a list of data-set rows")
        if len(rows) != self._n_initial or len(np.unique(rows)) != len(rows):
            raise ValueError(
                f"options['labelled'] has {len(rows)} rows, {len(np.unique(rows))} of them "
                f"different; the initial set of this environment has {self._n_initial}, "
                "which initial_fraction decides"
            )
        outside = np.setdiff1d(rows, self._training_rows)
        if len(outside):
            raise ValueError(f"options['labelled']: row {outside[0]} is not in the training set")
        # raises for a class that has no sample among them
        per_class_counts(self.dataset.labels[rows], self.dataset.class_names, 1.0)
        return np.sort(rows)


def _generators(seed: int) -> list[np.random.Generator]:
    """What a start needs, each independent: initial set, weights, pretraining, annotator."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]
