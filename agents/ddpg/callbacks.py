"""What ``learn`` tells the world: callbacks in Stable-Baselines3's two forms, and TensorBoard."""

from collections.abc import Callable
from typing import Any


class Hook:
    """One interface to no callback, a callable, or an object with ``on_step``.

    A callable gets ``(locals(), globals())`` of ``learn`` after every step, as in SB3. An object
    gets ``on_step()``; where it has them, ``init_callback``, ``on_training_start``,
    ``update_locals`` and ``on_training_end`` are called as SB3 calls them: so SB3's
    CheckpointCallback, CallbackList and EveryNTimesteps work, and those that reach into SB3's
    vector of environments or its logger, such as EvalCallback, do not. Training stops when a step's
    call returns False (not None).

    Args:
        callback: the callback or None.
        agent: the agent that learns.

    Raises:
        TypeError: ``callback`` is neither.
    """

    def __init__(self, callback: Any, agent: Any) -> None:
        if not (callback is None or callable(callback) or hasattr(callback, "on_step")):
            raise TypeError(
                "callback must be a callable taking (locals, globals) or an object with on_step(), "
                f"got {type(callback).__name__}"
            )
        self.callback = callback
        self._call("init_callback", agent)

    def start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Announce the first step."""
        self._call("on_training_start", locals_, globals_)

    def step(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        """Announce a finished step; False asks to stop."""
        if hasattr(self.callback, "on_step"):
            self._call("update_locals", locals_)
            return self.callback.on_step() is not False
        return self.callback is None or self.callback(locals_, globals_) is not False

    def end(self) -> None:
        """Announce the end of training."""
        self._call("on_training_end")

    def _call(self, name: str, *arguments: Any) -> None:
        method: Callable[..., Any] | None = getattr(self.callback, name, None)
        if method is not None:
            method(*arguments)


class TensorBoard:
    """Scalars to TensorBoard, or to nowhere.

    Args:
        log_dir: folder of the event files; None writes nothing.

    Raises:
        ImportError: ``log_dir`` is given and tensorboard is not installed.
    """

    def __init__(self, log_dir: str | None) -> None:
        self.writer: Any = None
        if log_dir is not None:
            try:  # imported here because only those who log need it
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    "log_dir needs TensorBoard: pip install tensorboard, or set log_dir to None"
                ) from error
            self.writer = SummaryWriter(log_dir)

    def write(self, scalars: dict[str, float], step: int) -> None:
        """Write ``scalars`` at environment step ``step``."""
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        if self.writer is not None:
            self.writer.close()
