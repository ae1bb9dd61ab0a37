"""The page in a real browser: Debian's chromium, driven by Playwright."""

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_gym.annotate.originals import Originals
from al_gym.annotate.project import Project, Settings
from al_gym.annotate.store import Asked
from al_gym.annotate.trainer import train

pytest.importorskip("nicegui", reason="the extra annotate is not installed")
playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")

from benchmarks.annotating.robot import Robot, Server, browser_of, browser_path  # noqa: E402

needs_browser = pytest.mark.skipif(browser_path() is None, reason="there is no chromium")
SMALL = {"network": "small2d", "weights": None, "image_size": 16}
N = 40


@pytest.fixture
def root(tmp_path):
    """Forty small images, dark ones and bright ones, in folders that are the answer key."""
    rng = np.random.default_rng(0)
    for i in range(N):
        kind = ("bright", "dark")[i % 2]
        folder = tmp_path / "images" / kind
        folder.mkdir(parents=True, exist_ok=True)
        low, high = (150, 255) if kind == "bright" else (0, 100)
        pixels = rng.integers(low, high, (24, 24), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i:02}.png")
    return tmp_path / "images"


def project_of(root: Path, folder: Path, **settings) -> Project:
    chosen = {"budget": 14, "query_size": 3, "audit": 0.2, "twice": 0.0, "method": "ms", **settings}
    return Project.create(folder, Settings(str(root), key=True, settings=SMALL, **chosen))


def play(story, project: Project, *arguments: str) -> None:
    """A story of a browser and a server of the project."""

    async def run():
        async with playwright.async_playwright() as driver:
            browser = await browser_of(driver)
            with Server(project.folder, arguments) as server:
                await story(browser, server)

    asyncio.run(run())


class Told:
    """Answers with what people have settled."""

    def __init__(self, project: Project) -> None:
        self.settled = project.store.settled()

    def annotate(self, indices):
        return np.array([self.settled[int(i)] for i in indices])


