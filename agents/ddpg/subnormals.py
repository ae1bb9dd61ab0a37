"""Numbers too small to be normal, which a processor computes with slowly, taken for 0."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_subnormals() -> Iterator[None]:
    """Let this thread take float32 numbers below 1.2e-38 for 0 for a while, on the CPU.

    The squares of a saturated actor's gradients are as small, and Adam keeps them for every weight:
    its gradient steps then take 2.4 times as long. No weight changes by it, as Adam adds 1e-8 to
    their roots.
    """
    before = bool(torch.tensor(1e-39) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
