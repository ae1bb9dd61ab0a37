"""What is seen where labels are few, against plain loops; and that nothing depends on memory."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sets import coverage, pool_features
from agents.sets.coverage import (
    CHANGING,
    CONTEXT,
    FEATURES,
    RADII,
    REGIME,
    Coverage,
    Labelled,
    Memory,
    Neighbourhood,
    at_length_1,
    by_softmax,
    survey,
)

RANDOM = settings(max_examples=30, deadline=None)


def directions(n, f=4, seed=0):
    return at_length_1(np.random.default_rng(seed).normal(size=(n, f)))


def observe(n=20, m=3, n_labelled=4, budget=9, seed=0, gone=()):
    """A pool with embeddings, and labelled samples of any classes, those gone from it last."""
    rng = np.random.default_rng(seed)
    softmax = rng.dirichlet(np.full(m, 0.7), n).astype(np.float32)
    softmax[list(gone)] = 0
    embeddings = rng.normal(1, 1, size=(n, 5)).astype(np.float32)
    n_initial = n_labelled - len(gone)
    vectors = np.zeros((budget, 5), np.float32)
    vectors[:n_initial] = rng.normal(1, 1, size=(n_initial, 5))
    vectors[n_initial:n_labelled] = embeddings[list(gone)]
    classes = np.full(budget, -1, np.float32)
    classes[:n_labelled] = rng.integers(0, m, n_labelled)
    counts = np.bincount(classes[:n_labelled].astype(int), minlength=m)
    return {
        "softmax": softmax,
        "class_counts": counts.astype(np.float32),
        "labelled_fraction": np.float32([0.2]),
        "embeddings": embeddings,
        "labelled_embeddings": vectors,
        "labelled_classes": classes,
    }


def labelled_of(vectors, labelled, classes):
    known = Labelled(Neighbourhood(vectors))
    known.add(labelled, torch.tensor(classes))
    return known


def by_name(state):
    assert len(state.features) == len(FEATURES)
    return dict(zip(FEATURES, state.features, strict=True))


def context_of(state):
    assert len(state.context) == len(CONTEXT) + 2 * len(FEATURES)
    return dict(zip(CONTEXT, state.context.tolist(), strict=False))


# --- the pool -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 7, 40])
def test_typicality_and_radii_are_those_of_plain_loops(monkeypatch, n):
    monkeypatch.setattr(coverage, "N_NEIGHBOURS", 3)
    vectors = directions(n, seed=n)
    hood = Neighbourhood(vectors)
    points = vectors.double().tolist()
    squares = [
        [sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in points] for x in points
    ]
    means = []
    for i in range(n):
        nearest = sorted(math.sqrt(squares[i][j]) for j in range(n) if j != i)[:3]
        means.append(sum(nearest) / len(nearest))
    thinner = [sum(other > mean + 1e-6 for other in means) / n for mean in means]
    np.testing.assert_allclose(hood.typicality, thinner, atol=1e-6)
    apart = [squares[i][j] for i in range(n) for j in range(n) if i != j]
    np.testing.assert_allclose(hood.radii, np.quantile(apart, coverage.QUANTILES), rtol=1e-4)
    np.testing.assert_allclose(hood.cosines, vectors @ vectors.T, atol=1e-6)


def test_a_large_pool_is_measured_by_some_at_equal_steps():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1000, 4)) * rng.random((1000, 1)) + [
        2,
        0,
        0,
        0,
    ]  # dense in the middle
    vectors = torch.nn.functional.normalize(torch.tensor(points, dtype=torch.float32))
    hood = Neighbourhood(vectors, n_anchors=250)
    assert hood.anchors.tolist() == list(range(0, 1000, 4))
    whole = Neighbourhood(vectors)
    assert whole.anchors.tolist() == list(range(1000))
    np.testing.assert_allclose(hood.radii, whole.radii, rtol=0.2)
    assert np.corrcoef(hood.typicality, whole.typicality)[0, 1] > 0.85
    odd = Neighbourhood(vectors[:7], torch.arange(7) != 3, n_anchors=4)
    assert odd.anchors.tolist() == [0, 1, 4, 5]  # of 0 1 2 4 5 6 the first, second, fourth, fifth


def test_equal_samples_are_no_error():
    hood = Neighbourhood(torch.ones(5, 1))
    assert hood.radii.tolist() == pytest.approx([coverage.TOO_NEAR] * len(coverage.QUANTILES))
    assert hood.typicality.tolist() == [0] * 5


# --- the labelled -------------------------------------------------------------------------------


@RANDOM
@given(n=st.integers(0, 12), m=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_what_is_known_of_the_labelled_is_that_of_plain_loops(n, m, seed):
    vectors, labelled = directions(6, seed=seed), directions(n + 2, seed=seed + 1)[:n]
    classes = np.random.default_rng(seed).integers(0, m, n).tolist()
    known = labelled_of(vectors, labelled, classes)
    assert known.classes.tolist() == classes
    for i in range(6):
        cosines = [float(vectors[i] @ labelled[j]) for j in range(n)]
        if not n:
            assert known.nearest[i] == -torch.inf and known.nearest_class[i] == -1
            continue
        assert float(known.nearest[i]) == pytest.approx(max(cosines), abs=1e-6)
        assert int(known.nearest_class[i]) == classes[int(np.argmax(cosines))]
    right, tried, squares = 0, 0, []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        squares += [float(2 - 2 * labelled[i] @ labelled[j]) for j in others]
        if any(classes[j] == classes[i] for j in others):
            nearest = max(others, key=lambda j: float(labelled[i] @ labelled[j]))
            tried, right = tried + 1, right + (classes[nearest] == classes[i])
    assert known.neighbours_agree(m) == pytest.approx((right + 1) / (tried + m))
    least = min(squares) if squares else 1
    assert float(known.radii[-1]) == pytest.approx(least, rel=1e-3, abs=1e-5)
    assert torch.equal(known.radii[:-1], known.neighbourhood.radii)


def test_samples_in_one_place_do_not_make_a_radius():
    vectors = torch.eye(3)
    known = labelled_of(vectors, vectors[[0, 0]], [0, 1])
    assert float(known.radii[-1]) == 1
    known.add(vectors[1:2], torch.tensor([1]))
    assert float(known.radii[-1]) == 2


# --- memory -------------------------------------------------------------------------------------


def grown(observation, n):
    """As the observation was when n samples were labelled."""
    later = np.arange(len(observation["labelled_classes"])) >= n
    return observation | {
        "labelled_embeddings": np.where(later[:, None], 0, observation["labelled_embeddings"]),
        "labelled_classes": np.where(later, -1, observation["labelled_classes"]),
    }


def equal(one, other):
    assert torch.equal(one.nearest, other.nearest)
    assert torch.equal(one.nearest_class, other.nearest_class)
    assert torch.equal(one.radii, other.radii)
    assert one.neighbours_agree(3) == other.neighbours_agree(3)


def test_step_by_step_is_to_the_bit_as_at_once():
    memory, observation = Memory(), observe(n=300, n_labelled=9)
    for n in (0, 2, 2, 5, 9):
        equal(memory.of(grown(observation, n)), Memory().of(grown(observation, n)))


def test_a_pool_is_looked_at_once(monkeypatch):
    made = []

    def make(*arguments):
        made.append(arguments)
        return Neighbourhood(*arguments)

    monkeypatch.setattr(coverage, "Neighbourhood", make)
    memory = Memory(size=2)
    first, second, third = (observe(seed=seed) for seed in range(3))
    for n in range(5):  # in turns
        for one in (first, second):
            equal(memory.of(grown(one, n)), Memory().of(grown(one, n)))
            made.pop()
    assert len(made) == 2
    memory.of(third)  # for which the oldest goes
    memory.of(second)
    assert len(made) == 3
    memory.of(first)
    assert len(made) == 4


def test_another_start_on_the_same_pool_is_not_taken_for_the_first():
    memory, one = Memory(), observe()
    memory.of(one)
    vectors, classes = one["labelled_embeddings"][::-1].copy(), one["labelled_classes"].copy()
    for other in (
        one | {"labelled_embeddings": vectors},
        one | {"labelled_classes": np.where(classes >= 0, 2 - classes, classes)},
        grown(one, 2),
    ):
        equal(memory.of(other), Memory().of(other))
    equal(memory.of(one), Memory().of(one))


def test_arrays_that_are_written_into_later_do_no_harm():
    memory, one = Memory(), observe()
    memory.of(one)
    one["embeddings"] *= -1
    one["labelled_embeddings"] += 1
    equal(memory.of(one), Memory().of(one))


def test_what_has_left_the_pool_lies_where_it_was():
    one = observe(n=30, gone=(3, 7))
    known = Memory().of(one)
    assert known.nearest[[3, 7]].tolist() == pytest.approx([1, 1], abs=1e-6)
    assert known.nearest_class[[3, 7]].tolist() == one["labelled_classes"][2:4].tolist()


def test_embeddings_that_cannot_be_used_are_refused():
    one = observe()
    one["labelled_embeddings"][1, 1] = np.nan
    with pytest.raises(ValueError, match="the embeddings have NaN or infinity"):
        Memory().of(one)
    one = observe()
    with pytest.raises(ValueError, match=r"labelled_embeddings must be \(9, 5\), not \(8, 5\)"):
        Memory().of(one | {"labelled_embeddings": one["labelled_embeddings"][:8]})
    one["embeddings"][0, 0] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity"):
        Memory().of(one)


# --- coverage -----------------------------------------------------------------------------------


def loop_gains(vectors, centres, weights, in_pool, radius):
    """By how much each sample raises the weighted coverage, and what it is, in double precision."""
    vectors, centres = vectors.double(), centres.double()

    def coverage_of(centres):
        total = 0.0
        for x, weight, counts in zip(vectors, weights, in_pool, strict=True):
            kernels = [math.exp(-float((x - c).square().sum()) / radius) for c in centres]
            total += weight * counts * max([0.0, *kernels])
        return total / sum(in_pool)

    now = coverage_of(centres)
    return [
        coverage_of([*centres, x]) - now if there else 0
        for x, there in zip(vectors, in_pool, strict=True)
    ], now


@pytest.mark.parametrize("n_labelled", [0, 1, 4])
def test_gains_are_those_of_plain_loops_and_picks_count_as_labelled(n_labelled):
    rng = np.random.default_rng(0)
    vectors, labelled = directions(12), directions(9, seed=1)[:n_labelled]
    in_pool, margin = rng.random(12) < 0.8, rng.random(12).astype(np.float32)
    known = labelled_of(vectors, labelled, [0] * n_labelled)
    found = Coverage(known, torch.tensor(margin), torch.tensor(in_pool))
    centres, greatest, radii = list(labelled), {}, known.radii.tolist()
    for row in [*np.flatnonzero(in_pool)[[2, 5, 0]], None]:
        named = dict(zip(CHANGING, found.features, strict=True))
        for radius, name in zip(radii, RADII, strict=True):
            for kind, weights in (("", np.ones(12)), ("uncertain ", margin)):
                together = torch.stack(centres) if centres else vectors[:0]
                gains, covered = loop_gains(vectors, together, weights, in_pool, radius)
                key = f"{kind}coverage, {name}"
                greatest.setdefault(key, max(gains))
                expected = np.array(gains) / greatest[key]
                np.testing.assert_allclose(
                    named[key][in_pool], expected[in_pool], rtol=1e-4, atol=2e-5
                )
                if not kind and len(centres) == n_labelled:
                    assert float(found.covered[RADII.index(name)]) == pytest.approx(covered, 1e-4)
        for x, distance in zip(vectors, named["distance"], strict=True):
            expected = 1 - max(float(x @ c) for c in centres) if centres else 1
            assert float(distance) == pytest.approx(expected, abs=1e-6)
        if row is not None:
            found.pick(int(row))
            centres.append(vectors[row])


@pytest.mark.parametrize("chunk", [1, 50])
def test_chunks_do_not_show(monkeypatch, chunk):
    one = observe()
    whole, covered = survey(one, Memory().of(one))
    covered.pick(4)
    monkeypatch.setattr(coverage, "CHUNK", chunk)
    parts, other = survey(one, Memory().of(one))
    other.pick(4)
    torch.testing.assert_close(parts.features, whole.features, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.features, covered.features, rtol=0, atol=1e-5)


# --- the survey ---------------------------------------------------------------------------------


def test_a_survey_by_hand():
    """Labelled: class 1 at (1, 0), class 0 at (0, 1); in the pool (1, 0), (-1, 0), (0, 1), ..."""
    softmax = np.float32([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0, 0, 0]])
    one = {
        "softmax": softmax,
        "class_counts": np.float32([1, 1, 0]),
        "labelled_fraction": np.float32([0.25]),
        "embeddings": np.float32([[1, 0], [-1, 0], [0, 1], [0, -1]]),
        "labelled_embeddings": np.float32([[2, 0], [0, 3], [0, 0]]),
        "labelled_classes": np.float32([1, 0, -1]),
    }
    state, _ = survey(one, Memory().of(one))
    named, context = by_name(state), context_of(state)
    plain = pool_features.describe(one)
    assert torch.equal(state.features[: len(plain.features)], plain.features)
    # to the second both labelled ones are at right angles or opposite: the nearest is class 0
    assert named["agreement"].tolist() == pytest.approx([0.5, 0.6, 0.1, 0])
    assert named["distance"].tolist() == pytest.approx([0, 1, 0, 0])
    assert named["coverage, near"].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)
    assert named["uncertain coverage, least"].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)
    assert context["labels per class"] == pytest.approx(math.log10(1 + 2 / 3) - 1)
    assert context["uncertainty"] == pytest.approx((0.8 + 0.7 + 0.3) / 3)
    assert context["unlabelled classes"] == pytest.approx(1 / 3)
    assert context["neighbours agree"] == pytest.approx(1 / 3)
    assert context["labelled fraction"] == 0.25
    assert context["1 / M"] == pytest.approx(1 / 3)
    # squared distances: 2 eight times, 4 four times; the second lies sqrt(2) from (0, 1)
    assert context["covered, near"] == pytest.approx((2 + math.exp(-1)) / 3)
    mean = state.context[len(CONTEXT) :][: len(FEATURES)]
    assert float(mean[FEATURES.index("agreement")]) == pytest.approx(1.2 / 3)
    assert state.context[0] == 1 and CONTEXT[: len(REGIME)] == REGIME


@RANDOM
@given(
    n=st.integers(1, 30),
    m=st.sampled_from([2, 3, 100]),
    n_labelled=st.integers(0, 9),
    share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_any_pool_has_finite_features(n, m, n_labelled, share, seed):
    one = observe(n, m, n_labelled, seed=seed)
    one["softmax"][np.random.default_rng(seed).random(n) >= share] = 0
    for labelled in (Memory().of(one), by_softmax(one["softmax"])):
        state, covered = survey(one, labelled)
        assert state.features.isfinite().all() and state.context.isfinite().all()
        assert (state.features[:, ~torch.tensor(one["softmax"].any(1))] == 0).all()
        gains = covered.features[1:]
        assert gains.min() >= 0 and gains.max() <= 1
        covered.pick(n - 1)
        assert covered.features.isfinite().all()


@pytest.mark.parametrize("of_softmax", [False, True])
@pytest.mark.parametrize("n_labelled", [0, 5])
def test_the_order_of_samples_carries_no_meaning(n_labelled, of_softmax):
    one = observe(40, n_labelled=n_labelled)
    order = np.random.default_rng(1).permutation(40)
    other = one | {key: one[key][order] for key in ("softmax", "embeddings")}
    states = [
        survey(each, by_softmax(each["softmax"]) if of_softmax else Memory().of(each))[0]
        for each in (one, other)
    ]
    torch.testing.assert_close(states[1].features, states[0].features[:, order], rtol=0, atol=1e-4)
    torch.testing.assert_close(states[1].context, states[0].context, rtol=0, atol=1e-4)


def test_the_order_of_classes_carries_no_meaning():
    one, order = observe(40), np.array([2, 0, 1])
    classes = one["labelled_classes"].astype(int)
    other = one | {
        "softmax": one["softmax"][:, order],
        "class_counts": one["class_counts"][order],
        "labelled_classes": np.where(classes >= 0, np.argsort(order)[classes], -1),
    }
    states = [survey(each, Memory().of(each))[0] for each in (one, other)]
    torch.testing.assert_close(*(state.features for state in states), rtol=0, atol=1e-5)
    torch.testing.assert_close(*(state.context for state in states), rtol=0, atol=1e-5)


def test_without_embeddings_samples_that_have_left_do_not_count():
    one = observe(30, n_labelled=0)
    longer = one | {"softmax": np.insert(one["softmax"], [4, 9], 0, axis=0)}
    alone, among = (survey(each, by_softmax(each["softmax"]))[0] for each in (one, longer))
    rest = among.features[:, longer["softmax"].any(1)]
    torch.testing.assert_close(rest, alone.features, rtol=0, atol=1e-5)


def test_what_is_missing_is_named():
    one = observe()
    coverage.require(one, embeddings=True)
    del one["labelled_classes"]
    coverage.require(one, embeddings=False)
    message = r"no labelled_classes: .*\(env, embeddings=True, labelled=True\)$"
    with pytest.raises(TypeError, match=message):
        coverage.require(one, embeddings=True)
    with pytest.raises(TypeError, match=r"no softmax, .*ContextObservation\(env\)$"):
        coverage.require((), embeddings=False)


def test_parts_that_do_not_fit_are_refused():
    one = observe(20)
    known = Memory().of(one)
    with pytest.raises(ValueError, match="20 embeddings of 19 samples"):
        survey(one | {"softmax": one["softmax"][:19]}, known)
    with pytest.raises(ValueError, match="labelled_classes must be below 3"):
        survey(one, labelled_of(known.neighbourhood.vectors, torch.eye(5)[:1], [3]))


def test_an_observation_is_not_changed():
    one = observe()
    held = {name: values.copy() for name, values in one.items()}
    survey(one, Memory().of(one))[1].pick(3)
    for name, values in held.items():
        np.testing.assert_array_equal(one[name], values)
