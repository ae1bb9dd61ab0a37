"""What a report says in sentences: what can be concluded, and what takes no part in it."""

from typing import Any

from al_gym.config import STARTS
from benchmarks.matrix.facts import REFERENCES
from benchmarks.reporting import statistics, tables
from benchmarks.reporting.results import Experiment
from benchmarks.reporting.twoway import Scores

NAMED = 5
"""More methods than this are counted in a headline, not named."""


def headline(experiment: Experiment) -> str:
    """Which method is better, and is the difference significant? One sentence."""
    n = len(experiment.seeds)
    if n < statistics.ENOUGH_SEEDS:
        seeds = "1 seed" if n == 1 else f"{n} seeds"
        return (
            f"With {seeds} nothing can be concluded; at least {statistics.ENOUGH_SEEDS} are "
            "needed. The numbers describe these runs and no more."
        )
    standing = _standing(experiment)
    if standing is None:
        return (
            "Nothing can be concluded: no two methods that may be compared have finished the "
            f"same {statistics.ENOUGH_SEEDS} seeds."
        )
    best = experiment.label(standing.best)
    others = len(standing.methods) - 1
    if not standing.below_best:
        near = f"any of the {others} others"
        if others == 1:
            near = experiment.label(standing.near_best[0])
        return f"{best} scores highest, but it is not significantly better than {near}."
    if not standing.near_best and others > 1:
        return f"{best} is the best: significantly better than each of the {others} other methods."
    said = f"{best} is significantly better than {_listed(experiment, standing.below_best)}"
    if standing.near_best:
        near = _listed(experiment, standing.near_best)
        said += f"; its lead over {near} is not significant"
    return said + "."


def basis(experiment: Experiment) -> str:
    """What the headline rests on; empty if it concludes nothing."""
    standing = _standing(experiment)
    if standing is None:
        return ""
    areas = statistics.aulc(experiment.curves, "macro_f1")
    random = REFERENCES[0]
    said = f"{experiment.label(standing.best)}'s {areas[standing.best].mean():.3f}"
    if random in standing.methods and random != standing.best:
        said += f", {experiment.label(random)}'s {areas[random].mean():.3f}"
    counts = sorted({areas[method].size for method in standing.methods})
    seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    over = f"{seeds} {tables.sampled([standing.tests])}"
    return (
        f"Score: area under the learning curve (AULC), the mean of macro F1 over it; {said}. "
        f"Paired t-tests over {over}; Holm's correction, 5 %. The best is chosen on the seeds that "
        "it is tested on, which favours it a little."
    )


def comparisons(experiment: Experiment) -> list[str]:
    """What the paired tests against each baseline allow to be said of AULC, macro F1."""
    if len(experiment.seeds) < statistics.ENOUGH_SEEDS:
        return []
    said = []
    present = list(experiment.compared["method"].unique())
    for baseline, tests in tables.baseline_tests(experiment).items():
        above, below = statistics.significant(tests)
        rest = [method for method in tests.index if method not in (*above, *below)]
        asked = experiment.baselines[baseline] or present
        untested = [m for m in asked if m in present and m != baseline and m not in tests.index]
        groups = {
            "better": above,
            "worse": below,
            "not significantly different": rest,
            f"fewer than {statistics.ENOUGH_SEEDS} seeds in common": untested,
        }
        parts = [
            f"{word}: {', '.join(experiment.label(method) for method in methods)}"
            for word, methods in groups.items()
            if methods
        ]
        fewest, most = tests["seeds"].min(), tests["seeds"].max()
        n_seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
        said.append(
            f"Against {experiment.label(baseline)} by AULC of macro F1 over {n_seeds} "
            f"{tables.sampled([tests])} (paired t-test, Holm, 5 %): {'; '.join(parts)}."
        )
    return said


def task(config: dict[str, Any]) -> str:
    """What was asked of every method, from a ``config.json``."""
    environment = config["environment"]
    start, size, budget = (environment[key] for key in ("initial_set", "initial_size", "budget"))
    begun = f"{100 * environment['initial_fraction']:.0f} %" if size is None else f"{size} images"
    begun = begun if start in STARTS else "the images of a list"
    until = f"{budget} images" if isinstance(budget, int) else f"{100 * budget:.0f} %"
    return (
        f"{config['n_training']} training images, {begun} labelled at the start ({start}), "
        f"{environment['query_size']} per query, up to {until}, {config['max_steps']} steps"
    )


def notes(experiment: Experiment) -> list[str]:
    """What takes no part, and what was not the same throughout."""
    said = [
        f"{experiment.label(cell.method)}, seed {cell.seed}, failed after {cell.steps} steps and "
        f"is in no number: {cell.error}"
        for cell in experiment.unfinished
        if cell.error
    ]
    open_seeds: dict[str, list[int]] = {}
    for cell in experiment.unfinished:
        if not cell.error:
            open_seeds.setdefault(cell.method, []).append(cell.seed)
    groups: dict[str, list[str]] = {}
    for method, seeds in open_seeds.items():
        listed = ", ".join(map(str, sorted(seeds)))
        groups.setdefault(listed, []).append(experiment.label(method))
    for listed, names in groups.items():
        said.append(f"Unfinished and in no number: seeds {listed} of {', '.join(names)}")
    if len(experiment.programs) > 1:
        said.append(
            "The cells were run by different versions, or on different machines; they are listed "
            "under “Program”"
        )
    without = experiment.without_predictions
    if without and len(without) < experiment.compared["method"].nunique():
        listed = ", ".join(map(experiment.label, without))
        said.append(
            f"Tests are over seeds only, as cells of {listed} have not kept what was predicted of "
            "the test images"
        )
    frame = experiment.everything
    seeds_of = {m: tuple(sorted(frame[frame["method"] == m]["seed"].unique()))
                for m in experiment.methods}  # fmt: skip
    if len(set(seeds_of.values())) > 1:
        listed = ", ".join(f"{experiment.label(m)} {len(seeds)}" for m, seeds in seeds_of.items())
        said.append(f"The methods have finished different seeds; numbers of seeds: {listed}")
    return said


def _standing(experiment: Experiment) -> statistics.Standing | None:
    compared = experiment.compared
    methods = list(compared["method"].unique())
    return statistics.standing(Scores.of(compared, "macro_f1"), methods)


def _listed(experiment: Experiment, methods: list[str]) -> str:
    """``A, B and C``; of many, RANDOM and MS by name and the number of the others."""
    named = [experiment.label(method) for method in methods]
    if len(methods) > NAMED:
        named = [experiment.label(method) for method in REFERENCES if method in methods]
        named.append(f"{len(methods) - len(named)}{' other' * bool(named)} methods")
    return ", ".join(named[:-1]) + " and " * (len(named) > 1) + named[-1]
