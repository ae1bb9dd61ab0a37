"""Samples as people see them: which way is up, how large a voxel is, where the lesion is."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from al_gym.annotate import originals as module
from al_gym.annotate.originals import Original, Originals, of_pixels, of_scan, plane
from al_gym.annotate.project import Project, Settings
from al_gym.data import chestct, decoder, formats
from tests.dicom_samples import write_series
from tests.images_as_folders import drawn, write_npz

RNG = np.random.default_rng(0)
VALUES = RNG.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
"""(D, H, W) to Superior, Posterior and Left."""
SPACING = (0.5, 0.75, 2.5)
"""mm along x, y and z."""


def scan_of(values, spacing=SPACING, origin=(-10.0, 20.0, 30.0), direction=None):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(np.asarray(direction, float).ravel().tolist())
    return image


def project_of(folder, root, **settings):
    """One that asks for six of the images below the root, all of which are unlabelled."""
    values = {"classes": ("a", "b"), "query_size": 2, "budget": 6, "audit": 0.0, **settings}
    return Project.create(folder, Settings(str(root), **values))


def by_name(project):
    """The samples by the names of their files."""
    found = Originals(project)
    return {name: found[row] for row, name in enumerate(project.plan.dataset.names.tolist())}


def blank(value=0):
    return Original(np.full((2, 3, 4), value), (1.0,) * 3, None, (0.0, 100.0), False, True)


# --- photographs ----------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path):
    """Grey ones, one in colour, one of them flipped by its EXIF tag."""
    root = tmp_path / "root"
    root.mkdir()
    for i in range(8):
        Image.fromarray(RNG.integers(0, 256, (20, 30)).astype(np.uint8)).save(root / f"{i}.png")
    Image.fromarray(RNG.integers(0, 256, (10, 14, 3)).astype(np.uint8)).save(root / "red.png")
    return root


def test_images_are_shown_in_their_own_resolution(tmp_path, photographs):
    found = by_name(project_of(tmp_path / "p", photographs, settings={"image_size": 8}))
    for name, original in found.items():
        expected = np.asarray(Image.open(photographs / name))
        np.testing.assert_array_equal(original.pixels, expected)
        np.testing.assert_array_equal(plane(original, 0, 7), expected)
        assert original.window == (0, 255) and original.box is None
        assert not original.is_volume and not original.is_ct
    assert found["red.png"].pixels.shape == (10, 14, 3)
    assert found["3.png"].centre == (10, 15)


def test_rows_that_there_are_not(tmp_path, photographs):
    found = Originals(project_of(tmp_path / "p", photographs))
    for row in (-1, 9, 10**6):
        with pytest.raises(KeyError):
            found[row]


def test_a_sample_is_decoded_once_while_it_is_looked_at(tmp_path, photographs):
    found = Originals(project_of(tmp_path / "p", photographs))
    first = found[0]
    assert found[0] is first
    for row in range(module.KEPT + 1):
        found[row]
    assert found[0] is not first


def test_threads_that_want_one_sample_decode_it_once(tmp_path, photographs, monkeypatch):
    found, read, n_read = Originals(project_of(tmp_path / "p", photographs)), formats.read, []

    def slowly(*arguments):
        n_read.append(arguments)
        time.sleep(0.2)
        return read(*arguments)

    monkeypatch.setattr(formats, "read", slowly)
    with ThreadPoolExecutor(4) as threads:
        samples = list(threads.map(found.__getitem__, [0] * 4))
    assert len(n_read) == 1 and all(each is samples[0] for each in samples)


def test_a_file_that_has_gone_or_is_damaged_is_named(tmp_path, photographs):
    project = project_of(tmp_path / "p", photographs)
    names, found = project.plan.dataset.names.tolist(), Originals(project)
    (photographs / names[0]).unlink()
    (photographs / names[1]).write_bytes(b"no image")
    (photographs / names[2]).write_bytes((photographs / names[2]).read_bytes()[:100])
    with pytest.raises(FileNotFoundError, match=names[0]):
        found[0]
    for row in (1, 2):
        with pytest.raises(ValueError, match=rf"{names[row]} cannot be decoded"):
            found[row]
    assert found[3].pixels.size  # the others are there


def test_a_file_that_has_gone_since_the_plan_is_named(tmp_path, photographs):
    project = project_of(tmp_path / "p", photographs)
    name = project.plan.dataset.names[4]
    (photographs / name).unlink()
    with pytest.raises(ValueError, match=f"{name}.* has changed since the project began"):
        Originals(project)


def test_settings_of_the_reader_say_which_files_are_images(tmp_path, photographs):
    """One pattern to exclude, in a text of its own; a csv that lies elsewhere."""
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(photographs / "1_mask.png")
    csv = tmp_path / "sides.csv"
    csv.write_text("file,label\n3.png,a\n4.png,b\n")
    settings = {"exclude": "*_mask.png", "labels": str(csv)}
    found = by_name(project_of(tmp_path / "p", photographs, settings=settings))
    assert len(found) == 9 and "1_mask.png" not in found
    np.testing.assert_array_equal(
        found["3.png"].pixels, np.asarray(Image.open(photographs / "3.png"))
    )


def test_images_of_an_array_are_what_they_are(tmp_path):
    write_npz(drawn(36), tmp_path / "root")
    settings = {"classes": (), "key": True}
    for i, root in enumerate((tmp_path / "root", tmp_path / "root" / "images.npz")):
        project = project_of(tmp_path / f"p{i}", root, **settings)
        found = Originals(project)
        for row in (0, 35):
            np.testing.assert_array_equal(found[row].pixels, project.plan.dataset.images[row, 0])
            assert not found[row].is_volume and found[row].window == (0, 255)


def test_sixteen_bits_are_shown_between_their_percentiles(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for i in range(8):
        values = np.arange(1001, dtype=np.uint16).reshape(7, 143) * 10 + i
        Image.fromarray(values).save(root / f"{i}.png")
    original = by_name(project_of(tmp_path / "p", root))["2.png"]
    assert original.pixels[6, 142] == 10002
    assert original.window == pytest.approx((52, 9952))  # 0.5 % and 99.5 % of 0 to 10000, and 2
    shown = plane(original, 0, 0)
    assert shown.dtype == np.uint8
    assert [shown.flat[i] for i in (0, 5, 500, 995, 1000)] == [0, 0, 128, 255, 255]


# --- volumes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "ASL", "PIR", "SRP"])
@pytest.mark.parametrize("ending", ["nii.gz", "mha", "nrrd"])
def test_volumes_lie_one_way_whatever_their_orientation(tmp_path, orientation, ending):
    root = tmp_path / "root"
    root.mkdir()
    for i in range(7):
        stored = sitk.DICOMOrient(scan_of(VALUES + np.int16(i)), orientation)
        sitk.WriteImage(stored, str(root / f"{i}.{ending}"))
    found = by_name(project_of(tmp_path / "p", root, settings={"image_size": 4}))
    original = found[f"3.{ending}"]
    np.testing.assert_array_equal(original.pixels, VALUES + 3)
    assert original.spacing == pytest.approx(SPACING[::-1])
    assert original.is_volume and original.is_ct
    assert original.window == chestct.WINDOWS[0]
    assert original.box is None and original.centre == (2, 2, 3)


def rotated(degrees):
    """About the patient's long axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize(("degrees", "turned"), [(20, False), (-40, False), (70, True)])
