"""The ladder's tables and the ablation's against numbers worked by hand, and both programs run."""

import dataclasses
import signal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import ablation, ladder
from benchmarks.matrix.facts import facts_of
from benchmarks.matrix.layout import HEALTH
from benchmarks.matrix.stopping import Stop, Stopped
from benchmarks.reporting import statistics
from benchmarks.reporting.results import Experiment
from tests.benchmarks.reporting.test_statistics import curve

LABELS = [0.1, 0.2, 0.3]
GAINS = [0.01, 0.02, 0.03, 0.04, 0.05]
"""Of drla-transfer over MS, by seed, in every step but the first."""


def made(gains=GAINS, methods=("drla-transfer", "drla-embed")):
    parts = []
    for seed, gain in enumerate(gains):
        parts.append(curve("random", seed, LABELS, [0.3, 0.4 + 0.01 * seed, 0.5]))
        parts.append(curve("ms", seed, LABELS, [0.3, 0.45, 0.55]))
        for method in methods:
            shift = gain if method == "drla-transfer" else 0.01 * (-1) ** seed
            f1 = [0.3, 0.45 + shift, 0.55 + shift]
            parts.append(curve(method, seed, LABELS, f1))
    return pd.concat(parts, ignore_index=True)


def experiment(curves):
    facts = {method: facts_of(method, {}) for method in curves["method"].unique()}
    return Experiment("made", {}, curves, curves[:0], facts, (), ())


def test_a_row_has_the_area_its_thirds_and_the_difference_to_ms():
    row = ladder.table(experiment(made())).loc["DRLA-TRANSFER"]
    areas = 1.3 / 3 + 2 / 3 * np.array(GAINS)
    half = stats.t.ppf(0.975, 4) * stats.sem(areas)
    assert row["AULC"] == f"{areas.mean():.3f} ± {half:.3f}"
    assert (row["early"], row["middle"], row["late"]) == ("0.300", "0.480", "0.580")
    assert row["- MS"] == "+0.0200" and row["better in"] == "5 of 5" and row["reward"] == "0.100"
    low, high = stats.ttest_1samp(2 / 3 * np.array(GAINS), 0).confidence_interval()
    assert row["95 % interval"] == f"[{low:+.4f}, {high:+.4f}]"
    assert ladder.table(experiment(made())).loc["MS", "p"] == ""


def test_the_question_corrects_over_policies_and_data_sets_and_counts_labels():
    answer = ladder.question({"one": made(), "two": made()})
    assert len(answer) == 4
    row = answer.loc["DRLA-TRANSFER, one"]
    p = stats.ttest_1samp(GAINS, 0).pvalue
    assert row["p"] == f"{p:.3f}"
    # the smallest of four counts four times
    assert row["p, Holm"] == f"{4 * p:.3f}"
    assert answer.loc["DRLA-EMBED, two", "p, Holm"] == "1.000"
    # RANDOM ends at 0.5: MS reaches it with 30 labels, drla-transfer in the last seed with 20
    assert row["label saving"].startswith("1.00 [1.00, 1.50] (30 / 30)")
    more = ladder.question({"one": made([0.05, 0.06, 0.07, 0.08, 0.09])})
    assert more.loc["DRLA-TRANSFER, one", "label saving"] == "1.50 [1.50, 1.50] (30 / 20)"


def test_what_the_tests_could_find_is_said():
    # the gains' deviation over five seeds is 0.0158, two thirds of it in the area
    error = 2 / 3 * 0.015811 / 5**0.5
    detectable = (stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)) * error
    row = ladder.question({"one": made()}).loc["DRLA-TRANSFER, one"]
    assert row["power 0.8 at"] == f"{detectable:.4f}"
    one = made(methods=("drla-transfer",))
    said = ladder.basis(experiment(one[one["method"] != "random"]))
    assert said == (
        "Paired t-tests over seeds only, the test set being taken as given. With these seeds a "
        f"difference of {detectable:.4f} would be found with probability 0.8, uncorrected."
    )
    assert ladder.basis(experiment(one[one["seed"] < 3])) == ""


def test_no_saving_is_claimed_where_a_method_never_gets_there():
    answer = ladder.question({"one": made([-0.3] * 4 + [-0.31])})
    assert answer.loc["DRLA-TRANSFER, one", "label saving"] == "-"


