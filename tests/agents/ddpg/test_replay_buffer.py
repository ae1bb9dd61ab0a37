"""The ring of shared states against a plain list, its size in bytes, and its sampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.ddpg.replay_buffer import ReplayBuffer


def state(i: float, d: int = 3) -> Tensor:
    return torch.full((d,), float(i)) + torch.arange(d) / 10


def everything(buffer: ReplayBuffer) -> list[tuple[float, ...]]:
    """All stored transitions, by reward: (S, a, r, S', terminated), first coordinates."""
    rows = []
    for batch in buffer.batches(4):
        for i in range(len(batch.rewards)):
            rows.append(tuple(round(float(part[i].ravel()[0]), 3) for part in batch))
    return sorted(rows, key=lambda row: row[2])


def fill(buffer: ReplayBuffer, episodes: list[int], d: int = 3, k: int = 2) -> None:
    """Episodes of the given lengths with states 0, 1, 2, ...; the reward numbers transitions."""
    number, count = 0, 0
    for length in episodes:
        buffer.start(state(number, d))
        for t in range(length):
            number += 1
            action = torch.full((k,), count / 100)
            buffer.add(action, float(count), state(number, d), t == length - 1)
            count += 1
        number += 1


class Naive:
    """What the ring should hold: a list of all states and of all transitions between them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.states: list[float] = []
        self.transitions: list[tuple[int, float, float, bool]] = []

    def start(self, number: float) -> None:
        self.states.append(number)

    def add(self, action: float, reward: float, number: float, terminated: bool) -> None:
        self.transitions.append((len(self.states) - 1, action, reward, terminated))
        self.states.append(number)

    def everything(self) -> list[tuple[float, ...]]:
        oldest = len(self.states) - (self.capacity + 1)
        return [
            (self.states[i], round(action, 3), reward, self.states[i + 1], float(terminated))
            for i, action, reward, terminated in self.transitions
            if i >= oldest
        ]


@settings(max_examples=150, deadline=None)
@given(
    capacity=st.integers(1, 9),
    moves=st.lists(
        st.sampled_from(["step", "step", "step", "end", "reset", "reload"]), max_size=60
    ),
)
def test_ring_equals_a_naive_list(capacity: int, moves: list[str]) -> None:
    buffer, naive = ReplayBuffer(capacity, 3, 2), Naive(capacity)
    count = 0
    fresh = True
    for move in moves:
        if move == "reload":
            copy = ReplayBuffer(capacity, 3, 2, seed=77)
            copy.load_state_dict(buffer.state_dict())
            buffer = copy
            continue
        if fresh or move == "reset":
            buffer.start(state(count))
            naive.start(count)
            count += 1
            fresh = False
        if move in ("step", "end"):
            terminated = move == "end"
            action = (count % 50) / 100
            buffer.add(torch.full((2,), action), float(count), state(count), terminated)
            naive.add(action, float(count), float(count), terminated)
            count += 1
            fresh = terminated
        assert everything(buffer) == naive.everything()
        assert len(buffer) == len(naive.everything())


@settings(max_examples=50, deadline=None)
@given(
    capacity=st.integers(1, 8),
    before=st.lists(st.integers(1, 7), max_size=5),
    after=st.lists(st.integers(1, 7), min_size=1, max_size=5),
)
def test_a_loaded_buffer_draws_and_forgets_as_the_original(
    capacity: int, before: list[int], after: list[int]
) -> None:
    original, copy = ReplayBuffer(capacity, 3, 2, seed=1), ReplayBuffer(capacity, 3, 2, seed=2)
    fill(original, before)
    if before:
        original.sample(3)
    copy.load_state_dict(original.state_dict())
    fill(original, after)
    fill(copy, after)
    for mine, other in zip(original.sample(20), copy.sample(20), strict=True):
        assert torch.equal(mine, other)
    for batch, twin in zip(original.batches(4), copy.batches(4), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, twin, strict=True))


def test_the_papers_run_fits_in_50_mb() -> None:
    d, k, steps = 3325 * 4, 3325, 665
    buffer = ReplayBuffer(steps, d, k)
    states, actions = 4 * d * (steps + 1), 4 * k * steps
    assert buffer.nbytes == states + actions + steps * (4 + 4 + 8) == 44_286_340
    assert 2 * 4 * d * steps + actions == 79_600_500  # what storing S and S' takes


def test_a_whole_episode_fits_exactly() -> None:
    buffer = ReplayBuffer(5, 3, 2)
    fill(buffer, [5])
    assert len(buffer) == 5
    assert [row[0] for row in everything(buffer)] == [0, 1, 2, 3, 4]
    assert [row[3] for row in everything(buffer)] == [1, 2, 3, 4, 5]
    assert [row[4] for row in everything(buffer)] == [0, 0, 0, 0, 1]


def test_an_episodes_end_does_not_run_into_the_next_episode() -> None:
    buffer = ReplayBuffer(10, 3, 2)
    fill(buffer, [2, 3])  # states 0 1 2 | 3 4 5 6
    pairs = [(row[0], row[3]) for row in everything(buffer)]
    assert pairs == [(0, 1), (1, 2), (3, 4), (4, 5), (5, 6)]


def test_the_ring_forgets_the_oldest() -> None:
    buffer = ReplayBuffer(4, 3, 2)
    fill(buffer, [9])
    assert [row[2] for row in everything(buffer)] == [5, 6, 7, 8]
    assert [row[0] for row in everything(buffer)] == [5, 6, 7, 8]


def test_batches_are_float32_and_shaped() -> None:
    buffer = ReplayBuffer(5, 3, 2)
    buffer.start(torch.tensor([0.1, 0.2, 0.3]))
    buffer.add(torch.tensor([0.7, 0.9]), 0.123456789, torch.tensor([0.4, 0.5, 0.6]), True)
    batch = buffer.sample(6)
    shapes = [(6, 3), (6, 2), (6, 1), (6, 3), (6, 1)]
    assert [tuple(part.shape) for part in batch] == shapes
    assert all(part.dtype == torch.float32 for part in batch)
    assert torch.equal(batch.observations[0], torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(batch.actions[0], torch.tensor([0.7, 0.9]))
    assert batch.rewards[0].item() == pytest.approx(0.123456789, rel=1e-7)


def test_what_is_stored_is_a_copy() -> None:
    buffer = ReplayBuffer(3, 3, 2)
    observation, action = torch.zeros(3), torch.zeros(2)
    buffer.start(observation)
    buffer.add(action, 0.0, observation, False)
    observation += 1
    action += 1
    batch = buffer.sample(2)
    batch.observations.add_(1)
    assert not buffer.sample(2).observations.any()
    assert not buffer.sample(2).actions.any()


def test_sampling_is_uniform_and_from_its_own_generator(untouched_globals: None) -> None:
    buffer, twin = ReplayBuffer(8, 3, 2, seed=5), ReplayBuffer(8, 3, 2, seed=5)
    fill(buffer, [13])
    fill(twin, [13])
    rewards = buffer.sample(16_000).rewards
    assert torch.equal(rewards, twin.sample(16_000).rewards)
    counts = torch.bincount(rewards.ravel().long(), minlength=13)
    assert counts[:5].sum() == 0
    assert (counts[5:] - 2000).abs().max() < 200  # 4.8 standard deviations of 42


def test_a_pass_visits_every_transition_once_in_a_new_order() -> None:
    buffer = ReplayBuffer(50, 3, 2)
    fill(buffer, [20, 30])
    passes = [[batch.rewards.ravel().tolist() for batch in buffer.batches(16)] for _ in range(2)]
    stored = [row[2] for row in everything(buffer)]
    assert len(stored) == 49  # the second episode's first state took the room of one
    for batches in passes:
        assert [len(batch) for batch in batches] == [16, 16, 16, 1]
        order = [reward for batch in batches for reward in batch]
        assert sorted(order) == stored
        assert order != stored
    assert passes[0] != passes[1]


def test_state_dict_holds_no_more_than_is_stored() -> None:
    buffer = ReplayBuffer(1000, 3, 2)
    fill(buffer, [4])
    held = buffer.state_dict()
    assert held["states"].shape == (5, 3)
    assert held["actions"].shape == (4, 2)
    assert ReplayBuffer(1000, 3, 2).state_dict()["states"].shape == (0, 3)


def test_a_generator_of_another_device_is_left_out_with_a_warning() -> None:
    buffer, copy = ReplayBuffer(4, 3, 2), ReplayBuffer(4, 3, 2, seed=9)
    fill(buffer, [3])
    held = buffer.state_dict() | {"generator": torch.zeros(16, dtype=torch.uint8)}  # as CUDA's
    with pytest.warns(UserWarning, match="another kind of device"):
        copy.load_state_dict(held)
    assert everything(copy) == everything(buffer)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(0, 3, 2)
    buffer = ReplayBuffer(3, 3, 2)
    with pytest.raises(RuntimeError, match="start"):
        buffer.add(torch.zeros(2), 0.0, torch.zeros(3), False)
    with pytest.raises(RuntimeError, match="empty"):
        buffer.sample(1)
