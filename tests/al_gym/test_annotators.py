"""The oracle, the erring annotator, and the check of an answer."""

from functools import partial

import numpy as np
import pytest

from al_gym.annotators import NoisyAnnotator, OracleAnnotator, checked_annotation

LABELS = np.tile([0, 1, 2], 2000)
EVERYTHING = np.arange(len(LABELS))


def test_the_oracle_is_right():
    np.testing.assert_array_equal(OracleAnnotator(LABELS).annotate(np.array([4, 0])), [1, 0])


def test_the_error_rate_is_met_and_errors_are_spread_over_the_other_classes():
    answers = NoisyAnnotator(LABELS, 3, error_rate=0.3, seed=1).annotate(EVERYTHING)
    wrong = answers != LABELS
    assert wrong.mean() == pytest.approx(0.3, abs=0.03)
    assert (answers[wrong & (LABELS == 0)] == 1).mean() == pytest.approx(0.5, abs=0.06)


def test_rates_of_zero_and_one():
    assert (NoisyAnnotator(LABELS, 3, error_rate=0.0).annotate(EVERYTHING) == LABELS).all()
    assert (NoisyAnnotator(LABELS, 3, error_rate=1.0).annotate(EVERYTHING) != LABELS).all()


def test_answers_do_not_depend_on_the_order_of_questions():
    one, other = (NoisyAnnotator(LABELS, 3, error_rate=0.5, seed=3) for _ in range(2))
    first = one.annotate(np.array([5, 6]))
    assert other.annotate(np.array([6]))[0] == first[1]
    assert (one.annotate(np.array([5, 6])) == first).all()


def test_seeds_differ():
    a, b = (NoisyAnnotator(LABELS, 3, error_rate=0.5, seed=s).annotate(EVERYTHING) for s in (0, 1))
    assert (a != b).any()


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match="error_rate must lie in"):
        NoisyAnnotator(LABELS, 3, error_rate=rate)


class Answers:
    def __init__(self, answer):
        self.answer = answer

    def annotate(self, indices):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0], "one integer each"),
        ([0.0, 1.0], "one integer each"),
        ([0, 3], "class 3 to image 8"),
        ([-2, 0], "class -2 to image 7"),
    ],
)
def test_answers_are_checked(answer, message):
    with pytest.raises(ValueError, match=message):
        checked_annotation(Answers(answer), np.array([7, 8]), 3)
    assert checked_annotation(Answers([2, 0]), np.array([7, 8]), 3).dtype == np.int64
    assert checked_annotation(Answers([-1, 0]), np.array([7, 8]), 3).tolist() == [-1, 0]


@pytest.mark.parametrize("noisy", [False, True])
def test_what_is_not_known_is_named(noisy):
    labels = np.array([0, -1, 2, -1])
    make = partial(NoisyAnnotator, n_classes=3, error_rate=0.5) if noisy else OracleAnnotator
    with pytest.raises(ValueError, match=r"label of image 3 is not known \(2 of the 3 asked for\)"):
        make(labels).annotate(np.array([0, 3, 1]))
    names = np.array(["a.png", "b.png", "c.png", "d.png"])
    with pytest.raises(ValueError, match="label of d.png is not known .*annotator="):
        make(labels, names=names).annotate(np.array([3]))
    assert (make(labels).annotate(np.array([0, 2])) >= 0).all()


def test_labels_that_are_not_known_change_no_other_answer():
    partly = np.where(EVERYTHING % 5 == 0, -1, LABELS)
    known = np.flatnonzero(partly >= 0)
    some, every = (NoisyAnnotator(y, 3, error_rate=0.5, seed=3) for y in (partly, LABELS))
    np.testing.assert_array_equal(some.annotate(known), every.annotate(known))
