"""Checkpoints: one safetensors file, tensors plus JSON in its header, and no pickle."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

HEADER = "agent"
"""Key of the JSON text in the file's metadata."""


def with_suffix(path: str | Path) -> Path:
    """`path`, with .safetensors added where it is missing."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def write(path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write a checkpoint at once or not at all, and return where it lies.

    The content goes to a temporary file in the same folder, which then takes the place of `path`:
    a reader, or a crash half-way, finds the old file or the new one and nothing between.

    Args:
        path: Destination; the suffix .safetensors is added if missing, folders are made.
        tensors: Tensors by name, on any device.
        header: What JSON can hold.
    """
    path = with_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Views and tensors that share memory are refused by the format: store what they show.
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={HEADER: json.dumps(header)},
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors, on the CPU, and the header that `write` stored.

    Raises:
        FileNotFoundError: There is no such file, with or without the suffix.
        ValueError: The file is truncated or is no checkpoint of an agent.
    """
    path = with_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is truncated or not a checkpoint ({error}); take another copy or save again"
        ) from error
    if HEADER not in metadata:
        raise ValueError(f"{path} is a safetensors file but not the checkpoint of an agent")
    return tensors, json.loads(metadata[HEADER])


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix` and a dot, under the rest of the name."""
    start = prefix + "."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def flatten(tree: dict[Any, Any]) -> dict[str, Tensor]:
    """Tensors of nested dictionaries, by their keys joined with dots."""
    flat: dict[str, Tensor] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": tensor for name, tensor in flatten(value).items()}
        else:
            flat[str(key)] = value
    return flat


def numbered(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Undo `flatten` for {0: {name: tensor}, 1: ...}, the state of an optimiser."""
    tree: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, slot = name.split(".")
        tree.setdefault(int(index), {})[slot] = tensor
    return tree
