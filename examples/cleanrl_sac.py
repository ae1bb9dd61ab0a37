"""SAC as CleanRL writes it, an algorithm in one file, on the choice of images to annotate.

    python examples/cleanrl_sac.py --seed 1

After https://github.com/vwxyzjn/cleanrl/blob/master/cleanrl/sac_continuous_action.py, with a
temperature that is learned. A score is the sigmoid of a Gaussian z, since scores are in [0, 1];
its density is that of z divided by the sigmoid's slope, s(z) (1 - s(z)).
"""

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.utils import polyak_update, set_random_seed
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Args:
    """SAC on an active-learning environment."""

    env_id: str = "al_gym:ActiveLearning-chestCT-v0"
    """Any id of ours; "al_gym:" imports what registers it."""
    budget: float = 0.3
    """Share of the training images that are labelled at the end of an episode."""
    seed: int = 0
    """Of the environment, the networks, the policy and the batches."""
    total_steps: int = 600
    """Queries, over all episodes."""
    learning_starts: int = 100
    """Queries with random scores, before the first gradient step."""
    batch_size: int = 64
    """Transitions of a gradient step; there is one a query."""
    learning_rate: float = 3e-4
    """Of Adam, for all networks and the temperature."""
    gamma: float = 0.99
    """Discount."""
    tau: float = 0.005
    """How far the target networks follow in a step."""


def mlp(n_in: int, n_out: int) -> nn.Sequential:
    """Two hidden layers of 256."""
    hidden = nn.Linear(n_in, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(256, n_out))


def sample(actor: nn.Module, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of a batch, (B, n_u), and their log densities, (B, 1)."""
    mean, log_std = actor(observations).chunk(2, dim=1)
    normal = torch.distributions.Normal(mean, (-1.5 + 3.5 * torch.tanh(log_std)).exp())
    z = normal.rsample()
    log_slope = F.logsigmoid(z) + F.logsigmoid(-z)
    return torch.sigmoid(z), (normal.log_prob(z) - log_slope).sum(1, keepdim=True)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One gradient step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main(args: Args, **settings: Any) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train; returns the actor and what was printed of each episode."""
    torch.set_num_threads(1)  # networks as small as these gain nothing by more
    set_random_seed(args.seed)
    settings = {"profile": "embedded", "trainable": "head", "budget": args.budget, **settings}
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id, flatten=True, **settings))
    (n_observed,), (n_scores,) = env.observation_space.shape, env.action_space.shape
    actor = mlp(n_observed, 2 * n_scores)
    critics = nn.ModuleList(mlp(n_observed + n_scores, 1) for _ in range(2))
    critics_target = copy.deepcopy(critics)
    log_alpha = torch.zeros(1, requires_grad=True)
    actor_optimizer = torch.optim.Adam(actor.parameters(), args.learning_rate)
    critic_optimizer = torch.optim.Adam(critics.parameters(), args.learning_rate)
    alpha_optimizer = torch.optim.Adam([log_alpha], args.learning_rate)
    spaces = env.observation_space, env.action_space
    buffer = ReplayBuffer(args.total_steps, *spaces, "cpu", handle_timeout_termination=False)
    rng = np.random.default_rng(args.seed)
    episodes, critic_loss = [], torch.tensor(torch.nan)
    observation, _ = env.reset(seed=args.seed)
    for step in range(1, args.total_steps + 1):
        action = rng.random(n_scores, np.float32)
        if step > args.learning_starts:
            with torch.no_grad():
                action = sample(actor, torch.from_numpy(observation)[None])[0][0].numpy()
        following, reward, terminated, truncated, info = env.step(action)
        # only a true end has no future: a truncated episode would have gone on
        buffer.add(observation, following, action, reward, np.array([terminated]), [info])
        observation = following
        if terminated or truncated:
            scores = {"reward": info["episode"]["r"], "macro_f1": info["macro_f1"]}
            episodes.append({"step": step, **scores, "critic_loss": critic_loss.item()})
            print("  ".join(f"{name} {value:.4g}" for name, value in episodes[-1].items()))
            observation, _ = env.reset()
        if step <= args.learning_starts:
            continue
        batch, alpha = buffer.sample(args.batch_size), log_alpha.detach().exp()
        with torch.no_grad():
            scores, log_density = sample(actor, batch.next_observations)
            seen = torch.cat([batch.next_observations, scores], 1)
            future = torch.min(*(critic(seen) for critic in critics_target)) - alpha * log_density
            target = batch.rewards + (1 - batch.dones) * args.gamma * future
        done = torch.cat([batch.observations, batch.actions], 1)
        critic_loss = sum(F.mse_loss(critic(done), target) for critic in critics)
        descend(critic_optimizer, critic_loss)
        scores, log_density = sample(actor, batch.observations)
        own = torch.cat([batch.observations, scores], 1)
        actor_loss = (alpha * log_density - torch.min(*(critic(own) for critic in critics))).mean()
        descend(actor_optimizer, actor_loss)
        # towards an entropy of -n_u, one nat a score below that of the uniform distribution
        alpha_loss = -log_alpha.exp() * (log_density.detach().mean() - n_scores)
        descend(alpha_optimizer, alpha_loss)
        polyak_update(critics.parameters(), critics_target.parameters(), args.tau)
    env.close()
    return actor, episodes


if __name__ == "__main__":
    main(tyro.cli(Args))
