"""The ladder from the published agent to one that transfers, on all families of images.

    python -m benchmarks.run --preset chestct-features retinopathy-features --methods ... --out A
    python -m benchmarks.ladder A B --out ladder.md

writes one Markdown file: for every data set the methods' area under the learning curve, as a whole
and in the first, second and last third of the budget, beside MS; and for the policies that
transfer the question that was put beforehand: above MS on data they have not seen? And above
RANDOM, UHERDING and what it was before its training, where they were run? There Holm's correction
is over the policies and all data sets; in the tables of the data sets it is over the methods.
Whether a policy is *below* another method, as a whole or in a third, is judged without correction,
which would be to its favour. Tests are over seeds, that is over starts and initial weights, and
over the groups of the test set, where its cells have kept their predictions. AULC and label saving
have intervals over seeds alone.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from benchmarks.matrix.facts import BUILT_IN, REFERENCES
from benchmarks.matrix.methods import TRANSFERRED
from benchmarks.reporting import findings, results, statistics, tables
from benchmarks.reporting.results import Experiment
from benchmarks.reporting.twoway import LEVEL

METRIC = "macro_f1"
REFERENCE = "ms"
"""What every method is compared with."""
QUESTIONS = (REFERENCE, "random", "uherding", "uherding-plain")
"""What the policies that transfer are compared with."""
CONTROLS = tuple(dict.fromkeys(c for m in TRANSFERRED if (c := BUILT_IN[m].control)))
"""What policies were before their training, with which they alone are compared."""
DIGITS = 4
"""Of differences."""


@dataclass(frozen=True)
class LadderConfig:
    """Write the tables of the ladder."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that ``benchmarks.run --out`` has filled."""
    out: Path
    """The Markdown file."""


