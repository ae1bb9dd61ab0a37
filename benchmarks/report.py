"""Tables, figures and tests of one or several run folders, and a page with all of it.

    python -m benchmarks.report runs/first
    python -m benchmarks.report runs/monday runs/tuesday --out runs/both

writes into ``runs/first/report/`` (or ``--out``): ``report.html``, one self-contained page, and a
folder a data set with every table as Markdown, LaTeX and CSV and every figure as PNG and SVG.
Unfinished cells are named and take no part in any number.
"""

import base64
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jinja2
import numpy as np
import pandas as pd
import tyro

from benchmarks import figures, results, statistics
from benchmarks.methods import BOUNDS, METHODS
from benchmarks.presets import PAPER_FRACTIONS
from benchmarks.results import Experiment

METRICS = {"macro_f1": "Macro F1", "micro_f1": "Micro F1"}
PUBLISHED_PRESET = "paper-chestCT"
"""The paper's Tables 1 and 2 are of this data set."""
BASELINES: dict[str, tuple[str, ...] | None] = {
    "random": None, "ms": None, "frozen": ("drla",), "frozen-set": ("drla-set", "drla-set-credit"),
}  # fmt: skip
"""Baseline -> the methods tested against it; None: all. Agents must beat their untrained actors."""


@dataclass(frozen=True)
class ReportConfig:
    """Make tables, figures and tests of run folders."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that ``benchmarks.run --out`` has filled."""
    out: Path | None = None
    """Where to write; otherwise ``report`` in the first folder."""


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


@dataclass(frozen=True)
class Picture:
    """A figure that has been written."""

    name: str
    caption: str
    svg: Path

    @property
    def data_uri(self) -> str:
        """The SVG, to be embedded."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.read_bytes()).decode()


@dataclass(frozen=True)
class Chapter:
    """What the page says about one data set."""

    experiment: Experiment
    notes: list[str]
    """What a reader must know before reading numbers."""
    findings: list[str]
    """What can be concluded."""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def main(config: ReportConfig) -> int:
    """Write the report; returns the exit status.

    Raises:
        FileNotFoundError: a folder holds no results.
        ValueError: results that cannot be compared.
    """
    if not config.folders:
        raise ValueError("name the run folders to report on")
    experiments = results.load(config.folders)
    out = config.out or config.folders[0] / "report"
    chapters = []
    for experiment in experiments:
        folder = out / experiment.name
        folder.mkdir(parents=True, exist_ok=True)
        chapters.append(write_chapter(experiment, folder))
    page = out / "report.html"
    page.write_text(render(chapters))
    for chapter in chapters:
        print(f"{chapter.experiment.name}")
        for line in (*chapter.notes, *chapter.findings):
            print(f"  {line}")
    print(f"Report: {page}")
    return 0


def write_chapter(experiment: Experiment, folder: Path) -> Chapter:
    """Write the tables and figures of one data set."""
    chapter = Chapter(experiment, notes(experiment), findings(experiment))
    if experiment.curves.empty:
        return chapter
    for table in all_tables(experiment):
        write_table(table, folder)
        chapter.tables.append(table)
    for name, caption, figure in all_figures(experiment):
        chapter.pictures.append(Picture(name, caption, figures.save(figure, folder, name)))
    return chapter


# --- words ----------------------------------------------------------------------------------------


def notes(experiment: Experiment) -> list[str]:
    """What takes no part, and what was not the same throughout."""
    said = [
        f"{cell.method.upper()}, seed {cell.seed}, failed after {cell.steps} steps and is in no "
        f"number: {cell.error}"
        for cell in experiment.unfinished
        if cell.error
    ]
    open_seeds: dict[str, list[int]] = {}
    for cell in experiment.unfinished:
        if not cell.error:
            open_seeds.setdefault(cell.method, []).append(cell.seed)
    groups: dict[str, list[str]] = {}
    for method, seeds in open_seeds.items():
        groups.setdefault(", ".join(map(str, sorted(seeds))), []).append(method.upper())
    for listed, names in groups.items():
        said.append(f"Unfinished and in no number: seeds {listed} of {', '.join(names)}")
    if len(experiment.programs) > 1:
        said.append("The cells were run by different versions, or on different machines; see above")
    seeds = experiment.curves.groupby("method")["seed"].unique().map(lambda s: tuple(sorted(s)))
    if seeds.nunique() > 1:
        listed = ", ".join(f"{m.upper()} {len(seeds[m])}" for m in experiment.methods)
        said.append(f"The methods have finished different seeds; numbers of seeds: {listed}")
    return said


def findings(experiment: Experiment) -> list[str]:
    """What the paired tests allow to be said of AULC, macro F1."""
    n = len(experiment.seeds)
    if n < statistics.ENOUGH_SEEDS:
        seeds = "1 seed" if n == 1 else f"{n} seeds"
        return [
            f"With {seeds} nothing can be concluded; at least {statistics.ENOUGH_SEEDS} are "
            "needed. The numbers describe these runs and no more."
        ]
    said = []
    curves = without_bounds(experiment.curves)
    for baseline, tests in baseline_tests(curves).items():
        compared = BASELINES[baseline]
        told = tests[tests["p_holm"] < 0.05]
        better = [m.upper() for m in told.index[told["difference"] > 0]]
        worse = [m.upper() for m in told.index[told["difference"] < 0]]
        rest = [m.upper() for m in tests.index if m not in told.index]
        others = [m for m in statistics.learning_methods(curves) if m != baseline]
        untested = [m.upper() for m in compared or others if m in others and m not in tests.index]
        groups = {
            "better": better,
            "worse": worse,
            "not told apart": rest,
            f"fewer than {statistics.ENOUGH_SEEDS} seeds in common": untested,
        }
        parts = [f"{word}: {', '.join(names)}" for word, names in groups.items() if names]
        fewest, most = tests["seeds"].min(), tests["seeds"].max()
        n_seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
        said.append(
            f"Against {baseline.upper()} by AULC of macro F1 over {n_seeds} seeds (paired t-test, "
            f"Holm, 5 %): {'; '.join(parts)}."
        )
    return said


def without_bounds(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves of methods that could be used: a bound is not tested or ranked among them."""
    return curves[~curves["method"].isin(BOUNDS)]


