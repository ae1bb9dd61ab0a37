"""DDPG as DRLA trains it: Eq. 4, 6 and 7, and what Algorithm 1 says of the agent.

Wang et al., "Deep Reinforcement Active Learning for Medical Image Classification", MICCAI 2020,
after Lillicrap et al., "Continuous control with deep reinforcement learning", 2015. The agent knows
Gymnasium only and works on any Box action space.
"""

import copy
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from agents import checkpoint
from agents.callbacks import Hook, TensorBoard
from agents.config import DDPGConfig
from agents.encoders import Encoder, FlatEncoder, SetEncoder
from agents.noise import make_noise
from agents.policies import Actor, Critic
from agents.replay_buffer import Batch, ReplayBuffer
from agents.set_networks import SetActor, SetCritic
from agents.spaces import check_actions, find_attribute, scale_actions

FORMAT, VERSION = "drla-ddpg", 2
NETWORKS = ("actor", "critic", "actor_target", "critic_target")
OPTIMIZERS = ("actor_optimizer", "critic_optimizer")
COUNTERS = ("num_timesteps", "n_updates", "episodes", "episode_return")


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
    Box are k numbers. With `networks="set"` observations are those of
    `al_gym.wrappers.ContextObservation`, and a coordinate of the action is a sample of the pool.
    Nothing reads or writes a global generator.

    Args:
        env: A single environment (not a vector of them).
        config: Settings; the paper's where omitted.

    Attributes:
        actor, critic: pi(S; theta_a) and Q(S, a; theta_c).
        actor_target, critic_target: Their targets, with theta_a' and theta_c'.
        buffer: The replay buffer.
        num_timesteps, n_updates, episodes: Environment steps, gradient steps and finished
            episodes so far.

    Raises:
        TypeError: `env` is a vector of environments, its action space is not a Box, or its
            observations are not what the networks take.
        ValueError: The action space is unbounded or integer, or the settings do not fit it.
    """

    def __init__(self, env: gym.Env[Any, Any], config: DDPGConfig | None = None) -> None:
        self.env, self.config = env, config or DDPGConfig()
        self.observation_space, self.action_space = env.observation_space, check_actions(env)
        c = self.config
        cuda = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(cuda if c.device == "auto" else c.device)
        seeds = np.random.SeedSequence(c.seed).spawn(4)
        encoder = SetEncoder if c.networks == "set" else FlatEncoder
        self.encode: Encoder = encoder(self.observation_space, self.device)
        d, k = self.encode.size, int(np.prod(self.action_space.shape))

        weights = torch.Generator().manual_seed(int(seeds[0].generate_state(1)[0]))
        self.actor, self.critic = (network.to(self.device) for network in self._networks(weights))
        self.actor_target, self.critic_target = copy.deepcopy((self.actor, self.critic))
        self.actor_optimizer = self._adam(self.actor)
        self.critic_optimizer = self._adam(self.critic)

        capacity = c.buffer_size or int(find_attribute(env, "max_steps", 1_000_000))
        buffer_seed = int(seeds[1].generate_state(1)[0])
        self.buffer = ReplayBuffer(capacity, d, k, c.storage, self.device, buffer_seed, c.credit)
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
        """Act and train for `total_timesteps` environment steps (Algorithm 1).

        Args:
            total_timesteps: Steps to do in this call.
            callback: Called after every step with its training done: a callable taking
                `(locals(), globals())`, or an object with `on_step()`; False from it stops.
            progress_bar: Whether to show one.
            reset_num_timesteps: Whether to count steps and episodes from 0 again and begin a new
                episode. False continues where the last call ended, in the middle of an episode if
                it was there. Weights and replay buffer stay in either case.

        Raises:
            ValueError: The environment returned an observation of another shape, or NaN or
                infinity in it or as a reward. Nothing of that step is kept.
            FloatingPointError: A loss is NaN or infinite. Nothing was updated from there on.
        """
        if reset_num_timesteps:
            self.num_timesteps = self.episodes = 0
            self._state = self._env_random = None
        c, end = self.config, self.num_timesteps + total_timesteps
        hook = Hook(callback, self)
        hook.start(locals(), globals())
        with (
            closing(TensorBoard(self.config.log_dir)) as board,
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
                credits = self._credits(info) if c.credit else None
                self.buffer.add(
                    action, self._checked(reward), next_state, bool(terminated), credits
                )
                self._state = next_state
                self.num_timesteps += 1
                self.episode_return += float(reward)
                scalars = {"rollout/reward": float(reward), "rollout/noise_scale": noise_scale}
                if terminated or truncated:
                    scalars["rollout/episode_return"] = self.episode_return
                    self.episodes += 1
                    self._state = None
                # Lines 8-12.
                if self.num_timesteps > self.config.learning_starts and c.gradient_steps != 0:
                    scalars |= self._train()
                scores = {name: info[name] for name in ("macro_f1", "micro_f1") if name in info}
                scalars |= {f"info/{name}": float(score) for name, score in scores.items()}
                board.write(scalars, self.num_timesteps)
                bar.update()
                if not hook.step(locals(), globals()):
                    break
        hook.end()
        return self

    def train_step(self, batch: Batch, finite: Tensor | None = None) -> Losses:
        """One gradient step of critic and actor and, with `target_update="step"`, of the targets.

        With the fused optimiser nothing here waits for the device.

        Args:
            batch: B transitions.
            finite: `Losses.finite` of the step before, to update nothing after a loss that was
                not finite; None if there is none.
        """
        gamma = self.config.gamma
        # Eq. 6: theta_c to minimise (gamma Q'(S', pi'(S')) + r - Q(S, a))^2. A terminal S' has no
        # value.
        with torch.no_grad():
            next_actions = self._act(self.actor_target, batch.next_observations)
            next_q = self.critic_target(batch.next_observations, next_actions)
            target = batch.rewards + (1 - batch.terminated) * gamma * next_q
        q = self.critic(batch.observations, batch.actions)
        critic_loss = F.mse_loss(q, target)
        if self.config.credit:
            critic_loss = critic_loss + self.critic.credit_loss(batch.observations, batch.credits)
        finite = critic_loss.new_ones(()) if finite is None else finite
        finite = finite * torch.isfinite(critic_loss.detach())
        self._minimise(critic_loss, self.critic, self.critic_optimizer, finite)

        # Eq. 4: theta_a to maximise Q(S, pi(S)), with the critic held still.
        self.critic.requires_grad_(False)
        actions = self._act(self.actor, batch.observations)
        actor_loss = -self.critic(batch.observations, actions).mean()
        self.critic.requires_grad_(True)
        finite = finite * torch.isfinite(actor_loss.detach())
        self._minimise(actor_loss, self.actor, self.actor_optimizer, finite)

        # Eq. 7: theta' := lambda theta + (1 - lambda) theta'.
        if self.config.target_update == "step":
            self._update_targets(finite)
        self.n_updates += 1
        return Losses(critic_loss.detach(), actor_loss.detach(), q.detach().mean(), finite)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Return pi(S), without noise, in the action space: SB3's signature and conventions.

        Args:
            observation: One observation of the observation space's shape, or n of them stacked.
            state: Passed through; there is no recurrent state.
            episode_start: Ignored.
            deterministic: Ignored: the policy always is. Exploration belongs to `learn`.

        Returns:
            The action, or n of them stacked, and `state`.

        Raises:
            ValueError: `observation` has another shape, or NaN or infinity in it.
        """
        states, single = self._encoded(observation)
        with torch.no_grad():
            actions = self._to_action_space(self._act(self.actor, states))
        return actions[0] if single else actions, state

    def save(self, path: str | Path) -> Path:
        """Write everything the agent's future depends on to one safetensors file.

        Networks, targets, both optimisers, replay buffer, noise, generators, counters, the current
        observation and the environment's `np_random`; not the environment. The file is replaced
        at once or not at all.

        Args:
            path: Destination; the suffix .safetensors is added if missing.

        Returns:
            Where it lies.
        """
        header = {
            "format": FORMAT,
            "version": VERSION,
            "shapes": self._shapes(),
            "config": asdict(replace(self.config, buffer_size=self.buffer.capacity)),
            # what a loaded agent has not yet handed to its environment is still to be handed over
            "env_random": self._env_random or self.env.unwrapped.np_random.bit_generator.state,
        }
        return checkpoint.write(path, header | self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Everything of the agent that changes, as a tree that `agents.checkpoint` can write."""
        return {
            **{name: getattr(self, name).state_dict() for name in NETWORKS},
            **{name: getattr(self, name).state_dict()["state"] for name in OPTIMIZERS},
            "buffer": self.buffer.state_dict(),
            "noise": self.noise.state_dict(),
            "warm_up": self.warm_up.bit_generator.state,
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "state": self._state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of an agent of the same configuration.

        `learn(..., reset_num_timesteps=False)` then continues, in the middle of an episode if it
        was there: bring the environment to the same point.
        """
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        for name in OPTIMIZERS:
            optimizer = getattr(self, name)
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state[name]})
        self.buffer.load_state_dict(state["buffer"])
        self.noise.load_state_dict(state["noise"])
        self.warm_up.bit_generator.state = state["warm_up"]
        for name in COUNTERS:
            setattr(self, name, state["counters"][name])
        self._state = None if state["state"] is None else state["state"].to(self.device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: gym.Env[Any, Any],
        device: str | None = None,
        force_reset: bool = True,
    ) -> "DDPG":
        """Rebuild a saved agent on `env`; `learn(..., reset_num_timesteps=False)` continues.

        Continuation is exact, bit for bit on the CPU, in two cases, given `config.seed`. Saved at
        the end of an episode: a new `env` will do if all its randomness comes from `np_random`, as
        Gymnasium asks. It is reset with the run's seed, its `np_random` set as it was, and reset
        for the next episode. Saved within an episode: bring `env` to the same point, for example
        by resetting it with the same seed and repeating the actions, and pass `force_reset=False`.

        Args:
            path: Where it was saved, with or without the suffix.
            env: Environment with spaces of the same shapes.
            device: Instead of the saved setting.
            force_reset: Whether the next `learn` begins a new episode even if the agent was saved
                within one.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is truncated, of another format or version, or the agent was
                saved for spaces of other shapes.
        """
        saved = checkpoint.read(path)
        found = (saved.get("format"), saved.get("version"))
        if found != (FORMAT, VERSION):
            raise ValueError(
                f"{path} has format and version {found}, this code reads {(FORMAT, VERSION)}: "
                "load it with the version that saved it, or train again"
            )
        config = DDPGConfig(**saved["config"])
        agent = cls(env, config if device is None else replace(config, device=device))
        if saved["shapes"] != agent._shapes():
            raise ValueError(
                f"{path} was saved for observations and actions of shape {saved['shapes']}, the "
                f"environment has {agent._shapes()}: make the environment with the settings of the "
                "training"
            )
        agent.load_state_dict(saved)
        if force_reset:
            agent._state = None
        if agent._state is None and agent.num_timesteps > 0 and config.seed is not None:
            agent._env_random = saved["env_random"]
        return agent

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
        actor = self.actor
        if self.num_timesteps < self.config.learning_starts:
            uniform = self.warm_up.uniform(actor.low, actor.high, self.buffer.actions.shape[1])
            action = torch.from_numpy(uniform.astype(np.float32)).to(self.device)
            return self._masked(action, state), 0.0
        noise = torch.from_numpy(self.noise()).to(self.device)
        logits = actor.logits(state)
        scores = logits if self.config.noise_space == "logit" else actor.squash(logits)
        if self.config.noise_scale == "spread":
            noise = noise * scores[self.encode.in_pool(state)].std(correction=0)
        if self.config.noise_space == "logit":
            action = actor.squash(scores + noise)
        else:
            action = (scores + noise).clamp(actor.low, actor.high)
        return self._masked(action, state), float(noise.square().mean().sqrt())

    def _act(self, actor: torch.nn.Module, states: Tensor) -> Tensor:
        """pi(S) of states (B, d), (B, k), with `mask` 0 for samples that have left the pool."""
        return self._masked(actor(states), states)

    def _masked(self, actions: Tensor, states: Tensor) -> Tensor:
        if not self.config.mask:
            return actions
        return torch.where(self.encode.in_pool(states), actions, self.actor.low)

    def _credits(self, info: dict[str, Any]) -> Tensor:
        """Each selected sample's summand of the reward, (k,), NaN for the others."""
        credits = torch.full((self.buffer.actions.shape[1],), torch.nan, device=self.device)
        rows = torch.as_tensor(info["selected"], device=self.device)
        credits[rows] = torch.as_tensor(info["sample_rewards"], device=self.device)
        return credits

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

    def _networks(self, weights: torch.Generator) -> tuple[Any, Any]:
        """New actor and critic on the CPU, as the settings ask for."""
        c, k = self.config, int(np.prod(self.action_space.shape))
        rows = self.observation_space.shape
        if (c.mask or c.noise_scale == "spread") and rows is not None and rows[:-1] != (k,):
            raise ValueError(
                f"mask and noise_scale='spread' need observations (n_u, M) and actions (n_u,), got "
                f"{rows} and {self.action_space.shape}"
            )
        if c.networks == "mlp":
            actor = Actor(self.encode.size, k, c.width, c.squash, weights)
            return actor, Critic(self.encode.size, k, c.width, weights)
        query_size = find_attribute(self.env, "query_size", None)
        if query_size is None:
            raise ValueError("networks='set' is for active-learning environments: no query_size")
        critic = SetCritic(query_size, c.credit, generator=weights)
        return SetActor(c.base, generator=weights), critic

    def _shapes(self) -> list[list[int]]:
        """Of observations (of a dictionary: of what the networks see of it) and actions."""
        observations = self.observation_space.shape or (self.encode.size,)
        return [list(observations), list(self.action_space.shape)]

    def _adam(self, network: torch.nn.Module) -> torch.optim.Adam:
        fused = True if self.config.optimizer_impl == "fused" else None
        return torch.optim.Adam(network.parameters(), lr=self.config.learning_rate, fused=fused)

    def _minimise(
        self, loss: Tensor, network: torch.nn.Module, optimizer: torch.optim.Adam, finite: Tensor
    ) -> None:
        """One step of `network` alone, if `finite`: no gradient reaches any other network."""
        optimizer.zero_grad()
        loss.backward(inputs=list(network.parameters()))
        if self.config.optimizer_impl == "fused":
            # The flag of PyTorch's GradScaler: the kernel reads it on the device and does nothing.
            optimizer.found_inf = 1 - finite  # type: ignore[attr-defined]
            optimizer.step()
        elif finite:
            optimizer.step()
        optimizer.zero_grad()  # the other network's gradients take the memory of these

    @torch.no_grad()
    def _update_targets(self, finite: Tensor) -> None:
        """Eq. 7 for actor and critic, if `finite`."""
        tau = self.config.tau
        for online, target in ((self.critic, self.critic_target), (self.actor, self.actor_target)):
            weights: list[Tensor] = list(online.parameters())
            averages: list[Tensor] = list(target.parameters())
            if self.config.optimizer_impl == "fused":
                torch._foreach_lerp_(averages, weights, [tau * finite] * len(weights))
            elif finite:
                torch._foreach_mul_(averages, 1 - tau)
                torch._foreach_add_(averages, weights, alpha=tau)

    def _checked(self, reward: Any) -> float:
        """The reward as a number that float32 can hold; one that is not would spoil the buffer."""
        if not abs(float(reward)) <= float(np.finfo(np.float32).max):
            raise ValueError(
                f"the environment returned the reward {reward} at environment step "
                f"{self.num_timesteps + 1}: mend the environment, or clean it in a wrapper"
            )
        return float(reward)

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
