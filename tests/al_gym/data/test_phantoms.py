"""The phantoms: the formats of the real data sets, repeatability, lesions where they should be."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from al_gym.data import phantoms
from al_gym.data.phantoms import chest, fundus
from al_gym.data.phantoms.__main__ import main

COLUMNS = "seriesuid,coordX,coordY,coordZ,diameterX,diameterY,diameterZ,label"
SCANS = 10
IMAGES = 100
EVEN = (1, 1, 1, 1, 1)


@pytest.fixture(scope="module")
def chestct(tmp_path_factory):
    out = tmp_path_factory.mktemp("chestct")
    phantoms.write_chestct(out, SCANS, seed=0, progress=False)
    return out


@pytest.fixture(scope="module")
def retinopathy(tmp_path_factory):
    out = tmp_path_factory.mktemp("retinopathy")
    phantoms.write_retinopathy(out, IMAGES, seed=0, progress=False)
    return out


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lesions(root: Path):
    """Label, HU (z, y, x), centre and extents in voxels (x, y, z), extents in mm."""
    volumes = {p.stem: sitk.ReadImage(str(p)) for p in root.rglob("*.mhd")}
    for row in read_rows(root / "chestCT_round1_annotation.csv"):
        image = volumes[row["seriesuid"]]
        world = np.array([float(row[f"coord{axis}"]) for axis in "XYZ"])
        extents = np.array([float(row[f"diameter{axis}"]) for axis in "XYZ"])
        centre = (world - image.GetOrigin()) / np.array(image.GetSpacing())
        array = sitk.GetArrayViewFromImage(image)
        yield int(row["label"]), array, centre, extents / image.GetSpacing(), extents


def crop(array, centre, size):
    low = np.maximum(np.round(centre - size / 2), 0).astype(int)
    high = np.round(centre + size / 2).astype(int) + 1
    return array[low[2] : high[2], low[1] : high[1], low[0] : high[0]]


# --- either data set ------------------------------------------------------------------------------

WRITERS = [(phantoms.write_chestct, 2), (phantoms.write_retinopathy, 8)]


@pytest.mark.parametrize(("write", "count"), WRITERS)
def test_same_seed_gives_the_same_bytes_on_any_number_of_threads(
    write, count, tmp_path, monkeypatch
):
    write(tmp_path / "a", count, 1, progress=False)
    write(tmp_path / "other", count, 2, progress=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    write(tmp_path / "b", count, 1, progress=False)
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    assert not set(first.values()) & set(files(tmp_path / "other").values())


@pytest.mark.parametrize(("write", "count"), WRITERS)
def test_a_folder_that_is_not_empty_is_refused_and_left_alone(write, count, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=tmp_path.name):
        write(tmp_path, count, 0)
    assert files(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("write", "count"), [(phantoms.write_chestct, 0), (phantoms.write_retinopathy, 7)]
)
def test_a_wrong_number_is_refused_before_anything_is_written(write, count, tmp_path):
    with pytest.raises(ValueError, match=f"not {count}"):
        write(tmp_path / "out", count, 0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "option", "count", "suffix"),
    [("chestct", "--scans", 1, ".mhd"), ("retinopathy", "--images", 4, ".jpeg")],
)
def test_command_line(command, option, count, suffix, tmp_path):
    out = tmp_path / "out"
    main([command, "--out", str(out), option, str(count), "--seed", "3", "--no-progress"])
    assert sum(path.endswith(suffix) for path in files(out)) == count
    by_call = {"chestct": phantoms.write_chestct, "retinopathy": phantoms.write_retinopathy}
    by_call[command](tmp_path / "called", count, 3, progress=False)
    assert files(out) == files(tmp_path / "called")


# --- chest CT -------------------------------------------------------------------------------------


def test_a_scan_does_not_depend_on_how_many_are_written(chestct, tmp_path):
    phantoms.write_chestct(tmp_path, 2, seed=0, progress=False)
    few, many = files(tmp_path), files(chestct)
    table = "chestCT_round1_annotation.csv"
    assert many[table].startswith(few[table])
    assert len(few) == 5
    assert all(few[name] == many[name] for name in few if name != table)


def test_annotation_columns_and_labels(chestct):
    text = (chestct / "chestCT_round1_annotation.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = read_rows(chestct / "chestCT_round1_annotation.csv")
    assert {row["label"] for row in rows} == {"1", "5", "31", "32"}
    assert 12 * SCANS <= len(rows) <= 18 * SCANS
    assert {row["seriesuid"] for row in rows} == {p.stem for p in chestct.rglob("*.mhd")}


def test_labels_come_in_the_real_proportions(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(chest, "_extents", lambda label, rng: drawn.append(label) or np.ones(3))
    nowhere = {label: np.full((1, 3), -1.0) for label in chest.LESION_COUNTS}
    volume = np.zeros((4, 4, 4), np.float32)
    rng = np.random.default_rng(0)
    for _ in range(300):
        chest._draw_lesions(volume, volume, nowhere, np.ones(3), chest.ChestLook(), rng)
    shares = np.array([Counter(drawn)[label] for label in chest.LESION_COUNTS]) / len(drawn)
    np.testing.assert_allclose(shares, np.array([3264, 3613, 4201, 1140]) / 12218, atol=0.03)


def test_volumes_are_like_the_real_ones(chestct):
    paths = sorted(chestct.rglob("*.mhd"))
    assert len(paths) == SCANS
    assert {p.parent.name for p in paths} == {f"train_part{i}" for i in range(1, 6)}
    for path in paths:
        assert path.stem.isdigit()
        image = sitk.ReadImage(str(path))
        x, y, z = image.GetSpacing()
        assert image.GetPixelID() == sitk.sitkInt16
        assert x == y and 0.58 <= x <= 0.79 and z in (2.5, 5, 7)
        assert all(abs(offset) > 1 for offset in image.GetOrigin())
        n_voxels = np.prod(image.GetSize())
        assert path.with_suffix(".raw").stat().st_size == 2 * n_voxels < 1.72e6  # 64 fit in 110 MB


def test_a_chest_has_air_lungs_tissue_and_bone(chestct):
    for path in chestct.rglob("*.mhd"):
        hu = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        assert abs(hu[:, :5, :5].mean() + 1000) < 60  # noise is cut off at -1024
        middle = hu[len(hu) // 2]
        lung = (middle > -950) & (middle < -720)
        assert lung[:, :96].mean() > 0.15 and lung[:, 96:].mean() > 0.1
        assert (middle > 250).mean() > 0.01
        assert 0.2 < ((middle > -150) & (middle < 150)).mean() < 0.6


def test_boxes_lie_in_the_volume_and_do_not_overlap(chestct):
    boxes: dict[int, list] = {}
    for _, array, centre, size, _ in lesions(chestct):
        assert (centre >= -1e-3).all()
        assert (centre <= np.array(array.shape[::-1]) - 1 + 1e-3).all()
        others = boxes.setdefault(array.ctypes.data, [])  # by scan
        for other, taken in others:
            assert (abs(centre - other) > (size + taken) / 2).any()
        others.append((centre, size))
    assert len(boxes) == SCANS


def test_extents_follow_the_table():
    rng = np.random.default_rng(0)
    for label, (in_plane, axial) in chest.EXTENTS_MM.items():
        drawn = np.array([chest._extents(label, rng) for _ in range(4000)])
        for axis, table in enumerate((in_plane, in_plane, axial)):
            assert drawn[:, axis].min() >= table[0] - 1e-9
            assert drawn[:, axis].max() <= table[-1] + 1e-9
            measured = np.percentile(drawn[:, axis], chest.PERCENTILES)
            np.testing.assert_allclose(measured, table, rtol=0.08)
        assert np.corrcoef(np.log(drawn[:, 0]), np.log(drawn[:, 1]))[0, 1] > 0.4


def test_annotated_extents_are_in_the_range_of_the_table(chestct):
    for label, _, _, _, extents in lesions(chestct):
        in_plane, axial = chest.EXTENTS_MM[label]
        low, high = np.array([(t[0], t[-1]) for t in (in_plane, in_plane, axial)]).T
        assert (extents > low - 1e-5).all() and (extents < high + 1e-5).all()


def test_calcifications_are_bright_and_lung_lesions_lie_in_lung(chestct):
    for label, array, centre, size, _ in lesions(chestct):
        inside = crop(array, centre, size)
        if label in (31, 32):
            assert (inside > 130).sum() >= 3
        else:
            assert np.percentile(inside, 99) > -500  # tissue ...
            assert np.percentile(crop(array, centre, size + 8), 2) < -700  # ... amid air


def test_a_lesion_is_where_its_box_is():
    """Drawn into nothing, a lesion fills its box and, vessels aside, does not leave it."""
    rng = np.random.default_rng(0)
    spacing = np.array([0.7, 0.7, 1.0])
    for label in (1, 5, 31, 32) * 4:
        extents = chest._extents(label, rng)
        shape = chest._lung_lesion if label in (1, 5) else chest._calcification
        tissues, _ = shape(label, extents, chest.ChestLook(), rng)
        outline = tissues[0] if label in (1, 5) else tissues[1]
        volume = np.full((60, 120, 120), -1000, np.float32)
        middle = np.array([60, 60, 30]) * spacing
        moved = replace(outline, path=outline.path + middle, opacity=1.0)
        chest._draw(volume, spacing, moved)
        found = np.argwhere(volume > -1000 + (outline.hu + 1000) / 2)[:, ::-1] * spacing
        span = found.max(0) - found.min(0) + spacing
        slack = 0.2 * extents + spacing
        assert (abs(span - extents) <= slack).all(), (label, span, extents)


# --- retinopathy ----------------------------------------------------------------------------------


def test_every_patient_has_two_eyes(retinopathy):
    rows = read_rows(retinopathy / "trainLabels.csv")
    assert (retinopathy / "trainLabels.csv").read_text().startswith("image,level\n")
    assert len(rows) == IMAGES
    patients = Counter(row["image"].rpartition("_")[0] for row in rows)
    assert set(patients.values()) == {2}
    assert all(patient.isdigit() for patient in patients)
    sides = Counter(row["image"].rpartition("_")[2] for row in rows)
    assert sides == {"left": IMAGES // 2, "right": IMAGES // 2}
    photographs = {path.stem for path in (retinopathy / "train").glob("*.jpeg")}
    assert photographs == {row["image"] for row in rows}


def test_grades_are_in_proportion_and_alike_in_both_eyes(tmp_path, monkeypatch):
    black = Image.new("RGB", (8, 8))
    monkeypatch.setattr(fundus, "_photographs", lambda grades, look, rng: [black, black])
    phantoms.write_retinopathy(tmp_path, 900, seed=0, progress=False)
    levels = np.array([int(row["level"]) for row in read_rows(tmp_path / "trainLabels.csv")])
    expected = np.array([25810, 2443, 5292, 873, 708]) / 35126 * 900
    assert (abs(np.bincount(levels, minlength=5) - expected) <= 1).all()
    left, right = levels.reshape(-1, 2).T
    assert 0.6 < np.corrcoef(left, right)[0, 1] < 0.98


def test_photographs_are_round_on_black(retinopathy):
    heights = set()
    for path in (retinopathy / "train").glob("*.jpeg"):
        with Image.open(path) as photograph:
            assert photograph.format == "JPEG"
            pixels = np.asarray(photograph).astype(float)
        assert pixels.shape[1:] == (320, 3)
        heights.add(len(pixels))
        assert pixels[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 12
        red, green, blue = pixels[len(pixels) // 2 - 30 : len(pixels) // 2, 130:190].mean((0, 1))
        assert red > green > blue
    assert len(heights) > 5


@pytest.mark.parametrize("side", [0, 1])
def test_the_optic_disc_lies_towards_the_nose(side):
    rng = np.random.default_rng(0)
    photograph = fundus._photographs([0, 0], fundus.FundusLook(), rng)[side]
    green = np.asarray(photograph)[:, :, 1].astype(float)
    smooth = np.asarray(Image.fromarray(green.astype(np.uint8)).resize((40, 30)), float)
    column = np.unravel_index(smooth.argmax(), smooth.shape)[1]
    assert (column < 20) == (side == 0)


def test_findings_rise_with_the_grade():
    """Blood and exudates leave the colour of the fundus: more pixels do so the worse the grade."""
    colour = np.array([195, 100, 50], np.float32)
    unlike = []
    for grade in range(5):
        photographs = [
            fundus._draw_fundus(grade, 120, colour, fundus.FundusLook(), np.random.default_rng(i))
            for i in range(6)
        ]
        green = np.array(photographs)[:, 40:200, 40:200, 1].astype(float)
        unlike.append(((green < 40) | (green > 170)).mean())
    assert unlike[0] < unlike[1] < unlike[2] < min(unlike[3:])


def test_the_folder_in_the_cache_is_written_once(monkeypatch):
    written = []
    monkeypatch.setitem(
        phantoms.GENERATORS, "chestCT", lambda *arguments: written.append(arguments[1:])
        or arguments[0].mkdir()
    )  # fmt: skip
    folders = [phantoms.folder("chestCT", 3, seed) for seed in (5, 6, 5)]
    assert written == [(3, 5), (3, 6)] and folders[0] == folders[2] != folders[1]
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("dataset", "amount", "look"),
    [
        ("chestCT", 1, phantoms.ChestLook(lesion_size=0.5, faint=1.0)),
        ("Retinopathy", 10, phantoms.FundusLook(counts=EVEN)),
    ],
)
def test_other_looks_have_folders_of_their_own(dataset, amount, look, tmp_path, monkeypatch):
    monkeypatch.setattr(phantoms.cache, "cache_folder", lambda: tmp_path)
    usual = phantoms.folder(dataset, amount, 0)
    other = phantoms.folder(dataset, amount, 0, look)
    assert files(usual) != files(other)
    assert other == phantoms.folder(dataset, amount, 0, look) != usual
    again = phantoms.folder(dataset, amount, 0, type(look)())  # the usual look, said explicitly
    assert files(again) == files(usual)


def test_looks_do_what_they_say(tmp_path, chestct):
    phantoms.write_chestct(
        tmp_path / "small",
        SCANS,
        0,
        False,
        phantoms.ChestLook(lesion_size=0.5, counts=(1, 0, 0, 0)),
    )
    small = [(label, mm) for label, *_, mm in lesions(tmp_path / "small")]
    assert {label for label, _ in small} == {1}
    nodules = [mm.mean() for label, *_, mm in lesions(chestct) if label == 1]
    assert np.mean([mm.mean() for _, mm in small]) < 0.7 * np.mean(nodules)
    phantoms.write_retinopathy(tmp_path / "even", 10, 0, False, phantoms.FundusLook(counts=EVEN))
    levels = Counter(row["level"] for row in read_rows(tmp_path / "even" / "trainLabels.csv"))
    assert levels == dict.fromkeys("01234", 2)
