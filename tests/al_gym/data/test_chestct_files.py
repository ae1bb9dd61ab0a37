"""The Tianchi reader on files as people have them: spreadsheets, repairs, damage, links."""

import os
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from al_gym.data import cache, chestct, volumes
from al_gym.data.dataset import UNKNOWN

# --- as others write it ---------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, chestct_root):
    return shutil.copytree(chestct_root, tmp_path / "root")


def load(root):
    return chestct.load(root, n_train=30, n_test=20, patch_size=16)


def rewrite(root, change):
    path = root / chestct.ANNOTATIONS
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def with_dots(line):
    series, *numbers, label = line.split(",")
    return ", ".join([f"{series}.0", *numbers, f"{label}.0"])


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line.replace(",", ";") for line in lines],
        lambda lines: [line.replace(",", "\t") for line in lines],
        lambda lines: [lines[0].upper(), *map(with_dots, lines[1:]), "," * 7],
        lambda lines: [
            lines[0],
            *map(with_dots, lines[1:6]),
            *lines[6:],
        ],  # one scan, two spellings
        lambda lines: ["\ufeff" + lines[0], "", *lines[1:]],
    ],
)
def test_annotations_of_spreadsheets(root, chestct_root, change):
    path = root / chestct.ANNOTATIONS
    path.write_text("\r\n".join(change(path.read_text().splitlines())), encoding="utf-8")
    dataset, expected = load(root), load(chestct_root)
    assert dataset.fingerprint() == expected.fingerprint()
    assert dataset.groups.tolist() == expected.groups.tolist()


def test_endings_in_capitals_and_copies_in_hidden_folders(root, chestct_root):
    for header in list(root.rglob("*.mhd")):
        for folder in (".ipynb_checkpoints", "__MACOSX"):
            (root / folder).mkdir(exist_ok=True)
            shutil.copy(header, root / folder)
        header.rename(header.with_suffix(".MHD"))
    assert load(root).fingerprint() == load(chestct_root).fingerprint()


def test_compressed_volumes(root, chestct_root, monkeypatch):
    for header in root.rglob("*.mhd"):
        image = sitk.ReadImage(str(header))
        header.with_suffix(".raw").unlink()
        sitk.WriteImage(image, str(header), useCompression=True)
    assert not list(root.rglob("*.raw")) and list(root.rglob("*.zraw"))
    checked = []
    check = volumes.check
    monkeypatch.setattr(volumes, "check", lambda *of: checked.append(of) or check(*of))
    monkeypatch.setattr(cache.os, "cpu_count", lambda: 1)  # threads may check one at a time
    dataset = load(root)
    assert dataset.fingerprint() == load(chestct_root).fingerprint()
    assert len(checked) == len(set(checked)) == len(set(dataset.groups))


def test_what_a_person_should_know_is_noted(root):
    path = root / chestct.ANNOTATIONS
    lines = path.read_text().splitlines()
    *box, label = lines[1].split(",")
    another = ",".join([*box, "5" if label != "5" else "1"])
    kept = [line for line in lines if not line.startswith(lines[-1].split(",")[0])]
    path.write_text("\n".join([*kept, lines[1], another]) + "\n")
    (unused,) = root.rglob(f"{lines[-1].split(',')[0]}.mhd")
    assert load(root).notes == (
        f"{path.name}: lines that repeat an earlier one are left out: 1, the first is line "
        f"{len(kept) + 1}",
        f"{path.name}: boxes of several labels, each kept as a lesion: 1",
        "volumes without a line in the annotation file, not used: 1, "
        f"{unused.relative_to(root)} for one",
    )


# --- the cache ------------------------------------------------------------------------------------


