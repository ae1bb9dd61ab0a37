"""Ranking, ties, exclusion, and the stratified draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_gym.pool import Pool, per_class_counts, proportional_counts, stratified_draw


def make_pool(n: int = 6, tie_order: list[int] | None = None) -> Pool:
    pool = Pool.start(
        np.arange(10, 10 + n + 2), np.array([11, 13]), np.array([0, 1]), np.random.default_rng(0)
    )
    if tie_order is None:
        return pool
    return Pool(pool.indices, pool.available, np.array(tie_order), pool.labelled, pool.labels)


def test_rows_are_the_unlabelled_training_rows_in_ascending_order():
    np.testing.assert_array_equal(make_pool().indices, [10, 12, 14, 15, 16, 17])


def test_the_highest_scores_come_first_best_first():
    pool = make_pool()
    np.testing.assert_array_equal(pool.top(np.array([0.1, 0.9, 0.3, 0.8, 0.2, 0.0]), 3), [1, 3, 2])


def test_ties_follow_the_tie_order_and_not_the_row():
    pool = make_pool(tie_order=[4, 2, 5, 0, 1, 3])
    np.testing.assert_array_equal(pool.top(np.ones(6), 4), [4, 2, 5, 0])
    scores = np.array([1.0, 0.5, 1.0, 0.5, 0.5, 0.2])
    np.testing.assert_array_equal(pool.top(scores, 5), [2, 0, 4, 1, 3])


def test_annotated_rows_are_excluded_however_high_their_score():
    pool = make_pool().annotated(np.array([1, 3]), np.array([2, 0]))
    np.testing.assert_array_equal(pool.top(np.array([0.1, 1, 0.3, 1, 0.2, 0]), 3), [2, 4, 0])


def test_annotation_appends_rows_and_labels_and_leaves_the_old_pool_alone():
    before = make_pool()
    after = before.annotated(np.array([5, 0]), np.array([2, 1]))
    np.testing.assert_array_equal(after.labelled, [11, 13, 17, 10])
    np.testing.assert_array_equal(after.labels, [0, 1, 2, 1])
    np.testing.assert_array_equal(after.available, [False, True, True, True, True, False])
    assert before.available.all()


def test_rows_without_a_class_leave_the_pool_and_are_kept_apart():
    before = make_pool()
    after = before.annotated(np.array([5, 0, 2]), np.array([-1, 1, -1]))
    np.testing.assert_array_equal(after.labelled, [11, 13, 10])
    np.testing.assert_array_equal(after.labels, [0, 1, 1])
    np.testing.assert_array_equal(after.skipped, [17, 14])
    np.testing.assert_array_equal(after.available, [False, True, False, True, True, False])
    last = after.annotated(np.array([1]), np.array([-1]))
    np.testing.assert_array_equal(last.skipped, [17, 14, 12])
    assert before.skipped.size == 0 and last.labels is not before.labels


def test_a_start_may_be_skipped_too():
    rng = np.random.default_rng(0)
    pool = Pool.start(np.arange(6), np.array([1, 3, 4]), np.array([0, -1, 2]), rng)
    assert (pool.labelled.tolist(), pool.labels.tolist()) == ([1, 4], [0, 2])
    assert (pool.skipped.tolist(), pool.indices.tolist()) == ([3], [0, 2, 5])


def test_what_is_left_is_all_that_can_be_taken():
    pool = make_pool().annotated(np.array([0, 1, 2, 3]), np.zeros(4, int))
    assert sorted(pool.top(np.zeros(6), 5)) == [4, 5]


def test_the_tie_order_is_random():
    orders = {
        tuple(
            Pool.start(
                np.arange(8), np.array([0]), np.array([0]), np.random.default_rng(s)
            ).tie_order
        )
        for s in range(5)
    }
    assert len(orders) == 5


@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=30),
    data=st.data(),
)
def test_top_is_the_plain_loop(scores, data):
    n = len(scores)
    taken = data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1))
    order = data.draw(st.permutations(range(n)))
    pool = Pool(
        np.arange(n),
        np.array([i not in taken for i in range(n)]),
        np.array(order),
        np.array([], int),
        np.array([], int),
    )
    expected, left = [], [i for i in order if i not in taken]
    for _ in range(min(3, len(left))):
        best = left[0]
        for i in left:
            if scores[i] > scores[best]:
                best = i
        expected.append(best)
        left.remove(best)
    assert pool.top(np.array(scores), 3).tolist() == expected


def test_counts_are_rounded_and_at_least_one():
    labels = np.repeat([0, 1, 2], [100, 29, 3])
    assert per_class_counts(labels, ("a", "b", "c"), 0.05) == [5, 1, 1]
    unknown = np.concatenate([np.full(50, -1), labels])
    assert per_class_counts(unknown, ("a", "b", "c"), 0.05) == [5, 1, 1]


def test_a_class_without_samples_is_named():
    with pytest.raises(ValueError, match="'b' has no sample"):
        per_class_counts(np.array([0, 0, 2]), ("a", "b", "c"), 0.5)


def test_the_draw_is_stratified_and_follows_the_generator():
    rows = np.arange(100, 200)
    labels = np.repeat([0, 1], [70, 30])
    drawn = stratified_draw(rows, labels, [7, 3], np.random.default_rng(1))
    assert (np.diff(drawn) > 0).all()
    assert (drawn < 170).sum() == 7 and len(drawn) == 10
    again = stratified_draw(rows, labels, [7, 3], np.random.default_rng(1))
    other = stratified_draw(rows, labels, [7, 3], np.random.default_rng(2))
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn, other)


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        (
            [50, 30, 20],
            7,
            [4, 2, 1],
        ),  # quotas 3.5, 2.1, 1.4: the largest remainder gets the one left
        ([6, 2, 2], 5, [3, 1, 1]),
        ([90, 9, 1], 10, [8, 1, 1]),  # quotas 9, 0.9, 0.1; the last takes one from the first
        ([98, 1, 1], 3, [1, 1, 1]),
        ([98, 1, 1], 2, [1, 1, 0]),  # too few for all
        ([50, 0, 50], 3, [2, 0, 1]),  # of equal remainders the earlier class's counts
        ([5, 3, 2], 10, [5, 3, 2]),
        ([5, 3, 2], 0, [0, 0, 0]),
    ],
)
def test_sizes_are_divided_by_largest_remainders(counts, size, expected):
    labels = np.concatenate([np.repeat([0, 1, 2], counts), [-1] * 7])
    assert proportional_counts(labels, 3, size) == expected


@given(counts=st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any), data=st.data())
def test_divided_sizes_add_up_fit_and_leave_no_class_out(counts, data):
    size = data.draw(st.integers(0, sum(counts)))
    shares = proportional_counts(np.repeat(np.arange(len(counts)), counts), len(counts), size)
    assert sum(shares) == size
    assert all(0 <= share <= count for share, count in zip(shares, counts, strict=True))
    if size >= np.count_nonzero(counts):
        assert all(share > 0 for share, count in zip(shares, counts, strict=True) if count)


def test_more_than_there_are_known_is_refused():
    with pytest.raises(ValueError, match="initial_size=4 is more than the 3 training images with"):
        proportional_counts(np.array([0, 1, 1, -1, -1]), 2, 4)


# --- labels that are changed later ----------------------------------------------------------------


def asked_pool() -> Pool:
    """Labelled 11, 13, 17, 10 as 0, 1, 2, 1; 14 and 12 skipped; 15 and 16 not asked about."""
    pool = make_pool().annotated(np.array([5, 2, 0]), np.array([2, -1, 1]))
    return pool.annotated(np.array([1]), np.array([-1]))


def said(pool: Pool) -> tuple[list[int], list[int], list[int]]:
    return pool.labelled.tolist(), pool.labels.tolist(), pool.skipped.tolist()


@pytest.mark.parametrize(
    ("changes", "labelled", "labels", "skipped"),
    [
        ({}, [11, 13, 17, 10], [0, 1, 2, 1], [14, 12]),
        ({17: 0}, [11, 13, 17, 10], [0, 1, 0, 1], [14, 12]),
        ({10: 2, 11: 2}, [11, 13, 17, 10], [2, 1, 2, 2], [14, 12]),  # one of the start, too
        ({17: 2}, [11, 13, 17, 10], [0, 1, 2, 1], [14, 12]),  # to what it was
        ({13: -1}, [11, 17, 10], [0, 2, 1], [13, 14, 12]),
        ({12: 0}, [11, 13, 17, 10, 12], [0, 1, 2, 1, 0], [14]),
        ({12: 0, 13: -1, 14: -1, 10: 0}, [11, 17, 10, 12], [0, 2, 0, 0], [13, 14]),
        ({11: -1, 13: -1, 17: -1, 10: -1}, [], [], [11, 13, 17, 10, 14, 12]),
    ],
)
def test_corrected_labels(changes, labelled, labels, skipped):
    before = asked_pool()
    after = before.corrected(
        np.array(list(changes), np.int64), np.array(list(changes.values()), np.int64)
    )
    assert said(after) == (labelled, labels, skipped)
    assert said(before) == ([11, 13, 17, 10], [0, 1, 2, 1], [14, 12])
    for name in ("indices", "available", "tie_order"):  # nothing comes back into the pool
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.labelled.dtype == after.labels.dtype == after.skipped.dtype == np.int64


@pytest.mark.parametrize("rows", [[15], [11, 16], [99], [-1]])
def test_what_was_not_asked_about_has_no_label_to_correct(rows):
    with pytest.raises(ValueError, match=rf"image {rows[-1]} was not asked about"):
        asked_pool().corrected(np.array(rows), np.zeros(len(rows), np.int64))


@given(data=st.data())
def test_corrections_are_those_of_a_dictionary(data):
    pool, kept = asked_pool(), {11: 0, 13: 1, 17: 2, 10: 1, 14: -1, 12: -1}
    changes = st.dictionaries(st.sampled_from(sorted(kept)), st.integers(-1, 2))
    for change in data.draw(st.lists(changes, max_size=4)):
        pool = pool.corrected(
            np.array(list(change), np.int64), np.array(list(change.values()), np.int64)
        )
        kept.update(change)
        assert dict(zip(pool.labelled.tolist(), pool.labels.tolist(), strict=True)) == {
            row: label for row, label in kept.items() if label >= 0
        }
        assert sorted(pool.skipped.tolist()) == sorted(r for r, label in kept.items() if label < 0)
