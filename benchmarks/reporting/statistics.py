"""Numbers of a report: means with intervals, paired tests, label saving. The formulas are SciPy's.

Everything takes the ``curves`` of ``benchmarks.reporting.results.Experiment``: a row a step, with
``method`` and ``seed``. Seeds are what is averaged over; methods on one seed share their start, so
the tests are paired. They are over seeds and groups of the test set where all cells have kept what
they predicted of it, and otherwise over seeds alone: ``benchmarks.reporting.twoway``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.matrix.facts import REFERENCES
from benchmarks.reporting.twoway import LEVEL, Scores, paired_test

PAPER_FRACTIONS = (0.26, 0.40, 0.54, 0.68, 0.82, 1.0)
"""Labelled fractions of the paper's Tables 1 and 2."""
ENOUGH_SEEDS = 5
"""With fewer, a report draws no conclusion."""


def interval(values: np.ndarray) -> tuple[Any, Any]:
    """Mean over the first axis, and half the width of its 95 % interval by Student's t.

    The width is NaN for one value.
    """
    mean = np.mean(values, axis=0)
    if len(values) < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, stats.t.ppf(0.975, len(values) - 1) * stats.sem(values, axis=0)


def fractions_between(start: float, end: float) -> list[float]:
    """The paper's fractions where a curve from ``start`` to ``end`` reaches them all, else five."""
    if start <= PAPER_FRACTIONS[0] and end >= PAPER_FRACTIONS[-1] - 1e-9:
        return list(PAPER_FRACTIONS)
    return [float(fraction) for fraction in np.linspace(start, end, 5)]


def report_fractions(curves: pd.DataFrame, supervised: pd.DataFrame) -> list[float]:
    """``fractions_between`` of the curves' ends, and 1 for methods that are one point."""
    if curves.empty:
        return [1.0]
    cells = curves.groupby(["method", "seed"])["labelled_fraction"]
    fractions = fractions_between(float(cells.first().max()), float(cells.last().min()))
    return [*fractions, 1.0] if len(supervised) and fractions[-1] < 1 - 1e-9 else fractions


def at_fraction(curves: pd.DataFrame, metric: str, fraction: float) -> pd.Series:
    """The metric where ``fraction`` of the labels was first reached, by (method, seed).

    Cells whose curve does not span the fraction, or whose metric is empty there, are left out.
    """
    return rows_at(curves, metric, fraction).set_index(["method", "seed"])[metric]


def rows_at(curves: pd.DataFrame, metric: str, fraction: float) -> pd.DataFrame:
    """The rows of ``at_fraction``, at most one of each cell."""
    starts = curves.groupby(["method", "seed"])["labelled_fraction"].transform("first")
    reached = curves[(curves["labelled_fraction"] >= fraction - 1e-9) & (starts <= fraction + 1e-9)]
    return reached.groupby(["method", "seed"]).head(1).dropna(subset=[metric])


def aulc(curves: pd.DataFrame, metric: str) -> pd.Series:
    """Area under the learning curve, the mean of the metric over it, by (method, seed)."""
    return curves.groupby(["method", "seed"])[metric].mean()


