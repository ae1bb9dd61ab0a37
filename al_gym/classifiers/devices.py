"""The device: which one it is, what it cannot do, its random numbers, and the way back from it."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_gym.classifiers.counters import Counters
from al_gym.config import ClassifierConfig

INFERENCE_VALUES = {"cpu": 2**19, "cuda": 2**27, "mps": 2**24}
"""Input values in one inference batch: what stays near the cache, or fills a GPU. Its keys are the
kinds of devices that are known."""


def device_of(config: ClassifierConfig) -> torch.device:
    """The device that settings ask for; "auto" is CUDA where there is one, otherwise the CPU.

    Raises:
        ValueError: no such device, this machine has none, or it cannot do what else is asked.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in INFERENCE_VALUES:
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda[:n]' or 'mps', not {name!r}")
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= there:
        raise ValueError(
            f"device={name!r}: PyTorch finds {there} {device.type} devices on this machine; choose "
            "'cpu', or 'auto' for CUDA where there is one"
        )
    if device.type == "mps" and config.precision != "fp32":
        raise ValueError(f"precision={config.precision!r} is not for device='mps'; choose 'fp32'")
    if config.precision == "bf16" and lacks_bf16(device):
        warnings.warn(
            f"precision='bf16' on {device}, which has no arithmetic of that kind and emulates it; "
            "on a processor with AVX2 alone a step of the small networks took 8 to 16 times as "
            "long as with 'fp32'",
            stacklevel=2,
        )
    return device


def lacks_bf16(device: torch.device) -> bool:
    """Whether a processor of PC kind, or a GPU, has no arithmetic in bfloat16 of its own."""
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    # of other processors, and by PyTorch before 2.10, nothing is known
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    is_known = has.get("architecture") == "x86_64"
    return is_known and not (has["avx512_bf16"] or has["amx_bf16"])


@contextlib.contextmanager
def torch_seeded(
    rng: np.random.Generator, device: torch.device, *, needed: bool = True
) -> Iterator[None]:
    """Seed torch's own generators from ``rng`` for a while; the caller's come back afterwards.

    ``rng`` moves on even where the seed is not ``needed``, so that equal settings stay equal.
    """
    seed = int(rng.integers(2**63))
    if not needed:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    kept = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        if kept is not None:
            torch.mps.set_rng_state(kept)


def to_host(values: Tensor, counters: Counters) -> np.ndarray:
    """A tensor's values as an array, through pinned memory where they come from CUDA."""
    counters.bytes_to_host += values.nbytes
    if values.device.type != "cuda":
        return values.cpu().numpy()
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    pinned.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return pinned.numpy()
