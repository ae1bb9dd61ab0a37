"""Training of policies: its parts by hand, and the whole on small families."""

import dataclasses
import json
from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from agents.sets.coverage import FEATURES, REGIME
from agents.transfer import CoveragePolicy
from benchmarks import train_policy
from benchmarks.train_policy import TrainConfig
from benchmarks.training import search, surface, tasks
from benchmarks.training.families import FAMILIES, KINDS, Features
from benchmarks.training.search import Job, Search


class Here(Executor):
    """A pool of processes that is none."""

    def __init__(self, workers, context, initializer, initargs):
        initializer(*initargs)

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        future.set_result(function(*arguments, **keywords))
        return future


@pytest.fixture
def small(monkeypatch):
    """A hundred and fifty samples of each of four families, short tasks, all in this process."""

    def features(name, data):
        rng = np.random.default_rng(len(name))
        labels = rng.permutation(np.repeat([0, 1, 2], [80, 40, 30]))
        values = torch.from_numpy(rng.normal(0, 1, (150, 6)) + 1.5 * np.eye(6)[labels]).float()
        return (Features(values, labels, np.arange(150), "made"),)

    for name in ("retinopathy", "bloodcells"):
        monkeypatch.delitem(FAMILIES, name)
    monkeypatch.setattr(train_policy, "training_features", features)
    monkeypatch.setattr(train_policy, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(search, "THRESHOLDS", (0.0, 4.0))
    monkeypatch.setattr(surface, "N_CANDIDATES", 3)
    monkeypatch.setattr(tasks, "MOST_QUERIES", 8)
    monkeypatch.setattr(tasks, "FEW_PER_CLASS", 6)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    search.FEATURES_HERE.clear()


SEARCH = Search(plays=1, generations=2, population=3, tasks=1, starts=1, validation_tasks=2)


def settings(tmp_path, **changes):
    given = {
        "data": tmp_path, "out": tmp_path / "out", "leave_out": ("blood",),
        "embeddings": (False,),
    }  # fmt: skip
    return TrainConfig(**{**given, **changes}, search=SEARCH)


def job(embeddings=False):
    return Job(("radiology",), embeddings, SEARCH)


def test_fitness_does_not_depend_on_the_scale_of_a_task():
    first = np.array([[0.1, 0.5], [0.2, 0.4], [0.3, 0.6]])
    second = np.array([[5.0], [5.0], [5.0]])  # tells nothing
    # deviations from the mean of each start, over its standard deviation
    a = (np.array([-0.1, 0, 0.1])) / np.std([0.1, 0.2, 0.3])
    b = (np.array([0, -0.1, 0.1])) / np.std([0.5, 0.4, 0.6])
    np.testing.assert_allclose(search.fitness([first, second]), (a + b) / 3, atol=1e-12)
    scaled = search.fitness([100 * first + 3, second])
    np.testing.assert_allclose(scaled, (a + b) / 3, atol=1e-9)


def test_parameters_go_where_they_belong_and_none_is_the_start():
    n = search.N_PARAMETERS
    policy = search.policy_of(np.arange(1.0, n + 1), embeddings=True)
    constant, labels = REGIME.index("constant"), REGIME.index("labels per class")
    for i, name in enumerate(search.EVOLVED):
        row = policy.weights[FEATURES.index(name)]
        assert row[constant] == 2 * i + 1 + search.START.get(name, 0) and row[labels] == 2 * i + 2
        assert row.count_nonzero() == 2
    others = [FEATURES.index(name) for name in FEATURES if name not in search.EVOLVED]
    assert not policy.weights[others].any() and policy.embeddings
    start = search.policy_of(np.zeros(n), embeddings=False)
    assert torch.equal(start.weights, CoveragePolicy.of(search.START).weights)
    assert not start.embeddings


def test_a_job_is_named_after_what_it_has_not_seen():
    some = Job(("fundus", "radiology"), True, SEARCH)
    assert some.name == "drla-embed-v1-without-blood"
    assert some.left_out == ["bloodcells", "wbc"] and len(some.families) == 4
    assert Job(KINDS, False, SEARCH).name == "drla-transfer-v1"


def test_tasks_of_search_selection_and_validation_are_others(small, tmp_path, monkeypatch):
    each = job()
    features = train_policy.training_features("a", 0)
    monkeypatch.setitem(search.FEATURES_HERE, "chestct", features)  # as in a worker
    keys = [(0, 0), (0, 1), (1, 0), (search.SELECTION, 0), (search.VALIDATION, 0)]
    drawn = [search._draw(each.config, "chestct", key) for key in keys]
    assert len({task.seeds for task in drawn}) == len(keys)
    assert search._draw(each.config, "chestct", (0, 0)).seeds == drawn[0].seeds


@pytest.mark.parametrize(
    ("learner", "embeddings"),
    [("surface", False), ("surface", True), ("cma-es", True), ("ddpg", True)],
)
def test_a_policy_is_trained_written_and_read(small, tmp_path, learner, embeddings, capsys):
    config = settings(tmp_path, embeddings=(embeddings,), learner=learner, episodes=2)
    assert train_policy.main(config) == 0
    kind = "drla-embed" if embeddings else "drla-transfer"
    path = config.out / f"{kind}-v1-without-blood.safetensors"
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["history"] and record["learner"] == learner
    assert path.stem in capsys.readouterr().out
    if learner == "ddpg":
        assert not path.exists()
        return
    policy = CoveragePolicy.load(path)
    assert policy.embeddings is embeddings and path.stat().st_size < 10_000
    assert policy.card["families"] == ["chestct", "retinamnist", "mednist"]
    assert set(policy.card["validation"]) == set(FAMILIES)
    beside = policy.card["validation"]["wbc"]
    assert [*beside] == ["ms", "uherding", *["hyper"] * embeddings] and beside["ms"]["n"] == 2
    threshold = policy.card["hyper_threshold"]
    assert threshold in search.THRESHOLDS if embeddings else threshold is None
    assert policy.card["fingerprints"]["chestct"] == ["made"] and policy.card["program"]["versions"]


def test_training_is_repeatable_a_seed_changes_it_and_a_family_left_out_does_not(
    small, monkeypatch, tmp_path
):
    made, found = train_policy.training_features, []
    for seed, shift in ((0, 0), (0, 1), (1, 0)):

        def features(name, data, shift=shift):
            (each,) = made(name, data)
            moved = each.values.flip(0) if shift and name == "wbc" else each.values
            return (dataclasses.replace(each, values=moved),)

        monkeypatch.setattr(train_policy, "training_features", features)
        out = tmp_path / f"{seed}{shift}"
        train_policy.main(
            dataclasses.replace(
                settings(tmp_path, out=out), search=dataclasses.replace(SEARCH, seed=seed)
            )
        )
        policy = CoveragePolicy.load(next(out.glob("*.safetensors")))
        history = json.loads(next(out.glob("*.json")).read_text())["history"]
        validation = {name: policy.card["validation"][name] for name in policy.card["families"]}
        card = {k: v for k, v in policy.card.items() if k not in ("settings", "validation")}
        found.append((policy.weights.tolist(), history, validation, card))
    assert found[0] == found[1] != found[2]
    assert "wbc" not in found[0][3]["fingerprints"]
    assert found[0][0] != found[2][0]


def test_without_cma_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(train_policy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'al-gym\[train\]'"):
        train_policy.main(settings(tmp_path, learner="cma-es"))
    assert "cma" not in train_policy.program()["versions"]  # which the other learners do without


def test_ddpg_is_for_embeddings(tmp_path):
    with pytest.raises(ValueError, match="pass --embeddings True"):
        train_policy.main(settings(tmp_path, learner="ddpg"))


def test_the_threshold_is_that_of_a_jobs_own_families():
    best_first, best_last = (np.arange(6.0)[:, None] * sign for sign in (-1, 1))
    families = {"chestct": [best_first], "mednist": [best_first], "wbc": [best_last] * 9}
    assert search.hyper_threshold(job(), families) == search.THRESHOLDS[0]
