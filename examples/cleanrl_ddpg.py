"""DDPG as CleanRL writes it, an algorithm in one file, on the choice of images to annotate.

    python examples/cleanrl_ddpg.py --seed 1

After https://github.com/vwxyzjn/cleanrl/blob/master/cleanrl/ddpg_continuous_action.py. What is
different: scores are in [0, 1], so the actor ends in a sigmoid; one environment is reset by hand,
so the last observation of an episode is never mistaken for the first of the next.
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
    """DDPG on an active-learning environment."""

    env_id: str = "al_gym:ActiveLearning-chestCT-v0"
    """Any id of ours; "al_gym:" imports what registers it."""
    budget: float = 0.3
    """Share of the training images that are labelled at the end of an episode."""
    seed: int = 0
    """Of the environment, the networks, the noise and the batches."""
    total_steps: int = 600
    """Queries, over all episodes."""
    learning_starts: int = 100
    """Queries with random scores, before the first gradient step."""
    batch_size: int = 64
    """Transitions of a gradient step; there is one a query."""
    learning_rate: float = 3e-4
    """Of Adam, for both networks."""
    gamma: float = 0.99
    """Discount."""
    tau: float = 0.005
    """How far the target networks follow in a step."""
    noise: float = 0.1
    """Deviation of the Gaussian noise on each score."""


def mlp(n_in: int, n_out: int, *last: nn.Module) -> nn.Sequential:
    """Two hidden layers of 256."""
    hidden = nn.Linear(n_in, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(256, n_out), *last)


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
    actor, critic = mlp(n_observed, n_scores, nn.Sigmoid()), mlp(n_observed + n_scores, 1)
    actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_optimizer = torch.optim.Adam(actor.parameters(), args.learning_rate)
    critic_optimizer = torch.optim.Adam(critic.parameters(), args.learning_rate)
    spaces = env.observation_space, env.action_space
    buffer = ReplayBuffer(args.total_steps, *spaces, "cpu", handle_timeout_termination=False)
    rng = np.random.default_rng(args.seed)
    episodes, critic_loss = [], torch.tensor(torch.nan)
    observation, _ = env.reset(seed=args.seed)
    for step in range(1, args.total_steps + 1):
        action = rng.random(n_scores, np.float32)
        if step > args.learning_starts:
            with torch.no_grad():
                scores = actor(torch.from_numpy(observation)).numpy()
            action = np.clip(scores + rng.normal(0, args.noise, n_scores), 0, 1).astype(np.float32)
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
        batch = buffer.sample(args.batch_size)
        with torch.no_grad():
            seen = batch.next_observations
            future = critic_target(torch.cat([seen, actor_target(seen)], 1))
            target = batch.rewards + (1 - batch.dones) * args.gamma * future
        value = critic(torch.cat([batch.observations, batch.actions], 1))
        critic_loss = F.mse_loss(value, target)
        descend(critic_optimizer, critic_loss)
        own = torch.cat([batch.observations, actor(batch.observations)], 1)
        actor_loss = -critic(own).mean()
        descend(actor_optimizer, actor_loss)
        polyak_update(actor.parameters(), actor_target.parameters(), args.tau)
        polyak_update(critic.parameters(), critic_target.parameters(), args.tau)
    env.close()
    return actor, episodes


if __name__ == "__main__":
    main(tyro.cli(Args))
