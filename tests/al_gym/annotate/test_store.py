"""The answers of a project: who is asked what, what counts, and what is on disk."""

import itertools
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_gym.annotate import store as module
from al_gym.annotate.store import LEASE, SKIP, Asked, NotSaved, Refused, Store
from al_gym.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


@pytest.fixture
def store(path):
    """Samples 20, 10 and 30 are asked about, in this order; ann, bob and cat take part."""
    made = Store(path)
    made.ask([Asked(row, "method") for row in (20, 10, 30)], query=1, model=0)
    for name in ("ann", "bob", "cat"):
        made.join(name)
    yield made
    made.close()


class Clock:
    """Time that goes on when it is told to, and a little at every look."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1e-3
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module.time, "time", made)
    return made


def next_of(store, person, **settings):
    found = store.next_for(person, **settings)
    return None if found is None else found.sample


def tables(store):
    """All that the file holds, claims apart."""
    names = ("people", "questions", "answers", "models", "opinions", "used")
    return {name: store._all(f"SELECT * FROM {name}") for name in names}


# --- asking ---------------------------------------------------------------------------------------


def test_samples_are_asked_in_the_order_of_asking(store):
    seen = []
    while (question := store.next_for("ann")) is not None:
        seen.append(question[:5])
        store.answer(question.sample, "ann", 0, 1.0)
    assert seen == [(20, 0, 1, "method", 0), (10, 1, 1, "method", 0), (30, 2, 1, "method", 0)]


def test_a_sample_is_asked_about_once(store):
    store.ask([Asked(30, "audit", 2), Asked(40, "audit", 2)], query=2, model=1)
    store.ask([Asked(20, "start")], query=3, model=None)
    assert [tuple(each) for each in store.questions()] == [
        (20, 0, 1, "method", 0, 1), (10, 1, 1, "method", 0, 1), (30, 2, 1, "method", 0, 1),
        (40, 3, 2, "audit", 1, 2),
    ]  # fmt: skip


def test_rows_of_numpy_are_kept_as_numbers(store):
    store.ask([Asked(np.int64(7), "method")], query=2, model=None)
    store.answer(7, "ann", 1, 1.0)
    assert store.settled() == {7: 1} and store.take(np.array([7]), 2).tolist() == [1]
    assert store.questions()[-1].model is None


# --- which label counts ---------------------------------------------------------------------------


def asked_of_two(store):
    store.ask([Asked(5, "method", n_wanted=2)], query=1, model=None)


@pytest.mark.parametrize(
    ("answers", "counts"),
    [
        ([("ann", 1)], 1),
        ([("ann", 2), ("bob", 1)], 2),  # the first of two that differ
        ([("ann", SKIP), ("bob", 1)], 1),  # a class before a skip
        ([("ann", 1), ("bob", SKIP)], 1),
        ([("ann", SKIP), ("bob", SKIP)], SKIP),
    ],
)
def test_which_of_two_answers_counts(store, answers, counts):
    asked_of_two(store)
    assert store.settled() == {}
    for person, label in answers:
        store.answer(5, person, label, 1.0)
    assert store.settled() == {5: counts}


@pytest.mark.parametrize("judgement", [0, 1, 2, SKIP])
def test_a_review_counts_most(store, judgement):
    asked_of_two(store)
    store.answer(5, "ann", 2, 1.0)
    store.answer(5, "bob", 1, 1.0)
    store.review(5, "cat", judgement, 1.0)
    assert store.settled() == {5: judgement}


def test_of_an_undone_answer_the_other_counts(store):
    asked_of_two(store)
    store.answer(5, "ann", 2, 1.0)
    store.answer(5, "bob", 1, 1.0)
    assert store.undo("ann") == 5
    assert store.settled() == {5: 1}
    store.answer(5, "ann", 0, 1.0)
    assert store.settled() == {5: 1}  # bob's is now the first


def test_who_is_unsure_lets_a_second_person_be_asked(store):
    store.answer(20, "ann", 1, 1.0, unsure=True)
    assert [q.n_wanted for q in store.questions()] == [2, 1, 1]
    assert store.settled() == {20: 1}
    assert next_of(store, "ann") == 10
    assert next_of(store, "bob") == 20
    store.answer(20, "bob", 2, 1.0, unsure=True)  # a third is not asked
    assert next_of(store, "cat") == 30
    assert [q.n_wanted for q in store.questions()] == [2, 1, 1]


# --- claims ---------------------------------------------------------------------------------------


def test_two_people_get_different_samples(store, clock):
    assert next_of(store, "ann") == 20 == next_of(store, "ann")  # a page that is loaded again
    assert next_of(store, "bob") == 10
    assert next_of(store, "cat") == 30
    store.join("dan")
    assert store.next_for("dan") is None


def test_two_get_one_sample_where_two_are_wanted(store, clock):
    store.ask([Asked(5, "method", n_wanted=2)], query=2, model=0)
    for row, person in ((20, "ann"), (10, "ann"), (30, "ann")):
        store.answer(row, person, 0, 1.0)
    assert next_of(store, "ann") == 5 == next_of(store, "bob")
    assert next_of(store, "cat") is None


def test_what_is_loaded_in_advance_may_be_taken_over_by_who_has_nothing_else(store, clock):
    assert next_of(store, "ann") == 20
    assert next_of(store, "ann", ahead=True, besides=[20]) == 10
    assert next_of(store, "bob") == 30
    assert next_of(store, "bob", ahead=True, besides=[30]) is None  # not worth taking from ann
    assert next_of(store, "cat") == 10
    store.answer(20, "ann", 0, 1.0)
    assert next_of(store, "ann") is None


def test_what_one_has_loaded_in_advance_is_ones_next(store, clock):
    assert next_of(store, "ann") == 20
    assert next_of(store, "ann", ahead=True, besides=[20]) == 10
    store.answer(20, "ann", 0, 1.0)
    assert next_of(store, "ann") == 10
    assert next_of(store, "bob") == 30
    assert next_of(store, "cat") is None  # what ann looks at is no longer only loaded


def test_who_has_gone_for_lunch_keeps_nobody_waiting(store, clock):
    """What lies in front of somebody for too long goes to others, after all that is free."""
    assert next_of(store, "ann") == 20
    clock.now += LEASE + 1
    assert next_of(store, "bob") == 10
    assert next_of(store, "cat") == 30
    store.join("dan")
    assert next_of(store, "dan", ahead=True) is None
    assert next_of(store, "dan") == 20
    store.join("eve")
    assert next_of(store, "eve") is None
    store.answer(20, "dan", 0, 1.0)
    with pytest.raises(Refused, match="dan has answered"):
        store.answer(20, "ann", 1, 1.0)


def test_who_leaves_lets_go(store, clock):
    assert next_of(store, "ann") == 20
    store.leave("ann")
    assert next_of(store, "bob") == 20


# --- stale pages ----------------------------------------------------------------------------------


def test_an_answer_given_twice_changes_nothing(store):
    store.answer(20, "ann", 1, 1.0)
    before = tables(store)
    with pytest.raises(Refused, match="you have answered this sample already"):
        store.answer(20, "ann", 2, 1.0, unsure=True)
    assert tables(store) == before


def test_an_answer_after_anothers_changes_nothing(store, clock):
    assert next_of(store, "ann") == 20
    clock.now += LEASE + 1
    store.answer(20, "bob", 1, 1.0)
    before = tables(store)
    with pytest.raises(Refused, match="bob has answered this sample meanwhile"):
        store.answer(20, "ann", 2, 1.0, unsure=True)
    assert tables(store) == before
    assert next_of(store, "ann") == 10


def test_what_was_not_asked_is_refused(store):
    before = tables(store)
    with pytest.raises(Refused, match="was not asked about"):
        store.answer(99, "ann", 0, 1.0)
    assert tables(store) == before


def test_what_is_undone_comes_back_though_another_page_shows_it_still(store, clock):
    """Both had it, one after the other; neither may wait for the other's claim to end."""
    assert next_of(store, "ann") == 20
    assert [next_of(store, "cat"), next_of(store, "dan")] == [10, 30]
    clock.now += LEASE + 1
    assert next_of(store, "bob") == 20
    store.answer(20, "ann", 1, 1.0)
    assert store.undo("ann") == 20
    assert next_of(store, "ann") == 20


