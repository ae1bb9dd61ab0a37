"""Class weights, optimizers, learning rates, early stopping: as PyTorch's, and by plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from agents import checkpoint
from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from al_gym.classifiers import Lesson, Networks, make_classifiers, optimization
from al_gym.classifiers.images import split_evenly
from tests.samples import One, make_dataset

CONFIG = ClassifierConfig(learning_rate=0.05, device="cpu")
ADAM = {"optimizer": "adam", "learning_rate": 0.003}
CHANGES = [
    {"class_weights": "balanced"},
    {"class_weights": (0.5, 1.0, 3.0), "momentum": 0.9},
    ADAM,
    {**ADAM, "weight_decay": 0.1},
    {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.1},
    {**ADAM, "class_weights": "balanced", "schedule": "cosine", "batch_size": 7},
    {"schedule": "cosine", "momentum": 0.9, "weight_decay": 0.01},
    {"loss_reduction": "sum", "learning_rate": 0.004, "momentum": 0.9, "weight_decay": 0.01},
    {"loss_reduction": "sum", "learning_rate": 0.004, "class_weights": "balanced"},
    {**ADAM, "loss_reduction": "sum", "class_weights": (0.5, 1.0, 3.0), "weight_decay": 0.1},
]


@pytest.fixture(scope="module")
def validated():
    """A data set with a validation split of its own."""
    data = make_dataset(n_train=60, n_test=50)
    return replace(data, test=data.test[:30], validation=data.test[30:])


def linear(channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 144, n_classes))


def make(dataset, trainable, n=1, **change):
    # a network that is one linear layer, and linear heads over a small network
    network = linear if trainable == "all" else "auto"
    config = replace(CONFIG, trainable=trainable, network=network, **change)
    classifiers = make_classifiers(dataset, config, n)
    return [One(classifiers, k, seed=k) for k in range(n)]


def inputs_of(classifier, dataset):
    """What the last layer of a classifier sees of every image, (N, F)."""
    return torch.from_numpy(classifier.embed(np.arange(len(dataset.images))))


def layer_of(classifier):
    """A copy of the last layer."""
    weight, bias = map(torch.from_numpy, classifier.classifiers.last_layer(classifier.k))
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.load_state_dict({"weight": weight.clone(), "bias": bias.clone()})
    return layer


def plainly_trained(layer, inputs, rows, labels, passes, rng, config, after_pass=lambda: False):
    """The loop that everybody writes: PyTorch's optimizer, schedule and weighted cross-entropy."""
    decay = {"weight_decay": config.weight_decay}
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, config.learning_rate, config.momentum, **decay),
        "adam": lambda p: torch.optim.Adam(p, config.learning_rate, **decay),
        "adamw": lambda p: torch.optim.AdamW(p, config.learning_rate, **decay),
    }[config.optimizer](layer.parameters())
    truth, n = torch.as_tensor(labels), len(rows)
    n_steps = passes * -(-n // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    weights = None
    if config.class_weights == "balanced":
        counts = [int((labels == j).sum()) for j in range(3)]
        present = sum(count > 0 for count in counts)
        weights = torch.tensor([n / (present * count) if count else 0.0 for count in counts])
    elif config.class_weights is not None:
        weights = torch.tensor(config.class_weights)
    rng.integers(2**63)
    for _ in range(passes):
        for batch in split_evenly(rng.permutation(n), config.batch_size):
            logits, answers = layer(inputs[rows[batch]]), truth[batch]
            if config.loss_reduction == "sum":  # Eq. 1, term by term
                terms = -logits.log_softmax(dim=1)[torch.arange(len(batch)), answers]
                loss = (terms if weights is None else terms * weights[answers]).sum()
            else:
                loss = F.cross_entropy(logits, answers, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if config.schedule == "cosine":
                schedule.step()
        if after_pass():
            break
    return layer


def softmax_of(layer, inputs):
    with torch.no_grad():
        return F.softmax(layer(inputs), dim=1).numpy()


# --- each as PyTorch does it ----------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["all", "head"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_training_is_that_of_a_plain_loop_in_pytorch(dataset, trainable, change):
    (classifier,) = make(dataset, trainable, **change)
    inputs, layer = inputs_of(classifier, dataset), layer_of(classifier)
    rows, labels = dataset.train[:40], dataset.labels[dataset.train[:40]]
    config = classifier.classifiers.config
    plainly_trained(layer, inputs, rows, labels, 3, np.random.default_rng(1), config)
    before = classifier.predict(dataset.test)
    classifier.fit(rows, labels, 3, np.random.default_rng(1))
    found = classifier.predict(dataset.test)
    np.testing.assert_allclose(found, softmax_of(layer, inputs[dataset.test]), atol=2e-5)
    assert np.abs(found - before).max() > 1e-2


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_the_sum_is_the_mean_at_a_rate_as_many_times_as_high_as_a_batch_is_large(
    dataset, trainable
):
    rows, labels = dataset.train[:32], dataset.labels[dataset.train[:32]]
    (summed,) = make(dataset, trainable, loss_reduction="sum", learning_rate=0.002)
    (meant,) = make(dataset, trainable, learning_rate=0.032)
    for classifier in (summed, meant):
        classifier.fit(rows, labels, 3, np.random.default_rng(1))
    found, expected = summed.predict(dataset.test), meant.predict(dataset.test)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_class_without_a_sample_does_not_count(dataset, trainable):
    (classifier,) = make(dataset, trainable, class_weights="balanced")
    inputs, layer = inputs_of(classifier, dataset), layer_of(classifier)
    rows = dataset.train[dataset.labels[dataset.train] != 1][:25]
    labels, config = dataset.labels[rows], classifier.classifiers.config
    plainly_trained(layer, inputs, rows, labels, 2, np.random.default_rng(1), config)
    classifier.fit(rows, labels, 2, np.random.default_rng(1))
    expected = softmax_of(layer, inputs[dataset.test])
    np.testing.assert_allclose(classifier.predict(dataset.test), expected, atol=2e-5)


def test_balanced_weights_by_hand():
    balanced = replace(CONFIG, class_weights="balanced")
    found = optimization.class_weights(balanced, np.array([0, 0, 2, 0]), 4)
    np.testing.assert_allclose(found, [4 / (2 * 3), 1, 4 / (2 * 1), 1], rtol=1e-6)
    given = replace(CONFIG, class_weights=[1, 2.5])
    assert given.class_weights == (1.0, 2.5)
    assert optimization.class_weights(given, np.array([0]), 2).tolist() == [1, 2.5]


def test_as_many_weights_as_classes(dataset):
    with pytest.raises(ValueError, match="class_weights has 2 numbers; there are 3 classes"):
        make_classifiers(dataset, replace(CONFIG, class_weights=(1.0, 2.0)))


def test_the_cosine_by_hand():
    config = replace(CONFIG, schedule="cosine", learning_rate=8.0)
    rates = [optimization.learning_rate(config, step, 4) for step in range(4)]
    np.testing.assert_allclose(rates, [8, 4 + 8**0.5, 4, 4 - 8**0.5])


# --- what an optimizer remembers ------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["all", "head"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_its_state_goes_to_another_classifier_and_a_new_start_forgets_it(
    dataset, trainable, optimizer
):
    change = {**ADAM, "optimizer": optimizer}
    (one,), (other,), (fresh,) = (make(dataset, trainable, **change) for _ in range(3))
    rows, labels = dataset.train[:30], dataset.labels[dataset.train[:30]]
    one.fit(rows, labels, 2, np.random.default_rng(0))
    kept = one.state_dict()
    one.fit(rows, labels, 2, np.random.default_rng(1))
    expected = one.predict(dataset.test)
    for classifier in (other, one):
        classifier.load_state_dict(kept)
        classifier.fit(rows, labels, 2, np.random.default_rng(1))
        np.testing.assert_array_equal(classifier.predict(dataset.test), expected)
    for classifier in (one, fresh):
        classifier.initialize(np.random.default_rng(5))
        classifier.fit(rows, labels, 2, np.random.default_rng(1))
    np.testing.assert_array_equal(one.predict(dataset.test), fresh.predict(dataset.test))


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_state_of_another_optimizer_is_refused(dataset, trainable):
    (one,) = make(dataset, trainable, momentum=0.9)
    (other,) = make(dataset, trainable, **ADAM)
    rows = dataset.train[:20]
    one.fit(rows, dataset.labels[rows], 1, np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="another (optimizer|network)"):
        other.load_state_dict(one.state_dict())


def test_heads_count_their_own_steps(dataset):
    """One has been trained before, the other has not: Adam's first steps are another's third."""
    together, alone = make(dataset, "head", n=2, **ADAM), make(dataset, "head", n=2, **ADAM)
    rows, labels = dataset.train[:30], dataset.labels[dataset.train[:30]]
    for heads in (together, alone):
        heads[0].fit(rows, labels, 2, np.random.default_rng(3))
    lessons = [Lesson(k, rows, labels, np.random.default_rng(k)) for k in range(2)]
    together[0].classifiers.fit(lessons, 3)
    for k in range(2):
        alone[k].fit(rows, labels, 3, np.random.default_rng(k))
        expected = alone[k].predict(dataset.test)
        np.testing.assert_allclose(together[k].predict(dataset.test), expected, atol=1e-6)


# --- when to stop ---------------------------------------------------------------------------------


def test_patience_by_hand():
    stopping = optimization.EarlyStopping(2)
    losses = [1.0, 0.8, 0.9, 0.7, 0.7, 0.71]
    over = [stopping.is_over(loss, lambda i=i: {"pass": i}) for i, loss in enumerate(losses)]
    assert over == [False] * 5 + [True] and stopping.best == {"pass": 3}
    never = optimization.EarlyStopping(None)
    assert not any(never.is_over(float("nan"), dict) for _ in range(9)) and never.best is None


@given(losses=st.lists(st.floats(0, 5), min_size=1), patience=st.integers(1, 5))
def test_patience_as_a_plain_loop(losses, patience):
    stopping = optimization.EarlyStopping(patience)
    for i, loss in enumerate(losses):
        over = stopping.is_over(loss, lambda i=i: {"pass": i})
        best = losses.index(min(losses[: i + 1]))
        assert stopping.best == {"pass": best} and over == (i - best >= patience)
        if over:
            break


@pytest.mark.parametrize("trainable", ["all", "head"])
@pytest.mark.parametrize("change", [{"momentum": 0.9}, ADAM | {"learning_rate": 0.05}])
def test_it_stops_where_a_plain_loop_does_and_goes_back(validated, trainable, change):
    dataset = validated
    (classifier,) = make(dataset, trainable, early_stopping=2, **change)
    inputs, layer = inputs_of(classifier, dataset), layer_of(classifier)
    rows, labels = dataset.train[:20], dataset.labels[dataset.train[:20]]
    losses, kept = [], []

    def after_pass():
        with torch.no_grad():
            logits = layer(inputs[dataset.validation])
        losses.append(F.cross_entropy(logits, torch.as_tensor(dataset.labels[dataset.validation])))
        kept.append({name: value.clone() for name, value in layer.state_dict().items()})
        best = int(np.argmin(losses))
        return len(losses) - 1 - best >= 2

    config = classifier.classifiers.config
    plainly_trained(layer, inputs, rows, labels, 60, np.random.default_rng(1), config, after_pass)
    assert len(losses) < 60
    layer.load_state_dict(kept[int(np.argmin(losses))])
    classifier.counters.clear()
    classifier.fit(rows, labels, 60, np.random.default_rng(1))
    assert classifier.counters.samples_trained == 20 * len(losses)
    assert classifier.counters.samples_forwarded == len(dataset.validation) * len(losses)
    expected = softmax_of(layer, inputs[dataset.test])
    np.testing.assert_allclose(classifier.predict(dataset.test), expected, atol=1e-4)


def test_heads_that_stop_leave_the_others_to_go_on(validated):
    dataset = validated
    settings = {"early_stopping": 1, "learning_rate": 0.3, "dropout": 0.3}
    together = make(dataset, "head", n=4, **settings)
    alone = make(dataset, "head", n=4, **settings)
    rows = [np.random.default_rng(k).choice(dataset.train, 20, replace=False) for k in range(4)]
    labels = [dataset.labels[each] for each in rows]
    rngs = [[np.random.default_rng(9 + k) for k in range(4)] for _ in range(2)]
    lessons = [Lesson(k, rows[k], labels[k], rngs[0][k]) for k in range(4)]
    heads = together[0].classifiers
    heads.fit(lessons, 40)
    passes = [each.samples_trained // 20 for each in heads.counters]
    assert len(set(passes)) > 1 and max(passes) < 40
    for k in range(4):
        alone[k].fit(rows[k], labels[k], 40, rngs[1][k])
        assert alone[k].counters.samples_trained == 20 * passes[k]
        assert rngs[0][k].bit_generator.state == rngs[1][k].bit_generator.state
        expected = alone[k].predict(dataset.test)
        np.testing.assert_allclose(together[k].predict(dataset.test), expected, atol=1e-6)


def test_batch_norm_goes_back_too(validated):
    """To the bit what so many passes would have left: weights, statistics, momentum."""
    settings = replace(CONFIG, learning_rate=0.2, momentum=0.9)
    stopped = One(make_classifiers(validated, replace(settings, early_stopping=1)))
    plain = One(make_classifiers(validated, settings))
    rows, labels = validated.train[:20], validated.labels[validated.train[:20]]
    stopped.fit(rows, labels, 30, np.random.default_rng(1))
    n_passes = stopped.counters.samples_trained // 20
    assert 1 < n_passes < 30
    plain.fit(rows, labels, n_passes - 1, np.random.default_rng(1))
    for name, value in plain.state_dict()["network"].items():
        torch.testing.assert_close(stopped.state_dict()["network"][name], value, atol=0, rtol=0)
    for classifier in (stopped, plain):
        classifier.fit(rows, labels, 1, np.random.default_rng(2))
    np.testing.assert_array_equal(*(c.predict(validated.test) for c in (stopped, plain)))


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_stopping_needs_validation_images(dataset, trainable):
    with pytest.raises(ValueError, match=r"early_stopping=3 needs .*validation=True.*val/"):
        make_classifiers(dataset, replace(CONFIG, early_stopping=3, trainable=trainable))


# --- few images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_lesson_without_an_image_changes_nothing(validated, trainable):
    classifiers = make_classifiers(
        validated, replace(CONFIG, trainable=trainable, early_stopping=1), 2
    )
    one, other = One(classifiers, 0), One(classifiers, 1)
    before, none = one.predict(validated.test), np.array([], np.int64)
    rngs = [np.random.default_rng(0), np.random.default_rng(1)]
    state = rngs[0].bit_generator.state
    rows = validated.train[:20]
    classifiers.fit(
        [Lesson(0, none, none, rngs[0]), Lesson(1, rows, validated.labels[rows], rngs[1])], 2
    )
    assert rngs[0].bit_generator.state == state
    np.testing.assert_array_equal(one.predict(validated.test), before)
    assert np.abs(other.predict(validated.test) - before).max() > 1e-3
    classifiers.fit([Lesson(0, none, none, rngs[0])], 2)
    np.testing.assert_array_equal(one.predict(validated.test), before)


def ends_in_batch_norm(channels, n_classes):
    """One value a channel: PyTorch refuses to train it on a single sample."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * 144, 8), nn.BatchNorm1d(8), nn.Linear(8, n_classes)
    )


@pytest.mark.parametrize("network", ["auto", ends_in_batch_norm, linear])
def test_one_image_is_learned(dataset, network):
    classifier = One(make_classifiers(dataset, replace(CONFIG, network=network)))
    row = dataset.train[:1]
    truth = dataset.labels[row]
    before = classifier.predict(row)[0, truth[0]]
    classifier.fit(row, truth, 8, np.random.default_rng(0))
    softmax = classifier.predict(row)
    assert np.isfinite(softmax).all() and softmax[0, truth[0]] > before
    assert classifier.counters.samples_trained == 16  # it is in every batch twice


def test_a_head_learns_one_image_as_a_plain_loop(dataset):
    (classifier,) = make(dataset, "head")
    inputs, layer = inputs_of(classifier, dataset), layer_of(classifier)
    row, label = dataset.train[:1], dataset.labels[dataset.train[:1]]
    plainly_trained(layer, inputs, row, label, 3, np.random.default_rng(1), CONFIG)
    classifier.fit(row, label, 3, np.random.default_rng(1))
    expected = softmax_of(layer, inputs[dataset.test])
    np.testing.assert_allclose(classifier.predict(dataset.test), expected, atol=1e-5)


# --- side by side ---------------------------------------------------------------------------------

SETTINGS = [
    {"trainable": "all", "augmentation": ("flip", "shift", "intensity"), **ADAM},
    {"trainable": "head", "optimizer": "adamw", "learning_rate": 0.01, "update_passes": 6},
]


@pytest.mark.parametrize("change", SETTINGS, ids=lambda change: change["trainable"])
def test_environments_side_by_side_go_as_each_alone(validated, change):
    config = ClassifierConfig(
        device="cpu", pretrain_passes=6, class_weights="balanced", schedule="cosine",
        early_stopping=2, **change,
    )  # fmt: skip
    task = EnvConfig(initial_fraction=0.2, query_size=5, budget=0.5)
    vector = ActiveLearningVectorEnv(2, validated, task, config)
    assert isinstance(vector.loop.classifiers, Networks) == (change["trainable"] == "all")
    together, _ = vector.reset(seed=4)
    seen = [together]
    for _ in range(2):
        together, *_ = vector.step(1 - together.max(axis=-1))
        seen.append(together)
    for k in range(2):
        env = ActiveLearningEnv(validated, task, config)
        observation, _ = env.reset(seed=4 + k)
        for i in range(3):
            np.testing.assert_allclose(observation, seen[i][k], atol=1e-5)
            if i < 2:
                observation, *_ = env.step(1 - observation.max(axis=-1))


@pytest.mark.parametrize("change", SETTINGS, ids=lambda change: change["trainable"])
def test_an_episode_goes_on_from_its_file(validated, tmp_path, change):
    """Moments and counts of steps survive a checkpoint of tensors and JSON."""
    config = ClassifierConfig(
        device="cpu", pretrain_passes=2, class_weights="balanced", early_stopping=1, **change
    )
    task = EnvConfig(initial_fraction=0.2, query_size=5)
    one, other = (ActiveLearningEnv(validated, task, config) for _ in range(2))
    observation, _ = one.reset(seed=1)
    observation, *_ = one.step(1 - observation.max(1))
    checkpoint.write(tmp_path / "kept.safetensors", {"run": one.run.state_dict()})
    other.reset(seed=2)
    other.run.load_state_dict(checkpoint.read(tmp_path / "kept.safetensors")["run"])
    action = 1 - observation.max(1)
    np.testing.assert_array_equal(one.step(action)[0], other.step(action)[0])
