"""The Tianchi reader: coordinates, patches, windows, the split, and files that are not right."""

import itertools
import os
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from al_gym.data import cache, chestct, metaimage, volumes

HEADER = "seriesuid,coordX,coordY,coordZ,diameterX,diameterY,diameterZ,label\n"
ORIGIN = np.array([-101.5, 33.25, -240.0])
SPACING = np.array([0.7, 0.7, 5.0])
SIZE = np.array([40, 50, 12])


def write_volume(folder, name, values, *, origin=ORIGIN, spacing=SPACING, direction=None):
    """``values`` (D, H, W) as <name>.mhd and .raw."""
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    if direction is not None:
        image.SetDirection(direction)
    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(folder / f"{name}.mhd"))
    return folder / f"{name}.mhd"


def volume(header):
    return metaimage.find(header.parent, header)


def lesion_at(tmp_path, centre, extent, series="1", label=5):
    path = tmp_path / "one.csv"
    path.write_text(HEADER + ",".join(map(str, [series, *centre, *extent, label])) + "\n")
    return chestct.read_annotations(path)[0][0]


def world_ramp(direction=None):
    """A volume whose value at a point of the world is 2 x + 3 y + z + 400, which is linear."""
    direction = np.eye(3) if direction is None else np.array(direction).reshape(3, 3)
    z, y, x = np.meshgrid(*[np.arange(n) for n in SIZE[::-1]], indexing="ij")
    index = np.stack([x, y, z]).reshape(3, -1)
    world = ORIGIN[:, None] + direction @ (SPACING[:, None] * index)
    return (np.array([2, 3, 1]) @ world + 400).reshape(SIZE[::-1])


@pytest.mark.parametrize(
    "direction", [None, [-1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0, 0, 0, 1]]
)
def test_world_to_voxel_on_an_anisotropic_volume_with_an_origin(tmp_path, direction):
    values = world_ramp(direction)
    path = write_volume(tmp_path, "1", values, direction=direction)
    matrix = np.eye(3) if direction is None else np.array(direction).reshape(3, 3)
    centre = ORIGIN + matrix @ (SPACING * (SIZE - 1) / 2)
    lesion = lesion_at(tmp_path, centre, [6, 5, 4])
    patch = chestct.read_patch(volume(path), lesion, patch_size=8, margin=1.5)
    positions = (np.arange(8) - 3.5) * 9 / 8
    z, y, x = np.meshgrid(*[positions] * 3, indexing="ij")
    expected = 2 * (centre[0] + x) + 3 * (centre[1] + y) + centre[2] + z + 400
    np.testing.assert_allclose(patch, expected, atol=1.5)  # voxels of the file are whole HU


def test_a_voxel_is_where_coord_minus_origin_over_spacing_says(tmp_path):
    values = np.full(SIZE[::-1], -1000)
    values[7, 20, 11] = 1000  # z, y, x
    path = write_volume(tmp_path, "1", values)
    lesion = lesion_at(tmp_path, ORIGIN + SPACING * [11, 20, 7], [5, 5, 5])
    patch = chestct.read_patch(volume(path), lesion, patch_size=9, margin=1.0)
    assert np.unravel_index(patch.argmax(), patch.shape) == (4, 4, 4)
    assert patch.max() == pytest.approx(1000, abs=0.01)


def test_reading_a_region_is_reading_the_whole_volume(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 1000, SIZE[::-1])
    path = write_volume(tmp_path, "1", values)
    image = sitk.ReadImage(str(path))
    for fraction in ([0.5, 0.5, 0.5], [0.0, 1.0, 0.9], [0.98, 0.1, 0.0]):
        centre = ORIGIN + SPACING * (SIZE - 1) * fraction
        lesion = lesion_at(tmp_path, centre, [9, 12, 14])
        patch = chestct.read_patch(volume(path), lesion, patch_size=16, margin=1.4)
        edge = 1.4 * 14
        corner = centre - edge / 2 + edge / 32
        whole = sitk.Resample(
            image, [16] * 3, sitk.Transform(), sitk.sitkLinear, corner.tolist(),
            [edge / 16] * 3, np.eye(3).ravel().tolist(), chestct.AIR, sitk.sitkFloat32,
        )  # fmt: skip
        np.testing.assert_array_equal(patch, sitk.GetArrayFromImage(whole))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_volume_stored_in_any_orientation_gives_the_same_patch(tmp_path, order):
    """Six orders of the axes here and eight directions of them below: all 48 ways to store it."""
    values = np.random.default_rng(0).integers(-1000, 1000, SIZE[::-1]).transpose()  # x, y, z
    centre = ORIGIN + SPACING * (11, 20, 7)
    lesion = lesion_at(tmp_path, centre, [9, 12, 14])
    expected = chestct.read_patch(
        volume(write_volume(tmp_path, "1", values.transpose())), lesion, 8, 1.2
    )
    for flips in itertools.product((False, True), repeat=3):
        axes = np.eye(3)[:, list(order)]  # column i: where axis i of the file points
        origin, stored = ORIGIN.copy(), values.transpose(order)
        for axis, flip in enumerate(flips):
            if flip:
                world = order[axis]
                origin[world] += SPACING[world] * (SIZE[world] - 1)
                axes[:, axis] *= -1
                stored = np.flip(stored, axis)
        path = write_volume(
            tmp_path, "2", stored.transpose(),
            origin=origin, spacing=SPACING[list(order)], direction=axes.ravel().tolist(),
        )  # fmt: skip
        patch = chestct.read_patch(volume(path), lesion, 8, 1.2)
        np.testing.assert_allclose(patch, expected, atol=0.01)