def test_other_questions_are_about_other_methods_and_only_where_both_were_run():
    curves = made()
    assert ladder.question({"one": curves}, "uherding").empty
    renamed = curves.replace({"method": {"ms": "uherding"}})
    assert ladder.question({"one": renamed}).empty
    answer = ladder.question({"one": curves, "two": renamed}, "uherding")
    assert list(answer.index) == ["DRLA-TRANSFER, two", "DRLA-EMBED, two"]
    assert answer.loc["DRLA-TRANSFER, two", "- UHERDING"] == "+0.0200"
    # against RANDOM, with 30 labels in the median; drla-transfer needs as many
    over_random = ladder.question({"one": curves}, "random").loc["DRLA-TRANSFER, one"]
    assert over_random["label saving"].startswith("1.00 ")


def test_a_policy_is_held_against_what_it_was_before_its_training_and_no_other_is():
    curves = made(methods=("drla-transfer-v1", "drla-embed-v1"))
    renamed = curves.replace({"method": {"ms": "start-embed"}})
    answer = ladder.question({"one": renamed}, "start-embed")
    assert list(answer.index) == ["DRLA-EMBED-V1, one"]
    assert answer.loc["DRLA-EMBED-V1, one", "better in"] == "3 of 5"


def test_savings_are_over_the_seeds_that_two_methods_have():
    """RANDOM's later seeds change the score to reach, 0.52 before, and take no part otherwise."""
    later = [curve("random", seed, LABELS, [0.3, 0.4, 0.52]) for seed in (5, 6)]
    curves = pd.concat([made(), *later], ignore_index=True)
    row = ladder.question({"one": curves}).loc["DRLA-TRANSFER, one"]
    assert row["label saving"].startswith("1.00 [1.00, 1.00] (30 / 30)")


def test_thirds_in_which_a_policy_is_below_are_named():
    """It gains in the middle what it loses at the end, or less."""
    parts = []
    for seed in range(6):
        jitter = 0.001 * seed
        parts.append(curve("ms", seed, LABELS, [0.3, 0.4, 0.5]))
        f1 = [0.3, 0.45 + jitter, 0.48 - jitter]
        parts.append(curve("drla-transfer", seed, LABELS, f1))
    row = ladder.question({"one": pd.concat(parts, ignore_index=True)}).loc["DRLA-TRANSFER, one"]
    assert row["below in"] == "late" and row["- MS"].startswith("+")
    assert ladder.question({"one": made()}).loc["DRLA-TRANSFER, one", "below in"] == "-"


def test_a_saving_may_have_no_upper_end():
    """RANDOM gets to its mean final score in three of five seeds, the policy always at once."""
    parts = []
    for seed, end in enumerate([0.4, 0.4, 0.6, 0.6, 0.6]):
        parts.append(curve("random", seed, LABELS, [0.3, 0.35, end]))
        parts.append(curve("drla-transfer", seed, LABELS, [0.3, 0.6, 0.6]))
    answer = ladder.question({"one": pd.concat(parts, ignore_index=True)}, "random")
    assert answer.loc["DRLA-TRANSFER, one", "label saving"] == "1.50 [1.50, inf] (30 / 20)"


def test_a_policy_that_lacks_seeds_is_not_judged():
    curves = made()
    short = curves[(curves["method"] != "drla-embed") | (curves["seed"] != 2)]
    with pytest.raises(ValueError, match="one: .* not the same seeds"):
        ladder.question({"one": short})


def test_the_program_writes_what_it_prints(finished, tmp_path, capsys):
    out = tmp_path / "tables" / "ladder.md"
    assert ladder.main(ladder.LadderConfig((finished,), out)) == 0
    text = out.read_text()
    assert text.startswith("Folder:") and "| DRLA " in text and "Above MS" not in text
    assert text.strip() in capsys.readouterr().out


def test_the_ablation_compares_with_its_first():
    study = ablation.STUDIES["set"]
    first, *others = study.variants
    parts = []
    for seed in range(5):
        for i, name in enumerate((first, *others, *study.controls)):
            parts.append(curve(name, seed, LABELS, [0.3, 0.4, 0.5 + 0.003 * (1 + 6 * seed) * i]))
    curves = pd.concat(parts, ignore_index=True)
    tests = statistics.paired_tests(curves, "macro_f1", first, others)
    table = ablation.table(curves, tests, study.controls)
    assert list(table.index)[:2] == [first, others[0]] and table.index[-1] == "FROZEN-SET"
    assert table.loc[first, "p"] == "" == table.loc["RANDOM", "p"]
    # a third of 0.003 (1, 7, 13, 19, 25), for all variants with the same p
    assert table.loc[others[0], "- the first"] == "+0.0130"
    p = stats.ttest_1samp([1, 7, 13, 19, 25], 0).pvalue
    assert table.loc[others[0], "p"] == f"{p:.3f}"
    assert table.loc[others[0], "p, Holm"] == f"{len(others) * p:.3f}"
    assert "saturated" not in table


