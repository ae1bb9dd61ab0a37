"""Tests over two samples at once: the seeds, and the scans or patients of the test set.

Seeds say what else could have come of the same experiment. With other test images of the same kind
it would have come out differently, too, and if methods differ on some scans more than on others, a
test over seeds alone finds differences where there are none. Here both are samples: the
infinitesimal jackknife divides a score among the groups of the test set, a paired difference is
then a table of seeds x groups, and the variance of its mean is that of a two-way layout with both
effects random. Radiology compares several readers on several cases in this way: Dorfman, Berbaum
and Metz, Investigative Radiology 27, 1992; Hillis, Statistics in Medicine 26, 2007. How often such
tests are wrong, beside those over seeds alone and the bootstrap, ``benchmarks.error_rates``
measures.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.matrix.predictions import Predictions

LEVEL = 0.05
"""Of significance."""
POWER = 0.8
"""Probability with which a difference is to be found."""
TOLERANCE = 1e-4
"""Between F1 in a curve, which has six digits, and that of the predictions beside it."""


@dataclass(frozen=True)
class Scores:
    """A score of every cell, and what each group of the test set has to do with it."""

    values: pd.Series
    """By (method, seed)."""
    influences: pd.DataFrame | None = None
    """(method, seed) x groups: the derivative of the value by the group's weight, 1 as it is; they
    sum to 0. None: the test set is taken as given."""

    @classmethod
    def of(cls, rows: pd.DataFrame, metric: str) -> "Scores":
        """The mean of a metric over some rows of curves, in each cell.

        Args:
            rows: of ``results.Experiment.curves``. Influences are known if all rows have
                ``predictions``, and of F1 alone.
            metric: a column of them, known in every row.

        Raises:
            ValueError: predictions do not give the metric of the curve.
        """
        cells = rows.groupby(["method", "seed"])
        values = cells[metric].mean()
        if metric not in F1 or "predictions" not in rows or rows["predictions"].isna().any():
            return cls(values)
        # arrays, as a report asks for thousands of cells, dozens of times
        steps, scores = rows["step"].to_numpy(), rows[metric].to_numpy()
        predictions, places = rows["predictions"].to_numpy(), cells.indices
        found = []
        for cell in values.index:
            lines, kept = places[cell], predictions[places[cell][0]]
            f1, influence = _of_cell(kept, metric, tuple(steps[lines].tolist()))
            if np.abs(f1 - scores[lines]).max() > TOLERANCE:
                raise ValueError(f"{kept.path} does not belong to the curve beside it")
            found.append(influence)
        influences = pd.DataFrame(np.array(found), values.index) if found else pd.DataFrame()
        return cls(values, influences if influences.shape[1] > 1 else None)


@functools.cache  # a report asks several times, and paper-length cells take 0.2 s each
def _of_cell(
    predictions: Predictions, metric: str, lines: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """F1 at lines of a curve, (len(lines),), and the influence of each group on their mean."""
    predicted = predictions.of_lines(np.array(lines))
    f1, by_image = F1[metric](predictions.truth.labels, predicted)
    return f1, np.bincount(predictions.truth.groups, by_image.mean(axis=0))


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Macro F1, and its derivatives by the weight of each image.

    Args:
        labels: (n,) true classes.
        predicted: (k, n) classes.

    Returns:
        (k,) and (k, n). A class that is neither there nor predicted is left out of the mean.
    """
    k = len(predicted)
    n_classes = 1 + int(max(labels.max(), predicted.max()))
    place = n_classes * np.arange(k)[:, None]
    hit = predicted == labels

    def counted(classes: np.ndarray) -> np.ndarray:
        return np.bincount(classes, minlength=k * n_classes).reshape(k, n_classes)

    true_positives = counted((place + labels)[hit])
    size = np.bincount(labels, minlength=n_classes) + counted((place + predicted).ravel())
    f1 = 2 * true_positives / np.maximum(size, 1)
    n_there = (size > 0).sum(axis=1, keepdims=True)
    # F1 of a class is 2 TP / size; an image counts in the size of its class, and of that predicted
    each = 1 / (np.maximum(size, 1) * n_there)
    change = 2 * hit * each[:, labels]
    change -= (f1 * each)[:, labels] + np.take_along_axis(f1 * each, predicted.astype(int), 1)
    return f1.sum(axis=1) / n_there[:, 0], change


def micro_f1(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of micro F1, which is the accuracy."""
    hit = predicted == labels
    accuracy = hit.mean(axis=1)
    return accuracy, (hit - accuracy[:, None]) / len(labels)


F1 = {"macro_f1": macro_f1, "micro_f1": micro_f1}


@dataclass(frozen=True)
class PairedTest:
    """A t-test of a mean difference."""

    difference: float
    error: float
    """Standard error of the difference."""
    df: float
    """Degrees of freedom."""

    @property
    def p(self) -> float:
        """Two-sided; 1 if there never was a difference."""
        if self.error == 0:
            return float(self.difference == 0)
        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.df))

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return float(stats.t.ppf(1 - LEVEL / 2, self.df) * self.error)

    @property
    def detectable(self) -> float:
        """The difference that would be found with probability ``POWER``, uncorrected."""
        return self.half + float(stats.t.ppf(POWER, self.df) * self.error)


def paired_test(differences: np.ndarray, influences: np.ndarray | None = None) -> PairedTest:
    """Whether a mean difference is other than 0, over seeds and groups of the test set.

    The mean squares of seeds, groups and their interaction, over the number of cells of the
    table, are s, g and e. The first two contain the third, so that the variance of the mean is
    s + g - e; it is taken to be no less than s. Degrees of freedom are Satterthwaite's.

    Args:
        differences: (n,) one a seed.
        influences: (n, G) theirs; None: over seeds alone, Student's test.
    """
    n = len(differences)
    seeds = float(differences.var(ddof=1)) / n
    variance, df = seeds, float(n - 1)
    if influences is not None:
        n_groups = influences.shape[1]
        pseudo = n_groups * influences  # pseudo-values, less their seed's mean
        by_group = pseudo.mean(axis=0)
        groups = float(by_group.var(ddof=1)) / n_groups
        df_both = (n - 1) * (n_groups - 1)
        both = float(((pseudo - by_group) ** 2).sum()) / df_both / (n * n_groups)
        if groups > both:
            variance += groups - both
            parts = seeds**2 / (n - 1) + groups**2 / (n_groups - 1) + both**2 / df_both
            df = variance**2 / parts
    return PairedTest(float(differences.mean()), float(np.sqrt(variance)), df)
