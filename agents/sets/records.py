"""Between an agent's settings and the flat record of them that is kept beside results."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import gymnasium as gym

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.config import WITHOUT_EFFECT
from agents.sets.agent import PoolConfig, PoolDDPG

OF_POOLS = {field.name for field in fields(PoolConfig)} - {
    field.name for field in fields(DDPGConfig)
}
"""Settings that ``PoolConfig`` has and the paper's agent has not."""


def record_of(config: DDPGConfig) -> dict[str, Any]:
    """The record of settings, in JSON types: the fields of every agent there is or has been.

    Those that ``config`` lacks have the value that asks for nothing, so that records of all agents
    and versions can be compared.
    """
    return WITHOUT_EFFECT | asdict(config)


def config_from_record(record: Mapping[str, Any]) -> DDPGConfig:
    """The settings of a record: a ``PoolConfig`` if they ask for anything that it adds.

    Args:
        record: what ``record_of`` made, in this version or an earlier one; fields may be missing.

    Raises:
        ValueError: a field is unknown, out of range, or asks for what there is no longer.
    """
    asks = any(record.get(name, WITHOUT_EFFECT[name]) != WITHOUT_EFFECT[name] for name in OF_POOLS)
    return (PoolConfig if asks else DDPGConfig).from_record(record)


def needs_context(config: DDPGConfig) -> bool:
    """Whether the agent is for observations of ``al_gym.wrappers.ContextObservation``."""
    return isinstance(config, PoolConfig) and config.networks == "set"


def agent_from_record(env: gym.Env[Any, Any], record: Mapping[str, Any]) -> DDPG:
    """The agent of a record on an environment: the paper's, or ``PoolDDPG`` where it takes that.

    Raises:
        TypeError: the environment is none for that agent; see ``DDPG`` and ``PoolDDPG``.
        ValueError: as ``config_from_record``, or settings that do not fit the environment.
    """
    config = config_from_record(record)
    return PoolDDPG(env, config) if isinstance(config, PoolConfig) else DDPG(env, config)
