"""People as the annotator of an environment: waiting, giving up, going on."""

import signal
import subprocess
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import pytest

from al_gym.annotate import HumanAnnotator, Stopped, Store, human
from al_gym.annotators import OracleAnnotator
from tests.al_gym.annotate.people import answering
from tests.al_gym.episodes import assert_equal, assert_unchanged, make, run, scores_for, state_of
from tests.samples import draw_folder

ROWS = np.array([30, 10, 20])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


@pytest.fixture
def store(path):
    made = Store(path)
    made.join("ann")
    yield made
    made.close()


def answer_all(store, label_of):
    while (question := store.next_for("ann")) is not None:
        store.answer(question.sample, "ann", label_of(question.sample), 1.0)


def test_it_waits_and_gives_the_labels_in_the_order_of_the_samples(path, store):
    annotator = HumanAnnotator(path, timeout=30)
    with answering(path, lambda row: {30: 2, 10: -1, 20: 0}[row]) as answered:
        labels = annotator.annotate(ROWS)
    assert labels.tolist() == [2, -1, 0] and labels.dtype == np.int64
    assert answered == ROWS.tolist()
    assert store.used() == [(0, 30, 2), (0, 10, -1), (0, 20, 0)]


def test_queries_are_numbered_and_say_which_model_asks(store):
    annotator = HumanAnnotator(store, timeout=0)
    for row, model in ((30, None), (10, 0), (20, 1)):
        annotator.model = model
        with pytest.raises(TimeoutError):
            annotator.annotate(np.array([row]))
        answer_all(store, lambda row: 1)
        annotator.annotate(np.array([row]))
    assert [tuple(each) for each in store.questions()] == [
        (30, 0, 0, "start", None, 1), (10, 1, 1, "method", 0, 1), (20, 2, 2, "method", 1, 1),
    ]  # fmt: skip
    assert annotator.step == 3


def test_what_is_answered_already_is_not_waited_for(store):
    annotator = HumanAnnotator(store, timeout=0)
    with pytest.raises(TimeoutError, match=r"3 samples were not all answered within 0 s"):
        annotator.annotate(ROWS)
    answer_all(store, lambda row: row // 10)
    stop = threading.Event()
    stop.set()
    for again in (annotator, HumanAnnotator(store, timeout=0), HumanAnnotator(store, stop=stop)):
        assert again.annotate(ROWS).tolist() == [3, 1, 2]
    assert len(store.used()) == len(store.questions()) == 3


def test_an_answer_that_comes_while_it_looks_is_seen(path, store, monkeypatch):
    """The last answer, between its look at the answers and its note that it has looked."""
    others, take = Store(path), store.take

    def taken_and_answered(*arguments):
        labels = take(*arguments)
        answer_all(others, lambda row: 1)
        return labels

    monkeypatch.setattr(store, "take", taken_and_answered)
    assert HumanAnnotator(store, timeout=5).annotate(ROWS).tolist() == [1, 1, 1]
    others.close()


def test_it_looks_again_only_if_something_was_written(store, monkeypatch):
    looks, take = [], store.take
    monkeypatch.setattr(store, "take", lambda *arguments: looks.append(1) or take(*arguments))
    with pytest.raises(TimeoutError):
        HumanAnnotator(store, timeout=6 * human.POLL).annotate(ROWS)
    assert len(looks) == 1


class Left(Exception):
    pass


def failures():
    """Ways in which a wait ends: settings of the annotator, and what is raised."""
    stop = threading.Event()
    stop.set()

    def leave():
        raise Left

    def interrupt():
        signal.raise_signal(signal.SIGINT)

    return {
        "timeout": ({"timeout": 0.1}, TimeoutError),
        "stop": ({"stop": stop}, Stopped),
        "while_waiting": ({"while_waiting": leave}, Left),
        "control-c": ({"while_waiting": interrupt}, KeyboardInterrupt),
    }  # fmt: skip


@pytest.mark.parametrize("way", failures())
def test_a_wait_that_ends_leaves_the_environment_as_it_was(dataset, path, store, way):
    settings, error = failures()[way]
    annotator = HumanAnnotator(path)
    env, twin = make(dataset, annotator=annotator), make(dataset)
    env.reset(seed=0), twin.reset(seed=0)
    before, action = state_of(env), scores_for(env, [5, 3, 8, 1])
    rows = env.run.episode.pool.indices[[5, 3, 8, 1]]
    given = {name: getattr(annotator, name) for name in settings}
    for name, value in settings.items():
        setattr(annotator, name, value)
    with pytest.raises(error):
        env.step(action)
    assert_unchanged(env, before)
    assert [each.sample for each in store.questions()] == rows.tolist()
    first = store.next_for("ann").sample  # what people answer meanwhile is kept
    store.answer(first, "ann", int(dataset.labels[first]), 1.0)
    with pytest.raises(error):
        env.step(action)
    assert_unchanged(env, before)
    for name, value in given.items():
        setattr(annotator, name, value)
    annotator.timeout = 30
    with answering(path, lambda row: int(dataset.labels[row])) as answered:
        found = env.step(action)
    assert answered == [row for row in rows if row != first]
    assert len(store.questions()) == len(store.answers()) == 4
    for one, other in zip(found[:3], twin.step(action)[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_episode_with_people_is_that_with_the_oracle(dataset, path):
    task = {"initial_set": "random", "initial_size": 8}
    with answering(path, lambda row: int(dataset.labels[row])):
        found = run(make(dataset, annotator=HumanAnnotator(path, timeout=30), **task))
    expected = run(make(dataset, annotator=OracleAnnotator(dataset.labels), **task))
    assert_equal(found, expected)
    begun_anew = HumanAnnotator(path, timeout=0)  # with the same seed, and nobody there
    assert_equal(run(make(dataset, annotator=begun_anew, **task)), expected)


def test_gymnasium_makes_an_environment_with_people_in_another_process(tmp_path, path):
    root = draw_folder(tmp_path / "images")
    env = gym.make(
        "ActiveLearning-Folder-v0", root=root, annotator=HumanAnnotator(path, timeout=60),
        initial_set="random", initial_size=4, query_size=3, budget=10, image_size=12,
    )  # fmt: skip
    command = [sys.executable, "-m", "tests.al_gym.annotate.people", str(path), "2"]
    somebody = subprocess.Popen(command)
    try:
        _, info = env.reset(seed=0)
        assert info["n_labelled"] == 4
        *_, info = env.step(np.ones(env.action_space.shape, np.float32))
    finally:
        somebody.kill()
        somebody.wait()
    pool = env.get_wrapper_attr("run").episode.pool
    assert pool.labels.tolist() == (pool.labelled % 2).tolist() and len(pool.labels) == 7


def test_waiting_costs_little(store):
    began = time.process_time()
    with pytest.raises(TimeoutError):
        HumanAnnotator(store, timeout=1).annotate(ROWS)
    assert time.process_time() - began < 0.3
