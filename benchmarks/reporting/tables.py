"""Tables of a report: as people read them, in Markdown, LaTeX and HTML, and as numbers in CSV."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.matrix.facts import REFERENCES
from benchmarks.reporting import statistics
from benchmarks.reporting.results import Experiment, label
from benchmarks.reporting.twoway import Scores

METRICS = {"macro_f1": "Macro F1", "micro_f1": "Micro F1"}
PUBLISHED_PRESET = "paper-chestCT"
"""The paper's Tables 1 and 2 are of this data set."""
ABOVE, BELOW, BELOW_BEST = "▲", "▼", "†"
"""Significantly above and below RANDOM (or another baseline), and significantly below the best."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": "$<$", ">": "$>$",
    ABOVE: r"$\bigtriangleup$", BELOW: r"$\bigtriangledown$", BELOW_BEST: r"$\dagger$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table as people read it, and its numbers."""

    name: str
    """Of its files and of its element on the page."""
    caption: str
    cells: pd.DataFrame
    """Text, as it is shown."""
    numbers: pd.DataFrame
    """What the CSV holds."""
    bold: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of the cells that hold the best."""
    symbols: tuple[tuple[int, int, str], ...] = ()
    """(row, column, symbols) of what is significant."""
    legend: str = ""
    """What bold and the symbols mean."""


# --- every table ----------------------------------------------------------------------------------


def all_tables(experiment: Experiment) -> list[Table]:
    """Every table of a data set."""
    curves, everything = experiment.curves, experiment.everything
    fractions = statistics.report_fractions(curves, experiment.supervised)
    tables = []
    for number, (metric, title) in enumerate(METRICS.items(), 1):
        caption = (
            f"Table {number}. {title} on the test set by share of labels, mean ± 95 % interval "
            "over seeds"
        )
        tables.append(score_table(f"table{number}", caption, experiment, metric, fractions))
    for metric, title in METRICS.items():
        name = f"retrained_{metric}"
        if everything[name].notna().any():
            passes = experiment.config["classifier"]["pretrain_passes"]
            how = experiment.config.get("retraining") or f"{passes} passes"  # of older programs
            caption = (
                f"{title} of a classifier trained from scratch on what each method labelled ({how})"
            )
            at = [f for f in experiment.config["retrain_at"] if f <= fractions[-1] + 1e-9]
            tables.append(score_table(name, caption, experiment, name, at))
    tables.append(_overview(experiment))
    if not curves.empty:
        tables.append(_thirds(experiment))
        saving = statistics.label_saving(curves, experiment.supervised, "macro_f1")
        if not saving.empty:
            tables.append(_label_saving(experiment, saving, int(everything["n_labelled"].max())))
    for baseline, tests in baseline_tests(experiment).items():
        tables.append(_tests(experiment, tests, baseline))
    if experiment.compared["method"].nunique() > 1:
        tables += [_wins(experiment), _ranks(experiment)]
    return tables


def score_table(
    name: str, caption: str, experiment: Experiment, metric: str, fractions: list[float]
) -> Table:
    """Methods x labelled fractions; below each method the paper's row, where there is one."""
    everything = experiment.everything
    numbers = statistics.table(everything, metric, fractions)
    cells = pd.DataFrame(
        {f"{fraction:.0%}": means_and_halves(numbers[fraction]) for fraction in fractions},
        index=[experiment.label(method) for method in numbers.index],
    )
    columns = {
        place: Scores.of(statistics.rows_at(experiment.compared, metric, fraction), metric)
        for place, fraction in enumerate(fractions)
    }
    table = with_marks(Table(name, caption, cells, numbers), experiment, columns)
    published = _published(metric) if experiment.config.get("preset") == PUBLISHED_PRESET else None
    if published is None or fractions != list(statistics.PAPER_FRACTIONS):
        return table
    return _with_the_papers(table, published)


def scores_as_text(experiment: Experiment) -> str:
    """Tables 1 and 2 for the terminal."""
    fractions = statistics.report_fractions(experiment.curves, experiment.supervised)
    tables = [
        f"{title} by share of labels, mean ± 95 % interval over seeds\n"
        + score_table("", "", experiment, metric, fractions).cells.to_string()
        for metric, title in METRICS.items()
    ]
    return "\n\n".join(tables)


