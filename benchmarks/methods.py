"""Every method by name, behind one interface: play an episode, and be saved and restored in it.

A method sees the environment through the Gymnasium API and documented attributes only. All of them
get the same budget, start and classifier.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from agents import load_pretrained, modern, sb3, strategies
from agents.sets import agent_from_record, config_from_record, needs_context, record_of
from agents.transfer import pretrained_path
from al_gym.names import hint
from al_gym.wrappers import ContextObservation
from benchmarks.families import family_of

METHODS = {
    "random": "RANDOM: uniformly at random",
    "lc": "LC: least confidence",
    "ms": "MS: smallest margin",
    "en": "EN: largest entropy",
    "fusion": "FUSION: the tops of LC, MS and EN, thinned at random",
    "all": "ALL: trained on the whole training set",
    "drla": "DRLA: the paper's DDPG agent, learning online",
    "drla-fixed": "DRLA with a mask, and noise in proportion to the spread of the scores",
    "drla-set": "DRLA-FIXED with networks that see a set: one for all samples",
    "drla-transfer": "a policy trained on many episodes of other data, applied unchanged",
    "drla-embed": "the same with the pool's embeddings",
    "frozen": "control: DRLA's untrained actor with the same noise, to tell what it learned",
    "frozen-set": "control: DRLA-SET's untrained actor with the same noise",
    "eq3": "control: greedy on max p - sum p^2, what Eq. 3 pays if the classifier is calibrated",
    "eq3-oracle": "bound, not a method: greedy on the true Eq. 3, peeking at the labels",
    "badge": "BADGE: k-means++ over gradient embeddings",
    "coreset": "CoreSet: k-centre greedy over features",
    "typiclust": "TypiClust: typical samples of uncovered clusters",
    "probcover": "ProbCover: coverage of balls over features",
    "bald": "BALD: disagreement of dropout masks",
    **{f"sb3-{name}": f"Stable-Baselines3's {name.upper()}" for name in sb3.ALGORITHMS},
}
"""Name -> what it is."""
FIXED = {"mask": True, "noise_space": "logit", "noise_scale": "spread"}
SET = {**FIXED, "networks": "set"}
ONLINE: dict[str, dict[str, Any]] = {
    "drla": {},
    "frozen": {"gradient_steps": 0},
    "drla-fixed": FIXED,
    "drla-set": SET,
    "frozen-set": {**SET, "gradient_steps": 0},
}
"""Agents that learn on the episode that they are measured on -> what differs from the paper's."""
TRANSFERRED = ("drla-transfer", "drla-embed")
"""Policies that were trained before, and learn nothing on the episode."""
BOUNDS = ("eq3-oracle",)
"""What knows the labels, and is shown but not compared."""


class Player(Protocol):
    """A method in the middle of an episode."""

    def reset(self) -> None:
        """Reset the environment through whatever the method has put around it."""

    def play(self, after_step: Callable[[], None]) -> None:
        """Play the episode to its end, from its beginning or from where the state was loaded.

        ``after_step`` is called where ``state_dict`` may be taken.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how the method goes on, as a tree for ``agents.checkpoint``."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``; the environment is at the same point."""


def check(names: tuple[str, ...]) -> None:
    """Refuse names that are no methods.

    Raises:
        ValueError: none given, an unknown name (with the nearest), or one given twice.
    """
    if not names:
        raise ValueError(f"no methods given, choose from {' '.join(METHODS)}")
    for name in names:
        if name not in METHODS:
            near = hint(name, METHODS)
            raise ValueError(f"unknown method {name!r}, choose from {' '.join(METHODS)}{near}")
    if len(set(names)) < len(names):
        raise ValueError(f"a method is named twice: {' '.join(names)}")


def make(name: str, env: gym.Env[Any, Any], seed: int, agent: dict[str, Any]) -> Player:
    """The method of a name on an environment; see ``METHODS``.

    Args:
        name: of the method.
        env: the environment.
        seed: of the episode and the method.
        agent: what ``settings`` has said of it.
    """
    query_size = env.get_wrapper_attr("query_size")
    if name == "all":
        return FullySupervised(env, seed)
    if name in ONLINE:
        in_context = needs_context(config_from_record(agent))
        return Online(ContextObservation(env) if in_context else env, agent)
    if name in TRANSFERRED:
        policy = load_pretrained(agent["policy"])
        return Choosing(ContextObservation(env, embeddings=policy.embeddings), policy, seed)
    if name.startswith("sb3-"):
        return StableBaselines(env, name.removeprefix("sb3-"), seed)
    if name == "eq3-oracle":
        return Choosing(env, Oracle(env), seed)
    if name in modern.NAMES:
        return Choosing(env, modern.ModernStrategy(name, env, query_size, seed), seed)
    return Choosing(env, strategies.make(name, query_size=query_size, seed=seed), seed)


