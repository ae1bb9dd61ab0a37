"""What a run offers beyond the standard API, variants of its classifier, and going on elsewhere."""

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from agents import checkpoint
from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig, phases
from al_gym.classifiers import make_classifiers
from tests.al_gym.episodes import assert_equal, assert_unchanged, make, run, scores_for, state_of
from tests.samples import FAST, One, make_dataset


@pytest.fixture(scope="module")
def few():
    """Few and small images, for what trains for long."""
    return make_dataset(n_train=40, n_test=12, size=8)


# --- beyond the standard API ----------------------------------------------------------------------


def test_embedding_and_evaluating_full_supervision_leave_the_episode_alone(few):
    env = make(few)
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    before = state_of(env)
    embeddings = env.run.embed(env.run.episode.pool.indices)
    assert embeddings.shape == (env.action_space.shape[0], 128)
    scores = env.run.evaluate_fully_supervised()
    assert 0 <= scores.macro_f1 <= 1
    assert_unchanged(env, before)
    assert env.run.evaluate_fully_supervised() == scores


def test_fully_supervised_is_trained_on_everything(dataset):
    env = make(dataset, replace(FAST, pretrain_passes=12))
    _, info = env.reset(seed=0)
    scores = env.run.evaluate_fully_supervised()
    rows = dataset.train
    twin = One(make_classifiers(replace(dataset, train=rows), env.run.classifier_config), seed=None)
    children = np.random.SeedSequence(env.run.start.seed).spawn(4)
    twin.initialize(np.random.default_rng(children[1]))
    pool = env.run.episode.pool
    order = np.concatenate([pool.labelled, pool.indices])
    passes = env.run.retraining_passes(len(order))
    twin.fit(order, dataset.labels[order], passes, np.random.default_rng(children[2]))
    predicted = twin.predict(dataset.test).argmax(1)
    assert scores.micro_f1 == pytest.approx((predicted == dataset.labels[dataset.test]).mean())
    assert scores.macro_f1 > info["macro_f1"]


def test_predictions_are_kept_from_the_next_reset_on(env, dataset):
    seen = run(env)
    assert env.run.episode.test.predicted is None
    env.run.keep_predictions()
    assert not env.run.has_begun
    assert_equal(run(env), seen)
    first = env.run.start.test.predicted
    last = env.run.episode.test
    labels = dataset.labels[dataset.test]
    assert last.predicted.dtype == np.uint8 and last.predicted.shape == labels.shape
    assert last.micro_f1 == pytest.approx((last.predicted == labels).mean())
    assert (first != last.predicted).any()
    env.run.keep_predictions()  # again: nothing is forgotten
    env.reset()
    assert env.run.episode.test.predicted is first
    state = checkpointed(env.run.state_dict())
    env.step(np.ones(env.action_space.shape))
    env.run.load_state_dict(state)
    np.testing.assert_array_equal(env.run.episode.test.predicted, first)


def checkpointed(state):
    with tempfile.TemporaryDirectory() as folder:
        return checkpoint.read(checkpoint.write(Path(folder) / "state", state))


def test_only_the_runs_that_keep_predictions_have_them(dataset):
    vector = ActiveLearningVectorEnv(2, dataset, EnvConfig(initial_fraction=0.1), FAST)
    vector.envs[1].run.keep_predictions()
    vector.reset(seed=0)
    without, keeping = (each.run.episode.test for each in vector.envs)
    labels = dataset.labels[dataset.test]
    assert without.predicted is None
    assert keeping.micro_f1 == pytest.approx((keeping.predicted == labels).mean())


# --- variants of the classifier -------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"trainable": "head"}, {"update": "scratch"}, {"precision": "bf16"}, {"update_passes": 3}],
)
def test_episodes_with_every_kind_of_classifier(dataset, change):
    settings = replace(FAST, **change)
    assert_equal(run(make(dataset, settings)), run(make(dataset, settings)))


