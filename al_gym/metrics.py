"""Macro and micro F1 (paper, 3.1), and the cross-entropy, of a set of predictions."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_f1_score


@dataclass(frozen=True)
class Scores:
    """How well predictions fit the true labels."""

    macro_f1: float
    """Mean over the classes of 2 TP / (2 TP + FN + FP)."""
    micro_f1: float
    """The same over summed counts; with one label an image this is the accuracy."""
    cross_entropy: float
    """Mean of -log of the true class's probability, in nats."""


def score(softmax: np.ndarray, labels: np.ndarray) -> Scores:
    """Scores of softmax predictions.

    A class that is neither predicted nor present is left out of the macro mean, as torchmetrics
    does.

    Args:
        softmax: (n, M) float32.
        labels: (n,) int, the true classes.
    """
    predictions, truth = torch.from_numpy(softmax), torch.as_tensor(labels)
    macro, micro = (
        multiclass_f1_score(predictions, truth, softmax.shape[1], average=average)
        for average in ("macro", "micro")
    )
    # a probability that underflows to 0 counts as the smallest one there is
    loss = F.nll_loss(predictions.clamp_min(torch.finfo(torch.float32).tiny).log(), truth)
    return Scores(float(macro), float(micro), float(loss))
