"""From a folder to records: random trees, DICOM series, groups, notes."""

import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from al_gym.data import layouts
from al_gym.data.splits import split_name
from tests.dicom_samples import write_series, write_slice

SPELLINGS = {
    "train": ["train", "Train", "TRAINING"],
    "validation": ["val", "Valid", "validation"],
    "test": ["test", "Test", "testing"],
}
JUNK = [".git/x.png", "__MACOSX/a/1.png", "Thumbs.db", "{}/.ipynb_checkpoints/1.png",
        "{}/._1.png", "{}/desktop.ini", "{}/notes.txt", "readme.md"]  # fmt: skip


def png(content=0):
    """One grey pixel, with a comment that makes it its own."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pixel = zlib.compress(b"\0\x80")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        + chunk(b"tEXt", b"n\0%d" % content) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )  # fmt: skip


def write(root, *names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image" if path.suffix in (".txt", ".md", ".db", ".ini") else png(i))
    return root


@dataclass
class Tree:
    """Files, and what each is."""

    junk: list[str]
    images: dict[str, tuple[str | None, str, str]]
    """Path -> class, side, patient."""


@st.composite
def trees(draw):
    """Splits above the classes, below or none; patients as folders or in names; junk between."""
    names = st.sampled_from(["a", "grade p1_", "B", "c d"])
    classes = draw(st.lists(names, min_size=2, max_size=3, unique=True))
    level = draw(st.sampled_from(["none", "above", "below"]))
    more = draw(st.sets(st.sampled_from(["validation", "test"]))) if level != "none" else ()
    spelling = {side: draw(st.sampled_from(SPELLINGS[side])) for side in ("train", *more)}
    places = [(name, side) for side in spelling for name in classes]
    if draw(st.booleans()):
        places.append((None, "train"))
    images: dict[str, tuple[str | None, str, str]] = {}
    for name, side in places:
        split = spelling[side]
        folders = {"none": [name], "above": [split, name], "below": [name, split]}[level]
        folder = "/".join(["unlabelled"] if name is None else folders)
        for _ in range(draw(st.integers(1 if side == "train" else 0, 2))):
            patient = len(images)
            layout = draw(st.sampled_from(["p{}/{}", "p{}/scan p0_/{}", "x/p{}_{}", "p{}_{}"]))
            for i in range(draw(st.integers(1, 2))):
                images[f"{folder}/{layout.format(patient, i)}.png"] = (name, side, str(patient))
    folders = sorted({path.rpartition("/")[0] for path in images})
    junk = st.builds(str.format, st.sampled_from(JUNK), st.sampled_from(folders))
    return Tree(draw(st.lists(junk, max_size=4)), images)


def records(root, **keywords):
    layout = layouts.read(Path(root), **keywords)
    return {r.name: (r.class_name, r.side, r.group) for r in layout.records}, layout


@given(trees())
@settings(max_examples=40, deadline=None)
def test_what_a_tree_was_made_from_is_what_is_read(tree):
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), *tree.junk, *tree.images)
        found, layout = records(root, group_pattern=r"p(\d+)[_/]")
        assert found == tree.images
        assert layout.class_names == tuple(sorted({c for c, _, _ in tree.images.values() if c}))
        ours, _ = records(root)
        assert {name: said[2] for name, said in ours.items()} == {name: name for name in ours}


@given(trees(), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_a_csv_says_the_same_of_a_tree(tree, random):
    lines = [
        f"{random.choice([name, name[:-4]])},{class_name or ''},{patient},{side.upper()}"
        for name, (class_name, side, patient) in tree.images.items()
    ]
    random.shuffle(lines)
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), *tree.junk, *tree.images)
        csv = Path(root) / "labels.csv"
        csv.write_text("\n".join(["file,label,patient,split", *lines]))
        assert records(root)[0] == tree.images


@given(trees(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_tree_with_something_out_of_place_is_read_as_it_was_made_or_refused(tree, data):
    """A folder more, named like a split or a class, anywhere in a path."""
    image = data.draw(st.sampled_from(sorted(tree.images)))
    folder = data.draw(
        st.sampled_from(["train", "Test", "val", "test_set", "unlabelled", "a", "z"])
    )
    parts = image.split("/")
    at = data.draw(st.integers(0, len(parts) - 1))
    moved = "/".join([*parts[:at], folder, *parts[at:]])
    _, _, patient = tree.images.pop(image)
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), *tree.images, moved)
        try:
            found, _ = records(root, group_pattern=r"p(\d+)[_/]")
        except (ValueError, FileNotFoundError) as error:
            assert root in str(error)
            return
        read_as, read_side, group = found.pop(moved)
        assert found == tree.images  # no other image is read another way
        folders = moved.split("/")[:-1]
        assert {split_name(part) for part in folders} <= {None, read_side}
        assert read_side == "train" or read_side in map(split_name, folders)
        assert read_as in folders or (read_as is None and "unlabelled" in folders)
        assert group == patient or "grade p1_" in folders[1:]


def test_series_become_volumes(tmp_path):
    pixels = np.zeros((4, 5), np.int16)
    for i in range(3):
        write_slice(tmp_path / f"a/s1/{i}", pixels, series="1.1", patient="P", z=i)
        write_slice(tmp_path / f"a/mixed/{i}", pixels, series="1.2", patient="P", z=i)
    write_slice(tmp_path / "a/mixed/x", pixels, series="1.3", patient="")
    for i in range(2):
        write_slice(tmp_path / f"b/{i}.dcm", pixels, series="1.4", patient="", z=i)
    found, layout = records(tmp_path)
    assert found == {
        "a/mixed/0": ("a", "train", "P"),  # its folder holds another one, too
        "a/mixed/x": ("a", "train", "1.3"),
        "a/s1": ("a", "train", "P"),
        "b/0.dcm": ("b", "train", "1.4"),  # its folder is the class
    }
    assert [(len(r.paths), r.n_dims) for r in layout.records] == [(3, 3), (1, 2), (3, 3), (2, 3)]
    assert layout.notes == [
        "8 DICOM files are slices of 3 series, and each series is one volume; join_series=False "
        "takes every file as an image",
        "in folders that are not taken for patients, as group_pattern='([^/]+)' would do: "
        "a/mixed/x",
    ]
    single, layout = records(tmp_path, join_series=False)
    assert (len(single), layout.notes) == (9, layout.notes[-1:])
    assert single["b/0.dcm"] == single["b/1.dcm"] == ("b", "train", "1.4")


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"at": "a/1"}, {"at": "b/2"}, "a/1 and .*b/2 are slices of one DICOM series and differ"),
        ({"at": "train/a/1"}, {"at": "test/a/2"}, "test/a/2 and .*train/a/1 are slices of one"),
        ({"at": "a/1", "patient": "p"}, {"at": "a/2", "patient": "q"}, "differ in class, side"),
    ],
)
def test_a_series_in_two_places_is_refused(tmp_path, one, other, message):
    pixels = np.zeros((4, 5), np.int16)
    for number, slice_ in enumerate((one, other)):
        write_slice(
            tmp_path / slice_["at"], pixels, patient=slice_.get("patient", "p"),
            z=number,
        )  # fmt: skip
    folder = "train/b" if "train" in one["at"] else "b"
    write(tmp_path, f"{folder}/1.png", f"{folder.replace('b', 'a')}/1.png")
    with pytest.raises(ValueError, match=message):
        layouts.read(tmp_path)


def test_notes_say_what_is_not_read(tmp_path):
    write(
        tmp_path, "a/1.png", "a/1_mask.png", "a/1.txt", "b/2.png", "b/3.txt", "c/4.txt", "d/5.md",
        ".DS_Store", "a/._1.png",
    )  # fmt: skip
    _, layout = records(tmp_path, exclude=["*_mask.png", "*.bmp"])
    assert layout.class_names == ("a", "b")
    assert layout.notes == [
        "no images by their content, passed over: a/1.txt, b/3.txt, c/4.txt and 1 more",
        "folders without images: c, d",
        "hidden or of the system, not read: .DS_Store, a/._1.png",
        "left out by exclude: a/1_mask.png",
        "patterns of exclude that nothing matches: *.bmp",
    ]


def test_notes_say_what_may_be_meant_otherwise(tmp_path):
    write(tmp_path, "with_mask/images/1.png", "with_mask/masks/1.png", "b/p1/1_seg.png", "b/2.png")
    assert records(tmp_path)[1].notes == [
        "read as images; if they are masks, use exclude: b/p1/1_seg.png, with_mask/masks/1.png",
        "in folders that are not taken for patients, as group_pattern='([^/]+)' would do: "
        "b/p1/1_seg.png, with_mask/images/1.png, with_mask/masks/1.png",
    ]
    assert records(tmp_path, exclude=["masks", "*_seg.*"], group_pattern="(.)")[1].notes == [
        "folders without images: b/p1",
        "left out by exclude: b/p1/1_seg.png, with_mask/masks",
    ]


def test_series_without_a_patient_are_spoken_of_like_files(tmp_path):
    for name in ("a/p1/s1", "a/p1/s2", "a/p2/s3", "b/p3/s4", "b/p4/s5"):
        write_series(tmp_path / name, 2, PatientID="")
    _, layout = records(tmp_path)
    assert layout.notes[1:] == [
        "in folders that are not taken for patients, as group_pattern='([^/]+)/' would do: "
        "a/p1/s1, a/p1/s2, a/p2/s3 and 2 more"
    ]
    found, _ = records(tmp_path, group_pattern="([^/]+)/")
    assert {group for _, _, group in found.values()} == {"p1", "p2", "p3", "p4"}


def test_a_note_says_which_series_may_be_localisers(tmp_path):
    for name, n_slices in (("a/s1", 6), ("a/s2", 2), ("b/s3", 4)):
        write_series(tmp_path / name, n_slices, PatientID=name)
    assert records(tmp_path)[1].notes[1:] == [
        "series of fewer than 5 slices, where others have 6; if they are localisers, use exclude: "
        "a/s2"
    ]


@pytest.mark.parametrize("name", ["Labels.csv", "LABELS.CSV"])
def test_the_csv_is_found_in_any_case(tmp_path, name):
    write(tmp_path, "x/1.png", "x/2.png", "y/3.png")
    (tmp_path / name).write_text("file,label\nx/1,b\nx/2,c\ny/3,b\n")
    assert records(tmp_path)[1].class_names == ("b", "c")
    (tmp_path / "labels.csv").write_text("file,label\nx/1,b\n")
    with pytest.raises(ValueError, match=f"could mean two.*{name} or labels.csv.*exclude='{name}"):
        layouts.read(tmp_path)


def test_a_table_that_is_passed_over_is_named_apart(tmp_path):
    write(tmp_path, "part_1/1.png", "part_2/2.png", "notes.txt")
    csv = tmp_path / "Metadata.CSV"
    csv.write_text("file,label\npart_1/1,b\npart_2/2,c\n")
    assert records(tmp_path)[1].notes == [
        "no images by their content, passed over: notes.txt",
        "tables, passed over; if one has the labels or patients, name it as labels=: Metadata.CSV",
    ]
    notes = records(tmp_path, labels_csv=csv)[1].notes
    assert not any("tables" in note for note in notes)


def test_a_csv_in_the_root_or_elsewhere(tmp_path):
    write(tmp_path / "images", "x/1.png", "x/2.png", "3.png")
    csv = tmp_path / "images" / "labels.csv"
    csv.write_text("file,label,patient\nx/1,10,p\nx/2,9,p\n")
    found, layout = records(tmp_path / "images")
    assert found == {
        "x/2.png": ("9", "train", "p"), "x/1.png": ("10", "train", "p"),
        "3.png": (None, "train", "3.png"),
    }  # fmt: skip
    assert layout.class_names == ("9", "10")
    assert list(found)[-1] == "3.png"
    with pytest.raises(ValueError, match="a column patient, and group_pattern is given"):
        layouts.read(tmp_path / "images", group_pattern="(.)")
    elsewhere = csv.rename(tmp_path / "mine.csv")
    assert records(tmp_path / "images", labels_csv=elsewhere)[0] == found


def test_a_csv_names_a_series_and_not_one_of_its_slices(tmp_path):
    for name in ("p1", "p2"):
        write_series(tmp_path / name, 2, PatientID=name)
    first = sorted(path.name for path in (tmp_path / "p1").iterdir())[0]
    csv = tmp_path / "labels.csv"
    csv.write_text(f"file,label\np1/{first},x\np2,y\n")
    with pytest.raises(ValueError, match="slices of one DICOM series.*name their folder in the la"):
        layouts.read(tmp_path)
    csv.write_text("file,label\np1,x\np2,y\n")
    assert list(records(tmp_path)[0]) == ["p1", "p2"]


def test_voxels_beside_a_header_belong_to_it(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(np.full((3, 4, 5), value, np.int16))
        sitk.WriteImage(image, str(tmp_path / folder / "scan.mhd"))
    assert (tmp_path / "a/scan.mhd").read_bytes() == (tmp_path / "b/scan.mhd").read_bytes()
    layout = layouts.read(tmp_path)
    assert layout.notes == []
    assert layout.beside == [tmp_path / "a/scan.raw", tmp_path / "b/scan.raw"]
    assert layout.contents() == [
        [tmp_path / folder / f"scan.{ending}" for ending in ("mhd", "raw")] for folder in "ab"
    ]


@pytest.mark.parametrize(
    ("content", "is_detached"),
    [
        (b"NDims = 2\nElementDataFile = x.raw\n", True),
        (b"NDims = 2\nElementDataFile: LIST\n", True),
        (b"NDims = 2\nElementDataFile = LOCAL\n\0\1\2", False),
        (b"NRRD0004\ntype: short\ndata file: x.raw\n", True),
        (b"NRRD0004\ntype: short\n\ndata", False),
        (b"\x5c\1\0\0" + bytes(340) + b"ni1\0", True),
        (b"\x5c\1\0\0" + bytes(340) + b"n+1\0", False),
    ],
)
def test_detached_headers_are_known_by_content(tmp_path, content, is_detached):
    (tmp_path / "scan").write_bytes(content)
    assert layouts._is_detached(tmp_path / "scan") == is_detached


def test_errors_say_where_the_classes_may_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no images below .*labels\.csv"):
        layouts.read(write(tmp_path, "readme.md"))
    with pytest.raises(FileNotFoundError, match=r"two are needed.*Or is the root .*/data\?"):
        layouts.read(write(tmp_path, "data/a/1.png", "data/b/1.png"))


def test_images_without_labels_lie_in_any_arrangement(tmp_path):
    """Where ``read`` finds a class in doubt; one that is broken does not keep others away."""
    write(tmp_path, "1.png", "train/2.png", "x/masks/3.png", "x/notes.txt", "y/4_mask.png")
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    write_series(tmp_path / "y" / "s", 3)
    records, problems = layouts.unlabelled(tmp_path, exclude=["*_mask.png"])
    assert [r.name for r in records] == ["1.png", "train/2.png", "x/masks/3.png", "y/s"]
    assert [len(r.paths) for r in records] == [1, 1, 1, 3]
    assert [r.n_dims for r in records] == [2, 2, 2, 3]
    assert list(problems) == ["broken.dcm"] and "no format that is read" in problems["broken.dcm"]
    assert len(layouts.unlabelled(tmp_path, ["y", "*.dcm"])[0]) == 3
    apart, _ = layouts.unlabelled(tmp_path, join_series=False)
    assert sum(r.name.startswith("y/s/") for r in apart) == 3


def test_a_series_of_two_patients_is_no_image(tmp_path):
    for z, patient in enumerate(["p1", "p1", "p2"]):
        write_slice(tmp_path / f"{z}", np.zeros((4, 4), np.int16), z=z, patient=patient)
    write(tmp_path, "1.png")
    records, problems = layouts.unlabelled(tmp_path)
    assert [r.name for r in records] == ["1.png"]
    assert list(problems) == ["0"] and "several patients" in problems["0"]
