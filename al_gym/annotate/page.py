"""The page: labelling, progress and review, in NiceGUI, served from here and nothing else.

One process has the page: see ``server`` for who may see it, ``desk`` for what it does, and
``station.js`` for what happens in the browser.
"""

import asyncio
import html
import io
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nicegui import Client, app, core, ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments
from PIL import Image
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from al_gym import durable
from al_gym.annotate import guide, keys, server
from al_gym.annotate.board import Board
from al_gym.annotate.desk import Desk, Looking, Reviewing, view
from al_gym.annotate.originals import Originals, plane
from al_gym.annotate.project import Project
from al_gym.annotate.server import Access, Guard, Sessions
from al_gym.annotate.store import Question

logger = logging.getLogger(__name__)
LOOK = 0.25
"""Seconds between looks at what others, and the trainer, have written."""
WAIT = 5.0
"""Seconds between looks at whether something has come free, for those who have nothing."""
LOSSLESS = 2**20
"""Pixels of a picture up to which it is sent as PNG; larger photographs as JPEG of quality 95."""


class Station(Element, component="station.js"):
    """The viewer and the answers in the browser."""

    def __init__(self, **props: Any) -> None:
        super().__init__()
        self.show(**props)

    def show(self, **props: Any) -> None:
        """Change what the browser has."""
        changed = {name: value for name, value in props.items() if self._props.get(name) != value}
        if changed:
            self._props.update(changed)
            self.update()


@dataclass
class Site:
    """Everything that the pages of a project share."""

    project: Project
    originals: Originals
    keys: dict[str, str]
    shows_opinion: bool = False
    shows_files: bool = False
    board: Board = field(init=False)
    """Curve, agreement and pace, computed once for all pages."""
    entries: tuple[guide.Entry, ...] = field(init=False)
    """What the classes look like."""

    def __post_init__(self) -> None:
        """Begin without numbers.

        Raises:
            ValueError: the project's guide cannot be read; names the file.
        """
        self.board = Board(self.project)
        self.entries = guide.read(self.project.folder, self.project.plan.dataset.class_names)

    @property
    def title(self) -> str:
        """Of the browser's tab."""
        return f"{self.project.folder.resolve().name}: annotation"


def build(site: Site, access: Access, *, tls: bool = False) -> None:
    """Add the pages to NiceGUI's application.

    Args:
        site: what they show.
        access: who may see them.
        tls: whether they are served encrypted; the session's cookie is then sent in no other way.
    """
    access.sessions.remember(site.project.store)
    app.add_middleware(Guard, access=access)
    app.add_middleware(
        SessionMiddleware,
        secret_key=secret(site.project),
        max_age=server.HOURS * 3600,
        same_site="strict",
        https_only=tls,
        session_cookie="al_gym_session",
    )
    core.sio.eio.cors_allowed_origins = None  # its own host alone, as the guard has it
    server.add_login(app.add_route, access, site.title, site.project.store.join)
    app.add_route("/slices/{row:int}/{axis:int}/{index:int}", slices(site), methods=["GET"])
    app.add_route("/values/{row:int}/{z:int}/{y:int}/{x:int}", values(site), methods=["GET"])
    app.add_route("/guide/{label:int}", pictures(site), methods=["GET"])
    sessions = access.sessions
    ui.page("/", title=site.title, dark=None)(labelling(site, sessions))
    ui.page("/review", title=f"Review - {site.title}", dark=None)(reviewing(site, sessions))
    ui.page("/look/{row}", title=f"Look - {site.title}", dark=None)(looking(site, sessions))
    ui.page("/progress", title=f"Progress - {site.title}", dark=None)(progress(site, sessions))


def secret(project: Project) -> str:
    """What signs cookies: drawn once, and kept in the project, for its owner's eyes alone."""
    path = project.folder / "session.key"
    if not path.is_file() or not path.read_text():  # an older program left it empty in a crash
        with durable.writing(path) as unfinished:
            unfinished.touch(0o600)
            unfinished.write_text(secrets.token_urlsafe(32))
    return path.read_text()


# --- pictures -------------------------------------------------------------------------------------


