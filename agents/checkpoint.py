"""Checkpoints: one safetensors file, tensors plus JSON in its header, and no pickle.

What is written is a tree: dictionaries and lists whose leaves are tensors, NumPy arrays and what
JSON can hold. Tensors are stored under their path in the tree, so that any reader of safetensors
can look into the file.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from al_gym import durable
from al_gym.errors import CheckpointError

HEADER, FORMAT, CHECKSUM = "tree", "format", "checksum"
"""Keys of the file's metadata: the JSON text, the version below, and a hash of these and of the
tensors. A file of before has the first alone, and is read unchecked."""
VERSION = "2"
"""Of the format; raised when an older program could not read it. 2 has the checksum."""
TENSOR, ARRAY, ITEMS = "$tensor", "$array", "$items"
"""Keys of the JSON objects that stand for a tensor, an array, and a dictionary whose keys are not
all strings."""


def with_suffix(path: str | Path) -> Path:
    """``path``, with .safetensors added where it is missing, or in place of SB3's suffixes."""
    path = Path(path)
    if path.suffix in (".zip", ".pkl"):
        return path.with_suffix(".safetensors")
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def write(path: str | Path, tree: dict[str, Any]) -> Path:
    """Write a checkpoint at once or not at all, and return where it lies.

    A reader, or a crash half-way, finds the old file or the new one and nothing between.

    Args:
        path: destination; the suffix .safetensors is added if missing, folders are made.
        tree: what to store; tensors may be on any device.

    Raises:
        TypeError: a leaf is of another type than those above.
        OSError: the disk is full, or fails.
    """
    path = with_suffix(path)
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_pack(tree, "", tensors))
    metadata = {HEADER: structure, FORMAT: VERSION}
    metadata[CHECKSUM] = _checksum(metadata, tensors)
    durable.write_bytes(path, save(tensors, metadata))
    return path


def read(path: str | Path) -> dict[str, Any]:
    """Read the tree that ``write`` stored, tensors on the CPU; tuples have become lists.

    Raises:
        FileNotFoundError: there is no such file, with or without the suffix.
        CheckpointError: the file is truncated, damaged, or no checkpoint.
        ValueError: it was written by a newer version.
    """
    path = with_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not a checkpoint ({error}); take another copy or save again"
        ) from error
    if HEADER not in metadata:
        raise CheckpointError(f"{path} is a safetensors file but not a checkpoint of this project")
    _check(path, metadata, tensors)
    try:
        tree = _unpack(json.loads(metadata[HEADER]), tensors)
        if not isinstance(tree, dict):
            raise TypeError("it is no dictionary")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has a header that cannot be used ({error}); take another copy or save again"
        ) from error
    return tree


def _checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Of the metadata, and of the names, types, shapes and bytes of tensors."""
    text = json.dumps({**metadata, CHECKSUM: ""}, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
    """Compare the checksum, where the file has one.

    Raises:
        CheckpointError: the content is not what was written.
        ValueError: a newer version wrote it.
    """
    if set(metadata) == {HEADER}:
        return
    if metadata.get(CHECKSUM) != _checksum(metadata, tensors):
        raise CheckpointError(
            f"{path} is damaged: its content is not what was written; take another copy or save "
            "again"
        )
    if metadata[FORMAT] != VERSION:
        raise ValueError(
            f"{path} was written by a newer version of al-gym (format {metadata[FORMAT]}, this one "
            f"knows {VERSION}): update"
        )


def _pack(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``node`` in JSON types; its tensors go into ``tensors``, their names begin with ``name``."""
    if isinstance(node, (Tensor, np.ndarray)):
        tensor = torch.from_numpy(node) if isinstance(node, np.ndarray) else node
        # Views and tensors that share memory are refused by the format: store what they show.
        tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {ARRAY if isinstance(node, np.ndarray) else TENSOR: name}
    if isinstance(node, dict):
        packed = {
            key: _pack(value, f"{name}.{key}".strip("."), tensors) for key, value in node.items()
        }
        return (
            packed if all(isinstance(key, str) for key in node) else {ITEMS: list(packed.items())}
        )
    if isinstance(node, (list, tuple)):
        return [_pack(value, f"{name}.{i}", tensors) for i, value in enumerate(node)]
    if isinstance(node, np.generic):
        return node.item()
    return node


def _unpack(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo ``_pack``."""
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if TENSOR in node:
        return tensors[node[TENSOR]]
    if ARRAY in node:
        return tensors[node[ARRAY]].numpy()
    if ITEMS in node:
        return {key: _unpack(value, tensors) for key, value in node[ITEMS]}
    return {key: _unpack(value, tensors) for key, value in node.items()}
