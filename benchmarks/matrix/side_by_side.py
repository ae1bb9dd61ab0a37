"""Programs for one environment each, played together on a vector environment.

A cell is written for an environment of its own: agents learn inside ``learn``, and call ``step``
when they like. Here every program has a thread, of which one runs at a time, until it asks its
environment for something. When all have asked, the vector environment does all of it at once, and
each goes on with its answer. Nothing runs at random: the turns are fixed.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gymnasium as gym
import numpy as np

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv
from al_gym.env import outcome

T = TypeVar("T")


@dataclass(frozen=True)
class Begin:
    """What a program asks of its environment: to begin an episode."""

    seed: int | None
    labelled: np.ndarray | None


@dataclass(frozen=True)
class Step:
    """What a program asks of its environment: a step."""

    action: np.ndarray


Asked = Begin | Step


class Seat(gym.Wrapper[Any, Any, Any, Any]):
    """One environment of several, which is stepped when all of them are."""

    def __init__(self, env: ActiveLearningEnv, ask: Callable[[Asked], None]) -> None:
        super().__init__(env)
        self._member, self._ask = env, ask

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As of the environment."""
        self._ask(Begin(seed, self._member.run.task.checked_options(options)))
        observation, _, _, _, info = outcome(self._member.run)
        return observation, info

    def step(self, action: Any) -> Any:
        """As of the environment."""
        self._ask(Step(action))
        return outcome(self._member.run)


class _Player(threading.Thread, Generic[T]):
    """A program in a thread that runs only between ``resume`` and its next question."""

    def __init__(self, env: ActiveLearningEnv, program: Callable[[gym.Env[Any, Any]], T]) -> None:
        super().__init__(daemon=True)
        self._seat, self._program = Seat(env, self._ask), program
        self._asked: queue.Queue[Asked | None] = queue.Queue()
        self._answers: queue.Queue[BaseException | None] = queue.Queue()
        self.result: T
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """The program, when it is first resumed."""
        self._answers.get()
        try:
            self.result = self._program(self._seat)
        except BaseException as error:  # raised again where the player was made
            self.error = error
        self._asked.put(None)

    def resume(self, error: BaseException | None) -> Asked | None:
        """Let it run, with the error of its last question, to its next; None at its end."""
        self._answers.put(error)
        return self._asked.get()

    def _ask(self, asked: Asked) -> None:
        self._asked.put(asked)
        error = self._answers.get()
        if error is not None:
            raise error


def play(
    vector: ActiveLearningVectorEnv, programs: Sequence[Callable[[gym.Env[Any, Any]], T]]
) -> list[T]:
    """Run programs to their ends, each on an environment of ``vector``; returns their results.

    Args:
        vector: with as many environments as there are programs, or more.
        programs: are given an environment and do with it what they like. While one waits for
            something else, a file's lock say, the others wait too.

    Raises:
        ValueError: more programs than environments.
        BaseException: the first that a program has raised, when all have ended.
    """
    if len(programs) > vector.num_envs:
        raise ValueError(f"{len(programs)} programs for {vector.num_envs} environments")
    players = [_Player(env, program) for env, program in zip(vector.envs, programs, strict=False)]
    errors: dict[int, BaseException | None] = dict.fromkeys(range(len(players)))
    while errors:
        asked = {k: players[k].resume(error) for k, error in errors.items()}
        errors = _answer(vector, {k: each for k, each in asked.items() if each is not None})
    for player in players:
        if player.error is not None:
            raise player.error
    return [player.result for player in players]


def _answer(
    vector: ActiveLearningVectorEnv, asked: dict[int, Asked]
) -> dict[int, BaseException | None]:
    """Do what was asked, together; if that fails, one by one: only who is to blame shall fail."""
    try:
        with vector.loop.unchanged_if_it_fails(asked):
            _advance(vector, asked)
    except Exception as error:
        if len(asked) == 1:
            return dict.fromkeys(asked, error)
        return {k: _answer(vector, {k: each})[k] for k, each in asked.items()}
    return dict.fromkeys(asked)


def _advance(vector: ActiveLearningVectorEnv, asked: dict[int, Asked]) -> None:
    """All steps together, then all beginnings: those from a given initial set one by one."""
    vector.loop.step({k: each.action for k, each in asked.items() if isinstance(each, Step)})
    begin = {k: each for k, each in asked.items() if isinstance(each, Begin)}
    vector.loop.begin({k: each.seed for k, each in begin.items() if each.labelled is None})
    for k, each in begin.items():
        if each.labelled is not None:
            vector.loop.begin({k: each.seed}, each.labelled)
