"""What one person has in front of them, and what becomes of what they do; knows no web page."""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from al_gym.annotate.originals import Original, Originals
from al_gym.annotate.project import Project
from al_gym.annotate.store import SKIP, Answer, NotSaved, Question, Refused
from al_gym.annotate.trainer import ERROR, TRAINING

logger = logging.getLogger(__name__)
FIELD_OF_VIEW = (50.0, 140.0)
"""mm of a volume around a lesion's box that are in sight at first, least and most."""
BOX_SHARE = 1 / 5
"""Of what is in sight, that a box takes up at least, where the least allows for it."""
UNREADABLE = (
    "The file of this sample cannot be read. Skip it: it is then asked about no more. "
    "(What is wrong is said where the program was started.)"
)
UNLOADED = (
    "A picture has not come from the server. Reset asks for it again; if that does not help, sign "
    "in again, or skip the sample."
)


@dataclass
class Message:
    """What the page says after an action."""

    text: str = ""
    is_alarm: bool = False


class Desk:
    """The samples of one person, one after the other.

    Args:
        project: what is labelled.
        person: who has joined.
        shows_opinion: whether the classifier's opinion is told after an answer.
        shows_files: whether it is told which file a sample is.
    """

    def __init__(
        self,
        project: Project,
        person: str,
        shows_opinion: bool = False,
        shows_files: bool = False,
    ) -> None:
        self.project, self.store, self.person = project, project.store, person
        self.shows_opinion, self.shows_files = shows_opinion, shows_files
        self.current: Question | None = None
        self.upcoming: Question | None = None
        self.message = Message()
        self.name = uuid.uuid4().hex
        """Which of the person's pages this is."""

    # --- what is in front of the person -----------------------------------------------------------

    def advance(self) -> None:
        """Take the next sample, and one to be loaded in advance, as far as there are some."""
        self.current = self.store.next_for(self.person, desk=self.name)
        self.look_ahead()

    def look_ahead(self) -> None:
        """Take the one to be loaded in advance."""
        self.upcoming = None
        if self.current is not None:
            self.upcoming = self.store.next_for(
                self.person, ahead=True, besides=[self.current.sample], desk=self.name
            )

    def leave(self) -> None:
        """Give back what is in front of the person."""
        self.store.leave(self.person, self.name)

    def act(self, what: dict[str, Any]) -> None:
        """Do what the person has asked for; ``message`` says what came of it."""
        try:
            if what["act"] == "answer":
                self._answer(int(what["row"]), int(what["label"]), what)
            elif what["act"] == "undo":
                self._undo()
            elif what["act"] == "unloaded":
                self.message = Message(UNLOADED, True)
        except Refused as error:
            self.message = Message(f"Not taken: {error}.", True)
            self.advance()
        except NotSaved as error:
            logger.error("%s", error)
            self.message = Message(
                "Your answer could NOT be saved: the disk is full, or fails. It is still in front "
                "of you; try again when there is room.",
                True,
            )

    def _answer(self, row: int, label: int, what: dict[str, Any]) -> None:
        names = self.project.plan.dataset.class_names
        if self.current is None or row != self.current.sample:
            return  # a key that was pressed twice, or came late
        if not SKIP <= label < len(names):
            raise Refused("there is no such class")
        seconds = _seconds(what)
        unsure = bool(what.get("unsure")) and label != SKIP
        self.store.answer(row, self.person, label, seconds, unsure)
        text = f"Saved: {'no class, as skipped' if label == SKIP else names[label]}."
        if unsure:
            second = len(self.store.people()) > 1
            text += f" A second person is asked{'' if second else ', as soon as there is one'}."
        self.message = Message(text + self._opinion(self.current))
        self.advance()

    def _opinion(self, question: Question) -> str:
        if not self.shows_opinion:
            return ""
        found = self.store.opinion(question.sample, question.model)
        if found is None:
            return ""
        name = self.project.plan.dataset.class_names[int(found.argmax())]
        return f" The classifier thought: {name}, {found.max():.0%}."

    def _undo(self) -> None:
        sample = self.store.undo(self.person, self.name)
        if sample is None:
            self.message = Message("There is nothing to undo.")
            return
        self.message = Message("Undone: here it is again.")
        self.advance()

    # --- for the page -----------------------------------------------------------------------------

    def waiting(self) -> str:
        """Why there is no sample."""
        error = self.store.fact(ERROR)
        questions = self.store.questions()
        answered = self.store.by_sample()
        left = [q for q in questions if len(answered.get(q.sample, ())) < 1]
        if error:
            return f"Training has stopped: {error} Your answers are kept."
        if not questions or (not left and len(questions) < self.project.settings.budget):
            return "The classifier is being trained. The next samples come by themselves."
        if left:
            return (
                "Others have the samples that are left. If one is given back, it comes by itself."
            )
        return (
            f"All {len(questions)} samples are answered. Thank you! The results are under "
            "Progress; you can still undo."
        )

    def note(self) -> str:
        """What is said of the sample beside it."""
        if self.current is None or not self.shows_files:
            return self.asked_by()
        return f"{self.asked_by()} {self.project.plan.dataset.names[self.current.sample]}"

    def asked_by(self) -> str:
        """Which model has chosen the sample in front of the person."""
        if self.current is None:
            return ""
        if self.current.model is None:
            return "One of the first samples, before there is a classifier."
        learned = {number: n for number, n, *_ in self.store.models()}
        if self.current.model not in learned:  # it has chosen, and is being noted
            return "Chosen by the newest classifier."
        n_labels = learned[self.current.model]
        return f"Chosen by the classifier that has learned from {n_labels} labels."

    def progress(self) -> dict[str, Any]:
        """How far all people are, and this one's pace."""
        wanted = self.project.settings.budget
        answers = [each for each in self.store.answers() if not each.review]
        done = len({each.sample for each in answers})
        own = [each.seconds for each in answers if each.person == self.person]
        text = f"{done} of {wanted} samples answered, {wanted - done} left."
        if own:
            text += f" You: {len(own)}, typically {np.median(own):.1f} s each."
        if self.store.fact(TRAINING):
            text += " A classifier is being trained."
        return {"wanted": wanted, "done": done, "text": text}


