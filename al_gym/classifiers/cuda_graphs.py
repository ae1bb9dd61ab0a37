"""Training steps recorded as CUDA graphs: one launch in the place of hundreds."""

import threading
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
        stream: of the classifier; all steps are taken with it as the current stream. A stream
            shared with others would make their recordings share the workspaces of libraries too.
    """

    _one_at_a_time = threading.Lock()

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._seen: Counter[int] = Counter()
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        # one memory pool: a replay leaves nothing behind that another could overwrite
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, step: TrainingStep, images: Tensor, labels: Tensor) -> None:
        """One step.

        Args:
            step: ``step(images, labels)`` updates weights in place, the same tensors every time. It
                sets the gradients to None before it fills them, uses no random numbers, and never
                waits for the device.
            images: (B, C, [D,] H, W).
            labels: (B,).
        """
        size = len(labels)
        if size not in self._recorded:
            self._seen[size] += 1
            if self._seen[size] <= WARM_UP:
                step(images, labels)
                return
            self._record(step, images, labels)
        graph, images_in, labels_in = self._recorded[size]
        images_in.copy_(images)
        labels_in.copy_(labels)
        graph.replay()

    def _record(self, step: TrainingStep, images: Tensor, labels: Tensor) -> None:
        images_in, labels_in = images.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        # other threads go on meanwhile, but none records too
        with (
            self._one_at_a_time,
            torch.cuda.graph(
                graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            step(images_in, labels_in)
        self._recorded[len(labels)] = (graph, images_in, labels_in)
