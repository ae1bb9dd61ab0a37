"""Active learning as a Markov decision process: Algorithm 1 of the paper behind ``gymnasium.Env``.

Wang, Yan, Zhang, Cao, Yang, Ng, "Deep Reinforcement Active Learning for Medical Image
Classification", MICCAI 2020, https://doi.org/10.1007/978-3-030-59710-8_4.
"""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from al_gym.annotators import Annotator
from al_gym.config import ClassifierConfig, EnvConfig, plain
from al_gym.data.dataset import ImageDataset
from al_gym.loop import Loop
from al_gym.run import Run


class PlainSpec:
    """The attribute ``spec``, in which ``gymnasium.make`` leaves what it was given.

    Paths and numbers of NumPy's among the keywords become what JSON can hold. Wrappers around the
    environment keep what they were given, so that ``RescaleAction(env, -1, 1)`` goes through JSON,
    and ``RescaleAction(env, np.float32(-1), np.float32(1))`` does not.
    """

    def __get__(self, env: Any, kind: type | None = None) -> EnvSpec | None:
        """The spec of an environment; None without one, and of the class."""
        return None if env is None else vars(env).get("spec")

    def __set__(self, env: Any, spec: EnvSpec | None) -> None:
        """Keep a spec."""
        if spec is not None:
            spec = replace(spec, kwargs={name: plain(value) for name, value in spec.kwargs.items()})
        vars(env)["spec"] = spec


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

    The annotator may answer -1, "I cannot tell". Such an image is skipped: it leaves the pool
    without a label, and costs `skip_cost` labels of the budget. The classifier is then trained on
    with what is labelled, as after every query; as long as nothing is, it stays untrained.

    ## Observation Space
    `Box(0, 1, (n_u, M), float32)`, the state S of Eq. 2: row i is the classifier's softmax of pool
    row i over the M classes. A row of zeros has left the pool, labelled or skipped
    (`labelled_rows="predict"` keeps predicting it). n_u is the size of the pool at the start and is
    fixed.

    ## Rewards
    Eq. 3 (`reward="misclassification"`): the mean over the queried samples of Pr(predicted
    class) - Pr(true class), from the predictions in S, before the update; 0 for a skipped one. It
    is in [0, 1). `reward_timing="after_update"` judges the updated classifier instead. `"f1_gain"`
    and `"loss_gain"` measure on images held out of the training set, never on the test set; they
    need a training image with a known label of every class.

    ## Starting State
    Of each class, `round(initial_fraction * count)` samples, at least one, are labelled, and a
    freshly initialised classifier is pretrained on them for `pretrain_passes`. Both depend on the
    seed alone, so that all methods compared on one seed start alike. A reset without a seed finds
    the same initial set and restores the pretrained weights; `resample_initial=True` draws anew.
    `reset(options={"labelled": rows})` starts from the given data-set rows, as many as the initial
    set has.

    `initial_size` is a number of images in place of the fraction, divided among the classes in
    proportion. With 0 nothing is labelled, and S is the softmax of the untrained classifier.
    `initial_set` chooses others: drawn at random, typical ones, those with a known label, or those
    that a csv file lists. A class may then be absent. The labels of "stratified" and "known" sets
    are the data set's; those of the others are asked of the annotator, who may skip some. Images of
    a start are no part of the pool, skipped or not.

    ## Episode End
    `terminated` when the budget, or the pool, is used up: when it does not pay for one label more,
    or nothing is left to ask about. `budget` counts what is labelled in the end, the initial set
    included: a float is a share of the training set, an int a number of images. The last query
    takes what is left. Never `truncated`: the budget is part of the task. With skipped images an
    episode has `max_steps` steps if `skip_cost` is 1; cheaper ones make it longer, dearer ones
    shorter.

    ## Information
    `reset` and `step` return in `info`:

    | key | value |
    |---|---|
    | `labelled_fraction` | float64, labelled share of the training set (held-out images apart) |
    | `n_labelled` | int64, number of labelled samples |
    | `n_skipped` | int64, number of samples that the annotator skipped |
    | `macro_f1`, `micro_f1` | float64, on the test set when last looked at; NaN without one |
    | `evaluated_at` | int64, the step after which they were measured |
    | `selected` | (n_s,) int64, pool rows just asked about, best score first |
    | `sample_rewards` | (n_s,) float32, their summands of Eq. 3; 0 where skipped |
    | `available` | (n_u,) bool, pool rows not asked about yet |

    Values are arrays and scalars of NumPy. Their shapes and types are the same in every step, so
    that infos can be stacked: after `reset`, and at the end of a query of fewer than n_s samples,
    `selected` is -1 and `sample_rewards` NaN.

    Beyond the standard API, reached with `get_wrapper_attr`, there are `max_steps`, the length of
    an episode; `query_size`, n_s; `selected_names`, which files were just asked about, best score
    first; and `run`, for everything else: the record of the episode and which images of the data
    set its pool rows are, what the classifier makes of images, the evaluation of a classifier
    trained anew, the state to go on from in another process, and the work done. See
    `al_gym.run.Run`.

    ## Arguments
    `gymnasium.make("ActiveLearning-chestCT-v0", ...)` takes `profile`, `root`, every field of
    `EnvConfig` and `ClassifierConfig`, and every argument of the data set's reader by keyword; see
    `al_gym.make.make_env`. The class itself takes

    Args:
        dataset: the images.
        config: the task.
        classifier_config: the classifier's settings.
        annotator: who answers; None: the data set's labels, wrong at the rate `label_noise`. It
            has none for images whose label is not known.
        render_mode: "rgb_array", a sheet of the images just queried beside the learning curve;
            "ansi", a line of text.

    Raises:
        ValueError: settings that do not fit the data set.
        FileNotFoundError: `initial_set` is the path of a file that is not there.

    ## Version History
    * v0: initial version
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1}  # noqa: RUF012
    spec = PlainSpec()
    """What ``gymnasium.make`` was given, in words that JSON has."""

    def __init__(
        self,
        dataset: ImageDataset,
        config: EnvConfig | None = None,
        classifier_config: ClassifierConfig | None = None,
        *,
        annotator: Annotator | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        loop = Loop.over(dataset, config, classifier_config, annotator=annotator)
        self._show(loop, 0, render_mode)

    @classmethod
    def of(cls, loop: Loop, k: int, render_mode: str | None = None) -> "ActiveLearningEnv":
        """The environment that is run k of a loop of several.

        Args:
            loop: the loop.
            k: the number of the run.
            render_mode: see the class.
        """
        check_render_mode(render_mode)
        env = cls.__new__(cls)
        env._show(loop, k, render_mode)
        return env

    def _show(self, loop: Loop, k: int, render_mode: str | None) -> None:
        self._loop, self.run, self.render_mode = loop, loop.runs[k], render_mode
        n_u, n_classes = self.run.task.n_pool, self.run.dataset.n_classes
        self.observation_space = spaces.Box(0.0, 1.0, (n_u, n_classes), np.float32)
        self.action_space = spaces.Box(0.0, 1.0, (n_u,), np.float32)

    @property
    def max_steps(self) -> int:
        """Steps in an episode; see "Episode End" for what skipped images change."""
        return self.run.task.max_steps

    @property
    def query_size(self) -> int:
        """n_s, samples annotated in a step."""
        return self.run.config.query_size

    @property
    def selected_names(self) -> tuple[str, ...]:
        """Which files were just asked about, best score first; empty after ``reset``."""
        return self.run.selected_names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: pretrain the classifier on the initial labelled set, compute S.

        Args:
            seed: draws a new initial set and new weights, and decides the whole trajectory.
            options: ``{"labelled": rows}``, data-set rows to start from instead.

        Raises:
            ValueError: an unknown option, or rows that cannot be the initial set; an annotator that
                has no class for them.
        """
        self._loop.begin({self.run.k: seed}, self.run.task.checked_options(options))
        if seed is not None:
            self._np_random_seed = seed
        observation, _, _, _, info = outcome(self.run)
        return observation, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Annotate the n_s best-scored samples and train on: lines 3 to 6 of Algorithm 1.

        A step that raises leaves the environment as it was.

        Args:
            action: (n_u,) finite scores.

        Returns:
            S' (n_u, M), the reward, terminated, False, info.

        Raises:
            ValueError: a wrong shape, NaN or infinity in the action; an answer of the annotator
                that is neither a class nor -1, or a label that the built-in one does not know.
            gymnasium.error.ResetNeeded: the episode is over, or has not begun.
            NotFiniteError: the classifier's predictions or the reward are NaN or infinite, a
                FloatingPointError; its message says what to do.
        """
        self._loop.step({self.run.k: action})
        return outcome(self.run)

    def render(self) -> Any:
        """The last query and the learning curve, in the way of ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode, as in gym.make(id, render_mode='ansi')")
            return None
        from al_gym import rendering  # here, as matplotlib takes a while to import

        if self.render_mode == "ansi":
            return rendering.line(self.run.episode, self.max_steps, self.run.n_training)
        return rendering.sheet(self.run.episode, self.run.dataset)

    @property
    def _np_random(self) -> np.random.Generator | None:
        """Gymnasium's place for the generator: it is the run's."""
        return self.run.rng

    @_np_random.setter
    def _np_random(self, rng: np.random.Generator | None) -> None:
        self.run.rng = rng or np.random.default_rng()


def outcome(run: Run) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """What ``step`` returns of a run as it is now."""
    episode = run.episode
    n_labelled = len(episode.pool.labelled)
    info = {
        "labelled_fraction": np.float64(n_labelled / run.n_training),
        "n_labelled": np.int64(n_labelled),
        "macro_f1": np.float64(episode.test.macro_f1),
        "micro_f1": np.float64(episode.test.micro_f1),
        "evaluated_at": np.int64(episode.evaluated_at),
        "n_skipped": np.int64(len(episode.pool.skipped)),
        "selected": _filled(episode.query.rows, run.config.query_size, -1),
        "sample_rewards": _filled(episode.query.sample_rewards, run.config.query_size, np.nan),
        "available": episode.pool.available.copy(),
    }
    return episode.softmax.copy(), episode.reward, run.is_over, False, info


def _filled(values: np.ndarray, n: int, value: float) -> np.ndarray:
    """A copy of n values, those that are not there set to ``value``."""
    filled = np.full(n, value, values.dtype)
    filled[: len(values)] = values
    return filled


def check_render_mode(render_mode: str | None) -> None:
    """Raise a ValueError unless the mode is one of the environment's, or None."""
    modes = ActiveLearningEnv.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode must be one of {modes}, not {render_mode!r}")