def test_a_scan_repaired_in_place_is_read_again(root):
    before = load(root)
    assert load(root).files_decoded == 0
    raw = first_volume(root).with_suffix(".raw")
    raw.write_bytes(np.full(raw.stat().st_size // 2, 3000, "<i2").tobytes())
    of_scan = before.groups == raw.stem
    images = load(root).images
    assert (images[of_scan] == 255).mean() > 0.5  # where the patch is not outside the volume
    np.testing.assert_array_equal(images[~of_scan], before.images[~of_scan])


def test_a_repaired_header_is_read_again(root):
    before = load(root)
    header = first_volume(root)
    text = header.read_text()
    header.write_text(text.replace("MET_SHORT", "MET_USHORT"))
    assert not np.array_equal(load(root).images, before.images)
    header.write_text(text)
    np.testing.assert_array_equal(load(root).images, before.images)


def test_verify_sees_a_change_that_left_size_and_time(root):
    settings = {"n_train": 30, "n_test": 20, "patch_size": 16, "verify": True}
    raw = first_volume(root).with_suffix(".raw")
    before = chestct.load(root, **settings)
    times = raw.stat().st_atime_ns, raw.stat().st_mtime_ns
    raw.write_bytes(np.full(raw.stat().st_size // 2, 3000, "<i2").tobytes())
    os.utime(raw, ns=times)
    after = chestct.load(root, **settings)
    assert (after.images[after.groups == raw.stem] == 255).mean() > 0.5
    assert (before.images[before.groups == raw.stem] == 255).mean() < 0.5


def test_another_root_with_the_same_annotations(root, tmp_path):
    before = load(root)
    copy = shutil.copytree(root, tmp_path / "copy")
    for raw in copy.rglob("*.raw"):
        raw.write_bytes(np.full(raw.stat().st_size // 2, 3000, "<i2").tobytes())
    assert (load(copy).images == 255).mean() > 0.5 > (before.images == 255).mean()


def test_scans_that_are_not_drawn_do_not_count(root):
    before = chestct.load(root, n_train=3, n_test=2, patch_size=16)
    unused = [p for p in root.rglob("*.raw") if p.stem not in before.groups]
    assert unused
    unused[0].write_bytes(b"changed")
    again = chestct.load(root, n_train=3, n_test=2, patch_size=16)
    assert again.files_decoded == 0 and again.fingerprint() == before.fingerprint()


# --- bad input ------------------------------------------------------------------------------------


def test_missing_root(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        chestct.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="set AL_GYM_DATA"):
        chestct.load()
    monkeypatch.setenv("AL_GYM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no folder .*chestCT"):
        chestct.load()


def test_the_root_may_come_from_the_environment(chestct_root, tmp_path, monkeypatch):
    (tmp_path / "chestCT").symlink_to(chestct_root)
    monkeypatch.setenv("AL_GYM_DATA", str(tmp_path))
    assert len(load(None).labels) == 50


def test_missing_column(root):
    rewrite(root, lambda lines: lines.__setitem__(0, lines[0].replace("diameterZ", "depth")))
    with pytest.raises(ValueError, match=r"annotation.csv lacks the column 'diameterZ'"):
        load(root)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (7, "7", "unknown label code 7; known are"),
        (7, "nodule", "column 'label' holds 'nodule'"),
        (7, "1.5", "column 'label' holds '1.5': it is not a whole number"),
        (7, "", "column 'label' holds ''"),
        (0, "", "column 'seriesuid' holds ''"),
        (1, "left", "column 'coordX' holds 'left'"),
        (1, '"156,48"', "column 'coordX' holds '156,48': write it with a decimal point"),
        (2, "nan", "finite coordinates"),
        (4, "0", "positive diameters"),
        (4, "-3", "positive diameters"),
    ],
)
def test_a_bad_value_names_the_line(root, column, value, message):
    def change(lines):
        values = lines[4].split(",")
        values[column] = value
        lines[4] = ",".join(values)

    rewrite(root, change)
    with pytest.raises(ValueError, match=f"annotation.csv, line 5: .*{message}"):
        load(root)


def test_a_short_line_names_the_line(root):
    rewrite(root, lambda lines: lines.__setitem__(3, "1,2,3"))
    with pytest.raises(ValueError, match="line 4: 3 cells under 8 columns"):
        load(root)


def test_a_missing_volume_names_the_line(root):
    rewrite(root, lambda lines: lines.insert(1, "424242,0,0,0,5,5,5,1"))
    with pytest.raises(FileNotFoundError, match=r"line 2: there is no volume 424242.mhd below"):
        load(root)


@pytest.mark.parametrize("series", ["../../x", "/etc/passwd", "..", "train_part1/x"])
def test_a_series_never_leaves_the_root(root, series):
    outside = sitk.Image(4, 4, 4, sitk.sitkInt16)
    sitk.WriteImage(outside, str(root.parent.parent / "x.mhd"))
    rewrite(root, lambda lines: lines.insert(1, f"{series},0,0,0,5,5,5,1"))
    with pytest.raises(FileNotFoundError, match="there is no volume"):
        load(root)


def first_volume(root):
    lesions, _ = chestct.read_annotations(root / chestct.ANNOTATIONS)
    dataset = load(root)
    return chestct.find_volumes(root, lesions)[0][dataset.groups[0]]


def without_cache(root):
    return chestct.load(root, n_train=30, n_test=20, patch_size=16, margin=1.51)


def test_a_truncated_volume(root):
    raw = first_volume(root).with_suffix(".raw")
    raw.write_bytes(raw.read_bytes()[: raw.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"line \d+: .*{raw.name} is truncated: it holds"):
        without_cache(root)


def test_a_missing_raw_file(root):
    raw = first_volume(root).with_suffix(".raw")
    raw.unlink()
    with pytest.raises(ValueError, match=rf"{raw.name} is missing"):
        without_cache(root)


@pytest.mark.parametrize("name", ["../outside.raw", "/etc/hostname", "LIST", "LOCAL", "x%d.raw 1"])
def test_a_header_never_leads_out_of_its_folder(root, name):
    header = first_volume(root)
    raw = header.with_suffix(".raw")
    (header.parent.parent / "outside.raw").write_bytes(raw.read_bytes())
    lines = [line for line in header.read_text().splitlines() if "ElementDataFile" not in line]
    header.write_text("\n".join([*lines, f"ElementDataFile = {name}"]) + "\n")
    with pytest.raises(ValueError, match=rf"{header.name} cannot be read"):
        without_cache(root)


def test_a_header_that_is_none(root):
    header = first_volume(root)
    header.write_bytes(b"\x00\xff not a header")
    with pytest.raises(ValueError, match=rf"{header.name} cannot be read"):
        without_cache(root)


def test_a_lesion_outside_its_volume(root):
    series = first_volume(root).stem
    rewrite(root, lambda lines: lines.__setitem__(slice(1, None), [f"{series},9000,0,0,5,5,5,1"]))
    with pytest.raises(ValueError, match=rf"line 2: .*{series}.mhd .*outside the volume"):
        chestct.load(root, n_train=1, n_test=0, patch_size=16)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_compressed_volume(root, kept):
    header = first_volume(root)
    image = sitk.ReadImage(str(header))
    sitk.WriteImage(image, str(header), useCompression=True)
    data = header.with_suffix(".zraw")
    data.write_bytes(data.read_bytes()[: int(kept * data.stat().st_size)])
    text = re.sub("CompressedDataSize = .*\n", "", header.read_text())
    header.write_text(text)  # without it MetaIO takes what there is
    with pytest.raises(ValueError, match=rf"line \d+: .*{data.name} is truncated: it holds"):
        load(root)


@pytest.mark.parametrize("what", ["header", "voxels", "folder"])
def test_links_out_of_the_root_are_refused(root, tmp_path, what):
    header = first_volume(root)
    path = {"header": header, "voxels": header.with_suffix(".raw"), "folder": header.parent}[what]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"{path.name} is a link .*elsewhere"):
        load(root)


def test_links_inside_the_root_are_followed(root, chestct_root):
    header = first_volume(root)
    for path in (header, header.with_suffix(".raw")):
        path.rename(root / path.name)
        path.symlink_to(root / path.name)
    assert load(root).fingerprint() == load(chestct_root).fingerprint()


def test_two_volumes_of_one_name(root):
    header = first_volume(root)
    (root / "copy").mkdir()
    shutil.copy(header, root / "copy")
    with pytest.raises(ValueError, match="two volumes have one name"):
        load(root)


def test_more_samples_than_there_are(root):
    with pytest.raises(ValueError, match="n_train=3500 is more than there is"):
        chestct.load(root)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_train", 0),
        ("n_train", "30"),
        ("n_test", -1),
        ("n_test", 20.0),
        ("patch_size", 4),
        ("patch_size", 16.0),
        ("patch_size", (16, 16, 16)),
        ("margin", 0.0),
        ("margin", "1.5"),
        ("margin", float("nan")),
        ("margin", float("inf")),
        ("windows", ()),
        ("windows", ((400, -1000),)),
        ("windows", (-1000, 400)),
        ("windows", "lung"),
        ("windows", ((-1000, 400, 1200),)),
        ("windows", ((0, float("nan")),)),
        ("windows", ((0, float("inf")),)),
        ("windows", None),
        ("split_seed", "0"),
        ("split_seed", -1),
    ],
)
def test_bad_settings_are_named_before_anything_is_read(setting, value):
    with pytest.raises(ValueError, match=rf"^{setting} must "):
        chestct.load("nowhere", **{"n_train": 30, "n_test": 20, setting: value})


def test_settings_from_other_places_are_the_same(root):
    assert load(root).files_decoded == 50
    again = chestct.load(
        str(root), n_train=np.int64(30), n_test=20, patch_size=np.int32(16),
        margin=np.float64(1.5), windows=[[-1000, 400], [-200, 1200]],
    )  # fmt: skip
    assert again.files_decoded == 0


# --- lesions without a label ----------------------------------------------------------------------


def without_labels(lines, which):
    """Empty the cells of the labels of some lesions, counted from 0."""
    for i in which:
        lines[1 + i] = lines[1 + i].rsplit(",", 1)[0] + ","


def test_a_lesion_without_a_label_is_an_error_unless_it_is_asked_for(root):
    rewrite(root, lambda lines: without_labels(lines, [3]))
    with pytest.raises(ValueError, match=r"line 5: .*label"):
        load(root)


def test_lesions_without_labels_are_to_be_annotated(root, chestct_root):
    """All else is as it was, the patches too."""
    full, _ = chestct.read_annotations(chestct_root / chestct.ANNOTATIONS)
    n = len(full)
    rewrite(root, lambda lines: without_labels(lines, range(0, n, 2)))
    lesions, notes = chestct.read_annotations(root / chestct.ANNOTATIONS, unlabelled=True)
    assert [each.label for each in lesions] == [
        UNKNOWN if i % 2 == 0 else each.label for i, each in enumerate(full)
    ]
    assert f"lesions without a label, to be annotated: {(n + 1) // 2}" in notes[-1]
    settings = {"n_train": n, "n_test": 0, "patch_size": 8}
    dataset = chestct.load(root, unlabelled=True, **settings)
    expected = chestct.load(chestct_root, **settings)
    np.testing.assert_array_equal(dataset.images, expected.images)
    assert dataset.names.tolist() == expected.names.tolist()
    known = dataset.labels != UNKNOWN
    assert known.sum() == n // 2
    np.testing.assert_array_equal(dataset.labels[known], expected.labels[known])
    assert dataset.class_names == expected.class_names
    assert any("without a label" in note for note in dataset.notes)


def test_labels_that_are_there_are_checked_all_the_same(root):
    rewrite(root, lambda lines: lines.__setitem__(1, lines[1].rsplit(",", 1)[0] + ",7"))
    with pytest.raises(ValueError, match=r"line 2: unknown label code 7"):
        chestct.load(root, n_train=30, n_test=0, patch_size=16, unlabelled=True)


def test_a_test_lesion_needs_a_label(root):
    rewrite(root, lambda lines: without_labels(lines, range(len(lines) - 1)))
    with pytest.raises(ValueError, match="is a test image, and its label is not known"):
        chestct.load(root, n_train=30, n_test=20, patch_size=16, unlabelled=True)
    dataset = chestct.load(root, n_train=30, n_test=0, patch_size=16, unlabelled=True)
    assert (dataset.labels == UNKNOWN).all()
