"""The csv files: what stands in them, and that readers get it back."""

import csv
import shutil
from datetime import datetime, timezone

import numpy as np
import pytest
from PIL import Image

from al_gym.annotate import export
from al_gym.annotate.project import Project, Settings
from al_gym.annotate.store import SKIP, Asked
from al_gym.data import chestct, folder
from tests.samples import draw_folder

CLASSES = ("light", "=dark")


def draw_images(root, names):
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 12)).astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Thirty images, one of which is called as a formula."""
    names = ["=1+1.png", *(f"ward {i % 3}/{i}.png" for i in range(29))]
    return draw_images(tmp_path_factory.mktemp("export") / "images", names)


@pytest.fixture
def project(root, tmp_path):
    """Five samples asked about, four answered, by people and with opinions of model 0."""
    settings = Settings(str(root), classes=CLASSES, budget=10, query_size=2)
    made = Project.create(tmp_path / "project", settings)
    store, names = made.store, made.plan.dataset.names.tolist()
    formula, a, b, c, d = (names.index(n) for n in ("=1+1.png", *sorted(names)[-4:]))
    store.ask([Asked(formula, "start", 2)], 0, None)
    store.ask([Asked(a, "method", 2), Asked(int(made.plan.audit[0]), "audit")], 1, 0)
    store.ask([Asked(b, "method"), Asked(c, "method"), Asked(d, "method")], 2, 1)
    for name in ("ann", "@bob", "cat"):
        store.join(name)
    rows = np.array([formula, a, b])
    store.add_model(0, 2, 1.0, rows, np.array([[0.9, 0.1], [0.25, 0.75], [0.5, 0.5]], np.float32))
    store.answer(formula, "ann", 1, 2.5)
    store.answer(formula, "@bob", 0, 3.25, unsure=True)
    store.answer(a, "ann", SKIP, 1.0)
    store.answer(int(made.plan.audit[0]), "ann", 0, 1.0)
    store.answer(b, "ann", 0, 1.0)
    store.undo("ann")
    store.review(formula, "cat", 0, 9.0)
    made.rows = (formula, a, b)
    return made


def lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_answer_that_counts_has_a_line_in_its_order(project):
    written = export.write(project)
    assert [path.name for path in written] == ["labels.csv", "final.csv"]
    assert {path.parent for path in written} == {project.folder}
    found = lines(written[0])
    names, (formula, a, _) = project.plan.dataset.names, project.rows
    assert ",".join(found[0]) == export.COLUMNS
    assert [
        (line["file"].strip(), line["class"].strip(), line["who"].strip()) for line in found
    ] == [
        (names[formula], "=dark", "ann"),
        (names[formula], "light", "@bob"),
        (names[a], "", "ann"),
        (names[project.plan.audit[0]], "light", "ann"),
        (names[formula], "light", "cat"),
    ]
    columns = {name: [line[name] for line in found] for name in found[0]}
    assert columns["seconds"] == ["2.50", "3.25", "1.00", "1.00", "9.00"]
    assert columns["unsure"] == ["0", "1", "0", "0", "0"]
    assert columns["review"] == ["0", "0", "0", "0", "1"]
    assert columns["purpose"] == ["start", "start", "method", "audit", "start"]
    assert columns["test"] == ["0", "0", "0", "1", "0"]
    # what the model that asked had thought; of the first query there was none
    assert [text.strip() for text in columns["thought"]] == ["", "", "=dark", "", ""]
    assert columns["probability"] == ["", "", "0.7500", "", ""]
    times = [datetime.fromisoformat(text) for text in columns["when"]]
    assert times == sorted(times) and {each.tzinfo for each in times} == {timezone.utc}
    assert abs((datetime.now(timezone.utc) - times[-1]).total_seconds()) < 60


def test_no_cell_is_a_formula_in_a_spreadsheet(project):
    for path in export.write(project):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert " =1+1.png" in cells


def test_the_reader_of_folders_gets_the_settled_classes_back(project, root):
    _, final = export.write(project)
    assert list(lines(final)[0]) == ["file", "label"]
    dataset = folder.load(root, labels=final, class_names=CLASSES, test_fraction=0)
    label_of = dict(zip(dataset.names.tolist(), dataset.labels.tolist(), strict=True))
    names, settled = project.plan.dataset.names.tolist(), project.store.settled()
    assert sorted(settled.values()) == [SKIP, 0, 0]
    assert label_of == {name: settled.get(row, SKIP) for row, name in enumerate(names)}


def test_labels_that_were_there_and_the_split_are_read_back(tmp_path):
    """Images of test and val keep their side; what was known and what was told are together."""
    root = tmp_path / "images"
    for side, n in (("train", 8), ("val", 2), ("test", 3)):
        draw_images(root, [f"{side}/{c}/{side}{i}.png" for c in ("a", "b") for i in range(n)])
    draw_images(root, [f"unlabelled/{i}.png" for i in range(20)])
    project = Project.create(tmp_path / "project", Settings(str(root), budget=10, query_size=2))
    before, row = project.plan.dataset, int(project.plan.dataset.train[-1])
    project.store.ask([Asked(row, "method")], 0, None)
    project.store.join("ann")
    project.store.answer(row, "ann", 1, 1.0)
    _, final = export.write(project)
    after = folder.load(root, labels=final)
    read = {
        name: (int(after.labels[i]), i in set(after.test), i in set(after.validation))
        for i, name in enumerate(after.names.tolist())
    }
    assert after.class_names == before.class_names == ("a", "b")
    for i, name in enumerate(before.names.tolist()):
        label = 1 if i == row else before.labels[i]
        assert read[name] == (label, i in set(before.test), name.startswith("val/"))


def test_of_an_answer_key_nothing_is_written(tmp_path):
    root = draw_folder(tmp_path / "images")
    settings = Settings(str(root), budget=10, query_size=2, key=True)
    project = Project.create(tmp_path / "project", settings)
    labels, final = export.write(project)
    assert lines(labels) == lines(final) == []
    assert export.labels_now(project) == {}


def test_lesions_are_read_back_as_the_competitions(chestct_root, tmp_path):
    root = tmp_path / "scans"
    shutil.copytree(chestct_root, root)
    source = root / chestct.ANNOTATIONS
    table = [line.split(",") for line in source.read_text().splitlines()]
    source.write_text("\n".join(",".join([*line[:-1], "" if i else "label"])
                                for i, line in enumerate(table)))  # fmt: skip
    settings = Settings(
        str(root),
        dataset="chestCT",
        budget=20,
        query_size=5,
        audit=0.05,
        settings={"patch_size": 8},
    )
    project = Project.create(tmp_path / "project", settings)
    rows = np.random.default_rng(0).permutation(len(table) - 1)[:12].tolist()
    labels = [SKIP, *(i % 4 for i in range(11))]
    project.store.ask([Asked(row, "method") for row in rows], 0, None)
    project.store.join("ann")
    for row, label in zip(rows, labels, strict=True):
        project.store.answer(row, "ann", label, 1.0)
    written = export.write(project)[-1]
    assert written.name == chestct.ANNOTATIONS
    with written.open(newline="") as file:
        found = list(csv.reader(file))
    # the boxes to the letter, in the order of the source
    boxes = [line[:-1] for line in found[1:]]
    assert found[0] == table[0] and len(boxes) == 11
    assert boxes == [line[:-1] for line in table[1:] if line[:-1] in boxes]
    told = {
        chestct.name_of(lesion): lesion
        for lesion in chestct.read_annotations(source, unlabelled=True)[0]
    }
    names = project.plan.dataset.names.tolist()
    expected = {
        tuple(told[names[row]].row.values[c] for c in chestct.COLUMNS[:-1]): label
        for row, label in zip(rows, labels, strict=True)
    }
    codes = list(chestct.CLASSES)
    assert {tuple(line[:-1]): codes.index(int(line[-1])) for line in found[1:]} == {
        box: label for box, label in expected.items() if label != SKIP
    }
    shutil.copy(written, source)
    dataset = chestct.load(root, n_train=11, n_test=0, patch_size=8)
    assert sorted(dataset.labels) == sorted(labels[1:])


@pytest.mark.parametrize("below", ["", "."])
def test_labels_of_the_images_are_not_written_over(project, root, below):
    with pytest.raises(ValueError, match="holds the images.*export to another folder"):
        export.write(project, root / below)
    assert not (root / "labels.csv").exists()


def test_what_fails_midway_leaves_the_files_as_they_were(project, monkeypatch):
    labels, _ = export.write(project)
    before = labels.read_text()

    def failing(project):
        yield ["half a line"]
        raise OSError("the disk is full")

    monkeypatch.setattr(export, "_answers", failing)
    with pytest.raises(OSError, match="the disk is full"):
        export.write(project)
    assert labels.read_text() == before
    assert not [path for path in project.folder.iterdir() if path.name.startswith(".labels")]
