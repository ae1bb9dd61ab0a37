"""What masks a pool or sees it as a set: features of a pool, networks over it, and their agent."""

from agents.sets.agent import PoolConfig, PoolDDPG
from agents.sets.records import agent_from_record, config_from_record, needs_context, record_of

__all__ = [
    "PoolConfig",
    "PoolDDPG",
    "agent_from_record",
    "config_from_record",
    "needs_context",
    "record_of",
]
