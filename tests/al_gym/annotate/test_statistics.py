"""Curve, outlook, agreement, people and answer key, beside what is counted in plain loops."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from al_gym.annotate import statistics
from al_gym.annotate.statistics import Agreement, Curve, Outlook, Person, Point, Right
from al_gym.annotate.store import SKIP, Asked, Store
from al_gym.metrics import evaluate

NAMES = ("nodule", "cord", "vessel")


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "answers.sqlite")
    for name in ("ann", "bob", "cat"):
        made.join(name)
    yield made
    made.close()


def planned(n=40, audit=range(40), test=(), labels=None, groups=None):
    """What of a plan is looked at."""
    labels = np.full(n, -1) if labels is None else np.array(labels)
    dataset = SimpleNamespace(
        test=np.array(test, np.int64), labels=labels, class_names=NAMES,
        groups=np.arange(n) if groups is None else np.array(groups),
    )  # fmt: skip
    return SimpleNamespace(dataset=dataset, audit=np.array(audit, np.int64), truth=labels)


def answered(store, labels, person="ann"):
    """Ask two people at most about samples 0, 1, ..., and let one of them answer."""
    store.ask([Asked(i, "audit", 2) for i in range(len(labels))], 0, None)
    for i, label in enumerate(labels):
        if label is not None:
            store.answer(i, person, label, 1.0)


def softmax_of(n, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(3), n).astype(np.float32)


def scored(softmax, labels):
    """The program's own macro F1 and accuracy."""
    (found,) = evaluate(torch.from_numpy(softmax)[None], torch.as_tensor(labels))
    return found.macro_f1, found.micro_f1


@pytest.mark.parametrize("n_predicted", [1, 2, 3])
def test_macro_f1_is_the_programs_on_every_resample(n_predicted):
    rng = np.random.default_rng(n_predicted)
    truth, softmax = rng.integers(0, 2, 12), softmax_of(12, 0)
    softmax[:, n_predicted:] = 0
    drawn = rng.integers(0, 12, (50, 12))
    weights = np.stack([np.bincount(rows, minlength=12) for rows in drawn]).astype(np.float32)
    found = statistics.macro_f1(softmax.argmax(1), truth, weights, 3)
    np.testing.assert_allclose(
        found, [scored(softmax[rows], truth[rows])[0] for rows in drawn], atol=1e-6
    )


def test_points_are_measured_on_what_is_answered_by_now(store):
    truth = np.random.default_rng(0).integers(0, 3, 40)
    given = [None if i % 5 == 0 else SKIP if i % 5 == 1 else int(truth[i]) for i in range(30)]
    answered(store, given)
    n_labelled = [10, 20, 30]
    for number, n in enumerate(n_labelled):
        store.add_model(number, n, 1.0, np.arange(40), softmax_of(40, number))
    curve = statistics.curve(store, planned())
    rows = np.array([i for i, label in enumerate(given) if label not in (None, SKIP)])
    for number, point in enumerate(curve.points):
        macro_f1, accuracy = scored(softmax_of(40, number)[rows], truth[rows])
        assert (point.model, point.n_labelled, point.n_test) == (number, n_labelled[number], 18)
        assert point.macro_f1 == pytest.approx(macro_f1, abs=1e-6)
        assert point.accuracy == pytest.approx(accuracy, abs=1e-6)
        assert 0 <= point.low < point.macro_f1 < point.high <= 1
    assert curve.resampled.shape == (3, statistics.RESAMPLES)
    again = statistics.curve(store, planned())
    assert again.points == curve.points
    np.testing.assert_array_equal(again.resampled, curve.resampled)
    more = [int(label) for label in truth[30:]]
    store.ask([Asked(i, "audit") for i in range(30, 40)], 1, None)
    for i, label in enumerate(more, 30):
        store.answer(i, "bob", label, 1.0)
    assert [point.n_test for point in statistics.curve(store, planned()).points] == [28] * 3


