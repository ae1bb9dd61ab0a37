"""Trees come back from their file; what makes no sense is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import agents
from agents import checkpoint
from al_gym.errors import CheckpointError


@pytest.mark.parametrize(
    "tree",
    [
        "not json", "null", "[1]", '{"a": {"$tensor": "b"}}', '{"a": {"$tensor": [1]}}',
        '{"a": {"$items": 3}}', '{"a": {"$array": 1}}', "[" * 10_000,
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense(tmp_path: Path, tree: str) -> None:
    path = tmp_path / "agent.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"tree": tree})
    with pytest.raises(
        CheckpointError, match=r"agent\.safetensors has a header that cannot be used"
    ):
        checkpoint.read(path)


def test_a_tree_comes_back(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "tensor": torch.arange(6.0).reshape(2, 3).T,
        "array": np.array([True, False]),
        "empty": {"list": [], "none": None, "array": np.zeros((0, 2))},
        "optimizer": {0: {"step": torch.tensor(3.0)}, 1: {}},
        "one": torch.zeros(()).expand(1),
        "numbers": [1, 2**100, 0.1, np.float32(0.5), (True, "text")],
    }
    back = checkpoint.read(checkpoint.write(tmp_path / "tree", tree))
    assert back["numbers"] == [1, 2**100, 0.1, 0.5, [True, "text"]]
    assert torch.equal(back["tensor"], tree["tensor"])
    assert back["array"].dtype == bool and back["array"].tolist() == [True, False]
    assert back["empty"]["list"] == [] and back["empty"]["none"] is None
    assert back["empty"]["array"].shape == (0, 2)
    assert back["optimizer"] == tree["optimizer"]


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.write(tmp_path / "tree", {"function": print})
    assert list(tmp_path.iterdir()) == []


TREE: dict[str, Any] = {
    "weights": torch.arange(4.0), "half": torch.ones(3, dtype=torch.bfloat16), "steps": 7,
    "scalar": torch.tensor(2), "none": np.zeros((0, 2)), "mask": np.array([True, False]),
}  # fmt: skip


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """Each bit of each byte in turn, but for the blanks that fill the header up."""
    path = checkpoint.write(tmp_path / "agent", TREE)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    last = content[:header].rstrip(b" ")
    for place in [*range(len(last)), *range(header, len(content))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"agent\.safetensors"):
            checkpoint.read(path)


def test_a_truncated_file_is_noticed_wherever_it_ends(tmp_path: Path) -> None:
    path = checkpoint.write(tmp_path / "agent", TREE)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"agent\.safetensors"):
            checkpoint.read(path)


def test_a_file_of_a_newer_version_is_refused_and_one_of_before_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "VERSION", "3")
        path = checkpoint.write(tmp_path / "agent", TREE)
    with pytest.raises(ValueError, match="newer version of al-gym .format 3, this one knows 2"):
        checkpoint.read(path)
    path = checkpoint.write(tmp_path / "agent", TREE)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    save_file(tensors, path, {"tree": metadata["tree"]})
    assert checkpoint.read(path)["steps"] == 7
    del metadata["checksum"]  # a header that has lost its own is none of before
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)


def test_policies_that_come_with_the_package_are_read() -> None:
    paths = sorted((Path(agents.__file__).parent / "pretrained").glob("*.safetensors"))
    assert paths
    for path in paths:
        assert checkpoint.read(path)
