"""The images as the classifier meets them: on its device, or on their way there."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Place = Literal["auto", "device", "host"]


class DeviceImages:
    """Images in their storage type, given out in batches on the device.

    They lie on the device whole where they fit, so that a batch is an index. Otherwise they stay on
    the host, in memory or in a memory map, and a batch is gathered into one of two pinned buffers
    while the device works on the batch before.

    Args:
        images: (N, C, [D,] H, W), uint8 or int16; may be a ``numpy.memmap``.
        device: where the classifier works.
        place: "device", "host", or "auto": on the device if they take at most half of its free
            memory. On the CPU both are the same memory, and a memory map stays one.
    """

    def __init__(self, images: np.ndarray, device: torch.device, place: Place = "auto") -> None:
        self.shape = tuple(images.shape[1:])
        self.device = device
        self._host = images
        self._resident: Tensor | None = None
        if place == "device" or (place == "auto" and _fits(images.nbytes, device)):
            self._resident = torch.from_numpy(images).to(device)
        streams = device.type == "cuda" and self._resident is None
        self._copying = torch.cuda.Stream(device) if streams else None

    def __len__(self) -> int:
        """N."""
        return len(self._host)

    @property
    def values(self) -> int:
        """Values of one image."""
        return int(np.prod(self.shape))

    def batches(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """The images of each part, (len(part), C, [D,] H, W) in the storage type, on the device.

        A batch is to be used before the next but one is asked for: its buffer is used again.

        Args:
            parts: rows of each batch, int.
        """
        if self._resident is not None:
            rows = torch.as_tensor(np.concatenate(parts), device=self.device)
            for part in rows.split([len(part) for part in parts]):
                yield self._resident[part]
        else:
            yield from self._streamed(parts)

    def _streamed(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        shape = (max(len(part) for part in parts), *self.shape)
        dtype = torch.from_numpy(self._host[:0]).dtype
        buffers = [
            torch.empty(shape, dtype=dtype, pin_memory=self._copying is not None) for _ in range(2)
        ]
        copied: list[torch.cuda.Event | None] = [None, None]
        for i, part in enumerate(parts):
            event = copied[i % 2]
            if event is not None:
                event.synchronize()  # the buffer's last batch has left it
            buffer = buffers[i % 2][: len(part)]
            np.take(self._host, part, axis=0, out=buffer.numpy(), mode="clip")
            if self._copying is None:
                yield buffer.to(self.device)  # on the CPU the buffer itself
                continue
            with torch.cuda.stream(self._copying):
                batch = buffer.to(self.device, non_blocking=True)
                copied[i % 2] = self._copying.record_event()
            working = torch.cuda.current_stream(self.device)
            working.wait_stream(self._copying)
            batch.record_stream(working)
            yield batch

    def channel_statistics(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over ``rows``, shaped to broadcast over a batch."""
        count = 0
        device = torch.device("cpu") if self.device.type == "mps" else self.device  # has no float64
        total = squares = torch.zeros(self.shape[0], dtype=torch.float64, device=device)
        for batch in self.batches(split(rows, 256)):
            values = batch.to(device).transpose(0, 1).flatten(1).double()
            count += values.shape[1]
            total = total + values.sum(1)
            squares = squares + values.square().sum(1)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        shape = (1, -1, *[1] * (len(self.shape) - 1))
        # a constant channel (an empty window) becomes zeros instead of NaN
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        mean, deviation = mean.float().to(self.device), deviation.float().to(self.device)
        return mean.view(shape), deviation.view(shape)


def split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Consecutive parts of ``size`` rows, the last with what is left."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def split_evenly(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Consecutive parts of nearly equal size, as few as keep to ``size``; rows along axis -1.

    Of no rows there are no parts. With a ``size`` of 3 or more a part has one row only if there is
    but one.
    """
    n_parts = -(-rows.shape[-1] // size)
    return np.array_split(rows, n_parts, axis=-1) if n_parts else []


def _fits(n_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= free // 2