def test_what_is_labelled_and_where_the_pool_lies(env, dataset):
    _, info = env.reset(seed=0)
    pool = env.get_wrapper_attr("run").episode.pool
    indices, labelled, labels = pool.indices, pool.labelled, pool.labels
    assert sorted([*indices, *labelled]) == sorted(dataset.train)
    np.testing.assert_array_equal(labels, dataset.labels[labelled])
    _, _, _, _, info = env.step(np.arange(len(indices), dtype=np.float32))
    more = env.run.episode.pool.labelled
    np.testing.assert_array_equal(more, [*labelled, *indices[info["selected"]]])
    assert env.run.embed(indices).shape == (len(indices), env.run.n_features)


def test_retraining_is_that_of_a_fresh_classifier(env, dataset):
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    before = state_of(env)
    scores = env.run.evaluate_retrained()
    assert_unchanged(env, before)
    twin = One(make_classifiers(dataset, env.run.classifier_config), seed=None)
    children = np.random.SeedSequence(env.run.start.seed).spawn(4)
    twin.initialize(np.random.default_rng(children[1]))
    rows, labels = env.run.episode.pool.labelled, env.run.episode.pool.labels
    passes = env.run.retraining_passes(len(rows))
    twin.fit(rows, labels, passes, np.random.default_rng(children[2]))
    predicted = twin.predict(dataset.test).argmax(1)
    assert scores.micro_f1 == pytest.approx((predicted == dataset.labels[dataset.test]).mean())


