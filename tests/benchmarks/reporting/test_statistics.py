"""Numbers of a report against numbers worked by hand."""

from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmarks.reporting import statistics
from benchmarks.reporting.twoway import Scores


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
], ignore_index=True)  # fmt: skip
ALL = pd.concat([curve("all", 0, [1.0], [0.9]), curve("all", 1, [1.0], [0.7])], ignore_index=True)
BOTH = pd.concat([CURVES, ALL], ignore_index=True)


def test_interval_by_hand():
    # standard error of 1, 2, 3, 4 is 0.6455, the t quantile of 3 degrees of freedom 3.1824
    mean, half = statistics.interval(np.array([1.0, 2, 3, 4]))
    assert mean == 2.5 and half == pytest.approx(0.6455 * 3.1824, abs=1e-3)
    assert np.isnan(statistics.interval(np.array([1.0]))[1])


def test_at_fraction_is_where_it_is_first_reached():
    assert statistics.at_fraction(CURVES, "macro_f1", 0.1)["ms", 0] == 0.3
    assert statistics.at_fraction(CURVES, "macro_f1", 0.15)["ms", 0] == 0.6
    assert statistics.at_fraction(CURVES, "macro_f1", 0.31).empty
    assert set(statistics.at_fraction(BOTH, "macro_f1", 1).index) == {("all", 0), ("all", 1)}
    assert ("ms", 0) not in statistics.at_fraction(CURVES, "macro_f1", 0.05).index


def test_an_empty_value_is_not_filled_from_a_later_step():
    sparse = CURVES.assign(retrained=[np.nan, np.nan, 0.7] * 4)
    assert ("ms", 0) not in statistics.at_fraction(sparse, "retrained", 0.2).index
    assert statistics.at_fraction(sparse, "retrained", 0.3)["ms", 0] == 0.7


def test_aulc_is_the_mean_over_the_curve():
    areas = statistics.aulc(CURVES, "macro_f1")
    assert areas["ms", 0] == pytest.approx(0.5) and areas["random", 1] == pytest.approx(0.6)


def test_thirds_are_those_of_the_steps():
    values = [0.1, 0.2, 0.3, 0.4, 0.6, 0.6, 0.9]
    curves = pd.concat([curve("lc", 0, list(np.linspace(0.1, 0.7, 7)), values), CURVES])
    thirds = statistics.aulc_by_thirds(curves, "macro_f1")
    # steps 0, 1, 2; 3, 4; 5, 6: where 3 * step // 7 is 0, 1, 2
    assert thirds.loc["lc", 0].tolist() == pytest.approx([0.2, 0.5, 0.75])
    assert thirds.loc["ms", 1].tolist() == pytest.approx([0.5, 0.7, 0.8])
    short = statistics.aulc_by_thirds(curve("lc", 0, [0.1, 0.2], [0.1, 0.2]), "macro_f1")
    assert short.loc["lc", 0].tolist()[:2] == [0.1, 0.2] and np.isnan(short["late"].iloc[0])


def test_table():
    table = statistics.table(BOTH, "macro_f1", [0.1, 0.3, 1.0])
    assert list(table.index) == ["random", "ms", "all"]
    assert table.loc["ms", (0.3, "mean")] == pytest.approx(0.7)
    # two seeds, 0.6 and 0.8: half the interval is 12.706 * 0.1
    assert table.loc["ms", (0.3, "half")] == pytest.approx(1.2706, abs=1e-4)
    assert np.isnan(table.loc["ms", (1.0, "mean")]) and np.isnan(table.loc["all", (0.1, "mean")])
    assert table.loc["all", (1.0, "mean")] == pytest.approx(0.8)


