"""What folders and a label csv say of an image; whatever could mean two things is refused."""

from pathlib import Path

import pytest

from al_gym.data.places import (
    Place,
    by_class_names,
    by_csv,
    by_folder,
    check_classes,
    check_given_classes,
)

ROOT = Path("/images")


def said(*images):
    """Class and side of each image, by its folders."""
    places = by_folder(ROOT, images)
    return [(place.class_name, place.side) for place in places.values()]


def test_one_folder_a_class():
    places = by_folder(ROOT, ["a/1.png", "b/p1/scan/2.png"])
    assert list(places.values()) == [Place("a", "train", None, 1), Place("b", "train", None, 1)]


@pytest.mark.parametrize(
    ("folder", "side"),
    [
        ("train", "train"), ("Training", "train"), ("TRAIN", "train"), ("val", "validation"),
        ("Valid", "validation"), ("validation", "validation"), ("Test", "test"),
        ("TESTING", "test"),
    ],
)  # fmt: skip
def test_names_of_splits_in_any_case(folder, side):
    assert said(f"{folder}/a/1.png", f"{folder}/b/p1/1.png") == [("a", side), ("b", side)]
    assert said(f"a/{folder}/1.png", f"b/{folder}/p1/1.png") == [("a", side), ("b", side)]


def test_unlabelled_images():
    images = ["unlabelled/1.png", "Unlabeled/p1/2.png", "train/a/1.png", "test/b/1.png"]
    assert said(*images) == [
        (None, "train"), (None, "train"), ("a", "train"), ("b", "test"),
    ]  # fmt: skip
    assert said("unlabelled/1.png", "a/1.png") == [(None, "train"), ("a", "train")]
    assert said("train/unlabelled/1.png", "train/a/1.png") == [(None, "train"), ("a", "train")]
    assert said("a/train/1.png", "unlabelled/1.png") == [("a", "train"), (None, "train")]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["train/a/1", "test/a/1", "healthy/1"], "test is the folder of a split, and healthy"),
        (["Test/a/1", "testing/a/1", "train/a/1"], "Test and testing are names of one split"),
        (["val/a/1", "valid/a/1"], "val and valid are names of one split"),
        (["a/train/1", "a/Training/1", "b/train/1"], "a/Training and a/train are names of one"),
        (["train/a/1", "test/1"], "test/1 lies in the folder of a split, and in none of a class"),
        (["train/a/test/1", "test/a/1"], "train/a/test/1 could mean two.*'test' may be a split"),
        (["train/train/1", "train/a/1"], "train/train/1 could mean two"),
        (["a/p1/test/1", "b/p1/1"], "a/p1/test/1 could mean two"),
        (["a/train/1", "b/1"], "a/train is the folder of a split, and b should be in one"),
        (["a/train/1", "b/p1/1"], "a/train is the folder of a split, and b/p1 should"),
        (["training_set/a/1", "test_set/a/1"], "test_set may be folders of splits or"),
        (["TrainData/a/1", "other/a/1"], "TrainData may be the folder of a split or"),
        (["unlabelled/test/1", "a/1"], "unlabelled/test/1 could mean two"),
        (["test/unlabelled/1", "train/a/1"], "in a folder of unlabelled.*test split"),
        (["a/unlabelled/1", "b/1"], "in a folder of unlabelled.*class a"),
        (["trainset/a/1", "testset/a/1"], "trainset and testset may be folders of splits or"),
        (["traindata/a/1", "valset/a/1"], "traindata and valset may be folders of"),
        (["a/trainset/1", "a/valset/1", "b/1"], "trainset and valset may be folders of splits"),
        (["images/1", "masks/1"], "masks may be a folder of masks .*exclude='masks'"),
        (["imagesTr/1", "labelsTr/1"], "labelsTr may be a folder of masks"),
        (["train/a/1", "train/Ground Truth/1"], "Ground Truth may be a folder of masks"),
        (["a/1", "b/1", "Unlabeled Data/1"], "Unlabeled Data may be a folder of unlabelled"),
        (["yes/1", "no/1", "data/yes/1", "data/no/1"], "no in the folder data may be a copy"),
        (["yes/1", "no/1", "yes/x/no/1"], "copy of the class no, .*exclude='yes'"),
        (["train/0/1", "train/1/1", "train/copy/0/1"], "0 in the folder copy may be"),
        (["a/1", "b/1", "x"], "x lies beside the folders of the classes"),
    ],
)
def test_what_could_mean_two_things_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        by_folder(ROOT, images)


