"""Response surfaces: that they find what random plays tell, and nothing where they tell nothing."""

import numpy as np
import pytest

from benchmarks.training import surface
from benchmarks.training.search import N_PARAMETERS, PLAYS
from benchmarks.training.surface import SPREAD, Plays

SCALES = np.tile(SPREAD, N_PARAMETERS // 2)


def made(function, n_tasks, noise, seed=0, scale=1.0):
    """Plays of parameters that are worth a function of them, on tasks of any difficulty."""
    rng = np.random.default_rng(seed)
    thetas = np.stack([surface.drawn(seed, ("made", PLAYS, k)) for k in range(n_tasks)])
    worths = function(thetas / SCALES) + rng.normal(0, noise, thetas.shape[:2])
    return Plays(thetas, scale * worths + rng.normal(0, 5, (n_tasks, 1)))


def test_terms_are_the_parameters_and_their_products():
    z = np.array([2.0, 3.0])
    assert surface.terms(z * SPREAD).tolist() == [2, 3, 4, 6, 9]
    assert surface.terms(np.zeros((4, 5, N_PARAMETERS))).shape[-1] == 26 + 26 * 27 // 2


def test_a_hill_is_found_whose_noise_is_ten_times_as_high():
    top = np.zeros(N_PARAMETERS)
    top[[3, 8]] = 0.8, -1.2

    def hill(z):
        return -0.05 * np.square(z - top).sum(-1)

    plays = {"one": made(hill, 400, 0.5), "two": made(hill, 400, 0.5, seed=1, scale=0.01)}
    reached = surface.highest(surface.fit(plays)) / SCALES
    assert np.linalg.norm(reached - top) < 0.6 * np.linalg.norm(top)
    assert hill(reached) > 0.6 * hill(np.zeros(N_PARAMETERS))


def test_families_count_alike_whatever_their_scale():
    def to_the_right(z):
        return z[..., 0]

    def to_the_left(z):
        return -z[..., 0]

    plays = {"one": made(to_the_right, 60, 0.0, scale=100), "two": made(to_the_left, 60, 0.0)}
    assert abs(surface.fit(plays)[0]) < 0.02
    # of 13 on a task one is the start, and their mean is taken off
    assert surface.fit({"one": plays["one"]})[0] == pytest.approx(
        (12 / 13 - 12 / 169) ** -0.5, abs=0.03
    )


def test_a_surface_agrees_with_plays_of_the_same_function_whatever_their_scale_and_tasks():
    def slope(z):
        return z[..., 0] - 0.5 * z[..., 1] ** 2

    coefficients = surface.fit({"one": made(slope, 80, 0.0)})
    other = made(slope, 30, 0.0, seed=1, scale=7)
    assert surface.agreement(coefficients, other) > 0.98
    noisy = made(
        slope, 300, 3 * slope(np.random.default_rng(0).normal(size=(999, 2))).std(), seed=2
    )
    assert surface.agreement(coefficients, noisy) == pytest.approx(0.1**0.5, abs=0.06)
    turned = Plays(other.thetas, -other.worths)
    assert surface.agreement(coefficients, turned) < -0.98


def test_where_plays_tell_nothing_the_penalty_is_the_greatest(monkeypatch):
    def flat(z):
        return np.zeros(z.shape[:-1])

    coefficients = surface.fit({"one": made(flat, 100, 1.0)})
    assert np.abs(coefficients).max() < 0.01


@pytest.mark.parametrize("slope", [0.1, 10.0])
def test_the_outcome_stays_within_reach(slope):
    coefficients = np.zeros(surface.terms(np.zeros(N_PARAMETERS)).shape)
    coefficients[4] = slope
    reached = surface.highest(coefficients) / SCALES
    assert np.mean(reached**2) == pytest.approx(surface.REACH, rel=1e-3)
    assert reached[4] == pytest.approx(np.sqrt(surface.REACH * N_PARAMETERS), rel=1e-3)
    coefficients[N_PARAMETERS:] = -1  # a top at the start's side
    inside = surface.highest(coefficients) / SCALES
    assert np.mean(inside**2) <= surface.REACH + 1e-6


def test_weights_differ_from_task_to_task_and_a_seed_decides_them():
    one = surface.drawn(0, ("made", PLAYS, 0))
    assert (one != surface.drawn(0, ("made", PLAYS, 1)))[:-1].all()
    assert (one != surface.drawn(1, ("made", PLAYS, 0)))[:-1].all()
    assert (one == surface.drawn(0, ("made", PLAYS, 0))).all() and not one[-1].any()