def baseline_tests(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Paired tests of macro F1 against each of ``BASELINES`` that can be made."""
    tests = {
        baseline: statistics.paired_tests(curves, "macro_f1", baseline, compared)
        for baseline, compared in BASELINES.items()
    }
    return {baseline: frame for baseline, frame in tests.items() if not frame.empty}


def label(method: str) -> str:
    """A method's name in tables and figures."""
    return method.upper() + (" (bound)" if method in BOUNDS else "")


# --- tables ---------------------------------------------------------------------------------------


def all_tables(experiment: Experiment) -> list[Table]:
    """Every table of a data set."""
    curves = experiment.curves
    fractions = statistics.report_fractions(curves)
    tables = []
    for number, (metric, title) in enumerate(METRICS.items(), 1):
        caption = (
            f"Table {number}. {title} on the test set by share of labels, mean ± 95 % interval"
        )
        tables.append(score_table(f"table{number}", caption, experiment, metric, fractions))
    for metric, title in METRICS.items():
        if curves[f"retrained_{metric}"].notna().any():
            caption = f"{title} of a classifier trained from scratch on what each method labelled"
            name = f"retrained_{metric}"
            tables.append(score_table(name, caption, experiment, name, fractions))
    tables.append(_overview(curves))
    if statistics.learning_methods(curves):
        tables.append(_thirds(curves))
    saving = statistics.label_saving(curves, "macro_f1")
    if not saving.empty:
        tables.append(_label_saving(saving, int(curves["n_labelled"].max())))
    usable = without_bounds(curves)
    for baseline, tests in baseline_tests(usable).items():
        tables.append(_tests(tests, baseline))
    if len(statistics.learning_methods(usable)) > 1:
        tables.append(_wins(usable))
    ranks = statistics.mean_ranks(usable, "macro_f1")
    if len(ranks) > 1:
        cells = ranks.map("{:.1f}".format).to_frame("mean rank").rename(index=str.upper)
        caption = "Mean rank over seeds by AULC of macro F1, 1 the best"
        tables.append(Table("ranks", caption, cells, ranks.to_frame("mean_rank")))
    return tables


def score_table(
    name: str, caption: str, experiment: Experiment, metric: str, fractions: list[float]
) -> Table:
    """Methods x labelled fractions; below each method the paper's row, where there is one."""
    numbers = statistics.table(experiment.curves, metric, fractions)
    cells = pd.DataFrame(
        {f"{fraction:.0%}": means_and_halves(numbers[fraction]) for fraction in fractions},
        index=[label(method) for method in numbers.index],
    )
    published = _published(metric) if experiment.config.get("preset") == PUBLISHED_PRESET else None
    if published is None or fractions != list(PAPER_FRACTIONS):
        return Table(name, caption, cells, numbers)
    rows = []
    for method, row in zip(list(numbers.index), cells.itertuples(), strict=True):
        rows.append((row[0], *row[1:]))
        if method in published.index:
            values = published.loc[method, ["26", "40", "54", "68", "82", "100"]]
            rows.append(("published", *("-" if np.isnan(v) else f"{v:.3f}" for v in values)))
            pairs = [number for value in values for number in (value, np.nan)]
            numbers.loc[f"{method}, published"] = pairs
    with_paper = pd.DataFrame([row[1:] for row in rows], [row[0] for row in rows], cells.columns)
    return Table(name, f"{caption}; below it the paper's", with_paper, numbers)


def scores_as_text(experiment: Experiment) -> str:
    """Tables 1 and 2 for the terminal."""
    fractions = statistics.report_fractions(experiment.curves)
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


def _overview(curves: pd.DataFrame) -> Table:
    numbers = statistics.overview(curves)
    digits = {"acquisition s": 1, "training s": 1}
    names = list(dict.fromkeys(numbers.columns.get_level_values(0).drop("seeds")))
    cells = pd.DataFrame(
        {name: means_and_halves(numbers[name], digits.get(name, 3)) for name in names},
        index=[label(method) for method in numbers.index],
    )
    cells["seeds"] = numbers["seeds", ""].astype(int).to_numpy()
    caption = (
        "Area under the learning curve, mean reward, and seconds a run: the method's own "
        "(choosing, learning) and the environment's; mean ± 95 % interval"
    )
    return Table("overview", caption, cells, numbers)


def _thirds(curves: pd.DataFrame) -> Table:
    each = statistics.aulc_by_thirds(curves, "macro_f1")
    order = [m for m in statistics.learning_methods(curves)]
    intervals = {
        method: {name: statistics.interval(each.loc[method, name].to_numpy()) for name in each}
        for method in order
    }
    numbers = pd.DataFrame.from_dict(
        {
            method: {(name, part): value for name, pair in own.items()
                     for part, value in zip(("mean", "half"), pair, strict=True)}
            for method, own in intervals.items()
        },
        orient="index",
    )  # fmt: skip
    cells = pd.DataFrame(
        {name: means_and_halves(numbers[name]) for name in each} if order else {},
        index=[label(method) for method in order],
    )
    caption = "Area under the learning curve, macro F1, in each third of the budget"
    return Table("thirds", caption, cells, numbers)


def _label_saving(saving: pd.DataFrame, most: int) -> Table:
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
        index=[label(method) for method in saving.index],
        columns=[name for name, _ in columns],
    )
    caption = (
        "Labels needed to first reach a macro F1 (median over seeds; reached in which share of "
        "them), and the share of RANDOM's labels saved"
    )
    return Table("label_saving", caption, cells, saving)