@pytest.mark.parametrize("budget", [1.0, 0.5])
@pytest.mark.parametrize(("passes", "pretrain_passes"), [(1, 2), (3, 12)])
def test_retraining_takes_as_many_gradient_steps_as_an_episode(
    few, budget, passes, pretrain_passes
):
    """Counted batch by batch; samples_trained are those that the classifier really saw."""
    classifier = replace(FAST, update_passes=passes, pretrain_passes=pretrain_passes)
    env = make(few, classifier, budget=budget)
    _, info = env.reset(seed=0)
    n, terminated = info["n_labelled"], False
    steps = pretrain_passes * -(-n // 16)
    while not terminated:
        *_, terminated, _, info = env.step(np.ones(env.action_space.shape))
        steps += passes * -(-int(info["n_labelled"]) // 16)
    assert env.run.online_gradient_steps == steps
    for n, retrain in (
        (int(info["n_labelled"]), env.run.evaluate_retrained),
        (len(few.train), env.run.evaluate_fully_supervised),
    ):
        expected = next(p for p in range(1000) if p * -(-n // 16) >= steps)
        before = env.run.counters.samples_trained
        retrain()
        assert env.run.counters.samples_trained - before == n * expected


def test_retraining_from_scratch_is_what_an_episode_does(dataset):
    classifier = replace(FAST, update="scratch", pretrain_passes=3)
    env = make(dataset, classifier, budget=1.0)
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    before = env.run.counters.samples_trained
    env.run.evaluate_retrained()
    assert env.run.counters.samples_trained - before == 3 * len(env.run.episode.pool.labelled)


def test_retraining_at_the_papers_size(dataset):
    """3,500 lesions, 5 % at the start, 5 per query: 330 + 76,787 gradient steps, 353 passes."""
    env = make(dataset, ClassifierConfig(device="cpu"))
    run = env.run
    sizes = {"n_initial": 175, "n_budget": 3500, "max_steps": 665, "config": EnvConfig()}
    run.task = SimpleNamespace(**sizes)
    assert run.online_gradient_steps == 330 + 76_787
    assert run.retraining_passes(3500) == 353


def test_the_fingerprint_of_a_start(dataset):
    envs = [make(dataset), make(dataset)]
    for env in envs:
        env.reset(seed=3)
    first = envs[0].run.start_fingerprint()
    assert len(first) == 32 and envs[1].run.start_fingerprint() == first
    envs[0].step(np.ones(envs[0].action_space.shape))
    assert envs[0].run.start_fingerprint() == first  # of the episode's beginning
    envs[1].reset(seed=4)
    assert envs[1].run.start_fingerprint() != first


@pytest.mark.parametrize(
    ("config", "classifier"),
    [
        ({}, {}),
        ({"label_noise": 0.3, "reward": "f1_gain", "eval_every": 3}, {"momentum": 0.0}),
        ({"labelled_rows": "predict"}, {"trainable": "head", "dropout": 0.2}),
        ({"query_size": 9}, {"update": "scratch", "pretrain_passes": 1}),
        ({}, {"update": "scratch", "trainable": "head", "pretrain_passes": 1}),
    ],
)
def test_another_environment_goes_on_from_the_state(few, tmp_path, config, classifier):
    """Through a file: every observation, reward and score to the end, and the next episode's."""

    def fresh():
        settings = {"initial_fraction": 0.1, "query_size": 4, "budget": 0.8, **config}
        return ActiveLearningEnv(few, EnvConfig(**settings), replace(FAST, **classifier))

    def go_on(env):
        seen, terminated = [], False
        rng = np.random.default_rng(7)
        while not terminated:
            step = env.step(rng.random(env.action_space.shape))
            terminated = step[2]
            seen.append((step[0].tolist(), step[1], step[4]["macro_f1"], step[4]["evaluated_at"]))
        seen.append(env.reset()[0].tolist())
        return seen

    one = fresh()
    one.reset(seed=5)
    for _ in range(3):
        one.step(np.linspace(0, 1, one.action_space.shape[0]))
    path = checkpoint.write(tmp_path / "state", one.run.state_dict())
    expected = go_on(one)
    other = fresh()
    other.reset(seed=99)
    other.run.load_state_dict(checkpoint.read(path))
    assert go_on(other) == expected


def test_a_state_of_another_pool_is_refused(dataset):
    one, other = make(dataset), ActiveLearningEnv(dataset, EnvConfig(initial_fraction=0.3), FAST)
    one.reset(seed=0)
    other.reset(seed=0)
    before = state_of(other)
    with pytest.raises(ValueError, match="the state has a pool of 72 images, this environment one"):
        other.run.load_state_dict(one.run.state_dict())
    assert_unchanged(other, before)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_state_of_another_optimizer_leaves_everything_as_it_was(dataset, trainable):
    sgd = replace(FAST, trainable=trainable)
    one, other = make(dataset, replace(sgd, optimizer="adam", momentum=0.0)), make(dataset, sgd)
    one.reset(seed=0)
    other.reset(seed=1)
    before, start = state_of(other), other.run.start
    with pytest.raises(RuntimeError, match="another"):
        other.run.load_state_dict(one.run.state_dict())
    assert_unchanged(other, before)
    assert other.run.start is start


# --- predictions and corrections ------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_predictions_are_those_of_the_state_for_any_images_in_any_order(dataset, trainable):
    env = make(dataset, replace(FAST, trainable=trainable))
    with pytest.raises(gym.error.ResetNeeded):
        env.run.predict(np.array([0]))
    state, _ = env.reset(seed=0)
    pool = env.run.episode.pool
    before = state_of(env)
    np.testing.assert_allclose(env.run.predict(pool.indices), state, atol=1e-6)
    some = pool.indices[[7, 3, 5]]
    np.testing.assert_allclose(env.run.predict(some), state[[7, 3, 5]], atol=1e-6)
    found = env.run.predict(np.concatenate([dataset.test, pool.labelled]))
    assert found.dtype == np.float32 and found.shape == (30 + len(pool.labelled), 3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert (found[:30].argmax(1) == dataset.labels[dataset.test]).mean() == pytest.approx(
        env.run.episode.test.micro_f1
    )
    nothing = env.run.predict(np.array([], np.int64))
    assert nothing.shape == (0, 3) and nothing.dtype == np.float32
    assert_unchanged(env, before)


def test_each_run_predicts_with_its_own_classifier(dataset):
    vector = ActiveLearningVectorEnv(2, dataset, EnvConfig(initial_fraction=0.1), FAST)
    states, _ = vector.reset(seed=0)
    for env, state in zip(vector.envs, states, strict=True):
        found = env.run.predict(env.run.episode.pool.indices)
        np.testing.assert_allclose(found, state, atol=1e-6)
    assert np.abs(states[0][:9] - states[1][:9]).max() > 1e-4


class Fickle:
    """Says 0 of everything, until it is told the truth."""

    def __init__(self, labels):
        self.labels, self.lies = labels, True

    def annotate(self, indices):
        return self.labels[indices] * (not self.lies)


NEWTON = replace(FAST, trainable="head", optimizer="newton", weight_decay=0.1)


@pytest.mark.parametrize("retrain", [True, False])
def test_a_corrected_run_learns_what_an_honest_one_has_learned(dataset, retrain):
    """Trained to convergence: what is labelled alone decides."""
    task = {"initial_set": "random", "initial_size": 6}
    annotator = Fickle(dataset.labels)
    env = make(dataset, NEWTON, annotator=annotator, **task)
    honest = make(dataset, NEWTON, **task)
    action = scores_for(env, range(4))
    for each in (env, honest):
        each.reset(seed=0)
        each.step(action)
    run, pool = env.run, env.run.episode.pool
    lying = run.predict(dataset.test)
    run.correct(pool.labelled, dataset.labels[pool.labelled], retrain=retrain)
    truth = honest.run.episode.pool
    np.testing.assert_array_equal(run.episode.pool.labels, truth.labels)
    np.testing.assert_array_equal(run.episode.pool.labelled, truth.labelled)
    if retrain:
        np.testing.assert_allclose(
            run.predict(dataset.test), honest.run.predict(dataset.test), atol=1e-5
        )
        np.testing.assert_allclose(run.episode.softmax, honest.run.episode.softmax, atol=1e-5)
    else:
        np.testing.assert_array_equal(run.predict(dataset.test), lying)
    annotator.lies = False
    action = scores_for(env, range(4, 8))
    found, expected = env.step(action), honest.step(action)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    assert found[4]["macro_f1"] == pytest.approx(expected[4]["macro_f1"])
    assert np.abs(lying - run.predict(dataset.test)).max() > 0.01


def test_corrections_to_and_from_what_cannot_be_told(dataset):
    env = make(dataset)
    env.reset(seed=0)
    env.step(scores_for(env, range(4)))
    run, pool = env.run, env.run.episode.pool
    n, row = len(pool.labelled), pool.labelled[-1:]
    run.correct(row, np.array([-1]))
    assert run.episode.pool.skipped.tolist() == row.tolist()
    *_, info = env.step(scores_for(env, range(4, 8)))
    assert (info["n_labelled"], info["n_skipped"]) == (n + 3, 1)
    run.correct(row, np.array([2]), retrain=True)
    assert run.episode.pool.skipped.size == 0 and run.episode.pool.labels[-1] == 2
    other = make(dataset)
    other.reset(seed=1)
    other.run.load_state_dict(checkpointed(run.state_dict()))  # and it is kept
    assert_equal(env.step(scores_for(env, range(8, 12)))[:3],
                 other.step(scores_for(other, range(8, 12)))[:3])  # fmt: skip


@pytest.mark.parametrize("retrain", [True, False])
@pytest.mark.parametrize(
    ("label", "which", "message"),
    [
        (3, "asked", "class 3 to image"),
        (-2, "asked", "class -2 to image"),
        (0.5, "asked", "one integer each"),
        ([0, 1], "asked", "one integer each"),
        (0, "not asked", "was not asked about"),
        (0, "test", "was not asked about"),
    ],
)
def test_corrections_that_cannot_be_change_nothing(dataset, label, which, message, retrain):
    env = make(dataset)
    env.reset(seed=0)
    pool = env.run.episode.pool
    rows = {"asked": pool.labelled, "not asked": pool.indices, "test": dataset.test}[which][:1]
    before = state_of(env)
    with pytest.raises(ValueError, match=message):
        env.run.correct(rows, np.atleast_1d(label), retrain)
    assert_unchanged(env, before)


def test_a_correction_that_makes_it_diverge_changes_nothing(dataset, monkeypatch):
    env = make(dataset)
    env.reset(seed=0)
    before, rows = state_of(env), env.run.episode.pool.labelled[:2]
    update = phases.update

    def diverge(*arguments):
        update(*arguments)
        raise FloatingPointError("the classifier has diverged")

    monkeypatch.setattr(phases, "update", diverge)
    with pytest.raises(FloatingPointError):
        env.run.correct(rows, np.array([0, 0]), retrain=True)
    assert_unchanged(env, before)
    env.run.correct(rows, np.array([0, 0]))  # which trains nothing
    assert env.run.episode.pool.labels[:2].tolist() == [0, 0]


def test_before_a_reset_there_is_nothing_to_correct(env):
    with pytest.raises(gym.error.ResetNeeded):
        env.run.correct(np.array([0]), np.array([0]))
