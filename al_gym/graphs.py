"""Training steps recorded as CUDA graphs: one launch in the place of hundreds."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Batches of a size that are run as usual before one is recorded, so that libraries have chosen
their kernels and the optimiser has made its buffers."""

TrainingStep = Callable[[Tensor, Tensor], None]


class GraphedStep:
    """A training step that is recorded once for each batch size and replayed from then on.

    ResNet-50 at batch 16 keeps a GPU waiting for Python: a step is some hundred small kernels. A
    pass is divided evenly, so only a few sizes occur. Recording runs nothing: the first batches of
    a size are trained on as usual, and no weight moves that would not have moved anyway. See
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    Args:
        step: ``step(images, labels)`` updates weights in place. It sets the gradients to None
            before it fills them, uses no random numbers, and never waits for the device.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._seen: Counter[int] = Counter()
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        # one memory pool: a replay leaves nothing behind that another could overwrite
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """One step on (B, C, [D,] H, W) images and (B,) labels."""
        size = len(labels)
        if size not in self._recorded:
            self._seen[size] += 1
            if self._seen[size] <= WARM_UP:
                self._step(images, labels)
                return
            self._record(size, images, labels)
        graph, images_in, labels_in = self._recorded[size]
        images_in.copy_(images)
        labels_in.copy_(labels)
        graph.replay()

    def _record(self, size: int, images: Tensor, labels: Tensor) -> None:
        images_in, labels_in = images.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        # others may use the device meanwhile, from other threads
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            self._step(images_in, labels_in)
        self._recorded[size] = (graph, images_in, labels_in)