def test_fractions():
    found = statistics.report_fractions(CURVES, ALL)
    assert found == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3, 1.0])
    assert statistics.report_fractions(CURVES, ALL[:0]) == pytest.approx(found[:-1])
    whole = curve("ms", 0, [0.2, 0.6, 1.0], [0.3, 0.5, 0.6])
    assert statistics.report_fractions(whole, ALL) == [0.26, 0.40, 0.54, 0.68, 0.82, 1.0]
    late = curve("ms", 0, [0.3, 0.6, 1.0], [0.3, 0.5, 0.6])
    assert statistics.report_fractions(late, ALL[:0]) == pytest.approx(
        [0.3, 0.475, 0.65, 0.825, 1.0]
    )
    assert statistics.report_fractions(CURVES[:0], ALL) == [1.0]


def test_fractions_are_those_that_every_curve_reaches():
    """Curves with skipped images end, and perhaps begin, elsewhere."""
    skipping = curve("ms", 2, [0.12, 0.2, 0.28], [0.3, 0.5, 0.6])
    found = statistics.report_fractions(pd.concat([CURVES, skipping]), ALL[:0])
    assert found == pytest.approx([0.12, 0.16, 0.2, 0.24, 0.28])


def test_overview():
    table = statistics.overview(CURVES, BOTH)
    assert table.loc["ms", ("AULC macro F1", "mean")] == pytest.approx((0.5 + 2 / 3) / 2)
    assert table.loc["ms", ("reward", "mean")] == pytest.approx(0.2)
    assert table.loc["random", ("reward", "half")] == pytest.approx(0.0)
    assert table.loc["ms", ("training s", "mean")] == pytest.approx(6.0)
    assert table.loc["ms", ("acquisition s", "mean")] == pytest.approx(1.5)
    assert np.isnan(table.loc["all", ("AULC macro F1", "mean")])
    assert table.loc["all", ("seeds", "")] == 2


def test_label_saving():
    table = statistics.label_saving(CURVES, ALL, "macro_f1")
    # RANDOM ends at a mean of 0.6: MS reaches it with 20 and 20 labels, RANDOM never and with 20
    ms, random = (table.loc[m, "RANDOM's final (0.600)"] for m in ("ms", "random"))
    assert ms["labels"] == 20 and ms["reached"] == 1.0
    assert random["labels"] == np.inf and random["reached"] == 0.5
    assert "saved" not in table["RANDOM's final (0.600)"]  # of no finite number
    # 95 % of ALL's 0.8 is 0.76: MS reaches it in one seed, with 30 labels
    assert table.loc["ms", ("95 % of ALL (0.760)", "reached")] == 0.5
    more = pd.concat([CURVES, curve("random", 2, [0.1, 0.2, 0.3], [0.1, 0.2, 0.6])])
    more = pd.concat([more, curve("random", 3, [0.1, 0.2, 0.3], [0.1, 0.6, 0.6])])
    saved = statistics.label_saving(more, ALL, "macro_f1")
    # targets 0.6: RANDOM needs inf, 20, 30, 20 labels, median 25; MS 20
    assert saved.loc["ms", ("RANDOM's final (0.600)", "saved")] == pytest.approx(0.2)
    assert statistics.label_saving(CURVES[CURVES["method"] == "ms"], ALL[:0], "macro_f1").empty


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


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p):
    with mock.patch("gc.collect"):  # which statsmodels calls each time
        expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(statistics.holm(np.array(p)), expected, atol=1e-15)


def test_holm_corrects_over_the_methods_compared():
    tests = statistics.paired_tests(many(8), "macro_f1", "random", ("ms",))
    assert list(tests.index) == ["ms"] and tests.loc["ms", "p_holm"] == tests.loc["ms", "p"]


def test_equal_curves_are_not_significantly_different():
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


def test_significant_is_by_the_corrected_p_and_the_sign():
    tests = pd.DataFrame(
        {"difference": [0.1, -0.1, 0.1], "p": [0.01, 0.02, 0.04], "p_holm": [0.03, 0.04, 0.06]},
        index=["ms", "en", "lc"],
    )
    assert statistics.significant(tests) == (["ms"], ["en"])
    assert statistics.significant(tests[:0]) == ([], [])