@pytest.mark.parametrize("name", ["contest", "retraining", "invalid", "trained", "latest", "value"])
def test_words_that_only_look_alike_are_classes(name):
    assert said(f"{name}/1", "other/1") == [(name, "train"), ("other", "train")]


@pytest.mark.parametrize(
    "images",
    [
        ["testis/1", "valve/1"],
        ["with_mask/1", "without_mask/1"],
        ["0/1/1", "0/2/1", "0/7/1", "1/0/1", "1/8/1"],  # numbers of patients
        ["a/a/1", "b/b/1"],  # an archive's own folder
    ],
)
def test_what_is_no_split_mask_or_copy(images):
    assert said(*images) == [(image.split("/")[0], "train") for image in images]


def test_images_in_no_folder():
    with pytest.raises(FileNotFoundError, match=r"images in no folder.*labels\.csv"):
        by_folder(ROOT, ["1.png", "2.png"])


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        ({"a/1": Place("a")}, FileNotFoundError, r"classes \['a'\], and two are needed"),
        ({"a/1": Place("a"), "A/1": Place("A")}, ValueError, "are A and a one class"),
        (
            {"train/a/1": Place("a"), "test/b/1": Place("b", "test")},
            ValueError,
            r"test/b/1 is a test image of the class 'b', of which there are no training images",
        ),
    ],
)
def test_bad_classes(places, error, message):
    with pytest.raises(error, match=message):
        check_classes(ROOT, places, sorted({place.class_name for place in places.values()}))


def write(path, text):
    path.write_text(text)
    return path


def test_a_csv_decides(tmp_path):
    path = write(
        tmp_path / "labels.csv",
        "file,label,patient,split\nx/1.png,a,p1,Train\n2,b,p2,testing\n3.png,,p3,\n",
    )
    places, notes = by_csv(tmp_path, path, ["x/1.png", "2.png", "3.png", "4.png", "5.png"], [])
    assert list(places.values()) == [
        Place("a", "train", "p1"), Place("b", "test", "p2"), Place(None, "train", "p3"),
        Place(None), Place(None),
    ]  # fmt: skip
    assert "alone; folders whose names say nothing: x" in notes[0]
    assert notes[1] == "not in labels.csv, so unlabelled training images: 4.png, 5.png"


def test_folders_of_a_split_need_the_csv_to_say_so(tmp_path):
    path = write(tmp_path / "labels.csv", "file,label\ntrain/1.png,a\ntest/2.png,b\n")
    with pytest.raises(ValueError, match=r"folder test may be that of a split.*no column split"):
        by_csv(tmp_path, path, ["train/1.png", "test/2.png"], [])
    path.write_text("file,label,split\ntrain/1.png,a,train\ntest/2.png,b,test\n")
    places, _ = by_csv(tmp_path, path, ["train/1.png", "test/2.png"], [])
    assert [place.side for place in places.values()] == ["train", "test"]


# --- classes that are known before any image is labelled ------------------------------------------


@pytest.mark.parametrize(
    ("image", "class_name"),
    [
        ("a/1.png", "a"), ("b/p1/train/2.png", "b"), ("1.png", None), ("p1/a/1.png", None),
        ("train/a/1.png", None), ("A/1.png", None), ("unlabelled/1.png", None), ("masks/1", None),
        ("ab/1", None), ("a", None), ("a.png", None),
    ],
)  # fmt: skip
def test_only_folders_of_the_root_that_are_called_as_a_class_say_it(image, class_name):
    expected = Place(None) if class_name is None else Place(class_name, "train", None, 1)
    assert by_class_names([image], ("b", "a")) == {image: expected}


@pytest.mark.parametrize("names", [(), ("a",), ("a", "a"), ("a", "A"), ("a", "b", "B")])
def test_given_classes_are_two_at_least_and_different(names):
    with pytest.raises(ValueError, match=r"class_names must be two names at least, all different"):
        check_given_classes({}, names)


def test_a_label_that_is_none_of_the_given_classes_is_named():
    places = {"1.png": Place("a"), "2.png": Place(None), "3.png": Place("c")}
    check_given_classes(places, ["b", "c", "a"])
    with pytest.raises(ValueError, match=r"3.png is labelled 'c', which is none of class_names"):
        check_given_classes(places, ["a", "b"])
