"""Tests over seeds and groups: numbers worked by hand, and plain loops."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from benchmarks.matrix.predictions import Predictions, Truth
from benchmarks.reporting import statistics, twoway
from benchmarks.reporting.twoway import Scores, paired_test

LABELS = np.array([0, 0, 1, 1, 1, 2])


def test_macro_f1_and_its_derivative_by_hand():
    # of class 0 both found and one too many, of class 1 two of three; class 2 as it is
    score, change = twoway.macro_f1(LABELS, np.array([[0, 0, 0, 1, 1, 2]]))
    assert score[0] == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)
    # 2 TP / size: a right image of class 0 adds 2 to 4 and to 5, so (2 - 2 * 0.8) / 5, of 3 classes
    assert change[0, 0] == pytest.approx(0.4 / 5 / 3)
    # the wrong one is in the sizes of classes 0 and 1
    assert change[0, 2] == pytest.approx(-(0.8 / 5 + 0.8 / 5) / 3)
    assert change[0, 5] == pytest.approx(0) and change.sum() == pytest.approx(0)


def f1_score(labels, predicted, average, weights):
    """Weighted F1 by its formula, image by image."""
    classes = sorted({*labels.tolist(), *predicted.tolist()})
    hits, sizes = dict.fromkeys(classes, 0.0), dict.fromkeys(classes, 0.0)
    for label, given, weight in zip(labels, predicted, weights, strict=True):
        sizes[label] += weight
        sizes[given] += weight
        hits[label] += weight * (label == given)
    if average == "micro":
        return 2 * sum(hits.values()) / sum(sizes.values())
    return sum(2 * hits[c] / sizes[c] for c in classes) / len(classes)


def random_predictions(n=60, n_classes=4, k=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n, p=[0.5, 0.3, 0.15, 0.05]).astype(np.uint8)
    wrong = rng.integers(n_classes, size=(k, n))
    predicted = np.where(rng.random((k, n)) < 0.6, labels, wrong).astype(np.uint8)
    return labels, predicted


@pytest.mark.parametrize("metric", ["macro", "micro"])
def test_scores_and_derivatives_against_a_loop(metric):
    """Derivatives by weighting an image a little more."""
    labels, predicted = random_predictions()
    scores, change = twoway.F1[f"{metric}_f1"](labels, predicted)
    step = 1e-6
    for k, row in enumerate(predicted):
        before = f1_score(labels, row, metric, np.ones(60))
        assert scores[k] == pytest.approx(before)
        for i in range(len(labels)):
            weights = np.ones(len(labels))
            weights[i] += step
            after = f1_score(labels, row, metric, weights)
            assert change[k, i] == pytest.approx((after - before) / step, abs=1e-6)


def test_a_class_that_is_neither_there_nor_predicted_is_left_out():
    score, change = twoway.macro_f1(np.array([0, 3, 3]), np.array([[0, 3, 3], [0, 3, 0]]))
    assert score.tolist() == pytest.approx([1, 2 / 3])
    assert np.isfinite(change).all()


def test_the_variance_is_that_of_the_two_way_layout():
    """Mean squares of statsmodels' analysis of variance of the table, seeds x groups."""
    rng = np.random.default_rng(0)
    n, n_groups = 6, 15
    table = rng.normal(0, 1, (n, n_groups)) + rng.normal(0, 1, n_groups) + rng.normal(0, 1, (n, 1))
    differences = table.mean(axis=1)
    test = paired_test(differences, (table - differences[:, None]) / n_groups)
    long = pd.DataFrame(
        [(s, g, table[s, g]) for s in range(n) for g in range(n_groups)], columns=["s", "g", "x"]
    )
    found = anova_lm(ols("x ~ C(s) + C(g)", long).fit())
    squares, df = found["sum_sq"] / found["df"] / (n * n_groups), found["df"]
    assert df.tolist() == [5, 14, 70] and squares["C(g)"] > squares["Residual"]
    variance = squares["C(s)"] + squares["C(g)"] - squares["Residual"]
    assert test.difference == pytest.approx(table.mean())
    assert test.error == pytest.approx(np.sqrt(variance))
    assert test.df == pytest.approx(variance**2 / (squares**2 / df).sum())
    t = abs(table.mean()) / np.sqrt(variance)
    assert test.p == pytest.approx(2 * stats.t.sf(t, test.df))
    assert test.half == pytest.approx(stats.t.ppf(0.975, test.df) * test.error)


def test_where_groups_are_alike_it_is_students_test_over_seeds():
    differences = np.array([0.1, 0.3, 0.2, 0.4, 0.1])
    alone = paired_test(differences)
    known = stats.ttest_1samp(differences, 0)
    assert alone.p == pytest.approx(known.pvalue) and alone.df == 4
    assert alone.difference - alone.half == pytest.approx(known.confidence_interval().low)
    assert paired_test(differences, np.zeros((5, 8))) == alone
    # as far apart as chance has it, or less: each seed has its own group of two
    opposed = np.array([[0.1, -0.1]] * 2 + [[-0.1, 0.1]] * 2 + [[0.0, 0.0]])
    assert paired_test(differences, opposed) == alone


def test_without_a_difference_p_is_one_and_with_always_the_same_it_is_zero():
    assert paired_test(np.zeros(5), np.zeros((5, 3))).p == 1
    assert paired_test(np.full(5, 0.25)).p == 0


