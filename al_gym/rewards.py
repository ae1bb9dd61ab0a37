"""Eq. 3 and its alternatives, by name. A reward is a function of the ``Outcome`` of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from al_gym.data.dataset import UNKNOWN
from al_gym.import_paths import imported, is_import_path
from al_gym.metrics import Evaluation
from al_gym.names import lookup


@dataclass(frozen=True)
class Outcome:
    """What a step has brought, for the reward to judge."""

    sample_rewards: np.ndarray
    """(n_s,) float32, the summands of Eq. 3 of the samples just asked about, best score first; 0 of
    those that the annotator skipped. A query near the end of the budget may have fewer."""
    validation_before: Evaluation | None
    """On the images held out for validation, before the update; None if none are held out."""
    validation_after: Evaluation | None
    """The same after the update."""


Reward = Callable[[Outcome], float]
"""What a reward is."""


def sample_rewards(softmax: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The summands of Eq. 3: Pr(predicted class) - Pr(true class) of each annotated sample.

    Args:
        softmax: (n_s, M), the classifier's predictions of the samples.
        labels: (n_s,) int, their classes as the annotator gave them, -1 where it could not.

    Returns:
        (n_s,) float32 in [0, 1); 0 where the prediction is right, or the class could not be told.
    """
    summands = softmax.max(axis=1) - softmax[np.arange(len(labels)), labels]
    summands[labels == UNKNOWN] = 0
    return summands


def misclassification(outcome: Outcome) -> float:
    """Eq. 3: the mean of ``sample_rewards``; high where confident predictions were wrong.

    Samples that the annotator skipped are among them, as 0: they were asked about.
    """
    return float(outcome.sample_rewards.mean())


def f1_gain(outcome: Outcome) -> float:
    """Change of macro F1 on the images held out for validation; may be negative."""
    before, after = _validation(outcome)
    return after.macro_f1 - before.macro_f1


def loss_gain(outcome: Outcome) -> float:
    """Fall of the cross-entropy on the images held out for validation; less noisy than F1."""
    before, after = _validation(outcome)
    return before.cross_entropy - after.cross_entropy


REWARDS: dict[str, Reward] = {
    "misclassification": misclassification,
    "f1_gain": f1_gain,
    "loss_gain": loss_gain,
}
"""Name -> reward, for ``EnvConfig.reward``."""

NEED_VALIDATION = (f1_gain, loss_gain)
"""Rewards for which the environment holds images out of the training set unasked."""


def by_name(reward: str | Reward) -> Reward:
    """The reward of a name or an import path; a function is passed through.

    Raises:
        ValueError: an unknown name, or a path where there is no function.
    """
    found: Any = reward
    if isinstance(reward, str):
        found = imported(reward) if is_import_path(reward) else lookup("reward", reward, REWARDS)
    if not callable(found):
        raise ValueError(f"reward {reward!r} is no function of rewards.Outcome")
    function: Reward = found
    return function


def _validation(outcome: Outcome) -> tuple[Evaluation, Evaluation]:
    if outcome.validation_before is None or outcome.validation_after is None:
        raise ValueError("this reward needs images held out: set validation_fraction above 0")
    return outcome.validation_before, outcome.validation_after
