"""A saved classifier on files: as those that it was trained on, and on what may lie beside them."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from al_gym import predict
from al_gym.annotate.human import HumanAnnotator
from al_gym.annotate.model import SavedModel
from al_gym.annotate.project import Project, Settings
from al_gym.annotate.trainer import train
from al_gym.data import chestct
from al_gym.predict import PredictConfig
from tests.dicom_samples import write_series

SMALL = {
    "network": "small2d", "weights": None, "trainable": "all", "optimizer": "sgd", "device": "cpu",
}  # fmt: skip
"""A network that is trained whole, in seconds."""


def trained(folder, settings, label_of):
    """A project whose questions are answered at once, and its run."""
    project = Project.create(folder, settings)
    store = project.store
    store.join("ann")

    def answer():
        while question := store.next_for("ann"):
            store.answer(question.sample, "ann", label_of(project, question.sample), 1.0)

    return project, train(project, HumanAnnotator(store, while_waiting=answer), lambda text: None)


def draw(path, level, colour=False, size=14):
    rng = np.random.default_rng([level, len(str(path))])
    shape = (size, size + 2, 3) if colour else (size, size + 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(level, level + 120, shape).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty images, grey and in colour, of which the folders say nothing."""
    root = tmp_path_factory.mktemp("predict") / "images"
    for i in range(40):
        draw(root / f"ward {i % 3}" / f"{'=' * (i == 0)}{i}.png", 120 * (i % 2), colour=i % 4 < 2)
    (root / "readme.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """A project on them with a network of its own, and its run."""
    settings = Settings(
        str(root), classes=("dark", "@light"), method="ms", budget=20, query_size=5,
        settings={**SMALL, "image_size": 12, "exclude": "*7.png"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("predict") / "project"
    number = lambda project, row: project.plan.dataset.names[row].split("/")[1].lstrip("=")  # noqa: E731
    return trained(folder, settings, lambda *of: int(number(*of).split(".")[0]) % 2)


def lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def softmax_of(line, classes=("dark", "@light")):
    return np.array([float(line[f"probability of {name}"]) for name in classes])


def predictions_of(found):
    return {line["file"].strip(): line for line in found}


def test_predictions_are_those_of_the_run(made, root, tmp_path, capsys):
    project, run = made
    out = tmp_path / "new" / "predictions.csv"
    assert predict.main(PredictConfig(project.folder, root, out)) == 0
    found = predictions_of(lines(out))
    dataset = project.plan.dataset
    assert sorted(found) == sorted(dataset.names.tolist()) and len(found) == 36
    expected = run.predict(np.arange(len(dataset.labels)))
    for name, softmax in zip(dataset.names.tolist(), expected, strict=True):
        np.testing.assert_allclose(softmax_of(found[name]), softmax, atol=1e-6)
        assert found[name]["class"].strip() == dataset.class_names[softmax.argmax()]
        assert found[name]["problem"] == ""
    columns = ["file", "class", "probability of dark", "probability of @light", "problem"]
    assert list(lines(out)[0]) == columns
    cells = [cell for line in lines(out) for cell in line.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
    counts = [
        sum(line["class"].strip() == name for line in found.values()) for name in ("dark", "@light")
    ]
    assert capsys.readouterr().out.splitlines() == [
        f"36 images: dark {counts[0]}, @light {counts[1]}.", f"{out} has a line for each.",
    ]  # fmt: skip


def test_grey_files_do_for_a_model_of_colour(made, root, tmp_path):
    project, run = made
    assert project.plan.dataset.images.shape[1] == 3
    (tmp_path / "grey").mkdir()
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            if image.mode == "L":
                shutil.copy(path, tmp_path / "grey")
    predict.main(PredictConfig(project.folder, tmp_path / "grey", tmp_path / "out.csv"))
    found = predictions_of(lines(tmp_path / "out.csv"))
    names = project.plan.dataset.names.tolist()
    rows = [row for row, name in enumerate(names) if name.split("/")[1] in found]
    assert len(rows) == len(found) == 18
    for row, softmax in zip(rows, run.predict(np.array(rows)), strict=True):
        np.testing.assert_allclose(softmax_of(found[names[row].split("/")[1]]), softmax, atol=1e-6)


def test_a_file_that_cannot_be_read_costs_one_line(made, root, tmp_path, capsys):
    project, _ = made
    images = tmp_path / "images"
    shutil.copytree(root, images)
    whole = (root / "ward 1" / "1.png").read_bytes()
    half = len(whole) // 2
    (images / "a bad.png").write_bytes(whole[:half] + bytes(half - 20) + whole[2 * half - 20 :])
    (images / "empty.png").write_bytes(b"")
    write_series(images / "series", 3)
    out = tmp_path / "out.csv"
    assert predict.main(PredictConfig(project.folder, images, out)) == 1
    found = predictions_of(lines(out))
    assert len(found) == 36 + 3
    problems = {name: line["problem"] for name, line in found.items() if line["problem"]}
    assert list(problems) == ["a bad.png", "series", "empty.png"]  # the last has no header
    assert "a bad.png cannot be decoded" in problems["a bad.png"]
    assert "has 3 axes, and the model is for images" in problems["series"]
    assert found["empty.png"]["class"] == found["empty.png"]["probability of dark"] == ""
    predict.main(PredictConfig(project.folder, root, tmp_path / "whole.csv"))
    others = {name: line for name, line in found.items() if name not in problems}
    assert others == predictions_of(lines(tmp_path / "whole.csv"))
    assert "3 could not be read, see the column problem; the first: a bad.png" in (
        capsys.readouterr().out
    )


def test_a_folder_of_nothing_but_broken_files_is_said(made, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"")
    out = tmp_path / "out.csv"
    assert predict.main(PredictConfig(made[0].folder, tmp_path / "images", out)) == 1
    assert [line["file"] for line in lines(out)] == ["1.png"]


def test_batches_do_not_matter(made, root, tmp_path, monkeypatch):
    found = []
    for size in (64, 7):
        monkeypatch.setattr(predict, "BATCH", size)
        out = tmp_path / f"{size}.csv"
        predict.main(PredictConfig(made[0].folder, root, out))
        found.append(lines(out))
    for a, b in zip(*found, strict=True):
        assert a["file"] == b["file"]
        np.testing.assert_allclose(softmax_of(a), softmax_of(b), atol=1e-6)


def test_what_cannot_be_is_said(made, root, tmp_path):
    project, _ = made
    out = tmp_path / "out.csv"
    cases = [
        (tmp_path / "none", root, FileNotFoundError, "there is no model"),
        (project.folder, tmp_path / "none", FileNotFoundError, "there is no folder"),
        (project.folder, root / "readme.txt", ValueError, "must be an npz file"),
        (project.folder / "project.json", root, ValueError, "is no model that can be used"),
    ]
    for model, folder, error, message in cases:
        with pytest.raises(error, match=message):
            predict.main(PredictConfig(model, folder, out))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="there are no images below"):
        predict.main(PredictConfig(project.folder, tmp_path / "empty", out))
    assert not out.exists()
    out.write_text("precious")
    with pytest.raises(ValueError, match="is there already: choose another --out, or --overwrite"):
        predict.main(PredictConfig(project.folder, root, out))
    assert out.read_text() == "precious"
    assert predict.main(PredictConfig(project.folder, root, out, overwrite=True)) == 0
    assert len(lines(out)) == 36


def test_the_command_line_says_in_a_line_what_is_wrong(made, tmp_path, as_program):
    said = as_program(predict, made[0].folder, tmp_path)
    assert said == f"al_gym.predict: there are no images below {tmp_path}"


# --- other sources --------------------------------------------------------------------------------


def test_lesions_need_no_labels(chestct_root, tmp_path):
    """Empty labels, or no such column; a scan that is not there costs its lesions."""
    settings = Settings(
        str(chestct_root), dataset="chestCT", method="ms", budget=30, query_size=10, audit=0.05,
        key=True, settings={**SMALL, "network": "small3d", "patch_size": 12},
    )  # fmt: skip
    project, run = trained(
        tmp_path / "project", settings, lambda project, row: int(project.plan.truth[row])
    )
    root = tmp_path / "new"
    shutil.copytree(chestct_root, root)
    table = [line.split(",") for line in (root / chestct.ANNOTATIONS).read_text().splitlines()]
    out = tmp_path / "out.csv"
    for cells in (["label", ""], []):
        (root / chestct.ANNOTATIONS).write_text(
            "\n".join(",".join([*line[:-1], *cells[i > 0 :][:1]]) for i, line in enumerate(table))
        )
        assert predict.main(PredictConfig(project.folder, root, out, overwrite=True)) == 0
        found = predictions_of(lines(out))
        dataset = project.plan.dataset
        assert sorted(found) == sorted(dataset.names.tolist()) and len(found) == len(table) - 1
        expected = run.predict(np.arange(len(dataset.labels)))
        for name, softmax in zip(dataset.names.tolist(), expected, strict=True):
            own = softmax_of(found[name], dataset.class_names)
            np.testing.assert_allclose(own, softmax, atol=1e-6)
    scans = sorted(root.rglob("*.mhd"))
    scans[0].unlink()
    voxels = scans[1].with_suffix(".raw")
    voxels.write_bytes(voxels.read_bytes()[:1000])
    assert predict.main(PredictConfig(project.folder, root, out, overwrite=True)) == 1
    broken = {
        n: line["problem"] for n, line in predictions_of(lines(out)).items() if line["problem"]
    }
    of_scan = {scan.stem: [name for name in found if name.startswith(scan.stem)] for scan in scans}
    assert sorted(broken) == sorted(of_scan[scans[0].stem] + of_scan[scans[1].stem])
    assert f"there is no volume {scans[0].stem}.mhd" in broken[of_scan[scans[0].stem][0]]
    assert f"{scans[1]} cannot be read" in broken[of_scan[scans[1].stem][0]]


@pytest.fixture(scope="module")
def arrays():
    labels = np.arange(60) % 2
    noise = np.random.default_rng(0).integers(0, 120, (60, 10, 10))
    return (noise + 120 * labels[:, None, None]).astype(np.uint8), labels


def test_images_of_a_file_like_medmnists(arrays, tmp_path):
    images, labels = arrays
    root = tmp_path / "root"
    root.mkdir()
    np.savez(
        root / "own_10.npz",
        train_images=images[:50], train_labels=labels[:50, None],
        test_images=images[50:], test_labels=labels[50:, None],
    )  # fmt: skip
    settings = Settings(
        str(root), dataset="MedMNIST", method="ms", budget=20, query_size=5, key=True,
        settings={**SMALL, "flag": "own", "size": 10},
    )  # fmt: skip
    project, run = trained(
        tmp_path / "project", settings, lambda project, row: int(project.plan.truth[row])
    )
    expected = run.predict(np.arange(60))
    names = project.plan.dataset.names.tolist()
    for folder in (root, root / "own_10.npz"):
        out = tmp_path / "out.csv"
        predict.main(PredictConfig(project.folder, folder, out, overwrite=True))
        found = lines(out)
        assert [line["file"] for line in found] == names
        np.testing.assert_allclose([softmax_of(line, "01") for line in found], expected, atol=1e-6)
    model = SavedModel(project.folder)
    np.savez(tmp_path / "plain.npz", images=images[:3])
    source = predict.source_of(model, tmp_path / "plain.npz")
    assert source.names == ["0", "1", "2"]
    np.testing.assert_array_equal(source.read(2), images[2][None])
    for name, array in {"large": np.zeros((2, 12, 12), np.uint8),
                        "coloured": np.zeros((2, 10, 10, 3), np.uint8),
                        "volumes": np.zeros((2, 10, 10, 10), np.uint8)}.items():  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", images=array)
        with pytest.raises(ValueError, match="the model is for"):
            predict.source_of(model, tmp_path / f"{name}.npz")
    np.savez(tmp_path / "none.npz", labels=labels)
    with pytest.raises(ValueError, match="neither an array images nor any of train_images"):
        predict.source_of(model, tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match=r"own_10\.npz; or name an npz file"):
        predict.source_of(model, tmp_path)


def test_a_linear_layer_on_frozen_features_and_an_npz_file(arrays, tmp_path):
    """What a project begins with, on images.npz in a folder."""
    images, labels = arrays
    root = tmp_path / "root"
    root.mkdir()
    known = np.where(np.arange(60) < 8, labels, -1)
    np.savez(root / "images.npz", images=images, labels=known, names=[f"n{i}" for i in range(60)])
    settings = Settings(str(root), method="ms", budget=10, query_size=5,
                        settings={"image_size": 16, "window": [10, 220]})  # fmt: skip
    project, run = trained(
        tmp_path / "project",
        settings,
        lambda project, row: int(labels[int(project.plan.dataset.names[row][1:])]),
    )
    new = tmp_path / "new"
    new.mkdir()
    np.savez(new / "images.npz", images=images, names=[f"n{i}" for i in range(60)])
    out = tmp_path / "out.csv"
    predict.main(PredictConfig(project.folder, new, out))
    found = lines(out)
    names = project.plan.dataset.names.tolist()
    assert [line["file"] for line in found] == [f"n{i}" for i in range(60)]
    expected = run.predict(np.arange(60))[[names.index(f"n{i}") for i in range(60)]]
    np.testing.assert_allclose([softmax_of(line, "01") for line in found], expected, atol=1e-6)
