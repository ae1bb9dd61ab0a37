"""Numbers of a report: means with intervals, paired tests, label saving. The formulas are SciPy's.

Everything takes the ``curves`` of ``benchmarks.results.Experiment``: a row a step, with ``method``
and ``seed``. Seeds are what is averaged over and tested on; methods on one seed share their start,
so the tests are paired.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmarks.presets import PAPER_FRACTIONS

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


def learning_methods(curves: pd.DataFrame) -> list[str]:
    """Methods with a learning curve: all but ALL, which is one point."""
    return [method for method in curves["method"].unique() if method != "all"]


def fractions_between(start: float, end: float) -> list[float]:
    """The paper's fractions where a curve from ``start`` to ``end`` reaches them all, else five."""
    if start <= PAPER_FRACTIONS[0] and end >= PAPER_FRACTIONS[-1] - 1e-9:
        return list(PAPER_FRACTIONS)
    return np.linspace(start, end, 5).tolist()


def report_fractions(curves: pd.DataFrame) -> list[float]:
    """``fractions_between`` of the curves' ends, and 1 for ALL."""
    learning = curves[curves["method"] != "all"]["labelled_fraction"]
    if learning.empty:
        return [1.0]
    fractions = fractions_between(float(learning.min()), float(learning.max()))
    has_all = (curves["method"] == "all").any()
    return [*fractions, 1.0] if has_all and fractions[-1] < 1 - 1e-9 else fractions


def at_fraction(curves: pd.DataFrame, metric: str, fraction: float) -> pd.Series:
    """The metric where ``fraction`` of the labels was first reached, by (method, seed).

    Cells whose curve does not span the fraction, or whose metric is empty there, are left out.
    """
    starts = curves.groupby(["method", "seed"])["labelled_fraction"].transform("first")
    reached = curves[(curves["labelled_fraction"] >= fraction - 1e-9) & (starts <= fraction + 1e-9)]
    first = reached.groupby(["method", "seed"]).head(1)
    return first.set_index(["method", "seed"])[metric].dropna()


def aulc(curves: pd.DataFrame, metric: str) -> pd.Series:
    """Area under the learning curve, the mean of the metric over it, by (method, seed)."""
    learning = curves[curves["method"] != "all"]
    return learning.groupby(["method", "seed"])[metric].mean()


