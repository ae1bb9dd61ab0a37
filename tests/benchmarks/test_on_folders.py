"""The same images as folders of patients, of splits, beside a label csv, in an npz: one result."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report, run
from benchmarks.matrix import layout
from tests import images_as_folders
from tests.conftest import SHARED_DATA

LAYOUTS = {
    "patients": (images_as_folders.write_patients, (f"group_pattern={images_as_folders.PATIENT}",)),
    "npz of patients": (images_as_folders.write_npz_of_patients, ()),
    "splits": (images_as_folders.write_splits, ()),
    "csv": (images_as_folders.write_csv, ()),
    "npz": (images_as_folders.write_npz, ()),
}
ALIKE = (("patients", "npz of patients"), ("splits", "csv", "npz"))


def curves(data, folder, *more, **settings):
    """Layout -> method -> the curve, without its seconds, files by their last names."""
    found, size = {}, data.images.shape[1]
    for name, (write, keywords) in LAYOUTS.items():
        write(data, folder / name / "images")
        config = run.RunConfig(
            folder / name / "out", dataset="Folder", root=folder / name / "images",
            methods=("random", "ms"), seeds=1, set=(*keywords, f"image_size={size}", *more),
            **settings,
        )  # fmt: skip
        assert run.main(config) == 0
        found[name] = {path.parts[-3]: curve(path) for path in config.out.rglob(layout.CURVE)}
    return found


def curve(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        names = json.loads(row.pop("selected_names"))
        row["files"] = [Path(name).name for name in names]
        del row["acquisition_seconds"], row["training_seconds"]
    return rows


def assert_alike(found):
    for first, *others in ALIKE:
        assert set(found[first]) == {"random", "ms"}
        for other in others:
            assert found[first] == found[other], (first, other)


def test_small_images(tmp_path):
    data = images_as_folders.drawn(108)
    found = curves(data, tmp_path, "pretrain_passes=5", budget=0.3, query_size=6)
    assert_alike(found)
    *_, last = found["splits"]["ms"]
    assert last["n_labelled"] == "22" and len(last["files"]) == 1  # 3, 9, 15, 21 and 22 of 72
    assert found["patients"]["ms"] != found["splits"]["ms"] != found["splits"]["random"]
    record = json.loads(next(tmp_path.glob("csv/out/*/ms/seed0/config.json")).read_text())
    assert record["n_training"] == 72 and record["class_names"] == ["0", "1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wbc", "mednist"])
def test_real_images(name, tmp_path):
    path = SHARED_DATA / name / f"{name}_64.npz"
    if not path.is_file():
        pytest.skip(f"the real images are not at {path}")
    assert_alike(curves(images_as_folders.read(path), tmp_path, budget=0.15, query_size=10))


def test_a_bad_file_is_left_out_and_said(tmp_path, monkeypatch):
    from al_gym.data import decoder  # by threads, to save time

    monkeypatch.setattr(decoder, "AVAILABLE", False)
    root, out = tmp_path / "images", tmp_path / "out"
    images_as_folders.write_splits(images_as_folders.drawn(108), root)
    bad = sorted(root.rglob("*.png"))[0]
    settings = {"root": root, "methods": ("random",), "seeds": 1, "budget": 0.3, "query_size": 6}
    changes = ("image_size=12", "on_error=skip", "pretrain_passes=5")
    config = run.RunConfig(out, dataset="Folder", **settings, set=changes)
    assert run.main(config) == 0
    (cell,) = out.rglob(layout.CONFIG)
    before = json.loads(cell.read_text())
    assert "skipped" not in before and not list(out.rglob("skipped.csv"))
    bad.write_bytes(b"no <image>")
    with pytest.raises(ValueError, match="results of other settings .fingerprint"):
        run.main(config)
    assert run.main(replace(config, overwrite=True)) == 0
    record = json.loads(cell.read_text())
    name = bad.relative_to(root).as_posix()
    ((file, reason),) = record["skipped"]
    assert file == name and "cannot be decoded" in reason
    assert record["fingerprint"] != before["fingerprint"]
    with (out / "Folder" / "skipped.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["file", "reason"], [name, reason]]
    report.main(report.ReportConfig((out,)))
    page = (out / "report" / "report.html").read_text()
    assert f"<dt>Left out</dt><dd>1 file that cannot be used: {name} (" in page
