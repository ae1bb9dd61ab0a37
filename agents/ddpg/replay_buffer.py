"""Replay buffer that stores every state once, on the agent's device."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """B transitions (S, a, r, S') in float32."""

    observations: Tensor
    """(B, d), S."""
    actions: Tensor
    """(B, k), a: what was executed, in the squashed range."""
    rewards: Tensor
    """(B, 1), r."""
    next_observations: Tensor
    """(B, d), S'."""
    terminated: Tensor
    """(B, 1), 1 where S' is terminal and has no value of its own, else 0."""


class ReplayBuffer:
    """Ring of transitions over a ring of states in which S' of one step is S of the next.

    An episode is written by ``start(S_0)`` and an ``add`` for every step, of a, r and S': each
    state arrives, and is stored, once. The final observation is stored like any other and the next
    ``start`` puts an unconnected state after it.

    One episode of ``capacity`` steps fits exactly: ``capacity`` transitions and ``capacity + 1``
    states, 44.3 MB for 665 transitions of 3,325 x 4 probabilities where storing S and S' takes 79.6
    MB. When the ring is full the oldest transition goes. Every further episode among those stored
    takes the room of one transition, for its unconnected first state.

    Args:
        capacity: transitions kept, at least 1.
        observation_size: length d of a flattened observation.
        action_size: length k of an action.
        device: where everything is stored and sampled.
        seed: seed of the buffer's own generator.

    Raises:
        ValueError: ``capacity`` is below 1.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity, self.device = capacity, torch.device(device)
        self.states = torch.empty(capacity + 1, observation_size, device=device)
        self.actions = torch.empty(capacity, action_size, device=device)
        self.rewards = torch.empty(capacity, device=device)
        self.terminated = torch.empty(capacity, device=device)
        self.slots = torch.empty(capacity, dtype=torch.long, device=device)  # of S; S' is the next
        self.generator = torch.Generator(device).manual_seed(seed)
        self._host_slots = np.zeros(capacity, dtype=np.int64)  # the same, without a host round trip
        self._oldest = self._size = 0
        self._n_states = 0  # all states ever written; the newest lies at (n - 1) % (capacity + 1)

    def __len__(self) -> int:
        """Number of transitions stored."""
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        stored = (self.states, self.actions, self.rewards, self.terminated, self.slots)
        return sum(tensor.nbytes for tensor in stored)

    def start(self, observation: Tensor) -> None:
        """Begin an episode at ``observation``, shape (d,)."""
        self._push(observation)

    def add(
        self, action: Tensor, reward: float, next_observation: Tensor, terminated: bool
    ) -> None:
        """Store the transition from the newest state to ``next_observation``.

        Args:
            action: (k,), as executed, in the squashed range.
            reward: r(S, a).
            next_observation: (d,), also when the episode ends here.
            terminated: whether S' is terminal; False for a truncated episode, whose value goes on.

        Raises:
            RuntimeError: no episode was begun.
        """
        if self._n_states == 0:
            raise RuntimeError("start(observation) comes before the first add(...)")
        slot = (self._n_states - 1) % len(self.states)
        self._push(next_observation)
        row = (self._oldest + self._size) % self.capacity
        self.actions[row] = action
        self.rewards[row] = reward
        self.terminated[row] = float(terminated)
        self.slots[row] = self._host_slots[row] = slot
        self._size += 1

    def sample(self, batch_size: int) -> Batch:
        """Draw ``batch_size`` transitions uniformly, with replacement.

        Raises:
            RuntimeError: the buffer is empty.
        """
        if self._size == 0:
            raise RuntimeError("cannot sample from an empty replay buffer")
        ages = torch.randint(
            self._size, (batch_size,), generator=self.generator, device=self.device
        )
        return self._gather(ages)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """One shuffled pass over all stored transitions; the last batch may be smaller."""
        order = torch.randperm(self._size, generator=self.generator, device=self.device)
        return (self._gather(ages) for ages in order.split(batch_size))

    def state_dict(self) -> dict[str, Tensor]:
        """What is stored, oldest first, and the generator: tensors, no larger than their content.

        The ring is unrolled. Sampling goes by age, so a buffer loaded from this draws and forgets
        exactly as this one would have done.
        """
        rows = (torch.arange(self._size, device=self.device) + self._oldest) % self.capacity
        slots = (torch.arange(self._n_live_states, device=self.device) + self._first_slot) % len(
            self.states
        )
        return {
            "states": self.states[slots],
            "actions": self.actions[rows],
            "rewards": self.rewards[rows],
            "terminated": self.terminated[rows],
            "slots": (self.slots[rows] - self._first_slot) % len(self.states),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a ``state_dict`` of a buffer of the same capacity and sizes.

        The state of a generator belongs to a kind of device. Where the kinds differ, the buffer
        keeps its own generator, with a warning: everything else continues exactly.
        """
        size, n_states = len(state["rewards"]), len(state["states"])
        self.states[:n_states] = state["states"].to(self.device)
        for name in ("actions", "rewards", "terminated", "slots"):
            getattr(self, name)[:size] = state[name].to(self.device)
        self._host_slots[:size] = state["slots"].cpu().numpy()
        self._oldest, self._size, self._n_states = 0, size, n_states
        if state["generator"].numel() == self.generator.get_state().numel():
            self.generator.set_state(state["generator"].cpu())
        else:
            warnings.warn(
                "the checkpoint comes from another kind of device: the replay buffer draws its "
                "batches from a fresh generator",
                stacklevel=2,
            )

    @property
    def _first_slot(self) -> int:
        """Slot of the oldest state that is still of use."""
        if self._size:
            return int(self._host_slots[self._oldest])
        return max(self._n_states - 1, 0) % len(self.states)

    @property
    def _n_live_states(self) -> int:
        if self._n_states == 0:
            return 0
        return (self._n_states - 1 - self._first_slot) % len(self.states) + 1

    def _push(self, observation: Tensor) -> None:
        """Write the next state, over the oldest one and its transition when the ring is full."""
        slot = self._n_states % len(self.states)
        # capacity transitions span all capacity + 1 states, so this also makes room for a row.
        if self._size and self._host_slots[self._oldest] == slot:
            self._oldest = (self._oldest + 1) % self.capacity
            self._size -= 1
        self.states[slot] = observation
        self._n_states += 1

    def _gather(self, ages: Tensor) -> Batch:
        """Batch of the transitions of the given ages, (B,), 0 being the oldest."""
        rows = (ages + self._oldest) % self.capacity
        slots = self.slots[rows]
        return Batch(
            observations=self.states[slots],
            actions=self.actions[rows],
            rewards=self.rewards[rows, None],
            next_observations=self.states[(slots + 1) % len(self.states)],
            terminated=self.terminated[rows, None],
        )
