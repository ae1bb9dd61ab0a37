"""Initial labelled sets: by class, at random, typical, known, listed in a file, or empty."""

from dataclasses import replace

import numpy as np
import pytest

from agents import checkpoint
from al_gym import ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from al_gym.classifiers import make_classifiers
from al_gym.data.dataset import UNKNOWN
from al_gym.starts import typical
from tests.al_gym.episodes import Clerk, make
from tests.samples import FAST, One


def named(dataset):
    return replace(dataset, names=np.array([f"scans/{i}.png" for i in range(len(dataset.labels))]))


def listed(tmp_path, lines, column="file"):
    path = tmp_path / "labelled.csv"
    path.write_text("\n".join([column, *lines]) + "\n")
    return str(path)


def partly_known(dataset, n_known=20):
    """The first training images have labels, the others none."""
    labels = dataset.labels.copy()
    labels[dataset.train[n_known:]] = UNKNOWN
    return replace(dataset, labels=labels)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial_set", ["stratified", "random", "typical"])
@pytest.mark.parametrize("size", [0, 1, 7])
def test_as_many_images_as_asked_for_and_episodes_go_on(dataset, initial_set, size):
    env = make(dataset, initial_set=initial_set, initial_size=size, budget=size + 10)
    assert env.observation_space.shape == (80 - size, 3)  # known before the first reset
    observation, info = env.reset(seed=0)
    assert info["n_labelled"] == size == len(env.run.episode.pool.labelled)
    np.testing.assert_allclose(observation.sum(1), 1, atol=1e-5)
    terminated, n_steps = False, 0
    while not terminated:
        *_, terminated, _, info = env.step(np.ones(env.action_space.shape))
        n_steps += 1
    assert info["n_labelled"] == size + 10 and n_steps == env.max_steps == 3


def test_without_labels_s_is_the_softmax_of_the_untrained_classifier(dataset):
    env = make(dataset, initial_size=0)
    observation, info = env.reset(seed=0)
    assert info["labelled_fraction"] == 0 and env.run.counters.samples_trained == 0
    twin = One(make_classifiers(dataset, FAST), seed=None)
    children = np.random.SeedSequence(env.run.start.seed).spawn(4)
    twin.initialize(np.random.default_rng(children[1]))
    np.testing.assert_array_equal(observation, twin.predict(dataset.train))


def test_a_fraction_of_all_images_where_classes_do_not_decide(dataset):
    assert make(dataset, initial_set="random", initial_fraction=0.1).run.task.n_initial == 8
    assert make(dataset, initial_set="typical", initial_fraction=0.001).run.task.n_initial == 1


def test_a_size_is_divided_in_proportion(dataset):
    env = make(dataset, initial_size=10)
    env.reset(seed=0)
    counts = np.bincount(dataset.labels[dataset.train])
    quotas = 10 * counts / 80
    taken = np.bincount(env.run.episode.pool.labels)
    assert taken.sum() == 10 and (np.abs(taken - quotas) < 1).all()


# --- random and typical ---------------------------------------------------------------------------


def test_random_starts_are_of_all_images_alike_and_have_the_annotators_labels(dataset):
    env = make(
        dataset, initial_set="random", initial_size=20,
        annotator=Clerk(lambda indices: np.full(len(indices), 2)),
    )  # fmt: skip
    env.reset(seed=0)
    assert env.run.episode.pool.labels.tolist() == [2] * 20
    rng = np.random.default_rng(0)
    draws = np.concatenate([env.run.draw_initial_set(rng) for _ in range(400)])
    taken = np.bincount(draws, minlength=110)  # 100 each, with a deviation of 8.7
    assert (np.abs(taken[dataset.train] - 100) < 40).all() and not taken[dataset.test].any()