@pytest.mark.slow
@needs_browser
def test_ten_by_key_one_undone_one_skipped_and_a_server_killed_in_the_middle(root, tmp_path):
    project = project_of(root, tmp_path / "project")
    truth, seen = project.plan.truth, []

    async def story(browser, server):
        robot = await Robot.at(browser, server, "Ann")
        row = await robot.wait()
        for i in range(6):
            seen.append(row)
            assert await robot.answer(row, -1 if i == 2 else int(truth[row]))
            row = await robot.wait(besides=row)
        await robot.press("z")  # the last is there again, and gets the other class
        assert await robot.wait(besides=row) == seen[-1]
        await robot.said("Undone")
        assert await robot.answer(seen[-1], 1 - int(truth[seen[-1]]))
        assert await robot.wait(besides=seen[-1]) == row
        server.kill()
        await robot.press("1")  # nobody is there to take it
        await robot.page.wait_for_timeout(200)
        assert row not in project.store.settled()
        await asyncio.to_thread(server.start)
        await robot.sign_in()
        assert await robot.wait() == row  # kept for her
        while len(seen) < project.settings.budget:
            seen.append(row)
            assert await robot.answer(row, int(truth[row]))
            if len(seen) < project.settings.budget:
                row = await robot.wait(besides=row)
        await robot.page.wait_for_selector("text=All 14 samples are answered")
        while len(project.store.models()) <= project.plan.n_queries:
            await asyncio.sleep(0.1)
        assert not robot.trouble

    play(story, project)
    asked = [question.sample for question in project.store.questions()]
    assert seen == asked  # each once, in the order of asking
    settled = project.store.settled()
    expected = {row: int(truth[row]) for row in seen}
    expected[seen[2]], expected[seen[5]] = -1, 1 - expected[seen[5]]
    assert settled == expected
    # the same answers by a program: the same questions, and the same classifier
    other = project_of(root, tmp_path / "other")
    run = train(other, Told(project), say=lambda _: None)
    assert [question.sample for question in other.store.questions()] == asked
    learned = {sample: label for _, sample, label in project.store.used() if label >= 0}
    pool = run.episode.pool
    assert learned == dict(zip(pool.labelled.tolist(), pool.labels.tolist(), strict=True))
    assert (project.folder / "model.safetensors").read_bytes() == (
        other.folder / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
@needs_browser
def test_two_people_and_a_third_who_settles_what_they_disagree_about(root, tmp_path):
    project = project_of(root, tmp_path / "project", twice=1.0)
    truth = project.plan.truth

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        bob = await Robot.at(browser, server, "Bob")
        by_person = {"Ann": [], "Bob": []}
        for robot, wrong in ((ann, 0), (bob, 1)):
            row = None
            for i in range(3):
                row = await robot.wait(besides=row)
                label = 1 - int(truth[row]) if wrong and i == 1 else int(truth[row])
                assert await robot.answer(row, label)
                by_person[robot.person].append(row)
        assert by_person["Ann"] == by_person["Bob"]  # all are asked twice
        disputed = by_person["Bob"][1]
        assert list(project.store.disagreements()) == [disputed]
        await bob.sign_in("/review")
        await bob.page.wait_for_selector("text=a third person settles that")
        cat = await Robot.at(browser, server, "Cat")
        await cat.sign_in("/review")
        assert await cat.wait() == disputed
        said = await cat.page.inner_text(".what")
        assert "Ann:" in said and "Bob:" in said
        await cat.press(str(int(truth[disputed]) + 1))
        await cat.said("Settled")
        assert project.store.settled()[disputed] == truth[disputed]
        await cat.sign_in("/progress")
        await cat.page.wait_for_selector("text=Agreement of two people")

    play(story, project)


@pytest.mark.slow
@needs_browser
def test_a_stale_page_overwrites_nothing_and_an_unreadable_image_is_skipped(root, tmp_path):
    project = project_of(root, tmp_path / "project")
    truth, names = project.plan.truth, project.plan.dataset.names

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        row = await ann.wait()
        # somebody else answers what she still has in front of her
        project.store.join("Bob")
        project.store.answer(row, "Bob", int(truth[row]), 1.0)
        await ann.press(str(2 - int(truth[row])))
        assert "Bob has answered this sample meanwhile" in await ann.said("Not taken")
        assert project.store.settled()[row] == truth[row]
        assert [answer.person for answer in project.store.by_sample()[row]] == ["Bob"]
        # the file of a sample that comes later goes
        asked = [question.sample for question in project.store.questions()]
        row = await ann.wait(besides=row)
        gone = asked[asked.index(row) + 3]
        (root / names[gone]).unlink()
        for _ in range(3):
            assert await ann.answer(row, int(truth[row]))
            row = int(await ann.page.get_attribute(".viewer", "data-row"))
            if row == gone:
                break
            row = await ann.wait(besides=None if row is None else -1)
        assert row == gone
        await ann.page.wait_for_selector("text=cannot be read")
        await ann.press("1")  # what cannot be seen cannot be answered
        await ann.page.wait_for_timeout(200)
        assert gone not in project.store.settled()
        await ann.press("s")
        row = await ann.wait()
        assert project.store.settled()[gone] == -1
        assert await ann.answer(row, int(truth[row]))

    play(story, project)


@pytest.mark.slow
@needs_browser
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_disk_is_said_and_loses_nothing(root, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        project = project_of(root, small / "project")
        truth = project.plan.truth

        async def story(browser, server):
            ann = await Robot.at(browser, server, "Ann")
            row = await ann.wait()
            assert await ann.answer(row, int(truth[row]))
            row = await ann.wait(besides=row)
            with contextlib.suppress(OSError), (small / "filler").open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))
            n = 0
            while n < 200:  # the log has some room of its own left
                await ann.press(str(int(truth[row]) + 1))
                await ann.page.wait_for_timeout(300)
                message = await ann.page.inner_text(".message")
                if message.startswith("Your answer could NOT be saved"):
                    break
                row = await ann.wait(besides=row)
                n += 1
            assert message.startswith("Your answer could NOT be saved")
            assert await ann.row() == row and row not in project.store.settled()
            (small / "filler").unlink()
            assert await ann.answer(row, int(truth[row]))
            assert project.store.settled()[row] == truth[row]

        play(story, project)
        project.store.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_accessible(root, tmp_path, scheme):
    """No finding of axe-core's rules for WCAG 2 A and AA, contrast among them."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright").Axe()
    project = project_of(root, tmp_path / "project")

    async def check(page):
        await page.wait_for_timeout(500)
        found = await axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "best-practice"]})
        problems = [
            f"{rule['id']}: {rule['help']} ({node['html'][:120]})"
            for rule in found.response["violations"]
            for node in rule["nodes"]
        ]
        assert not problems, "\n".join(problems)

    async def story(browser, server):
        context = await browser.new_context(color_scheme=scheme)
        page = await context.new_page()
        await page.goto(server.url)
        await check(page)
        robot = Robot(page, server, "Ann")
        await robot.sign_in()
        await robot.wait()
        await check(page)
        await robot.press("?")
        await check(page)
        for path in ("/progress", "/review", "/look/0"):
            await robot.sign_in(path)
            await check(page)

    play(story, project)


@pytest.mark.slow
@needs_browser
def test_a_page_that_is_open_ends_when_its_person_signs_out_elsewhere(root, tmp_path):
    project = project_of(root, tmp_path / "project")

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        row = await ann.wait()
        other = await ann.page.context.new_page()
        await other.goto(server.url + "/progress")
        # a browser that does not go where it is sent
        await ann.page.evaluate("() => { window.socket.onevent = () => {}; }")
        await other.click("text=Sign out")
        await other.wait_for_url("**/login")
        await ann.press("1")
        await ann.page.wait_for_timeout(500)
        assert not project.store.answers()
        ann.page = other
        await ann.sign_in()
        assert await ann.wait() == row  # in this page nothing has changed
        third = await other.context.new_page()
        await third.goto(server.url)
        await other.click("text=Sign out")
        await third.wait_for_url("**/login")

    play(story, project)


def patched(monkeypatch, folder: Path, code: str) -> None:
    """Let processes that begin from now on run some code before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(__file__).parents[3]}")


