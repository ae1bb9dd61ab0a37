"""The report against the curves it was made from, and what it says of what is missing."""

import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import report, run
from benchmarks.matrix import layout
from benchmarks.reporting import results
from tests.benchmarks import made_runs

FIGURES = {
    "macro_f1_1", "macro_f1_2", "micro_f1_1", "micro_f1_2", "reward_1", "reward_2", "class_balance",
    "health_drla",
}  # fmt: skip
"""Of five methods with a curve and two seeds."""


FEW = {name: made_runs.GAINS[name] for name in ("random", "ms", "drla", "drla-embed")}
"""Methods of made runs, where more would only be more figures."""


@pytest.fixture(scope="module")
def made(finished):
    out = finished.parent / "report-of-first"
    assert report.main(report.ReportConfig((finished,), out)) == 0
    return out


@pytest.fixture
def few(finished, tmp_path):
    """A copy of the run folder without Stable-Baselines3's agents, which has fewer figures."""
    return shutil.copytree(finished, tmp_path / "few", ignore=shutil.ignore_patterns("sb3-*"))


def page(out):
    return (out / "report.html").read_text()


def read_csv(finished, method, seed):
    return pd.read_csv(finished / "Folder" / method / f"seed{seed}" / "curve.csv")


def table_of(out, name):
    html = page(out)
    begin = html.index(f'id="Folder-{name}"')
    (table,) = pd.read_html(io.StringIO(html[begin : html.index("</table>", begin) + 8]))
    return table.set_index(table.columns[0])


@pytest.mark.parametrize(("name", "metric"), [("table1", "macro_f1"), ("table2", "micro_f1")])
def test_the_tables_of_the_page_are_those_of_the_curves(finished, made, name, metric):
    table = table_of(made, name)
    assert list(table.columns) == ["6%", "14%", "23%", "31%", "40%", "100%"]
    for method in ("random", "ms", "drla", "sb3-ddpg", "sb3-ppo"):
        curves = [read_csv(finished, method, seed) for seed in (0, 1)]
        ends = [c[metric].iloc[-1] for c in curves]
        starts = [c[metric].iloc[0] for c in curves]
        for column, values in (("40%", ends), ("6%", starts)):
            mean, half = (float(x) for x in table.loc[method.upper(), column].split("±"))
            assert mean == pytest.approx(np.mean(values), abs=6e-4)
            # two seeds: the interval is 12.706 times half their distance
            assert half == pytest.approx(12.7062 * abs(values[0] - values[1]) / 2, abs=6e-4)
    everything = [read_csv(finished, "all", seed)[metric].item() for seed in (0, 1)]
    assert float(table.loc["ALL", "100%"].split("±")[0]) == pytest.approx(
        np.mean(everything), abs=6e-4
    )
    assert table.loc["ALL", "6%"] == "-" and table.loc["MS", "100%"] == "-"


def test_the_overview_is_that_of_the_curves(finished, made):
    table = table_of(made, "overview")
    for method in ("ms", "drla"):
        curves = [read_csv(finished, method, seed) for seed in (0, 1)]
        row = table.loc[method.upper()]
        for column, values in (
            ("AULC macro F1", [c["macro_f1"].mean() for c in curves]),
            ("reward", [c["reward"].mean() for c in curves]),
        ):
            assert float(row[column].split("±")[0]) == pytest.approx(np.mean(values), abs=6e-4)
        assert row["seeds"] == 2


