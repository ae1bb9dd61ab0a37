"""Who the patient is, by patterns; patterns for folders of patients."""

from pathlib import Path

import pytest

from al_gym.data.patients import matched_group, pattern_of_folders
from al_gym.data.places import by_class_names, by_folder


@pytest.mark.parametrize(
    ("pattern", "name", "depth", "group"),
    [
        (r"p(\d+)_", "benign/p601_0.png", 1, "601"),  # as of names
        (r"^p(\d+)", "train/benign/p601_0.png", 2, "601"),  # anchored to a name
        (r"(\d+)_", "grade_1/12_left.png", 1, "12"),  # the class is no patient
        (r"([^/]+)/", "a/patient 7/scan/1.png", 1, "patient 7"),
        (r"^\w+/(\w+)/", "a/p7/1.png", 1, "p7"),  # of the whole path
        (r"(p\d+)", "p7/1.png", 0, "p7"),  # a csv: no folder is a class
        (r"(.+)", "a/p7/1.png", 1, "p7/1.png"),
    ],
)
def test_group_patterns_see_paths(pattern, name, depth, group):
    assert matched_group(pattern, Path("root"), name, depth) == group


@pytest.mark.parametrize("pattern", [r"q(\d+)", r"p\d+", r"(\d*)p"])
def test_a_group_pattern_that_finds_nothing(pattern):
    with pytest.raises(ValueError, match="finds no group in 'a/p7.png' below root"):
        matched_group(pattern, Path("root"), "a/p7.png", 1)


@pytest.mark.parametrize(
    ("pattern", "name", "depth"),
    [(r"([^/]+)/", "a/1.png", 1), (r"(.+)/", "train/a/1.png", 2), (r"(\d+)", "grade1/x.png", 1)],
)
def test_a_folder_of_class_or_split_is_no_patient(pattern, name, depth):
    with pytest.raises(ValueError, match="finds no group"):
        matched_group(pattern, Path("root"), name, depth)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["a/p1/1", "a/p2/1", "b/p3/1", "b/p4/1"], "([^/]+)/"),
        (["a/p1/1", "a/p2/1", "b/p3/1", "b/2"], "([^/]+)"),  # one is in no folder
        (["a/p1/1", "a/p1/2", "b/p3/1", "b/p4/1"], None),  # one of a, so no test
        (["train/a/x/1", "test/a/y/1"], "([^/]+)/"),
        (["train/a/ct/1", "test/a/ct/1"], None),  # no patients
    ],
)
def test_patterns_for_folders_can_be_used(names, pattern):
    assert pattern_of_folders(Path("root"), by_folder(Path("root"), names)) == pattern


@pytest.mark.parametrize(
    ("names", "pattern"), [(["p1/1", "p2/1"], "([^/]+)/"), (["p1/1", "p2/1", "3"], "([^/]+)"),
                           (["all/1", "all/2"], None)],
)  # fmt: skip
def test_patterns_for_folders_where_nothing_is_labelled(names, pattern):
    places = by_class_names(names, ("healthy", "sick"))
    assert pattern_of_folders(Path("root"), places) == pattern