SLOW = """
import time
from al_gym.annotate.originals import Originals
plain = Originals.__getitem__
def slowly(self, row):
    time.sleep(4)
    return plain(self, row)
Originals.__getitem__ = slowly
"""


@pytest.mark.slow
@needs_browser
def test_a_sample_that_takes_long_to_decode_is_waited_for(root, tmp_path, monkeypatch):
    project = project_of(root, tmp_path / "project")
    patched(monkeypatch, tmp_path / "patch", SLOW)

    async def story(browser, server):
        while not project.store.questions():
            await asyncio.sleep(0.1)
        ann = await Robot.at(browser, server, "Ann")
        await ann.page.wait_for_selector("text=The sample is being loaded.")
        row = await ann.wait()
        assert await ann.answer(row, 0)

    play(story, project)


@pytest.mark.slow
@needs_browser
def test_who_has_nothing_gets_what_another_keeps_for_too_long(root, tmp_path, monkeypatch):
    project = project_of(root, tmp_path / "project")
    project.store.ask([Asked(3, "start")], 0, None)
    patched(monkeypatch, tmp_path / "patch", "import al_gym.annotate.store as s; s.LEASE = 8.0")

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        await ann.wait()
        bob = await Robot.at(browser, server, "Bob")
        await bob.page.wait_for_selector("text=Others have the samples that are left")
        assert await bob.wait() == 3  # though nobody has written anything
        assert await bob.answer(3, 0)

    play(story, project, "--no-train")


@pytest.mark.slow
@needs_browser
def test_what_is_done_without_a_connection_is_not_done_later(root, tmp_path):
    project = project_of(root, tmp_path / "project")

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        row = None
        for _ in range(2):
            row = await ann.wait(besides=row)
            assert await ann.answer(row, 0)
        row = await ann.wait(besides=row)
        await ann.page.evaluate("() => window.socket.disconnect()")
        for key in "zz1":
            await ann.press(key)
        await ann.page.evaluate("() => window.socket.connect()")
        await ann.page.wait_for_timeout(1000)
        assert len(project.store.answers()) == 2 and await ann.row() == row
        assert await ann.answer(row, 0)  # and it goes on
        assert not ann.trouble

    play(story, project)


@pytest.mark.slow
@needs_browser
def test_a_picture_that_did_not_come_can_be_asked_for_again(root, tmp_path):
    project = project_of(root, tmp_path / "project")

    async def story(browser, server):
        context = await browser.new_context()
        await context.route("**/slices/**", lambda route: route.abort())
        ann = Robot(await context.new_page(), server, "Ann")
        await ann.sign_in()
        await ann.said("A picture has not come from the server")
        await ann.press("1")
        assert await ann.row() is None
        await context.unroute("**/slices/**")
        await ann.press("r")
        row = await ann.wait()
        assert not project.store.answers()
        assert await ann.answer(row, 0)

    play(story, project)