def test_oblique_volumes_lie_by_their_nearest_axes(tmp_path, degrees, turned):
    root = tmp_path / "root"
    root.mkdir()
    for i in range(7):
        image = scan_of(VALUES + np.int16(i), direction=rotated(degrees))
        sitk.WriteImage(image, str(root / f"{i}.nii"))
    original = by_name(project_of(tmp_path / "p", root, settings={"image_size": 4}))["0.nii"]
    if turned:  # columns run to the back, rows to the right
        np.testing.assert_array_equal(original.pixels, VALUES.transpose(0, 2, 1)[:, :, ::-1])
        assert original.spacing == pytest.approx((2.5, 0.5, 0.75))
    else:
        np.testing.assert_array_equal(original.pixels, VALUES)
        assert original.spacing == pytest.approx((2.5, 0.75, 0.5))


def test_slices_of_a_series_are_one_volume(tmp_path):
    for i in range(7):
        write_series(tmp_path / "root" / f"s{i}", 5, PatientID=f"p{i}")
    original = by_name(project_of(tmp_path / "p", tmp_path / "root", settings={"image_size": 4}))[
        "s3"
    ]
    assert original.pixels.shape == (5, 6, 8) and original.is_volume
    assert original.pixels[:, 2, 3].tolist() == [0, 1, 2, 3, 4]  # from below
    assert original.spacing == (2.5, 0.5, 0.5)
    assert plane(original, 1, 0, (0, 4))[:, 0].tolist() == [255, 191, 128, 64, 0]  # head above


def test_grey_values_of_which_nothing_is_known():
    values = np.zeros((4, 5, 10), np.float32)
    values.flat[:] = np.arange(200)
    assert of_scan(scan_of(values)).window == pytest.approx((0.995, 198.005))
    assert not of_scan(scan_of(values)).is_ct
    small = of_scan(scan_of(values / 1e5))  # such as diffusion in mm2/s
    assert plane(small, 0, 0).min() == 0 and plane(small, 0, 3).max() == 255
    even = of_scan(scan_of(np.full((4, 5, 6), 7, np.float32)))
    assert even.window == (7, 8)
    assert of_scan(scan_of(values.astype(np.uint8))).window == (0, 255)


