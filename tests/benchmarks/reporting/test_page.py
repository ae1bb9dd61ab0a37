"""The page: figures in its own colours, and ids of their own."""

import dataclasses
import re

import pytest

from benchmarks.reporting import figures, page, statistics, tables
from benchmarks.reporting.first_files import FirstFiles


@pytest.fixture(scope="module")
def chapter(experiment, tmp_path_factory):
    tests = statistics.paired_tests(experiment.compared, "macro_f1", "random")
    figure = figures.forest(tests, list(tests.index), "random", experiment.label)
    svg = figures.save(figure, tmp_path_factory.mktemp("figures"), "forest_random")
    section = page.Section("A <title>", "How to read it.", [page.Picture("f", "A caption", svg)])
    return page.Chapter(
        experiment, "An answer & more.", "", ["A note"], [], [section],
        tables.all_tables(experiment)[:1],
    )  # fmt: skip


def test_colours_are_those_of_the_mode(chapter):
    drawn = page.drawing(chapter.sections[0].pictures[0], chapter)
    assert drawn.startswith("<svg") and "var(--ink)" in drawn and "var(--first)" in drawn
    assert not any(light in drawn for light, _ in figures.THEME.values())
    html = page.render([chapter])
    for role, (light, dark) in figures.THEME.items():
        assert html.count(f"--{role}: {light};") == 1 and html.count(f"--{role}: {dark};") == 1
    assert "@media screen and (prefers-color-scheme: dark)" in html  # paper stays light


def test_ids_are_those_of_the_picture_and_are_found(chapter):
    drawn = page.drawing(chapter.sections[0].pictures[0], chapter)
    ids = set(re.findall(r'\bid="([^"]*)"', drawn))
    assert all(name.startswith("chestCT-f-") for name in ids)
    used = re.findall(r'(?:url\(|href=")#([^")]*)', drawn)
    assert used and set(used) <= ids


def test_text_is_escaped_and_marks_are_not(chapter):
    html = page.render([chapter])
    assert "An answer &amp; more." in html and "A &lt;title&gt;" in html
    assert "<b>" in html and "<sup>" in html and "A note" in html
    assert html.index("An answer") < html.index("A note") < html.index("<svg")


def test_what_the_reader_said_of_the_files_is_there(chapter):
    assert "Of its files" not in page.render([chapter])
    config = chapter.experiment.config | {"notes": ["a&b.png is left out", "2 copies"]}
    noted = dataclasses.replace(chapter.experiment, config=config)
    html = page.render([dataclasses.replace(chapter, experiment=noted)])
    assert "<dt>Of its files</dt><dd>a&amp;b.png is left out</dd>" in html
    assert "<dt></dt><dd>2 copies</dd>" in html


def test_files_asked_for_first_are_folded_away(chapter):
    assert "<details>" not in page.render([chapter])
    files = FirstFiles("MS", 3, [f"<{n}>.png" for n in range(7)], [("a b.png", 2)], 2)
    html = page.render([dataclasses.replace(chapter, files=[files])])
    folded = html[html.index("<details>") : html.index("</details>")]
    assert "first query of seed 3" in folded and "a b.png <span>2 of 2</span>" in folded
    assert "&lt;4&gt;.png" in folded and "&lt;5&gt;.png" not in folded
    alone = page.render(
        [dataclasses.replace(chapter, files=[dataclasses.replace(files, n_seeds=1)])]
    )
    assert "first query of seed 3" in alone and "a b.png" not in alone