def test_typical_images_are_those_nearest_to_the_centres_of_groups():
    """Four tight groups far from each other: one image of each, its nearest to the mean."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    features = np.repeat(corners, 25, axis=0) + rng.normal(size=(100, 2)).astype(np.float32)
    found = None
    for seed in range(50):  # k-means finds the groups if it begins in all of them
        first = np.random.default_rng(seed).choice(100, 4, replace=False)
        if len(set(first // 25)) == 4:
            found = typical(features, 4, np.random.default_rng(seed))
            break
    groups = features.astype(float).reshape(4, 25, 2)
    distances = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2)
    expected = [25 * group + nearest for group, nearest in enumerate(distances.argmin(1))]
    assert sorted(found) == expected


def test_typical_images_differ_even_where_images_are_equal():
    features = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    assert len(set(typical(features, 9, np.random.default_rng(0)))) == 9
    assert sorted(typical(features, 12, np.random.default_rng(0))) == list(range(12))


def test_typical_starts_look_at_untrained_features_and_follow_the_seed(dataset):
    env = make(dataset, initial_set="typical", initial_size=6)
    env.reset(seed=0)
    twin = One(make_classifiers(dataset, FAST), seed=None)
    children = np.random.SeedSequence(env.run.start.seed).spawn(4)
    twin.initialize(np.random.default_rng(children[1]))
    rows = typical(twin.embed(dataset.train), 6, np.random.default_rng(children[0]))
    np.testing.assert_array_equal(env.run.episode.pool.labelled, np.sort(dataset.train[rows]))
    again = make(dataset, initial_set="typical", initial_size=6)
    again.reset(seed=0)
    assert again.run.start_fingerprint() == env.run.start_fingerprint()
    again.reset(seed=1)
    assert again.run.start_fingerprint() != env.run.start_fingerprint()


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_starts_of_environments_side_by_side_are_those_of_single_ones(dataset, trainable):
    task = EnvConfig(initial_set="typical", initial_size=4, query_size=5)
    trained = ClassifierConfig(device="cpu", pretrain_passes=2, trainable=trainable)
    envs = ActiveLearningVectorEnv(2, dataset, task, trained)
    observations, _ = envs.reset(seed=3)
    for k in range(2):
        single = make(dataset, trained, initial_set="typical", initial_size=4, query_size=5)
        observation, _ = single.reset(seed=3 + k)
        np.testing.assert_allclose(observations[k], observation, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(
            envs.envs[k].run.episode.pool.labelled, single.run.episode.pool.labelled
        )


# --- given ones -----------------------------------------------------------------------------------


def test_known_labels_are_the_start_and_the_others_the_pool(dataset):
    partly = partly_known(dataset)
    answers = dataset.labels
    env = make(partly, initial_set="known", annotator=Clerk(lambda indices: answers[indices]))
    assert env.observation_space.shape == (60, 3)
    env.reset(seed=0)
    pool = env.run.episode.pool
    np.testing.assert_array_equal(pool.labelled, dataset.train[:20])
    np.testing.assert_array_equal(pool.labels, dataset.labels[dataset.train[:20]])
    np.testing.assert_array_equal(pool.indices, dataset.train[20:])
    *_, info = env.step(np.arange(60) / 60)
    assert info["n_labelled"] == 24
    assert env.selected_names == ("79", "78", "77", "76")


def test_where_all_are_known_nothing_is_left_to_ask(dataset):
    with pytest.raises(ValueError, match="initial_set='known' leaves no image to ask about"):
        make(dataset, initial_set="known")


def test_a_file_lists_the_start(dataset, tmp_path):
    path = listed(tmp_path, ["scans/12.png", " scans/3.png ", "scans/70.png", "scans/12.png"])
    env = make(named(dataset), initial_set=path)
    assert env.observation_space.shape == (77, 3)
    env.reset(seed=0)
    assert env.run.episode.pool.labelled.tolist() == [3, 12, 70]
    np.testing.assert_array_equal(env.run.episode.pool.labels, dataset.labels[[3, 12, 70]])


@pytest.mark.parametrize(
    ("lines", "column", "message"),
    [
        (
            ["scans/3.png", "scan/4.png"],
            "file",
            "labelled.csv, line 3: no .* 'scan/4.png'; did you",
        ),
        (["scans/100.png"], "file", "line 2: no training image is called"),  # a test image
        (["scans/5.png"], "file", "line 2: 2 training images are called 'scans/5.png'"),
        (["scans/3.png"], "image", "lacks the column 'file'"),
        ([], "file", "no lines"),
    ],
)
def test_lines_that_cannot_be_meant_are_named(dataset, tmp_path, lines, column, message):
    twice = named(dataset)
    twice.names[6] = twice.names[5]
    with pytest.raises(ValueError, match=message):
        make(twice, initial_set=listed(tmp_path, lines, column))


def test_a_file_that_is_not_there(dataset):
    with pytest.raises(FileNotFoundError, match="there is no file /nowhere/labelled.csv"):
        make(dataset, initial_set="/nowhere/labelled.csv")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"initial_size": 81}, "initial_size=81 is more than the 80 training images"),
        ({"initial_size": 81, "initial_set": "random"}, "initial_size=81 is more than the 80"),
        ({"initial_size": 78}, "query_size=4 is larger than the pool of 2 images"),
        ({"initial_size": 20, "budget": 20}, "budget=20 allows 20 labels; the initial set alone"),
        ({"budget": 81}, "budget=81 is more than the 80 training images"),
    ],
)
def test_sizes_that_do_not_fit_are_named(dataset, task, message):
    with pytest.raises(ValueError, match=message):
        make(dataset, **task)


# --- going on -------------------------------------------------------------------------------------


def test_a_seedless_reset_asks_nobody_again_and_a_state_neither(dataset, tmp_path):
    asked = []

    def answer(indices):
        asked.append(len(indices))
        return np.where(indices % 3 == 0, UNKNOWN, dataset.labels[indices])

    task = {"initial_set": "random", "initial_size": 12}
    env = make(dataset, annotator=Clerk(answer), **task)
    first, info = env.reset(seed=0)
    skipped = env.run.episode.pool.skipped
    assert info["n_skipped"] == len(skipped) > 0 and (skipped % 3 == 0).all()
    assert info["n_labelled"] == 12 - len(skipped)
    env.step(np.ones(env.action_space.shape))
    path = checkpoint.write(tmp_path / "state", env.run.state_dict())
    expected, _ = env.reset()
    np.testing.assert_array_equal(expected, first)
    assert asked == [12, 4]

    other = make(dataset, annotator=Clerk(answer), **task)
    other.run.load_state_dict(checkpoint.read(path))
    np.testing.assert_array_equal(other.reset()[0], first)
    np.testing.assert_array_equal(other.run.episode.pool.skipped, skipped)
    assert asked == [12, 4]


def test_a_state_from_before_skipping_goes_on(dataset):
    """Its start has a seed and rows, its pool no skipped ones."""
    env, other = make(dataset), make(dataset)
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    state = env.run.state_dict()
    state["start"] = {key: state["start"][key] for key in ("seed", "labelled")}
    del state["episode"]["pool"]["skipped"]
    other.run.load_state_dict(state)
    action = np.linspace(0, 1, env.action_space.shape[0])
    np.testing.assert_array_equal(env.step(action)[0], other.step(action)[0])
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_a_start_that_is_skipped_until_nothing_is_left_is_refused(dataset):
    clerk = Clerk(lambda indices: np.full(len(indices), UNKNOWN))
    task = {"initial_set": "random", "initial_size": 10, "budget": 20, "skip_cost": 2}
    env = make(dataset, annotator=clerk, **task)
    with pytest.raises(ValueError, match="skipped 10 of the 10 images of the initial set"):
        env.reset(seed=0)
    clerk.answer = lambda indices: dataset.labels[indices]
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