# --- undoing --------------------------------------------------------------------------------------


def test_undoing_several_times_gives_the_last_undone_first(store):
    for row, label in ((20, 0), (10, 1), (30, 2)):
        store.answer(row, "ann", label, 1.0)
    assert [store.undo("ann") for _ in range(4)] == [30, 10, 20, None]
    assert store.settled() == {}
    store.ask([Asked(1, "method")], query=2, model=0)
    seen = []
    while (row := next_of(store, "ann")) is not None:
        seen.append(row)
        store.answer(row, "ann", 0, 1.0)
    assert seen == [20, 10, 30, 1]


def test_undone_answers_are_kept_and_marked(store, clock):
    store.answer(20, "ann", 2, 7.5)
    store.undo("ann")
    store.answer(20, "ann", 1, 2.5)
    rows = store._all("SELECT label, seconds, withdrawn IS NULL FROM answers ORDER BY id")
    assert rows == [(2, 7.5, 0), (1, 2.5, 1)]
    assert [each[:5] for each in store.answers()] == [(20, "ann", 1, False, False)]
    assert store.by_sample()[20][0].seconds == 2.5


def test_nobody_undoes_what_others_said(store):
    store.answer(20, "ann", 2, 1.0)
    assert store.undo("bob") is None
    assert store.settled() == {20: 2}


