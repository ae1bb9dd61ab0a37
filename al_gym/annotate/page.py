"""The page: labelling, progress and review, in NiceGUI, served from here and nothing else.

One process has the page: see ``server`` for who may see it, ``desk`` for what it does, and
``station.js`` for what happens in the browser.
"""

import asyncio
import html
import io
import logging
import secrets
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

from al_gym.annotate import keys, server
from al_gym.annotate.board import Board
from al_gym.annotate.desk import Desk, Reviewing, view
from al_gym.annotate.originals import Originals, plane
from al_gym.annotate.project import Project
from al_gym.annotate.server import Access, Guard

logger = logging.getLogger(__name__)
LOOK = 0.25
"""Seconds between looks at what others, and the trainer, have written."""
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

    def __post_init__(self) -> None:
        """Begin without numbers."""
        self.board = Board(self.project)

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
    ui.page("/", title=site.title, dark=None)(labelling(site))
    ui.page("/review", title=f"Review - {site.title}", dark=None)(reviewing(site))
    ui.page("/progress", title=f"Progress - {site.title}", dark=None)(progress(site))


def secret(project: Project) -> str:
    """What signs cookies: drawn once, and kept in the project, for its owner's eyes alone."""
    path = project.folder / "session.key"
    if not path.is_file():
        path.touch(0o600)
        path.write_text(secrets.token_urlsafe(32))
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
        headers = {"cache-control": "private, max-age=3600"}
        return Response(content, media_type=kind, headers=headers)

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


def labelling(site: Site) -> Callable[[Request, Client], Any]:
    """The page on which samples are labelled."""

    async def page(request: Request, client: Client) -> None:
        person = request.session["person"]
        frame(site, person, "/")
        desk = Desk(site.project, person, site.shows_opinion, site.shows_files)
        await station(site, desk, client)

    return page


def reviewing(site: Site) -> Callable[[Request, Client], Any]:
    """The page on which a third person settles what two disagree about."""

    async def page(request: Request, client: Client) -> None:
        person = request.session["person"]
        frame(site, person, "/review")
        await station(site, Reviewing(site.project, person, shows_files=site.shows_files), client)

    return page


async def station(site: Site, desk: Desk, client: Client) -> None:
    """The viewer and the answers, kept up to date as people answer and models come."""
    names = site.project.plan.dataset.class_names
    desk.store.join(desk.person)
    desk.advance()
    with ui.element("div").classes("wide"):
        shown = Station(
            classes=list(names),
            keys=site.keys,
            key_table=keys.table(site.keys, names),
            review=isinstance(desk, Reviewing),
        )
    turn = asyncio.Lock()  # what a person does is done in its order

    async def refresh() -> None:
        board = site.board
        shown.show(
            sample=await view(site.originals, desk.current),
            waiting=desk.waiting() if desk.current is None else "",
            note=desk.note(),
            message=desk.message.text,
            alarming=desk.message.is_alarm,
            progress=desk.progress(),
            curve=board.curve,
            outlook=board.outlook,
        )
        shown.show(upcoming=await view(site.originals, desk.upcoming))

    async def act(event: GenericEventArguments) -> None:
        async with turn:
            desk.act(event.args)
            await refresh()

    seen: Any = None

    async def look() -> None:
        nonlocal seen
        if turn.locked():
            return
        async with turn:
            version = desk.store.version(), site.board.version
            if version == seen:
                return
            if desk.current is None:
                desk.advance()
            elif desk.upcoming is None:
                desk.look_ahead()
            await refresh()
            seen = desk.store.version(), site.board.version

    shown.on("act", act)
    ui.timer(LOOK, look)
    client.on_delete(desk.leave)
    await refresh()


def progress(site: Site) -> Callable[[Request], Any]:
    """The page with the numbers."""

    async def page(request: Request) -> None:
        frame(site, request.session["person"], "/progress")
        with ui.element("div").classes("reading"):
            shown = ui.html(site.board.page, sanitize=False)
            button = ui.html("Write the results", sanitize=False, tag="button").classes("main")
            said = ui.element("p").props("role=status aria-live=polite")

        async def write() -> None:
            with said:
                said.clear()
                ui.html(await asyncio.to_thread(site.board.export), sanitize=False, tag="span")

        button.on("click", write)
        ui.timer(1.0, lambda: shown.set_content(site.board.page))

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