def slices(site: Site) -> Callable[[Request], Response]:
    """The endpoint of single slices: /slices/ROW/AXIS/INDEX?low=..&high=.."""

    def get(request: Request) -> Response:
        row, axis, index = (request.path_params[name] for name in ("row", "axis", "index"))
        try:
            window = None
            if "low" in request.query_params:
                low, high = (float(request.query_params[name]) for name in ("low", "high"))
                if not -1e9 < low < high < 1e9:
                    raise ValueError("low must be below high")
                window = low, high
            if axis > 2:
                raise KeyError(axis)
            pixels = plane(site.originals[row], axis, index, window)
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            logger.warning("slice %d of axis %d of sample %d: %s", index, axis, row, error)
            return PlainTextResponse("there is no such slice", 404)
        content, kind = encoded(pixels)
        headers = {"cache-control": "no-store"}  # on no disk, and gone with the page
        return Response(content, media_type=kind, headers=headers)

    return get


def values(site: Site) -> Callable[[Request], Response]:
    """The endpoint of single voxels of volumes: /values/ROW/Z/Y/X, as text."""

    def get(request: Request) -> Response:
        row, *at = (request.path_params[name] for name in ("row", "z", "y", "x"))
        try:
            original = site.originals[row]
            if not original.is_volume:
                raise KeyError("an image")
            value = original.pixels[tuple(at)]
        except (LookupError, ValueError, OSError, RuntimeError) as error:
            logger.warning("voxel %s of sample %d: %s", at, row, error)
            return PlainTextResponse("there is no such voxel", 404)
        return PlainTextResponse(f"{value:.4g}" if value.dtype.kind == "f" else str(value))

    return get


def pictures(site: Site) -> Callable[[Request], Response]:
    """The endpoint of the guide's pictures: /guide/CLASS."""

    def get(request: Request) -> Response:
        label = request.path_params["label"]
        if label >= len(site.entries) or not site.entries[label].picture:
            return PlainTextResponse("there is no such picture", 404)
        return Response(site.entries[label].picture, media_type="image/png")

    return get


def encoded(pixels: np.ndarray) -> tuple[bytes, str]:
    """A picture for the browser, (h, w) or (h, w, 3) uint8, and its media type."""
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if image.width * image.height <= LOSSLESS:
        image.save(file, "PNG", compress_level=1)
        return file.getvalue(), "image/png"
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue(), "image/jpeg"


# --- pages ----------------------------------------------------------------------------------------


class Session:
    """That of an open page, whose browser is sent to the login when it is over.

    Args:
        sessions: those of all.
        request: for the page.
    """

    def __init__(self, sessions: Sessions, request: Request) -> None:
        self._sessions, self._name = sessions, str(request.session["name"])
        self._is_over = False

    def is_used(self) -> bool:
        """Note that the person has done something; whether they may."""
        self._sessions.use(self._name)
        return self.goes_on()

    def goes_on(self) -> bool:
        """Whether the person may still see the page."""
        if not self._is_over and not self._sessions.goes_on(self._name):
            self._is_over = True
            ui.navigate.to("/login")
        return not self._is_over


def frame(site: Site, person: str, here: str) -> None:
    """What all pages have above their content."""
    ui.add_css(server.STYLE)
    ui.query("body").classes("al")
    places = {"/": "Label", "/progress": "Progress", "/review": "Review"}
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{name}</a>'
        for path, name in places.items()
    )
    name = html.escape(person)
    tag = "strong" if here == "/progress" else "h1"  # that page has a heading of its own
    ui.html(
        f"<{tag}>{html.escape(site.project.folder.resolve().name)}</{tag}>"
        f'<nav aria-label="Pages">{links}</nav>'
        f'<form method="post" action="/logout"><span>{name}</span> '
        "<button>Sign out</button></form>",
        sanitize=False,
        tag="header",
    ).classes("top")


def labelling(site: Site, sessions: Sessions) -> Callable[[Request, Client], Any]:
    """The page on which samples are labelled."""

    def page(request: Request, client: Client) -> None:
        person = request.session["person"]
        frame(site, person, "/")
        desk = Desk(site.project, person, site.shows_opinion, site.shows_files)
        station(site, desk, client, Session(sessions, request))

    return page


def reviewing(site: Site, sessions: Sessions) -> Callable[[Request, Client], Any]:
    """The page on which a third person settles what two disagree about."""

    def page(request: Request, client: Client) -> None:
        person = request.session["person"]
        frame(site, person, "/review")
        desk = Reviewing(site.project, person, shows_files=site.shows_files)
        station(site, desk, client, Session(sessions, request))

    return page