def test_what_one_has_undone_is_kept_for_one(store, clock):
    store.answer(20, "ann", 2, 1.0)
    store.undo("ann")
    assert next_of(store, "bob") == 10
    assert next_of(store, "cat") == 30
    clock.now += LEASE + 1
    store.answer(10, "bob", 0, 1.0)
    assert next_of(store, "bob") == 20  # one has gone: another may say it


# --- reviewing ------------------------------------------------------------------------------------


def test_a_third_person_settles_a_disagreement_once(store):
    asked_of_two(store)
    store.answer(5, "ann", 2, 1.0)
    with pytest.raises(Refused, match="nobody disagrees"):
        store.review(5, "cat", 1, 1.0)
    store.answer(5, "bob", 1, 1.0)
    assert {row: [each.label for each in said] for row, said in store.disagreements().items()} == {
        5: [2, 1]
    }
    before = tables(store)
    for person in ("ann", "bob"):
        with pytest.raises(Refused, match="you are one of those who disagree"):
            store.review(5, person, 2, 1.0)
    assert tables(store) == before
    store.review(5, "cat", 0, 1.0)
    assert store.disagreements() == {}
    before = tables(store)
    with pytest.raises(Refused, match="somebody has settled it"):
        store.review(5, "cat", 1, 1.0)
    for person in ("ann", "bob"):
        with pytest.raises(Refused, match="a review has settled your last answer"):
            store.undo(person)
    assert tables(store) == before
    assert [(each.person, each.review) for each in store.answers()] == [
        ("ann", False), ("bob", False), ("cat", True),
    ]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, SKIP), (SKIP, SKIP)])
def test_equal_answers_and_skips_are_no_disagreement(store, one, other):
    asked_of_two(store)
    store.answer(5, "ann", one, 1.0)
    store.answer(5, "bob", other, 1.0)
    assert store.disagreements() == {}


def test_a_reviewer_cannot_undo_a_review(store):
    asked_of_two(store)
    store.answer(5, "ann", 2, 1.0)
    store.answer(5, "bob", 1, 1.0)
    store.review(5, "cat", 0, 1.0)
    assert store.undo("cat") is None
    assert store.settled() == {5: 0}


# --- what classifiers were trained with -----------------------------------------------------------


def change(store, person, row, label):
    """A person's last answer becomes another."""
    assert store.undo(person) == row
    store.answer(row, person, label, 1.0)


