"""Readers that leave bad files out: which, why, how many, and that all others are as before."""

import csv
import functools
import shutil

import numpy as np
import pytest
from PIL import Image

from al_gym.data import cache, chestct, decoder, folder, retinopathy, skipping
from al_gym.errors import DataError
from tests.al_gym.data import badly
from tests.dicom_samples import write_slice


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("AL_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def by_threads(monkeypatch):
    """What needs no process is tested without waiting for one to begin."""
    monkeypatch.setattr(decoder, "AVAILABLE", False)


SKIP = {"on_error": "skip", "max_skipped": 0.25}
NAMES = ["=a", "b,c", "d", "e\nf", "g"]


def read(decode, key="x-1", **settings):
    return skipping.decoded(key, NAMES, (1, 2, 2), decode, **{**SKIP, **settings})


def test_a_crash_costs_one_image_and_is_remembered(cached):
    decode = functools.partial(badly.image, 0)
    found = read(decode)
    assert found.rows.tolist() == [0, 1, 2, 4] and found.n_files == 5
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4] and found.images.dtype == np.uint8
    reason = "the decoder crashed (SIGSEGV) on e f"
    assert found.skipped == (("e\nf", reason),)
    place = cached / "x-1-skip" / "skipped.csv"
    assert found.notes == (
        f"1 of 5 files cannot be used and are left out; {place} says which, and why",
    )
    with place.open(newline="") as file:
        assert list(csv.reader(file)) == [["file", "reason"], ["e\nf", reason]]
    again = read(None)  # nothing is decoded
    assert again.n_files == 0 and again.skipped == found.skipped
    np.testing.assert_array_equal(again.images, found.images)
    with pytest.raises(DataError, match=r"(?s)x: more than max_skipped=0.1 of 5 .*SIGSEGV"):
        read(None, max_skipped=0.1)


def test_all_is_well(by_threads):
    decode = functools.partial(badly.image, 0)
    good = functools.partial(np.full, (1, 2, 2), dtype=np.uint8)
    assert read(good).notes == () and read(good).skipped == ()
    whole = read(good, key="x-2", on_error="raise")
    np.testing.assert_array_equal(read(good).images, whole.images)
    assert whole.rows.tolist() == [0, 1, 2, 3, 4]
    assert decode(2).tolist() == whole.images[2].tolist()


def test_known_problems_are_not_read_and_damage_is_mended(by_threads, cached):
    calls = []

    def decode(i):
        calls.append(i)
        return np.full((1, 2, 2), i, np.uint8)

    found = read(decode, problems={0: "=gone\ud800\n  away"})
    assert sorted(calls) == [1, 2, 3, 4]
    assert found.skipped == (("=a", "=gone\\ud800 away"),)
    assert read(decode, problems={0: "gone"}).n_files == 0
    images = cached / "x-1-skip" / "images.npy"
    images.write_bytes(images.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="damaged"):
        again = read(decode, problems={0: "gone"})
    assert again.n_files == 5 and again.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4]


def test_too_many_leave_nothing_in_the_cache(by_threads, cached):
    def decode(i):
        raise ValueError(f"bad {i}")

    with pytest.raises(DataError, match=r"max_skipped=0.25 of 5 files .* =a: bad 0; b,c: bad 1"):
        read(decode)
    assert [path.suffix for path in cached.rglob("*") if path.is_file()] == [".lock"]


@pytest.mark.parametrize(
    "wrong", [{"on_error": "ignore"}, {"max_skipped": 1.5}, {"max_skipped": -0.1}]
)
@pytest.mark.parametrize("load", [folder.load, chestct.load, retinopathy.load])
def test_settings_that_cannot_be(load, wrong, tmp_path):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        load(tmp_path, **wrong)


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path):
    """Two classes of twelve images."""
    rng = np.random.default_rng(0)
    for name in ("benign", "malignant"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 255, (20, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "root" / name / f"{i:02}.png")
    return tmp_path / "root"


def sides(dataset):
    """Name -> side and pixels."""
    return {
        str(dataset.names[row]): (side, dataset.labels[row], dataset.images[row].tobytes())
        for side in ("train", "test")
        for row in getattr(dataset, side)
    }


def spoil(path):
    path.write_bytes(path.read_bytes()[:-40])  # its header stays good


def test_a_folder_with_bad_files_is_read_without_them(photographs, monkeypatch):
    before = folder.load(photographs, image_size=16)
    bad = [str(before.names[before.test[0]]), str(before.names[before.train[-1]])]
    spoil(photographs / bad[0])
    (photographs / bad[1]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"\.png cannot be decoded"):
        folder.load(photographs, image_size=16)
    after = folder.load(photographs, image_size=16, **SKIP)
    expected = sides(before)
    for name in bad:
        del expected[name]
    assert sides(after) == expected  # no side was drawn anew, and no bit is another
    assert [name for name, _ in after.skipped] == sorted(bad)
    assert all("cannot be decoded" in reason for _, reason in after.skipped)
    assert "2 of 24 files cannot be used" in after.notes[-1]
    assert after.fingerprint() != before.fingerprint()
    monkeypatch.setattr(decoder, "AVAILABLE", False)  # to save time
    again = folder.load(photographs, image_size=16, **SKIP)
    assert again.files_decoded == 0 and again.skipped == after.skipped
    assert again.fingerprint() == after.fingerprint()


def test_a_file_that_is_mended_comes_back(photographs, by_threads):
    before = folder.load(photographs, image_size=16)
    path = photographs / "benign" / "03.png"
    whole = path.read_bytes()
    for content in (whole[:-40], b"no image"):
        path.write_bytes(content)
        assert len(folder.load(photographs, image_size=16, **SKIP).labels) == 23
    path.write_bytes(whole)
    after = folder.load(photographs, image_size=16, **SKIP)
    assert sides(after) == sides(before) and after.skipped == ()


def test_a_folder_has_too_many_bad_files(photographs, by_threads):
    for path in (photographs / "benign").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"more than max_skipped=0.25 of 24 .*benign/0\d.png"):
        folder.load(photographs, **SKIP)
    with pytest.raises(ValueError, match="no image of class 'benign' can be used"):
        folder.load(photographs, on_error="skip", max_skipped=0.5)
    for path in (photographs / "malignant").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="not one of 24 images can be used"):
        folder.load(photographs, on_error="skip", max_skipped=1)


