"""The caller's PyTorch, which the environment must not depend on and must not change.

Most code that rolls policies out runs under ``torch.no_grad()`` or ``inference_mode()``, perhaps
under autocast or with another default dtype or device; and the environment trains a classifier.
"""

import contextlib
import os
from collections.abc import Iterator

import torch

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # OpenMP's threads are not forked along, and a child that waits for them hangs for ever: it gets
    # one thread, so that AsyncVectorEnv and SubprocVecEnv work with fork
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@contextlib.contextmanager
def own_torch_state() -> Iterator[None]:
    """Gradients on, inference mode and autocast off, float32 and the CPU as defaults.

    What the caller had set comes back at the end. It is a decorator, too: ``@own_torch_state()``.
    """
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # the context would cost every call a little; get_default_device of PyTorch 2.6 knows none
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield
