"""What the answers say: how good the classifier is, what more labels would bring, who agrees.

Everything is counted anew from the store. Where there is too little to say something, it is None.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from al_gym.annotate.store import SKIP, Store

if TYPE_CHECKING:
    from al_gym.annotate.project import Plan

FEWEST = 5
"""Test images below which nothing is said of how good a classifier is."""
RESAMPLES = 1000
"""Times that the test images are drawn anew, for intervals."""
INTERVAL = (2.5, 97.5)
"""Percentiles of the resamples: 95 % lie between."""
MORE = 50
"""Labels that the outlook is for."""
FEWEST_OF_OUTLOOK = 15
"""Test images below which nothing is said of what more labels would bring: one of them more or less
right moves the curve by more than they would."""
FEWEST_POINTS = 4
"""Points of the curve below which there is no outlook."""
FLAT = 0.02
"""Of macro F1; a curve that will probably gain less has become flat."""


# --- the learning curve ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """How good a model is on the test images that are answered by now."""

    model: int
    """Its number."""
    n_labelled: int
    """Samples that it was trained on."""
    macro_f1: float
    """Mean of F1 over the classes, see ``macro_f1``."""
    low: float
    """Lower end of its 95 % interval, as far as the choice of test images goes."""
    high: float
    """Upper end."""
    accuracy: float
    """Share of the test images that are predicted right."""
    n_test: int
    """Test images that are answered."""


@dataclass(frozen=True, eq=False)
class Curve:
    """All models on the same test images."""

    points: tuple[Point, ...]
    """P of them, by model; none where there are too few test images."""
    resampled: np.ndarray
    """(P, R) float64, macro F1 on R resamples of the test images, the same ones for every model."""


NOTHING = Curve((), np.zeros((0, RESAMPLES)))
"""Before there are enough test images."""


def curve(store: Store, plan: "Plan", n_resamples: int = RESAMPLES, seed: int = 0) -> Curve:
    """The learning curve on the test images that have a class by now.

    These are those of the plan that people have answered, the settled class of each; of a data set
    that has test images of its own, these. Earlier points too get more exact as answers come.

    Patients are drawn with replacement, all images of one together, for the intervals
    (percentile bootstrap). No interval ends nearer than what one test image more or less would make
    of it: where hardly one is predicted wrong, resamples say too little of those that would be.

    Args:
        store: with the models and what they think of the test images.
        plan: of the project.
        n_resamples: R.
        seed: of the draw.

    Returns:
        Without points if there are fewer than ``FEWEST`` test images or classes of them than two.
    """
    rows, truth = _test_images(store, plan)
    models = store.models()
    if len(rows) < FEWEST or len(np.unique(truth)) < 2 or not models:
        return Curve((), np.zeros((0, n_resamples)))
    n_classes = len(plan.dataset.class_names)
    drawn = _resamples(plan.dataset.groups[rows], n_resamples, np.random.default_rng(seed))
    weights = np.concatenate([np.ones((1, len(rows)), np.float32), drawn])
    points, resampled = [], []
    for number, n_labelled, _, _ in models:
        opinions = store.opinions(number)
        predicted = np.stack([opinions[row] for row in rows.tolist()]).argmax(1)
        own, *others = macro_f1(predicted, truth, weights, n_classes)
        low, high = _interval(own, np.array(others), 1 / len(rows))
        accuracy = float((predicted == truth).mean())
        points.append(Point(number, n_labelled, float(own), low, high, accuracy, len(rows)))
        resampled.append(others)
    return Curve(tuple(points), np.array(resampled))


def macro_f1(
    predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Macro F1 of R resamples of n images, as ``metrics.evaluate`` has it of one.

    A class that is neither predicted nor present in a resample is left out of its mean.

    Args:
        predicted: (n,) int64, classes.
        truth: (n,) int64, classes.
        weights: (R, n) float32, how often each image is in each resample.
        n_classes: M.

    Returns:
        (R,) float64.
    """
    names = np.arange(n_classes)
    was_predicted, is_true = predicted[:, None] == names, truth[:, None] == names
    # counts, which float32 holds exactly
    found = weights @ np.concatenate(
        [was_predicted & is_true, was_predicted, is_true], axis=1, dtype=np.float32
    )
    right, n_predicted, n_true = np.split(found.astype(np.float64), 3, axis=1)
    in_all = n_predicted + n_true
    f1 = np.divide(2 * right, in_all, out=np.zeros_like(in_all), where=in_all > 0)
    mean: np.ndarray = f1.sum(1) / (in_all > 0).sum(1)
    return mean


def _test_images(store: Store, plan: "Plan") -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,) int64 of the test images that have a class, and it, (n,) int64."""
    test = plan.dataset.test
    if len(test):
        return test, plan.dataset.labels[test]
    settled = store.settled()
    rows = [row for row in plan.audit.tolist() if settled.get(row, SKIP) != SKIP]
    return np.array(rows, np.int64), np.array([settled[row] for row in rows], np.int64)


def _resamples(groups: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, len(groups)) float32, how often each image is drawn when groups are."""
    names, group_of = np.unique(groups, return_inverse=True)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    drawn: np.ndarray = counts.astype(np.float32)[:, group_of.ravel()]
    return drawn


def _interval(
    estimate: float, resampled: np.ndarray, least: float, bounds: tuple[float, float] = (0, 1)
) -> tuple[float, float]:
    """Percentiles of the resamples, at least ``least`` away from the estimate, within bounds."""
    low, high = np.percentile(resampled, INTERVAL)
    ends = np.clip([min(low, estimate - least), max(high, estimate + least)], *bounds)
    return float(ends[0]), float(ends[1])


# --- what more labels would bring -----------------------------------------------------------------


@dataclass(frozen=True)
class Outlook:
    """What more labels would probably change of macro F1."""

    n_more: int
    """Labels."""
    gain: float
    """What macro F1 would grow by; negative: what it would lose."""
    low: float
    """Lower end of its 95 % interval, as far as the choice of test images goes."""
    high: float
    """Upper end."""
    last_step: float = 0.0
    """What macro F1 has grown by with the last query."""

    @property
    def is_flat(self) -> bool:
        """Whether a gain worth the work is improbable, and the last query brought none either."""
        return self.high < FLAT and self.last_step < FLAT

    @property
    def sentence(self) -> str:
        """The outlook for people."""
        change = (
            f"{self.n_more} more labels would probably change macro F1 by {_signed(self.gain)} "
            f"({_signed(self.low)} to {_signed(self.high)})."
        )
        if self.high < 0 and self.is_flat:
            return f"The curve no longer rises: {change}"
        return f"The curve has become flat: {change}" if self.is_flat else change


def outlook(curve: Curve, n_more: int = MORE) -> Outlook | None:
    """What more labels would bring if the curve goes on as in its last half.

    That is the slope of macro F1 over the logarithm of the labels, by least squares, on the last
    half of the points, ``FEWEST_POINTS`` at least. The interval is that of the slopes on the
    resamples of the curve: it knows what the choice of test images does, and not that a method may
    have had good or bad luck with what it asked about.

    Args:
        curve: of ``curve``; of models trained on equally many labels the last counts.
        n_more: labels.

    Returns:
        None: there are too few points, or test images.
    """
    last = {point.n_labelled: i for i, point in enumerate(curve.points) if point.n_labelled > 0}
    chosen = [last[n] for n in sorted(last)]
    chosen = chosen[-max(FEWEST_POINTS, -(-len(chosen) // 2)) :]
    if len(chosen) < FEWEST_POINTS or curve.points[-1].n_test < FEWEST_OF_OUTLOOK:
        return None
    points = [curve.points[i] for i in chosen]
    n, now = points[-1].n_labelled, points[-1].macro_f1
    x = np.log2([point.n_labelled for point in points])
    x -= x.mean()
    # gain = slope * log2((n + n_more) / n), as a weighted sum of the points
    weights = x / (x**2).sum() * np.log2((n + n_more) / n)
    gain = float(weights @ [point.macro_f1 for point in points])
    # what one test image more or less at the last point would do
    least = float(weights[-1]) / points[-1].n_test
    bounds = -now, 1 - now
    low, high = _interval(gain, weights @ curve.resampled[chosen], least, bounds)
    last_step = now - points[-2].macro_f1
    return Outlook(n_more, float(np.clip(gain, *bounds)), low, high, last_step)


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0, so that there is no -0.00


# --- people ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How often two people gave one sample the same class."""

    n_pairs: int
    """Samples that two people have given a class."""
    share: float
    """Of them, of one class by both."""
    kappa: float | None
    """Cohen's; None: both used one class alone, the same, and there is nothing to agree on."""
    low: float | None
    """Lower end of its 95 % interval; None: none can be given, as where all agree."""
    high: float | None
    """Upper end, likewise."""


def agreement(
    store: Store, class_names: Sequence[str]
) -> tuple[Agreement, dict[str, Agreement]] | None:
    """Agreement on all classes, and on each against the rest by its name.

    The first two answers with a class that different people gave to a sample are a pair; skips and
    reviews are left out.

    Returns:
        None: there is no pair.
    """
    pairs = np.array(
        [
            labels[:2]
            for answers in store.by_sample().values()
            if len(labels := [a.label for a in answers if a.label != SKIP and not a.review]) > 1
        ],
        np.int64,
    )
    if not len(pairs):
        return None
    return _agreement(pairs, len(class_names)), {
        name: _agreement((pairs == i).astype(np.int64), 2) for i, name in enumerate(class_names)
    }


def _agreement(pairs: np.ndarray, n_classes: int) -> Agreement:
    """Of pairs (n, 2) int64 of classes."""
    from statsmodels.stats.inter_rater import cohens_kappa  # here, as importing it takes a second

    n, share = len(pairs), float((pairs[:, 0] == pairs[:, 1]).mean())
    if len(np.unique(pairs)) < 2:
        return Agreement(n, share, None, None, None)
    table = np.zeros((n_classes, n_classes))
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1)
    with np.errstate(all="ignore"):  # tests of kappa = 0, which are not used
        found = cohens_kappa(table)
    low, high = max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp))
    if share == 1 or not low < high:  # also of nan
        return Agreement(n, share, float(found.kappa), None, None)
    return Agreement(n, share, float(found.kappa), low, high)