def test_the_best_and_those_significantly_below_it():
    curves = many(8)
    areas = statistics.aulc(curves, "macro_f1")
    found = statistics.standing(Scores(areas), ["random", "ms", "lc"])
    assert found is not None and found.best == "ms"
    assert found.below_best == ["random", "lc"] and found.near_best == []
    close = statistics.standing(Scores(areas), ["random", "lc"])
    assert close is not None and len(close.near_best) == 1 and close.below_best == []


def test_no_best_without_seeds_in_common_or_something_to_compare():
    areas = statistics.aulc(many(8), "macro_f1")
    assert statistics.standing(Scores(areas), ["ms"]) is None
    assert statistics.standing(Scores(areas[:0]), ["ms", "lc"]) is None
    assert statistics.standing(Scores.of(many(4), "macro_f1"), ["ms", "lc"]) is None
    seeds = areas.index.get_level_values("seed")
    methods = areas.index.get_level_values("method")
    apart = areas[((methods == "ms") & (seeds < 5)) | ((methods == "lc") & (seeds > 2))]
    assert statistics.standing(Scores(apart), ["ms", "lc"]) is None
    # one with too few seeds does not keep the others from being judged
    few = areas[(methods != "lc") | (seeds < 2)]
    found = statistics.standing(Scores(few), ["random", "ms", "lc"])
    assert found is not None and found.methods == ["random", "ms"]


def ranked(rows):
    """Curves whose AULC falls with the rank of each method in each seed."""
    return pd.concat(
        [
            curve(f"m{i}", seed, [0.1, 0.2], [1 - rank / 10] * 2)
            for seed, row in enumerate(rows)
            for i, rank in enumerate(row)
        ],
        ignore_index=True,
    )


def test_ranking_against_demsars_formulas():
    rows = [[1, 2, 3, 4], [1, 2, 4, 3], [1, 3, 2, 4], [1, 2, 3, 4], [2, 1, 3, 4], [1, 2, 3, 4]]
    found = statistics.ranking(ranked(rows), "macro_f1")
    assert found is not None and found.n_seeds == 6
    means = np.mean(rows, axis=0)
    assert list(found.ranks.index) == ["m0", "m1", "m2", "m3"]
    assert found.ranks.tolist() == pytest.approx(means.tolist())
    # Demsar, section 3.2.2 and Table 5 a: q of four classifiers is 2.569
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 6)), abs=1e-3)
    chi2 = 12 * 6 / (4 * 5) * ((means**2).sum() - 4 * 25 / 4)
    assert found.p == pytest.approx(stats.chi2.sf(chi2, 3)) and found.p < 0.05
    # means 1.17, 2, 3, 3.83 and 1.91 apart
    assert found.groups == [["m0", "m1", "m2"], ["m1", "m2", "m3"]]


def test_where_friedman_finds_nothing_all_methods_are_one_group():
    rows = [[1, 2, 3], [3, 1, 2], [2, 3, 1], [1, 2, 3], [3, 1, 2], [2, 3, 1]]
    found = statistics.ranking(ranked(rows), "macro_f1")
    assert found is not None and found.p > 0.9 and len(found.groups) == 1
    ties = statistics.ranking(ranked([[1, 1, 1]] * 5), "macro_f1")
    assert ties is not None and ties.p == 1.0 and len(ties.groups[0]) == 3


def test_methods_far_apart_are_in_no_group():
    found = statistics.ranking(ranked([[1, 2, 3]] * 30), "macro_f1")
    assert found is not None and found.groups == []


def test_no_ranking_of_two_methods_or_few_seeds():
    assert statistics.ranking(ranked([[1, 2]] * 6), "macro_f1") is None
    assert statistics.ranking(ranked([[1, 2, 3]] * 4), "macro_f1") is None


def test_class_shares():
    curves = pd.concat([
        curve("random", 0, [0.1, 0.2], [0.3, 0.4]).assign(class_counts=["5 5", "10 10"]),
        curve("random", 1, [0.1, 0.2], [0.3, 0.4]).assign(class_counts=["5 5", "15 5"]),
    ])  # fmt: skip
    assert statistics.class_shares(curves, 0.2).loc["random"].tolist() == [0.625, 0.375]