class Elements(HTMLParser):
    """Collects everything that is loaded from elsewhere, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: set[str] = set()
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        given = dict(attributes)
        self.sources += [v for name, v in attributes if name in ("src", "href", "xlink:href")]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "figure":
            assert given["aria-label"]
            self.figures.add(given["id"])


def test_the_page_is_self_contained(made):
    parser = Elements()
    parser.feed(page(made))
    assert all(source.startswith(("data:", "#")) for source in parser.sources)
    assert not parser.tags & {"script", "link", "iframe", "img"}
    assert "@import" not in page(made) and not re.search(r"url\((?!#)", page(made))
    assert parser.figures == {f"Folder-{name}" for name in FIGURES}
    assert 'name="viewport"' in page(made) and "@media print" in page(made)


def drawing_with(out, gid):
    """The figure of the page that has an element, and the element."""
    for svg in re.findall(r"<svg.*?</svg>", page(out), re.DOTALL):
        drawing = ElementTree.fromstring(svg)
        for element in drawing.iter():
            if element.get("id", "").endswith(gid):
                return drawing, element
    raise AssertionError(gid)


@pytest.mark.parametrize("method", ["random", "ms", "drla"])
@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_the_lines_of_the_figure_are_those_of_the_curves(finished, made, method, metric):
    """A line's points, in the picture's coordinates, are an affine image of the means."""
    _, group = drawing_with(made, f"{metric}:{method}")
    path = next(e for e in group.iter() if e.tag.endswith("path")).get("d")
    points = np.array(re.findall(r"[ML] (\S+) (\S+)", path), float)
    curves = [read_csv(finished, method, seed) for seed in (0, 1)]
    mean = np.mean([c[metric] for c in curves], axis=0)
    labelled = curves[0]["labelled_fraction"].to_numpy()
    assert len(points) == len(mean)
    for drawn, expected in ((points[:, 0], labelled), (-points[:, 1], mean)):
        unit = (drawn - drawn.min()) / np.ptp(drawn)
        np.testing.assert_allclose(unit, (expected - expected.min()) / np.ptp(expected), atol=1e-3)


def test_every_table_and_figure_is_a_file(made):
    folder = made / "Folder"
    for name in ("table1", "table2", "overview", "label_saving", "wins", "ranks"):
        assert all((folder / f"{name}.{kind}").stat().st_size for kind in ("md", "tex", "csv"))
    assert "| MS " in (folder / "table1.md").read_text()
    assert r"$\pm$" in (folder / "table1.tex").read_text()
    assert r"100\%" in (folder / "table1.tex").read_text()
    numbers = pd.read_csv(folder / "table1.csv", header=[0, 1], index_col=0)
    assert numbers.shape == (6, 12)
    for name in FIGURES:
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 900


def test_the_same_results_give_the_same_page(finished, made, tmp_path):
    report.main(report.ReportConfig((finished,), tmp_path / "again"))
    assert page(tmp_path / "again") == page(made)


def test_few_seeds_allow_no_conclusion(made):
    answer = re.search(r'class="answer">(.*?)<', page(made)).group(1)
    assert answer.startswith("With 2 seeds nothing can be concluded")
    for absent in ("tests_random", "forest_random", "critical_difference", "<b>", "<sup>"):
        assert absent not in page(made)


def test_unfinished_and_failed_cells_are_named_and_not_averaged(few):
    out = few
    ms = out / "Folder" / "ms" / "seed1"
    (ms / layout.RESULT).unlink()
    text = (ms / layout.CURVE).read_text()
    (ms / layout.CURVE).write_text("".join(text.splitlines(keepends=True)[:3]) + "2,9,0.2")  # torn
    drla = out / "Folder" / "drla" / "seed0"
    (drla / layout.RESULT).unlink()
    (drla / layout.ERROR).write_text("MemoryError: too large\n\nTraceback\n  ...")
    report.main(report.ReportConfig((out,)))
    html = page(out / "report")
    assert "Unfinished and in no number: seeds 1 of MS" in html
    assert "DRLA, seed 0, failed after 6 steps and is in no number: MemoryError: too large" in html
    assert "have finished different seeds" in html and "DRLA 1" in html
    (experiment,) = results.load([out])
    assert experiment.unfinished[0].method == "ms" and experiment.unfinished[0].steps == 1
    own = experiment.curves[experiment.curves["method"] == "ms"]
    assert set(own["seed"]) == {0}


def test_run_folders_are_merged(few, settings, tmp_path):
    more = settings(tmp_path / "more", methods=("lc",), seeds=1)
    run.main(more)
    report.main(report.ReportConfig((few, more.out), tmp_path / "both"))
    table = table_of(tmp_path / "both", "table1")
    assert {"MS", "LC", "ALL"} <= set(table.index)
    with pytest.raises(ValueError, match="lc with seed 0 is in .* and "):
        shutil.copytree(more.out, tmp_path / "twice")
        results.load([more.out, tmp_path / "twice"])


def test_results_of_other_settings_are_not_merged(finished, settings, tmp_path):
    other = settings(tmp_path / "other", methods=("lc",), seeds=1, query_size=7)
    run.main(other)
    with pytest.raises(ValueError, match=r"cannot be compared .*query_size 6 there, 7 here"):
        results.load([finished, other.out])


def test_methods_that_are_none_of_the_papers(settings, tmp_path):
    config = settings(tmp_path / "out", methods=("eq3",), seeds=1)
    run.main(config)
    report.main(report.ReportConfig((config.out,)))
    assert 'id="Folder-macro_f1_1"' in page(config.out / "report")


def test_a_report_of_nothing_finished(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for path in out.rglob(layout.RESULT):
        path.unlink()
    report.main(report.ReportConfig((out,)))
    assert "Unfinished" in page(out / "report")


def test_the_command_line(few, tmp_path, as_program, capsys):
    assert as_program(report, few, "--out", tmp_path / "r") == 0
    said = capsys.readouterr().out
    assert "report.html" in said and "nothing can be concluded" in said
    assert as_program(report, tmp_path / "empty").startswith("benchmarks.report: no results in")


HEAVY = ("torch", "torchvision", "SimpleITK", "stable_baselines3", "torchmetrics")


def test_a_report_imports_nothing_heavy(tmp_path):
    """Of the command, and of all that it shares with others."""
    folder = made_runs.write(tmp_path / "made", gains=FEW, n_seeds=5, n_steps=4)
    program = f"""