def test_labels_are_taken_when_all_are_there(store):
    store.answer(20, "ann", 2, 1.0)
    store.answer(30, "ann", SKIP, 1.0)
    assert store.take([20, 10, 30], 0) is None and store.used() == []
    store.answer(10, "ann", 0, 1.0)
    taken = store.take(np.array([30, 20, 10]), 0)
    assert taken.tolist() == [-1, 2, 0] and taken.dtype == np.int64
    assert store.used() == [(0, 30, -1), (0, 20, 2), (0, 10, 0)]


def test_a_run_that_is_done_again_gets_the_labels_of_the_first_time(store):
    store.answer(20, "ann", 2, 1.0)
    assert store.take([20], 0).tolist() == [2]
    change(store, "ann", 20, 1)
    assert store.settled() == {20: 1}
    assert store.take([20], 0).tolist() == [2]
    store.undo("ann")
    assert store.take([20], 0).tolist() == [2]
    assert store.used() == [(0, 20, 2)]


def test_corrections_are_decided_once_a_step(store):
    for row, label in ((20, 2), (10, 1)):
        store.answer(row, "ann", label, 1.0)
    assert not store.has_corrections(1)
    assert store.corrections(1) == {}
    store.take([20, 10], 1)
    assert not store.has_corrections(2)
    change(store, "ann", 10, SKIP)
    assert store.has_corrections(2)
    assert store.corrections(1) == {}  # decided before it was changed
    assert store.corrections(2) == {10: SKIP}
    assert store.corrections(3) == {}
    change(store, "ann", 10, 0)
    change(store, "ann", 10, 1)
    assert store.corrections(4) == {10: 1}
    store.answer(30, "ann", 0, 1.0)
    store.take([30], 4)
    steps = [store.corrections(step) for step in range(1, 6)]
    assert steps == [{}, {10: SKIP}, {}, {10: 1}, {}]
    assert store.take([20, 10, 30], 1).tolist() == [2, 1, 0]  # the first labels, once more
    assert [store.has_corrections(step) for step in (5, 6)] == [True, False]


def test_an_answer_that_is_only_undone_corrects_nothing(store):
    store.answer(20, "ann", 2, 1.0)
    store.take([20], 0)
    store.undo("ann")
    assert store.corrections(1) == {} and not store.has_corrections(2)
    store.answer(20, "bob", 1, 1.0)
    assert store.corrections(2) == {20: 1}


def test_a_review_is_a_correction(store):
    asked_of_two(store)
    store.answer(5, "ann", 2, 1.0)
    store.take([5], 0)
    store.answer(5, "bob", 1, 1.0)
    assert store.corrections(1) == {}
    store.review(5, "cat", 1, 1.0)
    assert store.corrections(2) == {5: 1}


# --- models and facts -----------------------------------------------------------------------------


def test_a_model_is_noted_once(store, clock):
    said = np.array([[0.25, 0.75], [1, 0]])
    store.add_model(0, 3, 1.5, np.array([10, 20]), said)
    store.add_model(0, 9, 9.9, np.array([10]), np.zeros((1, 2)))
    assert [(number, n, seconds) for number, n, _, seconds in store.models()] == [(0, 3, 1.5)]
    assert {row: p.tolist() for row, p in store.opinions(0).items()} == {
        10: [0.25, 0.75], 20: [1, 0],
    }  # fmt: skip
    assert store.opinion(10, 0).dtype == np.float32
    assert store.opinion(30, 0) is store.opinion(10, 1) is store.opinion(10, None) is None
    assert store.opinions(1) == {}


def test_facts_are_replaced(store):
    assert store.fact("colour") is None
    store.set_fact("colour", "red")
    store.set_fact("colour", "blue")
    assert store.fact("colour") == "blue"


def test_people_are_in_the_order_of_their_coming(store):
    store.join("bob")  # again
    store.join("aaa")
    assert store.people() == ["ann", "bob", "cat", "aaa"]


def test_the_version_changes_with_everything_that_is_written(store, path):
    other = Store(path)
    seen = [(store.version(), other.version())]
    for write in (
        lambda: other.answer(20, "ann", 0, 1.0),
        lambda: store.answer(10, "ann", 0, 1.0),
        lambda: other.undo("ann"),
        lambda: store.set_fact("a", "b"),
    ):
        write()
        seen.append((store.version(), other.version()))
    assert all(a != c and b != d for (a, b), (c, d) in itertools.pairwise(seen))
    store.settled(), store.take([30], 0), store.disagreements(), other.questions()
    assert (store.version(), other.version()) == seen[-1]  # by looking nothing changes
    other.close()


