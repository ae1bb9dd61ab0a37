"""Who may see the page: signing in, sessions, and requests from other pages refused.

The server listens on this machine alone unless it is told another address, which takes a
password. Whatever comes must name the host that it was sent to (against DNS rebinding), and must
not come from another site (``Origin``): that holds for forms and for the websocket over which the
page works.
"""

import asyncio
import hmac
import html
import json
import re
import secrets
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from al_gym.annotate.store import Store

HOURS = 12
"""For how long a session lasts after the last request."""
PERSON = re.compile(r"[^\W_][\w .'-]{0,39}")
"""Names that people may sign in with."""
DELAY = 1.0
"""Seconds that a wrong password costs."""
LOCAL = ("localhost", "127.0.0.1", "[::1]")
OPEN = ("/login", "/favicon.ico")
"""What those may see who have not signed in."""
ENDED = "ended_sessions"
"""The fact of a store that has them."""
LONGEST = 4096
"""Bytes of a form that is read; what signing in takes is shorter."""


class Sessions:
    """Which sessions go on, beyond what their cookies say.

    A cookie alone stays good after its owner has signed out, and a page that is open asks for
    nothing: both are told apart here, by the name of a session.
    """

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._store: Store | None = None

    def remember(self, store: Store) -> None:
        """Keep in a project's store who signs out, and know who had before this program began."""
        self._store = store
        self._ended |= json.loads(store.fact(ENDED) or "{}")

    def use(self, name: str) -> bool:
        """Whether a session goes on; if so, it was used now."""
        goes_on = self.goes_on(name)
        if goes_on:
            self._used[name] = time.time()
        return goes_on

    def goes_on(self, name: str) -> bool:
        """Whether nobody has signed out, and the last use is not too long ago."""
        now = time.time()
        return name not in self._ended and now - self._used.get(name, now) < HOURS * 3600

    def end(self, name: str) -> None:
        """Somebody has signed out."""
        now = time.time()
        self._ended = {each: at for each, at in self._ended.items() if now - at < HOURS * 3600}
        self._ended[name] = now  # those before are over by their cookies
        if self._store is not None:
            self._store.set_fact(ENDED, json.dumps(self._ended))


@dataclass(frozen=True)
class Access:
    """Who may come in.

    Raises:
        ValueError: an address that others can reach, without a password.
    """

    host: str = "127.0.0.1"
    """The address to listen on."""
    password: str | None = None
    """What people sign in with, beside their name; None: the name is enough."""
    names: tuple[str, ...] = ()
    """Further names of this machine that browsers may use, beside the address and localhost."""
    sessions: Sessions = field(default_factory=Sessions, compare=False)
    """Of those who have come in."""

    def __post_init__(self) -> None:
        """Refuse to be open to all."""
        if not self.is_local and not self.password:
            raise ValueError(
                f"host={self.host} can be reached by others, so it needs a password: give it with "
                "--password, which asks for it, --password-file, or AL_GYM_PASSWORD"
            )

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can reach the page."""
        return self.host in ("localhost", "127.0.0.1", "::1")

    def knows(self, host: str | None) -> bool:
        """Whether a request names a host that is this one; the port does not matter."""
        name = re.sub(r":\d+\Z", "", host or "").lower()
        if self.host in ("0.0.0.0", "::") and not self.names:
            return bool(name)  # nobody has said what this machine is called
        own = (self.host, f"[{self.host}]", *self.names)  # an IPv6 address stands in brackets
        return name in (*LOCAL, *(each.lower() for each in own))

    def admits(self, password: str) -> bool:
        """Whether a password is right, in a time that does not tell how much of it is."""
        return self.password is None or hmac.compare_digest(
            password.encode(), self.password.encode()
        )


class Guard:
    """Lets through what comes from the page itself, and of that only what signed-in people send.

    It stands behind Starlette's ``SessionMiddleware``.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, send to the login, or pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self.app(scope, receive, _hardened(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def refusal(self, scope: Scope) -> Response | None:
        """What is said instead of an answer; None: it is let through."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if not self.access.knows(host):
            return PlainTextResponse("this machine is not called so", 400)
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("requests from other sites are not answered", 403)
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD") and origin is None:
            return PlainTextResponse("a request that changes something must say its origin", 403)
        path = scope["path"]
        if path in OPEN or self.is_signed_in(scope.get("session", {})):
            return None
        if scope["type"] == "http" and scope["method"] == "GET" and "." not in path:
            return RedirectResponse("/login", 303)
        return PlainTextResponse("sign in first", 401)

    def is_signed_in(self, session: MutableMapping[str, Any]) -> bool:
        """Whether a session goes on; if so, its cookie is good for ``HOURS`` from now."""
        if not {"person", "name"} <= session.keys():
            return False
        if not self.access.sessions.use(session["name"]):
            return False
        session["person"] = session["person"]  # what has changed is signed anew
        return True


def _hardened(send: Send) -> Send:
    """Nothing is framed, sniffed or sent on as a referrer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message["headers"],
                (b"x-frame-options", b"DENY"),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"same-origin"),
            ]
        await send(message)

    return sending


