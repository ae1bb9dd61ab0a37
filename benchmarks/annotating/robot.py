"""A server of the annotator's page as a process, and programs that answer through a browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from playwright.async_api import Browser, Page, Playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""Names of the browser; the one that Playwright would download is not needed."""
THREADS = 1
"""Of a server's and its trainer's computation: the browser is there, too."""
PATIENCE = 60.0
"""Seconds to wait for a server, or for a sample, before something is wrong."""


def browser_path() -> str | None:
    """Where the browser is; None: there is none."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


async def browser_of(playwright: Playwright) -> Browser:
    """A browser without a window.

    Raises:
        FileNotFoundError: none is installed.
    """
    path = browser_path()
    if path is None:
        raise FileNotFoundError(f"no browser is installed: apt install {CHROMIUM[0]}")
    # a container's root has no sandbox to run the browser in
    return await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``python -m al_gym.annotate`` on a project, as a process of its own.

    Args:
        project: its folder.
        arguments: further ones of the command.
        log: where its output goes, appended.
    """

    def __init__(self, project: Path, arguments: tuple[str, ...] = (), log: Path | None = None):
        self.project, self.arguments = project, arguments
        self.port = free_port()
        self.log = log or project.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its pages."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ends, or does not answer in time; with what it said.
        """
        command = [sys.executable, "-m", "al_gym.annotate", "--project", str(self.project)]
        command += ["--port", str(self.port), "--no-show", *self.arguments]
        env = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
        env.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI takes it for a test of its own
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/login", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"the server did not come up:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL: as if the power went."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def __enter__(self) -> "Server":
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, whatever has happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Robot:
    """Somebody at the page.

    Args:
        page: of a browser context of its own.
        server: where to.
        person: the name to sign in with.
    """

    def __init__(self, page: Page, server: Server, person: str = "Robot") -> None:
        self.page, self.server, self.person = page, server, person
        self.trouble: list[str] = []
        """What the browser complained of."""
        page.on("pageerror", lambda error: self.trouble.append(str(error)))

    @classmethod
    async def at(cls, browser: Browser, server: Server, person: str, **context: Any) -> "Robot":
        """Somebody who has signed in."""
        opened = await browser.new_context(**context)
        robot = cls(await opened.new_page(), server, person)
        await robot.sign_in()
        return robot

    async def sign_in(self, path: str = "/") -> None:
        """Come to a page, signing in if that is asked for."""
        await self.page.goto(self.server.url + path)
        if self.page.url.endswith("/login"):
            await self.page.fill("#person", self.person)
            await self.page.click("text=Sign in")
            await self.page.wait_for_url(self.server.url + "/")

    async def row(self) -> int | None:
        """The sample that is on the screen and can be answered; None: there is none."""
        found: str | None = await self.page.evaluate(
            "() => { const v = document.querySelector('.viewer[data-ready=true]');"
            " return v ? v.dataset.row : null; }"
        )
        return None if found is None else int(found)

    async def wait(self, besides: int | None = None, patience: float = PATIENCE) -> int:
        """The next sample, as soon as it is on the screen, another than ``besides``.

        Raises:
            playwright.async_api.TimeoutError: none comes.
        """
        found = await self._once(
            "besides => { const v = document.querySelector('.viewer[data-ready=true]');"
            " return v && v.dataset.row !== String(besides) ? v.dataset.row : false; }",
            besides,
            patience,
        )
        return int(found)

    async def _once(self, condition: str, argument: Any, patience: float = PATIENCE) -> str:
        """What a function of JavaScript says of the page, as soon as it is something true."""
        found = await self.page.wait_for_function(condition, arg=argument, timeout=patience * 1000)
        return str(await found.json_value())

    async def press(self, key: str) -> None:
        """A key."""
        await self.page.keyboard.press(key)

    async def said(self, text: str, patience: float = PATIENCE) -> str:
        """The message on the page, as soon as it begins with ``text``."""
        return await self._once(
            "text => { const m = document.querySelector('.message');"
            " return m && m.innerText.startsWith(text) ? m.innerText : false; }",
            text,
            patience,
        )

    async def answer(self, row: int, label: int) -> bool:
        """Answer the sample on the screen by key, and wait until the page has taken it.

        Returns:
            Whether the page says that it is saved; otherwise another had it.
        """
        await self.press(str(label + 1) if label >= 0 else "s")
        said = await self._once(
            "row => { const v = document.querySelector('.viewer');"
            " const m = document.querySelector('.message');"
            " return v && v.dataset.row !== String(row) ? m.innerText : false; }",
            row,
        )
        return said.startswith("Saved")
