"""What changes of an agent, as a tree; and a file from which an agent goes on."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym

from agents import checkpoint
from agents.ddpg.sb3_names import Absent
from agents.ddpg.spaces import find_attribute, space_from_record, space_record
from al_gym.errors import CheckpointError

if TYPE_CHECKING:
    from agents.ddpg.agent import DDPG

Agent = TypeVar("Agent", bound="DDPG")
FORMAT, VERSION = "drla-ddpg", 3
WITHOUT_SPACES = 2
"""The version before, which kept no spaces and is loaded with an environment only."""
PARTS = (
    *("actor", "critic", "actor_target", "critic_target", "actor_optimizer", "critic_optimizer"),
    *("buffer", "noise"),
)
"""What has a state_dict of its own."""
COUNTERS = ("num_timesteps", "n_updates", "episodes", "episode_return")


def state_dict(agent: "DDPG") -> dict[str, Any]:
    """Everything of the agent that changes, as a tree that ``agents.checkpoint`` can write."""
    return {
        **{name: getattr(agent, name).state_dict() for name in PARTS},
        "warm_up": agent.warm_up.bit_generator.state,
        "counters": {name: getattr(agent, name) for name in COUNTERS},
        "state": agent._state,
        "health": agent.health.state_dict(),
    }


def load_state_dict(agent: "DDPG", state: dict[str, Any]) -> None:
    """Go on from a ``state_dict`` of an agent of the same configuration.

    ``learn(..., reset_num_timesteps=False)`` then continues, in the middle of an episode if it was
    there: bring the environment to the same point.
    """
    for name in PARTS:
        getattr(agent, name).load_state_dict(state[name])
    agent.warm_up.bit_generator.state = state["warm_up"]
    for name in COUNTERS:
        setattr(agent, name, state["counters"][name])
    agent._state = None if state["state"] is None else state["state"].to(agent.device)
    if "health" in state:  # files of earlier versions have none
        agent.health.load_state_dict(state["health"])


def save(agent: "DDPG", path: str | Path) -> Path:
    """Write everything the agent's future depends on to a safetensors file; return its path.

    Networks, targets, both optimizers, replay buffer, noise, generators, counters, the current
    observation, the spaces and the environment's ``np_random``; not the environment. The file is
    replaced at once or not at all.

    Args:
        agent: the agent, ``self`` of the method.
        path: destination; the suffix .safetensors is added if missing, and takes the place of SB3's
            .zip.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "shapes": shapes(agent),
        "spaces": [space_record(agent.observation_space), space_record(agent.action_space)],
        "query_size": find_attribute(agent.env, "query_size", None),
        "config": asdict(replace(agent.config, buffer_size=agent.buffer.capacity)),
        # what a loaded agent has not yet handed to its environment is still to be handed over
        "env_random": agent._env_random or agent.env.unwrapped.np_random.bit_generator.state,
    }
    return checkpoint.write(path, header | state_dict(agent))


def load(
    kind: type[Agent],
    path: str | Path,
    env: gym.Env[Any, Any] | str | None,
    device: str | None,
    reset: bool,
) -> Agent:
    """See ``DDPG.load``; ``reset`` is its ``force_reset``."""
    saved = checkpoint.read(path)
    found = (saved.get("format"), saved.get("version"))
    if found not in ((FORMAT, VERSION), (FORMAT, WITHOUT_SPACES)):
        raise CheckpointError(
            f"{path} has format and version {found}, this code reads {(FORMAT, VERSION)}: "
            "load it with the version that saved it, or train again"
        )
    if env is None and "spaces" not in saved:
        raise ValueError(
            f"{path} is of version {found[1]}, which kept no spaces: pass an environment, "
            f"{kind.__name__}.load(path, env)"
        )
    if env is None:
        with _whole(path):
            observations, actions = (space_from_record(record) for record in saved["spaces"])
            env = Absent(observations, actions, saved["query_size"], saved["env_random"])
    with _whole(path):
        config = kind.Config.from_record(saved["config"])
    agent = kind(env, config if device is None else replace(config, device=device))
    if saved.get("shapes") != shapes(agent):
        raise ValueError(
            f"{path} was saved for observations and actions of shape {saved.get('shapes')}, the "
            f"environment has {shapes(agent)}: make the environment with the settings of the "
            "training"
        )
    with _whole(path):
        load_state_dict(agent, saved)
        if reset:
            agent._state = None
        if agent._state is None and agent.num_timesteps > 0 and config.seed is not None:
            agent._env_random = saved["env_random"]
    return agent


@contextlib.contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    """Name the file where it lacks something, or has it in another type or shape.

    Raises:
        CheckpointError: it is so.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is no agent that can be used ({error!r}); take another copy or train again"
        ) from error


def shapes(agent: "DDPG") -> list[list[int]]:
    """Of observations (of a dictionary: of what the networks see of it) and actions."""
    observations = agent.observation_space.shape or (agent.encode.size,)
    return [list(observations), list(agent.action_space.shape)]