@pytest.mark.slow
@needs_browser
def test_names_are_text_and_classes_without_a_key_have_buttons(root, tmp_path):
    odd = ["<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "</script><b>", "`${1}`", "x" * 80]
    names = ("bright", "dark", *odd, *(f"class {i}" for i in range(5)))
    project = project_of(root, tmp_path / "<b>&amp;{{ 1 + 1 }}", classes=names)

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        ann.page.on("dialog", lambda dialog: ann.trouble.append(dialog.message))
        row = await ann.wait()
        buttons = ann.page.locator(".classes button")
        texts = [text.strip() for text in await buttons.all_inner_texts()]
        assert [text.removeprefix(str(i)[-1]).strip() for i, text in enumerate(texts[:10], 1)] == [
            *names[:10]
        ]
        assert texts[10:] == [*names[10:]]
        assert await ann.page.locator(".classes kbd").count() == 10
        room = await ann.page.locator(".answers").evaluate("e => e.scrollWidth - e.clientWidth")
        assert room <= 0  # the long name is broken
        assert await ann.page.title() == f"{project.folder.name}: annotation"
        assert await ann.page.inner_text("h1") == project.folder.name
        await ann.press("U")  # Caps Lock is on
        assert await ann.page.locator("button[aria-pressed=true]", has_text="Unsure").count() == 1
        await buttons.nth(2).click()
        await ann.said(f"Saved: {names[2]}")
        await ann.wait(besides=row)
        await ann.press("?")
        await ann.page.wait_for_selector("dialog >> text=onerror")
        await ann.sign_in("/progress")
        await ann.page.wait_for_timeout(500)
        assert not ann.trouble

    play(story, project)


# --- who may see it -------------------------------------------------------------------------------


@pytest.fixture
def server(root, tmp_path, monkeypatch):
    monkeypatch.setenv("AL_GYM_PASSWORD", "open sesame")
    project = project_of(root, tmp_path / "project")
    with Server(project.folder) as running:
        yield running


def ask(server, path, method="GET", body=None, **headers) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, names)
    response = connection.getresponse()
    response.text = response.read().decode(errors="replace")
    connection.close()
    return response


def test_nobody_sees_anything_without_signing_in(server):
    here = f"http://127.0.0.1:{server.port}"
    for path in ("/", "/progress", "/review"):
        answer = ask(server, path)
        assert (answer.status, answer.getheader("location")) == (303, "/login")
    assert ask(server, "/slices/0/0/0").status == 303
    assert ask(server, "/_nicegui_ws/socket.io/?EIO=4&transport=polling").status in (303, 401)
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert ask(server, path, Origin=here, **handshake).status == 403
    # other names of this machine, other sites
    assert ask(server, "/login", Host="evil.example").status == 400
    assert ask(server, "/login", Origin="http://evil.example").status == 403
    # a form: its token, its origin, the password, the name
    form = ask(server, "/login")
    cookie = form.getheader("set-cookie")
    assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
    session = cookie.partition(";")[0]
    token = form.text.partition('name="token" value="')[2].partition('"')[0]

    def login(**fields):
        given = {"token": token, "person": "Ann", "password": "open sesame", **fields}
        body = urllib.parse.urlencode(given)
        kind = "application/x-www-form-urlencoded"
        return ask(server, "/login", "POST", body, Origin=here, Cookie=session, Content_Type=kind)

    assert login(token="other").status == login(token="ö").status == 403
    assert login(more="x" * 10**4).status == 413
    assert login(password="open").status == 403
    assert login(person="<b>").status == 422
    assert ask(server, "/login", "POST", "person=Ann", Cookie=session).status == 403  # no origin
    entered = login()
    assert (entered.status, entered.getheader("location")) == (303, "/")
    session = entered.getheader("set-cookie").partition(";")[0]
    page = ask(server, "/", Cookie=session)
    assert page.status == 200 and page.getheader("x-frame-options") == "DENY"
    picture = ask(server, "/slices/0/0/0", Cookie=session)
    assert (picture.status, picture.getheader("content-type")) == (200, "image/png")
    assert picture.getheader("cache-control") == "no-store"  # nothing is left for the next person
    for wrong in ("9999/0/0", "0/3/0", "0/0/0?low=5&high=1", "0/0/0?low=a&high=b"):
        assert ask(server, f"/slices/{wrong}", Cookie=session).status == 404
    for wrong in ("values/0/0/0/0", "values/9999/0/0/0", f"values/0/0/0/{10**30}", "guide/0",
                  "guide/9", "guide/../answers.sqlite"):  # fmt: skip
        assert ask(server, f"/{wrong}", Cookie=session).status == 404
    assert ask(server, "/guide/0").status == ask(server, "/values/0/0/0/0").status == 303
    assert ask(server, "/slices/../../etc/passwd", Cookie=session).status == 404
    assert ask(server, f"/slices/0/0/{10**30}", Cookie=session).status == 200  # the nearest
    # a cookie that nobody has signed
    assert ask(server, "/", Cookie=session[:-3] + "abc").status == 303
    # every request prolongs the session, and signing out ends it, whoever has kept the cookie
    session = picture.getheader("set-cookie").partition(";")[0]
    assert ask(server, "/slices/0/0/0", Cookie=session).status == 200
    assert ask(server, "/logout", "POST", Origin=here, Cookie=session).status == 303
    assert ask(server, "/slices/0/0/0", Cookie=session).status == 303


