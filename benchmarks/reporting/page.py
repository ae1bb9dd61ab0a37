"""The page of a report: one self-contained HTML file, for screens of any width and for paper."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from benchmarks.reporting import findings, tables
from benchmarks.reporting.figures import THEME
from benchmarks.reporting.first_files import SHOWN, FirstFiles
from benchmarks.reporting.results import Experiment
from benchmarks.reporting.tables import Table


@dataclass(frozen=True)
class Picture:
    """A figure that has been written."""

    name: str
    caption: str
    """What it shows, for those who do not see it."""
    svg: Path


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    text: str
    """How to read them."""
    pictures: list[Picture]


@dataclass(frozen=True)
class Chapter:
    """What the page says about one data set."""

    experiment: Experiment
    headline: str
    """The answer, in a sentence."""
    basis: str
    """What it rests on."""
    notes: list[str]
    """What a reader must know before reading numbers."""
    comparisons: list[str]
    """What can be said against each baseline."""
    sections: list[Section] = field(default_factory=list)
    """The first is what the headline says, drawn."""
    tables: list[Table] = field(default_factory=list)
    files: list[FirstFiles] = field(default_factory=list)
    """Of the methods that say which files they asked for."""


def render(chapters: Sequence[Chapter]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template("report.html.jinja").render(
        chapters=chapters,
        theme=THEME,
        task=findings.task,
        n_files=SHOWN,
        drawing=drawing,
        skipped=skipped,
        html=lambda table: Markup(tables.to_html(table)),
    )


def skipped(files: Sequence[Sequence[str]]) -> str:
    """How many files could not be used, and the name and reason of the first few."""
    named = [f"{name} ({reason})" for name, reason in files[:SHOWN]]
    more = "; skipped.csv has all" if len(files) > SHOWN else ""
    return (
        f"{len(files)} file{'s' * (len(files) > 1)} that cannot be used: {'; '.join(named)}{more}"
    )


def drawing(picture: Picture, chapter: Chapter) -> Markup:
    """The ``<svg>`` of a picture, its colours the page's and its ids like no others there."""
    svg = picture.svg.read_text()
    svg = svg[svg.index("<svg") :]
    for role, (light, _) in THEME.items():
        svg = svg.replace(light, f"var(--{role})")
    prefix = f"{chapter.experiment.name}-{picture.name}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return Markup(svg)