# --- the file -------------------------------------------------------------------------------------


def test_another_process_finds_everything(store, path):
    store.answer(20, "ann", 2, 1.5, unsure=True)
    store.take([20], 0)
    store.set_fact("a", "b")
    other = Store(path)
    assert tables(other) == tables(store) and other.fact("a") == "b"
    other.close()


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(500)])
def test_a_file_of_others_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"answers.sqlite cannot be used as a file of answers"):
        Store(path)
    assert path.read_bytes() == content


def test_a_damaged_file_is_refused_when_it_is_opened_or_read_as_it_was(store, path):
    """Nobody answers for an hour before a torn page is met. Changed values SQLite cannot tell."""
    for sample in range(300):
        store.ask([Asked(1000 + sample, "method")], 0, None)
        store.answer(1000 + sample, "ann", sample % 3, 1.5)
    expected = tables(store)
    store.close()
    content = path.read_bytes()
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(40):
        at, n = rng.integers(len(content)), rng.integers(8, 3000)
        path.write_bytes((content[:at] + bytes(n) + content[at + n :])[: len(content)])
        try:
            other = Store(path)
        except CheckpointError as error:
            outcomes.append("refused")
            assert str(path) in str(error)
            continue
        outcomes.append("read")
        assert [len(rows) for rows in tables(other).values()] == [*map(len, expected.values())]
        other.close()
    assert outcomes.count("refused") > 20


@pytest.mark.parametrize("table", ["patients (name TEXT)", "facts (planet TEXT)"])
def test_another_programs_database_is_refused(path, table):
    with sqlite3.connect(path) as made:
        made.execute(f"CREATE TABLE {table}")
    made.close()
    with pytest.raises(ValueError, match=r"answers.sqlite (has answers of format None|cannot be)"):
        Store(path)


def test_a_newer_format_is_refused(store, path):
    store.set_fact("format", "2")
    with pytest.raises(ValueError, match="has answers of format 2, and this is format 1: open it"):
        Store(path)


def test_a_place_where_no_file_can_be(tmp_path):
    for path in (tmp_path / "nowhere" / "answers.sqlite", tmp_path):
        with pytest.raises(ValueError, match="cannot be used as a file of answers"):
            Store(path)


def test_a_full_disk_changes_nothing(store, path):
    store.ask([Asked(row, "method") for row in range(100, 400)], query=2, model=0)
    store._db.execute("PRAGMA max_page_count = 1")  # the pages that there are
    saved = []
    with pytest.raises(NotSaved, match=r"answers.sqlite cannot be written: .*full"):
        for row in range(100, 400):
            store.answer(row, "ann", 1, 1.0)
            saved.append(row)
    before = tables(store)
    assert [each.sample for each in store.answers()] == saved
    for write in (
        lambda: store.ask([Asked(row, "method") for row in range(1000, 9000)], 3, 1),
        lambda: store.add_model(0, 1, 1.0, np.arange(900), np.zeros((900, 4))),
        lambda: store.answer(saved[-1] + 1, "bob", 1, 1.0),
        lambda: store.set_fact("long", "x" * 10**5),
    ):
        with pytest.raises(NotSaved):
            write()
        assert tables(store) == before
    other = Store(path)
    assert tables(other) == before
    other.close()
    store._db.execute("PRAGMA max_page_count = 100000")  # somebody has made room
    store.answer(saved[-1] + 1, "bob", 1, 1.0)
    assert store.settled()[saved[-1] + 1] == 1


def test_a_read_only_file_changes_nothing(store, path):
    before = tables(store)
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(NotSaved, match="cannot be written"):
        store.answer(20, "ann", 1, 1.0)
    store._db.execute("PRAGMA query_only = 0")
    assert tables(store) == before


