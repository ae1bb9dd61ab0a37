"""DDPG as DRLA trains it: Eq. 4, 6 and 7, and what Algorithm 1 says of the agent.

Wang et al., "Deep Reinforcement Active Learning for Medical Image Classification", MICCAI 2020,
after Lillicrap et al., "Continuous control with deep reinforcement learning", 2015. The agent knows
Gymnasium only and works on any Box action space.
"""

import copy
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from agents.ddpg import saving
from agents.ddpg.callbacks import Hook, TensorBoard
from agents.ddpg.config import DDPGConfig
from agents.ddpg.networks import Actor, Critic
from agents.ddpg.noise import make_noise
from agents.ddpg.optimizers import OPTIMIZERS
from agents.ddpg.replay_buffer import Batch, ReplayBuffer
from agents.ddpg.spaces import (
    Encoder,
    FlatEncoder,
    check_actions,
    check_reward,
    find_attribute,
    scale_actions,
)

Agent = TypeVar("Agent", bound="DDPG")


class Losses(NamedTuple):
    """Outcome of a gradient step, scalars on the agent's device."""

    critic: Tensor
    """Eq. 6 before the step."""
    actor: Tensor
    """Minus the mean of Q(S, pi(S)), Eq. 4, before the actor's step."""
    q: Tensor
    """Mean of Q(S, a) before the step."""
    finite: Tensor
    """1 as long as every loss was finite, else 0: then nothing was updated from there on."""


