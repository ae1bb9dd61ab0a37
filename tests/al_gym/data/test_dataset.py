"""The record every reader returns, and the split by groups."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_gym.data.dataset import UNKNOWN, split_groups


def test_it_is_frozen(dataset):
    with pytest.raises(FrozenInstanceError):
        dataset.source = "elsewhere"


def test_the_fingerprint_changes_with_everything_that_counts(dataset):
    images, labels = dataset.images.copy(), dataset.labels.copy()
    images[5, 0, 3, 3] ^= 1
    labels[5] = (labels[5] + 1) % 3
    variants = [
        dataset,
        replace(dataset, images=images),
        replace(dataset, labels=labels),
        replace(dataset, class_names=("a", "b", "c")),
        replace(dataset, train=dataset.train[:-1]),
        replace(dataset, images=dataset.images.astype(np.int16)),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert replace(dataset, source="elsewhere").fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"images": d.images.astype(np.float32)}, "uint8 or int16"),
        (lambda d: {"images": d.images[:, 0]}, "uint8 or int16"),
        (lambda d: {"images": d.images[..., ::-1]}, "contiguous"),
        (lambda d: {"labels": d.labels[:-1]}, "labels"),
        (lambda d: {"labels": np.where(np.arange(110) == 4, 3, d.labels)}, "label 3 of image 4"),
        (lambda d: {"labels": np.where(np.arange(110) == 4, -2, d.labels)}, "label -2 of image 4"),
        (lambda d: {"labels": np.where(np.arange(110) == 90, -1, d.labels)}, "90 is a test image"),
        (lambda d: {"groups": np.zeros(110)}, "both sides"),
        (lambda d: {"validation": d.train[:3]}, "training and validation"),
        (lambda d: {"names": d.names[:-1]}, r"names \(109,\)"),
        (lambda d: {"train": d.train[:0]}, "no training images"),
    ],
)
def test_what_does_not_fit_is_refused(dataset, change, message):
    with pytest.raises(ValueError, match=message):
        replace(dataset, **change(dataset))


def test_only_training_images_may_be_without_a_label(dataset):
    labels = dataset.labels.copy()
    labels[dataset.train[:7]] = UNKNOWN
    assert (replace(dataset, labels=labels).labels == UNKNOWN).sum() == 7
    assert not len(replace(dataset, test=dataset.test[:0]).test)


def test_images_are_named_by_their_rows_unless_they_have_names(dataset):
    assert dataset.names.tolist() == [str(i) for i in range(110)]
    names = np.array([f"p{i}.png" for i in range(110)])
    assert replace(dataset, names=names).names[3] == "p3.png"
    assert replace(dataset, names=names).fingerprint() == dataset.fingerprint()


@given(
    sizes=st.lists(st.integers(1, 9), min_size=6, max_size=40),
    share=st.floats(0.3, 0.7),
    seed=st.integers(0, 5),
)
def test_no_group_is_on_both_sides(sizes, share, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    n = len(groups) // 3
    n_train = max(1, int(n * share))
    n_test = max(1, n - n_train)
    try:
        train, test = split_groups(groups, n_train, n_test, np.random.default_rng(seed))
    except ValueError:
        return  # a few large groups may leave too little on one side
    assert len(np.unique(train)) == n_train and len(np.unique(test)) == n_test
    assert not set(groups[train]) & set(groups[test])


def test_the_split_follows_the_seed():
    groups = np.repeat(np.arange(50), 10)
    splits = [split_groups(groups, 200, 200, np.random.default_rng(s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(splits[0][0], splits[1][0])
    assert not np.array_equal(splits[0][0], splits[2][0])


def test_too_few_samples_are_named():
    with pytest.raises(ValueError, match="n_train=90 is more than there is"):
        split_groups(np.repeat(np.arange(10), 10), 90, 90, np.random.default_rng(0))
