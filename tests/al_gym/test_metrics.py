"""F1 scores against the paper's formula as a plain loop."""

import numpy as np
import pytest
import torch

from al_gym.metrics import classes, evaluate


def loop_f1(predicted, labels, n_classes):
    f1s, total_tp, total_fn, total_fp = [], 0, 0, 0
    for j in range(n_classes):
        tp = sum(p == j and y == j for p, y in zip(predicted, labels, strict=True))
        fn = sum(p != j and y == j for p, y in zip(predicted, labels, strict=True))
        fp = sum(p == j and y != j for p, y in zip(predicted, labels, strict=True))
        f1s.append(2 * tp / (2 * tp + fn + fp))
        total_tp, total_fn, total_fp = total_tp + tp, total_fn + fn, total_fp + fp
    return sum(f1s) / n_classes, 2 * total_tp / (2 * total_tp + total_fn + total_fp)


def test_f1_is_the_formula():
    rng = np.random.default_rng(0)
    softmax = rng.dirichlet(np.ones(4), 200).astype(np.float32)
    labels = rng.choice(4, 200, p=[0.6, 0.2, 0.15, 0.05])
    macro, micro = loop_f1(softmax.argmax(1), labels, 4)
    (scores,) = evaluate(torch.from_numpy(softmax[None]), torch.from_numpy(labels))
    assert scores.macro_f1 == pytest.approx(macro, abs=1e-6)
    assert scores.micro_f1 == pytest.approx(micro, abs=1e-6)


def test_classifiers_scored_together_have_the_scores_of_each_alone():
    rng = np.random.default_rng(1)
    softmax = torch.from_numpy(rng.dirichlet(np.ones(4), (3, 50)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(3, size=50))  # class 3 is never the truth
    softmax[1, :, 3] = 0  # and one of them never predicts it
    together = evaluate(softmax, labels)
    assert together == [evaluate(each[None], labels)[0] for each in softmax]
    predicted = softmax[1].argmax(1)
    macro, _ = loop_f1(predicted.tolist(), labels.tolist(), 3)  # left out, not counted as 0
    assert together[1].macro_f1 == pytest.approx(macro, abs=1e-6)


def test_cross_entropy_by_hand_and_finite_at_zero():
    softmax = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
    assert evaluate(softmax, torch.tensor([0, 1]))[0].cross_entropy == pytest.approx(
        -(np.log(0.5) + np.log(0.75)) / 2
    )
    certain = torch.tensor([[[1.0, 0.0]]])
    assert 80 < evaluate(certain, torch.tensor([1]))[0].cross_entropy < 90


def test_classes_are_bytes_as_long_as_they_can_be_and_of_equal_ones_the_first():
    rng = np.random.default_rng(2)
    few = torch.from_numpy(rng.dirichlet(np.ones(256), 50).astype(np.float32))
    many = torch.nn.functional.pad(few, (1, 0))
    for softmax, kind in ((few, np.uint8), (many, np.int16)):
        found = classes(softmax).numpy()
        assert found.dtype == kind
        np.testing.assert_array_equal(found, softmax.numpy().argmax(1))
    equal = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]])
    assert classes(equal).tolist() == [1, 0]
    # as in the scores: both are right by the first of equal classes
    assert evaluate(equal[None], torch.tensor([1, 0]))[0].micro_f1 == 1
