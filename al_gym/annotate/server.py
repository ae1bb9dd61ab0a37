"""Who may see the page: signing in, sessions, and requests from other pages refused.

The server listens on this machine alone unless it is told another address, which takes a
password. Whatever comes must name the host that it was sent to (against DNS rebinding), and must
not come from another site (``Origin``): that holds for forms and for the websocket over which the
page works.
"""

import asyncio
import hmac
import html
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOURS = 12
"""For how long a session lasts after the last request."""
PERSON = re.compile(r"[^\W_][\w .'-]{0,39}")
"""Names that people may sign in with."""
DELAY = 1.0
"""Seconds that a wrong password costs."""
LOCAL = ("localhost", "127.0.0.1", "[::1]")
OPEN = ("/login", "/favicon.ico")
"""What those may see who have not signed in."""


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
        return name in (*LOCAL, self.host.lower(), *(each.lower() for each in self.names))

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
        if "person" in scope.get("session", {}) or path in OPEN:
            return None
        if scope["type"] == "http" and scope["method"] == "GET" and "." not in path:
            return RedirectResponse("/login", 303)
        return PlainTextResponse("sign in first", 401)


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
        form = {name: str(value) for name, value in (await request.form()).items()}
        person = " ".join(form.get("person", "").split())
        if not hmac.compare_digest(form.get("token", ""), request.session.get("token", "-")):
            return await show(request, "This form was too old. Please try again.", 403)
        if not access.admits(form.get("password", "")):
            await asyncio.sleep(DELAY)
            return await show(request, "That is not the password.", 403)
        if not PERSON.fullmatch(person):
            return await show(request, "A name has letters, digits, blanks and . ' - in it.", 422)
        request.session.clear()
        request.session["person"] = person
        joined(person)
        return RedirectResponse("/", 303)

    async def logout(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse("/login", 303)

    add_route("/login", login, methods=["GET", "POST"])
    add_route("/logout", logout, methods=["POST"])


STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
"""Of all pages; both palettes have a contrast of 4.5 and more."""
