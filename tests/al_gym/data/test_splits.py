"""Copies on two sides, and the draw of a test side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_gym.data.dataset import UNKNOWN
from al_gym.data.splits import Rows, divide, draw_test_groups, identical, identical_files


def rows(labels, groups=None, sides=None):
    n = len(labels)
    return Rows(
        names=np.array([f"n{i}" for i in range(n)]),
        labels=np.array(labels, np.int64),
        groups=np.arange(n) if groups is None else np.array(groups),
        sides=np.full(n, "train", "<U10") if sides is None else np.array(sides, "<U10"),
    )


def divided(rows, copies=(), drop=False, fraction=0.3, seed=0):
    return divide(
        rows, ("a", "b"), [np.array(c) for c in copies],
        drop=drop, test_fraction=fraction, rng=np.random.default_rng(seed),
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12))
def test_identical_is_equality_of_all_keys(items):
    asked = []
    sets = identical(len(items), lambda i: items[i][0], lambda i: asked.append(i) or items[i][1])
    expected = {
        tuple(i for i, item in enumerate(items) if item == value)
        for value in items if items.count(value) > 1
    }  # fmt: skip
    assert {tuple(found) for found in sets} == expected
    firsts = [first for first, _ in items]
    assert set(asked) == {i for i in range(len(items)) if firsts.count(firsts[i]) > 1}


def test_identical_files_are_equal_to_the_byte(tmp_path):
    content = np.random.default_rng(0).bytes(20_000)
    late = content[:-1] + bytes([content[-1] ^ 1])
    for name, written in {"a": content, "b": late, "c": content, "d": content[:-1]}.items():
        (tmp_path / name).write_bytes(written)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert [found.tolist() for found in identical_files([[a], [b], [c], [d]])] == [[0, 2]]
    assert [found.tolist() for found in identical_files([[a, b], [b, c], [a, c]])] == [[0, 1]]


def test_the_draw_takes_groups_class_by_class():
    labels, groups = [0] * 20 + [1] * 6, [*np.repeat(np.arange(10), 2), *range(10, 16)]
    left, kept, notes = divided(rows(labels, groups))
    assert (kept.tolist(), notes) == (list(range(26)), [])
    test = left.sides == "test"
    assert len(set(left.groups[test & (left.labels == 0)])) == 3  # 30 % of ten
    assert len(set(left.groups[test & (left.labels == 1)])) == 2  # of six
    assert not set(left.groups[test]) & set(left.groups[~test])


def test_no_test_images_and_a_test_side_that_is_there():
    none, _, _ = divided(rows([0, 0, 1, 1]), fraction=0)
    assert set(none.sides) == {"train"}
    given_sides = ["train", "train", "test", "test"]
    assert divided(rows([0, 1, 0, 1], sides=given_sides))[0].sides.tolist() == given_sides


def test_validation_images_are_not_drawn_from():
    sides = ["validation"] * 4 + ["train"] * 8
    left, _, notes = divided(rows([0, 1] * 6, sides=sides), fraction=0.5)
    assert left.sides[:4].tolist() == ["validation"] * 4
    assert (left.sides == "test").sum() == 4
    assert notes == [
        "there are validation images and no test images: 4 training images of 4 groups were drawn "
        "for the test"
    ]


def test_unlabelled_images_and_their_patients_stay_in_training():
    labels = [0, 0, 1, 1, 0, UNKNOWN, UNKNOWN]
    groups = ["p0", "p1", "p2", "p3", "p4", "p4", "p5"]
    for seed in range(10):
        left, _, _ = divided(rows(labels, groups), fraction=0.5, seed=seed)
        assert set(left.groups[left.sides == "test"]) <= {"p0", "p1", "p2", "p3"}


def test_a_class_of_one_patient_cannot_be_split():
    with pytest.raises(ValueError, match=r"class 'b' has images of 1 group .*p9.*test_fraction=0"):
        divided(rows([0, 0, 1, 1], ["p1", "p2", "p9", "p9"]))
    left, _, _ = divided(rows([0, 0, 1, 1], ["p1", "p2", "p9", "p9"]), fraction=0)
    assert set(left.sides) == {"train"}


def test_a_class_without_training_or_test_images_after_the_draw():
    labels, groups = [0, 0, 1, 0, 0, 1], ["p", "p", "p", "q", "q", "q"]  # b comes second in both
    left, _, notes = divided(rows(labels, groups), fraction=0.5)
    assert sorted(left.sides) == ["test"] * 3 + ["train"] * 3 and notes == []
    only_p = rows([0, 1, 0, 0], ["p", "p", "q", "r"])
    outcomes = set()
    for seed in range(20):
        try:
            _, _, notes = divided(only_p, fraction=0.3, seed=seed)
            outcomes.add(notes[0].partition(":")[0])
        except ValueError as error:
            outcomes.add(str(error).partition(":")[0])
    assert outcomes == {
        "class 'b' has no test image", "class 'b' has no training image left"
    }  # fmt: skip


def test_copies_are_drawn_to_one_side():
    """Lone images join their copies; patients with several images never join one another."""
    copies = [[0, 5], [2, 12]]
    groups = [*range(10), "p", "p", "q", "q", "r", "r"]
    data = rows([0] * 10 + [1] * 6, [str(group) for group in groups])
    for seed in range(20):
        left, _, notes = divided(data, copies, seed=seed, fraction=0.5)
        assert left.sides[0] == left.sides[5] and left.sides[2] == left.sides[12]
        assert notes == [
            "1 images are there, equal to the byte, with different labels: n2 and n12, for one",
            "2 images are copies, to the byte, of others, and were put on the side that was drawn "
            "for these",
        ]
    blank = rows([0, 0, 1, 1] * 2, ["p", "q", "r", "s"] * 2)  # a blank slice of every patient
    left, _, notes = divided(blank, [[0, 1, 2, 3]], fraction=0.5)
    assert len(set(left.groups)) == 4
    assert "images are copies, to the byte, of test or validation images, and stay" in notes[-1]


def test_copies_across_a_given_split():
    sides = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    data = rows([0, 1, 0, 1, 0, 1, 0, 1], sides=sides)
    copies = [[0, 4], [1, 5, 7], [2, 3]]
    left, kept, notes = divided(data, copies)
    assert len(left.names) == 8
    assert [note.partition(" are")[0] for note in notes] == [
        "1 images", "2 training images", "1 validation images",
    ]  # fmt: skip
    assert "n2 and n3, for one" in notes[0]  # with labels 0 and 1
    assert "n0 of n4, for one" in notes[1] and "n5 of n7, for one" in notes[2]
    left, kept, notes = divided(data, copies, drop=True)
    assert kept.tolist() == [2, 3, 4, 6, 7]
    assert "are left out" in notes[1]
    assert left.names.tolist() == ["n2", "n3", "n4", "n6", "n7"]


def test_copies_among_validation_images_do_not_matter_to_the_draw():
    data = rows([0, 1] * 4, sides=["validation"] * 2 + ["train"] * 6)
    left, _, notes = divided(data, [[0, 1]], fraction=0.5)
    assert (left.groups == data.groups).all() and len(notes) == 2


def test_a_class_may_not_be_dropped_whole():
    data = rows([0, 1, 1], sides=["train", "train", "test"])
    with pytest.raises(ValueError, match="class 'b' has no training image left"):
        divided(data, [[1, 2]], drop=True)


def test_a_patient_on_two_sides_of_a_given_split_is_refused():
    data = rows([0, 1, 0], ["p", "q", "p"], ["train", "train", "test"])
    with pytest.raises(ValueError, match=r"n0 is a train image and n2 a test image.*, p: move"):
        divided(data)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.01, 0.99))
def test_a_draw_leaves_both_sides_something_of_every_class(seed, n_groups, fraction):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(2 * n_groups), 3)
    data = rows(groups // n_groups, groups)
    test = draw_test_groups(data, data.groups, ("a", "b"), fraction, rng)
    for label in (0, 1):
        drawn = test[data.labels == label].reshape(n_groups, 3)
        assert (drawn.all(1) == drawn.any(1)).all()  # whole groups
        wanted = min(max(1, round(fraction * n_groups)), n_groups - 1)
        assert drawn.any(1).sum() == wanted