WRITER = """
import sys
from al_gym.annotate.store import Store
store = Store(sys.argv[1])
store.join(sys.argv[2])
for row in range(int(sys.argv[3]), 10000, 2):
    if row >= int(sys.argv[4]):
        break
    store.answer(row, sys.argv[2], row % 3, 1.0)
    print(row, flush=True)
"""


def writer(path, name, first, stop):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(first), str(stop)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_at_once_lose_nothing_and_neither_does_a_kill(store, path):
    store.ask([Asked(row, "method") for row in range(1000, 9000)], query=2, model=0)
    two = [writer(path, name, 1000 + i, 1200) for i, name in enumerate(("ann", "bob"))]
    for each in two:
        _, errors = each.communicate(timeout=60)
        assert each.returncode == 0, errors
    expected = {row: row % 3 for row in range(1000, 1200)}
    assert store.settled() == expected
    assert {each.sample: each.person for each in store.answers()} == {
        row: ("ann", "bob")[row % 2] for row in range(1000, 1200)
    }
    killed = writer(path, "cat", 2000, 9000)
    said = [int(killed.stdout.readline()) for _ in range(20)]
    killed.kill()  # in the middle of the next one
    said += [int(line) for line in killed.communicate(timeout=60)[0].split()]
    found = {row for row in store.settled() if row >= 2000}
    assert found >= set(said) and len(found) <= len(said) + 1
    assert store._one("PRAGMA integrity_check") == ("ok",)


def test_threads_share_one_store(store):
    """A page answers from several: none ends or undoes another's transaction."""
    store.ask([Asked(row, "method") for row in range(100, 200)], query=2, model=0)
    errors = []

    def answer(person, rows):
        try:
            for row in rows:
                store.answer(row, person, 1, 1.0)
                store.next_for(person)
                store.set_fact(person, str(row))
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=answer, args=(name, range(100 + i, 200, 2)))
        for i, name in enumerate(("ann", "bob"))
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == [] and len(store.answers()) == 100
    assert (store.fact("ann"), store.fact("bob")) == ("198", "199")


# --- against a plain model ------------------------------------------------------------------------

PEOPLE = ("ann", "bob", "cat")


class Plain:
    """What the docstrings say, in lists and dictionaries."""

    def __init__(self):
        self.asked = {}  # sample -> people wanted, in the order of asking
        self.said = []  # [sample, person, label, review, when undone]
        self.claims = {}  # (sample, person) -> (ahead, until)

    def active(self, sample):
        return [each for each in self.said if each[0] == sample and not each[3] and not each[4]]

    def reviews(self, sample):
        return [each for each in self.said if each[0] == sample and each[3]]

    def next_for(self, person, ahead, now):
        for steals in (False,) if ahead else (False, True):
            free = [s for s in self.asked if self.is_free(s, person, steals, now)]
            if free:
                return min(free, key=lambda s: (-self.undone_at(s, person), [*self.asked].index(s)))
        return None

    def is_free(self, sample, person, steals, now):
        if any(each[1] == person for each in self.active(sample)):
            return False
        held = [
            other for (s, other), (ahead, until) in self.claims.items()
            if s == sample and other != person and not (steals and (ahead or until < now))
        ]  # fmt: skip
        return len(self.active(sample)) + len(held) < self.asked[sample]

    def undone_at(self, sample, person):
        times = [each[4] or 0 for each in self.said if each[:2] == [sample, person]]
        return max(times, default=0)

    def claim(self, sample, person, ahead, now):
        if not ahead:
            self.claims = {
                key: value for key, value in self.claims.items()
                if key[0] != sample or not (value[0] or value[1] < now)
            }  # fmt: skip
        self.claims[sample, person] = (ahead, now + LEASE)

    def answer(self, sample, person, label, unsure):
        there = self.active(sample)
        if sample not in self.asked or any(each[1] == person for each in there):
            return False
        if len(there) >= self.asked[sample]:
            return False
        self.said.append([sample, person, label, False, None])
        if unsure:
            self.asked[sample] = max(2, self.asked[sample])
        is_full = len(there) + 1 >= self.asked[sample]
        gone = {(sample, each) for each in (PEOPLE if is_full else [person])}
        self.claims = {key: value for key, value in self.claims.items() if key not in gone}
        return True

    def undo(self, person, now):
        own = [each for each in self.said if each[1] == person and not each[3] and not each[4]]
        if not own:
            return None
        if self.reviews(own[-1][0]):
            return "refused"
        own[-1][4] = now
        self.claim(own[-1][0], person, False, now)
        return own[-1][0]

    def review(self, sample, person, label):
        classes = {each[2] for each in self.active(sample)} - {SKIP}
        people = {each[1] for each in self.active(sample)}
        if self.reviews(sample) or len(classes) < 2 or person in people:
            return False
        self.said.append([sample, person, label, True, None])
        return True

    def settled(self):
        found = {}
        for sample in self.asked:
            labels = [each[2] for each in self.active(sample)]
            classes = [label for label in labels if label != SKIP]
            reviewed = [each[2] for each in self.reviews(sample)]
            best = [*reviewed, *classes, *labels]
            if best:
                found[sample] = best[0]
        return found


