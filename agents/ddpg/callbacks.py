"""What ``learn`` tells the world: to Stable-Baselines3's callbacks, its logger, a progress bar."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Logger, configure
from tqdm import tqdm

from agents.ddpg.sb3_names import require_env

if TYPE_CHECKING:
    from agents.ddpg.agent import DDPG


def as_callback(callback: Any) -> BaseCallback:
    """One of SB3's callbacks for any of the forms that ``DDPG.learn`` takes.

    Raises:
        TypeError: ``callback`` is none of them.
    """
    if callback is None:
        return CallbackList([])
    if isinstance(callback, BaseCallback):
        return callback
    if isinstance(callback, (list, tuple)):
        return CallbackList([as_callback(each) for each in callback])
    if hasattr(callback, "on_step"):
        return ConvertCallback(lambda *_: _goes_on(callback.on_step()))
    if callable(callback):
        return ConvertCallback(lambda *both: _goes_on(callback(*both)))
    raise TypeError(
        "callback must be one of Stable-Baselines3's, a callable taking (locals, globals), an "
        f"object with on_step(), or a list of these, got {type(callback).__name__}"
    )


def _goes_on(answer: Any) -> bool:
    """What a callback means: who says nothing does not want to stop."""
    return answer is None or bool(answer)


class Report:
    """A call of ``learn``, told to its callback, the agent's logger and a progress bar.

    Args:
        agent: the agent that learns.
        callback: see ``as_callback``.
        log_interval: steps between two writes of the logger; None leaves them to callbacks.
        progress_bar: whether to show one.

    Raises:
        RuntimeError: the agent has no environment.
        TypeError: ``callback`` is of another kind.
    """

    def __init__(
        self, agent: "DDPG", callback: Any, log_interval: int | None, progress_bar: bool
    ) -> None:
        require_env(agent)
        self._agent, self._callback = agent, as_callback(callback)
        self._log_interval, self._progress_bar = log_interval, progress_bar
        self._names: dict[str, Any] = {"tb_log_name": type(agent).__name__}

    @contextmanager
    def until(self, end: int, locals_: dict[str, Any], globals_: dict[str, Any]) -> Iterator[None]:
        """Training up to step ``end``, which is announced, and its end if it ends well.

        Meanwhile the agent's logger writes to its ``log_dir``, unless it has one of its own.
        """
        agent, before = self._agent, self._agent.logger
        steps, log_dir = end - agent.num_timesteps, agent.config.log_dir
        self._names["total_timesteps"] = end
        with tqdm(total=steps, unit="step", disable=not self._progress_bar) as self._bar:
            if log_dir is not None and not before.output_formats:
                agent.logger = tensorboard(log_dir)
            try:
                self._callback.init_callback(agent)  # type: ignore[arg-type]
                self._callback.on_training_start(locals_ | self._names, globals_)
                yield
                self._callback.on_training_end()
            finally:
                if agent.logger is not before:
                    agent.logger.close()
                    agent.logger = before

    def before_step(self) -> None:
        """Announce a step: to SB3 it is a rollout, of one step."""
        self._callback.on_rollout_start()

    def after_step(self, locals_: dict[str, Any]) -> bool:
        """Announce a finished step with these local variables of ``learn``; False asks to stop."""
        agent, logger = self._agent, self._agent.logger
        for name, value in locals_["scalars"].items():
            logger.record(name, value)
        self._callback.update_locals(locals_ | self._names | _as_vector_of_one(locals_))
        goes_on = _goes_on(self._callback.on_step())
        if self._log_interval is not None and agent.num_timesteps % self._log_interval == 0:
            agent.dump_logs()
        self._bar.update()
        self._callback.on_rollout_end()
        return goes_on


def _as_vector_of_one(locals_: dict[str, Any]) -> dict[str, Any]:
    """A step by the names and in the shapes that SB3's callbacks know, with one environment.

    ``new_obs`` is S', also where an episode ends and SB3 would have the first of the next.
    """
    observation = locals_["observation"]
    several = isinstance(observation, dict)
    return {
        "actions": locals_["executed"][None],
        "new_obs": {key: np.asarray(part)[None] for key, part in observation.items()}
        if several
        else np.asarray(observation)[None],
        "rewards": np.array([locals_["reward"]], dtype=np.float32),
        "dones": np.array([locals_["terminated"] or locals_["truncated"]], dtype=bool),
        "infos": [locals_["info"]],
    }


def tensorboard(log_dir: str) -> Logger:
    """A logger that writes TensorBoard's event files to ``log_dir``.

    Raises:
        ImportError: tensorboard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  (SB3 would fail without saying how to mend it)
    except ImportError as error:
        raise ImportError(
            "log_dir needs TensorBoard: pip install tensorboard, or set log_dir to None"
        ) from error
    return configure(log_dir, ["tensorboard"])
