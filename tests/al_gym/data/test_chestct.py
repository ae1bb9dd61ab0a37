"""The Tianchi reader: coordinates, patches, windows and the split."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from al_gym.data import chestct, metaimage

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


@pytest.mark.parametrize("margin", [1.0, 1.5])
def test_a_box_of_one_voxel_is_read_between_its_neighbours(tmp_path, margin):
    """A bright voxel in air: linear between its centre and the next ones, 0.7, 0.7 and 5 mm off."""
    values = np.full(SIZE[::-1], -1000)
    values[7, 20, 11] = 1000  # z, y, x
    path = write_volume(tmp_path, "1", values)
    lesion = lesion_at(tmp_path, ORIGIN + SPACING * [11, 20, 7], [0.7, 0.7, 0.7])
    patch = chestct.read_patch(volume(path), lesion, patch_size=4, margin=margin)
    offsets = np.array([-1.5, -0.5, 0.5, 1.5]) * margin * 0.7 / 4
    z, y, x = (1 - np.abs(offsets) / spacing for spacing in SPACING[::-1])
    expected = -1000 + 2000 * z[:, None, None] * y[:, None] * x
    np.testing.assert_allclose(patch, expected, atol=0.1)
