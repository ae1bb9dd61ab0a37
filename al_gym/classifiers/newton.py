"""Multinomial logistic regression by Newton's method, for many heads at once.

Bishop, Pattern Recognition and Machine Learning (2006), 4.3.4, has gradient and Hessian; Minka, A
comparison of numerical optimizers for logistic regression (2003), what competes. As in
scikit-learn's ``newton-cg`` each step is solved by conjugate gradients, which need products with
the Hessian only, here preconditioned by its diagonal and stopped early (Nocedal and Wright,
Numerical Optimization (2006), algorithm 7.1). With fewer images than features the optimum lies in
the span of the images (the representer theorem): a QR decomposition leaves as many coordinates as
there are images, which is what few labels among many features gain most by.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

TOLERANCE, SMALLEST, LARGEST = 1e-4, 1e-11, 1e-7
"""A head has converged when the norm of its gradient is below ``TOLERANCE * decay``, or the nearest
number between the other two: its weights are as far from the best as the gradient is long, or less,
divided by ``decay``."""
MAX_STEPS, MAX_PRODUCTS, MAX_HALVINGS = 100, 1000, 30
"""Of Newton's method, of the conjugate gradients in a step, and of a step's length."""
INEXACT = 0.1
"""Share of the gradient that the conjugate gradients may leave."""
ABSENT = -14.0
"""Bias of a class without an image: its probability is below 1e-6, and its cross-entropy finite."""


class Solution(NamedTuple):
    """Of k heads, float64."""

    weight: Tensor
    """(k, M, F)."""
    bias: Tensor
    """(k, 1, M)."""
    passes: Tensor
    """(k,) int64, passes over the images: gradients, and products with the Hessian."""


def solve(inputs: Tensor, truth: Tensor, shares: Tensor, decay: Tensor) -> Solution:
    """Minimise sum_i shares_i CE_i + decay / 2 |weight|^2 for each of k heads, in float64.

    It starts from zeros, so that the images alone decide the result: a start from the optimum of
    four images less takes as many steps or more. A head that has not converged after ``MAX_STEPS``
    is what it is then. A class without an image has no optimum, as its bias goes to -inf: it is
    left out, with weights of zero and a bias of ``ABSENT`` below the mean of the others.

    Args:
        inputs: (k, n, F), the features.
        truth: (k, n, M), one-hot.
        shares: (k, n), of each image in the loss; a head's sum to 1.
        decay: (k,), positive.
    """
    truth, shares = truth.double().mT.contiguous(), shares.double()[:, None]
    mean, z, basis = _coordinates(inputs.double())
    z_t = z.mT.contiguous()  # with classes as rows both products take half the time that z.mT does
    penalty = F.pad(decay.double()[:, None, None].expand(-1, 1, z.shape[2] - 1), (0, 1))
    tolerance = (TOLERANCE * decay).clamp(SMALLEST, LARGEST)
    there = truth.sum(2, keepdim=True) > 0
    logits = torch.zeros_like(truth).masked_fill(~there, -1e4)  # a softmax of 0
    values = z.new_zeros(len(z), truth.shape[1], z.shape[2])
    loss = _loss(logits, values, truth, shares, penalty)
    active = torch.ones(len(z), dtype=torch.bool, device=z.device)
    passes = active.long() * 0
    for _ in range(MAX_STEPS):
        softmax = F.softmax(logits, dim=1)
        gradient = shares * (softmax - truth) @ z + penalty * values
        passes += active
        active = active & (_norm(gradient) > tolerance)
        if not active.any():
            break
        step, products = _newton_step(z, z_t, softmax, shares, penalty, gradient, active)
        passes += products
        length, move = active[:, None, None].double(), step @ z_t
        promised = 1e-4 * _dot(gradient, step)
        for _ in range(MAX_HALVINGS):
            further = logits + length * move, values + length * step
            found = _loss(*further, truth, shares, penalty)
            worse = found > loss + length * promised + 1e-12 * loss  # which is rounding
            if not worse.any():
                break
            length = torch.where(worse, length / 2, length)
        (logits, values), loss = further, found
    weight, bias = values[:, :, :-1], values[:, :, -1:]
    bias = bias - (bias * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
    if basis is not None:
        weight = weight @ basis.mT
    return Solution(weight, (torch.where(there, bias, ABSENT) - weight @ mean.mT).mT, passes)


def _coordinates(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The mean (k, 1, F); what differs from it, and a last 1 for the bias (k, n, d + 1); the basis.

    The basis (k, F, d) is None where d = F: with half as many images as features a decomposition
    takes longer than it saves.
    """
    mean = inputs.mean(1, keepdim=True)
    z, basis = inputs - mean, None
    if 2 * z.shape[1] < z.shape[2]:
        basis, triangle = torch.linalg.qr(z.mT)
        z = triangle.mT
    return mean, F.pad(z, (0, 1), value=1.0), basis


def _newton_step(
    z: Tensor,
    z_t: Tensor,
    softmax: Tensor,
    shares: Tensor,
    penalty: Tensor,
    gradient: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor]:
    """Where the gradient's linear model is nearly zero, and the products (k,) that it took."""
    weighted = shares * softmax
    diagonal = (weighted * (1 - softmax) @ z.square() + penalty).clamp_min(1e-300)
    enough, products = INEXACT * _norm(gradient), active.long() * 0
    step, residual = torch.zeros_like(gradient), -gradient
    direction = residual / diagonal
    size = _dot(residual, direction)
    for _ in range(MAX_PRODUCTS):
        change = direction @ z_t
        change = weighted * (change - (softmax * change).sum(1, keepdim=True))
        product = change @ z + penalty * direction
        products += active
        rate = torch.where(active[:, None, None], size / _dot(direction, product), 0)
        step, residual = step + rate * direction, residual - rate * product
        active = active & (_norm(residual) > enough)
        if not active.any():
            break
        scaled, before = residual / diagonal, size
        size = _dot(residual, scaled)
        direction = scaled + torch.where(active[:, None, None], size / before, 0) * direction
    return step, products


def _loss(logits: Tensor, values: Tensor, truth: Tensor, shares: Tensor, penalty: Tensor) -> Tensor:
    """What is minimised, (k, 1, 1)."""
    terms = logits.logsumexp(1, keepdim=True) - (logits * truth).sum(1, keepdim=True)
    return _dot(shares, terms) + _dot(penalty * values, values) / 2


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(k, 1, 1), of each head."""
    return (a * b).sum((1, 2), keepdim=True)


def _norm(values: Tensor) -> Tensor:
    """(k,), of each head."""
    return values.flatten(1).norm(dim=1)