def test_test_images_of_the_data_sets_own_count_with_its_labels(store):
    labels = np.arange(40) % 3
    store.add_model(0, 10, 1.0, np.arange(40), softmax_of(40, 0))
    (point,) = statistics.curve(store, planned(audit=(), test=range(20), labels=labels)).points
    assert point.n_test == 20
    assert point.macro_f1 == pytest.approx(scored(softmax_of(40, 0)[:20], labels[:20])[0], abs=1e-6)


def test_intervals_are_percentiles_over_patients_drawn_together(store):
    """Beside a plain loop over resamples; of ten patients the interval is wider than of forty."""
    truth, softmax = np.arange(40) % 2, softmax_of(40, 0)
    answered(store, truth.tolist())
    store.add_model(0, 10, 1.0, np.arange(40), softmax)
    # all images of a patient are predicted alike
    groups = np.argsort(np.argsort((softmax.argmax(1) == truth) + 0.01 * np.arange(40))) // 4
    widths = []
    for each in (groups, np.arange(40)):
        curve = statistics.curve(store, planned(groups=[f"p{g}" for g in each]), 2000, seed=3)
        rng, values = np.random.default_rng(5), []
        names = np.unique(each)
        for _ in range(2000):
            drawn = rng.choice(names, len(names))
            rows = np.concatenate([np.flatnonzero(each == name) for name in drawn])
            values.append(float(scored(softmax[rows], truth[rows])[0]))
        low, high = np.percentile(values, [2.5, 97.5])
        assert curve.points[0].low == pytest.approx(low, abs=0.02)
        assert curve.points[0].high == pytest.approx(high, abs=0.02)
        widths.append(high - low)
    assert widths[0] > 1.4 * widths[1]


def test_intervals_hold_what_they_promise():
    """About 95 % of them have the value of all images there could be."""
    rng = np.random.default_rng(0)
    chances = np.array([[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])

    def draw(n):
        truth = rng.integers(0, 3, n)
        return truth, (rng.random((n, 1)) > chances[truth].cumsum(1)).sum(1)

    truth, predicted = draw(400_000)
    true = statistics.macro_f1(predicted, truth, np.ones((1, len(truth)), np.float32), 3)[0]
    hits = 0
    for _ in range(300):
        truth, predicted = draw(60)
        weights = statistics._resamples(np.arange(60), 300, rng)
        own = statistics.macro_f1(predicted, truth, np.ones((1, 60), np.float32), 3)[0]
        low, high = statistics._interval(
            own, statistics.macro_f1(predicted, truth, weights, 3), 1 / 60
        )
        hits += low <= true <= high
    assert 0.9 <= hits / 300 <= 0.99


def test_all_right_is_not_certain(store):
    truth = np.arange(8) % 2
    answered(store, truth.tolist())
    store.add_model(0, 10, 1.0, np.arange(8), np.eye(3, dtype=np.float32)[truth])
    (point,) = statistics.curve(store, planned(n=8, audit=range(8))).points
    assert (point.macro_f1, point.low, point.high) == (1, pytest.approx(1 - 1 / 8), 1)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [1] * 12, [0, 1, 2, 0] + [SKIP] * 8])
def test_too_few_images_or_classes_make_no_curve(store, labels):
    answered(store, labels)
    store.add_model(0, 10, 1.0, np.arange(40), softmax_of(40, 0))
    curve = statistics.curve(store, planned())
    assert curve.points == () and curve.resampled.shape == (0, statistics.RESAMPLES)
    assert statistics.outlook(curve) is None


def test_without_a_model_there_is_no_curve(store):
    answered(store, [0, 1] * 5)
    assert statistics.curve(store, planned()).points == ()


# --- outlook --------------------------------------------------------------------------------------


def made_curve(n_labelled, macro_f1, spread=0.0, n_test=100):
    """A curve whose resamples lie around its points, each model's as the next one's."""
    points = tuple(
        Point(i, n, f1, f1, f1, f1, n_test)
        for i, (n, f1) in enumerate(zip(n_labelled, macro_f1, strict=True))
    )
    tilt = np.linspace(-spread, spread, 1001) * np.log2(n_labelled)[:, None]
    return Curve(points, np.array(macro_f1)[:, None] + tilt)


