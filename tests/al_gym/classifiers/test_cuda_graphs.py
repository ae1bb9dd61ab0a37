"""Recorded training steps, with a stand-in for CUDA's graphs where there is no GPU."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from al_gym.classifiers import make_classifiers
from al_gym.classifiers.cuda_graphs import WARM_UP, GraphedStep
from al_gym.classifiers.networks import ClassifierConfig
from tests.samples import One

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Recording:
    """Remembers what was called while it was recorded, and calls it again on ``replay``."""

    current = None

    def __init__(self):
        self.calls = []
        self.n_replays = 0

    def replay(self):
        self.n_replays += 1
        for call in self.calls:
            call()


@pytest.fixture
def recorder(monkeypatch):
    """Replaces CUDA's graphs: what is recorded does not run, as on a GPU."""
    made = []

    @contextlib.contextmanager
    def recording(graph, pool, stream, capture_error_mode):
        made.append(graph)
        Recording.current = graph
        yield
        Recording.current = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return made


def recordable(step):
    """A step that, while a graph is recorded, is kept for later instead of run."""

    def either(images, labels):
        if Recording.current is None:
            step(images, labels)
        else:
            Recording.current.calls.append(lambda: step(images, labels))

    return either


def test_every_batch_is_trained_on_once_in_its_turn(recorder):
    seen = []
    step, take = GraphedStep(None), recordable(lambda x, y: seen.append((x.clone(), y.clone())))
    sizes = [4, 4, 3, 4, 4, 3, 4, 3, 3, 3, 4]
    batches = [
        (torch.full((size, 2), float(i)), torch.full((size,), i)) for i, size in enumerate(sizes)
    ]
    for images, labels in batches:
        step(take, images, labels)
    assert len(seen) == len(batches)
    for (images, labels), (seen_images, seen_labels) in zip(batches, seen, strict=True):
        assert torch.equal(images, seen_images) and torch.equal(labels, seen_labels)
    assert [len(graph.calls) for graph in recorder] == [1, 1]  # one recording a size
    assert [graph.n_replays for graph in recorder] == [6 - WARM_UP, 5 - WARM_UP]


def momenta(member):
    return [member._optimizer.state[p]["momentum_buffer"] for p in member._parameters]


@pytest.mark.parametrize(
    "change", [{}, {"class_weights": "balanced"}, {"augmentation": ("flip", "intensity")}], ids=str
)
def test_a_classifier_trains_the_same_from_recordings(recorder, dataset, change):
    """New weights, snapshots and states are put in place: a recording knows the tensors."""
    config = ClassifierConfig(learning_rate=0.05, momentum=0.9, device="cpu", **change)
    rows, labels = dataset.train[:44], dataset.labels[dataset.train[:44]]
    # as many, of other classes
    later = dataset.train[-44:], dataset.labels[dataset.train[-44:]]
    assert (np.bincount(labels) != np.bincount(later[1])).any()
    seen = []
    for recorded in (False, True):
        classifier = One(make_classifiers(dataset, config))
        tensors = [p.data_ptr() for p in classifier.network.parameters()]
        if recorded:
            classifier.member._graphed = GraphedStep(None)
            classifier.member._step = recordable(classifier.member._step)
        classifier.fit(rows, labels, 5, np.random.default_rng(1))
        kept, state = classifier.state_dict(), classifier.state_dict()
        momentum = [m.data_ptr() for m in momenta(classifier.member)]
        classifier.fit(*later, 2, np.random.default_rng(2))
        seen.append(classifier.predict(dataset.test))
        classifier.load_state_dict(kept)
        classifier.fit(*later, 2, np.random.default_rng(2))
        seen.append(classifier.predict(dataset.test))
        classifier.initialize(np.random.default_rng(3))
        classifier.fit(rows, labels, 1, np.random.default_rng(4))
        classifier.load_state_dict(state)
        classifier.fit(*later, 2, np.random.default_rng(2))
        seen.append(classifier.predict(dataset.test))
        assert tensors == [p.data_ptr() for p in classifier.network.parameters()]
        assert momentum == [m.data_ptr() for m in momenta(classifier.member)]
    assert recorder and all(graph.n_replays for graph in recorder)
    for other in seen[1:]:
        np.testing.assert_array_equal(seen[0], other)


@pytest.mark.parametrize(
    "change", [{"optimizer": "adam"}, {"schedule": "cosine"}, {"cuda_graphs": False}], ids=str
)
def test_what_the_host_takes_part_in_is_not_recorded(dataset, change):
    member = One(make_classifiers(dataset, ClassifierConfig(device="cpu"))).member
    assert member._can_be_recorded
    member.config = replace(member.config, **change)
    assert not member._can_be_recorded


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_recordings_on_a_gpu_train_as_the_plain_step(dataset, precision):
    config = ClassifierConfig(learning_rate=0.05, momentum=0.9, device="cuda", precision=precision)
    rows, labels = dataset.train[:44], dataset.labels[dataset.train[:44]]
    seen = []
    for recorded in (False, True):
        classifier = One(make_classifiers(dataset, replace(config, cuda_graphs=recorded)))
        classifier.fit(rows, labels, 8, np.random.default_rng(1))
        assert isinstance(classifier.member._graphed, GraphedStep) == recorded
        seen.append(classifier.predict(dataset.test))
    np.testing.assert_allclose(*seen, atol=1e-5)
