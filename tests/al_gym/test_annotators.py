"""The oracle, the erring annotator, and the check of an answer."""

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
    [([0], "one integer each"), ([0.0, 1.0], "one integer each"), ([0, 3], "class 3 to image 8")],
)
def test_answers_are_checked(answer, message):
    with pytest.raises(ValueError, match=message):
        checked_annotation(Answers(answer), np.array([7, 8]), 3)
    assert checked_annotation(Answers([2, 0]), np.array([7, 8]), 3).dtype == np.int64
