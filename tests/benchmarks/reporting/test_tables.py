"""Tables: what is marked in them, in every format, and the paper's rows."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.matrix import layout
from benchmarks.reporting import results, statistics, tables
from tests.benchmarks import made_runs


@pytest.fixture(scope="module")
def made(experiment):
    return {table.name: table for table in tables.all_tables(experiment)}


def test_the_best_and_what_is_significant_are_marked(experiment, made):
    table = made["overview"]
    assert table.cells.columns[0] == "AULC macro F1"
    areas = statistics.aulc(experiment.compared, "macro_f1")
    rows = list(table.numbers.index)
    means = areas.groupby(level="method").mean()
    assert (rows.index(means.idxmax()), 0) in table.bold
    assert len([cell for cell in table.bold if cell[1] == 0]) == 1
    symbols = {rows[row]: text for row, column, text in table.symbols if column == 0}
    against_random = statistics.paired_tests(experiment.compared, "macro_f1", "random")
    above, below = statistics.significant(against_random)
    assert above and {m for m, text in symbols.items() if tables.ABOVE in text} == set(above)
    assert {m for m, text in symbols.items() if tables.BELOW in text} == set(below)
    against_best = statistics.paired_tests(experiment.compared, "macro_f1", means.idxmax())
    worse = statistics.significant(against_best)[1]
    assert worse and {m for m, text in symbols.items() if tables.BELOW_BEST in text} == set(worse)
    assert "Bold" in table.legend and "RANDOM" in table.legend


def test_columns_in_which_all_methods_are_alike_are_not_marked(made):
    """All have the same start; ALL is alone in the last column."""
    table = made["table1"]
    assert {column for _, column in table.bold} == {1, 2, 3, 4}
    assert {column for _, column, _ in table.symbols} == {1, 2, 3, 4}
    assert list(table.cells.columns) == ["5%", "15%", "24%", "34%", "43%", "100%"]


def test_neither_bounds_nor_random_itself_are_marked(tmp_path):
    gains = {"random": 0.0, "ms": 0.3, "eq3-oracle": 0.9, "all": 0.0}
    (experiment,) = results.load([made_runs.write(tmp_path, gains=gains, n_seeds=6, n_steps=6)])
    found = {table.name: table for table in tables.all_tables(experiment)}
    table = found["overview"]
    assert list(table.numbers.index) == ["random", "ms", "all", "eq3-oracle"]
    assert table.bold == {(1, 0), (1, 1)}
    assert set(table.symbols) == {
        (1, 0, "▲"), (1, 1, "▲"), (0, 0, "†"), (0, 1, "†"),
    }  # fmt: skip
    assert "EQ3-ORACLE (bound)" in found["table1"].cells.index
    for name in ("tests_random", "wins", "ranks"):
        assert not any("ORACLE" in row for row in found[name].cells.index)


def test_nothing_is_marked_with_few_seeds(tmp_path):
    (experiment,) = results.load([made_runs.write(tmp_path, n_seeds=4, n_steps=6)])
    for table in tables.all_tables(experiment):
        assert not table.bold and not table.symbols and not table.legend


def marked():
    cells = pd.DataFrame({"5%": ["0.1 ± 0.2", "0.3"], "a_b": ["< 0.001", "-"]}, index=["A&B", "C"])
    return tables.Table(
        "t",
        "Share, 5 %",
        cells,
        cells,
        frozenset({(0, 0)}),
        ((0, 0, "▲"), (1, 0, "▼†")),
        "A legend.",
    )


def test_markdown():
    lines = tables.markdown(marked()).splitlines()
    assert lines[0] == "Share, 5 %" and lines[-1] == "A legend."
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        "A&B", "**0.1 ± 0.2** ▲", "< 0.001",
    ]  # fmt: skip
    assert "| 0.3 ▼† " in lines[5]


def test_latex():
    text = tables.latex(marked())
    assert r"A\&B & \textbf{0.1 $\pm$ 0.2}\textsuperscript{$\bigtriangleup$} & $<$ 0.001 \\" in text
    assert r"0.3\textsuperscript{$\bigtriangledown$$\dagger$}" in text
    assert r"& 5\% & a\_b" in text and r"\caption{Share, 5 \%. A legend.}" in text


def test_html():
    text = tables.to_html(marked())
    assert "<th>A&amp;B</th>" in text and "<td><b>0.1 ± 0.2</b><sup>▲</sup></td>" in text
    assert "<td>&lt; 0.001</td>" in text and "<td>0.3<sup>▼†</sup></td>" in text


def test_a_row_of_a_paired_test(experiment, made):
    tests = statistics.paired_tests(experiment.compared, "macro_f1", "random")
    row = tables.paired_row(tests, "ms", "- RANDOM", 4)
    assert list(row) == ["- RANDOM", "95 % interval", "better in", "p", "p, Holm"]
    test = tests.loc["ms"]
    assert row["- RANDOM"] == f"{test['difference']:+.4f}"
    assert row["95 % interval"] == f"[{test['low']:+.4f}, {test['high']:+.4f}]"
    assert row["better in"] == f"{test['wins']:.0f} of 10"
    assert row["p, Holm"] == tables.p_value(test["p_holm"])
    assert tables.paired_row(tests, "random", "- RANDOM") == {}
    shown = made["tests_random"].cells.loc["MS"]
    assert shown["AULC minus RANDOM's"] == f"{test['difference']:+.3f}"
    assert shown["better in"] == row["better in"]
    pd.testing.assert_frame_equal(made["tests_random"].numbers, tests)


def test_a_small_p_is_shown_as_a_bound():
    assert [tables.p_value(p) for p in (1.0, 0.0312, 0.0005, 0.0004)] == [
        "1.000", "0.031", "0.001", "< 0.001",
    ]  # fmt: skip


def test_the_papers_numbers_stand_below_those_of_its_preset(tmp_path):
    """Three methods over the whole pool, as of the paper's preset."""
    labelled = np.linspace(0.05, 1, 20)
    for method in ("random", "drla", "badge"):
        folder = tmp_path / "chestCT" / method / "seed0"
        folder.mkdir(parents=True)
        config = made_runs.CONFIG | {"preset": "paper-chestCT", "method": method}
        (folder / layout.CONFIG).write_text(json.dumps(config))
        (folder / layout.RESULT).write_text("{}")
        rows = [
            ",".join([
                str(step), str(round(100 * share)), str(share), "0.5", "0.6",
                "0.1" if step else "", "", "3 3 3", "", "", "0.1", "0.1",
            ])
            for step, share in enumerate(labelled)
        ]  # fmt: skip
        (folder / layout.CURVE).write_text("\n".join([",".join(layout.COLUMNS[:12]), *rows]) + "\n")
    (experiment,) = results.load([tmp_path])
    table = tables.all_tables(experiment)[0].cells
    assert table.index.tolist() == ["RANDOM", "published", "DRLA", "published", "BADGE"]
    assert table.iloc[1].tolist() == ["0.653", "0.699", "0.701", "0.710", "0.713", "0.718"]
    assert table.iloc[3].tolist() == ["0.687", "0.736", "0.742", "0.745", "0.748", "0.752"]
    numbers = tables.all_tables(experiment)[0].numbers
    assert numbers.loc["drla, published", (1.0, "mean")] == 0.7525
    micro = tables.all_tables(experiment)[1].cells
    assert micro.iloc[3].tolist() == ["0.694", "0.734", "0.741", "0.745", "0.748", "0.754"]