import importlib, pathlib, pkgutil, sys
from benchmarks import ladder, report, reporting
report.main(report.ReportConfig((pathlib.Path({str(folder)!r}),)))
for module in pkgutil.iter_modules(reporting.__path__):
    importlib.import_module(f"benchmarks.reporting.{{module.name}}")
print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy: []\n") and (folder / "report" / "report.html").exists()


def test_the_first_screen_answers(tmp_path):
    """The sentence, then the two forests and the ranks, before anything else."""
    folder = made_runs.write(tmp_path / "made", gains=FEW, n_steps=6)
    report.main(report.ReportConfig((folder,)))
    html = page(folder / "report")
    names = ("forest_random", "forest_ms", "critical_difference", "macro_f1_1")
    places = [html.index('class="answer"'), *(html.index(f'id="chestCT-{n}"') for n in names)]
    assert places == sorted(places)
    answer = re.search(r'class="answer">(.*?)<', html).group(1)
    assert "DRLA-EMBED is significantly better than" in answer
    parser = Elements()
    parser.feed(html)
    assert len(set(parser.ids)) == len(parser.ids)


def test_several_data_sets_are_answered_at_the_top(tmp_path):
    folder = made_runs.write(tmp_path / "made", gains=FEW, n_seeds=5, n_steps=4)
    made_runs.write(folder, "MedMNIST-bccd", {"random": 0.0, "lc": 0.1}, n_seeds=3, n_steps=4)
    report.main(report.ReportConfig((folder,)))
    html = page(folder / "report")
    answers = re.findall(r'<li><a href="#(.*?)">.*?</a>: (.*?)</li>', html)
    assert [name for name, _ in answers] == ["MedMNIST-bccd", "chestCT"]
    assert answers[0][1].startswith("With 3 seeds nothing can be concluded")
    parser = Elements()
    parser.feed(html)
    assert len(set(parser.ids)) == len(parser.ids)


def test_files_of_methods_with_other_names(tmp_path):
    """Those of a library, of a module, and a saved policy; one is another's control."""
    names = ("random", "skactiveml:DropQuery", "my_package.module:Name", "runs/p.safetensors")
    gains = dict(zip(names, (0.0, 0.1, 0.2, 0.1), strict=True))
    facts = {"my_package.module:Name": {"what": "mine", "control": "skactiveml:DropQuery"}}
    folder = made_runs.write(tmp_path / "made", gains=gains, n_seeds=5, n_steps=4, facts=facts)
    report.main(report.ReportConfig((folder,)))
    html = page(folder / "report")
    assert "<th>DropQuery</th>" in html and "<th>Name</th>" in html and "<th>p</th>" in html
    assert (folder / "report" / "chestCT" / "tests_skactiveml-DropQuery.csv").exists()
    assert "Against DropQuery by AULC" in html


@pytest.mark.slow
def test_chapters_written_by_several_processes_are_the_same(tmp_path, monkeypatch, capsys):
    for name in ("one", "two"):
        made_runs.write(tmp_path / "runs", name, {"random": 0.0, "ms": 0.04}, 5, 6)
    written = []
    for out, many in (("a", 10**9), ("b", 0)):
        monkeypatch.setattr(report, "MANY_CELLS", many)
        monkeypatch.setattr(report.os, "cpu_count", lambda: 2)
        report.main(report.ReportConfig((tmp_path / "runs",), tmp_path / out))
        said = capsys.readouterr().out.replace(str(tmp_path / out), "OUT")
        files = sorted(path for path in (tmp_path / out).rglob("*") if path.is_file())
        written.append((said, {f.relative_to(tmp_path / out): f.read_bytes() for f in files}))
    assert len(written[0][1]) > 20
    assert written[0] == written[1]
