"""Numbers of the table against numbers worked by hand."""

import numpy as np
import pytest

from benchmarks import summary


def curve(fractions, f1):
    n = len(fractions)
    columns = {name: np.zeros(n) for name in summary.COLUMNS}
    values = np.array(f1)
    columns |= {"labelled_fraction": np.array(fractions), "macro_f1": values}
    return columns | {"micro_f1": values + 0.1}


CURVES = {
    ("ms", 0): curve([0.1, 0.2, 0.3], [0.3, 0.5, 0.6]),
    ("ms", 1): curve([0.1, 0.2, 0.3], [0.5, 0.7, 0.8]),
    ("all", 0): curve([1.0], [0.9]),
    ("all", 1): curve([1.0], [0.8]),
}


def test_value_at_is_where_the_fraction_is_first_reached():
    one = CURVES["ms", 0]
    assert summary.value_at(one, "macro_f1", 0.1) == 0.3
    assert summary.value_at(one, "macro_f1", 0.15) == 0.5
    assert np.isnan(summary.value_at(one, "macro_f1", 0.31))
    assert np.isnan(summary.value_at(one, "macro_f1", 0.05))


def test_aulc_is_the_mean_over_the_curve():
    assert summary.aulc(CURVES["ms", 0], "macro_f1") == pytest.approx(1.4 / 3)
    assert np.isnan(summary.aulc(CURVES["all", 0], "macro_f1"))


def test_interval_by_hand():
    # standard error of 1, 2, 3, 4 is 0.6455, the t quantile of 3 degrees of freedom 3.1824
    mean, half = summary.interval(np.array([1.0, 2, 3, 4]))
    assert mean == 2.5 and half == pytest.approx(0.6455 * 3.1824, abs=1e-3)
    assert np.isnan(summary.interval(np.array([1.0]))[1])


def test_table():
    text = summary.table(CURVES)
    heads = text.splitlines()[2].split()
    assert heads == ["Macro", "F1", "10%", "15%", "20%", "25%", "30%", "100%", "AULC"]
    ms = next(line for line in text.splitlines() if line.startswith("ms"))
    # two seeds: half the interval is 12.706 * 0.1
    assert "0.400 ± 1.271" in ms and "0.567 ± 1.271" in ms
    everything = next(line for line in text.splitlines() if line.startswith("all"))
    assert "0.850 ± 0.635" in everything and everything.split().count("-") == 6
    assert "2 seeds" in text.splitlines()[0]


def test_fractions_of_a_run_over_the_whole_pool():
    whole = {("ms", 0): curve([0.2, 0.6, 1.0], [0.3, 0.5, 0.6]), ("all", 0): CURVES["all", 0]}
    assert summary.report_fractions(whole) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_table_of_one_seed_has_no_intervals():
    text = summary.table({("ms", 0): CURVES["ms", 0]})
    assert "0.300 " in text and "±" not in text.splitlines()[3]


def test_table_of_all_alone():
    assert "0.850 ± 0.635" in summary.table({k: v for k, v in CURVES.items() if k[0] == "all"})


def test_curves_are_read_back(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(",".join(summary.COLUMNS) + "\n0,5,0.1,0.3,0.4,,1.5\n1,9,0.2,0.5,0.6,0.25,2\n")
    read = summary.read_curve(path)
    assert read["macro_f1"].tolist() == [0.3, 0.5] and read["reward"][1] == 0.25
    assert np.isnan(read["reward"][0])


def test_the_figure_is_drawn(tmp_path):
    summary.draw_curves(CURVES, tmp_path / "curves.png", "title")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