def test_marks_stay_with_their_methods_among_the_papers_rows():
    numbers = pd.DataFrame([[0.1, 0.0], [0.2, 0.0]], ["ms", "badge"]).iloc[:, [0, 1] * 6]
    cells = pd.DataFrame([["0.1"] * 6, ["0.2"] * 6], ["MS", "BADGE"], list("abcdef"))
    table = tables.Table("t", "", cells, numbers, frozenset({(1, 2)}), ((1, 2, "▲"), (0, 1, "†")))
    found = tables._with_the_papers(table, tables._published("macro_f1"))
    assert list(found.cells.index) == ["MS", "published", "BADGE"]
    assert found.bold == {(2, 2)} and found.symbols == ((2, 2, "▲"), (0, 1, "†"))


def test_names_of_files_are_safe():
    assert tables.file_name("my_package.module:Name/x") == "my-package-module-Name-x"


def test_tables_say_what_their_tests_are_over_and_what_they_could_find(made, predicting):
    both = {table.name: table for table in tables.all_tables(predicting)}
    for name in ("tests_random", "overview", "table1", "table2", "thirds"):
        said = f"{made[name].caption} {made[name].legend}"
        assert "over seeds only, the test set being taken as given" in said
        assert "With these seeds a difference of 0.0" in said
        said = f"{both[name].caption} {both[name].legend}"
        assert "over seeds and the 40 groups (scans, patients) of the test set" in said
        assert "With these seeds and test images a difference of 0.0" in said
    numbers = both["tests_random"].numbers
    assert (numbers["groups"] == 40).all() and set(numbers.index) == {"ms", "lc"}
    low, high = sorted(numbers["detectable"])
    assert both["tests_random"].legend.endswith(
        f"a difference of {(low + high) / 2:.3f} (the median; {low:.3f} to {high:.3f}) would be "
        "found with probability 0.8, uncorrected."
    )


def test_what_cannot_be_resampled_is_tested_over_seeds(predicting):
    """Scores of classifiers trained anew: nobody kept what they predicted."""
    curves = predicting.curves.assign(retrained_macro_f1=predicting.curves["macro_f1"])
    retrained = dataclasses.replace(predicting, curves=curves)
    table = tables.score_table("t", "", retrained, "retrained_macro_f1", [0.24])
    assert "over seeds only" in table.legend and "With these seeds a difference" in table.legend


def test_no_power_without_tests():
    assert tables.power([pd.DataFrame()]) == ""
    assert tables.sampled([pd.DataFrame()]).startswith("seeds only")
    one = pd.DataFrame({"detectable": [0.0123], "groups": [7]}, index=["ms"])
    assert tables.power([one, pd.DataFrame()], 4) == (
        "With these seeds and test images a difference of 0.0123 would be found with probability "
        "0.8, uncorrected."
    )