class Reviewing(Desk):
    """The samples that people disagree about, for a third person to settle.

    Args:
        project: what is labelled.
        person: who has joined.
        shows_files: whether it is told which file a sample is.
    """

    def __init__(self, project: Project, person: str, shows_files: bool = False) -> None:
        super().__init__(project, person, shows_files=shows_files)
        self.passed: list[int] = []
        """Samples that the person has left for later, or for others."""

    def advance(self) -> None:
        """Take the next disagreement that this person has no part in, those passed at the end."""
        found = [
            sample
            for sample, answers in self.store.disagreements().items()
            if self.person not in {each.person for each in answers}
        ]
        passed = [sample for sample in self.passed if sample in found]
        found = [sample for sample in found if sample not in passed] + passed
        questions = {q.sample: q for q in self.store.questions()}
        self.current = questions[found[0]] if found else None
        self.upcoming = questions[found[1]] if len(found) > 1 else None

    def _answer(self, row: int, label: int, what: dict[str, Any]) -> None:
        names = self.project.plan.dataset.class_names
        if self.current is None or row != self.current.sample or not SKIP <= label < len(names):
            return
        if label == SKIP:
            self.passed = [each for each in self.passed if each != row] + [row]
            self.message = Message("Passed: it comes again after the others.")
            self.advance()
            return
        self.store.review(row, self.person, label, _seconds(what))
        self.message = Message(f"Settled: {names[label]}.")
        self.advance()

    def _undo(self) -> None:
        self.message = Message("What a review has settled cannot be undone.")

    def look_ahead(self) -> None:
        """It is known with the first."""

    def waiting(self) -> str:
        """Why there is no sample."""
        if self.store.disagreements():
            return (
                "You are one of those who disagree about what is left: a third person settles that."
            )
        return "Nobody disagrees about anything (any more)."

    def asked_by(self) -> str:
        """Who has said what."""
        if self.current is None:
            return ""
        names = self.project.plan.dataset.class_names
        answers = self.store.disagreements().get(self.current.sample, [])
        return "; ".join(said(each, names) for each in answers)


class Looking(Desk):
    """One sample to look at, with what was answered; there is nothing to answer.

    Args:
        project: what is labelled.
        person: who has joined.
        row: the sample.
    """

    def __init__(self, project: Project, person: str, row: int) -> None:
        super().__init__(project, person)
        self.row = row

    def advance(self) -> None:
        """It stays the same."""
        is_over = len(self.store.by_sample()) >= self.project.settings.budget
        questions = {q.sample: q for q in self.store.questions()} if is_over else {}
        self.current = questions.get(self.row)

    def act(self, what: dict[str, Any]) -> None:
        """Only to ask for a picture again."""
        if what["act"] == "unloaded":
            super().act(what)

    def waiting(self) -> str:
        """Why there is no sample."""
        return "Samples can be looked at here when all are answered, and these alone."

    def asked_by(self) -> str:
        """What was answered, and what the key says where there is one."""
        names = self.project.plan.dataset.class_names
        answers = "; ".join(said(each, names) for each in self.store.by_sample().get(self.row, []))
        truth = int(self.project.plan.truth[self.row])
        is_known = self.project.settings.key and truth >= 0
        return f"{answers}. Answer key: {names[truth]}." if is_known else f"{answers}."


def said(answer: Answer, class_names: Sequence[str]) -> str:
    """Who has given which class."""
    name = "skipped" if answer.label == SKIP else class_names[answer.label]
    return f"{answer.person}: {name}{' (unsure)' if answer.unsure else ''}"


def _seconds(what: dict[str, Any]) -> float:
    """From the sample's appearance to the answer, as the browser has it; a day at most."""
    return float(np.clip(what.get("seconds", 0), 0, 86400))


def described(row: int, original: Original) -> dict[str, Any]:
    """What the page must know of a sample to ask for its slices."""
    shape = list(original.pixels.shape if original.is_volume else original.pixels.shape[:2])
    zoom = 1.0
    if original.box is not None:
        sides = [(b - a) * mm for (a, b), mm in zip(original.box, original.spacing, strict=True)]
        in_sight = np.clip(max(sides[1:]) / BOX_SHARE, *FIELD_OF_VIEW)
        whole = original.pixels.shape[1] * original.spacing[1]
        zoom = float(np.clip(whole / in_sight, 1, 8))
    return {
        "row": row,
        "volume": original.is_volume,
        "ct": original.is_ct,
        "shape": shape,
        "spacing": list(original.spacing),
        "centre": [*original.centre[: len(shape)], 0][:3],
        "window": list(original.window),
        "box": None if original.box is None else [list(side) for side in original.box],
        "zoom": zoom,
        "oriented": original.is_oriented,
        "problem": None,
    }


async def view(originals: Originals, question: Question | None) -> dict[str, Any] | None:
    """A sample for the page; decoded in a thread, so that the page goes on for others."""
    if question is None:
        return None
    row = question.sample
    try:
        return described(row, await asyncio.to_thread(originals.__getitem__, row))
    except (ValueError, OSError, RuntimeError) as error:
        logger.error("sample %d cannot be shown: %s", row, error)
        return {"row": row, "problem": UNREADABLE}
