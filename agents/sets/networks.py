"""Actor and critic that see a pool as a set: one small network, shared by all samples.

The order of the pool carries no meaning, so the actor is permutation-equivariant and the critic
invariant (Zaheer et al., Deep sets, NeurIPS 2017). What is learned about one sample holds for all,
and the networks fit any pool and any number of classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.sets.pool_features import CHUNK, SIZES, PoolState, Sizes, unflatten

WIDTH = 40
"""Hidden units; actor and critic together have 6,800 weights."""


class SharedNetwork(nn.Module):
    """Three layers applied to every sample; the context enters the first as one bias for all.

    Args:
        n_features: K, of a sample.
        n_context: C, of the pool.
        n_outputs: of a sample.
        generator: source of the initial weights; None: all 0.
    """

    def __init__(
        self, n_features: int, n_context: int, n_outputs: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        fan_in = n_features + n_context

        def weights(*shape: int, fan_in: int) -> nn.Parameter:
            values = torch.zeros(shape)
            if generator is not None:
                values.uniform_(-1, 1, generator=generator).div_(math.sqrt(fan_in))
            return nn.Parameter(values)

        self.of_sample = weights(WIDTH, n_features, fan_in=fan_in)
        self.of_context = weights(WIDTH, n_context, fan_in=fan_in)
        self.bias = weights(WIDTH, fan_in=fan_in)
        self.hidden = weights(WIDTH, WIDTH, fan_in=WIDTH)
        self.hidden_bias = weights(WIDTH, fan_in=WIDTH)
        self.out = weights(n_outputs, WIDTH, fan_in=WIDTH)
        self.out_bias = weights(n_outputs, fan_in=WIDTH)

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        """(..., K, n) and (..., C) -> (..., n_outputs, n)."""
        shared = (context @ self.of_context.T + self.bias)[..., None, :]
        # samples first: products of such thin matrices are two to three times as fast that way
        parts = [self._samples(part, shared) for part in features.mT.split(CHUNK, dim=-2)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)).mT

    def _samples(self, features: Tensor, shared: Tensor) -> Tensor:
        hidden = (features @ self.of_sample.T).add_(shared).relu_()
        hidden = F.linear(hidden, self.hidden, self.hidden_bias).relu_()
        return F.linear(hidden, self.out, self.out_bias)


class SetActor(nn.Module):
    """The policy as a score for each sample.

    Args:
        generator: source of the network's initial weights; None: all 0.
        sizes: of a pool's description.
    """

    low, high = 0.0, 1.0
    squash = staticmethod(torch.sigmoid)

    def __init__(self, generator: torch.Generator | None = None, sizes: Sizes = SIZES) -> None:
        super().__init__()
        self.sizes = sizes
        self.net = SharedNetwork(*sizes, 1, generator)

    def scores(self, state: PoolState) -> Tensor:
        """Scores of any size, (..., n)."""
        return self.net(*state)[..., 0, :]

    def logits(self, flat: Tensor) -> Tensor:
        """``scores`` of flattened pools, (..., C + K * n) -> (..., n)."""
        return self.scores(unflatten(flat, self.sizes))

    def forward(self, flat: Tensor) -> Tensor:
        """Actions in (0, 1)."""
        return torch.sigmoid(self.logits(flat))


class SetCritic(nn.Module):
    """The value Q(S, a), of a pool, its scores, and what they select.

    A shared network sees each sample's features, its score, and whether it is among the n_s
    selected. Its outputs are averaged over the pool and over the selected, and a layer makes the
    value of both means and the context. The selection is passed through as it is; its gradient is
    that of a sigmoid around the score of the last selected, as wide as the scores in the pool are
    spread (a straight-through estimator, Bengio et al., 2013), so that Eq. 4 can tell the actor
    whom to select.

    Args:
        query_size: n_s.
        generator: source of the initial weights.
        sizes: of a pool's description, whose first feature is above 0 in the pool.
    """

    def __init__(
        self,
        query_size: int,
        generator: torch.Generator | None = None,
        sizes: Sizes = SIZES,
    ) -> None:
        super().__init__()
        self.query_size, self.sizes = query_size, sizes
        n_features, n_context = sizes
        self.net = SharedNetwork(n_features + 2, n_context, WIDTH // 2, generator)
        self.value = nn.utils.skip_init(nn.Linear, WIDTH + n_context, 1)
        bound = 1 / math.sqrt(WIDTH + n_context)
        nn.init.uniform_(self.value.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.value.bias, -bound, bound, generator=generator)

    def forward(self, flat: Tensor, action: Tensor) -> Tensor:
        """Q of flattened pools (B, C + K * n) and scores (B, n), shape (B, 1)."""
        features, context = unflatten(flat, self.sizes)
        in_pool = (features[:, 0] > 0).float()
        selected = self.selected(action, in_pool)
        seen = torch.cat([features, action[:, None], selected[:, None]], dim=1)
        outputs = self.net(seen, context).relu()
        means = [_mean(outputs, weights[:, None]) for weights in (in_pool, selected)]
        return self.value(torch.cat([*means, context], dim=1))

    def selected(self, action: Tensor, in_pool: Tensor) -> Tensor:
        """1 for the n_s highest scores in the pool, else 0, (B, n); with a sigmoid's gradient.

        Fewer if fewer are left; the sigmoid is then around 0. Of equal scores at the end any are
        taken.
        """
        among = action.masked_fill(in_pool == 0, -torch.inf)
        best = among.detach().topk(min(self.query_size, action.shape[1]), dim=1)
        last = best.values[:, -1:]
        hard = torch.zeros_like(action).scatter_(1, best.indices, 1.0) * in_pool
        weights = in_pool[:, None]
        mean = _mean(action.detach()[:, None], weights)
        spread = _mean((action.detach() - mean)[:, None].square(), weights).sqrt().clamp_min(1e-6)
        soft = torch.sigmoid((action - last.nan_to_num(neginf=0.0)) / spread) * in_pool
        return hard + soft - soft.detach()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of (B, H, n) over the samples by weights (B, 1, n), (B, H); 0 of none."""
    total = weights.sum(-1)
    # not clamp_min(1), whose gradient is 0 also where the total is 1: a query of one sample
    return (values * weights).sum(-1) / torch.where(total > 0, total, 1)
