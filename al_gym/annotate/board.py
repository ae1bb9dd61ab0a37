"""The numbers of a project, computed beside the pages and once for all of them."""

import asyncio
import html
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from al_gym.annotate import export, figure, statistics
from al_gym.annotate.desk import said
from al_gym.annotate.project import Project
from al_gym.annotate.store import Store

logger = logging.getLogger(__name__)
EVERY = 1.0
"""Seconds between looks at what has changed."""
WHERE = "(What is wrong is said where the program was started.)"
"""As messages may name files, and these patients."""


BEFORE = (
    f"A learning curve comes here with the first {statistics.FEWEST} answers of the test set: a "
    "random share of the samples, which the classifier never learns from."
)
"""In place of an outlook."""


@dataclass(frozen=True)
class Link:
    """A cell that leads to another page."""

    to: str
    """Its address here."""


class Board:
    """Curve, outlook, pace and agreement as HTML.

    Args:
        project: whose.

    Attributes:
        version: a number that grows with every change.
        curve: the learning curve as SVG; empty as long as there is none.
        outlook: what more labels would probably bring, in a sentence.
        page: the page of all numbers.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.version = 0
        self.curve = self.outlook = ""
        self.page = "<h1>Progress</h1><p>Nothing has been answered yet.</p>"
        self._curve = statistics.NOTHING
        self._curve_of: Any = None
        self._key = ""
        self._version_seen: Any = None
        self._seen: Any = None
        self._store: Store | None = None

    async def keep_up(self) -> None:
        """Compute anew whenever something has changed, for as long as the program runs."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except Exception:  # numbers that fail must not stop those who label
                logger.exception("the numbers of the page could not be computed")
            await asyncio.sleep(EVERY)

    def refresh(self) -> None:
        """Compute what has changed; in one thread at a time, with a connection of its own."""
        if self._store is None:
            self._store = Store(self.project.store.path)
        version = self._store.version()
        if version == self._version_seen:
            return
        self._version_seen = version
        said = self._store.answers(), [model[0] for model in self._store.models()]
        if said == self._seen:
            return  # somebody has looked at a sample
        self._seen = said
        plan = self.project.plan
        is_over = len({each.sample for each in said[0]}) >= self.project.settings.budget
        if (of := (said[1], is_over and said[0])) != self._curve_of:
            # between models both stay as they are: their growth would tell which samples are of
            # the test, and what the key says of a single one
            self._curve, self._curve_of = statistics.curve(self._store, plan), of
            self._key = self._beside_key(is_over)
        curve = self._curve
        outlook = statistics.outlook(curve)
        self.curve = figure.svg(curve.points) if curve.points else ""
        self.outlook = outlook.sentence if outlook else ""
        if not curve.points and len(plan.audit):
            self.outlook = BEFORE
        self.page = "".join([
            "<h1>Progress</h1>",
            self._test_set(curve.points),
            _people(statistics.people(self._store)),
            _agreement(statistics.agreement(self._store, plan.dataset.class_names)),
            _disagreements(self._store, plan.dataset.class_names),
            self._key,
        ])  # fmt: skip
        self.version += 1

    def export(self) -> str:
        """Write the results into the project's folder; what was written, or why not, as HTML."""
        try:
            written = export.write(self.project)
        except (ValueError, OSError) as error:
            logger.error("the results could not be written: %s", error)
            return f"The results could NOT be written: {html.escape(type(error).__name__)}. {WHERE}"
        names = ", ".join(html.escape(path.name) for path in written)
        folder = html.escape(str(self.project.folder.resolve()))
        return f"Written to the folder {folder} of the machine that runs this: {names}."

    def _beside_key(self, is_over: bool) -> str:
        """The labels beside the answer key; which ones differ is told when all are given."""
        if not self.project.settings.key or self._store is None:
            return ""
        plan = self.project.plan
        names = plan.dataset.class_names
        told = _right(statistics.against_key(self._store, plan))
        if not is_over:
            return f"{told}<p>Which ones differ is told when all samples are answered.</p>"
        rows = [
            [each.number, names[each.label], names[each.truth], Link(f"/look/{each.sample}")]
            for each in statistics.differing(self._store, plan)
        ]
        columns = ["sample, as asked", "answer", "key", ""]
        return told + (_table("Labels that differ", columns, rows) if rows else "")

    def _test_set(self, points: Sequence[statistics.Point]) -> str:
        """How good the classifier is, and on what that is measured."""
        plan, settings = self.project.plan, self.project.settings
        if len(plan.dataset.test):
            what = f"the {len(plan.dataset.test)} test images of the data set"
        else:
            what = (
                f"a test set: {len(plan.audit)} of the {settings.budget} samples, drawn at random "
                "before the method had a say. The classifier never learns from them. Their classes "
                "are people's answers: where these are wrong, so is the curve"
            )
        told = f"<p>The curve is measured on {what}.</p>"
        if not points:
            least = statistics.FEWEST
            return f"{told}<p>It begins when {least} of them have a class.</p>"
        last = points[-1]
        return (
            f"{self.curve}{told}<p>With {last.n_labelled} labels macro F1 is {last.macro_f1:.2f} "
            f"(95 % interval {last.low:.2f} to {last.high:.2f}) and accuracy {last.accuracy:.2f}, "
            f"on {last.n_test} test images. {html.escape(self.outlook)}</p>"
        )