def _tests(tests: pd.DataFrame, baseline: str) -> Table:
    cells = pd.DataFrame(
        {
            f"AULC - {baseline.upper()}'s": tests["difference"].map("{:+.3f}".format),
            "95 % interval": [
                f"[{low:+.3f}, {high:+.3f}]"
                for low, high in zip(tests["low"], tests["high"], strict=True)
            ],
            "better in": [
                f"{w} of {n}" for w, n in zip(tests["wins"], tests["seeds"], strict=True)
            ],
            "p": tests["p"].map(p_value),
            "p, Holm": tests["p_holm"].map(p_value),
        }
    ).rename(index=str.upper)
    caption = f"Paired t-tests against {baseline.upper()}, macro F1; intervals are uncorrected"
    return Table(f"tests_{baseline}", caption, cells, tests)


def _wins(curves: pd.DataFrame) -> Table:
    numbers = statistics.wins(curves, "macro_f1")
    cells = numbers.map(lambda share: "" if np.isnan(share) else f"{share:.0%}")
    cells = cells.rename(index=str.upper, columns=str.upper)
    caption = "Share of seeds in which the row's method has the greater AULC of macro F1"
    return Table("wins", caption, cells, numbers)


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


def write_table(table: Table, folder: Path) -> None:
    """Markdown, LaTeX and CSV."""
    path = folder / table.name
    path.with_suffix(".md").write_text(
        f"{table.caption}\n\n{table.cells.to_markdown(disable_numparse=True)}\n"
    )
    latex = table.cells.to_latex(escape=True, caption=table.caption.replace("%", r"\%"))
    path.with_suffix(".tex").write_text(latex.replace("±", r"$\pm$"))
    table.numbers.to_csv(path.with_suffix(".csv"))


# --- figures --------------------------------------------------------------------------------------


def all_figures(experiment: Experiment) -> list[tuple[str, str, Any]]:
    """Name, caption and drawing of every figure of a data set."""
    curves = experiment.curves
    if not statistics.learning_methods(curves):
        return []
    n = len(experiment.seeds)
    title = f"{experiment.name}, mean over {n} seed{'s' * (n > 1)}"
    if n >= statistics.ENOUGH_SEEDS:
        title += ", 95 % band"
    fractions = statistics.report_fractions(curves)
    middle = fractions[len(fractions) // 3]
    names = experiment.config["class_names"]
    of_the_paper = not set(experiment.methods).isdisjoint(figures.PAPER_STYLES)
    drawn = []
    if of_the_paper:
        figure = figures.learning_curves(curves, title)
        caption = "Figure 2. Learning curves of the paper's methods"
        drawn.append(("learning_curves", caption, figure))
    figure = figures.every_method(curves, title)
    drawn.append(("every_method", "Macro F1 of every method, a panel each", figure))
    if of_the_paper:
        figure = figures.rewards_beside_scores(curves, title)
        drawn.append(("rewards", "What the reward says beside what F1 says", figure))
    figure = figures.class_balance(curves, middle, names, experiment.name)
    drawn.append(("class_balance", "The classes of what was labelled", figure))
    return drawn


# --- the page -------------------------------------------------------------------------------------


def render(chapters: list[Chapter]) -> str:
    """The page, self-contained."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        chapters=chapters, methods=METHODS, html=_html
    )


def _html(table: Table) -> str:
    return table.cells.to_html(border=0, escape=True, index_names=False, justify="right")


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(ReportConfig, description=__doc__)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.report: {error}")
