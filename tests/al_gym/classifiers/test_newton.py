"""Heads trained to convergence: against scikit-learn, alone and many, and from anywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from al_gym.classifiers import Lesson, LinearHeads, heads, newton
from tests.samples import One

CONFIG = ClassifierConfig(
    trainable="head", optimizer="newton", weight_decay=0.01, device="cpu", momentum=0.9
)
M = 4


def features(n_features, apart=1.0):
    """60 images, the first 40 labelled: overlapping classes, or separate ones."""
    rng = np.random.default_rng(n_features)
    labels = np.arange(60) % M
    centres = 3 + apart * rng.normal(size=(M, n_features))
    return (centres[labels] + rng.normal(size=(60, n_features))).astype(np.float32), labels


def linear_heads(inputs, config=CONFIG, n=1, n_classes=M):
    heads = LinearHeads(torch.from_numpy(inputs), np.arange(len(inputs)), n, n_classes, config)
    return [One(heads, k, seed=k) for k in range(n)]


def fit(head, rows, labels, passes=1, seed=0):
    rows = np.asarray(rows)
    head.fit(rows, labels[rows], passes, np.random.default_rng(seed))


def sklearns(inputs, rows, labels, strength, class_weight=None):
    """Probabilities of all images, 0 for a class without a label."""
    n_there = len(set(labels[rows]))
    # of two classes scikit-learn has the difference of two opposite rows, whose penalty is half
    strength *= 0.5 if n_there == 2 else 1
    model = LogisticRegression(
        C=1 / (len(rows) * strength), solver="newton-cg", tol=1e-11, class_weight=class_weight
    ).fit(inputs[rows].astype(np.float64), labels[rows])
    softmax = np.zeros((len(inputs), M))
    softmax[:, model.classes_] = model.predict_proba(inputs.astype(np.float64))
    return softmax


# --- as scikit-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [5, 200])  # fewer than images, and more
@pytest.mark.parametrize("apart", [0.3, 3.0])
@pytest.mark.parametrize("strength", [0.1, 1e-4])
def test_probabilities_are_scikit_learns(n_features, apart, strength):
    inputs, labels = features(n_features, apart)
    (head,) = linear_heads(inputs, replace(CONFIG, weight_decay=strength))
    fit(head, range(40), labels)
    expected = sklearns(inputs, np.arange(40), labels, strength)
    np.testing.assert_allclose(head.predict(np.arange(60)), expected, atol=1e-4)


@pytest.mark.parametrize(
    "rows",
    [
        [0, 1, 2, 3],  # one a class
        [0, 1, 2, 4, 5, 6, 8, 9, 10],  # none of the last class
        [0, 2, 4, 8],  # two classes
        [0, 1, 2, 3, 3, 3, 1],  # the same image again
    ],
    ids=str,
)
@pytest.mark.parametrize("n_features", [3, 50])
def test_few_labels(rows, n_features):
    inputs, labels = features(n_features)
    (head,) = linear_heads(inputs)
    fit(head, rows, labels)
    softmax = head.predict(np.arange(60))
    np.testing.assert_allclose(softmax, sklearns(inputs, rows, labels, 0.01), atol=1e-4)
    absent = sorted(set(range(M)) - set(labels[rows]))
    assert ((softmax[:, absent] > 0) & (softmax[:, absent] < 1e-6)).all()


@pytest.mark.parametrize("rows", [[1], [1, 5, 9]], ids=str)
def test_one_class_is_certain(rows):
    inputs, labels = features(5)
    (head,) = linear_heads(inputs)
    fit(head, rows, labels)
    assert (head.predict(np.arange(60))[:, 1] > 0.999995).all()


@pytest.mark.parametrize("n_features", [5, 50])
def test_class_weights_are_scikit_learns(n_features):
    inputs, labels = features(n_features)
    rows = np.array([*range(0, 40, 4), *range(1, 20, 4), 2, 6, 3])
    (balanced,) = linear_heads(inputs, replace(CONFIG, class_weights="balanced"))
    fit(balanced, rows, labels)
    expected = sklearns(inputs, rows, labels, 0.01, "balanced")
    np.testing.assert_allclose(balanced.predict(np.arange(60)), expected, atol=1e-4)
    # the mean is the weighted one: scikit-learn's sum is divided by the sum of weights
    given = (0.5, 1.0, 3.0, 2.0)
    (weighted,) = linear_heads(inputs, replace(CONFIG, class_weights=given))
    fit(weighted, rows, labels)
    by_class = dict(enumerate(given))
    strength = 0.01 * np.mean([given[j] for j in labels[rows]])
    expected = sklearns(inputs, rows, labels, strength, by_class)
    np.testing.assert_allclose(weighted.predict(np.arange(60)), expected, atol=1e-4)


def test_the_penalty_of_the_sum_fades_with_labels():
    inputs, labels = features(50)
    (head,) = linear_heads(inputs, replace(CONFIG, loss_reduction="sum", weight_decay=0.4))
    fit(head, range(40), labels)
    expected = sklearns(inputs, np.arange(40), labels, 0.4 / 40)
    np.testing.assert_allclose(head.predict(np.arange(60)), expected, atol=1e-4)


@pytest.mark.parametrize("n_features", [5, 200])
def test_the_gradient_is_zero_where_it_ends(n_features):
    """By autograd, in the coordinates of the features."""
    inputs, labels = features(n_features)
    x, truth = torch.from_numpy(inputs[None, :40]).double(), torch.from_numpy(labels[:40])
    shares = torch.full((1, 40), 1 / 40, dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(truth, M)[None]
    weight, bias, _ = newton.solve(x, one_hot, shares, torch.tensor([0.001], dtype=torch.float64))
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    logits = (x @ weight.mT + bias)[0]
    loss = torch.nn.functional.cross_entropy(logits, truth) + 0.0005 * weight.square().sum()
    loss.backward()
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-6


# --- where it starts, and beside others -----------------------------------------------------------


def test_what_is_labelled_decides_alone():
    inputs, labels = features(50)
    warm, fresh = linear_heads(inputs, n=2)
    fit(warm, range(30), labels, passes=7)
    fit(warm, range(40), labels, passes=1, seed=3)
    fit(fresh, range(40), labels, passes=30)
    for name, value in warm.state_dict().items():
        torch.testing.assert_close(value, fresh.state_dict()[name], atol=0, rtol=0)


def test_no_pass_no_change():
    inputs, labels = features(5)
    (head,) = linear_heads(inputs)
    before = head.predict(np.arange(60))
    fit(head, range(40), labels, passes=0)
    np.testing.assert_array_equal(head.predict(np.arange(60)), before)
    assert head.counters.samples_trained == 0


@pytest.mark.parametrize("sizes", [(25, 25, 25), (25, 3, 8), (4, 25, 25)])
@pytest.mark.parametrize("at_once", [2**24, 2 * 25 * 50, 1])
def test_many_learn_as_each_alone(sizes, at_once, monkeypatch):
    monkeypatch.setattr(heads, "AT_ONCE", at_once)
    inputs, labels = features(50)
    config = replace(CONFIG, class_weights="balanced", weight_decay=1e-3)
    together, alone = linear_heads(inputs, config, 4), linear_heads(inputs, config, 4)
    rows = [np.random.default_rng(k).permutation(40)[:size] for k, size in enumerate(sizes)]
    chosen = [3, 0, 2]
    lessons = [
        Lesson(k, each, labels[each], np.random.default_rng(k))
        for k, each in zip(chosen, rows, strict=True)
    ]
    untouched = together[1].predict(np.arange(60))
    together[0].classifiers.fit(lessons, 2)
    np.testing.assert_array_equal(together[1].predict(np.arange(60)), untouched)
    for k, each in zip(chosen, rows, strict=True):
        fit(alone[k], each, labels)
        found, expected = (heads[k].predict(np.arange(60)) for heads in (together, alone))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert together[k].counters.samples_trained == alone[k].counters.samples_trained


def test_samples_are_counted_as_often_as_they_are_passed(monkeypatch):
    inputs, labels = features(5)
    passed = []
    mean = linear_heads(inputs)[0]
    solve = newton.solve

    def counted(*given):
        solution = solve(*given)
        passed.append(solution.passes.tolist())
        return solution

    monkeypatch.setattr(newton, "solve", counted)
    fit(mean, range(40), labels)
    ((passes,),) = passed
    assert mean.counters.samples_trained == 40 * passes and passes > 10
    # of one class the start is the optimum: its gradient is all there is to see
    mean.counters.clear()
    fit(mean, [0, 4, 8], labels)
    assert mean.counters.samples_trained == 3


def test_a_head_that_does_not_converge_is_what_it_is(monkeypatch):
    inputs, labels = features(5)
    one, two = linear_heads(inputs, replace(CONFIG, weight_decay=1e-5), 2)
    monkeypatch.setattr(newton, "MAX_STEPS", 2)
    fit(one, range(40), labels)
    monkeypatch.setattr(newton, "MAX_PRODUCTS", 1)
    fit(two, range(40), labels)
    for head in (one, two):
        softmax = head.predict(np.arange(60))
        assert np.isfinite(softmax).all() and np.ptp(softmax) > 0.5


def test_the_state_goes_to_another_and_that_of_adam_is_refused():
    inputs, labels = features(5)
    one, two = linear_heads(inputs, n=2)
    fit(one, range(40), labels)
    two.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(one.predict(np.arange(60)), two.predict(np.arange(60)))
    (adam,) = linear_heads(inputs, replace(CONFIG, optimizer="adam"))
    with pytest.raises(RuntimeError, match="another optimizer"):
        one.load_state_dict(adam.state_dict())


# --- in the environment ---------------------------------------------------------------------------

TASK = EnvConfig(initial_fraction=0.1, query_size=5, budget=0.5)


def episode(env, action, n_steps=3):
    seen = [env.reset(seed=4)[0]]
    for _ in range(n_steps):
        seen.append(env.step(action(seen[-1]))[0])
    return seen


@pytest.mark.parametrize("update", ["warm", "scratch"])
def test_environments_side_by_side_go_as_each_alone(dataset, update):
    config = replace(CONFIG, update=update)
    together = episode(ActiveLearningVectorEnv(2, dataset, TASK, config), lambda s: 1 - s.max(-1))
    for _ in range(2):  # the same seed, the same bits
        alone = episode(ActiveLearningEnv(dataset, TASK, config), lambda s: 1 - s.max(-1))
        np.testing.assert_allclose(alone, [each[0] for each in together], atol=1e-6)
    again = episode(ActiveLearningEnv(dataset, TASK, config), lambda s: 1 - s.max(-1))
    np.testing.assert_array_equal(alone, again)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainable": "all"}, "linear heads only; set trainable='head'"),
        ({"weight_decay": 0.0}, "weight_decay > 0, such as 0.1"),
        ({"dropout": 0.5}, "no batches for dropout=0.5; leave it out"),
        ({"early_stopping": 3}, "no passes for early_stopping=3; leave it out"),
        ({"schedule": "cosine"}, "no learning rate for schedule='cosine'; leave it out"),
        ({"device": "mps"}, "needs float64, which device='mps' has not; take 'cpu'"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^optimizer='newton' .*{message}"):
        replace(CONFIG, **change)
