"""Augmentation of training batches, on the device: every sample is changed in its own way at once.

Random numbers come from torch's generators, which training seeds.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from al_gym.config import ClassifierConfig
from al_gym.import_paths import imported

Augmentation = Callable[[Tensor], Tensor]
"""From normalised images (B, C, [D,] H, W) float32 to as many of the same shape."""
SHIFT = 8
"""A shift goes up to this fraction of an edge, 1 / ``SHIFT``."""
INTENSITY = 0.2
"""Most that the gain differs from 1, and the offset from 0 in units of normalised values."""


def augmentation_of(config: ClassifierConfig) -> Augmentation | None:
    """What the settings do to images (B, C, [D,] H, W) float32 in training; None: nothing.

    Raises:
        ValueError: an import path that leads nowhere, or to what cannot be called.
    """
    given = config.augmentation
    if isinstance(given, tuple):
        return _one_after_the_other([AUGMENTATIONS[name] for name in given]) if given else None
    found = imported(given) if isinstance(given, str) else given
    if isinstance(found, type):  # a class of transforms, with its defaults
        found = found()
    if not callable(found):
        raise ValueError(f"augmentation={given!r} is a {type(found).__name__}, not a function")
    return _of_the_same_shape(found)


def flipped(images: Tensor) -> Tensor:
    """Each image mirrored along each of its axes, or not, with equal probability.

    All axes take part, D of volumes too, as is usual for medical images (Isensee et al., nnU-Net,
    2021); it is not for classes that left and right, or up and down, tell apart.
    """
    for axis in range(2, images.ndim):
        size = images.shape[axis]
        rows = torch.arange(size, device=images.device)
        mirrored = torch.rand(len(images), 1, device=images.device) < 0.5
        images = _rearranged(images, axis, torch.where(mirrored, size - 1 - rows, rows))
    return images


def shifted(images: Tensor) -> Tensor:
    """Each image moved along each axis by whole pixels, up to an eighth of the edge.

    What comes in from outside repeats the image's border.
    """
    for axis in range(2, images.ndim):
        size = images.shape[axis]
        most = size // SHIFT
        rows = torch.arange(size, device=images.device)
        shift = torch.randint(-most, most + 1, (len(images), 1), device=images.device)
        images = _rearranged(images, axis, (rows - shift).clamp(0, size - 1))
    return images


def intensified(images: Tensor) -> Tensor:
    """Each image's normalised values times a gain and plus an offset, one for all its channels."""
    shape = (2, len(images), *[1] * (images.ndim - 1))
    gain, offset = INTENSITY * (2 * torch.rand(shape, device=images.device) - 1)
    return images * (1 + gain) + offset


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flipped,
    "shift": shifted,
    "intensity": intensified,
}
"""By the names of the setting ``augmentation``."""


def _rearranged(images: Tensor, axis: int, rows: Tensor) -> Tensor:
    """Each image's slices along an axis in an order of its own: ``rows`` (B, size) of int."""
    shape = [1] * images.ndim
    shape[0], shape[axis] = rows.shape
    return images.gather(axis, rows.view(shape).expand_as(images))


def _one_after_the_other(steps: list[Augmentation]) -> Augmentation:
    def augment(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return augment


def _of_the_same_shape(function: Augmentation) -> Augmentation:
    """A function of the user's own, whose result is looked at."""

    def augment(images: Tensor) -> Tensor:
        result = function(images)
        if not isinstance(result, Tensor):
            raise ValueError(f"augmentation must return a tensor, not a {type(result).__name__}")
        if (result.shape, result.dtype) != (images.shape, images.dtype):
            raise ValueError(
                "augmentation must return images of the shape and type it gets, "
                f"{tuple(images.shape)} {images.dtype}, not {tuple(result.shape)} {result.dtype}"
            )
        return result

    return augment