def aulc_by_thirds(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric's mean over the first, second and last third of the steps, by (method, seed).

    Returns:
        Columns "early", "middle" and "late"; NaN where a curve is too short to have one.
    """
    learning = curves[curves["method"] != "all"]
    cells = learning.groupby(["method", "seed"])
    third = 3 * cells.cumcount() // cells["step"].transform("size")
    names = third.map({0: "early", 1: "middle", 2: "late"})
    means = learning.groupby(["method", "seed", names.rename("third")])[metric].mean()
    return means.unstack("third").reindex(columns=["early", "middle", "late"])


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


def overview(curves: pd.DataFrame) -> pd.DataFrame:
    """AULC of both metrics, mean reward and seconds of a run: mean and half interval a method."""
    grouped = curves.groupby(["method", "seed"])
    quantities = {
        "AULC macro F1": aulc(curves, "macro_f1"),
        "AULC micro F1": aulc(curves, "micro_f1"),
        "reward": grouped["reward"].mean().dropna(),
        "acquisition s": grouped["acquisition_seconds"].sum(),
        "training s": grouped["training_seconds"].sum(),
    }
    rows: dict[str, dict[tuple[str, str], float]] = {}
    for method in curves["method"].unique():
        rows[method] = {}
        for name, values in quantities.items():
            known = method in values.index.get_level_values("method")
            mean, half = interval(values[method].to_numpy()) if known else (np.nan, np.nan)
            rows[method] |= {(name, "mean"): mean, (name, "half"): half}
        rows[method]["seeds", ""] = curves[curves["method"] == method]["seed"].nunique()
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def labels_needed(curves: pd.DataFrame, metric: str, target: float) -> pd.Series:
    """Labels at which the metric first reached ``target``, by (method, seed); inf if it never did.

    A single noisy point counts as reached, for every method alike.
    """
    learning = curves[curves["method"] != "all"]
    reached = learning[learning[metric] >= target]
    first = reached.groupby(["method", "seed"])["n_labelled"].first().astype(float)
    cells = pd.MultiIndex.from_frame(learning[["method", "seed"]].drop_duplicates())
    return first.reindex(cells, fill_value=np.inf)


def label_saving(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Median labels needed for RANDOM's final score and for 95 % of ALL's, and what is saved.

    The targets are means over seeds, the same for every method.

    Returns:
        Rows: methods. Columns: for each target "labels" (median; inf: not in half of the seeds),
        "reached" (share of seeds) and "saved" (share of RANDOM's labels). Empty without RANDOM.
    """
    targets = {}
    random = curves[curves["method"] == "random"]
    if not random.empty:
        targets["RANDOM's final"] = random.groupby("seed")[metric].last().mean()
    everything = curves[curves["method"] == "all"]
    if not everything.empty:
        targets["95 % of ALL"] = 0.95 * everything[metric].mean()
    columns = {}
    for name, target in targets.items():
        needed = labels_needed(curves, metric, target)
        median = needed.groupby(level="method").median()
        columns[f"{name} ({target:.3f})", "labels"] = median
        reached = np.isfinite(needed).groupby(level="method").mean()
        columns[f"{name} ({target:.3f})", "reached"] = reached
        if "random" in median.index and np.isfinite(median["random"]):
            columns[f"{name} ({target:.3f})", "saved"] = 1 - median / median["random"]
    frame = pd.DataFrame(columns)
    return frame.reindex([m for m in learning_methods(curves) if m in frame.index])


def paired_tests(
    curves: pd.DataFrame, metric: str, baseline: str, methods: Sequence[str] | None = None
) -> pd.DataFrame:
    """Paired t-test of methods' AULC against a baseline's, over the seeds both have.

    Args:
        curves: see above.
        metric: a column of them.
        baseline: the method to compare with.
        methods: those to compare; None: all the others.

    Returns:
        Rows: methods. Columns: ``difference``, ``low`` and ``high`` of its 95 % interval,
        ``wins`` (seeds in which the method was better), ``seeds``, ``p`` and ``p_holm``, corrected
        over the methods compared. Methods with fewer than ``ENOUGH_SEEDS``
        seeds in common are left out.
    """
    areas = aulc(curves, metric).unstack("seed")
    rows = {}
    for method in learning_methods(curves):
        unwanted = methods is not None and method not in methods
        if unwanted or method == baseline or baseline not in areas.index:
            continue
        pair = areas.loc[[method, baseline]].dropna(axis=1)
        if pair.shape[1] < ENOUGH_SEEDS:
            continue
        ours, theirs = pair.to_numpy()
        test = stats.ttest_rel(ours, theirs)
        low, high = test.confidence_interval()
        rows[method] = {
            "difference": float(np.mean(ours - theirs)),
            "low": float(low),
            "high": float(high),
            "wins": int((ours > theirs).sum()),
            "seeds": len(ours),
            "p": float(test.pvalue),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    if not frame.empty:
        # two methods with equal curves (a difference of 0 throughout) differ in nothing
        frame["p"] = frame["p"].fillna(1.0)
        frame["p_holm"] = multipletests(frame["p"], method="holm")[1]
    return frame


def wins(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Share of common seeds in which the row's AULC is above the column's; a tie counts half."""
    areas = aulc(curves, metric).unstack("seed")
    methods = learning_methods(curves)
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


def class_shares(curves: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """Share of each class among the labelled where ``fraction`` was reached, mean over seeds."""
    counts = at_fraction(curves, "class_counts", fraction)
    rows = {key: np.array([int(n) for n in text.split()], float) for key, text in counts.items()}
    shares = pd.DataFrame.from_dict({key: n / n.sum() for key, n in rows.items()}, orient="index")
    shares.index = pd.MultiIndex.from_tuples(shares.index, names=["method", "seed"])
    order = [m for m in curves["method"].unique() if m in shares.index.get_level_values("method")]
    return shares.groupby(level="method").mean().loc[order]
