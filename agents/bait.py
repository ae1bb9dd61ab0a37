"""BAIT: the batch that leaves the last layer least uncertain about the pool, on features."""

import numpy as np

COMPONENTS = 128
"""Of the features, those of the largest singular values, that BAIT works on: a matrix of Fisher
information has as many rows as there are features times classes, and is multiplied every time."""
RIDGE = 1.0
"""lambda, the weight of the prior."""
MOST_BYTES = 4 * 2**30
"""Of the factors of all images' Fisher information, of which a few copies are made."""
OVERSAMPLING = 2
"""How many times n are chosen before the rest is dropped again."""


def choose(features: np.ndarray, probabilities: np.ndarray, n_labelled: int, n: int) -> np.ndarray:
    """BAIT: the batch that minimises tr(M^-1 F), the expected error of the last layer.

    F is the Fisher information of all images, M that of the labelled and the chosen (Ash et al.,
    Gone fishing: neural active learning with Fisher embeddings, NeurIPS 2021). Greedily 2 n are
    chosen, then n of them dropped; best first are those whose loss would cost the most. Features
    are those of ``COMPONENTS``, which is exact where no more of them are needed.

    Raises:
        ValueError: it would take more memory than ``MOST_BYTES``, because of many classes.
    """
    n_images, n_classes = probabilities.shape
    n_bytes = 8 * n_images * n_classes**2 * min(features.shape[1], COMPONENTS)
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"bait needs {n_bytes / 2**30:.1f} GiB for {n_images} images of {n_classes} classes, "
            f"and {MOST_BYTES / 2**30:.0f} are the most: it grows with the square of the classes. "
            "Take another method, such as badge"
        )
    factors = fisher_factors(_principal(features), probabilities)
    fisher = _information(factors) / len(factors)
    before = _information(factors[:n_labelled]) / max(n_labelled, 1)
    share = n / (n_labelled + n)
    inverse = np.linalg.inv(RIDGE * np.eye(len(fisher)) + (1 - share) * before)
    candidates = factors[n_labelled:] * np.sqrt(share)

    chosen: list[int] = []
    for _ in range(min(OVERSAMPLING * n, len(candidates))):
        gains = trace_gains(candidates, inverse, fisher)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        inverse = updated_inverse(inverse, candidates[chosen[-1]], 1)
    while len(chosen) > n:
        losses = -trace_gains(candidates[chosen], inverse, fisher, -1)
        dropped = chosen.pop(int(losses.argmin()))
        inverse = updated_inverse(inverse, candidates[dropped], -1)
    losses = -trace_gains(candidates[chosen], inverse, fisher, -1)
    return np.array(chosen)[np.argsort(-losses, kind="stable")]


def fisher_factors(features: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """V with V' V = I(x), the Fisher information of the last layer, for every image.

    Args:
        features: (N, F).
        probabilities: (N, M).

    Returns:
        (N, M, M F) float64: for each class the gradient of the loss, times the root of the class's
        probability.
    """
    n, n_classes = probabilities.shape
    p = probabilities.astype(float)
    errors = p[:, None, :] - np.eye(n_classes)  # of class m, at [:, m]
    gradients = errors[..., None] * features[:, None, None, :]
    return (np.sqrt(p)[..., None] * gradients.reshape(n, n_classes, -1)).astype(float)


def trace_gains(
    factors: np.ndarray, inverse: np.ndarray, fisher: np.ndarray, sign: int = 1
) -> np.ndarray:
    """tr(M^-1 F) - tr((M + sign V' V)^-1 F) of every image, (n,), by Woodbury's identity.

    Args:
        factors: (n, M, D).
        inverse: (D, D), M^-1.
        fisher: (D, D), F.
        sign: 1 to add an image, -1 to take it away.
    """
    middle = factors @ inverse
    inner = sign * np.eye(factors.shape[1]) + middle @ factors.transpose(0, 2, 1)
    outer = middle @ fisher @ middle.transpose(0, 2, 1)
    return np.asarray(np.trace(np.linalg.solve(inner, outer), axis1=1, axis2=2))


def updated_inverse(inverse: np.ndarray, factor: np.ndarray, sign: int) -> np.ndarray:
    """(M + sign V' V)^-1 from M^-1 (D, D) and V (M, D)."""
    middle = factor @ inverse
    inner = sign * np.eye(len(factor)) + middle @ factor.T
    return np.asarray(inverse - middle.T @ np.linalg.solve(inner, middle))


def _information(factors: np.ndarray) -> np.ndarray:
    """Sum of the Fisher information of images, (D, D)."""
    flat = factors.reshape(-1, factors.shape[-1])
    return flat.T @ flat


def _principal(features: np.ndarray) -> np.ndarray:
    """(N, at most COMPONENTS) float64: features turned so that the largest directions come first.

    Inner products stay what they are but for the directions left out.
    """
    left, values, _ = np.linalg.svd(features.astype(float), full_matrices=False)
    return (left * values)[:, :COMPONENTS]