def _published(metric: str) -> pd.DataFrame | None:
    paper = pd.read_csv(Path(__file__).with_name("paper_tables.csv"))
    rows = paper[paper["metric"] == metric].set_index("method")
    return None if rows.empty else rows


def _with_the_papers(table: Table, published: pd.DataFrame) -> Table:
    """The same table with the paper's row below each of its methods."""
    numbers = table.numbers.copy()
    names: list[str] = []
    rows: list[list[str]] = []
    places: dict[int, int] = {}
    for old, method in enumerate(table.numbers.index):
        places[old] = len(rows)
        names.append(table.cells.index[old])
        rows.append(list(table.cells.iloc[old]))
        if method in published.index:
            values = published.loc[method, ["26", "40", "54", "68", "82", "100"]]
            names.append("published")
            rows.append(["-" if np.isnan(v) else f"{v:.3f}" for v in values])
            numbers.loc[f"{method}, published"] = [n for value in values for n in (value, np.nan)]
    return replace(
        table,
        caption=f"{table.caption}; below it the paper's",
        cells=pd.DataFrame(rows, names, table.cells.columns),
        numbers=numbers,
        bold=frozenset((places[row], column) for row, column in table.bold),
        symbols=tuple((places[row], column, text) for row, column, text in table.symbols),
    )


def _overview(experiment: Experiment) -> Table:
    numbers = statistics.overview(experiment.curves, experiment.everything)
    digits = {"acquisition s": 1, "training s": 1}
    names = list(dict.fromkeys(numbers.columns.get_level_values(0).drop("seeds")))
    cells = pd.DataFrame(
        {name: means_and_halves(numbers[name], digits.get(name, 3)) for name in names},
        index=[experiment.label(method) for method in numbers.index],
    )
    cells["seeds"] = numbers["seeds", ""].astype(int).to_numpy()
    caption = (
        "Area under the learning curve (AULC), mean reward, and seconds of a run: the method's own "
        "(choosing, learning) and the environment's; mean ± 95 % interval over seeds"
    )
    areas = {place: Scores.of(experiment.compared, metric) for place, metric in enumerate(METRICS)}
    return with_marks(Table("overview", caption, cells, numbers), experiment, areas)


def _thirds(experiment: Experiment) -> Table:
    each = statistics.aulc_by_thirds(experiment.curves, "macro_f1")
    order = list(experiment.curves["method"].unique())
    numbers = pd.DataFrame.from_dict(
        {
            method: {
                (name, part): value
                for name in each
                for part, value in zip(
                    ("mean", "half"),
                    statistics.interval(each.loc[method, name].to_numpy()),
                    strict=True,
                )
            }
            for method in order
        },
        orient="index",
    )
    cells = pd.DataFrame(
        {name: means_and_halves(numbers[name]) for name in each},
        index=[experiment.label(method) for method in order],
    )
    caption = "Area under the learning curve, macro F1, in each third of the budget"
    compared = experiment.compared
    names = statistics.thirds(compared)
    columns = {
        place: Scores.of(compared[names == name], "macro_f1") for place, name in enumerate(each)
    }
    return with_marks(Table("thirds", caption, cells, numbers), experiment, columns)


def _label_saving(experiment: Experiment, saving: pd.DataFrame, most: int) -> Table:
    columns: list[tuple[str, list[str]]] = []
    for target in dict.fromkeys(saving.columns.get_level_values(0)):
        part = saving[target]
        labels = [f"{n:.0f}" if np.isfinite(n) else f"> {most}" for n in part["labels"]]
        columns.append((f"{target}: labels", labels))
        columns.append(("reached in", [f"{x:.0%}" for x in part["reached"]]))
        if "saved" in part:
            saved = [f"{x:.0%}" if np.isfinite(x) else "-" for x in part["saved"]]
            columns.append(("saved", saved))
    cells = pd.DataFrame(
        list(zip(*(values for _, values in columns), strict=True)),
        index=[experiment.label(method) for method in saving.index],
        columns=[name for name, _ in columns],
    )
    caption = (
        "Labels needed to first reach a macro F1 (median over seeds; reached in which share of "
        "them), and the share of RANDOM's labels saved"
    )
    return Table("label_saving", caption, cells, saving)


