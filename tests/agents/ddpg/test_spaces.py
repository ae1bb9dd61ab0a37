"""Spaces that cannot work are refused, with a reason."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.ddpg import DDPG


class Spaces(gym.Env[Any, Any]):
    def __init__(self, observations: gym.Space[Any], actions: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions


BOX = gym.spaces.Box(0, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("observations", "actions", "error", "message"),
    [
        (BOX, gym.spaces.Discrete(3), TypeError, r"Box action space, got Discrete\(3\)"),
        (gym.spaces.Discrete(3), BOX, TypeError, "FlattenObservation"),
        (gym.spaces.Dict(a=BOX), BOX, TypeError, "FlattenObservation"),
        (BOX, gym.spaces.Box(-np.inf, 1, (3,), np.float32), ValueError, "bounded"),
        (BOX, gym.spaces.Box(0, 5, (3,), np.int64), ValueError, "floating"),
    ],
)
def test_spaces_that_cannot_work(
    observations: Any, actions: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DDPG(Spaces(observations, actions))


def test_a_vector_of_environments() -> None:
    with pytest.raises(TypeError, match="single environment"):
        DDPG(gym.make_vec("Pendulum-v1", num_envs=2))  # type: ignore[arg-type]
