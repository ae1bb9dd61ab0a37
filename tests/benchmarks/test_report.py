"""The report against the curves it was made from, and what it says of what is missing."""

import base64
import io
import json
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

from benchmarks import cell, report, results, run, statistics


@pytest.fixture(scope="module")
def made(finished):
    out = finished.parent / "report-of-first"
    assert report.main(report.ReportConfig((finished,), out)) == 0
    return out


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


class Images(HTMLParser):
    """Collects the embedded figures, and everything that is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: dict[str, str] = {}
        self.sources: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        given = dict(attributes)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag == "img":
            assert given["alt"]
            data = given["src"].removeprefix("data:image/svg+xml;base64,")
            self.figures[given["id"]] = base64.b64decode(data).decode()


def test_the_page_is_self_contained(made):
    parser = Images()
    parser.feed(page(made))
    assert all(source.startswith(("data:", "#")) for source in parser.sources)
    assert not parser.tags & {"script", "link", "iframe"}
    assert set(parser.figures) == {
        f"Folder-{name}" for name in ("learning_curves", "every_method", "rewards", "class_balance")
    }
    assert 'name="viewport"' in page(made) and "@media print" in page(made)


@pytest.mark.parametrize("method", ["random", "ms", "drla"])
def test_the_lines_of_the_figure_are_those_of_the_curves(finished, made, method):
    """A line's points, in the picture's coordinates, are an affine image of the means."""
    parser = Images()
    parser.feed(page(made))
    drawing = ElementTree.fromstring(parser.figures["Folder-learning_curves"])
    for metric in ("macro_f1", "micro_f1"):
        (group,) = (e for e in drawing.iter() if e.get("id") == f"{metric}:{method}")
        path = next(e for e in group.iter() if e.tag.endswith("path")).get("d")
        points = np.array(re.findall(r"[ML] (\S+) (\S+)", path), float)
        curves = [read_csv(finished, method, seed) for seed in (0, 1)]
        mean = np.mean([c[metric] for c in curves], axis=0)
        labelled = curves[0]["labelled_fraction"].to_numpy()
        assert len(points) == len(mean)
        for drawn, expected in ((points[:, 0], labelled), (-points[:, 1], mean)):
            unit = (drawn - drawn.min()) / np.ptp(drawn)
            np.testing.assert_allclose(
                unit, (expected - expected.min()) / np.ptp(expected), atol=1e-3
            )


def test_every_table_and_figure_is_a_file(made):
    folder = made / "Folder"
    for name in ("table1", "table2", "overview", "label_saving", "wins", "ranks"):
        assert all((folder / f"{name}.{kind}").stat().st_size for kind in ("md", "tex", "csv"))
    assert "| MS " in (folder / "table1.md").read_text()
    assert r"$\pm$" in (folder / "table1.tex").read_text()
    assert r"100\%" in (folder / "table1.tex").read_text()
    numbers = pd.read_csv(folder / "table1.csv", header=[0, 1], index_col=0)
    assert numbers.shape == (6, 12)
    for name in ("learning_curves", "every_method", "rewards", "class_balance"):
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 1000


def test_the_same_results_give_the_same_page(finished, made, tmp_path):
    report.main(report.ReportConfig((finished,), tmp_path / "again"))
    assert page(tmp_path / "again") == page(made)


def test_few_seeds_allow_no_conclusion(made):
    assert "With 2 seeds nothing can be concluded" in page(made)
    assert "tests_random" not in page(made)


def test_unfinished_and_failed_cells_are_named_and_not_averaged(finished, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    ms = out / "Folder" / "ms" / "seed1"
    (ms / cell.RESULT).unlink()
    text = (ms / cell.CURVE).read_text()
    (ms / cell.CURVE).write_text("".join(text.splitlines(keepends=True)[:3]) + "2,9,0.2")  # torn
    drla = out / "Folder" / "drla" / "seed0"
    (drla / cell.RESULT).unlink()
    (drla / cell.ERROR).write_text("MemoryError: too large\n\nTraceback\n  ...")
    report.main(report.ReportConfig((out,)))
    html = page(out / "report")
    assert "Unfinished and in no number: seeds 1 of MS" in html
    assert "DRLA, seed 0, failed after 6 steps and is in no number: MemoryError: too large" in html
    assert "have finished different seeds" in html and "DRLA 1" in html
    (experiment,) = results.load([out])
    assert experiment.unfinished[0].method == "ms" and experiment.unfinished[0].steps == 1
    own = experiment.curves[experiment.curves["method"] == "ms"]
    assert set(own["seed"]) == {0}


def test_run_folders_are_merged(finished, settings, tmp_path):
    more = settings(tmp_path / "more", methods=("lc",))
    run.main(more)
    report.main(report.ReportConfig((finished, more.out), tmp_path / "both"))
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


def test_the_papers_numbers_stand_below_those_of_its_preset(finished, tmp_path):
    """Three methods over the whole pool, as of the paper's preset."""
    labelled = np.linspace(0.05, 1, 20)
    for method in ("random", "drla", "badge"):
        folder = tmp_path / "chestCT" / method / "seed0"
        folder.mkdir(parents=True)
        source = finished / "Folder" / "ms" / "seed0"
        config = json.loads((source / cell.CONFIG).read_text())
        config |= {"preset": "paper-chestCT", "method": method}
        (folder / cell.CONFIG).write_text(json.dumps(config))
        (folder / cell.RESULT).write_text("{}")
        rows = [
            ",".join([
                str(step), str(round(100 * share)), str(share), "0.5", "0.6",
                "0.1" if step else "", "", "3 3 3", "", "", "0.1", "0.1",
            ])
            for step, share in enumerate(labelled)
        ]  # fmt: skip
        (folder / cell.CURVE).write_text("\n".join([",".join(cell.COLUMNS), *rows]) + "\n")
    (experiment,) = results.load([tmp_path])
    table = report.all_tables(experiment)[0].cells
    assert table.index.tolist() == ["RANDOM", "published", "DRLA", "published", "BADGE"]
    assert table.iloc[1].tolist() == ["0.653", "0.699", "0.701", "0.710", "0.713", "0.718"]
    assert table.iloc[3].tolist() == ["0.687", "0.736", "0.742", "0.745", "0.748", "0.752"]
    numbers = report.all_tables(experiment)[0].numbers
    assert numbers.loc["drla, published", (1.0, "mean")] == 0.7525
    micro = report.all_tables(experiment)[1].cells
    assert micro.iloc[3].tolist() == ["0.694", "0.734", "0.741", "0.745", "0.748", "0.754"]


