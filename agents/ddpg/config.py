"""Settings of the paper's agent, and reading them from a record."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, TypeVar, get_args, get_origin

C = TypeVar("C", bound="DDPGConfig")
WITHOUT_EFFECT: dict[str, Any] = {
    "mask": False,
    "noise_scale": "fixed",
    "networks": "mlp",
    "small_output": False,
    "bounds": "sigmoid",
    "largest_reward": None,
    "critics": 1,
    "layer_norm": False,
    "base": "none",
    "credit": False,
    "storage": "float32",
}
"""Settings that records of other or earlier agents have, and the values that ask for nothing."""


@dataclass(frozen=True)
class DDPGConfig:
    """Settings of ``DDPG``; the defaults are the paper's, or its sources' where it is silent.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    gamma: float = 0.99
    """Discount of the next state's value in Eq. 6."""
    tau: float = 0.005
    """Share of the online weights in a target update; lambda in Eq. 7."""
    learning_rate: float = 1e-3
    """Adam's learning rate, for actor and critic."""
    batch_size: int = 16
    """Transitions in a gradient step."""
    width: int = 256
    """Units in each of the two hidden layers of actor and critic."""
    squash: Literal["sigmoid", "tanh"] = "sigmoid"
    """Last function of the actor: the paper's, with actions in [0, 1], or SB3's, in [-1, 1]. Either
    range is mapped to the bounds of the action space; noise, replay buffer and critic know it as it
    is."""
    gradient_steps: int | Literal["pass"] = "pass"
    """Gradient steps after an environment step: one shuffled pass over the replay buffer
    (Algorithm 1, line 8), or this many on batches drawn uniformly; with 0 the agent never learns,
    and acts by its initial weights and the noise."""
    target_update: Literal["step", "epoch"] = "step"
    """When Eq. 7 applies: after every gradient step (Algorithm 1, line 11), or once after all the
    gradient steps of an environment step ("at the last of each epoch")."""
    noise: Literal["ou", "gaussian", "none"] = "ou"
    """Exploration: Ornstein-Uhlenbeck or Gaussian, independent in each coordinate, or none."""
    noise_space: Literal["action", "logit"] = "action"
    """Where noise is added: to the squashed action, which is then clipped to its range, or before
    the squashing, which needs no clipping and so makes next to no ties."""
    noise_sigma: float = 0.2
    """Scale of the noise, in units of the space it is added in."""
    noise_theta: float = 0.15
    """Rate at which Ornstein-Uhlenbeck noise returns to zero."""
    noise_dt: float = 1.0
    """Time step of Ornstein-Uhlenbeck noise."""
    learning_starts: int = 0
    """Steps at the beginning with uniformly random actions and without training. The paper has
    none: each of them spends annotations."""
    buffer_size: int | None = None
    """Transitions kept. None: the environment's ``max_steps``, one whole episode, where it has that
    attribute, and 1,000,000 (the DDPG paper's) where it has not."""
    optimizer_impl: Literal["fused", "default"] = "fused"
    """Adam in one kernel and Polyak averaging in one pass; or PyTorch's default Adam and averaging
    in two passes, which is slower and equals SB3 bit for bit on the CPU."""
    device: str = "auto"
    """Where networks and replay buffer live; "auto" is CUDA if there is one, else the CPU."""
    seed: int | None = None
    """Source of initial weights, noise, batches and warm-up, and seed of a run's first ``reset``.
    Later episodes are reset without one, as Gymnasium advises. None: every run differs."""
    log_dir: str | None = None
    """Folder for TensorBoard's event files; None writes none."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for field in fields(self):
            value, options = getattr(self, field.name), get_args(field.type)
            if get_origin(field.type) is Literal and value not in options:
                raise ValueError(f"{field.name} must be one of {options}, got {value!r}")
        whole = {"learning_starts", "seed", "batch_size", "width", "buffer_size", "gradient_steps"}
        steps = () if self.gradient_steps == "pass" else ("gradient_steps",)
        checks = {
            ("gamma",): lambda value: 0 <= value <= 1,
            ("tau",): lambda value: 0 < value <= 1,
            ("learning_rate", "noise_dt"): lambda value: 0 < value < float("inf"),
            ("noise_sigma", "noise_theta"): lambda value: 0 <= value < float("inf"),
            ("learning_starts", "seed", *steps): lambda value: value >= 0,
            ("batch_size", "width", "buffer_size"): lambda value: value >= 1,
        }
        for names, holds in checks.items():
            for name in names:
                value = getattr(self, name)
                if value is None and name in ("seed", "buffer_size"):
                    continue
                if not isinstance(value, int if name in whole else Real) or not holds(value):
                    raise ValueError(f"{name} is out of range: {value!r}")

    @classmethod
    def from_record(cls: type[C], record: Mapping[str, Any]) -> C:
        """Settings from what ``dataclasses.asdict`` made of them in this or an earlier version.

        Args:
            record: value of every field, by name. Fields of ``WITHOUT_EFFECT`` that this class
                lacks may have the values named there.

        Raises:
            ValueError: a field is unknown, asks for something this class lacks, or is out of range.
        """
        known = {field.name for field in fields(cls)}
        for name in record.keys() - known:
            if name not in WITHOUT_EFFECT or record[name] != WITHOUT_EFFECT[name]:
                raise ValueError(
                    f"{cls.__name__} has no setting {name}={record[name]!r}: the record is of "
                    "another agent, or of a version that still had it"
                )
        return cls(**{name: value for name, value in record.items() if name in known})