def aulc_by_thirds(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric's mean over the first, second and last third of the steps, by (method, seed).

    Returns:
        Columns "early", "middle" and "late"; NaN where a curve is too short to have one.
    """
    means = curves.groupby(["method", "seed", thirds(curves).rename("third")])[metric].mean()
    return means.unstack("third").reindex(columns=["early", "middle", "late"])


def has_health(curves: pd.DataFrame) -> bool:
    """Whether cells say how their agent did, ``layout.HEALTH``; older ones lack the columns."""
    return "saturated" in curves and bool(curves["saturated"].notna().any())


def thirds(curves: pd.DataFrame) -> pd.Series:
    """Row by row which third of its cell's steps it is in: "early", "middle" or "late"."""
    cells = curves.groupby(["method", "seed"])
    third = 3 * cells.cumcount() // cells["step"].transform("size")
    return third.map({0: "early", 1: "middle", 2: "late"})


def table(curves: pd.DataFrame, metric: str, fractions: list[float]) -> pd.DataFrame:
    """Mean and half of the 95 % interval over seeds, methods x fractions.

    Returns:
        Rows: methods in the order of their appearance. Columns: (fraction, "mean" or "half").
    """
    columns = {}
    for fraction in fractions:
        values = at_fraction(curves, metric, fraction)
        for method, own in values.groupby(level="method"):
            columns[method, fraction] = interval(own.to_numpy())
    rows = {}
    for method in curves["method"].unique():
        cells = [columns.get((method, fraction), (np.nan, np.nan)) for fraction in fractions]
        rows[method] = [value for pair in cells for value in pair]
    names = pd.MultiIndex.from_product([fractions, ["mean", "half"]])
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def overview(curves: pd.DataFrame, everything: pd.DataFrame) -> pd.DataFrame:
    """AULC of both metrics, mean reward and seconds of a run: mean and half interval a method.

    Args:
        curves: see above.
        everything: the same, and methods that are one point.
    """
    grouped = everything.groupby(["method", "seed"])
    quantities = {
        "AULC macro F1": aulc(curves, "macro_f1"),
        "AULC micro F1": aulc(curves, "micro_f1"),
        "reward": grouped["reward"].mean().dropna(),
        "acquisition s": grouped["acquisition_seconds"].sum(),
        "training s": grouped["training_seconds"].sum(),
    }
    rows: dict[str, dict[tuple[str, str], float]] = {}
    for method in everything["method"].unique():
        rows[method] = {}
        for name, values in quantities.items():
            known = method in values.index.get_level_values("method")
            mean, half = interval(values[method].to_numpy()) if known else (np.nan, np.nan)
            rows[method] |= {(name, "mean"): mean, (name, "half"): half}
        rows[method]["seeds", ""] = everything[everything["method"] == method]["seed"].nunique()
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def labels_needed(curves: pd.DataFrame, metric: str, target: float) -> pd.Series:
    """Labels at which the metric first reached ``target``, by (method, seed); inf if it never did.

    A single noisy point counts as reached, for every method alike.
    """
    reached = curves[curves[metric] >= target]
    first = reached.groupby(["method", "seed"])["n_labelled"].first().astype(float)
    cells = pd.MultiIndex.from_frame(curves[["method", "seed"]].drop_duplicates())
    return first.reindex(cells, fill_value=np.inf)


def label_saving(curves: pd.DataFrame, supervised: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Median labels needed for RANDOM's final score and for 95 % of ALL's, and what is saved.

    The targets are means over seeds, the same for every method. ALL stands for each method that is
    one point, ``supervised``.

    Returns:
        Rows: methods. Columns: for each target "labels" (median; inf: not in half of the seeds),
        "reached" (share of seeds) and "saved" (share of RANDOM's labels). Empty without RANDOM.
    """
    reference = REFERENCES[0]
    targets = {}
    random = curves[curves["method"] == reference]
    if not random.empty:
        final = random.groupby("seed")[metric].last().mean()
        targets[f"{reference.upper()}'s final"] = final
    for method in supervised["method"].unique():
        scores = supervised[supervised["method"] == method][metric]
        targets[f"95 % of {method.upper()}"] = 0.95 * scores.mean()
    columns = {}
    for name, target in targets.items():
        needed = labels_needed(curves, metric, target)
        median = needed.groupby(level="method").median()
        columns[f"{name} ({target:.3f})", "labels"] = median
        reached = np.isfinite(needed).groupby(level="method").mean()
        columns[f"{name} ({target:.3f})", "reached"] = reached
        if reference in median.index and np.isfinite(median[reference]):
            columns[f"{name} ({target:.3f})", "saved"] = 1 - median / median[reference]
    frame = pd.DataFrame(columns)
    return frame.reindex([m for m in curves["method"].unique() if m in frame.index])


def paired_tests(
    curves: pd.DataFrame, metric: str, baseline: str, methods: Sequence[str] | None = None
) -> pd.DataFrame:
    """Paired t-tests of methods' AULC against a baseline's, over the seeds both have.

    They are over the groups of the test set as well if all these cells have ``predictions``.

    Args:
        curves: see above.
        metric: a column of them.
        baseline: the method to compare with.
        methods: those to compare; None: all the others.

    Returns:
        Rows: methods. Columns: ``difference``, ``low`` and ``high`` of its 95 % interval,
        ``wins`` (seeds in which the method was better), ``seeds``, ``groups`` (0: over seeds
        alone), ``p``, ``detectable`` (the difference that would be found with probability 0.8) and
        ``p_holm``, corrected over the methods compared. Methods with fewer than ``ENOUGH_SEEDS``
        seeds in common are left out.
    """
    compared = curves["method"].unique() if methods is None else methods
    order = [method for method in curves["method"].unique() if method in compared]
    rows = curves[curves["method"].isin([baseline, *order])]
    return compare(Scores.of(rows, metric), baseline, order)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of p-values, (n,): the k-th smallest counts n - k + 1 times, at most 1.

    As statsmodels' ``multipletests``, which collects all garbage of the process at every call: most
    of a report's time.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def compare(scores: Scores, baseline: str, methods: Sequence[str]) -> pd.DataFrame:
    """Paired t-tests of methods' scores against a baseline's.

    Returns:
        As ``paired_tests``, with ``difference`` of the scores.
    """
    wide = scores.values.unstack("seed")
    values = dict(zip(wide.index, wide.to_numpy(), strict=True))
    influences = _by_method(scores.influences)
    rows = {}
    for method in methods:
        if method == baseline or not {method, baseline} <= set(values):
            continue
        shared = ~np.isnan(values[method]) & ~np.isnan(values[baseline])
        if shared.sum() < ENOUGH_SEEDS:
            continue
        ours, theirs = values[method][shared], values[baseline][shared]
        parts = None
        if influences:
            seeds = wide.columns[shared]
            mine, other = (influences[m].loc[seeds].to_numpy() for m in (method, baseline))
            parts = mine - other
        test = paired_test(ours - theirs, parts)
        rows[method] = {
            "difference": test.difference,
            "low": test.difference - test.half,
            "high": test.difference + test.half,
            "wins": int((ours > theirs).sum()),
            "seeds": len(ours),
            "groups": 0 if parts is None else parts.shape[1],
            "p": test.p,
            "detectable": test.detectable,
        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    if not frame.empty:
        frame["p_holm"] = holm(frame["p"].to_numpy())
    return frame


def _by_method(influences: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """Method -> the influences of its seeds x groups; empty without any."""
    if influences is None:
        return {}
    return {str(m): own.droplevel("method") for m, own in influences.groupby(level="method")}


def significant(tests: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The methods of ``paired_tests`` that are significantly above and below the baseline."""
    if tests.empty:
        return [], []
    told = tests[tests["p_holm"] < LEVEL]
    above, below = told["difference"] > 0, told["difference"] < 0
    return list(told.index[above]), list(told.index[below])


@dataclass(frozen=True)
class Standing:
    """Who is best, and who is significantly worse."""

    best: str
    """The method with the greatest mean over the seeds that all of ``methods`` have."""
    methods: list[str]
    """Those that could be judged, ``best`` among them."""
    tests: pd.DataFrame
    """``compare`` of the others with the best."""

    @property
    def below_best(self) -> list[str]:
        """Those significantly below the best: paired t-tests, Holm's correction."""
        return significant(self.tests)[1]

    @property
    def near_best(self) -> list[str]:
        """Those whose difference from the best is not significant."""
        below = self.below_best
        return [m for m in self.methods if m != self.best and m not in below]


def standing(scores: Scores, methods: Sequence[str]) -> Standing | None:
    """The best of methods; None if that cannot be said.

    Methods with fewer than ``ENOUGH_SEEDS`` seeds are left out. The best is chosen on the seeds
    that it is then tested on, which is a little to its favour.
    """
    shared = _shared_seeds(scores.values, methods)
    if len(shared) < 2 or shared.shape[1] < ENOUGH_SEEDS:
        return None
    judged = list(shared.index)
    best = str(shared.mean(axis=1).idxmax())
    return Standing(best, judged, compare(scores, best, judged))


def _shared_seeds(values: pd.Series, methods: Sequence[str]) -> pd.DataFrame:
    """Methods with enough seeds x the seeds that all of those have."""
    wide = values.unstack("seed")
    wide = wide.loc[[method for method in methods if method in wide.index]]
    return wide[wide.notna().sum(axis=1) >= ENOUGH_SEEDS].dropna(axis=1)


def wins(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Share of common seeds in which the row's AULC is above the column's; a tie counts half."""
    areas = aulc(curves, metric).unstack("seed")
    methods = curves["method"].unique()
    matrix = pd.DataFrame(np.nan, index=methods, columns=methods)
    for row in methods:
        for column in methods:
            difference = (areas.loc[row] - areas.loc[column]).dropna()
            if row != column and len(difference):
                matrix.loc[row, column] = ((difference > 0) + 0.5 * (difference == 0)).mean()
    return matrix


def mean_ranks(curves: pd.DataFrame, metric: str) -> pd.Series:
    """Mean over seeds of the rank by AULC, 1 the best, on the seeds that all methods have."""
    areas = aulc(curves, metric).unstack("seed").dropna(axis=1)
    if areas.empty:
        return pd.Series(dtype=float)
    ranks = stats.rankdata(-areas.to_numpy(), axis=0)
    return pd.Series(ranks.mean(axis=1), index=areas.index).sort_values()


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods, and how far apart two of them must be.

    Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, section
    3.2.2, with seeds in the place of data sets: what is found holds for this data set alone.
    """

    ranks: pd.Series
    """Mean rank by method, the best (lowest) first."""
    n_seeds: int
    p: float
    """Of Friedman's test that all methods are alike."""
    critical_difference: float
    """Mean ranks farther apart than this differ significantly: Nemenyi's test, 5 %."""

    @property
    def groups(self) -> list[list[str]]:
        """The largest sets of methods without a significant difference, of two or more each.

        All methods are one set where Friedman's test finds nothing.
        """
        if self.p >= LEVEL:
            return [list(self.ranks.index)]
        found: list[list[str]] = []
        for first, rank in self.ranks.items():
            near = (self.ranks >= rank) & (self.ranks <= rank + self.critical_difference)
            group = list(self.ranks.index[near])
            if len(group) > 1 and not any(first in other and set(group) <= set(other)
                                          for other in found):  # fmt: skip
                found.append(group)
        return found


def ranking(curves: pd.DataFrame, metric: str) -> Ranking | None:
    """Friedman's and Nemenyi's tests of methods' AULC, over the seeds that all of them have.

    Methods with fewer than ``ENOUGH_SEEDS`` are left out; None if fewer than three methods or
    ``ENOUGH_SEEDS`` seeds in common are left.
    """
    shared = _shared_seeds(aulc(curves, metric), list(curves["method"].unique()))
    k, n = shared.shape
    if k < 3 or n < ENOUGH_SEEDS:
        return None
    ranks = stats.rankdata(-shared.to_numpy(), axis=0)
    # if all methods tie on all seeds, the test is not defined, and they are alike
    p = float(stats.friedmanchisquare(*ranks).pvalue) if np.ptp(ranks) else 1.0
    q = stats.studentized_range.ppf(1 - LEVEL, k, np.inf) / np.sqrt(2)
    means = pd.Series(ranks.mean(axis=1), index=shared.index).sort_values(kind="stable")
    return Ranking(means, n, p, float(q * np.sqrt(k * (k + 1) / (6 * n))))


def class_shares(curves: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """Share of each class among the labelled where ``fraction`` was reached, mean over seeds."""
    counts = at_fraction(curves, "class_counts", fraction)
    rows = {key: np.array([int(n) for n in text.split()], float) for key, text in counts.items()}
    shares = pd.DataFrame.from_dict({key: n / n.sum() for key, n in rows.items()}, orient="index")
    shares.index = pd.MultiIndex.from_tuples(shares.index, names=["method", "seed"])
    order = [m for m in curves["method"].unique() if m in shares.index.get_level_values("method")]
    return shares.groupby(level="method").mean().loc[order]
