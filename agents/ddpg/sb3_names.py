"""What a person who knows Stable-Baselines3 reaches for, as methods of ``DDPG`` beside the paper's.

Functions that take the agent; ``DDPG`` has them as methods. The callbacks, the logger and the
vector of environments are SB3's own.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import checkpoint
from agents.ddpg.config import DDPGConfig
from agents.ddpg.replay_buffer import ReplayBuffer
from agents.ddpg.spaces import check_actions
from agents.names import hint
from al_gym.errors import CheckpointError

if TYPE_CHECKING:
    from agents.ddpg.agent import DDPG

OTHERWISE = {
    "policy": "the networks are the paper's, their size is width",
    "policy_kwargs": "the hidden layers are two of width units",
    "action_noise": "use noise ('ou', 'gaussian', 'none'), noise_sigma, noise_theta and noise_dt",
    "train_freq": "it trains after every step; gradient_steps says how much",
    "verbose": "use learn(progress_bar=True), or set_logger(configure(None, ['stdout']))",
    "tensorboard_log": "use log_dir",
    "stats_window_size": "nothing is averaged over episodes; wrap the environment for that",
    "replay_buffer_class": "there is one replay buffer; buffer_size is its capacity",
    "replay_buffer_kwargs": "there is one replay buffer; buffer_size is its capacity",
    "optimize_memory_usage": "the replay buffer stores every state once, always",
    "n_steps": "Eq. 6 looks one step ahead",
}
"""Arguments of SB3's DDPG that ours has not, and what to do instead."""
OF_THE_MODEL = {
    "policy": "see actor and critic",
    "policy_class": "see actor and critic",
    "get_parameters": "use state_dict()",
    "set_parameters": "use load_state_dict(state)",
    "action_noise": "see noise",
    "ep_info_buffer": "the logger has rollout/episode_return",
    "n_envs": "it is always one environment",
    "train": "use learn, or train_step(batch)",
    "collect_rollouts": "use learn",
}
"""Attributes of SB3's models that ours has not, and what to do instead."""
REPLAY_BUFFER = "drla-ddpg-replay-buffer"
"""Format of a file with a replay buffer alone."""


# --- the constructor ------------------------------------------------------------------------------


def make_env(env: gym.Env[Any, Any] | str) -> gym.Env[Any, Any]:
    """``env``, or the environment of that id.

    Raises:
        TypeError: it is one of SB3's policies.
    """
    if isinstance(env, type) or (isinstance(env, str) and env.endswith("Policy")):
        raise TypeError(
            f"there is no policy to choose, such as {env!r}, begin with the environment: "
            f"DDPG(env, ...); {OTHERWISE['policy']}"
        )
    return gym.make(env) if isinstance(env, str) else env


def make_config(agent: "DDPG", config: Any, settings: dict[str, Any]) -> DDPGConfig:
    """The settings of an agent from what its constructor got.

    Raises:
        TypeError: both or a class of another agent was given, or there is no such setting.
        ValueError: a setting is out of its range.
    """
    kind = agent.Config
    if config is not None and settings:
        given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        raise TypeError(
            f"give config or settings, not both: config=dataclasses.replace(config, {given})"
        )
    known = [field.name for field in fields(kind)]
    for name in (name for name in settings if name not in known):
        advice = f": {OTHERWISE[name]}" if name in OTHERWISE else hint(name, known)
        raise TypeError(f"{type(agent).__name__} has no setting {name!r}{advice}")
    config = kind(**settings) if config is None else config
    if type(config) is not kind:
        raise TypeError(
            f"{type(agent).__name__} takes a {kind.__name__}, not a {type(config).__name__}: "
            "agents.sets.agent_from_record chooses by the settings"
        )
    return config


# --- the environment ------------------------------------------------------------------------------