def _tests(experiment: Experiment, tests: pd.DataFrame, baseline: str) -> Table:
    name = experiment.label(baseline)
    rows = {
        experiment.label(method): paired_row(tests, method, f"AULC minus {name}'s")
        for method in tests.index
    }
    cells = pd.DataFrame.from_dict(rows, orient="index")
    above, below = statistics.significant(tests)
    symbols = [(row, 0, ABOVE) for row, method in enumerate(tests.index) if method in above]
    symbols += [(row, 0, BELOW) for row, method in enumerate(tests.index) if method in below]
    over = sampled([tests])
    caption = f"Paired t-tests against {name}, macro F1, over {over}; intervals are uncorrected"
    legend = (
        f"{ABOVE} {BELOW} significantly above, below {name} (Holm's correction, 5 %). "
        + power([tests])
    )
    return Table(f"tests_{file_name(baseline)}", caption, cells, tests, frozenset(),
                 tuple(symbols), legend)  # fmt: skip


def _wins(experiment: Experiment) -> Table:
    numbers = statistics.wins(experiment.compared, "macro_f1")
    cells = numbers.map(lambda share: "" if np.isnan(share) else f"{share:.0%}")
    cells = cells.rename(index=experiment.label, columns=experiment.label)
    caption = "Share of seeds in which the row's method has the greater AULC of macro F1"
    return Table("wins", caption, cells, numbers)


def _ranks(experiment: Experiment) -> Table:
    ranks = statistics.mean_ranks(experiment.compared, "macro_f1")
    cells = ranks.map("{:.1f}".format).to_frame("mean rank").rename(index=experiment.label)
    caption = "Mean rank over seeds by AULC of macro F1, 1 the best"
    return Table("ranks", caption, cells, ranks.to_frame("mean_rank"))


# --- tests and marks ------------------------------------------------------------------------------


def baseline_tests(experiment: Experiment) -> dict[str, pd.DataFrame]:
    """Paired tests of AULC, macro F1, against each of the experiment's baselines that it has."""
    tests = {
        baseline: statistics.paired_tests(experiment.compared, "macro_f1", baseline, methods)
        for baseline, methods in experiment.baselines.items()
    }
    return {baseline: frame for baseline, frame in tests.items() if not frame.empty}


def sampled(tests: Sequence[pd.DataFrame]) -> str:
    """What tests are over, in words: the two samples, or the seeds alone."""
    groups = {int(n) for frame in tests if not frame.empty for n in frame["groups"]}
    if not groups or 0 in groups:
        return "seeds only, the test set being taken as given"
    return f"seeds and the {max(groups)} groups (scans, patients) of the test set"


def power(tests: Sequence[pd.DataFrame], digits: int = 3) -> str:
    """The difference that tests would find with probability 0.8, in a sentence; empty without any.

    Of several tests it is the median, with the smallest and the largest.
    """
    made = [frame for frame in tests if not frame.empty]
    if not made:
        return ""
    found = pd.concat(made)
    numbers = found["detectable"].quantile([0, 0.5, 1])
    low, middle, high = (f"{n:.{digits}f}" for n in numbers)
    spread = "" if low == high else f" (the median; {low} to {high})"
    both = "seeds and test images" if (found["groups"] > 0).all() else "seeds"
    return (
        f"With these {both} a difference of {middle}{spread} would be found with probability 0.8, "
        "uncorrected."
    )


def paired_row(tests: pd.DataFrame, method: str, header: str, digits: int = 3) -> dict[str, str]:
    """The cells of a method's paired test; none if it was not tested.

    Args:
        tests: of ``statistics.paired_tests``.
        method: one of its rows, or not.
        header: of the column with the difference.
        digits: of the difference and its interval.
    """
    if method not in tests.index:
        return {}
    test = tests.loc[method]
    return {
        header: f"{test['difference']:+.{digits}f}",
        "95 % interval": f"[{test['low']:+.{digits}f}, {test['high']:+.{digits}f}]",
        "better in": f"{test['wins']:.0f} of {test['seeds']:.0f}",
        "p": p_value(test["p"]),
        "p, Holm": p_value(test["p_holm"]),
    }