class DDPG:
    """Deep deterministic policy gradient on one Gymnasium environment.

    Observations of any Box shape are flattened to d numbers; actions of any bounded floating-point
    Box are k numbers. Nothing reads or writes a global generator.

    A subclass may override the four hooks at the end: ``_make_encoder`` and ``_make_networks`` for
    what is seen and by what, ``_in_play`` and ``_scaled`` for scores that do not count and for the
    noise.

    Args:
        env: a single environment (not a vector of them).
        config: settings; the paper's where omitted.

    Attributes:
        actor: pi(S; theta_a).
        critic: Q(S, a; theta_c).
        actor_target: the actor's target, with theta_a'.
        critic_target: the critic's, with theta_c'.
        buffer: the replay buffer.
        num_timesteps: environment steps so far.
        n_updates: gradient steps so far.
        episodes: finished episodes so far.

    Raises:
        TypeError: ``env`` is a vector of environments, its action space is not a Box, its
            observations are not what the networks take, or the settings are those of another agent.
        ValueError: the action space is unbounded or integer, or the settings do not fit it.
    """

    Config: ClassVar[type[DDPGConfig]] = DDPGConfig
    """Class of the settings, which ``load`` reads."""

    def __init__(self, env: gym.Env[Any, Any], config: DDPGConfig | None = None) -> None:
        self.env, self.config = env, self.Config() if config is None else config
        if type(self.config) is not self.Config:
            raise TypeError(
                f"{type(self).__name__} takes a {self.Config.__name__}, not a "
                f"{type(config).__name__}: agents.sets.agent_from_record chooses by the settings"
            )
        self.observation_space, self.action_space = env.observation_space, check_actions(env)
        c = self.config
        cuda = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(cuda if c.device == "auto" else c.device)
        seeds = np.random.SeedSequence(c.seed).spawn(4)
        self.encode: Encoder = self._make_encoder()
        d, k = self.encode.size, int(np.prod(self.action_space.shape))

        weights = torch.Generator().manual_seed(int(seeds[0].generate_state(1)[0]))
        actor, critic = self._make_networks(weights)
        self.actor, self.critic = actor.to(self.device), critic.to(self.device)
        self.actor_target, self.critic_target = copy.deepcopy((self.actor, self.critic))
        optimizer, rates = OPTIMIZERS[c.optimizer_impl], (c.learning_rate, c.tau)
        self.actor_optimizer = optimizer(self.actor, self.actor_target, *rates)
        self.critic_optimizer = optimizer(self.critic, self.critic_target, *rates)

        capacity = c.buffer_size or int(find_attribute(env, "max_steps", 1_000_000))
        buffer_seed = int(seeds[1].generate_state(1)[0])
        self.buffer = ReplayBuffer(capacity, d, k, self.device, buffer_seed)
        self.noise = make_noise(c.noise, k, c.noise_sigma, c.noise_theta, c.noise_dt, seeds[2])
        self.warm_up = np.random.default_rng(seeds[3])
        self.num_timesteps = self.n_updates = self.episodes = 0
        self.episode_return = 0.0
        self._state: Tensor | None = None  # S, (d,); None between episodes
        self._env_random: dict[str, Any] | None = None  # to be given to a new environment

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        progress_bar: bool = False,
        reset_num_timesteps: bool = True,
    ) -> "DDPG":
        """Act and train for ``total_timesteps`` environment steps (Algorithm 1).

        Args:
            total_timesteps: steps to do in this call.
            callback: called after every step with its training done: a callable taking
                ``(locals(), globals())``, or an object with ``on_step()``; False from it stops.
            progress_bar: whether to show one.
            reset_num_timesteps: whether to count steps and episodes from 0 again and begin a new
                episode. False continues where the last call ended, in the middle of an episode if
                it was there. Weights and replay buffer stay in either case.

        Raises:
            ValueError: the environment returned an observation of another shape, or NaN or
                infinity in it or as a reward. Nothing of that step is kept.
            FloatingPointError: a loss is NaN or infinite. Nothing was updated from there on.
        """
        if reset_num_timesteps:
            self.num_timesteps = self.episodes = 0
            self._state = self._env_random = None
        c, end = self.config, self.num_timesteps + total_timesteps
        hook = Hook(callback, self)
        hook.start(locals(), globals())
        with (
            closing(TensorBoard(c.log_dir)) as board,
            tqdm(total=total_timesteps, unit="step", disable=not progress_bar) as bar,
        ):
            while self.num_timesteps < end:
                state = self._begin_episode() if self._state is None else self._state
                self._state = None  # should the environment fail, there is nothing to go on from
                # Lines 2-6: S is at hand, a = pi(S) plus noise; the environment does the rest.
                action, noise_scale = self._explore(state)
                executed = self._to_action_space(action[None])[0]
                observation, reward, terminated, truncated, info = self.env.step(executed)
                # Line 7: keep (S, a, S', r).
                next_state = self._to_state(observation)
                reward = check_reward(reward, self.num_timesteps + 1)
                self.buffer.add(action, reward, next_state, bool(terminated))
                self._state = next_state
                self.num_timesteps += 1
                self.episode_return += reward
                scalars = {"rollout/reward": reward, "rollout/noise_scale": noise_scale}
                if terminated or truncated:
                    scalars["rollout/episode_return"] = self.episode_return
                    self.episodes += 1
                    self._state = None
                # Lines 8-12.
                if self.num_timesteps > c.learning_starts and c.gradient_steps != 0:
                    scalars |= self._train()
                scores = {name: info[name] for name in ("macro_f1", "micro_f1") if name in info}
                scalars |= {f"info/{name}": float(score) for name, score in scores.items()}
                board.write(scalars, self.num_timesteps)
                bar.update()
                if not hook.step(locals(), globals()):
                    break
        hook.end()
        return self

    def _begin_episode(self) -> Tensor:
        """Reset the environment, the noise and the buffer's chain of states; return S, (d,)."""
        first = self.num_timesteps == 0
        if self._env_random is not None:
            # A new environment takes the place of the saved one: seeded alike, moved on as far.
            self.env.reset(seed=self.config.seed)
            self.env.unwrapped.np_random.bit_generator.state = self._env_random
            self._env_random = None
        observation, _ = self.env.reset(seed=self.config.seed if first else None)
        state = self._to_state(observation)
        self.buffer.start(state)
        self.noise.reset()
        self.episode_return = 0.0
        return state

    @torch.no_grad()
    def _explore(self, state: Tensor) -> tuple[Tensor, float]:
        """Noisy, squashed action at S, (d,) -> (k,), and the root mean square of its noise."""
        c, actor = self.config, self.actor
        if self.num_timesteps < c.learning_starts:
            uniform = self.warm_up.uniform(actor.low, actor.high, self.buffer.actions.shape[1])
            action = torch.from_numpy(uniform.astype(np.float32)).to(self.device)
            return self._in_play(action, state), 0.0
        noise = torch.from_numpy(self.noise()).to(self.device)
        logits = actor.logits(state)
        scores = logits if c.noise_space == "logit" else actor.squash(logits)
        noise = self._scaled(noise, scores, state)
        if c.noise_space == "logit":
            action = actor.squash(scores + noise)
        else:
            action = (scores + noise).clamp(actor.low, actor.high)
        return self._in_play(action, state), float(noise.square().mean().sqrt())

    def _train(self) -> dict[str, float]:
        """The gradient steps after an environment step; means over them, fetched in one go."""
        c = self.config
        if c.gradient_steps == "pass":
            batches: Iterator[Batch] = self.buffer.batches(c.batch_size)
        else:
            batches = (self.buffer.sample(c.batch_size) for _ in range(c.gradient_steps))
        history: list[Tensor] = []
        finite = None
        for batch in batches:
            losses = self.train_step(batch, finite)
            history.append(torch.stack(losses))
            finite = losses.finite
        if c.target_update == "epoch" and finite is not None:
            self._update_targets(finite)
        table = torch.stack(history).cpu()  # the only wait for the device
        bad = int((table[:, 3] == 0).sum())
        if bad:
            self.n_updates -= bad
            raise FloatingPointError(
                f"the loss became NaN or infinite at gradient step {self.n_updates + 1}, "
                f"environment step {self.num_timesteps}; nothing was updated from there on. "
                "Check the size of the environment's rewards, or lower learning_rate"
            )
        critic, actor, q, _ = table.mean(dim=0).tolist()
        return {"train/critic_loss": critic, "train/actor_loss": actor, "train/q": q}

    def train_step(self, batch: Batch, finite: Tensor | None = None) -> Losses:
        """One gradient step of critic and actor and, with ``target_update="step"``, of the targets.

        With the fused optimizer nothing here waits for the device.

        Args:
            batch: B transitions.
            finite: ``Losses.finite`` of the step before, to update nothing after a loss that was
                not finite; None if there is none.
        """
        # Eq. 6: theta_c minimises (gamma Q'(S', pi'(S')) + r - Q(S, a))^2; a terminal S' has Q' 0.
        with torch.no_grad():
            next_actions = self._act(self.actor_target, batch.next_observations)
            next_q = self.critic_target(batch.next_observations, next_actions)
            target = batch.rewards + (1 - batch.terminated) * self.config.gamma * next_q
        q = self.critic(batch.observations, batch.actions)
        critic_loss = F.mse_loss(q, target)
        finite = critic_loss.new_ones(()) if finite is None else finite
        finite = finite * torch.isfinite(critic_loss.detach())
        self.critic_optimizer.minimize(critic_loss, finite)

        # Eq. 4: theta_a maximises Q(S, pi(S)), with the critic held still.
        self.critic.requires_grad_(False)
        actions = self._act(self.actor, batch.observations)
        actor_loss = -self.critic(batch.observations, actions).mean()
        self.critic.requires_grad_(True)
        finite = finite * torch.isfinite(actor_loss.detach())
        self.actor_optimizer.minimize(actor_loss, finite)

        # Eq. 7: theta' := lambda theta + (1 - lambda) theta'.
        if self.config.target_update == "step":
            self._update_targets(finite)
        self.n_updates += 1
        return Losses(critic_loss.detach(), actor_loss.detach(), q.detach().mean(), finite)

    def _update_targets(self, finite: Tensor) -> None:
        """Eq. 7 for critic and actor, if ``finite``."""
        self.critic_optimizer.update_target(finite)
        self.actor_optimizer.update_target(finite)

    def _act(self, actor: nn.Module, states: Tensor) -> Tensor:
        """pi(S) of states (B, d), (B, k)."""
        return self._in_play(actor(states), states)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Return pi(S), without noise, in the action space; see ``agents.policy.Policy``.

        Args:
            observation: one observation of the observation space's shape, or n of them stacked.
            state: passed through, and returned.
            episode_start: not used.
            deterministic: not used: the policy always is. Exploration belongs to ``learn``.

        Raises:
            ValueError: ``observation`` has another shape, or NaN or infinity in it.
        """
        states, single = self._encoded(observation)
        with torch.no_grad():
            actions = self._to_action_space(self._act(self.actor, states))
        return actions[0] if single else actions, state

    def state_dict(self) -> dict[str, Any]:
        """Everything of the agent that changes, as a tree that ``agents.checkpoint`` can write."""
        return saving.state_dict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of an agent of the same configuration.

        ``learn(..., reset_num_timesteps=False)`` then continues, in the middle of an episode if it
        was there: bring the environment to the same point.
        """
        saving.load_state_dict(self, state)

    def save(self, path: str | Path) -> Path:
        """Write everything the agent's future depends on to a safetensors file; return its path.

        Networks, targets, both optimizers, replay buffer, noise, generators, counters, the current
        observation and the environment's ``np_random``; not the environment. The file is replaced
        at once or not at all.

        Args:
            path: destination; the suffix .safetensors is added if missing.
        """
        return saving.save(self, path)

    @classmethod
    def load(
        cls: type[Agent],
        path: str | Path,
        env: gym.Env[Any, Any],
        device: str | None = None,
        force_reset: bool = True,
    ) -> Agent:
        """Rebuild a saved agent on ``env``; ``learn(..., reset_num_timesteps=False)`` continues.

        Continuation is exact, bit for bit on the CPU, in two cases, given ``config.seed``. Saved at
        the end of an episode: a new ``env`` will do if all its randomness comes from ``np_random``,
        as Gymnasium asks. It is reset with the run's seed, its ``np_random`` set as it was, and
        reset for the next episode. Saved within an episode: bring ``env`` to the same point, for
        example by resetting it with the same seed and repeating the actions, and pass
        ``force_reset=False``.

        Args:
            path: where it was saved, with or without the suffix.
            env: environment with spaces of the same shapes.
            device: instead of the saved setting.
            force_reset: whether the next ``learn`` begins a new episode even if the agent was saved
                within one.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, of another format or version, was saved for spaces of
                other shapes, or has settings that this class lacks.
        """
        return saving.load(cls, path, env, device, force_reset)

    # --- between the environment's spaces and the networks ------------------------------------

    def _to_state(self, observation: Any) -> Tensor:
        """One observation as a state, (d,)."""
        return self._encoded(observation)[0][0]

    def _encoded(self, observation: Any) -> tuple[Tensor, bool]:
        """One observation or m of them as states (m, d), and whether it was one."""
        try:
            return self.encode(observation)
        except ValueError as error:
            raise ValueError(f"{error} (environment step {self.num_timesteps})") from error

    def _to_action_space(self, actions: Tensor) -> NDArray[Any]:
        """Squashed actions (n, k) in the bounds and shape of the action space, (n, *shape)."""
        low, high = self.actor.low, self.actor.high
        return scale_actions((actions.cpu().numpy() - low) / (high - low), self.action_space)

    # --- what a subclass may override ---------------------------------------------------------

    def _make_encoder(self) -> Encoder:
        """What makes states, (m, d), of observations."""
        return FlatEncoder(self.observation_space, self.device)

    def _make_networks(self, weights: torch.Generator) -> tuple[Any, Any]:
        """New actor and critic on the CPU, their initial weights drawn from ``weights``."""
        c, d, k = self.config, self.encode.size, int(np.prod(self.action_space.shape))
        actor = Actor(d, k, c.width, c.squash, weights)
        return actor, Critic(d, k, c.width, weights)

    def _in_play(self, actions: Tensor, states: Tensor) -> Tensor:
        """Squashed actions (..., k) at states (..., d) as noise, targets and critic know them."""
        return actions

    def _scaled(self, noise: Tensor, scores: Tensor, state: Tensor) -> Tensor:
        """The noise (k,) that is added to scores (k,), before or after squashing, at S, (d,)."""
        return noise
