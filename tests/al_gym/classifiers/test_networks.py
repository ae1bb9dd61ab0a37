"""Training and inference: Eq. 1 and Eq. 2, repeatability, head-only mode."""

import copy
import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from al_gym import ClassifierConfig, phases
from al_gym.classifiers import Networks, make_classifiers
from al_gym.classifiers.images import split_evenly
from al_gym.classifiers.networks import last_layer
from al_gym.errors import NotFiniteError
from tests.samples import One, make_dataset

CONFIG = ClassifierConfig(learning_rate=0.05, momentum=0.9, device="cpu")


def make_classifier(dataset, config=CONFIG, seed=0) -> One:
    return One(make_classifiers(dataset, config), seed=seed)


def fit(classifier, dataset, n=40, passes=2, seed=1):
    rows = dataset.train[:n]
    classifier.fit(rows, dataset.labels[rows], passes, np.random.default_rng(seed))


def update(classifier, rows, labels):
    run = SimpleNamespace(
        classifiers=classifier.classifiers, k=classifier.k, rng=np.random.default_rng(4)
    )
    phases.update([run], [SimpleNamespace(labelled=rows, labels=labels)])


def linear(channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 144, n_classes))


def head_of(classifier):
    """The last layer, as a function of features."""
    if isinstance(classifier.classifiers, Networks):
        return last_layer(classifier.network)
    weights = classifier.weights
    return lambda features: F.linear(features, weights["weight"][0], weights["bias"][0, 0])


def normalised(dataset, rows):
    images = torch.from_numpy(dataset.images).float()
    training = images[dataset.train].transpose(0, 1).flatten(1)
    mean, std = training.mean(1), training.std(1, correction=0)
    return (images[rows] - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)


def test_predict_is_the_softmax_of_normalised_images(dataset):
    classifier = make_classifier(dataset, replace(CONFIG, network=linear))
    rows = np.array([3, 50, 3])
    with torch.no_grad():
        logits = classifier.network(normalised(dataset, rows)).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    softmax = classifier.predict(rows)
    np.testing.assert_allclose(softmax, expected, rtol=1e-4)
    assert softmax.dtype == np.float32
    np.testing.assert_array_equal(softmax[0], softmax[2])


def test_fit_is_cross_entropy_sgd_as_a_plain_loop(dataset):
    config = replace(CONFIG, network=linear, weight_decay=0.01)
    classifier = make_classifier(dataset, config)
    weight = classifier.network.head.weight.detach().clone()
    bias = classifier.network.head.bias.detach().clone()
    rows, labels = dataset.train[:40], dataset.labels[dataset.train[:40]]
    classifier.fit(rows, labels, 2, np.random.default_rng(5))

    rng = np.random.default_rng(5)
    rng.integers(2**63)  # the seed of torch's generators
    momentum = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(2):
        order = rng.permutation(40)
        for batch in (order[:14], order[14:27], order[27:]):
            parameters = [weight.requires_grad_(), bias.requires_grad_()]
            x = normalised(dataset, rows[batch]).flatten(1)
            loss = F.cross_entropy(F.linear(x, *parameters), torch.as_tensor(labels[batch]))
            grads = torch.autograd.grad(loss, parameters)
            for i, (value, grad) in enumerate(zip(parameters, grads, strict=True)):
                momentum[i] = 0.9 * momentum[i] + grad + 0.01 * value.detach()
                parameters[i] = (value - 0.05 * momentum[i]).detach()
            weight, bias = parameters
    torch.testing.assert_close(classifier.network.head.weight.detach(), weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(classifier.network.head.bias.detach(), bias, atol=1e-5, rtol=0)


def test_statistics_come_from_the_training_rows_alone(dataset):
    changed = dataset.images.copy()
    changed[dataset.test] = 255
    a = One(make_classifiers(dataset, CONFIG), seed=None)
    b = One(make_classifiers(replace(dataset, images=changed), CONFIG), seed=None)
    for one, other in zip(a.member._statistics, b.member._statistics, strict=True):
        torch.testing.assert_close(one, other)


def test_a_constant_channel_gives_no_nan(dataset):
    images = dataset.images.copy()
    images[:, 1] = 7
    classifier = One(make_classifiers(replace(dataset, images=images), CONFIG))
    assert np.isfinite(classifier.predict(dataset.test)).all()


def test_int16_images_are_taken(dataset):
    classifier = One(
        make_classifiers(replace(dataset, images=dataset.images.astype(np.int16) - 1000), CONFIG)
    )
    expected = make_classifier(dataset).predict(dataset.test)
    np.testing.assert_allclose(classifier.predict(dataset.test), expected, atol=1e-4)


def test_it_learns(dataset):
    classifier = make_classifier(dataset)
    fit(classifier, dataset, n=80, passes=15)
    predicted = classifier.predict(dataset.test).argmax(1)
    assert (predicted == dataset.labels[dataset.test]).mean() > 0.8


def test_the_generator_decides_weights_and_order_and_nothing_else_does(dataset):
    results = []
    for _ in range(2):
        torch.manual_seed(np.random.default_rng().integers(2**31))
        classifier = make_classifier(dataset)
        fit(classifier, dataset)
        results.append(classifier.predict(dataset.test))
    np.testing.assert_array_equal(*results)
    other = make_classifier(dataset)
    fit(other, dataset, seed=2)
    assert not np.array_equal(other.predict(dataset.test), results[0])


def test_dropout_is_seeded_and_the_callers_generator_is_left_alone(dataset):
    def dropping(channels, n_classes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels * 144, n_classes))

    results = []
    for caller_seed in (0, 1):
        torch.manual_seed(caller_seed)
        expected = torch.rand(1, generator=torch.Generator().manual_seed(caller_seed))
        classifier = make_classifier(dataset, replace(CONFIG, network=dropping))
        fit(classifier, dataset)
        results.append(classifier.predict(dataset.test))
        assert torch.rand(1) == expected
    np.testing.assert_array_equal(*results)