def test_a_curve_that_rises_goes_on_rising():
    n = np.array([10, 20, 30, 40, 50, 60, 70, 80])
    rise = np.where(n < 50, 0.3, 0.5 + 0.1 * np.log2(n / 50))  # only the last half is looked at
    found = statistics.outlook(made_curve(n, rise, spread=0.2))
    assert found.gain == pytest.approx(0.1 * np.log2(130 / 80))
    assert found.low == pytest.approx((0.1 - 0.95 * 0.2) * np.log2(130 / 80))
    assert found.high == pytest.approx((0.1 + 0.95 * 0.2) * np.log2(130 / 80))
    assert not found.is_flat
    assert found.sentence == (
        "50 more labels would probably change macro F1 by +0.07 (-0.06 to +0.20)."
    )


def test_the_slope_is_that_of_numpy_on_the_last_four_at_least():
    n, f1 = np.array([10, 20, 40, 50, 70]), np.array([0.2, 0.5, 0.4, 0.45, 0.55])
    slope = np.polyfit(np.log2(n[1:]), f1[1:], 1)[0]
    found = statistics.outlook(made_curve(n, f1), n_more=30)
    assert found.gain == pytest.approx(slope * np.log2(100 / 70))
    assert statistics.outlook(made_curve(n[:3], f1[:3])) is None


def test_of_models_on_equally_many_labels_the_last_counts():
    n, f1 = np.array([10, 20, 40, 80]), np.array([0.2, 0.3, 0.4, 0.5])
    more = made_curve([*n, 80, 80], [*f1[:3], 0.1, 0.1, 0.5])
    assert statistics.outlook(more) == statistics.outlook(made_curve(n, f1))
    assert statistics.outlook(made_curve([10, 20, 30, 30, 30], [0.2] * 5)) is None


def test_a_flat_curve_is_called_so():
    n = np.array([100, 120, 140, 160])
    found = statistics.outlook(made_curve(n, [0.7, 0.71, 0.7, 0.7], spread=0.01, n_test=400))
    assert found.is_flat
    assert found.sentence == (
        "The curve has become flat: 50 more labels would probably change macro F1 by -0.00 "
        "(-0.01 to +0.00)."
    ).replace("-0.00", "+0.00")
    falls = statistics.outlook(made_curve(n, [0.8, 0.75, 0.7, 0.65], n_test=400))
    assert falls.sentence.startswith("The curve no longer rises: 50 more labels")


def test_a_curve_that_has_just_risen_is_not_called_flat():
    n = np.array([100, 120, 140, 160])
    falls_then_rises = made_curve(n, [0.8, 0.7, 0.6, 0.63], spread=0.01, n_test=400)
    found = statistics.outlook(falls_then_rises)
    assert found.high < statistics.FLAT and not found.is_flat
    assert found.sentence.startswith("50 more labels would probably change")


def test_few_test_images_never_show_that_a_curve_is_flat():
    """Four models that predict fifteen images alike say little of the next, of fewer nothing."""
    n = np.array([40, 60, 80, 100])
    assert statistics.outlook(made_curve(n, [0.8] * 4, n_test=14)) is None
    assert not statistics.outlook(made_curve(n, [0.8] * 4, n_test=15)).is_flat


def test_nobody_is_promised_more_than_perfection():
    n = np.array([5, 10, 15, 20])
    found = statistics.outlook(made_curve(n, [0.5, 0.7, 0.85, 0.97], spread=0.3))
    assert (found.gain, found.high) == (pytest.approx(0.03), pytest.approx(0.03))
    assert found.low < found.gain


def test_a_curve_of_a_store_has_an_outlook(store):
    answered(store, (np.arange(40) % 3).tolist())
    for number, n in enumerate((10, 20, 30, 40, 50)):
        store.add_model(number, n, 1.0, np.arange(40), softmax_of(40, number))
    found = statistics.outlook(statistics.curve(store, planned()))
    assert isinstance(found, Outlook) and found.low < found.gain < found.high


# --- people ---------------------------------------------------------------------------------------