def test_the_ablation_says_how_an_agent_did_at_its_end():
    """Over the last fifth of the steps, here the last of three."""
    ill = dict(zip(HEALTH, (1.0, 0.75, -0.05, -8464.0, 100.0, 0.1, 0.2), strict=True))
    parts = [curve(name, 0, LABELS, [0.3, 0.4, 0.5]) for name in ("as published", "random")]
    curves = pd.concat(parts, ignore_index=True)
    learns, last = curves["method"] == "as published", curves["step"] == curves["step"].max()
    curves["realised"] = ablation.realised(curves, gamma=0.5)
    for name, number in ill.items():
        curves[name] = np.where(learns, np.where(last, number, 0.3), np.nan)
    table = ablation.table(curves, pd.DataFrame(), ("random",))
    names = ["saturated", "tied", "rank correlation", "Q / largest return", "Q / realised"]
    # returns of 0.15 and 0.1, so 0.125 in the mean
    assert table.loc["as published", names].tolist() == ["100%", "75%", "-0.05", "85", "-6.8e+04"]
    assert table.loc["RANDOM", names].tolist() == [""] * 5


def test_returns_are_counted_to_the_end_of_each_episode():
    one = curve("drla", 0, [0.1, 0.2, 0.3, 0.4], [0.3] * 4)
    one["reward"] = [np.nan, 1.0, 2.0, 4.0]
    curves = pd.concat([one, curve("drla", 1, LABELS, [0.3] * 3)], ignore_index=True)
    # from behind 4, 2 + 4 / 2, 1 + 4 / 2; and their means from the front
    expected = [np.nan, 3.0, 3.5, 11 / 3, np.nan, 0.15, 0.125]
    found = ablation.realised(curves, gamma=0.5)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("study", "variants", "controls"),
    [
        ("set", ("reward loss_gain", "no noise"), ("FROZEN-SET",)),
        pytest.param(
            "repairs",
            ("penalty", "all together"),
            ("FROZEN", "FROZEN-SOUND"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_ablation_runs_and_goes_on(
    folder_root, tmp_path, monkeypatch, capsys, study, variants, controls
):
    from benchmarks.matrix.presets import PRESETS, Preset

    settings = {
        "root": str(folder_root), "query_size": 10, "budget": 0.3, "pretrain_passes": 5,
    }  # fmt: skip
    monkeypatch.setitem(PRESETS, "small", Preset("Folder", settings))
    config = ablation.AblationConfig(study, "small", tmp_path / "ab", variants, seeds=2)
    stop = Stop()
    stop.number = signal.SIGTERM
    with pytest.raises(Stopped):
        ablation.main(config, stop)
    assert ablation.main(config) == 0
    first = (tmp_path / "ab" / "ablation.md").read_text()
    found = [line.split("|")[1].strip() for line in first.splitlines()[2:]]
    assert found == [next(iter(ablation.STUDIES[study].variants)), *variants,
                     "RANDOM", "MS", *controls]  # fmt: skip
    assert "rank correlation" in first
    assert ablation.main(config) == 0
    assert (tmp_path / "ab" / "ablation.md").read_text() == first
    assert "2 of 2 cells are finished already" in capsys.readouterr().out
    fewer = dataclasses.replace(config, seeds=1)  # those that are there beyond do not count
    assert ablation.main(fewer) == 0
    assert "±" not in (tmp_path / "ab" / "ablation.md").read_text()


def test_an_unknown_variant_is_named(tmp_path):
    config = ablation.AblationConfig("repairs", "embedded", tmp_path, ("penality",))
    with pytest.raises(ValueError, match="no variant 'penality', choose from as published, mask,"):
        ablation.main(config)


def test_all_repairs_are_in_the_last_variant():
    last = ablation.STUDIES["repairs"].variants["all together"]["agent"]
    alone = {k for settings in ablation.REPAIRS.values() for k in settings}
    assert last.keys() == alone and last["bounds"] == "penalty"
