"""Who may see the page: the rules alone; test_page.py asks a server that runs."""

import pytest
from starlette.middleware.sessions import Session

from al_gym.annotate import server
from al_gym.annotate.server import Access, Guard
from al_gym.annotate.store import Store


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "scans.example.org"])
def test_an_address_that_others_reach_needs_a_password(host):
    for password in (None, ""):
        with pytest.raises(ValueError, match=f"host={host} can be reached by others"):
            Access(host, password)
    assert not Access(host, "sesame").is_local


@pytest.mark.parametrize(
    ("access", "known", "foreign"),
    [
        (
            Access(),
            ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:80"],
            ["evil.example", "127.0.0.1.evil.example", "", None, "0.0.0.0"],
        ),
        (Access("10.0.0.7", "x"), ["10.0.0.7:80", "localhost"], ["10.0.0.8", "evil.example"]),
        (Access("0.0.0.0", "x", ("pc.org",)), ["pc.org:80", "PC.org"], ["evil.example"]),
        (Access("0.0.0.0", "x"), ["anything"], [""]),
        (Access("fe80::7", "x"), ["[fe80::7]:8080", "[FE80::7]"], ["[fe80::8]:8080"]),
    ],
)
def test_hosts_that_are_this_machine(access, known, foreign):
    assert all(access.knows(host) for host in known)
    assert not any(access.knows(host) for host in foreign)


def test_a_password_is_right_or_wrong():
    access = Access("0.0.0.0", "séame")
    assert access.admits("séame")
    assert not any(access.admits(wrong) for wrong in ("", "seame", "séame ", "SÉAME"))
    assert Access().admits("")  # there is none


@pytest.mark.parametrize("name", ["Ann", "Dr. O'Neil-Müller", "山田", "r2 d2"])
def test_names(name):
    assert server.PERSON.fullmatch(name)


@pytest.mark.parametrize("name", ["", " Ann", "=1+1", "<b>", "a" * 41, "a\nb", "_x", "-x"])
def test_no_names(name):
    assert not server.PERSON.fullmatch(name)


ANN = {"person": "Ann", "name": "ann's"}


def scope(kind="http", method="GET", path="/", session=None, **headers):
    given = {"host": "localhost:8080", **headers}
    return {
        "type": kind, "method": method, "path": path, "session": session or {},
        "headers": [(k.encode(), v.encode()) for k, v in given.items() if v is not None],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (scope(), 303),
        (scope(path="/slices/0/0/0"), 303),
        (scope(path="/_nicegui/x.js"), 401),
        (scope(method="POST", origin="http://localhost:8080"), 401),
        (scope(path="/login"), None),
        (scope(path="/login", method="POST"), 403),  # says no origin
        (scope(path="/login", method="POST", origin="http://localhost:8080"), None),
        (scope(path="/login", method="POST", origin="null"), 403),
        (scope(path="/login", host="evil.example"), 400),
        (scope(path="/login", host=None), 400),
        (scope(session=ANN), None),
        (scope(session={"person": "Ann"}), 303),  # says not which session it is
        (scope(session=ANN, origin="http://localhost:8080"), None),
        (scope(session=ANN, origin="http://localhost:9999"), 403),
        (scope(session=ANN, origin="https://evil.example"), 403),
        (scope("websocket", session=ANN, origin="http://localhost:8080"), None),
        (scope("websocket", session=ANN, origin="https://evil.example"), 403),
        (scope("websocket", origin="http://localhost:8080"), 401),
    ],
)
def test_what_the_guard_lets_through(given, status):
    refusal = Guard(None, Access()).refusal(given)
    assert (refusal and refusal.status_code) == status


def test_the_form_shows_what_was_typed_as_text():
    page = server.login_page("<b>", True, "token", "<script>")
    assert "<b>" not in page and "<script>" not in page and "&lt;script&gt;" in page
    assert 'type="password"' in page
    assert 'type="password"' not in server.login_page("x", False, "token")


def test_a_session_ends_when_somebody_signs_out_and_when_nobody_uses_it(monkeypatch):
    now = [1e9]
    monkeypatch.setattr(server.time, "time", lambda: now[0])
    sessions = server.Sessions()
    assert sessions.goes_on("a") and sessions.use("a") and sessions.use("b")
    sessions.end("a")
    assert not sessions.use("a") and not sessions.goes_on("a")
    for hours in (server.HOURS - 1, server.HOURS - 1):  # used in between
        now[0] += hours * 3600
        assert sessions.use("b")
    now[0] += server.HOURS * 3600
    assert not sessions.goes_on("b") and not sessions.use("b")


def test_who_has_signed_out_stays_so_when_the_program_begins_anew(tmp_path, monkeypatch):
    now = [1e9]
    monkeypatch.setattr(server.time, "time", lambda: now[0])
    store = Store(tmp_path / "answers.sqlite")
    before = server.Sessions()
    before.remember(store)
    before.end("a")
    after = server.Sessions()
    after.remember(store)
    assert not after.use("a") and after.use("b")
    now[0] += server.HOURS * 3600  # a's cookie is over by itself, and need not be known any more
    after.end("b")
    assert "a" not in store.fact(server.ENDED) and "b" in store.fact(server.ENDED)


def test_a_request_prolongs_its_session_and_one_that_has_ended_is_none():
    guard = Guard(None, Access())
    session = Session(ANN)
    assert guard.refusal(scope(session=session)) is None and session.modified  # is signed anew
    guard.access.sessions.end(ANN["name"])
    assert guard.refusal(scope(session=session)).status_code == 303
    origin = "http://localhost:8080"
    assert guard.refusal(scope("websocket", session=session, origin=origin)).status_code == 401