def test_inference_does_not_depend_on_the_batch_size_or_the_layout(dataset):
    one = make_classifier(dataset)
    fit(one, dataset)
    expected = one.predict(dataset.train)
    for change in ({"inference_batch_size": 7}, {"channels_last": False}):
        other = make_classifier(dataset, replace(CONFIG, **change))
        fit(other, dataset)
        np.testing.assert_allclose(other.predict(dataset.train), expected, atol=1e-5)


class Planes(nn.Module):
    """Two-dimensional layers over volumes."""

    def __init__(self, channels, n_classes):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, n_classes)

    def forward(self, volumes):
        return self.head(self.convolution(volumes[:, :, 6]).mean((2, 3)))


def test_a_network_of_planes_has_a_layout_where_there_is_one(dataset):
    volumes = replace(dataset, images=np.repeat(dataset.images[:, :, None], 12, axis=2))
    found = []
    for channels_last in (True, False):
        config = replace(CONFIG, network=Planes, channels_last=channels_last)
        classifier = make_classifier(volumes, config)
        fit(classifier, volumes)
        found.append(classifier.predict(volumes.test))
    np.testing.assert_allclose(*found, atol=1e-5)
    assert found[0].std() > 1e-3


def test_bf16_stays_close_to_fp32(dataset):
    exact, rounded = (
        make_classifier(dataset, replace(CONFIG, precision=p)) for p in ("fp32", "bf16")
    )
    softmax = rounded.predict(dataset.test)
    difference = np.abs(exact.predict(dataset.test) - softmax).max()
    assert 0 < difference < 3e-2
    assert softmax.dtype == np.float32
    fit(rounded, dataset)


def test_snapshot_and_restore_are_exact_and_repeatable(dataset):
    classifier = make_classifier(dataset)
    fit(classifier, dataset)
    kept = classifier.state_dict()
    fit(classifier, dataset, seed=3)
    expected = classifier.predict(dataset.test)
    for _ in range(2):  # momentum included: training on from the snapshot gives the same weights
        classifier.load_state_dict(kept)
        fit(classifier, dataset, seed=3)
        np.testing.assert_array_equal(classifier.predict(dataset.test), expected)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_restore_undoes_a_new_initialisation(dataset, trainable):
    classifier = make_classifier(dataset, replace(CONFIG, trainable=trainable))
    fit(classifier, dataset)
    expected = classifier.predict(dataset.test), classifier.embed(dataset.test)
    kept = classifier.state_dict()
    classifier.initialize(np.random.default_rng(7))
    fit(classifier, dataset)
    classifier.load_state_dict(kept)
    np.testing.assert_array_equal(classifier.predict(dataset.test), expected[0])
    np.testing.assert_array_equal(classifier.embed(dataset.test), expected[1])


