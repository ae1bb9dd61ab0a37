"""Macro and micro F1 (paper, 3.1), and the cross-entropy, of a set of predictions."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_f1_score


@dataclass(frozen=True)
class Evaluation:
    """How well predictions fit the true labels."""

    macro_f1: float
    """Mean over the classes of 2 TP / (2 TP + FN + FP)."""
    micro_f1: float
    """The same over summed counts; with one label an image this is the accuracy."""
    cross_entropy: float
    """Mean of -log of the true class's probability, in nats."""


NOT_MEASURED = Evaluation(float("nan"), float("nan"), float("nan"))
"""On no images."""
N_BYTES = 12
"""What one classifier's evaluation takes on their way from the device."""


def evaluate(softmax: Tensor, labels: Tensor) -> list[Evaluation]:
    """Evaluations of the softmax predictions of k classifiers, made where the predictions are.

    A class that is neither predicted nor present is left out of the macro mean, as torchmetrics
    does.

    Args:
        softmax: (k, n, M) float32.
        labels: (n,) int64, the true classes.
    """
    predictions, truth = softmax.transpose(1, 2), labels.expand(len(softmax), -1)
    macro, micro = (
        multiclass_f1_score(
            predictions, truth, softmax.shape[2], average=average,
            multidim_average="samplewise", validate_args=False,
        )
        for average in ("macro", "micro")
    )  # fmt: skip
    # a probability that underflows to 0 counts as the smallest one there is
    logs = predictions.clamp_min(torch.finfo(torch.float32).tiny).log()
    loss = F.nll_loss(logs, truth, reduction="none").mean(1)
    return [Evaluation(*row) for row in torch.stack([macro, micro, loss], dim=1).tolist()]