def test_outside_the_volume_is_air(tmp_path):
    path = write_volume(tmp_path, "1", np.full(SIZE[::-1], 77))
    lesion = lesion_at(tmp_path, ORIGIN, [10, 10, 10])
    patch = chestct.read_patch(volume(path), lesion, patch_size=8, margin=1.0)
    assert (patch[:3, :3, :3] == chestct.AIR).all() and (patch[5:, 5:, 5:] == 77).all()


def test_windows_become_channels():
    patch = np.array([-2000, -1000, -300, 400, 500, 1200]).reshape(1, 1, 6)
    lung, wide = chestct.apply_windows(patch)[:, 0, 0]
    assert lung.tolist() == [0, 0, 128, 255, 255, 255]
    assert wide.tolist() == [0, 0, 0, 109, 128, 255]  # calcium is told apart here


def test_phantom_lesions_come_back_with_class_and_box(chestct_root):
    lesions, _ = chestct.read_annotations(chestct_root / chestct.ANNOTATIONS)
    lines = (chestct_root / chestct.ANNOTATIONS).read_text().splitlines()[1:]
    assert len(lesions) == len(lines) > 60
    codes = list(chestct.CLASSES)
    for lesion, line in zip(lesions, lines, strict=True):
        values = line.split(",")
        assert lesion.series == values[0] and codes[lesion.label] == int(values[7])
        np.testing.assert_allclose(
            [*lesion.centre, *lesion.extent], [float(v) for v in values[1:7]]
        )


def test_load(chestct_root):
    dataset = chestct.load(chestct_root, n_train=30, n_test=20, patch_size=16)
    assert dataset.images.shape == (50, 2, 16, 16, 16) and dataset.images.dtype == np.uint8
    assert dataset.class_names[0] == "pulmonary nodule" and dataset.n_classes == 4
    assert not set(dataset.groups[dataset.train]) & set(dataset.groups[dataset.test])
    again = chestct.load(chestct_root, n_train=30, n_test=20, patch_size=16)
    assert again.fingerprint() == dataset.fingerprint()
    lesions, _ = chestct.read_annotations(chestct_root / chestct.ANNOTATIONS)
    headers, _ = chestct.find_volumes(chestct_root, lesions)
    scan = volume(headers[dataset.groups[0]])
    of_scan = [lesion for lesion in lesions if lesion.series == dataset.groups[0]]
    patches = [
        chestct.apply_windows(chestct.read_patch(scan, lesion, 16, 1.5)) for lesion in of_scan
    ]
    assert dataset.names[0].startswith(f"{dataset.groups[0]}, lesion of line ")
    assert len(set(dataset.names)) == 50
    matches = [i for i, patch in enumerate(patches) if np.array_equal(patch, dataset.images[0])]
    assert [of_scan[i].label for i in matches] == [dataset.labels[0]]
    assert dataset.names[0].endswith(f" {of_scan[matches[0]].row.line}")
    assert dataset.notes == ()


def test_other_settings_and_seeds_give_other_data(chestct_root):
    base = {"n_train": 30, "n_test": 20, "patch_size": 16}
    prints = {
        chestct.load(chestct_root, **{**base, **change}).fingerprint()
        for change in ({}, {"split_seed": 1}, {"margin": 2.0}, {"windows": ((-1000.0, 1000.0),)})
    }
    assert len(prints) == 4


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
    write_volume(root.parent.parent, "x", np.zeros((4, 4, 4)))
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