samples, persons = st.integers(0, 4), st.sampled_from(PEOPLE)
labels = st.sampled_from([SKIP, 0, 1, 2])
ACTIONS = st.one_of(
    st.tuples(st.just("ask"), samples, st.integers(1, 2)),
    st.tuples(st.just("next"), persons, st.booleans()),
    st.tuples(st.just("answer"), samples, persons, labels, st.booleans()),
    st.tuples(st.just("label"), persons, labels),  # what next gives
    st.tuples(st.just("undo"), persons),
    st.tuples(st.just("review"), samples, persons, labels),
    st.tuples(st.just("leave"), persons),
    st.tuples(st.just("wait"), st.sampled_from([1.0, LEASE / 2, LEASE + 1])),
)


def refused(call, *arguments):
    try:
        call(*arguments)
    except Refused:
        return True
    return False


def follow(store, plain, clock, action):
    """Do one thing to both, which must answer alike."""
    name, *rest = action
    clock.now += 1
    if name == "ask":
        sample, n = rest
        store.ask([Asked(sample, "method", n)], 0, None)
        plain.asked.setdefault(sample, n)
    elif name in ("next", "label"):
        person, given = rest
        ahead = name == "next" and given
        found = plain.next_for(person, ahead, clock.now)
        assert next_of(store, person, ahead=ahead) == found
        if found is not None:
            plain.claim(found, person, ahead, clock.now)
            if name == "label":
                store.answer(found, person, given, 1.0)
                assert plain.answer(found, person, given, False)
    elif name == "answer":
        sample, person, label, unsure = rest
        assert refused(store.answer, sample, person, label, 1.0, unsure) == (
            not plain.answer(sample, person, label, unsure)
        )
    elif name == "undo":
        try:
            done = store.undo(*rest)
        except Refused:
            done = "refused"
        assert done == plain.undo(*rest, clock.now)
    elif name == "review":
        assert refused(store.review, *rest, 1.0) == (not plain.review(*rest))
    elif name == "leave":
        store.leave(*rest)
        plain.claims = {key: value for key, value in plain.claims.items() if key[1] != rest[0]}
    elif name == "wait":
        clock.now += rest[0]


class Still(Clock):
    """Time that goes on only when it is told to."""

    def __call__(self):
        return self.now


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=30))
def test_any_sequence_goes_as_in_a_plain_model(actions):
    clock, plain = Still(), Plain()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "time", clock)
        store = Store(Path(folder) / "answers.sqlite")
        for person in PEOPLE:
            store.join(person)
        for action in actions:
            follow(store, plain, clock, action)
            assert store.settled() == plain.settled()
            assert store._one("SELECT count(*) FROM answers") == (len(plain.said),)
        # whatever has happened: pages that are there get what is missing
        for person in PEOPLE:
            clock.now += LEASE + 1  # the others have gone
            while (sample := next_of(store, person)) is not None:
                store.answer(sample, person, 0, 1.0)
        counts = {sample: len(said) for sample, said in store.by_sample().items()}
        assert all(counts[sample] >= n for sample, n in plain.asked.items())
        store.close()