def settings(
    name: str, env: gym.Env[Any, Any], seed: int, changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Settings of an agent that learns or has learned; others have none.

    Args:
        name: of the method.
        env: the environment.
        seed: of the episode and the method.
        changes: fields of ``PoolConfig`` for the agents of ``ONLINE``, in place of theirs.
    """
    if name in ONLINE:
        record = {"seed": seed, **ONLINE[name], **(changes or {})}
        return record_of(config_from_record(record))
    if name in TRANSFERRED:
        policy = policy_name(name, env)
        content = pretrained_path(policy).read_bytes()
        return {"policy": policy, "digest": hashlib.blake2b(content, digest_size=16).hexdigest()}
    if name.startswith("sb3-"):
        chosen = sb3.settings(
            name.removeprefix("sb3-"),
            env.action_space.shape or (),
            env.get_wrapper_attr("max_steps"),
        )
        kinds = (str, int, float, dict)
        return {
            key: value if isinstance(value, kinds) else type(value).__name__
            for key, value in chosen.items()
        }
    return {}


def policy_name(name: str, env: gym.Env[Any, Any]) -> str:
    """The policy of a method of ``TRANSFERRED``, trained without the images it is to be used on.

    For the kinds of images that the package's policies are trained on there is one each that has
    not seen them; for all others the one that has seen all of them.
    """
    family = family_of(env.get_wrapper_attr("run").dataset.source)
    return f"{name}-v0" + ("" if family is None else f"-without-{family}")


class FullySupervised:
    """ALL: no choosing; the recorder asks the environment for the scores at the first reset."""

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        self._env, self._seed = env, seed

    def reset(self) -> None:
        """Reset with the seed."""
        self._env.reset(seed=self._seed)

    def play(self, after_step: Callable[[], None]) -> None:
        """Reset and record."""
        self.reset()

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


class Choosing:
    """Anything with ``predict`` that does not learn from rewards.

    Args:
        env: the environment.
        agent: with ``predict``, and the ``generator`` it draws from if it draws.
        seed: of the episode.
    """

    def __init__(self, env: gym.Env[Any, Any], agent: Any, seed: int) -> None:
        self._env, self._agent, self._seed = env, agent, seed
        self._generator: np.random.Generator | None = getattr(agent, "generator", None)
        self._observation: Any = None
        self._terminated = False

    def reset(self) -> None:
        """Reset with the seed."""
        self._observation, _ = self._env.reset(seed=self._seed)

    def play(self, after_step: Callable[[], None]) -> None:
        """Ask for scores and step, until the budget is used up."""
        if self._observation is None:
            self.reset()
        while not self._terminated:
            action, _ = self._agent.predict(self._observation)
            self._observation, _, self._terminated, _, _ = self._env.step(action)
            after_step()

    def state_dict(self) -> dict[str, Any]:
        """The observation and the generator."""
        return {
            "observation": self._observation,
            "terminated": self._terminated,
            "generator": None if self._generator is None else self._generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self._observation = state["observation"]
        self._terminated = state["terminated"]
        if self._generator is not None:
            self._generator.bit_generator.state = state["generator"]


class Oracle:
    """Scores every pool row by what Eq. 3 would pay for it, which takes its label to know."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env

    def predict(self, observation: np.ndarray) -> tuple[np.ndarray, None]:
        """Pr(predicted class) - Pr(true class) of every row, (n_u,)."""
        run = self._env.get_wrapper_attr("run")
        rows = run.episode.pool.indices
        labels = run.dataset.labels[rows]
        return observation.max(axis=1) - observation[np.arange(len(rows)), labels], None


class Online:
    """DRLA: DDPG learns online, as Algorithm 1 does, on the episode that it is measured on."""

    def __init__(self, env: gym.Env[Any, Any], agent: dict[str, Any]) -> None:
        self._env, self._seed = env, agent["seed"]
        self._agent = agent_from_record(env, agent)
        self._max_steps = env.get_wrapper_attr("max_steps")

    def reset(self) -> None:
        """Reset with the seed."""
        self._env.reset(seed=self._seed)

    def play(self, after_step: Callable[[], None]) -> None:
        """Learn for the steps that are left."""
        done = self._agent.num_timesteps
        self._agent.learn(
            self._max_steps - done, lambda *_: after_step(), reset_num_timesteps=done == 0
        )

    def state_dict(self) -> dict[str, Any]:
        """The agent with its buffer, noise and generators."""
        return self._agent.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self._agent.load_state_dict(state)


class StableBaselines:
    """An agent of Stable-Baselines3, learning online like DRLA."""

    def __init__(self, env: gym.Env[Any, Any], name: str, seed: int) -> None:
        self._seed = seed
        self._model = sb3.make(name, env, seed)
        self._max_steps = env.get_wrapper_attr("max_steps")
        self._noise: Any = None

    def reset(self) -> None:
        """Reset through SB3's own wrappers, which count resets too."""
        vector = self._model.get_env()
        assert vector is not None
        vector.seed(self._seed)
        vector.reset()

    def play(self, after_step: Callable[[], None]) -> None:
        """Learn until the episode is over; rollouts of PPO and A2C would go on beyond it."""
        done = self._model.num_timesteps
        callback = sb3.EachRollout(after_step, self._max_steps, self._noise)
        self._model.learn(self._max_steps - done, callback, reset_num_timesteps=done == 0)

    def state_dict(self) -> dict[str, Any]:
        """The model with its buffer, noise and the global generators that SB3 draws from."""
        return sb3.state_dict(self._model)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        sb3.load_state_dict(self._model, state)
        self._noise = state["noise"]
