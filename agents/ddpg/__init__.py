"""The paper's agent: DDPG, to be read from top to bottom in ``agents.ddpg.agent``."""

from agents.ddpg.agent import DDPG
from agents.ddpg.config import DDPGConfig

__all__ = ["DDPG", "DDPGConfig"]