def test_what_is_no_number_is_black():
    values = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    values[0, 0] = np.nan
    values[3, 4] = np.inf
    original = of_scan(scan_of(values))
    assert np.isfinite(original.window).all() and original.window[1] < 119
    assert (plane(original, 0, 0)[0] == 0).all() and (plane(original, 0, 3)[4] == 0).all()


def test_volumes_without_a_scan_have_voxels_of_one():
    pixels = RNG.integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    original = of_pixels(pixels)
    np.testing.assert_array_equal(original.pixels, pixels[0])
    assert original.is_volume and original.spacing == (1, 1, 1) and original.centre == (1, 2, 2)


# --- planes and windows ---------------------------------------------------------------------------


def test_planes_lie_as_radiologists_look_at_them():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    original = of_scan(scan_of(values))
    np.testing.assert_array_equal(plane(original, 0, 1), values[1])
    np.testing.assert_array_equal(plane(original, 1, 2), values[::-1, 2])  # the head is above
    np.testing.assert_array_equal(plane(original, 2, 3), values[::-1, :, 3])
    for axis, n in enumerate((2, 3, 4)):  # the nearest that there is
        np.testing.assert_array_equal(plane(original, axis, -5), plane(original, axis, 0))
        np.testing.assert_array_equal(plane(original, axis, 99), plane(original, axis, n - 1))
        assert plane(original, axis, 0).flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "window", "shown"),
    [
        (50, None, 128),  # 127.5 and a half, cut off
        (25, None, 64),
        (0, None, 0),
        (100, None, 255),
        (-3000, None, 0),
        (3000, None, 255),
        (-300, (-1000, 400), 128),
        (399, (-1000, 400), 255),
        (398, (-1000, 400), 255),  # 254.6
        (395, (-1000, 400), 254),  # 254.09
        (5, (5, 5), 0),
        (6, (5, 5), 255),
    ],
)
def test_windows(value, window, shown):
    assert (plane(blank(value), 0, 0, window) == shown).all()


def test_eight_bits_have_windows_too():
    original = of_pixels(np.array([[[0, 64, 128, 255]]], np.uint8))
    assert plane(original, 0, 0)[0].tolist() == [0, 64, 128, 255]
    assert plane(original, 0, 0, (0.0, 128.0))[0].tolist() == [0, 128, 255, 255]


# --- lesions --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesions(chestct_root, tmp_path_factory):
    """A project over the phantoms, of which one scan is stored the other way round, unlabelled."""
    root = shutil.copytree(chestct_root, tmp_path_factory.mktemp("lesions") / "root")
    header = sorted(root.rglob("*.mhd"))[0]
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(header)), "RAS"), str(header))
    csv = root / chestct.ANNOTATIONS
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:])]))
    settings = {"patch_size": 8}
    made = Settings(str(root), "chestCT", query_size=2, budget=6, audit=0.0, settings=settings)
    return Project.create(tmp_path_factory.mktemp("p"), made)


def test_the_box_of_a_lesion_is_where_the_csv_says(lesions):
    root, found = lesions.settings.root, Originals(lesions)
    annotated, _ = chestct.read_annotations(
        chestct.Path(root) / chestct.ANNOTATIONS, unlabelled=True
    )
    of_name = {chestct.name_of(each): each for each in annotated}
    paths, _ = chestct.find_volumes(chestct.Path(root), annotated)
    names = lesions.plan.dataset.names.tolist()
    assert len(names) == len(annotated) > 80
    flipped = sorted(paths.values())[0]
    n_flipped = 0
    for row in sorted(range(len(names)), key=lambda row: of_name[names[row]].series):
        lesion = of_name[names[row]]
        header = paths[lesion.series]
        n_flipped += header == flipped
        scan = sitk.DICOMOrient(sitk.ReadImage(str(header)), "LPS")
        original = found[row]
        # index = (mm - origin) / spacing, as the axes now run to Left, Posterior and Superior
        at = (lesion.centre - np.array(scan.GetOrigin())) / np.array(scan.GetSpacing())
        box = np.array(original.box)[::-1]
        np.testing.assert_allclose(box.mean(1), at, atol=1e-6)
        np.testing.assert_allclose((box[:, 1] - box[:, 0]) * scan.GetSpacing(), lesion.extent)
        nearest = tuple(np.rint(at[::-1]).astype(int))
        assert original.centre == nearest
        assert all(low <= n <= high for n, (low, high) in zip(at[::-1], original.box, strict=True))
        assert original.pixels[nearest] == scan[tuple(map(int, nearest[::-1]))]
        assert original.is_ct and original.window == (-1000, 400)
    assert n_flipped > 5


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1, -1, 1]), np.diag([1, -1, -1])])
@pytest.mark.parametrize("shift", [-0.4, 0, 0.4])
def test_the_first_voxel_to_look_at_is_the_nearest_to_the_middle(direction, shift):
    """A bright voxel, and a lesion nearly there."""
    values = np.full((12, 30, 40), -1000, np.int16)
    values[7, 20, 11] = 1000
    scan = scan_of(values, direction=direction)
    centre = np.array(
        scan.TransformContinuousIndexToPhysicalPoint([11 + shift, 20 + shift, 7 + shift])
    )
    original = of_scan(sitk.DICOMOrient(scan, "LPS"), centre, np.array([2.0, 3.0, 5.0]))
    assert original.pixels[original.centre] == 1000
    sizes = [high - low for low, high in original.box]
    assert sizes == pytest.approx([5 / 2.5, 3 / 0.75, 2 / 0.5])