def test_agreement_is_cohens(store):
    """Kappa of the textbook formula, and what statsmodels makes of its variance."""
    first = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, SKIP, 1]
    second = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, SKIP]
    answered(store, first)
    for i, label in enumerate(second):
        store.answer(i, "bob", label, 1.0)
    store.review(3, "cat", 2, 1.0)
    overall, by_class = statistics.agreement(store, NAMES)
    a, b = np.array(first[:10]), np.array(second[:10])

    def kappa(a, b):
        same, by_chance = (a == b).mean(), sum((a == c).mean() * (b == c).mean() for c in range(3))
        return (same - by_chance) / (1 - by_chance)

    assert (overall.n_pairs, overall.share) == (10, pytest.approx(0.7))
    assert overall.kappa == pytest.approx(kappa(a, b))
    assert -1 <= overall.low < overall.kappa < overall.high <= 1
    assert list(by_class) == list(NAMES)
    for i, name in enumerate(NAMES):
        assert by_class[name].kappa == pytest.approx(kappa(a == i, b == i))
        assert by_class[name].share == pytest.approx(((a == i) == (b == i)).mean())


def test_of_three_answers_the_first_two_are_the_pair(store):
    store.ask([Asked(i, "method", 3) for i in range(3)], 0, None)
    for person, labels in {"ann": (0, 1, SKIP), "bob": (0, 1, 0), "cat": (1, 0, 1)}.items():
        for i, label in enumerate(labels):
            store.answer(i, person, label, 1.0)
    overall, _ = statistics.agreement(store, NAMES)
    assert (overall.n_pairs, overall.share) == (3, pytest.approx(2 / 3))


def test_an_answer_that_is_undone_makes_no_pair(store):
    answered(store, [0])
    store.answer(0, "bob", 1, 1.0)
    assert statistics.agreement(store, NAMES)[0].share == 0
    store.undo("bob")
    assert statistics.agreement(store, NAMES) is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0, 0)] * 4, Agreement(4, 1.0, None, None, None)),
        ([(0, 0), (1, 1)], Agreement(2, 1.0, 1.0, None, None)),
        ([(0, 1)] * 3, Agreement(3, 0.0, 0.0, None, None)),
    ],
)
def test_tables_of_which_little_can_be_said_say_little(store, pairs, expected):
    """Without a warning, which would be an error here, and without NaN."""
    answered(store, [a for a, _ in pairs])
    for i, (_, b) in enumerate(pairs):
        store.answer(i, "bob", b, 1.0)
    overall, by_class = statistics.agreement(store, NAMES)
    assert overall == expected
    assert by_class["vessel"] == Agreement(len(pairs), 1.0, None, None, None)


def test_without_pairs_there_is_no_agreement(store):
    assert statistics.agreement(store, NAMES) is None
    answered(store, [0, 1, 2])
    assert statistics.agreement(store, NAMES) is None


def test_people_have_their_pace(store):
    store.ask([Asked(i, "method", 2) for i in range(4)], 0, None)
    for i, (label, seconds) in enumerate([(0, 2.0), (1, 4.0), (SKIP, 30.0), (0, 5.0)]):
        store.answer(i, "ann", label, seconds)
    store.answer(0, "bob", 1, 3.0)
    store.review(0, "cat", 1, 100.0)
    assert statistics.people(store) == [
        Person("ann", 4, 4.5, 0.25), Person("bob", 1, 3.0, 0.0), Person("cat", 0, None, None),
    ]  # fmt: skip


def test_labels_beside_the_answer_key(store):
    answered(store, [0, 0, 1, SKIP, 1, None, 2])
    truth = [0, 0, 0, 0, 1, 1, -1]
    plan = planned(n=7, audit=(), labels=truth)
    overall, by_class = statistics.against_key(store, plan)
    assert overall == Right(4, 3) and overall.share == 0.75
    assert by_class == {"nodule": Right(3, 2), "cord": Right(1, 1)}
    assert statistics.against_key(store, planned(n=7, audit=())) is None


def test_it_needs_neither_torch_nor_the_page():
    program = (
        "import sys, al_gym.annotate.statistics\n"
        "sys.exit(bool({'torch', 'nicegui', 'statsmodels'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