def main(config: LadderConfig) -> int:
    """Write the file; returns the exit status.

    Raises:
        FileNotFoundError: a folder holds no results.
        ValueError: results that cannot be compared.
    """
    experiments = results.load(config.folders)
    parts = [
        f"{each.name}:\n\n{markdown(table(each))}\n\n{basis(each)}".rstrip() for each in experiments
    ]
    for reference in (*QUESTIONS, *CONTROLS):
        answer = question({each.name: each.curves for each in experiments}, reference)
        if not answer.empty:
            title = f"Above {reference.upper()} on data not seen?"
            parts.append(f"{title}\n\n{markdown(answer)}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text("\n\n".join(parts) + "\n")
    for experiment in experiments:
        print("\n".join(findings.notes(experiment)))
        if experiment.curves["seed"].nunique() < statistics.ENOUGH_SEEDS:
            print(f"{experiment.name}: nothing is compared, as there are too few seeds")
    print(config.out.read_text())
    return 0


def table(experiment: Experiment) -> pd.DataFrame:
    """A row a method: AULC with its interval, its thirds, and the paired difference to MS."""
    curves = experiment.curves
    areas = statistics.aulc(curves, METRIC)
    thirds = statistics.aulc_by_thirds(curves, METRIC).groupby(level="method").mean()
    rewards = curves.groupby(["method", "seed"])["reward"].mean().groupby(level="method").mean()
    tests = statistics.paired_tests(experiment.compared, METRIC, REFERENCE)
    rows = {}
    for method in curves["method"].unique():
        row = {"AULC": tables.plus_minus(*statistics.interval(areas[method].to_numpy()))}
        row |= {name: f"{value:.3f}" for name, value in thirds.loc[method].items()}
        row["reward"] = f"{rewards[method]:.3f}"
        rows[experiment.label(method)] = row | tables.paired_row(tests, method, "- MS", DIGITS)
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def basis(experiment: Experiment) -> str:
    """What the tests of ``table`` are over, and what they could find."""
    tests = statistics.paired_tests(experiment.compared, METRIC, REFERENCE)
    over = f"Paired t-tests over {tables.sampled([tests])}. {tables.power([tests], DIGITS)}"
    return "" if tests.empty else over


def question(curves: dict[str, pd.DataFrame], reference: str = REFERENCE) -> pd.DataFrame:
    """For each policy and each data set: difference to a method, corrected, and saving.

    "power 0.8 at" is the difference that would be found with that probability, uncorrected; "below
    in" names the thirds in which the policy is significantly below, uncorrected. The saving is the
    labels that the method needs, over those that the policy needs, to first reach RANDOM's final
    score: medians over seeds, with a bootstrap interval over them.

    Raises:
        ValueError: a policy and the method have not the same seeds everywhere.
    """
    rows: dict[str, dict[str, Any]] = {}
    uncorrected = []
    asked = [m for m in TRANSFERRED if reference in (*QUESTIONS, BUILT_IN[m].control)]
    for method in asked:
        for name, each in curves.items():
            if not {method, reference} <= {*each["method"]}:
                continue
            pair = each[each["method"].isin([method, reference])]
            seeds = {m: set(own["seed"]) for m, own in pair.groupby("method")}
            if seeds[method] != seeds[reference]:
                raise ValueError(f"{name}: {seeds} are not the same seeds; finish the run first")
            tests = statistics.paired_tests(pair, METRIC, reference, [method])
            if tests.empty:
                continue
            row = tables.paired_row(tests, method, f"- {reference.upper()}", DIGITS)
            row["power 0.8 at"] = f"{tests.loc[method, 'detectable']:.{DIGITS}f}"
            row["below in"] = ", ".join(_below_in(pair, method, reference)) or "-"
            row["label saving"] = _saving(each, method, reference)
            rows[f"{method.upper()}, {name}"] = row
            uncorrected.append(float(tests.loc[method, "p"]))
    if rows:
        corrected = statistics.holm(np.array(uncorrected))
        for row, p in zip(rows.values(), corrected, strict=True):
            row["p, Holm"] = tables.p_value(p)
    return pd.DataFrame.from_dict(rows, orient="index")


def _below_in(pair: pd.DataFrame, method: str, reference: str) -> list[str]:
    """The thirds of the budget in which a method is significantly below the other."""
    found = []
    for third, rows in pair.groupby(statistics.thirds(pair), sort=False):
        tests = statistics.paired_tests(rows, METRIC, reference, [method])
        if tests.loc[method, "p"] < LEVEL and tests.loc[method, "difference"] < 0:
            found.append(str(third))
    return found


N_RESAMPLES = 2000


def _saving(curves: pd.DataFrame, method: str, reference: str) -> str:
    """Labels that one method needs over those that another needs, an interval, and both numbers.

    An end of the interval is "inf" where the first does not get there in most of the seeds drawn.

    "-" if one of the medians is of runs that never get there.
    """
    random = curves[curves["method"] == REFERENCES[0]]
    if random.empty:
        return "-"
    target = random.groupby("seed")[METRIC].last().mean()
    needed = statistics.labels_needed(curves, METRIC, target).unstack("method")
    both = needed[[reference, method]].dropna().to_numpy()  # other methods may have more seeds
    theirs, ours = np.median(both, axis=0)
    if not np.isfinite([theirs, ours]).all():
        return "-"
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(both), size=(N_RESAMPLES, len(both)))
    medians = np.median(both[chosen], axis=1)
    with np.errstate(invalid="ignore"):  # resamples in which neither gets there say nothing
        ratios = medians[:, 0] / medians[:, 1]
    # no mean of two: one of them may be infinite
    low, high = np.nanpercentile(ratios, (2.5, 97.5), method="inverted_cdf")
    return f"{theirs / ours:.2f} [{low:.2f}, {high:.2f}] ({theirs:.0f} / {ours:.0f})"


def markdown(frame: pd.DataFrame) -> str:
    """A table as GitHub shows it."""
    return str(frame.to_markdown(disable_numparse=True))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(LadderConfig, description=__doc__)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.ladder: {error}")