def test_the_power_is_what_a_t_test_has():
    """Ten seeds whose differences have a deviation of 0.01; power by the noncentral t."""
    differences = 0.01 * stats.zscore(np.arange(10.0), ddof=1)
    found = paired_test(differences).detectable
    assert found == pytest.approx((2.2622 + 0.8834) * 0.01 / np.sqrt(10), rel=1e-4)
    critical, shift = stats.t.ppf(0.975, 9), found / (0.01 / np.sqrt(10))
    assert stats.nct.sf(critical, 9, shift) == pytest.approx(0.8, abs=0.02)


# --- from files -----------------------------------------------------------------------------------


def cells(folder, methods=("random", "ms"), n_seeds=6, n_steps=3, n_groups=10, shifts=None):
    """Curves with what was predicted: 30 images of three classes, in groups of three."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 10).astype(np.uint8)
    truth = Truth(labels, (np.arange(30) % n_groups).astype(np.int32))
    parts = []
    for method in methods:
        chance = 0.5 + (shifts or {}).get(method, np.zeros(30))
        for seed in range(n_seeds):
            right = rng.random((n_steps, 30)) < chance
            predicted = np.where(right, labels, (labels + 1) % 3).astype(np.uint8)
            path = folder / f"{method}{seed}"
            path.write_bytes(predicted.tobytes())
            scores, _ = twoway.macro_f1(labels, predicted)
            accuracy, _ = twoway.micro_f1(labels, predicted)
            parts.append(pd.DataFrame({
                "method": method, "seed": seed, "step": range(n_steps), "macro_f1": scores,
                "micro_f1": accuracy, "predictions": Predictions(path, truth),
                "labelled_fraction": [0.1, 0.2, 0.3],
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_influences_are_what_a_group_does_to_the_area(tmp_path):
    """Against a loop over cells, groups and lines."""
    curves = cells(tmp_path, n_seeds=2)
    scores = Scores.of(curves, "macro_f1")
    pd.testing.assert_series_equal(scores.values, statistics.aulc(curves, "macro_f1"))
    step = 1e-6
    for key, own in curves.groupby(["method", "seed"]):
        truth = own["predictions"].iloc[0].truth
        predicted = own["predictions"].iloc[0].of_lines(np.arange(3))
        for group in range(10):
            weights = np.where(truth.groups == group, 1 + step, 1.0)
            mean = np.mean([
                f1_score(truth.labels, row, "macro", weights)
                for row in predicted
            ])  # fmt: skip
            change = (mean - scores.values[key]) / step
            assert scores.influences.loc[key, group] == pytest.approx(change, abs=1e-6)


def test_a_part_of_a_curve_has_the_predictions_of_its_lines(tmp_path):
    curves = cells(tmp_path)
    late = Scores.of(statistics.rows_at(curves, "micro_f1", 0.3), "micro_f1")
    for key, own in curves.groupby(["method", "seed"]):
        predictions = own["predictions"].iloc[0]
        hit = predictions.of_lines(np.array([2]))[0] == predictions.truth.labels
        by_group = [(hit[predictions.truth.groups == g] - hit.mean()).sum() / 30 for g in range(10)]
        np.testing.assert_allclose(late.influences.loc[key], by_group, atol=1e-12)


def test_tests_are_over_both_where_all_cells_have_predictions(tmp_path):
    """MS is better on a third of the groups alone: over seeds it is significant."""
    shift = np.where(np.arange(30) % 10 < 3, 0.45, -0.05)
    curves = cells(tmp_path, shifts={"ms": shift}, n_seeds=10)
    both = statistics.paired_tests(curves, "macro_f1", "random").loc["ms"]
    seeds = statistics.paired_tests(curves.drop(columns="predictions"), "macro_f1", "random")
    assert both["difference"] == seeds.loc["ms", "difference"]
    assert (both["groups"], seeds.loc["ms", "groups"]) == (10, 0)
    assert seeds.loc["ms", "p"] < 0.01 < 0.05 < both["p"]
    assert both["low"] < 0 < seeds.loc["ms", "low"]
    some = curves.copy()
    some.loc[0, "predictions"] = None
    pd.testing.assert_frame_equal(statistics.paired_tests(some, "macro_f1", "random"), seeds)


def test_the_seeds_that_both_have_are_those_whose_influences_count(tmp_path):
    curves = cells(tmp_path, n_seeds=8)
    curves = curves[~((curves["method"] == "ms") & (curves["seed"] < 2))]
    found = statistics.paired_tests(curves, "macro_f1", "random").loc["ms"]
    scores = Scores.of(curves, "macro_f1")
    seeds = range(2, 8)
    parts = [scores.influences.loc["ms", s] - scores.influences.loc["random", s] for s in seeds]
    differences = [scores.values["ms", s] - scores.values["random", s] for s in seeds]
    expected = paired_test(np.array(differences), np.array(parts)).p
    assert found["p"] == pytest.approx(expected) and found["seeds"] == 6


def test_one_group_is_no_sample(tmp_path):
    assert Scores.of(cells(tmp_path, n_groups=1), "macro_f1").influences is None
    curves = cells(tmp_path).assign(reward=0.5)
    assert Scores.of(curves, "reward").influences is None


def test_predictions_of_another_curve_are_refused(tmp_path):
    curves = cells(tmp_path)
    curves.loc[1, "macro_f1"] += 0.01
    with pytest.raises(ValueError, match="random0 does not belong to the curve beside it"):
        Scores.of(curves, "macro_f1")
