"""The annotator's page under programs in place of people, in a real browser.

    python -m benchmarks.annotators --root DATA/medmnist --out runs/annotators

does three things, two of them on RetinaMNIST, and writes a table of them, ``annotators.md``:

- oracle: 200 samples answered by key from the answer key; the run is then the same, to the bit, as
  one with ``OracleAnnotator``.
- kills: 1,000 answers, while the server is killed (SIGKILL) 20 times at random moments; how many
  answers that the page had confirmed are lost, and how many samples are shown again after that.
- many: ten people at once for two minutes; answers a second, and how long the slowest waited for
  the next sample.

``--study pictures`` takes those of docs/annotate.md: the demo, with answers of two people who do
not always agree.

It needs the extra ``annotate``, Playwright, and Debian's chromium.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import tyro
from playwright.async_api import Error, async_playwright

from al_gym.annotate import guide
from al_gym.annotate.__main__ import AnnotateConfig, project_of
from al_gym.annotate.model import WEIGHTS
from al_gym.annotate.project import Project, Settings
from al_gym.annotate.trainer import train
from al_gym.annotators import OracleAnnotator
from benchmarks.annotating.robot import THREADS, Robot, Server, browser_of

Study = Literal["oracle", "kills", "many", "pictures"]


@dataclass(frozen=True)
class AnnotatorsConfig:
    """Put the page to the test."""

    root: Path
    """Folder of retinamnist.npz."""
    out: Path
    """Folder for the projects and the table."""
    study: tuple[Study, ...] = ("oracle", "kills", "many")
    """What to do."""
    answers: int = 1000
    """Of the kills."""
    kills: int = 20
    """Times that the server is killed."""
    people: int = 10
    """At once."""
    seconds: float = 120.0
    """For how long."""
    seed: int = 0
    """Of the moments of the kills."""


Row = dict[str, str]


def main(config: AnnotatorsConfig) -> int:
    """Do the studies and write the table; returns the exit status, 1 if something was lost."""
    studies: dict[str, Callable[[AnnotatorsConfig], Coroutine[Any, Any, tuple[Row, bool]]]] = {
        "oracle": as_an_oracle, "kills": through_kills, "many": many_at_once, "pictures": pictures,
    }  # fmt: skip
    config.out.mkdir(parents=True, exist_ok=True)
    rows, all_well = [], True
    for name in config.study:
        row, is_well = asyncio.run(studies[name](config))
        print(f"{name}: {row}", flush=True)
        rows.append({"study": name, **row})
        all_well &= is_well
    text = pd.DataFrame(rows).fillna("").to_markdown(index=False)
    (config.out / "annotators.md").write_text(text + "\n")
    print(text)
    return 0 if all_well else 1


def project(config: AnnotatorsConfig, name: str, **settings: Any) -> Project:
    """A new project on RetinaMNIST, whose labels are the answer key."""
    given = {"flag": "retinamnist", **settings.pop("settings", {})}
    return Project.create(
        config.out / name,
        Settings(str(config.root), "MedMNIST", key=True, settings=given, **settings),
    )


N_MANY = 6000
"""Images for many people."""
SMALL = {"network": "small2d", "weights": None}
"""A classifier on features that cost nothing, where it does not matter what is learned."""


async def as_an_oracle(config: AnnotatorsConfig) -> tuple[Row, bool]:
    """200 samples through the browser, and the same run with an oracle."""
    mine = project(config, "oracle", budget=200)
    truth = mine.plan.truth
    waits = []
    async with async_playwright() as playwright:
        browser = await browser_of(playwright)
        with Server(mine.folder) as server:
            robot = await Robot.at(browser, server, "Robot")
            row = await robot.wait()
            for i in range(mine.settings.budget):
                began = time.perf_counter()
                assert await robot.answer(row, int(truth[row]))
                if i < mine.settings.budget - 1:
                    row = await robot.wait(besides=row)
                    waits.append(time.perf_counter() - began)
            while len(mine.store.models()) <= mine.plan.n_queries:
                await asyncio.sleep(0.1)  # the last model is trained
    other = project(config, "oracle-in-place", budget=200)
    torch.set_num_threads(THREADS)  # sums of floats depend on it in their last bit
    pool = train(other, OracleAnnotator(truth), say=lambda _: None).episode.pool
    learned = list(zip(pool.labelled.tolist(), pool.labels.tolist(), strict=True))
    same = (
        mine.store.questions() == other.store.questions()
        and [(sample, label) for _, sample, label in mine.store.used()] == learned
        and (mine.folder / WEIGHTS).read_bytes() == (other.folder / WEIGHTS).read_bytes()
    )
    latency = np.array(waits) * 1000
    row_of_table = {
        "answers": str(mine.settings.budget),
        "the same as an oracle's, to the bit": "yes" if same else "NO",
        "next sample after, ms": _spread(latency),
    }
    return row_of_table, same


async def through_kills(config: AnnotatorsConfig) -> tuple[Row, bool]:
    """Answers while the server is killed; what the page had confirmed must be there."""
    mine = project(
        config, "kills", budget=config.answers, query_size=20, audit=0.1, method="ms",
        settings=SMALL,
    )  # fmt: skip
    truth, rng = mine.plan.truth, random.Random(config.seed)
    confirmed: dict[int, int] = {}
    n_again = n_kills = 0
    every = config.answers // (config.kills + 1)
    async with async_playwright() as playwright:
        browser = await browser_of(playwright)
        with Server(mine.folder) as server:
            robot = await Robot.at(browser, server, "Robot")
            row: int | None = None
            while len(mine.store.settled()) < config.answers:
                killing = None
                if n_kills < config.kills and len(confirmed) >= (n_kills + 1) * every:
                    n_kills += 1
                    killing = asyncio.create_task(_kill_after(server, rng.uniform(0, 0.08)))
                try:
                    row = await robot.wait(besides=row, patience=20)
                    n_again += row in confirmed
                    if await robot.answer(row, int(truth[row])):
                        confirmed[row] = int(truth[row])
                except Error:
                    row = None  # the server is gone, or the page is of the one before
                if killing is not None:
                    await killing
                    await asyncio.to_thread(server.start)
                    await robot.sign_in()
                    row = None
    settled = mine.store.settled()
    n_lost = sum(settled.get(row) != label for row, label in confirmed.items())
    twice = [sample for sample, answers in mine.store.by_sample().items() if len(answers) > 1]
    row_of_table = {
        "answers": f"{len(settled)}, {len(confirmed)} of them confirmed",
        "kills": str(n_kills),
        "lost": str(n_lost),
        "asked again": str(n_again + len(twice)),
    }
    return row_of_table, n_lost == n_again == len(twice) == 0


async def _kill_after(server: Server, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.kill)


async def many_at_once(config: AnnotatorsConfig) -> tuple[Row, bool]:
    """People at once, each as fast as the page lets them, on images of noise: there are enough."""
    rng = np.random.default_rng(config.seed)
    images = config.out / "many-images"
    images.mkdir(exist_ok=True)
    np.savez(
        images / "images.npz",
        images=rng.integers(0, 256, (N_MANY, 28, 28), np.uint8),
        labels=rng.integers(0, 4, N_MANY),
    )
    mine = Project.create(
        config.out / "many",
        Settings(
            str(images), budget=N_MANY - 500, query_size=50, audit=0.1, twice=0.0, method="ms",
            key=True, settings=SMALL,
        ),
    )  # fmt: skip
    truth = mine.plan.truth
    confirmed: list[tuple[int, str]] = []
    waits: list[float] = []
    async with async_playwright() as playwright:
        browser = await browser_of(playwright)
        with Server(mine.folder) as server:
            names = [f"Robot {i}" for i in range(config.people)]
            robots = [await Robot.at(browser, server, name) for name in names]
            end = time.monotonic() + config.seconds

            async def label(robot: Robot) -> None:
                row = None
                while time.monotonic() < end:
                    try:
                        row = await robot.wait(
                            besides=row, patience=max(0.1, end - time.monotonic())
                        )
                        began = time.perf_counter()
                        if await robot.answer(row, int(truth[row])):
                            confirmed.append((row, robot.person))
                            waits.append(time.perf_counter() - began)
                    except Error:
                        continue  # none is left for the moment

            began = time.monotonic()
            await asyncio.gather(*map(label, robots))
            took = time.monotonic() - began
    given = {(each.sample, each.person) for each in mine.store.answers()}
    n_lost = len(set(confirmed) - given)
    twice = [sample for sample, answers in mine.store.by_sample().items() if len(answers) > 1]
    row_of_table = {
        "answers": str(len(confirmed)),
        "people": str(config.people),
        "answers a second": f"{len(confirmed) / took:.1f}",
        "taken after, ms": _spread(np.array(waits) * 1000),
        "lost": str(n_lost),
        "asked again": str(len(twice)),
    }
    return row_of_table, n_lost == len(twice) == 0


async def pictures(config: AnnotatorsConfig) -> tuple[Row, bool]:
    """The pages as people see them."""
    usual = project_of(AnnotateConfig(demo=True, project=config.out / "usual"))
    mine = Project.create(config.out / "demo", replace(usual.settings, twice=0.4))
    guide.write_demo(mine.folder)
    truth, rng = mine.plan.truth, random.Random(config.seed)
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        "label": ("/", {"viewport": {"width": 1440, "height": 900}}),
        "tablet": ("/", {"viewport": {"width": 820, "height": 1180}, "color_scheme": "dark"}),
        "keys": ("/", {"viewport": {"width": 1440, "height": 900}}),
        "progress": ("/progress", {"viewport": {"width": 1100, "height": 900}}),
        "review": ("/review", {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"}),
        "login": ("/login", {"viewport": {"width": 720, "height": 480}}),
    }
    async with async_playwright() as playwright:
        browser = await browser_of(playwright)
        with Server(mine.folder) as server:
            for person, n, sure in (("Ann", 44, 0.9), ("Ben", 12, 0.5)):
                robot, row = await Robot.at(browser, server, person), None
                for _ in range(n):
                    row = await robot.wait(besides=row)
                    await robot.page.wait_for_timeout(rng.uniform(300, 900))
                    right = rng.random() < sure
                    await robot.answer(row, int(truth[row]) if right else rng.randrange(4))
                await robot.page.context.close()  # what lies in front of them goes to others
            for name, (path, context) in looks.items():
                robot = await Robot.at(browser, server, "Cat", **context)
                if path == "/login":
                    await robot.page.click("text=Sign out")
                await robot.sign_in(path) if path != "/login" else None
                if name == "keys":
                    await robot.press("?")
                await robot.page.wait_for_timeout(2500)
                await robot.page.screenshot(
                    path=config.out / f"annotate_{name}.png", full_page=name == "progress"
                )
    return {"pictures": ", ".join(looks)}, True


def _spread(milliseconds: np.ndarray) -> str:
    """Median, 95th percentile, slowest."""
    median, high = np.percentile(milliseconds, [50, 95])
    return f"{median:.0f} (95 %: {high:.0f}, slowest: {milliseconds.max():.0f})"


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(AnnotatorsConfig, description=__doc__)))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.annotators: {error}")