def with_seeds(experiment, n):
    """The curves of seed 0 again under n seeds, with a little noise; MS a little better."""
    rng = np.random.default_rng(0)
    base = experiment.curves[experiment.curves["seed"] == 0]
    parts = []
    for seed in range(n):
        part = base.assign(seed=seed)
        part["macro_f1"] = part["macro_f1"] + rng.normal(0, 0.01, len(part))
        part.loc[part["method"] == "ms", "macro_f1"] += 0.2
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def test_findings_with_enough_seeds(finished):
    (loaded,) = results.load([finished])
    experiment = results.Experiment(
        loaded.name, loaded.config, with_seeds(loaded, 6), (), loaded.programs
    )
    against_random, against_ms = report.findings(experiment)
    assert "Against RANDOM" in against_random and "better: MS" in against_random
    assert "worse: RANDOM" in against_ms and "over 6 seeds" in against_ms
    names = [table.name for table in report.all_tables(experiment)]
    assert {"tests_random", "tests_ms"} <= set(names)
    tests = statistics.paired_tests(experiment.curves, "macro_f1", "random")
    shown = next(t for t in report.all_tables(experiment) if t.name == "tests_random").cells
    assert shown.loc["MS", "better in"] == "6 of 6"
    assert shown.loc["MS", "p, Holm"] == report.p_value(tests.loc["ms", "p_holm"])


def test_a_small_p_is_shown_as_a_bound():
    assert [report.p_value(p) for p in (1.0, 0.0312, 0.0005, 0.0004)] == [
        "1.000", "0.031", "0.001", "< 0.001",
    ]  # fmt: skip


def test_methods_with_few_seeds_in_common_are_named(finished):
    (loaded,) = results.load([finished])
    curves = with_seeds(loaded, 6)
    curves = curves[~((curves["method"] == "drla") & (curves["seed"] < 3))]
    experiment = results.Experiment(loaded.name, loaded.config, curves, (), loaded.programs)
    against_random = report.findings(experiment)[0]
    assert "over 6 seeds" in against_random
    assert "fewer than 5 seeds in common: DRLA" in against_random


def test_a_bound_is_shown_and_not_compared(finished):
    (loaded,) = results.load([finished])
    curves = with_seeds(loaded, 6).replace({"method": {"drla": "eq3-oracle"}})
    experiment = results.Experiment(loaded.name, loaded.config, curves, (), loaded.programs)
    tables = {table.name: table for table in report.all_tables(experiment)}
    assert "EQ3-ORACLE (bound)" in tables["table1"].cells.index
    for name in ("tests_random", "wins", "ranks"):
        assert not any("ORACLE" in row for row in tables[name].cells.index)
    assert "ORACLE" not in " ".join(report.findings(experiment))


def test_other_starts_are_not_merged(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "Folder" / "ms" / "seed1" / cell.START).write_text("another")
    with pytest.raises(ValueError, match="did not begin with the same labelled set"):
        results.load([out])


def test_a_config_that_cannot_be_read_is_named(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "Folder" / "ms" / "seed1" / cell.CONFIG
    path.write_text("")
    with pytest.raises(ValueError, match=rf"{path} cannot be read"):
        results.load([out])


def test_methods_that_are_none_of_the_papers(settings, tmp_path):
    config = settings(tmp_path / "out", methods=("eq3",), seeds=1)
    run.main(config)
    report.main(report.ReportConfig((config.out,)))
    assert "every_method" in page(config.out / "report")


def test_a_report_of_nothing_finished(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for path in out.rglob(cell.RESULT):
        path.unlink()
    report.main(report.ReportConfig((out,)))
    assert "Unfinished" in page(out / "report")


def test_the_command_line(finished, tmp_path):
    command = [sys.executable, "-m", "benchmarks.report"]
    done = subprocess.run(
        [*command, str(finished), "--out", str(tmp_path / "r")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "report.html" in done.stdout and "nothing can be concluded" in done.stdout
    wrong = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert wrong.returncode != 0
    assert "no results in" in wrong.stderr and "Traceback" not in wrong.stderr
