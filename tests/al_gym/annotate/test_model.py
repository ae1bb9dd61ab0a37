"""A classifier as a file: it predicts what the run predicted, or is refused by name."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from al_gym.annotate import trainer
from al_gym.annotate.model import CARD, HEADER, WEIGHTS, SavedModel, save_model
from al_gym.annotators import OracleAnnotator
from al_gym.data.dataset import ImageDataset
from tests.al_gym.annotate.projects import (
    CLASSES,
    HEAD,
    WHOLE,
    draw_scans,
    labels_of,
    make_project,
    tiny,
)  # fmt: skip
from tests.al_gym.episodes import make
from tests.samples import FAST

KINDS = {
    "head": HEAD,
    "whole": WHOLE,
    "own": {**WHOLE, "network": "tests.al_gym.annotate.projects:tiny"},
    "own head": {**HEAD, "network": "tests.al_gym.annotate.projects:tiny"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Kind of the network -> the project and its run, trained when asked for."""
    folder = tmp_path_factory.mktemp("models")
    root, made = draw_scans(folder / "root"), {}

    def get(kind):
        if kind not in made:
            project = make_project(folder / kind, root, budget=12, settings=KINDS[kind])
            oracle = OracleAnnotator(labels_of(project))
            made[kind] = project, trainer.train(project, oracle, lambda message: None)
        return made[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_it_predicts_what_the_run_predicts(trained, kind):
    project, run = trained(kind)
    images = project.plan.dataset.images
    expected = run.predict(np.arange(len(images)))
    assert np.ptp(expected, axis=0).max() > 0.01  # it has learned to tell some apart
    for path in (project.folder, project.folder / WEIGHTS, str(project.folder)):
        model = SavedModel(path, trust="own" in kind)
        found = model.predict(images)
        assert found.dtype == np.float32 and found.shape == (72, 3)
        if "head" in kind:  # products of matrices of other sizes
            np.testing.assert_allclose(found, expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(model.predict(images[40:41]), expected[40:41], atol=1e-6)
    assert (model.classes, model.shape) == (CLASSES, (1, 12, 12))


def test_volumes(tmp_path):
    labels = np.arange(30) % 2
    noise = np.random.default_rng(0).normal(0, 40, (30, 2, 8, 8, 8))
    images = (80 + 80 * labels[:, None, None, None, None] + noise).clip(0, 255).astype(np.uint8)
    dataset = ImageDataset(
        images, labels, ("a", "b"), np.arange(30), np.arange(20), np.arange(20, 30), "generated"
    )
    env = make(dataset, replace(FAST, network="small3d"), initial_fraction=0.3)
    env.reset(seed=0)
    channels = images[:20].astype(np.float64).transpose(1, 0, 2, 3, 4).reshape(2, -1)
    statistics = channels.mean(1).astype(np.float32), channels.std(1).astype(np.float32)
    save_model(tmp_path, env.run, dataset, {}, statistics)
    np.testing.assert_allclose(
        SavedModel(tmp_path).predict(images), env.run.predict(np.arange(30)), atol=1e-5
    )


def test_the_card_says_what_it_is(trained):
    project, run = trained("head")
    card = json.loads((project.folder / CARD).read_text())
    with safe_open(project.folder / WEIGHTS, "pt") as file:
        assert json.loads(file.metadata()[HEADER]) == card
        assert sorted(file.keys()) == ["bias", "weight"]
    labels = run.episode.pool.labels
    assert card["labels"] == {name: int((labels == i).sum()) for i, name in enumerate(CLASSES)}
    assert sum(card["labels"].values()) == 9  # 12, of which 3 are the test set
    assert card["classes"] == list(CLASSES) and card["images"] == [1, 12, 12]
    assert card["reader"] == project.reader_settings
    assert card["mean"] == project.statistics[0].tolist()
    assert card["classifier"]["network"] == "small2d" and "torch" in card["versions"]


def test_looking_at_a_model_leaves_pytorch_as_it_was(trained):
    project, _ = trained("whole")
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    SavedModel(project.folder).predict(project.plan.dataset.images[:3])
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_a_network_without_a_name_is_not_saved(trained, tmp_path, dataset):
    env = make(dataset, replace(FAST, network=tiny))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="network must be a name or an import path"):
        save_model(tmp_path, env.run, dataset, {}, (np.zeros(2), np.ones(2)))
    assert not list(tmp_path.iterdir())


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / WEIGHTS):
        with pytest.raises(FileNotFoundError, match="there is no model"):
            SavedModel(path)