def login_page(title: str, needs_password: bool, token: str, problem: str = "") -> str:
    """The form for signing in."""
    password = (
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" required '
        'autocomplete="current-password">'
        if needs_password
        else ""
    )
    alarm = f'<p role="alert" class="alarming">{html.escape(problem)}</p>' if problem else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in - {html.escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style></head><body class="al"><main class="login">
<h1>{html.escape(title)}</h1>{alarm}
<p>Here people say what images show, and a classifier learns from it.</p>
<form method="post" action="/login">
<input type="hidden" name="token" value="{token}">
<label for="person">Your name</label>
<input id="person" name="person" autocomplete="username" maxlength="40" required autofocus>
{password}<button type="submit">Sign in</button></form>
<p>Your answers are kept under this name.</p></main></body></html>"""


def add_login(
    add_route: Callable[..., None], access: Access, title: str, joined: Callable[[str], None]
) -> None:
    """Routes that sign people in and out.

    Args:
        add_route: of the application: (path, endpoint, methods=...).
        access: who may.
        title: of the project.
        joined: called with the name of whoever has come.
    """

    async def show(request: Request, problem: str = "", status: int = 200) -> Response:
        token = request.session.setdefault("token", secrets.token_urlsafe(16))
        page = login_page(title, access.password is not None, token, problem)
        return HTMLResponse(page, status)

    async def login(request: Request) -> Response:
        if request.method == "GET":
            return await show(request)
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST:
            return PlainTextResponse("that is no form of this page", 413)
        form = {name: str(value) for name, value in (await request.form()).items()}
        person = " ".join(form.get("person", "").split())
        token = form.get("token", "").encode()
        if not hmac.compare_digest(token, request.session.get("token", "-").encode()):
            return await show(request, "This form was too old. Please try again.", 403)
        if not access.admits(form.get("password", "")):
            await asyncio.sleep(DELAY)
            return await show(request, "That is not the password.", 403)
        if not PERSON.fullmatch(person):
            return await show(request, "A name has letters, digits, blanks and . ' - in it.", 422)
        if "name" in request.session:  # of another person, perhaps
            access.sessions.end(request.session["name"])
        request.session.clear()
        request.session.update(person=person, name=secrets.token_urlsafe(16))
        joined(person)
        return RedirectResponse("/", 303)

    async def logout(request: Request) -> Response:
        access.sessions.end(request.session["name"])
        request.session.clear()
        return RedirectResponse("/login", 303)

    add_route("/login", login, methods=["GET", "POST"])
    add_route("/logout", logout, methods=["POST"])


STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
"""Of all pages; both palettes have a contrast of 4.5 and more."""
