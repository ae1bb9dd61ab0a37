"""Macro and micro F1 (paper, 3.1), and the cross-entropy, of a set of predictions."""

from dataclasses import dataclass, field

import numpy as np
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
    predicted: np.ndarray | None = field(default=None, compare=False, repr=False)
    """(n,) the class that each image was given, uint8, or int16 of more than 256 classes; None
    unless it was asked for, see ``Run.keep_predictions``."""


NOT_MEASURED = Evaluation(float("nan"), float("nan"), float("nan"))
"""On no images."""
N_BYTES = 12
"""What one classifier's evaluation takes on their way from the device."""


def classes(softmax: Tensor) -> Tensor:
    """The most probable class of each row of (n, M); of equal ones the first, as in ``evaluate``.

    Returns:
        (n,) uint8, or int16 of more than 256 classes.
    """
    return softmax.argmax(1).to(torch.uint8 if softmax.shape[1] <= 256 else torch.int16)


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
