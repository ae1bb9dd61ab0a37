"""What was asked and what was answered: one SQLite file that several processes share.

The trainer asks, pages answer, both look. An answer is on disk when ``answer`` returns
(write-ahead log, ``synchronous=FULL``), and nothing that was answered is ever deleted: an answer
that is undone is kept and marked, one that is resolved by review stands beside it.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from al_gym.errors import CheckpointError

FORMAT = 1
SKIP = -1
"""The label of a sample that a person could not tell."""
LEASE = 120.0
"""Seconds after which a sample that lies in front of somebody goes to those who have nothing else:
a person who has left a page open keeps nobody waiting for long."""
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE people (name TEXT PRIMARY KEY, joined REAL NOT NULL);
CREATE TABLE questions (
    sample INTEGER PRIMARY KEY,          -- row of the data set: a sample is asked about once
    position INTEGER NOT NULL UNIQUE,    -- the order in which they are asked
    query INTEGER NOT NULL,
    purpose TEXT NOT NULL,               -- start, method or audit
    model INTEGER,                       -- which model asked; NULL: none had been trained
    n_wanted INTEGER NOT NULL            -- people who shall answer
);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sample INTEGER NOT NULL REFERENCES questions,
    person TEXT NOT NULL REFERENCES people,
    label INTEGER NOT NULL,              -- class, or -1
    unsure INTEGER NOT NULL,
    review INTEGER NOT NULL,             -- 1: it settles a disagreement
    at REAL NOT NULL,                    -- seconds since 1970
    seconds REAL NOT NULL,               -- from the sample's appearance to the answer
    withdrawn REAL                       -- when it was undone
);
CREATE UNIQUE INDEX one_answer ON answers (sample, person, review) WHERE withdrawn IS NULL;
CREATE TABLE claims (
    sample INTEGER NOT NULL,
    person TEXT NOT NULL,
    desk TEXT NOT NULL,                  -- which of the person's pages
    ahead INTEGER NOT NULL,              -- 1: only loaded in advance
    until REAL NOT NULL,
    PRIMARY KEY (sample, person)
);
CREATE TABLE models (
    number INTEGER PRIMARY KEY,
    n_labelled INTEGER NOT NULL,
    at REAL NOT NULL,
    seconds REAL NOT NULL                -- that training it took
);
CREATE TABLE opinions (
    model INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    probabilities BLOB NOT NULL,         -- (M,) float32
    PRIMARY KEY (model, sample)
);
CREATE TABLE used (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    step INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    label INTEGER NOT NULL               -- what the classifier was trained with from then on
);
"""
ACTIVE = "withdrawn IS NULL AND review = 0"
"""Answers that count, those of a review apart."""


class NotSaved(OSError):
    """An answer that could not be written; nothing has changed."""


class Refused(ValueError):
    """An answer that is not taken, since it would overwrite one; says whose."""


class Question(NamedTuple):
    """A sample that is asked about."""

    sample: int
    """Row of the data set."""
    position: int
    """In the order of asking, from 0."""
    query: int
    """Number of the query that it is part of."""
    purpose: str
    """"start", "method", or "audit" for the test set."""
    model: int | None
    """Which model asks; None: before there was one."""
    n_wanted: int
    """People who shall answer."""


class Answer(NamedTuple):
    """What a person said of a sample."""

    sample: int
    """Row of the data set."""
    person: str
    """Who."""
    label: int
    """The class, or ``SKIP``."""
    unsure: bool
    """Whether they said so."""
    review: bool
    """Whether it settles a disagreement."""
    at: float
    """When, in seconds since 1970."""
    seconds: float
    """From the sample's appearance to the answer."""


@dataclass(frozen=True)
class Asked:
    """A sample to be asked about."""

    sample: int
    """Row of the data set."""
    purpose: str
    """See ``Question``."""
    n_wanted: int = 1
    """People who shall answer."""