def test_a_lesion_at_the_edge_is_looked_at_inside():
    scan = scan_of(np.zeros((4, 5, 6), np.int16), origin=(0, 0, 0))
    outside = of_scan(scan, np.array([-9.0, 99.0, 2.5]), np.ones(3))
    assert outside.centre == (1, 4, 0)


def test_lesions_of_one_scan_read_it_once(lesions, monkeypatch):
    read, paths = module.formats.read_scan, []
    monkeypatch.setattr(
        module.formats, "read_scan", lambda given: paths.extend(given) or read(given)
    )
    found = Originals(lesions)
    groups = lesions.plan.dataset.groups
    rows = np.flatnonzero(groups == groups[0])
    for row in rows:
        found[int(row)]
    assert len(rows) > 5 and len(paths) == 1


def test_a_scan_that_has_gone_is_named(lesions, tmp_path):
    root = shutil.copytree(lesions.settings.root, tmp_path / "root")
    settings = {"patch_size": 8}
    project = Project.create(
        tmp_path / "p",
        Settings(str(root), "chestCT", query_size=2, budget=6, audit=0.0, settings=settings),
    )
    found, series = Originals(project), str(project.plan.dataset.groups[0])
    (header,) = root.rglob(f"{series}.mhd")
    header.with_suffix(".raw").unlink()
    with pytest.raises(ValueError, match=rf"{series}.mhd cannot be decoded: .*missing"):
        found[0]
    header.unlink()
    with pytest.raises(FileNotFoundError, match=f"{series}.mhd"):
        found[0]


# --- bad files left out ---------------------------------------------------------------------------

SKIP = {"on_error": "skip", "max_skipped": 0.5}


def test_rows_are_those_of_files_that_can_be_used(photographs, monkeypatch):
    monkeypatch.setattr(decoder, "AVAILABLE", False)  # by threads, to save time
    (photographs / "2.png").write_bytes(b"no image")
    whole = (photographs / "5.png").read_bytes()
    (photographs / "5.png").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"[25]\.png cannot be decoded"):
        _ = project_of(photographs.parent / "strict", photographs, budget=4).plan
    folder = photographs.parent / "project"
    project = project_of(folder, photographs, budget=4, settings=SKIP)
    names = [*(f"{i}.png" for i in (0, 1, 3, 4, 6, 7)), "red.png"]
    dataset = project.plan.dataset
    assert sorted(dataset.names) == names
    assert sorted(name for name, _ in dataset.skipped) == ["2.png", "5.png"]
    assert "on_error" not in project.reader_settings["keywords"]
    for name, original in by_name(project).items():
        pixels = formats.read(photographs / name, 3)
        np.testing.assert_array_equal(original.pixels, of_pixels(pixels).pixels)
    (photographs / "5.png").write_bytes(whole)  # mended: rows would be others
    with pytest.raises(ValueError, match="holds other images"):
        _ = Project(folder).plan


def test_lesions_without_a_volume_are_not_asked_about(tmp_path, chestct_root, monkeypatch):
    monkeypatch.setattr(decoder, "AVAILABLE", False)
    root = shutil.copytree(chestct_root, tmp_path / "root")
    gone = sorted(root.rglob("*.mhd"))[0]
    gone.unlink()
    project = project_of(
        tmp_path / "project", root, dataset="chestCT", classes=(), key=True, settings=SKIP
    )
    dataset = project.plan.dataset
    assert gone.stem not in dataset.groups and dataset.skipped
    assert len(dataset.names) + len(dataset.skipped) == len(
        (root / chestct.ANNOTATIONS).read_text().splitlines()[1:]
    )
    assert Originals(project)[len(dataset.names) - 1].box is not None