def test_a_key_for_cookies_that_was_not_written_is_drawn(root, tmp_path):
    from al_gym.annotate.page import secret

    project = project_of(root, tmp_path / "project")
    path = project.folder / "session.key"
    path.touch()  # and then the power went
    assert len(secret(project)) > 40 and secret(project) == path.read_text()
    path.unlink()
    secret(project)
    assert path.stat().st_mode & 0o077 == 0


def test_an_address_for_all_needs_a_password(tmp_path):
    command = [sys.executable, "-m", "al_gym.annotate", "--demo", "--host", "0.0.0.0"]
    env = {name: value for name, value in os.environ.items() if name != "AL_GYM_PASSWORD"}
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert found.returncode == 1
    assert "can be reached by others, so it needs a password" in found.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_is_loaded_from_elsewhere():
    """The page's own files name no other host."""
    folder = Path(__file__).parents[3] / "al_gym" / "annotate"
    for path in (folder / "station.js", folder / "style.css", folder / "server.py"):
        assert "http://" not in path.read_text() and "https://" not in path.read_text()


@pytest.mark.slow
@needs_browser
def test_a_volume_is_looked_at_by_mouse_and_by_keys(chestct_root, tmp_path):
    """Slices, planes, windows, zoom and box; a key that only looks changes no answer."""
    project = Project.create(
        tmp_path / "project",
        Settings(
            str(chestct_root), "chestCT", method="ms", budget=20, query_size=4, audit=0.0, key=True,
            settings={"network": "small3d", "weights": None, "patch_size": 8},
        ),
    )  # fmt: skip
    folder = project.folder / "guide"
    folder.mkdir()
    (folder / f"{project.plan.dataset.class_names[1]}.txt").write_text("What it is.")
    Image.new("L", (30, 20)).save(folder / f"{project.plan.dataset.class_names[1]}.png")

    async def story(browser, server):
        robot = await Robot.at(browser, server, "Ann", viewport={"width": 1200, "height": 800})
        page = robot.page
        row = await robot.wait()
        original = Originals(project)[row]
        captions = page.locator("figcaption span")

        async def slices():
            return [int(text.split()[1]) - 1 for text in await captions.all_inner_texts()]

        async def address(plane):
            return await page.locator(".frame img").nth(plane).get_attribute("src")

        assert await slices() == list(original.centre)
        assert await page.locator(".box").count() == 3  # the middle of the box is in all planes
        assert await address(0) == f"/slices/{row}/0/{original.centre[0]}?low=-1000&high=400"
        # keys: the slice, the plane, the window, the zoom
        await robot.press("ArrowUp")
        await robot.press("ArrowRight")
        await robot.press("ArrowDown")
        z, y, x = original.centre
        assert await slices() == [z + 1, y - 1, x]
        await robot.press("w")
        await page.wait_for_function(
            "() => document.querySelector('.frame img').src.includes('low=-160')"
        )
        zoom = int((await page.inner_text(".zoom")).removesuffix(" %"))
        await robot.press("+")
        closer = int((await page.inner_text(".zoom")).removesuffix(" %"))
        assert abs(closer - 1.25 * zoom) <= 1
        await robot.press("l")
        await page.wait_for_function(
            "() => document.querySelector('img').src.includes('low=-1000')"
        )
        await robot.press("b")
        assert await page.locator(".box").count() == 0
        await robot.press("i")
        assert "invert(1)" in await page.locator(".frame img").first.get_attribute("style")
        await robot.press("r")
        assert await slices() == list(original.centre)
        assert await page.locator(".classes small").all_inner_texts() == ["What it is."]
        width = "() => document.querySelector('.classes img').naturalWidth"
        assert await page.evaluate(width) == 30
        assert await page.locator(".mark").all_inner_texts() == [*"APRLHFRLHFAP"]
        assert (await page.locator(".scale").first.inner_text()).endswith(" mm")
        # the mouse: wheel, cross-hair, window
        while await page.inner_text(".zoom") != "100 %":  # the whole plane, in its middle
            await robot.press("-")
        frame = await page.locator(".frame").nth(0).bounding_box()
        middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
        await page.mouse.move(*middle)
        await page.wait_for_function(
            "() => / HU$/.test(document.querySelector('.value').innerText)"
        )
        before = await page.inner_text(".value")
        await page.mouse.wheel(0, 100)  # down is towards the feet, as with the keys
        await page.wait_for_function(
            "z => document.querySelector('figcaption span').innerText.split(' ')[1] == z",
            arg=str(z),
        )
        # at rest, too, the pointer has the value of the slice that is shown
        await page.wait_for_function(
            "was => document.querySelector('.value').innerText !== was", arg=before
        )
        await page.mouse.click(*middle)
        z, y, x = await slices()
        await page.wait_for_function(
            "said => document.querySelector('.value').innerText === said",
            arg=f"{original.pixels[z, y, x]} HU",
        )
        _, h, w = original.pixels.shape
        assert abs(y - h / 2) <= h / 10 and abs(x - w / 2) <= w / 10
        await page.mouse.down(button="right")
        await page.mouse.move(middle[0] + 80, middle[1], steps=4)
        await page.mouse.up(button="right")
        low, high = map(int, (await page.inner_text(".range")).split(" to "))
        assert high - low > 1500  # wider than the lung's 1400
        slider = page.get_by_label("Sagittal slice")
        await slider.focus()
        await robot.press("ArrowRight")
        assert (await slices())[2] == x + 1
        assert await robot.row() == row and not project.store.settled()
        await robot.press("1")  # while the slider has the focus
        await robot.said("Saved")
        assert project.store.settled() == {row: 0}
        # how she looks at samples is kept for the next, and for the page when she comes back
        await robot.wait(besides=row)
        for _ in range(2):
            assert f"?low={low}." in await address(0)
            await robot.sign_in("/progress")
            await robot.sign_in()
            await robot.wait()
        assert not robot.trouble

    play(story, project)


@pytest.mark.slow
@needs_browser
def test_the_unsure_and_the_opinion_and_other_keys(root, tmp_path):
    project = project_of(root, tmp_path / "project")
    names = project.plan.dataset.class_names

    async def story(browser, server):
        ann = await Robot.at(browser, server, "Ann")
        row = await ann.wait()
        await ann.press("x")
        pressed = ann.page.locator("button[aria-pressed=true]", has_text="Unsure")
        assert await pressed.count() == 1
        await ann.press("q")
        said = await ann.said("Saved")
        assert said == f"Saved: {names[0]}. A second person is asked, as soon as there is one."
        assert project.store.answers()[0].unsure
        model = None
        while model is None:  # the first samples are asked by none
            row = await ann.wait(besides=row)
            model = {q.sample: q.model for q in project.store.questions()}[row]
            assert await ann.answer(row, 1)
            message = await ann.page.inner_text(".message")
            assert ("The classifier thought: " in message) == (model is not None)

    play(story, project, "--keys", "unsure=x", "class1=q", "--opinion")