@dataclass(frozen=True)
class Person:
    """What one person has done; reviews, which take longer, are left out."""

    name: str
    """As they gave it."""
    n_answers: int
    """Skips among them."""
    seconds: float | None
    """Median of an answer's; None: there is none."""
    skipped: float | None
    """Share of the answers that are skips; None: there is none."""


def people(store: Store) -> list[Person]:
    """Everybody who takes part, in the order of their coming."""
    by_person = defaultdict(list)
    for answer in store.answers():
        if not answer.review:
            by_person[answer.person].append(answer)
    return [
        Person(
            name,
            len(own),
            float(np.median([answer.seconds for answer in own])),
            sum(answer.label == SKIP for answer in own) / len(own),
        )
        if (own := by_person[name])
        else Person(name, 0, None, None)
        for name in store.people()
    ]


@dataclass(frozen=True)
class Wrong:
    """A label that is another than the answer key's."""

    sample: int
    """Row of the data set."""
    number: int
    """Of the sample in the order of asking, from 1."""
    label: int
    """What was settled."""
    truth: int
    """What the key says."""


@dataclass(frozen=True)
class Right:
    """How many labels are those of the answer key."""

    n: int
    """Labels."""
    n_right: int
    """Those that are the key's."""

    @property
    def share(self) -> float:
        """Of the right ones."""
        return self.n_right / self.n


def against_key(store: Store, plan: "Plan") -> tuple[Right, dict[str, Right]] | None:
    """Settled labels beside the data set's own, for projects whose ``Settings.key`` is set.

    Skips, and samples of which the data set says nothing, are left out.

    Returns:
        Of all, and by name of each class that the key has there; None: there are none.
    """
    settled = {sample: label for sample, label in store.settled().items() if label != SKIP}
    labels = np.array(list(settled.values()), np.int64)
    truth = plan.truth[np.array(list(settled), np.int64)]
    is_known = truth >= 0
    labels, truth = labels[is_known], truth[is_known]
    if not len(truth):
        return None
    right = labels == truth
    by_class = {
        name: Right(int((truth == i).sum()), int(right[truth == i].sum()))
        for i, name in enumerate(plan.dataset.class_names)
        if (truth == i).any()
    }
    return Right(len(truth), int(right.sum())), by_class


def differing(store: Store, plan: "Plan") -> list[Wrong]:
    """The settled labels that are not the answer key's, in the order of asking."""
    settled = store.settled()
    found = []
    for question in store.questions():
        label, truth = settled.get(question.sample, SKIP), int(plan.truth[question.sample])
        if SKIP != label != truth >= 0:
            found.append(Wrong(question.sample, question.position + 1, label, truth))
    return found
