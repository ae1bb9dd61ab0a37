"""Numbers of a report against numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import statistics


def curve(method, seed, fractions, f1, reward=0.1, n_training=100):
    n = len(fractions)
    return pd.DataFrame({
        "method": method, "seed": seed, "step": range(n),
        "n_labelled": [round(f * n_training) for f in fractions], "labelled_fraction": fractions,
        "macro_f1": f1, "micro_f1": [x + 0.1 for x in f1],
        "reward": [np.nan, *[reward] * (n - 1)], "selected": "",
        "class_counts": ["3 1"] * n, "acquisition_seconds": 0.5, "training_seconds": 2.0,
    })  # fmt: skip


CURVES = pd.concat([
    curve("random", 0, [0.1, 0.2, 0.3], [0.3, 0.4, 0.5]),
    curve("random", 1, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]),
    curve("ms", 0, [0.1, 0.2, 0.3], [0.3, 0.6, 0.6], reward=0.3),
    curve("ms", 1, [0.1, 0.2, 0.3], [0.5, 0.7, 0.8], reward=0.1),
    curve("all", 0, [1.0], [0.9]), curve("all", 1, [1.0], [0.7]),
], ignore_index=True)  # fmt: skip


def test_interval_by_hand():
    # standard error of 1, 2, 3, 4 is 0.6455, the t quantile of 3 degrees of freedom 3.1824
    mean, half = statistics.interval(np.array([1.0, 2, 3, 4]))
    assert mean == 2.5 and half == pytest.approx(0.6455 * 3.1824, abs=1e-3)
    assert np.isnan(statistics.interval(np.array([1.0]))[1])


def test_at_fraction_is_where_it_is_first_reached():
    assert statistics.at_fraction(CURVES, "macro_f1", 0.1)["ms", 0] == 0.3
    assert statistics.at_fraction(CURVES, "macro_f1", 0.15)["ms", 0] == 0.6
    assert statistics.at_fraction(CURVES, "macro_f1", 0.31).empty
    assert set(statistics.at_fraction(CURVES, "macro_f1", 1).index) == {("all", 0), ("all", 1)}
    assert ("ms", 0) not in statistics.at_fraction(CURVES, "macro_f1", 0.05).index


def test_an_empty_value_is_not_filled_from_a_later_step():
    sparse = CURVES.assign(retrained=[np.nan, np.nan, 0.7] * 4 + [0.9, 0.9])
    assert ("ms", 0) not in statistics.at_fraction(sparse, "retrained", 0.2).index
    assert statistics.at_fraction(sparse, "retrained", 0.3)["ms", 0] == 0.7


def test_aulc_is_the_mean_over_the_curve_and_all_has_none():
    areas = statistics.aulc(CURVES, "macro_f1")
    assert areas["ms", 0] == pytest.approx(0.5) and areas["random", 1] == pytest.approx(0.6)
    assert "all" not in areas.index.get_level_values(0)


def test_thirds_are_those_of_the_steps():
    values = [0.1, 0.2, 0.3, 0.4, 0.6, 0.6, 0.9]
    curves = pd.concat([curve("lc", 0, list(np.linspace(0.1, 0.7, 7)), values), CURVES])
    thirds = statistics.aulc_by_thirds(curves, "macro_f1")
    # steps 0, 1, 2; 3, 4; 5, 6: where 3 * step // 7 is 0, 1, 2
    assert thirds.loc["lc", 0].tolist() == pytest.approx([0.2, 0.5, 0.75])
    assert thirds.loc["ms", 1].tolist() == pytest.approx([0.5, 0.7, 0.8])
    assert "all" not in thirds.index.get_level_values(0)
    short = statistics.aulc_by_thirds(curve("lc", 0, [0.1, 0.2], [0.1, 0.2]), "macro_f1")
    assert short.loc["lc", 0].tolist()[:2] == [0.1, 0.2] and np.isnan(short["late"].iloc[0])


def test_table():
    table = statistics.table(CURVES, "macro_f1", [0.1, 0.3, 1.0])
    assert list(table.index) == ["random", "ms", "all"]
    assert table.loc["ms", (0.3, "mean")] == pytest.approx(0.7)
    # two seeds, 0.6 and 0.8: half the interval is 12.706 * 0.1
    assert table.loc["ms", (0.3, "half")] == pytest.approx(1.2706, abs=1e-4)
    assert np.isnan(table.loc["ms", (1.0, "mean")]) and np.isnan(table.loc["all", (0.1, "mean")])
    assert table.loc["all", (1.0, "mean")] == pytest.approx(0.8)


def test_fractions():
    found = statistics.report_fractions(CURVES)
    assert found == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3, 1.0])
    whole = pd.concat([curve("ms", 0, [0.2, 0.6, 1.0], [0.3, 0.5, 0.6]), CURVES[-2:]])
    assert statistics.report_fractions(whole) == [0.26, 0.40, 0.54, 0.68, 0.82, 1.0]
    late = curve("ms", 0, [0.3, 0.6, 1.0], [0.3, 0.5, 0.6])
    assert statistics.report_fractions(late) == pytest.approx([0.3, 0.475, 0.65, 0.825, 1.0])
    assert statistics.report_fractions(CURVES[-2:]) == [1.0]


def test_overview():
    table = statistics.overview(CURVES)
    assert table.loc["ms", ("AULC macro F1", "mean")] == pytest.approx((0.5 + 2 / 3) / 2)
    assert table.loc["ms", ("reward", "mean")] == pytest.approx(0.2)
    assert table.loc["random", ("reward", "half")] == pytest.approx(0.0)
    assert table.loc["ms", ("training s", "mean")] == pytest.approx(6.0)
    assert table.loc["ms", ("acquisition s", "mean")] == pytest.approx(1.5)
    assert np.isnan(table.loc["all", ("AULC macro F1", "mean")])
    assert table.loc["all", ("seeds", "")] == 2


def test_label_saving():
    table = statistics.label_saving(CURVES, "macro_f1")
    # RANDOM ends at a mean of 0.6: MS reaches it with 20 and 20 labels, RANDOM never and with 20
    ms, random = (table.loc[m, "RANDOM's final (0.600)"] for m in ("ms", "random"))
    assert ms["labels"] == 20 and ms["reached"] == 1.0
    assert random["labels"] == np.inf and random["reached"] == 0.5
    assert "saved" not in table["RANDOM's final (0.600)"]  # of no finite number
    # 95 % of ALL's 0.8 is 0.76: MS reaches it in one seed, with 30 labels
    assert table.loc["ms", ("95 % of ALL (0.760)", "reached")] == 0.5
    more = pd.concat([CURVES, curve("random", 2, [0.1, 0.2, 0.3], [0.1, 0.2, 0.6])])
    more = pd.concat([more, curve("random", 3, [0.1, 0.2, 0.3], [0.1, 0.6, 0.6])])
    saved = statistics.label_saving(more, "macro_f1")
    # targets 0.6: RANDOM needs inf, 20, 30, 20 labels, median 25; MS 20
    assert saved.loc["ms", ("RANDOM's final (0.600)", "saved")] == pytest.approx(0.2)
    assert statistics.label_saving(CURVES[CURVES["method"] == "ms"], "macro_f1").empty


def many(n_seeds):
    rng = np.random.default_rng(0)
    parts = []
    for seed in range(n_seeds):
        level = rng.normal(0.5, 0.05)
        for method, shift in (("random", 0.0), ("ms", 0.1), ("lc", 0.001 * rng.normal())):
            values = (level + shift + rng.normal(0, 0.01, 3)).tolist()
            parts.append(curve(method, seed, [0.1, 0.2, 0.3], values))
    return pd.concat(parts, ignore_index=True)


def test_paired_tests_against_scipy_and_holm_by_hand():
    curves = many(8)
    tests = statistics.paired_tests(curves, "macro_f1", "random")
    areas = statistics.aulc(curves, "macro_f1")
    assert list(tests.index) == ["ms", "lc"]
    for method in tests.index:
        difference = (areas[method] - areas["random"]).to_numpy()
        by_hand = stats.ttest_1samp(difference, 0)
        assert tests.loc[method, "difference"] == pytest.approx(difference.mean())
        assert tests.loc[method, "p"] == pytest.approx(by_hand.pvalue)
        half = stats.t.ppf(0.975, 7) * difference.std(ddof=1) / np.sqrt(8)
        assert tests.loc[method, "low"] == pytest.approx(difference.mean() - half)
        assert tests.loc[method, "wins"] == (difference > 0).sum()
    # Holm over two: the smaller p doubled, the other at least as large
    assert tests.loc["ms", "p_holm"] == pytest.approx(2 * tests.loc["ms", "p"])
    assert tests.loc["lc", "p_holm"] == pytest.approx(
        max(2 * tests.loc["ms", "p"], tests.loc["lc", "p"])
    )


def test_no_tests_with_few_seeds_or_without_the_baseline():
    assert statistics.paired_tests(many(4), "macro_f1", "random").empty
    assert statistics.paired_tests(many(8), "macro_f1", "drla").empty


def test_tests_use_the_seeds_that_both_have():
    curves = many(8)
    curves = curves[~((curves["method"] == "lc") & (curves["seed"] < 2))]
    tests = statistics.paired_tests(curves, "macro_f1", "random")
    assert tests.loc["lc", "seeds"] == 6 and tests.loc["ms", "seeds"] == 8
    fewer = curves[~((curves["method"] == "lc") & (curves["seed"] < 4))]
    assert list(statistics.paired_tests(fewer, "macro_f1", "random").index) == ["ms"]


def test_holm_corrects_over_the_methods_compared():
    tests = statistics.paired_tests(many(8), "macro_f1", "random", ("ms",))
    assert list(tests.index) == ["ms"] and tests.loc["ms", "p_holm"] == tests.loc["ms", "p"]


def test_equal_curves_are_not_told_apart():
    curves = many(6)
    same = curves[curves["method"] == "random"].assign(method="frozen")
    tests = statistics.paired_tests(pd.concat([curves, same]), "macro_f1", "random")
    assert tests.loc["frozen", "p"] == 1.0 and tests.loc["frozen", "difference"] == 0.0


def test_wins_and_ranks():
    matrix = statistics.wins(CURVES, "macro_f1")
    assert matrix.loc["ms", "random"] == 1.0 and matrix.loc["random", "ms"] == 0.0
    assert np.isnan(matrix.loc["ms", "ms"])
    tie = pd.concat([CURVES, CURVES[CURVES["method"] == "ms"].assign(method="lc")])
    assert statistics.wins(tie, "macro_f1").loc["ms", "lc"] == 0.5
    ranks = statistics.mean_ranks(tie, "macro_f1")
    assert ranks["random"] == 3.0 and ranks["ms"] == ranks["lc"] == 1.5


def test_class_shares():
    curves = pd.concat([
        curve("random", 0, [0.1, 0.2], [0.3, 0.4]).assign(class_counts=["5 5", "10 10"]),
        curve("random", 1, [0.1, 0.2], [0.3, 0.4]).assign(class_counts=["5 5", "15 5"]),
    ])  # fmt: skip
    assert statistics.class_shares(curves, 0.2).loc["random"].tolist() == [0.625, 0.375]
