"""Trees come back from their file; what makes no sense is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from agents import checkpoint


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
    with pytest.raises(ValueError, match=r"agent\.safetensors has a header that cannot be used"):
        checkpoint.read(path)


def test_a_tree_comes_back(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "tensor": torch.arange(6.0).reshape(2, 3).T,
        "array": np.array([True, False]),
        "empty": {"list": [], "none": None, "array": np.zeros((0, 2))},
        "optimizer": {0: {"step": torch.tensor(3.0)}, 1: {}},
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
