"""DDPG as DRLA trains it: Eq. 4, 6 and 7, and what Algorithm 1 says of the agent.

Wang et al., "Deep Reinforcement Active Learning for Medical Image Classification", MICCAI 2020,
after Lillicrap et al., "Continuous control with deep reinforcement learning", 2015. The agent knows
Gymnasium only and works on any Box action space.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn
from torch.nn import functional as F

from agents.ddpg import saving, sb3_names
from agents.ddpg.callbacks import Report
from agents.ddpg.config import DDPGConfig
from agents.ddpg.health import Health
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
from agents.ddpg.subnormals import flushed_subnormals

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


class Choice(NamedTuple):
    """An action as the agent explores, squashed, on its device."""

    action: Tensor
    """What is executed and kept, (k,)."""
    intended: Tensor
    """The same without noise, (k,)."""
    noise_scale: float
    """Root mean square of the noise."""


class DDPG:
    """Deep deterministic policy gradient on one Gymnasium environment.

    Observations of any Box shape are flattened to d numbers; actions of any bounded floating-point
    Box are k numbers. Nothing reads or writes a global generator.

    A subclass may override ``_next_q`` and ``_actor_loss``, the halves of Eq. 6 and Eq. 4 that
    involve the actor, and the four hooks at the end: ``_make_encoder`` and ``_make_networks`` for
    what is seen and by what, ``_in_play`` and ``_scaled`` for scores that do not count and for the
    noise.

    Beside that it has a part of Stable-Baselines3's interface (``agents.ddpg.sb3_names``): its
    callbacks and logger, ``get_env``, ``set_env``, ``set_random_seed`` and the replay buffer in a
    file of its own. It has none of SB3's policies, vectors of environments, VecNormalize, HER, zip
    files, ``get_parameters`` and ``set_parameters``.

    Args:
        env: a single environment (not a vector of them), or its id.
        config: settings; the paper's where omitted.
        **settings: or the fields of ``config`` one by one: ``DDPG(env, learning_rate=1e-4)``.

    Attributes:
        actor: pi(S; theta_a).
        critic: Q(S, a; theta_c).
        actor_target: the actor's target, with theta_a'.
        critic_target: the critic's, with theta_c'.
        buffer: the replay buffer; ``replay_buffer`` is the same.
        health: numbers on how the agent does, which ``logger`` has too; it warns of what is amiss.
        logger: Stable-Baselines3's, of what happens in ``learn``; it writes nowhere until
            ``set_logger``, or while ``learn`` has a ``log_dir``.
        num_timesteps: environment steps so far.
        n_updates: gradient steps so far.
        episodes: finished episodes so far.

    Raises:
        TypeError: ``env`` is a vector of environments, its action space is not a Box, its
            observations are not what the networks take, the settings are those of another agent or
            unknown, or come both in ``config`` and one by one.
        ValueError: the action space is unbounded or integer, or the settings do not fit it.
    """

    Config: ClassVar[type[DDPGConfig]] = DDPGConfig
    """Class of the settings, which ``load`` reads."""

    def __init__(
        self, env: gym.Env[Any, Any] | str, config: DDPGConfig | None = None, **settings: Any
    ) -> None:
        env = sb3_names.make_env(env)
        self.env, self.config = env, sb3_names.make_config(self, config, settings)
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
        self.buffer = ReplayBuffer(capacity, d, k, self.device)
        self.health = Health(env, actor.low, actor.high, c.gamma)
        self._seed(seeds)
        self.num_timesteps = self.n_updates = self.episodes = 0
        self.episode_return = 0.0
        self._state: Tensor | None = None  # S, (d,); None between episodes
        self._env_random: dict[str, Any] | None = None  # to be given to a new environment
        self.logger = Logger(None, [])
        self._view: DummyVecEnv | None = None  # the environment as SB3's callbacks know it

    def _seed(self, seeds: list[np.random.SeedSequence]) -> None:
        """Let batches, noise and warm-up begin anew, from the second seed on."""
        c, k = self.config, self.buffer.actions.shape[1]
        self.buffer.generator.manual_seed(int(seeds[1].generate_state(1)[0]))
        self.noise = make_noise(c.noise, k, c.noise_sigma, c.noise_theta, c.noise_dt, seeds[2])
        self.warm_up = np.random.default_rng(seeds[3])

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 1,
        *,
        progress_bar: bool = False,
        reset_num_timesteps: bool = True,
    ) -> "DDPG":
        """Act and train for ``total_timesteps`` environment steps (Algorithm 1).

        Args:
            total_timesteps: steps to do in this call.
            callback: called after every step with its training done (SB3 trains after its call):
                one of Stable-Baselines3's callbacks, a callable taking ``(locals(), globals())``,
                an object with ``on_step()``, or a list of these; False from it stops.
            log_interval: steps (in SB3 episodes) between two writes of ``logger``; None leaves
                them to callbacks, such as SB3's LogEveryNTimesteps.
            progress_bar: whether to show one.
            reset_num_timesteps: whether to count steps and episodes from 0 again and begin a new
                episode. False continues where the last call ended, in the middle of an episode if
                it was there. Weights and replay buffer stay in either case.

        Raises:
            RuntimeError: the agent was loaded without an environment.
            TypeError: ``callback`` is none of those.
            ValueError: the environment returned an observation of another shape, or NaN or
                infinity in it or as a reward. Nothing of that step is kept.
            FloatingPointError: a loss is NaN or infinite, and nothing was updated from there on;
                or an action is, before the environment has seen it.
        """
        report = Report(self, callback, log_interval, progress_bar)
        if reset_num_timesteps:
            self.num_timesteps = self.episodes = 0
            self._state = self._env_random = None
        c, end = self.config, self.num_timesteps + total_timesteps
        with report.until(end, locals(), globals()):
            while self.num_timesteps < end:
                report.before_step()
                state = self._begin_episode() if self._state is None else self._state
                self._state = None  # should the environment fail, there is nothing to go on from
                # Lines 2-6: S is at hand, a = pi(S) plus noise; the environment does the rest.
                choice = self._explore(state)
                executed = self._to_action_space(choice.action[None])[0]
                self.health.of_choice(choice.intended.cpu().numpy(), choice.action.cpu().numpy())
                observation, reward, terminated, truncated, info = self.env.step(executed)
                # Line 7: keep (S, a, S', r).
                next_state = self._to_state(observation)
                reward = check_reward(reward, self.num_timesteps + 1)
                self.buffer.add(choice.action, reward, next_state, bool(terminated))
                self._state = next_state
                self.num_timesteps += 1
                self.episode_return += reward
                scalars = {"rollout/reward": reward, "rollout/noise_scale": choice.noise_scale}
                if terminated or truncated:
                    scalars["rollout/episode_return"] = self.episode_return
                    self.episodes += 1
                    self._state = None
                # Lines 8-12.
                if self.num_timesteps > c.learning_starts and c.gradient_steps != 0:
                    scalars |= self._train()
                self.health.see(info)
                self.health.of_step(reward)
                scalars |= {f"health/{name}": n for name, n in self.health.known().items()}
                scores = {name: info[name] for name in ("macro_f1", "micro_f1") if name in info}
                scalars |= {f"info/{name}": float(score) for name, score in scores.items()}
                if not report.after_step(locals()):
                    break
        return self

    def _begin_episode(self) -> Tensor:
        """Reset the environment, the noise and the buffer's chain of states; return S, (d,)."""
        first = self.num_timesteps == 0
        if self._env_random is not None:
            # A new environment takes the place of the saved one: seeded alike, moved on as far.
            self.env.reset(seed=self.config.seed)
            self.env.unwrapped.np_random.bit_generator.state = self._env_random
            self._env_random = None
        observation, info = self.env.reset(seed=self.config.seed if first else None)
        self.health.see(info)
        state = self._to_state(observation)
        self.buffer.start(state)
        self.noise.reset()
        self.episode_return = 0.0
        return state

    @torch.no_grad()
    def _explore(self, state: Tensor) -> Choice:
        """The action at S, (d,): that of the actor with noise, or in the warm-up a random one."""
        c, actor = self.config, self.actor
        if self.num_timesteps < c.learning_starts:
            uniform = self.warm_up.uniform(actor.low, actor.high, self.buffer.actions.shape[1])
            action = torch.from_numpy(uniform.astype(np.float32)).to(self.device)
            return Choice(self._in_play(action, state), self._act(actor, state), 0.0)
        noise = torch.from_numpy(self.noise()).to(self.device)
        logits = actor.logits(state)
        intended = actor.squash(logits)
        scores = logits if c.noise_space == "logit" else intended
        noise = self._scaled(noise, scores, state)
        if c.noise_space == "logit":
            action = actor.squash(scores + noise)
        else:
            action = (scores + noise).clamp(actor.low, actor.high)
        scale = float(noise.square().mean().sqrt())
        return Choice(self._in_play(action, state), intended, scale)

    def _train(self) -> dict[str, float]:
        """The gradient steps after an environment step; means over them, fetched in one go."""
        c = self.config
        if c.gradient_steps == "pass":
            batches: Iterator[Batch] = self.buffer.batches(c.batch_size)
        else:
            batches = (self.buffer.sample(c.batch_size) for _ in range(c.gradient_steps))
        history: list[Tensor] = []
        finite = None
        with flushed_subnormals():
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
                "Check the size of the environment's rewards, or lower learning_rate "
                f"({self.config.learning_rate})"
            )
        critic, actor, q, _ = table.mean(dim=0).tolist()
        optimizers = self.actor_optimizer, self.critic_optimizer
        self.health.of_training(q, *(float(each.mean_gradient()) for each in optimizers))
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
            next_q = self._next_q(batch.next_observations)
            target = batch.rewards + (1 - batch.terminated) * self.config.gamma * next_q
        q = self.critic(batch.observations, batch.actions)
        critic_loss = F.mse_loss(q, target.expand_as(q))
        finite = critic_loss.new_ones(()) if finite is None else finite
        finite = finite * torch.isfinite(critic_loss.detach())
        self.critic_optimizer.minimize(critic_loss, finite)

        # Eq. 4: theta_a maximises Q(S, pi(S)), with the critic held still.
        self.critic.requires_grad_(False)
        actor_loss = self._actor_loss(batch.observations)
        self.critic.requires_grad_(True)
        finite = finite * torch.isfinite(actor_loss.detach())
        self.actor_optimizer.minimize(actor_loss, finite)

        # Eq. 7: theta' := lambda theta + (1 - lambda) theta'.
        if self.config.target_update == "step":
            self._update_targets(finite)
        self.n_updates += 1
        return Losses(critic_loss.detach(), actor_loss.detach(), q.detach().mean(), finite)

    def _next_q(self, states: Tensor) -> Tensor:
        """Q'(S', pi'(S')) of states (B, d), (B, 1): the target networks' value of what follows."""
        return self.critic_target(states, self._act(self.actor_target, states))

    def _actor_loss(self, states: Tensor) -> Tensor:
        """Minus the mean of Q(S, pi(S)) over states (B, d)."""
        return -self.critic(states, self._act(self.actor, states)).mean()

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
            FloatingPointError: the action has.
        """
        states, single = self._encoded(observation)
        with torch.no_grad():
            actions = self._to_action_space(self._act(self.actor, states))
        return actions[0] if single else actions, state

    state_dict, load_state_dict, save = saving.state_dict, saving.load_state_dict, saving.save

    @classmethod
    def load(
        cls: type[Agent],
        path: str | Path,
        env: gym.Env[Any, Any] | str | None = None,
        device: str | None = None,
        force_reset: bool = True,
    ) -> Agent:
        """Rebuild a saved agent on ``env``; ``learn(..., reset_num_timesteps=False)`` continues.

        Without ``env`` it predicts, and learns once ``set_env`` has given it one.

        Continuation is exact, bit for bit on the CPU, in two cases, given ``config.seed``. Saved at
        the end of an episode: a new ``env`` will do if all its randomness comes from ``np_random``,
        as Gymnasium asks. It is reset with the run's seed, its ``np_random`` set as it was, and
        reset for the next episode. Saved within an episode: bring ``env`` to the same point, for
        example by resetting it with the same seed and repeating the actions, and pass
        ``force_reset=False``.

        Args:
            path: where it was saved, with or without the suffix.
            env: environment with spaces of the same shapes, or its id.
            device: instead of the saved setting.
            force_reset: whether the next ``learn`` begins a new episode even if the agent was saved
                within one.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the file is truncated, or of another format or version.
            ValueError: it was saved for spaces of other shapes, has settings that this class lacks,
                or, without ``env``, is of a version that kept no spaces.
        """
        return saving.load(cls, path, env, device, force_reset)

    # --- by Stable-Baselines3's names ---------------------------------------------------------

    get_env, set_env = sb3_names.get_env, sb3_names.set_env
    get_vec_normalize_env = sb3_names.get_vec_normalize_env
    set_logger, dump_logs = sb3_names.set_logger, sb3_names.dump_logs
    set_random_seed = sb3_names.set_random_seed
    replay_buffer = property(sb3_names.replay_buffer)
    save_replay_buffer = sb3_names.save_replay_buffer
    load_replay_buffer = sb3_names.load_replay_buffer

    if not TYPE_CHECKING:  # a type checker is to know what is not there

        def __getattr__(self, name: str) -> Any:
            """Say what to use in place of what SB3 has and this has not."""
            raise sb3_names.lacks(self, name)

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
        low, high, squashed = self.actor.low, self.actor.high, actions.cpu().numpy()
        if not np.isfinite(squashed).all():
            raise FloatingPointError(
                "the actor's output became NaN or infinite after gradient step "
                f"{self.n_updates}, environment step {self.num_timesteps}: its weights are of no "
                "use any more. Go on from an agent saved before, or make a new one with a lower "
                f"learning_rate ({self.config.learning_rate})"
            )
        return scale_actions((squashed - low) / (high - low), self.action_space)

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