def with_marks(table: Table, experiment: Experiment, columns: dict[int, Scores]) -> Table:
    """The table with the best of a column in bold, and symbols for what is significant in it.

    Args:
        table: with a row a method, as its ``numbers`` have them.
        experiment: what it is of. Bounds, and methods that are one point, are not marked.
        columns: place of a column -> its scores, of compared methods.
    """
    methods = list(experiment.compared["method"].unique())
    rows = {method: row for row, method in enumerate(table.numbers.index)}
    random = REFERENCES[0]
    bold, symbols, tests = set(), [], []
    for column, scores in columns.items():
        standing = statistics.standing(scores, methods)
        all_alike = scores.values.groupby(level="seed").nunique().max() == 1  # the common start
        if standing is None or all_alike:
            continue
        bold.add((rows[standing.best], column))
        against_random = statistics.compare(scores, random, methods)
        tests += [standing.tests, against_random]
        above, below = statistics.significant(against_random)
        below_best = standing.below_best
        for method in standing.methods:
            text = ABOVE * (method in above) + BELOW * (method in below)
            text += BELOW_BEST * (method in below_best)
            if text:
                symbols.append((rows[method], column, text))
    if not bold:
        return table
    legend = (
        f"Bold: the greatest mean. {BELOW_BEST} significantly below it. "
        + f"{ABOVE} {BELOW} significantly above, below {label(random)}. " * (random in methods)
        + f"Paired t-tests over {sampled(tests)}; Holm's correction within a column, 5 %. "
        + power(tests)
    )
    return replace(table, bold=frozenset(bold), symbols=tuple(symbols), legend=legend)


# --- text -----------------------------------------------------------------------------------------


def p_value(p: float) -> str:
    """Three digits; what would be 0.000 as a bound."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def means_and_halves(numbers: pd.DataFrame, digits: int = 3) -> list[str]:
    """``plus_minus`` of every row's "mean" and "half"."""
    return [plus_minus(mean, half, digits) for mean, half in numbers[["mean", "half"]].to_numpy()]


def plus_minus(mean: float, half: float, digits: int = 3) -> str:
    """``0.612 ± 0.031``; without a width for a single value, and a dash for none."""
    if np.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if np.isnan(half) else f" ± {half:.{digits}f}")


def file_name(method: str) -> str:
    """A method's name where only letters, digits and hyphens are safe."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in method)


# --- formats --------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """Caption, table and legend as GitHub shows them."""
    frame = _formatted(table, str, "**{}**", " {}")
    parts = [table.caption, frame.to_markdown(disable_numparse=True), table.legend]
    return "\n\n".join(part for part in parts if part) + "\n"


def latex(table: Table) -> str:
    """A ``table`` environment."""
    frame = _formatted(table, latex_escaped, r"\textbf{{{}}}", r"\textsuperscript{{{}}}")
    caption = latex_escaped(f"{table.caption}. {table.legend}".strip())
    return str(frame.to_latex(escape=False, caption=caption))


def to_html(table: Table) -> str:
    """A ``<table>``."""
    frame = _formatted(table, html.escape, "<b>{}</b>", "<sup>{}</sup>")
    return str(frame.to_html(border=0, escape=False, index_names=False, justify="right"))


def latex_escaped(text: str) -> str:
    """The text with what LaTeX would read as a command spelled out."""
    return "".join(LATEX.get(character, character) for character in text)


def _formatted(table: Table, escape: Callable[[str], str], bold: str, symbol: str) -> pd.DataFrame:
    """The cells in a format: escaped, and marked by two patterns."""
    rows: Sequence[list[str]] = [[escape(str(x)) for x in row] for row in table.cells.to_numpy()]
    for row, column in table.bold:
        rows[row][column] = bold.format(rows[row][column])
    for row, column, text in table.symbols:
        rows[row][column] += symbol.format(escape(text))
    index, columns = (
        [escape(str(x)) for x in names] for names in (table.cells.index, table.cells.columns)
    )
    return pd.DataFrame(rows, index=index, columns=columns)


def write(table: Table, folder: Path) -> None:
    """Markdown, LaTeX and CSV."""
    path = folder / table.name
    path.with_suffix(".md").write_text(markdown(table))
    path.with_suffix(".tex").write_text(latex(table))
    table.numbers.to_csv(path.with_suffix(".csv"))
