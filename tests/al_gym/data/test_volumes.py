"""NIfTI, MetaImage and NRRD: as nibabel reads them, in one orientation, or refused by name."""

import gzip
import itertools
import shutil
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from al_gym.data import formats
from al_gym.errors import DataError

ENDINGS = ("nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr")
NIBABEL_FILES = Path(nibabel.__file__).parent / "tests" / "data"
VALUES = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)


def nifti(values, affine=None):
    """Values (W, H, D), to Right, Anterior and Superior unless ``affine`` says otherwise."""
    return nibabel.Nifti1Image(values, np.diag([1.0, 2, 3, 1]) if affine is None else affine)


def as_nibabel_reads(path):
    """(1, D, H, W), from nibabel's canonical Right, Anterior, Superior."""
    values = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    return np.flip(values, (0, 1)).T[None]


def write(folder, ending, values=VALUES, compressed=False):
    """A volume as SimpleITK writes it, and the file that holds its voxels."""
    path = folder / f"volume.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path), compressed)
    voxels = [other for other in folder.iterdir() if other.name.startswith("volume.")]
    return path, max(voxels, key=lambda other: other.stat().st_size)


def orientations():
    """All 48 ways to store a volume: an order of the axes, and their directions."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield order, signs


def test_all_orientations_give_equal_arrays_in_all_formats(tmp_path):
    """The same anatomy, whatever the order of its axes; nibabel agrees."""
    anatomy = np.random.default_rng(1).integers(0, 999, (4, 5, 6)).astype(np.int16)  # R, A, S
    expected = anatomy[::-1, ::-1, :].T[None]
    for order, signs in orientations():
        stored = anatomy.transpose(order)
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for axis, (direction, sign) in enumerate(zip(order, signs, strict=True)):
            affine[direction, axis] = sign * (1 + direction)
            affine[direction, 3] = 0 if sign > 0 else (1 + direction) * (stored.shape[axis] - 1)
        stored = stored[tuple(slice(None, None, sign) for sign in signs)]
        nibabel.save(nifti(stored, affine), tmp_path / "a.nii")
        np.testing.assert_array_equal(formats.read(tmp_path / "a.nii", 1), expected)
        np.testing.assert_array_equal(as_nibabel_reads(tmp_path / "a.nii"), expected)
        image = sitk.ReadImage(str(tmp_path / "a.nii"))
        for ending in ("mha", "nrrd"):
            sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
            np.testing.assert_array_equal(formats.read(tmp_path / f"a.{ending}", 1), expected)


def test_oblique_volumes_run_along_the_nearest_axes(tmp_path):
    rng = np.random.default_rng(2)
    for _ in range(20):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = rotation * (0.5, 1, 2)
        nibabel.save(nifti(VALUES, affine), tmp_path / "a.nii")
        found = formats.read(tmp_path / "a.nii", 1)
        np.testing.assert_array_equal(found, as_nibabel_reads(tmp_path / "a.nii"))


def test_a_nifti_file_with_two_forms_is_read_by_its_sform(tmp_path):
    for codes in ((1, 1), (2, 1), (1, 2), (0, 1), (1, 0)):
        image = nifti(VALUES)
        image.set_qform(np.diag([-1.0, 2, 3, 1]), codes[1])
        image.set_sform(np.diag([1.0, -2, 3, 1]), codes[0])
        nibabel.save(image, tmp_path / "a.nii")
        found = formats.read(tmp_path / "a.nii", 1)
        np.testing.assert_array_equal(found, as_nibabel_reads(tmp_path / "a.nii"))


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior"])
def test_the_space_of_nrrd(tmp_path, space):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: {space}\nsizes: 4 3 2\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values.tobytes())
    flips = {"left-posterior-superior": (), "RAS": (1, 2), "left-anterior-superior": (1,)}[space]
    np.testing.assert_array_equal(
        formats.read(tmp_path / "a.nrrd", 1), np.flip(values, flips)[None]
    )


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_volume_is_whole_or_refused(tmp_path, ending, compressed):
    path, voxels = write(tmp_path, ending, compressed=compressed)
    found = formats.read(path, 1)
    np.testing.assert_array_equal(found, VALUES[None])
    assert found.dtype == np.int16
    formats.check_volume(path)
    whole = voxels.read_bytes()
    for share in (0.5, 0.8, 0.97):
        voxels.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=str(path)):
            formats.read(path, 1)


def test_a_region_cannot_be_read_from_a_truncated_volume_that_was_checked(tmp_path):
    """Of a compressed MetaImage file without its packed size the library reads zeros."""
    for ending in ("mha", "mhd"):
        path, _ = write(tmp_path, ending)
        packed = zlib.compress(VALUES[:3].tobytes())
        header = (
            path.read_bytes()
            .split(b"ElementDataFile")[0]
            .replace(b"CompressedData = False", b"CompressedData = True")
        )
        name = b"LOCAL" if ending == "mha" else b"volume.zraw"
        path.write_bytes(header + b"ElementDataFile = " + name + b"\n")
        if ending == "mha":
            path.write_bytes(path.read_bytes() + packed)
        else:
            (tmp_path / "volume.zraw").write_bytes(packed)
        with pytest.raises(ValueError, match=r"truncated: it holds 252 bytes of 420"):
            formats.check_volume(path)
        with pytest.raises(ValueError, match=r"truncated"):
            formats.read(path, 1)


def test_a_gzip_file_that_was_damaged_is_refused(tmp_path):
    path, _ = write(tmp_path, "nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="incorrect data check"):
        formats.read(path, 1)


def test_a_gzip_file_of_several_streams(tmp_path):
    write(tmp_path, "nii")
    content = (tmp_path / "volume.nii").read_bytes()
    path = tmp_path / "parts.nii.gz"
    path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(formats.read(path, 1), VALUES[None])


@pytest.mark.parametrize("name", ["a.NII", "a.Nii", "a.nii.gz", "a", "a.img", "a.dcm"])
def test_nifti_by_any_name(tmp_path, name):
    write(tmp_path, "nii")
    shutil.move(tmp_path / "volume.nii", tmp_path / name)
    np.testing.assert_array_equal(formats.read(tmp_path / name, 1), VALUES[None])
    assert formats.header(tmp_path / name) == formats.Header(3, 1, is_deep=True)


@pytest.mark.parametrize("name", ["a.NII.GZ", "a.Nii.Gz", "a.gz", "a.nii", "a"])
def test_packed_nifti_by_any_name(tmp_path, name):
    write(tmp_path, "nii.gz")
    shutil.move(tmp_path / "volume.nii.gz", tmp_path / name)
    np.testing.assert_array_equal(formats.read(tmp_path / name, 1), VALUES[None])


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
@pytest.mark.parametrize("name", ["a.MHA", "a", "a.dat"])
def test_others_by_any_name(tmp_path, ending, name):
    path, _ = write(tmp_path, ending)
    shutil.move(path, tmp_path / name)
    np.testing.assert_array_equal(formats.read(tmp_path / name, 1), VALUES[None])


def test_files_that_only_hold_voxels_are_no_images(tmp_path):
    path, voxels = write(tmp_path, "mhd")
    assert voxels.suffix == ".raw" and formats.header(voxels) is None
    packed = VALUES.tobytes()
    voxels.write_bytes(b"BM" + packed[2:])  # whatever they begin with
    assert formats.header(voxels) is None
    nibabel.save(nibabel.Nifti1Pair(VALUES.T, np.eye(4)), tmp_path / "pair.img")
    assert formats.header(tmp_path / "pair.img") is None
    assert formats.header(tmp_path / "pair.hdr") == formats.Header(3, 1, is_deep=True)
    np.testing.assert_array_equal(
        formats.read(tmp_path / "pair.hdr", 1), as_nibabel_reads(tmp_path / "pair.hdr")
    )
    (tmp_path / "pair.img").unlink()
    with pytest.raises(ValueError, match=r"pair\.img is missing"):
        formats.read(tmp_path / "pair.hdr", 1)
    assert formats.header(path) == formats.Header(3, 1, is_deep=True)


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/passwd", "LIST", "slice%03d.raw 1 3 1", "", ".", "sub/a.raw"]
)
def test_voxels_lie_beside_their_header(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(VALUES.tobytes())
    for ending, field in (("mhd", "ElementDataFile = "), ("nhdr", "data file: ")):
        path, voxels = write(folder, ending)
        for separator in (field, field.replace(" =", ":")):
            text = path.read_text().replace(f"{field}{voxels.name}", f"{separator}{name}")
            path.write_text(text)
            message = r"must be a file in the same folder|must be lines NAME = VALUE"
            with pytest.raises(ValueError, match=message):
                formats.read(path, 1)
            with pytest.raises(ValueError, match=message):
                formats.check_volume(path)


@pytest.mark.parametrize(
    ("ending", "change"),
    [
        ("nhdr", ("data file: volume.raw", "Data File: ../secret.raw")),
        ("nhdr", ("data file: volume.raw", "# x\rdata file: ../secret.raw")),
        ("nhdr", ("data file: volume.raw", "#\r\rdata file: ../secret.raw")),
        ("mhd", ("NDims", "Comment = x\rElementDataFile = volume.raw\nNDims")),
    ],
)
def test_no_line_end_of_the_library_alone_leads_out_of_the_folder(tmp_path, ending, change):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(VALUES.nbytes))
    path, _ = write(tmp_path / "folder", ending)
    text = path.read_text()
    assert change[0] in text
    path.write_bytes(text.replace(*change).encode())
    with pytest.raises(ValueError, match=r"in the same folder|lines NAME = VALUE"):
        formats.read(path, 1)


def test_values_are_scaled_as_nifti_says(tmp_path):
    for kind in (np.uint8, np.int16, np.uint16, np.int32, np.float32):
        image = nifti(VALUES.astype(kind))
        image.header.set_slope_inter(0.5, -3)
        nibabel.save(image, tmp_path / "a.nii")
        nibabel.load(tmp_path / "a.nii")
        found = formats.read(tmp_path / "a.nii", 1)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, as_nibabel_reads(tmp_path / "a.nii"), rtol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_types_and_byte_orders_of_nifti(tmp_path, kind, order):
    values = VALUES.astype(np.dtype(kind).newbyteorder(order))
    header = nibabel.Nifti1Header(endianness=order)
    image = nibabel.Nifti1Image(values, np.diag([1.0, 2, 3, 1]), header, dtype=values.dtype)
    nibabel.save(image, tmp_path / "a.nii")
    found = formats.read(tmp_path / "a.nii", 1)
    assert found.dtype == (np.float32 if kind == "f8" else np.dtype(kind))
    np.testing.assert_array_equal(found, as_nibabel_reads(tmp_path / "a.nii"))


def test_colours(tmp_path):
    colours = np.random.default_rng(3).integers(0, 255, (2, 3, 4, 3)).astype(np.uint8)
    image = sitk.GetImageFromArray(colours, isVector=True)
    for ending in ENDINGS:
        sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
        assert formats.header(tmp_path / f"a.{ending}") == formats.Header(3, 3)
        found = formats.read(tmp_path / f"a.{ending}", 3)
        np.testing.assert_array_equal(found, np.moveaxis(colours, -1, 0))
    with pytest.raises(ValueError, match=r"a\.nrrd cannot be decoded: it is in colour"):
        formats.read(tmp_path / "a.nrrd", 1)


@pytest.mark.parametrize("ending", ["nii", "mha", "nrrd"])
def test_voxels_that_are_no_numbers_are_0(tmp_path, ending):
    values = VALUES.astype(np.float64)
    values[0, 0, :3] = np.nan, np.inf, -np.inf
    path, _ = write(tmp_path, ending, values)
    found = formats.read(path, 1)
    assert found.dtype == np.float32 and found[0, 0, 0, :3].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(found[0, 1:], VALUES[1:])


def test_an_axis_of_one_voxel_is_dropped(tmp_path):
    for shape in ((5, 6, 1), (5, 1, 6), (1, 5, 6), (5, 6, 7, 1), (5, 6, 1, 1)):
        nibabel.save(nifti(np.resize(VALUES, shape)), tmp_path / "a.nii")
        stored = np.resize(VALUES, shape)[::-1, ::-1].T
        expected = stored.reshape(1, *[n for n in stored.shape if n > 1])
        np.testing.assert_array_equal(formats.read(tmp_path / "a.nii", 1), expected)
        assert formats.header(tmp_path / "a.nii") == formats.Header(
            expected.ndim - 1, 1, is_deep=True
        )


def patched(path, offset, form, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)


def test_volumes_that_are_refused(tmp_path):
    def refused(image, reason, *changes):
        path = tmp_path / "a.nii"
        nibabel.save(image, path)
        for change in changes:
            patched(path, *change)
        with pytest.raises(ValueError, match=rf"a\.nii cannot be decoded: .*{reason}"):
            formats.read(path, 1)

    refused(nifti(np.zeros((3, 4, 5, 2), np.int16)), "4 axes")
    refused(nifti(np.zeros((3, 1, 1), np.int16)), "neither that of an image nor of a volume")
    refused(nifti(np.zeros((3, 4, 5), np.complex64)), "data type 32 is not read")
    refused(nifti(VALUES), "left from right", (252, "<hh", 0, 0))
    refused(nifti(VALUES), r"sform codes \(0, 8194\) are not of", (252, "<hh", 0, 8194))
    refused(nifti(VALUES), "data type 5 is not read", (70, "<h", 5))
    refused(nifti(VALUES), "truncated", (40, "<4h", 3, 5000, 6000, 7000))
    for size in (-2.0, np.nan):  # of which ITK and nibabel make different orientations
        refused(nifti(VALUES), "voxels of a negative size", (252, "<hh", 1, 0), (84, "<f", size))
    refused(nifti(VALUES), "neither 1 nor -1", (252, "<hh", 1, 0), (76, "<f", -2))
    flat = (0, 0, 0, 0, 0, np.nan, 0, 0, 0, 0, 3, 0)  # ITK would not come to an end
    refused(nifti(VALUES), "sform .* has numbers that are none", (280, "<12f", *flat))
    refused(nifti(VALUES), "qform .* that are none", (252, "<hh", 1, 0), (256, "<f", np.inf))
    # 3 axes to ITK, which then turns the bytes of all of them
    refused(nifti(VALUES), "it has 768 axes", (40, "<h", 768))
    refused(nifti(VALUES), "Analyze", (344, "4s", b"\0\0\0\0"))
    refused(nibabel.Nifti2Image(VALUES, np.eye(4)), "NIfTI-2")
    vectors = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.float32), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "a.nrrd"))
    with pytest.raises(ValueError, match="neither grey nor RGB"):
        formats.header(tmp_path / "a.nrrd")
    (tmp_path / "b.nrrd").write_bytes(
        b"NRRD0001\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nencoding: raw\n\n" + bytes(24)
    )
    with pytest.raises(ValueError, match=r"b\.nrrd .*left from right"):
        formats.read(tmp_path / "b.nrrd", 1)
    with pytest.raises(ValueError, match="is not one of NIfTI, MetaImage, NRRD"):
        formats.check_volume(Path(__file__))


def test_every_volume_of_nibabels_own_tests():
    """Equal to nibabel, or refused by name; the two lists together are all images there."""
    equal, refused = [], {}
    for path in sorted(NIBABEL_FILES.iterdir()):
        if not path.name.endswith((".nii", ".nii.gz", ".hdr", ".mgz", ".mnc")):
            continue
        try:
            found = formats.read(path, 1)
        except ValueError as error:
            assert path.name in str(error)
            refused[path.name] = str(error).partition("decoded: ")[2]
            continue
        expected = as_nibabel_reads(path)
        expected = np.nan_to_num(expected.reshape(found.shape))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        equal.append(path.name)
    assert equal == [
        "anatomical.nii", "reoriented_anat_moved.nii", "resampled_anat_moved.nii",
        "standard.nii.gz",
    ]  # fmt: skip
    reasons = {
        "4 axes": {"example4d.nii.gz", "functional.nii"},
        "NIfTI-2": {"example_nifti2.nii.gz", "nifti2.hdr", "row_major.dconn.nii"},
        "Analyze": {"analyze.hdr"},
        "nifti1.img is missing": {"nifti1.hdr"},
        "no format that is read here": {
            name for name in refused if name.endswith((".mgz", ".mnc"))
        },
    }
    for reason, names in reasons.items():
        assert {name for name, said in refused.items() if reason in said} == names
    assert set().union(*reasons.values()) == set(refused)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({108: 0.0}, "voxels are said to begin at byte 0.0"),  # where nibabel would read them
        ({112: 0.0, 116: 5.0}, "scale is 0 and its intercept 5.0"),
        ({112: 1e-20}, "scale .* is too small"),  # by which nibabel would multiply
        ({88: -4.0}, "sform and pixdim do not agree"),  # for which ITK drops the sform
    ],
)
def test_what_itk_takes_otherwise_than_nibabel_is_refused(tmp_path, numbers, said):
    path = tmp_path / "a.nii"
    nibabel.save(nifti(VALUES, np.diag([-1.0, 2, 3, 1])), path)
    content = bytearray(path.read_bytes())
    for offset, number in numbers.items():
        struct.pack_into("<f", content, offset, number)
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        formats.read(path, 1)