def test_scratch_starts_from_new_weights_and_a_new_optimizer(dataset):
    config = replace(CONFIG, update="scratch", pretrain_passes=2)
    used, fresh = make_classifier(dataset, config), make_classifier(dataset, config, seed=9)
    fit(used, dataset, passes=5)
    rows = dataset.train[:30]
    for classifier in (used, fresh):
        update(classifier, rows, dataset.labels[rows])
    np.testing.assert_array_equal(used.predict(dataset.test), fresh.predict(dataset.test))


def test_warm_trains_on_for_the_update_passes(dataset):
    a = make_classifier(dataset, replace(CONFIG, update_passes=3))
    b = make_classifier(dataset)
    rows = dataset.train[:30]
    update(a, rows, dataset.labels[rows])
    fit(b, dataset, n=30, passes=3, seed=4)
    np.testing.assert_array_equal(a.predict(dataset.test), b.predict(dataset.test))


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (0, []),
        (1, [1]),
        (2, [2]),
        (16, [16]),
        (17, [9, 8]),
        (18, [9, 9]),
        (33, [11] * 3),
        (48, [16] * 3),
    ],
)
def test_a_pass_is_divided_evenly(n, sizes):
    batches = split_evenly(np.arange(n), 16)
    assert [len(batch) for batch in batches] == sizes
    np.testing.assert_array_equal(np.concatenate([[], *batches]), np.arange(n))


@given(n=st.integers(2, 300), size=st.integers(3, 40))
def test_no_batch_has_a_single_sample(n, size):
    sizes = [len(batch) for batch in split_evenly(np.arange(n), size)]
    assert min(sizes) >= 2 and max(sizes) <= size and sum(sizes) == n
    assert len(sizes) == -(-n // size)


def test_seventeen_samples_do_not_break_batch_norm(dataset):
    fit(make_classifier(dataset), dataset, n=17)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_embeddings_are_what_the_head_sees(dataset, trainable):
    classifier = make_classifier(dataset, replace(CONFIG, trainable=trainable))
    embeddings = torch.from_numpy(classifier.embed(dataset.test))
    assert embeddings.shape == (len(dataset.test), 128)
    with torch.no_grad():
        softmax = F.softmax(head_of(classifier)(embeddings), 1).numpy()
    np.testing.assert_allclose(softmax, classifier.predict(dataset.test), atol=1e-6)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("trainable", "tail"),
        ("update", "cold"),
        ("precision", "fp8"),
        ("batch_size", 2),
        ("update_passes", -1),
        ("pretrain_passes", -1),
        ("learning_rate", 0.0),
        ("inference_batch_size", 0),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1.0),
        ("optimizer", "rmsprop"),
        ("schedule", "linear"),
        ("early_stopping", 0),
        ("early_stopping", 1.5),
        ("class_weights", "equal"),
        ("class_weights", 2.0),
        (r"class_weights\[1\]", (1.0, 0.0)),
        (r"class_weights\[0\]", ("1", 2)),
    ],
)
def test_bad_settings_are_named(setting, value):
    with pytest.raises(ValueError, match=setting):
        ClassifierConfig(**{setting.partition("\\")[0]: value})


def test_divergence_is_said(dataset):
    classifier = make_classifier(dataset, replace(CONFIG, learning_rate=1e30))
    fit(classifier, dataset, passes=5)
    run = SimpleNamespace(
        classifiers=classifier.classifiers, k=0, dataset=dataset,
        classifier_config=classifier.classifiers.config,
    )  # fmt: skip
    with pytest.raises(NotFiniteError, match=r"all 30 images .* Lower learning_rate \(1e\+30\)"):
        phases.softmax([run], [dataset.test])


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_stands_before_the_last_layer_and_acts_in_training_only(dataset):
    classifier = make_classifier(dataset, replace(CONFIG, dropout=0.5))
    assert isinstance(classifier.network.head[0], nn.Dropout)
    assert classifier.network.head[0].p == 0.5
    rows = dataset.test
    first = classifier.predict(rows)
    np.testing.assert_array_equal(classifier.predict(rows), first)
    plain = make_classifier(dataset)
    np.testing.assert_array_equal(plain.predict(rows), first)  # the same initial weights
    fit(classifier, dataset)
    fit(plain, dataset)
    assert not np.array_equal(classifier.predict(rows), plain.predict(rows))


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_draws_with_dropout_against_a_loop_by_hand(dataset, trainable):
    classifier = make_classifier(dataset, replace(CONFIG, dropout=0.5, trainable=trainable))
    fit(classifier, dataset)
    rows = dataset.test[:7]
    before = classifier.predict(rows)
    draws = classifier.predict_with_dropout(rows, 4, np.random.default_rng(3))
    assert draws.shape == (4, 7, 3) and draws.dtype == np.float32
    np.testing.assert_array_equal(
        classifier.predict_with_dropout(rows, 4, np.random.default_rng(3)), draws
    )
    np.testing.assert_array_equal(classifier.predict(rows), before)  # nothing has changed
    features = torch.from_numpy(classifier.embed(rows))
    linear_layer = head_of(classifier)
    torch.manual_seed(int(np.random.default_rng(3).integers(2**63)))
    for draw in draws:
        kept = F.dropout(features, 0.5, training=True)
        with torch.no_grad():
            expected = F.softmax(linear_layer(kept), dim=1)
        np.testing.assert_allclose(draw, expected.numpy(), atol=1e-6)


