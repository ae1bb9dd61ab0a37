"""Many active-learning environments side by side on one device, over one copy of the images."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from al_gym.annotators import Annotator
from al_gym.config import ClassifierConfig, EnvConfig
from al_gym.data.dataset import ImageDataset
from al_gym.env import ActiveLearningEnv, PlainSpec, outcome
from al_gym.loop import Loop

try:
    from gymnasium.vector import AutoresetMode as AutoresetMode
except ImportError:  # Gymnasium 1.0, which always resets at the next step

    class AutoresetMode(Enum):  # type: ignore[no-redef]
        """Gymnasium's of 1.1 and later."""

        NEXT_STEP = "NextStep"
        SAME_STEP = "SameStep"
        DISABLED = "Disabled"


class ActiveLearningVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """K ``ActiveLearningEnv``, stepped together: the same trajectories, sooner.

    ``gymnasium.make_vec("ActiveLearning-chestCT-v0", num_envs=8,
    vectorization_mode="vector_entry_point", ...)`` takes the keywords of ``gymnasium.make``.

    With ``trainable="head"`` the K classifiers are trained and asked as batched matrix products,
    and the trajectories agree with those of single environments to rounding. On CUDA whole
    networks are trained in a stream and from recorded graphs each. On the CPU they take turns, as
    one already uses all of it: there only the images are shared.

    ``envs[k]`` is the k-th of them as a single environment, whose ``run`` offers all that there is
    beyond the standard API. A step that raises leaves all of them as they were.

    Args:
        num_envs: K.
        dataset: the images.
        config: the task.
        classifier_config: the classifiers' settings.
        annotator: who answers, for all of them; see ``ActiveLearningEnv``.
        render_mode: as of ``ActiveLearningEnv``; ``render()`` returns K pictures or lines.
        autoreset_mode: what happens after an episode's end, as Gymnasium defines it: "NextStep",
            "SameStep" or "Disabled".

    Raises:
        ValueError: no environments, an unknown mode, or settings that do not fit the data set.
    """

    spec = PlainSpec()
    """What ``gymnasium.make_vec`` was given, in words that JSON has."""

    def __init__(
        self,
        num_envs: int,
        dataset: ImageDataset,
        config: EnvConfig | None = None,
        classifier_config: ClassifierConfig | None = None,
        *,
        annotator: Annotator | None = None,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        self.loop = Loop.over(dataset, config, classifier_config, num_envs, annotator)
        self.envs = tuple(ActiveLearningEnv.of(self.loop, k, render_mode) for k in range(num_envs))
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._autoreset = AutoresetMode(autoreset_mode)
        self.metadata = {**ActiveLearningEnv.metadata, "autoreset_mode": self._autoreset}
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def max_steps(self) -> int:
        """Steps in an episode."""
        return self.envs[0].max_steps

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every environment, or in those of ``options["reset_mask"]``.

        Args:
            seed: of each; from a number s, environment k has s + k.
            options: those of ``ActiveLearningEnv.reset``, for all; and ``reset_mask``, (K,) bool.

        Raises:
            ValueError: another number of seeds than K, a mask that selects none or is not (K,)
                bool, or what ``ActiveLearningEnv.reset`` refuses.
            gymnasium.error.ResetNeeded: a mask at the first reset.
        """
        seeds = _one_each(seed, self.num_envs)
        given = dict(options or {})
        mask = given.pop("reset_mask", np.ones(self.num_envs, bool))
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"options['reset_mask'] must be a bool array ({self.num_envs},)")
        if not mask.any():
            raise ValueError("options['reset_mask'] selects no environment")
        chosen = np.flatnonzero(mask).tolist()
        if len(chosen) < self.num_envs and not all(run.has_begun for run in self.loop.runs):
            raise gym.error.ResetNeeded("the first reset is one of all environments")
        labelled = self.loop.runs[0].task.checked_options(given)
        self.loop.begin({k: seeds[k] for k in chosen}, labelled)
        observations, _, _, infos = self._outcomes(mask)
        return observations, infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment, those whose episode is over apart; see ``autoreset_mode``.

        Args:
            actions: (K, n_u) finite scores.

        Returns:
            Observations (K, n_u, M), rewards (K,) float64, terminations (K,), truncations (K,),
            which never come, and infos: the keys of ``ActiveLearningEnv``, stacked, each with a
            mask ``_key``.

        Raises:
            ValueError: another number of actions than K, or what ``ActiveLearningEnv.step``
                refuses.
            gymnasium.error.ResetNeeded: an episode is over or has not begun, with autoreset
                disabled.
        """
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions for {self.num_envs} environments")
        at_next = self._autoreset is AutoresetMode.NEXT_STEP
        anew = [k for k, run in enumerate(self.loop.runs) if at_next and run.is_over]
        with self.loop.unchanged_if_it_fails(range(self.num_envs)):
            self.loop.step({k: actions[k] for k in range(self.num_envs) if k not in anew})
            self.loop.begin(dict.fromkeys(anew))
            return self._after_step()

    def _after_step(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        everywhere = np.ones(self.num_envs, bool)
        observations, rewards, is_over, infos = self._outcomes(everywhere)
        if self._autoreset is AutoresetMode.SAME_STEP and is_over.any():
            final = {"final_info": self._outcomes(is_over)[3], "_final_info": is_over.copy()}
            final |= stacked(
                {"final_obs": observations[k]} if over else {} for k, over in enumerate(is_over)
            )
            self.loop.begin(dict.fromkeys(np.flatnonzero(is_over).tolist()))
            observations, _, _, infos = self._outcomes(everywhere)
            infos |= final
        return observations, rewards, is_over, np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[Any, ...] | None:
        """What each environment renders."""
        return tuple(env.render() for env in self.envs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment."""
        return tuple(getattr(env, name) for env in self.envs)

    def call(self, name: str, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """What a method of each environment returns."""
        return tuple(getattr(env, name)(*arguments, **keywords) for env in self.envs)

    def _outcomes(
        self, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Observations, rewards, terminations of all, and infos of the chosen."""
        outcomes = [outcome(run) for run in self.loop.runs]
        infos = stacked(o[4] if wanted else {} for o, wanted in zip(outcomes, chosen, strict=True))
        return (
            np.stack([each[0] for each in outcomes]),
            np.array([each[1] for each in outcomes]),
            np.array([each[2] for each in outcomes]),
            infos,
        )


def stacked(infos: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One info for K environments: every key stacked, and beside it a mask, ``_key``, who has it.

    Gymnasium's vector environments do the same. Numbers and arrays become an array with a first
    axis K, 0 where an environment has none.
    """
    each = list(infos)
    together: dict[str, Any] = {}
    for key in {key: None for info in each for key in info}:
        has = np.array([key in info for info in each])
        values = np.stack([info[key] for info in each if key in info])
        together[key] = np.zeros((len(each), *values.shape[1:]), values.dtype)
        together[key][has] = values
        together[f"_{key}"] = has
    return together


def _one_each(seed: int | Sequence[int | None] | None, n: int) -> list[int | None]:
    if seed is None:
        return [None] * n
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + k for k in range(n)]
    if len(seed) != n:
        raise ValueError(f"{len(seed)} seeds for {n} environments")
    return list(seed)