def _people(people: Sequence[statistics.Person]) -> str:
    rows = [
        [each.name, each.n_answers, _number(each.seconds, ".1f"), _number(each.skipped, ".0%")]
        for each in people
    ]
    return _table("People", ["name", "answers", "seconds (median)", "skipped"], rows)


def _agreement(
    found: tuple[statistics.Agreement, dict[str, statistics.Agreement]] | None,
) -> str:
    if found is None:
        return "<h2>Agreement</h2><p>No sample has been answered by two people yet.</p>"
    overall, by_class = found
    rows = [
        [
            name,
            each.n_pairs,
            f"{each.share:.0%}",
            _number(each.kappa, ".2f"),
            "-" if each.low is None else f"{each.low:.2f} to {each.high:.2f}",
        ]
        for name, each in {"all classes": overall, **by_class}.items()
    ]
    columns = ["class", "samples", "the same", "Cohen's kappa", "95 % interval"]
    return _table("Agreement of two people", columns, rows)


def _disagreements(store: Store, class_names: Sequence[str]) -> str:
    """The list of those that the page Review settles, by their number in the order of asking."""
    number = {question.sample: question.position + 1 for question in store.questions()}
    found = store.disagreements()
    rows = [
        [number[sample], ", ".join(said(answer, class_names) for answer in found[sample])]
        for sample in sorted(found, key=lambda sample: number[sample])
    ]
    return _table("To be settled under Review", ["sample", "answers"], rows) if rows else ""


def _right(found: tuple[statistics.Right, dict[str, statistics.Right]] | None) -> str:
    if found is None:
        return ""
    overall, by_class = found
    rows = [
        [name, each.n, each.n_right, f"{each.share:.0%}"]
        for name, each in {"all classes": overall, **by_class}.items()
    ]
    return _table("Beside the answer key", ["class, by the key", "samples", "right", "share"], rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers, and what begins like one, stand at the right."""

    def cell(value: object) -> str:
        if isinstance(value, Link):
            return f'<td><a href="{value.to}">look</a></td>'
        text = str(value)
        right = ' class="n"' if text[:1] in "-0123456789" else ""
        return f"<td{right}>{html.escape(text)}</td>"

    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(str(first))}</th>' + "".join(map(cell, others)) + "</tr>"
        for first, *others in rows
    )
    return (
        f"<h2>{html.escape(title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
