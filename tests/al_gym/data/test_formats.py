"""What a file is, by its content; the formats themselves have tests of their own."""

import gzip
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from al_gym.data import formats
from tests.dicom_samples import ULTRASOUND_FILM, write_dicom, write_series, write_slice

GREY = np.random.default_rng(0).integers(0, 256, (9, 10)).astype(np.uint8)
VOLUME = np.random.default_rng(1).integers(-99, 99, (4, 5, 6)).astype(np.int16)
NAMES = (
    "a.png", "a.jpg", "a.gif", "a.tif", "a.bmp", "a.webp", "a.jp2", "a.pgm",
    "a.dcm", "a.nii", "a.nii.gz", "a.mha", "a.nrrd",
)  # fmt: skip


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A small file of every format."""
    folder = tmp_path_factory.mktemp("samples")
    for name in NAMES[:8]:
        Image.fromarray(GREY).save(folder / name)
    write_dicom(folder / "a.dcm", VOLUME[0])
    for name in NAMES[9:]:
        sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(folder / name))
    return folder


@pytest.mark.parametrize("new_name", ["scan", "scan.PNG", "scan.Dcm", "scan.txt", "scan.001"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_what_it_holds_whatever_its_name(samples, tmp_path, name, new_name):
    shutil.copy(samples / name, tmp_path / new_name)
    assert formats.header(tmp_path / new_name) == formats.header(samples / name)
    found, expected = formats.read(tmp_path / new_name, 3), formats.read(samples / name, 3)
    assert formats.header(samples / name).is_deep == (found.dtype != np.uint8)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"file,label\na.png,1\n",
        b"BMI,age\n21,30\n",
        b"P1 is the first patient, P2 the second\n",
        b"P1 10 images, P2 12\n",
        b"GIF is a format",
        b"NDims are not told here",
        b"Comment: the images are of 2020\n",
        b"Comment = NDims = 3\n",
        b"P1 3 4 notes of the patient",
        b"P2 3 4 12 rows",
        b"P6 10 20 cells",
        b"\x02\0\0\0AB123456",
        np.array([2, 0x4142, 5], "<i4").tobytes(),
        np.array([8, 5, 0x41, 7], "<i4").tobytes(),
        np.array([2, 16, 0x41424344, 7], "<i4").tobytes(),
        b"PK\x03\x04 an archive",
        b"%PDF-1.7",
        gzip.compress(b"a table", mtime=0),
        b"\x1f\x8b no gzip",
        bytes(2000),
        np.arange(2000, dtype=np.int16).tobytes(),
    ],
)
def test_what_is_no_image(tmp_path, content):
    for name in ("readme.txt", "a", "a.csv", "a.raw", "a.gz"):
        (tmp_path / name).write_bytes(content)
        assert formats.header(tmp_path / name) is None
        with pytest.raises(ValueError, match=rf"{name} cannot be decoded: it is no image"):
            formats.read(tmp_path / name, 3)
    for name in ("a.png", "a.JPG", "a.nii.gz", "a.dcm", "a.IMA", "a.heic", "a.mgz"):
        (tmp_path / name).write_bytes(content)
        for read in (formats.header, lambda path: formats.read(path, 3)):
            with pytest.raises(ValueError, match=f"{name} cannot be decoded: by its content it is"):
                read(tmp_path / name)


def test_a_refusal_says_what_to_do(tmp_path):
    for content, advice in (
        (b"\x89PNG\r\n\x1a\nxx", ". Repair it, or leave it out with exclude"),
        (b"nothing", "convert it to PNG or NIfTI. Or leave it out with exclude"),
        (b"P6 3 2 65535\n", "save it with 8. Or leave it out with exclude"),
    ):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.png cannot be decoded: .*{advice}$"):
            formats.header(tmp_path / "a.png")


def test_packed_images_are_named(samples, tmp_path):
    for name in ("a.png", "a.dcm", "a.nrrd"):
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress((samples / name).read_bytes()))
        with pytest.raises(ValueError, match=rf"{name}\.gz cannot be decoded: .*unpack it"):
            formats.header(path)


def test_a_missing_file_is_missing(tmp_path):
    for call in (formats.header, formats.check_volume, lambda path: formats.read(path, 1)):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
            call(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dcm"):
        formats.read_series([tmp_path / "nowhere.dcm"])


def test_colour_is_not_squeezed_into_grey(tmp_path):
    """Photographs have a rule for it, scans have none."""
    write_dicom(tmp_path / "a.dcm", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.dcm cannot be decoded: it is in colour"):
        formats.read(tmp_path / "a.dcm", 1)


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_damaged_file_decodes_or_is_refused_by_name(samples, tmp_path, name, data):
    """Bytes changed, cut out or put in, most of them in the header."""
    content = bytearray((samples / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content) - 1, 400)) | st.integers(0, len(content)))
        piece = data.draw(st.binary(max_size=3))
        content[place : place + data.draw(st.integers(0, 3))] = piece
    path = tmp_path / name
    path.write_bytes(content)
    try:
        found = formats.read(path, 3)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert len(found) in (1, 3) and found.ndim in (3, 4)
        assert found.dtype.kind in "iu" or found.dtype == np.float32


# --- volumes with their place in the world --------------------------------------------------------


def world_of(scan):
    """The world point in mm of every value, which are all different."""
    values = sitk.GetArrayFromImage(scan)
    return {
        int(value): np.round(scan.TransformIndexToPhysicalPoint([x, y, z]), 3).tolist()
        for (z, y, x), value in np.ndenumerate(values)
    }


@pytest.mark.parametrize("orientation", ["LPS", "RAI", "SAR", "PIL"])
@pytest.mark.parametrize("ending", ["nii", "nii.gz", "mha", "mhd", "nrrd"])
def test_a_scan_keeps_every_voxel_at_its_place(tmp_path, orientation, ending):
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    image.SetSpacing([0.5, 0.75, 2.5])
    image.SetOrigin([-10, 20, 30])
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    found = formats.read_scan([path])
    assert world_of(found) == world_of(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found)[None], formats.read(path, 1))


@pytest.mark.parametrize(
    ("axes", "step"),
    [
        ([1, 0, 0, 0, 1, 0], [0, 0, 2.5]),  # axial
        ([-1, 0, 0, 0, -1, 0], [0, 0, -2.5]),
        ([1, 0, 0, 0, 0, -1], [0, 2.5, 0]),  # coronal
        ([0, 1, 0, 0, 0, -1], [2.5, 0, 0]),  # sagittal
        ([0.8, 0.6, 0, 0, 0, -1], [-1.5, 2, 0]),  # between them
    ],
)
def test_slices_are_joined_where_their_headers_say(tmp_path, axes, step):
    """The first voxel of a slice is at its position; rows and columns follow the orientation."""
    begin, paths, expected = np.array([-10.0, -20.0, 30.0]), [], {}
    across, down = np.array(axes[:3]) * 0.5, np.array(axes[3:]) * 0.75
    for i in (2, 0, 3, 1):  # in no order
        path, place = tmp_path / f"{i}", begin + i * np.array(step)
        pixels = np.arange(20, dtype=np.int16).reshape(4, 5) + 100 * np.int16(i)
        write_dicom(
            path, pixels, SeriesInstanceUID="1.2", ImagePositionPatient=place.tolist(),
            ImageOrientationPatient=axes, PixelSpacing=[0.75, 0.5],
        )  # fmt: skip
        paths.append(path)
        for (row, column), value in np.ndenumerate(pixels):
            point = place + column * across + row * down
            expected[int(value)] = np.round(point, 3).tolist()
    found = formats.read_scan(paths)
    assert {value: pytest.approx(point, abs=2e-3) for value, point in expected.items()} == world_of(
        found
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found)[None], formats.read_series(paths))
    directions = np.array(found.GetDirection()).reshape(3, 3)
    assert (np.abs(directions).argmax(0) == [0, 1, 2]).all() and (np.diag(directions) > 0).all()


def test_what_is_no_scan(samples, tmp_path):
    """An image, a flat volume, one in colour, a film and a slice."""
    flat, colour = tmp_path / "flat.nii", tmp_path / "colour.mha"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME[:1]), str(flat))
    rgb = RNG.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(colour))
    write_dicom(tmp_path / "film", np.zeros((3, 6, 8), np.uint8), sop_class=ULTRASOUND_FILM)
    write_slice(tmp_path / "slice", VOLUME[0])
    others = [flat, colour, tmp_path / "film", tmp_path / "slice"]
    for path in [*(samples / name for name in NAMES[:9]), *others]:
        assert formats.read_scan([path]) is None
        assert formats.read(path, 3).ndim in (3, 4)  # which reads it
    for name in NAMES[9:]:
        assert formats.read_scan([samples / name]).GetDimension() == 3


RNG = np.random.default_rng(2)


def test_scans_that_cannot_be_decoded_are_named(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a.nii cannot be decoded: .*truncated"):
        formats.read_scan([path])
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a.nii cannot be decoded"):
        formats.read_scan([path])
    with pytest.raises(FileNotFoundError, match=r"b.nii"):
        formats.read_scan([tmp_path / "b.nii"])
    paths = write_series(tmp_path / "s", 4)
    with pytest.raises(ValueError, match=r"s/IM"):  # one is missing
        formats.read_scan([paths[0], paths[1], paths[3]])
    paths[2].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"{paths[2].name} cannot be decoded: it is no DICOM"):
        formats.read_scan(paths)