def looking(site: Site, sessions: Sessions) -> Callable[[Request, Client, int], Any]:
    """The page on which a sample is looked at again."""

    def page(request: Request, client: Client, row: int) -> None:
        person = request.session["person"]
        frame(site, person, "/look")
        station(site, Looking(site.project, person, row), client, Session(sessions, request))

    return page


def station(site: Site, desk: Desk, client: Client, session: Session) -> None:
    """The viewer and the answers, kept up to date as people answer and models come."""
    names = site.project.plan.dataset.class_names
    desk.store.join(desk.person)
    with ui.element("div").classes("wide"):
        shown = Station(
            classes=list(names),
            keys=site.keys,
            key_table=keys.table(site.keys, names),
            guide=[{"text": each.text, "picture": bool(each.picture)} for each in site.entries],
            review=isinstance(desk, Reviewing),
            looks=isinstance(desk, Looking),
            waiting="The sample is being loaded.",
        )
    turn = asyncio.Lock()  # what a person does is done in its order
    views: dict[int, dict[str, Any]] = {}  # of the samples at hand, which need no decoding again

    async def viewed(question: Question | None) -> dict[str, Any] | None:
        known = views.get(question.sample) if question else None
        return known or await view(site.originals, question)

    async def refresh() -> None:
        board = site.board
        sample = await viewed(desk.current)
        shown.show(
            sample=sample,
            waiting=desk.waiting() if desk.current is None else "",
            note=desk.note(),
            message=desk.message.text,
            alarming=desk.message.is_alarm,
            progress=desk.progress(),
            curve=board.curve,
            outlook=board.outlook,
        )
        upcoming = await viewed(desk.upcoming)
        shown.show(upcoming=upcoming)
        views.clear()
        views.update({each["row"]: each for each in (sample, upcoming)
                      if each and not each["problem"]})  # fmt: skip

    async def act(event: GenericEventArguments) -> None:
        async with turn:
            if session.is_used():
                desk.act(event.args)
                await refresh()

    seen: Any = None

    async def look() -> None:
        nonlocal seen
        if turn.locked():
            return
        async with turn:
            if not session.goes_on():
                desk.current = None
                shown.show(sample=None, upcoming=None, waiting="You have signed out.")
                return
            # what others keep for too long comes by time alone
            clock = int(time.monotonic() / WAIT) if desk.current is None else 0
            version = desk.store.version(), site.board.version, clock
            if version == seen:
                return
            if desk.current is None:
                desk.advance()
            elif desk.upcoming is None:
                desk.look_ahead()
            await refresh()
            seen = version  # of before: what was written meanwhile is seen the next time

    shown.on("act", act)
    ui.timer(LOOK, look)  # at once, too: decoding a sample may take longer than a page may
    client.on_delete(desk.leave)


def progress(site: Site, sessions: Sessions) -> Callable[[Request], Any]:
    """The page with the numbers."""

    def page(request: Request) -> None:
        session = Session(sessions, request)
        frame(site, request.session["person"], "/progress")
        with ui.element("div").classes("reading"):
            button = ui.html("Write the results", sanitize=False, tag="button").classes("main")
            said = ui.element("p").props("role=status aria-live=polite")
            shown = ui.html(site.board.page, sanitize=False)

        async def write() -> None:
            if not session.is_used():
                return
            with said:
                said.clear()
                ui.html(await asyncio.to_thread(site.board.export), sanitize=False, tag="span")

        button.on("click", write)
        ui.timer(1.0, lambda: shown.set_content(site.board.page) if session.goes_on() else None)

    return page


def serve(site: Site, access: Access, port: int, show: bool, **tls: Any) -> None:
    """Serve until the process is told to stop.

    Args:
        site: what is shown.
        access: who may see it.
        port: of the address.
        show: open a browser.
        **tls: ``ssl_certfile`` and ``ssl_keyfile`` of uvicorn's.
    """
    build(site, access, tls=bool(tls))
    app.on_startup(site.board.keep_up)
    ui.run(
        host=access.host,
        port=port,
        show=show,
        reload=False,
        title=site.title,
        language="en-US",
        dark=None,
        show_welcome_message=False,
        tailwind=False,
        reconnect_timeout=30.0,
        server_header=False,
        **tls,
    )