class Store:
    """The answers of a project; threads may share it.

    Args:
        path: of the SQLite file; it is made if it is not there.

    Raises:
        CheckpointError: the file is damaged, none of this program's, or of another version of it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._one_at_a_time = threading.RLock()
        with contextlib.ExitStack() as undo:
            try:
                self._db = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False, timeout=30
                )
                undo.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                (found,) = self._one("PRAGMA quick_check(1)")
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
                with self._writing():
                    self._check_format()
            except (sqlite3.DatabaseError, NotSaved) as error:
                raise CheckpointError(
                    f"{self.path} cannot be used as a file of answers: {error}. If it was one, "
                    "take a copy of it from before, or what sqlite3's .recover makes of it"
                ) from error
            undo.pop_all()

    def _check_format(self) -> None:
        tables = self._all("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not tables:
            for statement in SCHEMA.split(";\n"):
                self._db.execute(statement)
            self.set_fact("format", str(FORMAT))
        elif ("facts",) not in tables or self.fact("format") != str(FORMAT):
            found = self.fact("format") if ("facts",) in tables else None
            raise CheckpointError(
                f"{self.path} has answers of format {found}, and this is format {FORMAT}: open it "
                "with the version of al-gym that made it"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, asked: Sequence[Asked], query: int, model: int | None) -> None:
        """Queue samples, in their order; those that were asked about already stay as they are.

        Args:
            asked: the samples.
            query: the number of the query that they are part of.
            model: which model asks.
        """
        with self._writing():
            (last,) = self._one("SELECT coalesce(max(position), -1) FROM questions")
            known = {sample for (sample,) in self._all("SELECT sample FROM questions")}
            new = [each for each in asked if each.sample not in known]
            self._db.executemany(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (int(each.sample), last + i, query, each.purpose, model, each.n_wanted)
                    for i, each in enumerate(new, 1)
                ],
            )

    def settled(self) -> dict[int, int]:
        """The label that counts of every sample that has one; -1 where all could not tell.

        A review counts most. Of two answers that differ the first counts until there is one; a
        class counts more than a skip.
        """
        rows = self._all(
            "SELECT sample, label FROM answers WHERE withdrawn IS NULL "
            "ORDER BY review DESC, label = -1, id"
        )
        found: dict[int, int] = {}
        for sample, label in rows:
            found.setdefault(sample, label)
        return found

    def take(self, samples: Sequence[int], step: int) -> np.ndarray | None:
        """The labels that a classifier is to be trained with, (n,) int64, and note that it is.

        A sample that was taken before has the label that it had then, so that a run which is done
        again goes as it went.

        Returns:
            None: one of them has no answer yet.
        """
        with self._writing():
            first = self._first_used()
            settled = self.settled()
            labels = [first.get(int(s), settled.get(int(s))) for s in samples]
            if None in labels:
                return None
            self._db.executemany(
                "INSERT INTO used (step, sample, label) VALUES (?, ?, ?)",
                [
                    (step, int(sample), label)
                    for sample, label in zip(samples, labels, strict=True)
                    if int(sample) not in first
                ],
            )
        return np.array(labels, np.int64)

    def corrections(self, step: int) -> dict[int, int]:
        """Labels that have changed since a classifier was trained with them, by sample.

        They are noted as taken in ``step``. What was corrected before a step is decided once: a run
        that is done again gets what it got.
        """
        with self._writing():
            now: dict[int, int] = {}
            here: dict[int, int] = {}
            for at, sample, label in self.used():
                if at == step and sample in now:
                    here[sample] = label
                now[sample] = label
            if step <= int(self.fact("corrected") or -1):
                return here
            changed = self._changed(now)
            self._db.executemany(
                "INSERT INTO used (step, sample, label) VALUES (?, ?, ?)",
                [(step, sample, label) for sample, label in changed.items()],
            )
            self.set_fact("corrected", str(step))
            return changed

    def has_corrections(self, step: int) -> bool:
        """Whether ``corrections`` of a step would give something, or have done so."""
        if step <= int(self.fact("corrected") or -1):
            return True
        return bool(self._changed({sample: label for _, sample, label in self.used()}))

    def _changed(self, now: dict[int, int]) -> dict[int, int]:
        """Settled labels, by sample, that differ from those with which it was trained last."""
        settled = self.settled()
        return {s: settled[s] for s, label in now.items() if settled.get(s, label) != label}

    def _first_used(self) -> dict[int, int]:
        rows = self._all("SELECT sample, label FROM used ORDER BY id DESC")
        return dict(rows)  # the first of a sample comes last, and stays

    # --- answering --------------------------------------------------------------------------------

    def join(self, person: str) -> None:
        """Note that somebody takes part."""
        with self._writing():
            self._join(person)

    def _join(self, person: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO people VALUES (?, ?)", (person, time.time()))

    def people(self) -> list[str]:
        """Who takes part, in the order of their coming."""
        return [name for (name,) in self._all("SELECT name FROM people ORDER BY joined, name")]

    def next_for(
        self, person: str, ahead: bool = False, besides: Sequence[int] = (), desk: str = ""
    ) -> Question | None:
        """The next sample for a person, which is then theirs; None: there is none for now.

        First what they have undone, the last undone first; then, in the order of asking, what lacks
        an answer that nobody else is about to give; then what others have only loaded in advance,
        or have had in front of them for ``LEASE`` seconds.

        Args:
            person: who has joined.
            ahead: it is only loaded in advance.
            besides: samples that are not meant.
            desk: which of the person's pages asks; what it is given goes back when it ``leave``s.
        """
        now = time.time()
        with self._writing():
            # what is loaded in advance is not worth taking from others
            for blocking in ("1",) if ahead else ("1", f"ahead = 0 AND until >= {now}"):
                candidates = self._open_for(person, blocking, besides)
                if candidates:
                    question = Question(*candidates[0])
                    self._claim(question.sample, person, desk, ahead, now)
                    return question
        return None

    def _open_for(self, person: str, blocking: str, besides: Sequence[int]) -> list[Any]:
        marks = ", ".join("?" * len(besides))
        return self._all(
            f"""
            SELECT q.sample, position, query, purpose, model, n_wanted FROM questions AS q
            WHERE q.sample NOT IN ({marks})
            AND NOT EXISTS (
                SELECT 1 FROM answers WHERE sample = q.sample AND person = ? AND {ACTIVE})
            AND (SELECT count(*) FROM answers WHERE sample = q.sample AND {ACTIVE})
                + (SELECT count(*) FROM claims
                   WHERE sample = q.sample AND person != ? AND {blocking}) < n_wanted
            ORDER BY
                (SELECT max(withdrawn) FROM answers WHERE sample = q.sample AND person = ?)
                    DESC NULLS LAST, position
            LIMIT 1
            """,
            (*map(int, besides), person, person, person),
        )

    def _claim(self, sample: int, person: str, desk: str, ahead: bool, now: float) -> None:
        if not ahead:  # whoever had it in advance, or for too long, gets another
            self._db.execute(
                "DELETE FROM claims WHERE sample = ? AND (ahead = 1 OR until < ?)", (sample, now)
            )
        self._db.execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
            (sample, person, desk, int(ahead), now + LEASE),
        )

    def leave(self, person: str, desk: str = "") -> None:
        """A page has gone: others may have its samples."""
        with self._writing():
            self._db.execute("DELETE FROM claims WHERE person = ? AND desk = ?", (person, desk))

    def answer(
        self, sample: int, person: str, label: int, seconds: float, unsure: bool = False
    ) -> None:
        """Write an answer to disk.

        Raises:
            Refused: the person has answered already, or as many others as were wanted; the sample
                was not asked about.
            NotSaved: the disk is full, or fails.
        """
        with self._writing():
            question = self._one("SELECT n_wanted FROM questions WHERE sample = ?", (sample,))
            if question is None:
                raise Refused("this sample was not asked about")
            there = self._all(
                f"SELECT person, at FROM answers WHERE sample = ? AND {ACTIVE}", (sample,)
            )
            if person in dict(there):
                raise Refused("you have answered this sample already; undo to change it")
            if len(there) >= question[0]:
                raise Refused(f"{there[-1][0]} has answered this sample meanwhile")
            self._join(person)
            self._db.execute(
                "INSERT INTO answers (sample, person, label, unsure, review, at, seconds) "
                "VALUES (?, ?, ?, ?, 0, ?, ?)",
                (sample, person, label, int(unsure), time.time(), seconds),
            )
            n_wanted = max(question[0], 2) if unsure else question[0]
            if unsure:  # a second person is asked, as soon as there is one
                self._db.execute(
                    "UPDATE questions SET n_wanted = ? WHERE sample = ?", (n_wanted, sample)
                )
            # where no more are wanted, pages that show it still must not keep it from who undoes
            self._db.execute(
                "DELETE FROM claims WHERE sample = ? AND (person = ? OR ?)",
                (sample, person, len(there) + 1 >= n_wanted),
            )

    def undo(self, person: str, desk: str = "") -> int | None:
        """Withdraw the last answer of a person, and give its sample; None: there is none.

        Raises:
            Refused: a review has settled what it was about.
            NotSaved: the disk is full, or fails.
        """
        with self._writing():
            last = self._one(
                f"SELECT id, sample FROM answers WHERE person = ? AND {ACTIVE} "
                "ORDER BY id DESC LIMIT 1",
                (person,),
            )
            if last is None:
                return None
            identity, sample = last
            if self._one(
                "SELECT 1 FROM answers WHERE sample = ? AND review = 1 AND withdrawn IS NULL",
                (sample,),
            ):
                raise Refused("a review has settled your last answer: it cannot be undone")
            self._db.execute(
                "UPDATE answers SET withdrawn = ? WHERE id = ?", (time.time(), identity)
            )
            self._claim(sample, person, desk, False, time.time())
            return int(sample)

    # --- reviewing --------------------------------------------------------------------------------

    def disagreements(self) -> dict[int, list[Answer]]:
        """Samples that people gave different classes and no review has settled; the answers."""
        by_sample = self.by_sample()
        return {
            sample: answers
            for sample, answers in by_sample.items()
            if not any(each.review for each in answers)
            and len({each.label for each in answers} - {SKIP}) > 1
        }

    def review(self, sample: int, person: str, label: int, seconds: float) -> None:
        """Settle a disagreement.

        Raises:
            Refused: there is none (any more), or the person is one of those who disagree.
            NotSaved: the disk is full, or fails.
        """
        with self._writing():
            answers = self.disagreements().get(sample)
            if answers is None:
                raise Refused("nobody disagrees about this sample, or somebody has settled it")
            if person in {each.person for each in answers}:
                raise Refused("you are one of those who disagree: a third person must settle it")
            self._join(person)
            self._db.execute(
                "INSERT INTO answers (sample, person, label, unsure, review, at, seconds) "
                "VALUES (?, ?, ?, 0, 1, ?, ?)",
                (sample, person, label, time.time(), seconds),
            )

    # --- looking ----------------------------------------------------------------------------------

    def questions(self) -> list[Question]:
        """All that was asked, in its order."""
        return [
            Question(*row)
            for row in self._all(
                "SELECT sample, position, query, purpose, model, n_wanted FROM questions "
                "ORDER BY position"
            )
        ]

    def answers(self) -> list[Answer]:
        """All answers that count, in their order; those of reviews too."""
        return [
            Answer(sample, person, label, bool(unsure), bool(review), at, seconds)
            for sample, person, label, unsure, review, at, seconds in self._all(
                "SELECT sample, person, label, unsure, review, at, seconds FROM answers "
                "WHERE withdrawn IS NULL ORDER BY id"
            )
        ]

    def by_sample(self) -> dict[int, list[Answer]]:
        """The answers that count of every sample that has some."""
        found: dict[int, list[Answer]] = {}
        for each in self.answers():
            found.setdefault(each.sample, []).append(each)
        return found

    def used(self) -> list[tuple[int, int, int]]:
        """(step, sample, label) of all that classifiers were trained with, in its order."""
        return self._all("SELECT step, sample, label FROM used ORDER BY id")

    def version(self) -> tuple[int, int]:
        """Changes when anything is written by anybody."""
        (data,) = self._one("PRAGMA data_version")
        return data, self._db.total_changes

    # --- models -----------------------------------------------------------------------------------

    def add_model(
        self,
        number: int,
        n_labelled: int,
        seconds: float,
        samples: np.ndarray,
        probabilities: np.ndarray,
    ) -> None:
        """Note a model, and what it thinks of some samples; of one that is there already nothing.

        Args:
            number: of the model.
            n_labelled: samples that it was trained on.
            seconds: that it took.
            samples: (n,) rows of the data set.
            probabilities: (n, M) float32.
        """
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO models VALUES (?, ?, ?, ?)",
                (number, n_labelled, time.time(), seconds),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO opinions VALUES (?, ?, ?)",
                [
                    (number, int(sample), row.astype(np.float32).tobytes())
                    for sample, row in zip(samples, probabilities, strict=True)
                ],
            )

    def models(self) -> list[tuple[int, int, float, float]]:
        """(number, samples that it was trained on, when, seconds) of all models."""
        return self._all("SELECT number, n_labelled, at, seconds FROM models ORDER BY number")

    def opinions(self, model: int) -> dict[int, np.ndarray]:
        """What a model thinks, (M,) float32 by sample."""
        rows = self._all("SELECT sample, probabilities FROM opinions WHERE model = ?", (model,))
        return {sample: np.frombuffer(found, np.float32) for sample, found in rows}

    def opinion(self, sample: int, model: int | None) -> np.ndarray | None:
        """What a model thought of a sample, (M,) float32; None: it was not asked."""
        row = self._one(
            "SELECT probabilities FROM opinions WHERE sample = ? AND model = ?", (sample, model)
        )
        return None if row is None else np.frombuffer(row[0], np.float32)

    # --- facts ------------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """A fact of the project; None: it is not known."""
        row = self._one("SELECT value FROM facts WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Note a fact, in place of what was noted before.

        Raises:
            NotSaved: the disk is full, or fails.
        """
        with (
            self._one_at_a_time,
            # within a transaction it is part of that
            contextlib.nullcontext() if self._db.in_transaction else self._writing(),
        ):
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    # --- SQLite -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: on disk at its end, or nothing of it.

        Raises:
            NotSaved: the disk is full, or fails, or another process does not let go of the file.
        """
        with self._one_at_a_time:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise NotSaved(f"{self.path} cannot be written: {error}") from error
                raise

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._one_at_a_time:
            return self._db.execute(statement, values).fetchall()

    def _one(self, statement: str, values: Sequence[Any] = ()) -> Any:
        with self._one_at_a_time:
            return self._db.execute(statement, values).fetchone()