def test_a_volume_without_one_of_its_slices_is_none(tmp_path, by_threads):
    for name in ("healthy", "sick"):
        for series in range(3):
            place = tmp_path / "root" / name / str(series)
            place.mkdir(parents=True)
            for i in range(4):
                write_slice(
                    place / f"{i}.dcm",
                    np.full((8, 8), i, np.uint16),
                    z=i,
                    series=f"1.{name == 'sick':d}.{series}",
                    patient=f"{name}{series}",
                )
    (tmp_path / "root" / "sick" / "1" / "3.dcm").write_bytes(b"no slice")
    found = folder.load(tmp_path / "root", image_size=8, on_error="skip", max_skipped=0.5)
    assert [name for name, _ in found.skipped] == ["sick/1/0.dcm", "sick/1/3.dcm"]
    assert "may be a slice of it" in found.skipped[0][1] and len(found.labels) == 5


# --- the data sets of the paper -------------------------------------------------------------------


def test_lesions_without_a_readable_volume_are_left_out(tmp_path, chestct_root, by_threads):
    root = shutil.copytree(chestct_root, tmp_path / "root")
    sizes = {"n_train": 30, "n_test": 20, "patch_size": 16}
    before = chestct.load(root, **sizes)
    first, other, third = (
        dict.fromkeys(before.groups.tolist()).keys() - {""}
        and list(dict.fromkeys(before.groups.tolist()))[:3]
    )
    next(root.rglob(f"{first}.mhd")).unlink()
    raw = next(root.rglob(f"{other}.*raw"))
    raw.write_bytes(raw.read_bytes()[:1000])
    lines = (root / chestct.ANNOTATIONS).read_text().splitlines()
    outside = next(
        i for i, line in enumerate(lines)
        if line.startswith(third) and f"{third}, lesion of line {i + 1}" in before.names
    )  # fmt: skip
    cells = lines[outside].split(",")
    lines[outside] = ",".join([cells[0], "99999", *cells[2:]])
    (root / chestct.ANNOTATIONS).write_text("\n".join(lines) + "\n")
    with pytest.raises((ValueError, FileNotFoundError)):
        chestct.load(root, **sizes)
    after = chestct.load(root, **sizes, on_error="skip", max_skipped=0.9)
    bad = {
        str(name) for name, group in zip(before.names, before.groups, strict=True)
        if group in (first, other) or name == f"{third}, lesion of line {outside + 1}"
    }  # fmt: skip
    assert sides(after) == {name: x for name, x in sides(before).items() if name not in bad}
    reasons = dict(after.skipped)
    assert set(reasons) == bad
    said = " ".join(reasons.values())
    assert all(s in said for s in ("there is no volume", "truncated", "outside the volume"))


def test_photographs_that_are_missing_or_damaged_are_left_out(
    tmp_path, retinopathy_root, by_threads
):
    root = shutil.copytree(retinopathy_root, tmp_path / "root")
    sizes = {"n_train": 20, "n_test": 16, "image_size": 32}
    before = retinopathy.load(root, **sizes)
    gone, damaged = before.names[0], before.names[-1]
    (root / gone).unlink()
    (root / damaged).write_bytes(b"no photograph")
    after = retinopathy.load(root, **sizes, **SKIP)
    expected = sides(before)
    del expected[gone], expected[damaged]
    assert sides(after) == expected
    assert len(after.train) == 19 and len(after.test) == 15
    reasons = dict(after.skipped)
    assert "there is no image" in reasons[str(gone).split("/")[1].removesuffix(".jpeg")]
    assert "neither JPEG nor PNG" in reasons[damaged]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "root", "sizes"),
    [
        (chestct.load, "chestct_root", {"n_train": 30, "n_test": 20, "patch_size": 16}),
        (retinopathy.load, "retinopathy_root", {"n_train": 20, "n_test": 16, "image_size": 32}),
    ],
)
def test_processes_decode_as_threads_do(load, root, sizes, request):
    place = request.getfixturevalue(root)
    by_processes = load(place, **sizes, on_error="skip", max_skipped=0)
    assert by_processes.files_decoded > 0
    assert by_processes.fingerprint() == load(place, **sizes).fingerprint()
    assert by_processes.skipped == ()


def test_the_key_of_a_reading_that_raises_is_as_it_was(photographs, cached):
    folder.load(photographs, image_size=16)
    layout_paths = sorted(photographs.rglob("*.png"))
    settings = {"version": folder.VERSION, "shape": (1, 16, 16), "window": None}
    rows = folder.load(photographs, image_size=16)
    in_order = [photographs / name for name in rows.names]
    assert sorted(in_order) == layout_paths
    key = cache.cache_key("Folder", photographs, in_order, settings)
    assert [path.name for path in cached.glob("*.npy")] == [f"{key}.npy"]