def with_dropout_inside(channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, n_classes),
    )  # fmt: skip


def test_dropout_within_the_users_network_is_drawn_too(dataset):
    classifier = make_classifier(dataset, replace(CONFIG, network=with_dropout_inside))
    rows = dataset.test[:7]
    statistics = classifier.network.backbone[1].running_mean.clone()
    draws = classifier.predict_with_dropout(rows, 5, np.random.default_rng(0))
    assert (draws.std(axis=0) > 0).any()
    assert torch.equal(classifier.network.backbone[1].running_mean, statistics)


def test_draws_need_dropout(dataset):
    classifier = make_classifier(dataset)
    with pytest.raises(ValueError, match="the network has no dropout"):
        classifier.predict_with_dropout(dataset.test, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), not 1"):
        ClassifierConfig(dropout=1.0)


def test_another_classifier_goes_on_from_the_state(dataset):
    one = make_classifier(dataset)
    fit(one, dataset)
    state = copy.deepcopy(one.state_dict())
    other = make_classifier(dataset, seed=9)
    other.load_state_dict(state)
    for classifier in (one, other):
        fit(classifier, dataset, seed=2)
    np.testing.assert_array_equal(*(c.predict(dataset.test) for c in (one, other)))
    with pytest.raises(RuntimeError, match="state_dict"):
        make_classifier(dataset, replace(CONFIG, network="resnet18")).load_state_dict(state)


class Noisy(nn.Module):
    """Draws in training, by no layer that one could look for."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(288, 3)

    def forward(self, images):
        return self.linear(F.dropout(images.flatten(1), 0.5, self.training))


def test_a_network_that_draws_in_secret_is_repeatable_too(dataset):
    def noisy(channels, n_classes):
        return Noisy()

    seen = []
    for k in range(2):
        torch.manual_seed(k)
        classifier = make_classifier(dataset, replace(CONFIG, network=noisy))
        fit(classifier, dataset)
        assert classifier.member.may_draw and not classifier.member.is_random
        seen.append(classifier.predict(dataset.test))
    np.testing.assert_array_equal(*seen)


def test_a_state_that_is_kept_does_not_move_on(dataset):
    classifier = make_classifier(dataset)
    fit(classifier, dataset)
    expected, state = classifier.predict(dataset.test), classifier.state_dict()
    fit(classifier, dataset, seed=2)
    classifier.initialize(np.random.default_rng(8))
    classifier.load_state_dict(state)
    np.testing.assert_array_equal(classifier.predict(dataset.test), expected)


def test_a_classifier_is_freed_with_its_last_name(dataset):
    classifier = make_classifier(dataset)
    fit(classifier, dataset)
    alive = weakref.ref(classifier.member)
    gc.disable()
    try:
        del classifier
        assert alive() is None  # no cycle: on a GPU its memory comes back at once
    finally:
        gc.enable()


def test_volumes_are_trained_on_in_fp32_on_the_cpu():
    dataset = make_dataset(n_train=32, n_test=8)
    images = np.random.default_rng(0).integers(0, 255, (40, 1, 16, 16, 16), dtype=np.uint8)
    rows, labels = np.arange(32), np.arange(32) % 3
    seen = []
    for precision in ("fp32", "bf16"):
        config = replace(CONFIG, precision=precision)
        classifier = One(make_classifiers(replace(dataset, images=images), config))
        classifier.fit(rows, labels, 2, np.random.default_rng(1))
        seen.append(classifier.weights)
    for name, value in seen[0].items():
        assert torch.equal(value, seen[1][name])