class Absent(gym.Env[Any, Any]):
    """In place of an environment in an agent that was loaded without one.

    Args:
        observation_space: of the observations that the agent predicts from.
        action_space: of its actions.
        query_size: what else an agent's constructor may look for; None for most.
        random: state of its ``np_random``, to be handed over to the next environment.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        query_size: int | None,
        random: dict[str, Any],
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.query_size = query_size
        self.np_random.bit_generator.state = random


def require_env(agent: "DDPG") -> None:
    """Refuse to learn without an environment.

    Raises:
        RuntimeError: the agent was loaded without one.
    """
    if isinstance(agent.env, Absent):
        raise RuntimeError(
            "the agent was loaded without an environment: agent.set_env(env) before it learns"
        )


class View(DummyVecEnv):
    """The agent's environment as a vector of one; who steps it ends the agent's episode."""

    def __init__(self, agent: "DDPG") -> None:
        self._agent = agent
        super().__init__([lambda: agent.env])

    def reset(self) -> Any:
        """Reset the environment; the agent begins a new episode when it goes on."""
        self._agent._state = None
        return super().reset()

    def step_wait(self) -> Any:
        """Step the environment; the agent begins a new episode when it goes on."""
        self._agent._state = None
        return super().step_wait()


def get_env(agent: "DDPG") -> DummyVecEnv | None:
    """The environment as SB3's vector of one, or None if the agent was loaded without one.

    It is the environment that the agent learns on. After it is reset or stepped through this the
    agent begins a new episode when it goes on.
    """
    if isinstance(agent.env, Absent):
        return None
    if agent._view is None:
        agent._view = View(agent)
    return agent._view


def set_env(agent: "DDPG", env: gym.Env[Any, Any] | str, force_reset: bool = True) -> None:
    """Go on with another environment.

    With a seed, and unless the agent has taken no step, the next
    ``learn(..., reset_num_timesteps=False)`` resets ``env`` with it and sets its ``np_random`` to
    where the former one's was, as after ``load``.

    Args:
        agent: the agent, ``self`` of the method.
        env: an environment with the same spaces, or its id.
        force_reset: whether the next ``learn`` begins a new episode even if the agent is within
            one. False is for an environment that was brought to the same point.

    Raises:
        TypeError: ``env`` is a vector of environments, or its action space is not a Box.
        ValueError: its spaces are others.
    """
    env = make_env(env)
    check_actions(env)
    for name in ("observation_space", "action_space"):
        own, other = getattr(agent, name), getattr(env, name)
        if own != other:
            raise ValueError(
                f"the {name} of the environment is {other}, the agent's is {own}: make the "
                "environment with the settings of the training, or a new agent for it"
            )
    if force_reset:
        agent._state = None
    before = agent.env
    started = agent._state is None and agent.num_timesteps > 0 and agent.config.seed is not None
    if started and env is not before:
        agent._env_random = agent._env_random or dict(
            before.unwrapped.np_random.bit_generator.state
        )
    agent.env, agent._view = env, None
    agent.health.set_env(env)


def lacks(agent: "DDPG", name: str) -> AttributeError:
    """The error for an attribute that is not there; what to use if SB3's models have it."""
    settings = {field.name: f"see config.{field.name}" for field in fields(agent.Config)}
    instead = settings | OF_THE_MODEL
    advice = f": {instead[name]}" if name in instead else ""
    return AttributeError(f"{type(agent).__name__} has no attribute {name!r}{advice}")


def get_vec_normalize_env(agent: "DDPG") -> None:
    """None: the agent normalises nothing. SB3's callbacks ask."""


# --- the logger -----------------------------------------------------------------------------------


def set_logger(agent: "DDPG", logger: Logger) -> None:
    """Write to an SB3 logger, as made by its ``configure``, in place of ``log_dir``.

    It is written every ``log_interval`` steps of ``learn`` and stays open.
    """
    agent.logger = logger


def dump_logs(agent: "DDPG") -> None:
    """Write what the logger has recorded since the last time, at the current step."""
    logger = agent.logger
    logger.record("time/total_timesteps", agent.num_timesteps, exclude="tensorboard")
    logger.record("time/episodes", agent.episodes, exclude="tensorboard")
    logger.dump(agent.num_timesteps)


# --- randomness -----------------------------------------------------------------------------------


def set_random_seed(agent: "DDPG", seed: int | None) -> None:
    """Draw noise, batches and warm-up from a new seed, and reset the environment with it.

    The environment follows at its next reset; an episode that has begun goes on. Weights stay as
    they are. ``config.seed`` is ``seed`` from here on. Unlike SB3 this seeds no global generator.

    Args:
        agent: the agent, ``self`` of the method.
        seed: at least 0; None changes nothing, as in SB3.

    Raises:
        ValueError: ``seed`` is out of range.
    """
    if seed is None:
        return
    agent.config = replace(agent.config, seed=seed)
    agent._seed(np.random.SeedSequence(seed).spawn(4))
    if agent.num_timesteps > 0:
        agent._env_random = dict(gym.utils.seeding.np_random(seed)[0].bit_generator.state)


# --- the replay buffer ----------------------------------------------------------------------------


def replay_buffer(agent: "DDPG") -> ReplayBuffer:
    """``buffer``, by SB3's name."""
    return agent.buffer


def save_replay_buffer(agent: "DDPG", path: str | Path) -> Path:
    """Write the replay buffer alone to a safetensors file; return its path. ``save`` has it, too.

    Args:
        agent: the agent, ``self`` of the method.
        path: destination; the suffix .safetensors is added if missing, and takes the place of SB3's
            .zip and .pkl.
    """
    buffer = agent.buffer
    header = {"format": REPLAY_BUFFER, "version": 1, "capacity": buffer.capacity}
    return checkpoint.write(path, header | {"sizes": _sizes(buffer), "buffer": buffer.state_dict()})


def load_replay_buffer(agent: "DDPG", path: str | Path) -> None:
    """Take the replay buffer of a file, with its capacity and generator, in place of the agent's.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, or has no replay buffer.
        ValueError: it has one for other spaces.
    """
    saved = checkpoint.read(path)
    if (saved.get("format"), saved.get("version")) != (REPLAY_BUFFER, 1):
        raise CheckpointError(
            f"{path} has no replay buffer: save one with agent.save_replay_buffer"
        )
    if saved["sizes"] != _sizes(agent.buffer):
        raise ValueError(
            f"{path} has a replay buffer for states and actions of {saved['sizes']} numbers, the "
            f"agent's have {_sizes(agent.buffer)}"
        )
    d, k = saved["sizes"]
    buffer = ReplayBuffer(saved["capacity"], d, k, agent.device)
    buffer.load_state_dict(saved["buffer"])
    if agent._state is not None:
        buffer.start(agent._state)  # the next transition begins where the agent is
    agent.buffer = buffer


def _sizes(buffer: ReplayBuffer) -> list[int]:
    """Numbers in a state and in an action."""
    return [buffer.states.shape[1], buffer.actions.shape[1]]
