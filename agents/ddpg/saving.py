"""What changes of an agent, as a tree; and a file from which an agent goes on."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym

from agents import checkpoint

if TYPE_CHECKING:
    from agents.ddpg.agent import DDPG

Agent = TypeVar("Agent", bound="DDPG")
FORMAT, VERSION = "drla-ddpg", 2
PARTS = (
    *("actor", "critic", "actor_target", "critic_target", "actor_optimizer", "critic_optimizer"),
    *("buffer", "noise"),
)
"""What has a state_dict of its own."""
COUNTERS = ("num_timesteps", "n_updates", "episodes", "episode_return")


def state_dict(agent: "DDPG") -> dict[str, Any]:
    """See ``DDPG.state_dict``."""
    return {
        **{name: getattr(agent, name).state_dict() for name in PARTS},
        "warm_up": agent.warm_up.bit_generator.state,
        "counters": {name: getattr(agent, name) for name in COUNTERS},
        "state": agent._state,
    }


def load_state_dict(agent: "DDPG", state: dict[str, Any]) -> None:
    """See ``DDPG.load_state_dict``."""
    for name in PARTS:
        getattr(agent, name).load_state_dict(state[name])
    agent.warm_up.bit_generator.state = state["warm_up"]
    for name in COUNTERS:
        setattr(agent, name, state["counters"][name])
    agent._state = None if state["state"] is None else state["state"].to(agent.device)


def save(agent: "DDPG", path: str | Path) -> Path:
    """See ``DDPG.save``."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "shapes": shapes(agent),
        "config": asdict(replace(agent.config, buffer_size=agent.buffer.capacity)),
        # what a loaded agent has not yet handed to its environment is still to be handed over
        "env_random": agent._env_random or agent.env.unwrapped.np_random.bit_generator.state,
    }
    return checkpoint.write(path, header | state_dict(agent))


def load(
    kind: type[Agent], path: str | Path, env: gym.Env[Any, Any], device: str | None, reset: bool
) -> Agent:
    """See ``DDPG.load``; ``reset`` is its ``force_reset``."""
    saved = checkpoint.read(path)
    found = (saved.get("format"), saved.get("version"))
    if found != (FORMAT, VERSION):
        raise ValueError(
            f"{path} has format and version {found}, this code reads {(FORMAT, VERSION)}: "
            "load it with the version that saved it, or train again"
        )
    config = kind.Config.from_record(saved["config"])
    agent = kind(env, config if device is None else replace(config, device=device))
    if saved["shapes"] != shapes(agent):
        raise ValueError(
            f"{path} was saved for observations and actions of shape {saved['shapes']}, the "
            f"environment has {shapes(agent)}: make the environment with the settings of the "
            "training"
        )
    load_state_dict(agent, saved)
    if reset:
        agent._state = None
    if agent._state is None and agent.num_timesteps > 0 and config.seed is not None:
        agent._env_random = saved["env_random"]
    return agent


def shapes(agent: "DDPG") -> list[list[int]]:
    """Of observations (of a dictionary: of what the networks see of it) and actions."""
    observations = agent.observation_space.shape or (agent.encode.size,)
    return [list(observations), list(agent.action_space.shape)]
