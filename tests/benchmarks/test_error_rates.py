"""The made-up experiments, the bootstrap against a loop, and what tests find in them."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import error_rates
from benchmarks.error_rates import SITUATIONS, ErrorRatesConfig, Situation
from benchmarks.reporting.twoway import macro_f1


def share_found(situation, shift, n=80):
    made = error_rates.experiments(situation, 6, n, shift)
    tests = [error_rates.tests(*each) for each in made]
    return [np.mean([test[i].p < 0.05 for test in tests]) for i in (0, 1)]


def test_where_methods_differ_by_scans_a_test_over_seeds_alone_is_mostly_wrong():
    alone, both = share_found(Situation(20, 5, scan=0.8), 0.0)
    assert alone > 0.3 and both < 0.14  # of 80, at 5 %, 11 or fewer with probability 0.998
    assert share_found(Situation(20, 5, scan=0.8), 1.5)[1] > 0.7


def test_where_they_differ_by_chance_alone_both_tests_are_right():
    alone, both = share_found(Situation(60), 0.0)
    assert both <= alone < 0.14


def test_a_shift_changes_nothing_but_the_second_method():
    (labels, _, plain), (same, _, better) = (
        next(error_rates.experiments(SITUATIONS["images"], 3, 1, shift)) for shift in (0.0, 1.0)
    )
    assert plain.shape == (2, 3, error_rates.N_LINES, 350)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(plain[0], better[0])
    right = plain[1] == labels
    assert (better[1] == labels)[right].all() and (better[1] == labels).sum() > right.sum()


def test_the_bootstrap_against_a_loop(monkeypatch):
    monkeypatch.setattr(error_rates, "N_DRAWS", 3)
    labels, groups, predicted = next(error_rates.experiments(Situation(8, 3), 2, 1, 0.0))
    found = error_rates.drawn(labels, groups, predicted, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    groups_drawn = rng.multinomial(8, np.full(8, 1 / 8), 3)
    seeds_drawn = rng.multinomial(2, np.full(2, 1 / 2), 3)
    for draw in range(3):
        images = np.repeat(np.arange(24), groups_drawn[draw][groups])
        seeds = np.repeat(np.arange(2), seeds_drawn[draw])
        areas = [
            np.mean([macro_f1(labels[images], predicted[m, s][:, images])[0] for s in seeds])
            for m in (0, 1)
        ]
        assert found[draw] == pytest.approx(areas[1] - areas[0])


def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(error_rates, "N_DRAWS", 20)
    monkeypatch.setattr(error_rates, "SITUATIONS", {"seeds": Situation(30, seed=0.3)})
    out = tmp_path / "tables" / "rates.md"
    assert error_rates.main(ErrorRatesConfig(out, experiments=20, seeds=(5,))) == 0
    text = out.read_text()
    assert text.strip() in capsys.readouterr().out
    header, _, cells = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()
    )
    row = pd.Series(cells, header)
    assert row["methods differ by"] == "seeds" and row["seeds"] == "5"
    # of the better method the difference is what was asked for, to the noise of 20 experiments
    assert abs(float(row["difference made"]) - float(row["power 0.8 at"])) < 0.1
    assert float(row["seeds only"].rstrip("%")) <= 25 and row["found in"].endswith("%")