# --- damage ---------------------------------------------------------------------------------------


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name} is no model that can be used") as error:
        SavedModel(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", ["head", "whole"])
def test_truncated_files_are_refused(trained, tmp_path, kind):
    content = (trained(kind)[0].folder / WEIGHTS).read_bytes()
    for n in (0, 1, 7, 8, 9, 100, 1000, len(content) // 2, len(content) - 1):
        refused(tmp_path / "cut", content[: min(n, len(content) - 1)])
    refused(tmp_path / "long", content + b"\0")
    (tmp_path / "whole").write_bytes(content)
    SavedModel(tmp_path / "whole")


def test_files_of_others_are_refused(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    for content in (
        b"PK\x03\x04 a pickle of PyTorch's",
        bytes(4000),
        b"\xff" * 4000,
        struct.pack("<Q", len(header)) + header + bytes(4),  # without a card
    ):
        refused(tmp_path / "other.safetensors", content)


def remove(name):
    return lambda card, tensors: (card.pop(name, None), tensors.pop(name, None))


def put(name, value):
    return lambda card, tensors: card.update({name: value})


CHANGES = {
    "another format": put("format", 2),
    "no format": remove("format"),
    "no classes": remove("classes"),
    "no shape": remove("images"),
    "no classifier": remove("classifier"),
    "no mean": remove("mean"),
    "classes that are none": put("classes", 3),
    "one class less": put("classes", ["dark", "light"]),
    "no class": put("classes", []),
    "no axes": put("images", []),
    "negative axes": put("images", [1, -12, 12]),
    "axes in words": put("images", ["one", 12, 12]),
    "more channels": put("images", [2, 12, 12]),
    "more means": put("mean", [1.0, 2.0]),
    "means in words": put("mean", ["a"]),
    "a setting that there is not": lambda card, _: card["classifier"].update(colour=1),
    "a value that cannot be": lambda card, _: card["classifier"].update(batch_size=0),
    "a network that there is not": lambda card, _: card["classifier"].update(network="resnet1"),
    "a module that there is not": lambda card, _: card["classifier"].update(network="nowhere:net"),
    "another network": lambda card, _: card["classifier"].update(network="resnet18"),
    "settings in a list": put("classifier", [1]),
}


def rewritten(source, target, change):
    with safe_open(source, "pt") as file:
        card = json.loads(file.metadata()[HEADER])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(card, tensors)
    save_file(tensors, target, {HEADER: json.dumps(card)})
    return target.read_bytes()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["head", "whole"])
def test_changed_cards_are_refused(trained, tmp_path, kind, change):
    content = rewritten(trained(kind)[0].folder / WEIGHTS, tmp_path / "m", CHANGES[change])
    refused(tmp_path / "m", content)


def test_a_card_that_is_none_is_refused(trained, tmp_path):
    for card in ("3", "[]", "null", "{", '"text"'):
        save_file(
            {"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, tmp_path / "m", {HEADER: card}
        )
        refused(tmp_path / "m", (tmp_path / "m").read_bytes())


@pytest.mark.parametrize("kind", ["head", "whole"])
def test_other_tensors_are_refused(trained, tmp_path, kind):
    source = trained(kind)[0].folder / WEIGHTS
    with safe_open(source, "pt") as file:
        names = list(file.keys())
    last = next(name for name in names if name.endswith("weight"))
    for change in (
        lambda card, tensors: tensors.pop(last),
        lambda card, tensors: tensors.update({last: tensors[last][..., :1].clone()}),
        lambda card, tensors: tensors.update({last: torch.cat([tensors[last]] * 2)}),
    ):
        refused(tmp_path / "m", rewritten(source, tmp_path / "m", change))
