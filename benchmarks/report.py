"""Which method is better, and is the difference significant? A page, tables and figures.

    python -m benchmarks.report runs/first
    python -m benchmarks.report runs/monday runs/tuesday --out runs/both

reads run folders and writes into ``runs/first/report/`` (or ``--out``): ``report.html``, one
self-contained page that begins with the answer, and a folder a data set with every table as
Markdown, LaTeX and CSV and every figure as PNG and SVG. Unfinished cells are named and take no part
in any number.
"""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure

from benchmarks.matrix.facts import REFERENCES
from benchmarks.reporting import figures, findings, first_files, page, results, statistics, tables
from benchmarks.reporting.page import Chapter, Picture, Section
from benchmarks.reporting.results import Cell, Experiment

MANY_CELLS = 600
"""From which on experiments are read and chapters written by several processes, whose start takes
some seconds."""


@dataclass(frozen=True)
class ReportConfig:
    """Make tables, figures and tests of run folders."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that ``benchmarks.run --out`` has filled."""
    out: Path | None = None
    """Where to write; otherwise ``report`` in the first folder."""


def main(config: ReportConfig) -> int:
    """Write the report; returns the exit status.

    Raises:
        FileNotFoundError: a folder holds no results.
        ValueError: results that cannot be compared.
    """
    if not config.folders:
        raise ValueError("name the run folders to report on")
    found = results.find(config.folders)
    out = config.out or config.folders[0] / "report"
    with _mapping(found) as each:
        experiments = list(each(results.read, found.keys(), found.values()))
        chapters = list(each(write_chapter, experiments, [out / name for name in found]))
    path = out / "report.html"
    path.write_text(page.render(chapters))
    for chapter in chapters:
        print(chapter.experiment.name)
        for line in (chapter.headline, *chapter.notes, *chapter.comparisons):
            print(f"  {line}")
    print(f"Report: {path}")
    return 0


@contextlib.contextmanager
def _mapping(found: dict[str, list[Cell]]) -> Iterator[Callable[..., Iterable[Any]]]:
    """A ``map``, of as many processes as there are cores where that pays."""
    n = min(len(found), os.cpu_count() or 1)
    if n == 1 or sum(map(len, found.values())) < MANY_CELLS:
        yield map
        return
    # not forked, as numpy and matplotlib may have threads
    with ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def write_chapter(experiment: Experiment, folder: Path) -> Chapter:
    """Write the tables and figures of one data set, in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    chapter = Chapter(
        experiment,
        findings.headline(experiment),
        findings.basis(experiment),
        findings.notes(experiment),
        findings.comparisons(experiment),
    )
    if experiment.everything.empty:
        return chapter
    for table in tables.all_tables(experiment):
        tables.write(table, folder)
        chapter.tables.append(table)
    if not experiment.curves.empty:
        chapter.sections.extend([
            _differences(experiment, folder), *_curves(experiment, folder),
            _classes(experiment, folder), _health(experiment, folder),
        ])  # fmt: skip
    chapter.files.extend(first_files.first_files(experiment))
    if chapter.files:
        first_files.write(chapter.files, folder / "first_files.csv")
    return chapter


def _differences(experiment: Experiment, folder: Path) -> Section:
    """A forest plot for each reference, and the critical-difference diagram."""
    compared = experiment.compared
    areas = statistics.aulc(compared, "macro_f1").groupby(level="method").mean()
    order = list(areas.sort_values(ascending=False, kind="stable").index)
    tests = tables.baseline_tests(experiment)
    pictures = []
    for baseline in REFERENCES:
        if baseline in tests:
            figure = figures.forest(tests[baseline], order, baseline, experiment.label)
            caption = f"Difference of each method's AULC to {experiment.label(baseline)}'s"
            pictures.append(_picture(f"forest_{baseline}", caption, figure, folder))
    text = (
        "Dots are mean differences, lines their 95 % intervals over "
        f"{tables.sampled(list(tests.values()))}. Filled, coloured and with a triangle: "
        "significant after Holm's correction; hollow and grey: not significant."
    )
    ranking = statistics.ranking(compared, "macro_f1")
    if ranking is not None:
        figure = figures.critical_difference(ranking, experiment.label)
        pictures.append(_picture("critical_difference", "Mean ranks by AULC", figure, folder))
        text += (
            " In the diagram of ranks, a bar joins methods that are not significantly different "
            f"(Nemenyi's test over {ranking.n_seeds} seeds alone, which is stricter than paired "
            "tests over seeds, as it compares all pairs; Friedman's test that all are alike: p "
            f"{_equation(tables.p_value(ranking.p))}; Demšar, JMLR 7, 2006)."
        )
    return Section("How large are the differences?", text, pictures)


def _equation(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _curves(experiment: Experiment, folder: Path) -> list[Section]:
    """Panels of macro F1, micro F1 and the reward."""
    curves, supervised = experiment.curves, experiment.supervised
    n = len(experiment.seeds)
    text = f"Mean over {n} seed{'s' * (n > 1)}"
    if n >= statistics.ENOUGH_SEEDS:
        text += ", with 95 % bands"
    text += ". The best by AULC come first; grey: all other methods."
    smooth = figures.smooth_rewards(curves)
    sections = []
    for metric, title, axis, frame, level, more in (
        ("macro_f1", "Learning curves, macro F1", "macro F1", curves, supervised, ""),
        ("micro_f1", "Learning curves, micro F1", "micro F1", curves, supervised, ""),
        ("reward", "Rewards", "reward", smooth, supervised[:0],
         " Each point is the mean of five steps. A high reward is not a high F1."),
    ):  # fmt: skip
        panels = figures.curve_panels(frame, level, metric, axis, experiment.label)
        pictures = [
            _picture(
                f"{metric}_{number}",
                f"{title}: {', '.join(experiment.label(method) for method in shown)}",
                figure,
                folder,
            )
            for number, (shown, figure) in enumerate(panels, 1)
        ]
        sections.append(Section(title, text + more, pictures))
    return sections


def _classes(experiment: Experiment, folder: Path) -> Section:
    fractions = statistics.report_fractions(experiment.curves, experiment.supervised)
    figure = figures.class_balance(
        experiment.curves, experiment.supervised, fractions[len(fractions) // 3],
        experiment.config["class_names"], experiment.label,
    )  # fmt: skip
    caption = "Share of each class in what every method labelled"
    picture = _picture("class_balance", caption, figure, folder)
    return Section("Which classes were labelled?", "Mean over seeds.", [picture])


def _health(experiment: Experiment, folder: Path) -> Section:
    """A figure for each agent that learned on the episode; none if no cell has its health."""
    curves = experiment.curves
    pictures = []
    for method in curves["method"].unique():
        if statistics.has_health(curves[curves["method"] == method]):
            caption = f"How {experiment.label(method)} did while it learned"
            name = f"health_{tables.file_name(method)}"
            figure = figures.health(curves, method, experiment.label)
            pictures.append(_picture(name, caption, figure, folder))
    text = (
        "Outputs that are all 0 or 1, and choices that are left to the order of ties, are random "
        "choices; so are those of executed scores that have no rank correlation with the actor's "
        "own, which the noise then swamps. A mean Q above the largest return, that of the greatest "
        "reward seen at every step, is none that a critic has learned. Gradients are the means "
        "that Adam keeps."
    )
    return Section("Do the agents learn?", text, pictures)


def _picture(name: str, caption: str, figure: Figure, folder: Path) -> Picture:
    return Picture(name, caption, figures.save(figure, folder, name))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(ReportConfig, description=__doc__)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.report: {error}")
