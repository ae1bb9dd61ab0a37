"""Networks of the user's own: made, looked at, and split into a backbone and a linear head."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

Factory = Callable[[int, int], nn.Module]
"""(channels, n_classes) -> a module that ends in a linear layer."""


def made(network: Any, image_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A copy of the module that is given, or what the function that is given makes.

    Raises:
        ValueError: neither of both, or layers that are not built yet.
    """
    if not callable(network):  # a module is, too
        raise ValueError(
            f"network must be a name, a module, or a function that makes one, not {network!r}"
        )
    module = network if isinstance(network, nn.Module) else network(image_shape[0], n_classes)
    if not isinstance(module, nn.Module):
        raise ValueError(f"the network factory {network} returned a {type(module).__name__}")
    _refuse_unbuilt(module, image_shape)
    return copy.deepcopy(module) if module is network else module


def split(
    module: nn.Module, image_shape: tuple[int, ...], n_classes: int
) -> tuple[nn.Module, nn.Linear]:
    """Backbone and head of a module; it is taken apart for that.

    Args:
        module: maps images (B, C, [D,] H, W) to logits (B, M), by a linear layer at the end.
        image_shape: (C, H, W) or (C, D, H, W).
        n_classes: M.

    Raises:
        ValueError: it does not take such images, returns NaN or infinity for them, or does not end
            in ``nn.Linear(_, n_classes)``.
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise ValueError("the network has no nn.Linear; its last layer must be one")
    parent_name, _, child = linear[-1].rpartition(".")
    parent = module.get_submodule(parent_name)
    head = module.get_submodule(linear[-1])
    assert isinstance(head, nn.Linear)
    if head.out_features != n_classes:
        raise ValueError(
            f"the network's last nn.Linear ({linear[-1]}) has {head.out_features} outputs; "
            f"the data set has {n_classes} classes"
        )
    probe = torch.rand(2, *image_shape)
    with torch.inference_mode():
        try:
            expected = module.eval()(probe)
        except RuntimeError as error:
            raise ValueError(
                f"the network does not take the data set's images, of shape {image_shape}: {error}"
            ) from error
        if not expected.isfinite().all():
            raise ValueError(
                "the network returns NaN or infinity for images of random numbers between 0 and 1: "
                "correct its weights, or what it does with them"
            )
        backbone: nn.Module = nn.Identity()  # if the module is itself the linear layer
        if child:
            setattr(parent, child, nn.Identity())
            backbone = module
        if not torch.allclose(head(backbone(probe)), expected, atol=1e-5):
            raise ValueError(
                f"the network's last nn.Linear ({linear[-1]}) is not its last operation; "
                "return its output unchanged (logits, no softmax)"
            )
    return backbone, head


def _refuse_unbuilt(module: nn.Module, image_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if a layer waits for its first batch to know its size, as nn.LazyLinear.

    Weights that do not exist yet can be neither drawn by the seed nor kept.
    """
    for name, part in module.named_modules():
        own = (*part.parameters(recurse=False), *part.buffers(recurse=False))
        if any(map(is_lazy, own)):
            raise ValueError(
                f"the network's layer {name!r} ({type(part).__name__}) is not built yet. Run one "
                f"batch through it first: network(torch.zeros(2, {', '.join(map(str, image_shape))}"
                ")), in a function that makes the network before it returns it"
            )
