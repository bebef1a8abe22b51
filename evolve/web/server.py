"""`evolve ui`: the page of each run, live, and the buttons that steer it.

It listens on this machine alone, for whoever has its key: others may work on this machine, too. A
request must name this machine as its host, so that no web page reaches it under a name of its own,
and a command must carry the key in a header, which no form of another page can send.
"""

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flask
import jinja2
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from evolve.reading import Reading, find_run, known_runs
from evolve.web.charts import plotly_script
from evolve.web.overviews import Overviews
from evolve.web.rendering import environment
from evolve.web.wishes import COMMANDS, fulfil
from population.errors import EvolveError, LineageError, RunError

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_BYTES = 1 << 20
"""Of a command: a program has 128 KiB at most."""


class Quiet(WSGIRequestHandler):
    """A handler that tells nothing about each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Tell nothing."""


def serve(runs: Path, port: int, tell: Callable[[str], None]) -> None:
    """Show all runs in a folder until Ctrl-C.

    Args:
        runs: folder of all runs.
        port: to listen at; 0: any free one.
        tell: is given the address once it listens there.

    Raises:
        RunError: there is no run, or the port is taken.
    """
    find_run(runs, None)
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise RunError(
            f"port {port} cannot be had ({error.strerror}): `evolve ui` may run already; --port "
            "names another one"
        ) from error
    with listener:
        found, number = listener.fileno(), listener.getsockname()[1]
        key = secrets.token_urlsafe(16)
        server = make_server(
            HOST, number, app(runs, key), threaded=True, request_handler=Quiet, fd=found
        )
        tell(f"http://{HOST}:{number}/?key={key}")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def app(runs: Path, key: str) -> flask.Flask:
    """Return the application that shows the runs in a folder.

    Args:
        runs: folder of all runs.
        key: whoever names it in the address is shown them, and from then on knows it by a cookie.
    """
    found = flask.Flask("evolve.web", static_folder=None, template_folder=None)
    found.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    site = Site(runs, key)
    found.before_request(only_this_machine)
    found.before_request(site.admit)
    found.after_request(site.remember)
    found.after_request(_guarded)
    found.register_error_handler(EvolveError, _told)
    found.register_error_handler(HTTPException, _told_as_http)
    found.add_url_rule("/", view_func=site.latest)
    found.add_url_rule("/run/<name>/", view_func=site.run)
    found.add_url_rule("/run/<name>/overview", view_func=site.overview)
    found.add_url_rule("/run/<name>/individual/<int:one>", view_func=site.individual)
    found.add_url_rule("/run/<name>/steer/<command>", view_func=site.steer, methods=["POST"])
    found.add_url_rule("/<any('page.css', 'page.js', 'plotly.min.js'):name>", view_func=static)
    return found


class Site:
    """The pages of the runs in a folder, for whoever has the key."""

    def __init__(self, runs: Path, key: str) -> None:
        self._runs = runs
        self._key = key
        self._overviews = Overviews()

    def admit(self) -> None:
        """Refuse a request without the key."""
        request = flask.request
        if not self._is_key(request.args.get("key") or request.cookies.get(_cookie(), "")):
            flask.abort(403, "open the address that `evolve ui` has printed: it carries a key")

    def remember(self, response: flask.Response) -> flask.Response:
        """Let the browser keep the key of an address."""
        if self._is_key(flask.request.args.get("key", "")):
            response.set_cookie(_cookie(), self._key, httponly=True, samesite="Strict")
        return response

    def _is_key(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._key.encode())

    def latest(self) -> flask.typing.ResponseReturnValue:
        """Lead to the run that was published last."""
        return flask.redirect(f"/run/{quote(find_run(self._runs, None).name)}/")

    def run(self, name: str) -> str:
        """Return the page of a run."""
        found, version = self._overviews.of(self._folder(name))
        about = found | {"steers": True, "version": version}
        return self._page(name, "overview.html", about, f"/run/{quote(name)}/overview")

    def overview(self, name: str) -> flask.typing.ResponseReturnValue:
        """Return what has changed on a run's page, 204 where nothing has."""
        found, version = self._overviews.of(self._folder(name))
        if flask.request.args.get("since") == version:
            return "", 204
        text = _templates(name).get_template("overview.html").render(found, steers=True)
        return flask.Response(text, headers={"X-Version": version})

    def individual(self, name: str, one: int) -> str:
        """Return the page of one individual."""
        with Reading(self._folder(name)) as reading:
            told = {"one": reading.individual(one), "run": name, "version": "", "alone": True}
        return self._page(name, "individual.html", told, "")

    def steer(self, name: str, command: str) -> flask.typing.ResponseReturnValue:
        """Pass a command on to a run and say what became of it."""
        if not self._is_key(flask.request.headers.get("X-Key", "")):
            flask.abort(403, "this page is of an earlier server: load it again")
        if command not in COMMANDS:
            flask.abort(404, f"there is no command {command}")
        wish = flask.request.get_json()
        if not isinstance(wish, dict):
            flask.abort(400, "expected a JSON object")
        ok, said = fulfil(self._folder(name), command, wish)
        return flask.jsonify(said=said), 200 if ok else 409

    def _folder(self, name: str) -> Path:
        """Return a run's folder. Raises RunError where there is no such run."""
        if name not in known_runs(self._runs):
            raise RunError(f"there is no run {name} here")
        return self._runs / name

    def _page(self, name: str, inner: str, about: dict[str, Any], source: str) -> str:
        template = _templates(name).get_template("live.html")
        return template.render(
            about,
            inner=inner,
            title=name,
            policy="",
            runs=known_runs(self._runs),
            source=source,
            key=self._key,
        )


def static(name: str) -> flask.Response:
    """Return a script or style sheet."""
    kind = "text/css" if name.endswith(".css") else "text/javascript"
    text = plotly_script() if name.startswith("plotly") else None
    text = text or (files("evolve.web") / name).read_text("utf-8")
    return flask.Response(text, mimetype=kind, headers={"Cache-Control": "max-age=3600"})


def only_this_machine() -> None:
    """Refuse a request under another name than this machine's: a page elsewhere may send it."""
    host = flask.request.host.rpartition(":")[0] or flask.request.host
    if host not in (HOST, "localhost"):
        flask.abort(403, f"this page is at http://{HOST} and nowhere else")


def _cookie() -> str:
    """Return the name of the cookie: a browser sends those of one port to all of a host."""
    return f"evolve-{flask.request.host.rpartition(':')[2]}"


def _guarded(response: flask.Response) -> flask.Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _told(error: Exception) -> flask.typing.ResponseReturnValue:
    missing = isinstance(error, RunError | LineageError)
    return _said(str(error), 404 if missing else 500)


def _told_as_http(error: Exception) -> flask.typing.ResponseReturnValue:
    assert isinstance(error, HTTPException)
    return _said(error.description or error.name, error.code or 500)


def _said(text: str, code: int) -> flask.typing.ResponseReturnValue:
    if flask.request.method == "POST":
        return flask.jsonify(said=text), code
    return flask.Response(f"{text}\n", code, mimetype="text/plain")


def _templates(run: str) -> jinja2.Environment:
    return environment(lambda one: f"/run/{quote(run)}/individual/{one}")
