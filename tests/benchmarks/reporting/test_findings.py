"""The sentences of a report, for every outcome there can be."""

import dataclasses

import pytest

from benchmarks.matrix.provenance import completed
from benchmarks.reporting import findings, results
from tests.benchmarks import made_runs


def loaded(folder, gains, n_seeds=6):
    made_runs.write(folder, gains=gains, n_seeds=n_seeds, n_steps=6)
    (found,) = results.load([folder])
    return found


def with_curves(experiment, curves):
    return dataclasses.replace(experiment, curves=curves)


FAR = {"random": 0.0, "lc": 0.3, "ms": 0.6}


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        (FAR, "MS is the best: significantly better than each of the 2 other methods."),
        ({"random": 0.0, "ms": 0.6}, "MS is significantly better than RANDOM."),
        (
            {"random": 0.0, "lc": 0.601, "ms": 0.6, "en": 0.3},
            "LC is significantly better than RANDOM and EN; its lead over MS is not significant.",
        ),
        (
            {"random": 0.0, "ms": 0.0},
            "MS scores highest, but it is not significantly better than RANDOM.",
        ),
        (
            {"random": 0.0, "lc": 0.0, "ms": 0.0},
            "LC scores highest, but it is not significantly better than any of the 2 others.",
        ),
    ],
)
def test_the_headline(tmp_path, gains, sentence):
    assert findings.headline(loaded(tmp_path, gains, 10)) == sentence


def test_many_methods_are_counted_but_random_and_ms_are_named(experiment):
    assert findings.headline(experiment) == (
        "DRLA-EMBED is significantly better than RANDOM and 5 other methods; its lead over MS is "
        "not significant."
    )
    basis = findings.basis(experiment)
    assert "over 10 seeds" in basis and "RANDOM's 0.6" in basis and "favours it a little" in basis


@pytest.mark.parametrize(("n", "words"), [(1, "With 1 seed nothing"), (4, "With 4 seeds nothing")])
def test_few_seeds_allow_no_conclusion(tmp_path, n, words):
    found = loaded(tmp_path, FAR, n)
    assert findings.headline(found).startswith(f"{words} can be concluded; at least 5 are needed")
    assert findings.basis(found) == "" and findings.comparisons(found) == []


def test_no_conclusion_without_seeds_in_common(tmp_path):
    found = loaded(tmp_path, {"random": 0.0, "ms": 0.6}, 10)
    curves = found.curves
    apart = curves[(curves["method"] == "ms") == (curves["seed"] < 5)]
    assert findings.headline(with_curves(found, apart)).startswith("Nothing can be concluded: no")
    alone = with_curves(found, curves[curves["method"] == "ms"])
    assert findings.headline(alone).startswith("Nothing can be concluded: no")


def test_comparisons_with_enough_seeds(tmp_path):
    found = loaded(tmp_path, {"random": 0.0, "ms": 0.6, "en": -0.6, "lc": 0.0})
    against_random, against_ms = findings.comparisons(found)
    assert "Against RANDOM" in against_random and "better: MS" in against_random
    assert "worse: EN" in against_random and "not significantly different: LC" in against_random
    assert "worse: RANDOM" in against_ms and "over 6 seeds" in against_ms


def test_an_agent_is_compared_with_its_untrained_actor(tmp_path):
    found = loaded(tmp_path, {"random": 0.0, "drla": 0.6, "frozen": 0.0})
    assert "Against FROZEN by AULC of macro F1 over 6 seeds" in findings.comparisons(found)[1]
    assert findings.comparisons(found)[1].endswith("better: DRLA.")


def test_methods_with_few_seeds_in_common_are_named(tmp_path):
    found = loaded(tmp_path, {**FAR, "drla": 0.0})
    curves = found.curves
    few = curves[~((curves["method"] == "drla") & (curves["seed"] < 3))]
    against_random = findings.comparisons(with_curves(found, few))[0]
    assert "over 6 seeds" in against_random
    assert "fewer than 5 seeds in common: DRLA" in against_random
    notes = findings.notes(with_curves(found, few))
    assert notes == [
        "The methods have finished different seeds; numbers of seeds: RANDOM 6, LC 6, MS 6, DRLA 3"
    ]


def test_a_bound_is_in_no_sentence(tmp_path):
    found = loaded(tmp_path, {**FAR, "eq3-oracle": 0.9})
    assert findings.headline(found).startswith("MS is the best")
    assert "ORACLE" not in " ".join(findings.comparisons(found))


def test_notes_name_what_failed_and_what_is_unfinished(experiment):
    unfinished = (
        results.Unfinished("ms", 1, 3, None),
        results.Unfinished("lc", 1, 0, None),
        results.Unfinished("drla", 0, 6, "MemoryError: too large"),
    )
    notes = findings.notes(
        dataclasses.replace(experiment, unfinished=unfinished, programs=("one", "two"))
    )
    assert notes[0] == (
        "DRLA, seed 0, failed after 6 steps and is in no number: MemoryError: too large"
    )
    assert notes[1] == "Unfinished and in no number: seeds 1 of MS, LC"
    assert notes[2].startswith("The cells were run by different versions")
    assert findings.notes(experiment) == []


@pytest.mark.parametrize(
    ("settings", "start", "until"),
    [
        ({"budget": 0.4}, "5 % labelled at the start (stratified)", "40 %"),
        (
            {"budget": 300, "initial_size": 0},
            "0 images labelled at the start (stratified)",
            "300 images",
        ),
        ({"initial_set": "typical"}, "5 % labelled at the start (typical)", "43 %"),
        (
            {"budget": 1.0, "initial_set": "begun.csv"},
            "the images of a list labelled at the start (begun.csv)",
            "100 %",
        ),
    ],
)
def test_the_task_in_words(settings, start, until):
    environment = made_runs.CONFIG["environment"] | settings
    config = completed(made_runs.CONFIG | {"environment": environment})
    assert findings.task(config) == (
        f"526 training images, {start}, 10 per query, up to {until}, 20 steps"
    )


def test_sentences_say_what_tests_are_over(experiment, predicting):
    over = "seeds and the 40 groups (scans, patients) of the test set"
    assert f"Paired t-tests over 6 {over}; Holm" in findings.basis(predicting)
    assert all(f"over 6 {over} (paired t-test" in s for s in findings.comparisons(predicting))
    assert "over 10 seeds only, the test set being taken as given" in findings.basis(experiment)
    assert findings.notes(predicting) == findings.notes(experiment) == []


def test_cells_without_predictions_among_others_are_named(predicting):
    curves = predicting.curves.copy()
    curves.loc[curves["method"] == "lc", "predictions"] = None
    mixed = with_curves(predicting, curves)
    assert findings.notes(mixed) == [
        "Tests are over seeds only, as cells of LC have not kept what was predicted of the test "
        "images"
    ]
    assert "over 6 seeds only" in findings.basis(mixed)
