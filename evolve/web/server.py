"""`evolve ui`: the page of each run, live, and the buttons that steer it.

It listens on this machine alone, for whoever has its key: others may work on this machine, too. The
key is the first part of each address, so that no page of another site knows one, and a request must
name this machine as its host, so that none reaches it under a name of its own.
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
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from evolve.reading import Reading, find_run, known_runs
from evolve.web.charts import plotly_script
from evolve.web.overviews import Overviews
from evolve.web.rendering import render
from evolve.web.wishes import COMMANDS, fulfil
from population.errors import EvolveError, LineageError, RunError

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_BYTES = 1 << 20
"""Of a command: a program has 128 KiB at most."""
SCRIPTS = "any('page.css', 'page.js', 'plotly.min.js')"


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
        tell(f"http://{HOST}:{number}/{key}/")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def app(runs: Path, key: str) -> flask.Flask:
    """Return the application that shows the runs in a folder.

    Args:
        runs: folder of all runs.
        key: the first part of each address.
    """
    found = flask.Flask("evolve.web", static_folder=None, template_folder=None)
    found.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    site = Site(runs, f"/{key}")
    found.before_request(only_this_machine)
    found.after_request(_guarded)
    for error in (EvolveError, HTTPException, RecursionError, FileNotFoundError):
        found.register_error_handler(error, _told)
    pages: dict[str, Callable[..., Any]] = {
        "/": site.latest,
        "/run/<name>/": site.run,
        "/run/<name>/news": site.news,
        "/run/<name>/individual/<int:one>": site.individual,
        f"/<{SCRIPTS}:name>": static,
    }
    for place, view in pages.items():
        found.add_url_rule(f"/{key}{place}", view_func=view)
    steer = f"/{key}/run/<name>/steer/<command>"
    found.add_url_rule(steer, view_func=site.steer, methods=["POST"])
    return found


class Site:
    """The pages of the runs in a folder, below the address `root`."""

    def __init__(self, runs: Path, root: str) -> None:
        self._runs = runs
        self._root = root
        self._overviews = Overviews()

    def latest(self) -> flask.typing.ResponseReturnValue:
        """Lead to the run that was published last."""
        return flask.redirect(self._address(find_run(self._runs, None).name))

    def run(self, name: str) -> str:
        """Return the page of a run."""
        found, version = self._overviews.of(self._folder(name))
        return self._page(name, "overview.html", found, name, "/".join(version))

    def news(self, name: str) -> flask.typing.ResponseReturnValue:
        """Return the parts of a run's page that are other than at `since`, 204 where none is."""
        found, version = self._overviews.of(self._folder(name))
        since = flask.request.args.get("since", "").split("/")
        if since == list(version):
            return "", 204
        parts: dict[str, str] = {"version": "/".join(version)}
        changed = "overview" if since[0] != version[0] else "training"
        base = self._address(name, "individual")
        parts[changed] = render(f"{changed}.html", found, base, steers=True)
        return flask.jsonify(parts)

    def individual(self, name: str, one: int) -> str:
        """Return the page of one individual."""
        with Reading(self._folder(name)) as reading:
            told = {"one": reading.individual(one), "run": name, "alone": True}
        return self._page(name, "individual.html", told, f"#{one} - {name}", "")

    def steer(self, name: str, command: str) -> flask.typing.ResponseReturnValue:
        """Pass a command on to a run and say what became of it."""
        if command not in COMMANDS:
            flask.abort(404, f"there is no command {command}")
        wish = flask.request.get_json()
        if not isinstance(wish, dict):
            flask.abort(400, "expected a JSON object")
        ok, said = fulfil(self._folder(name), command, wish)
        return flask.jsonify(said=said, done=ok)

    def _folder(self, name: str) -> Path:
        """Return a run's folder. Raises RunError where there is no such run."""
        if name not in known_runs(self._runs):
            raise RunError(f"there is no run {name} here")
        return self._runs / name

    def _address(self, name: str, below: str = "") -> str:
        return f"{self._root}/run/{quote(name)}/" + (f"{below}/" if below else "")

    def _page(self, name: str, inner: str, about: dict[str, Any], title: str, version: str) -> str:
        """Return a page; one with a version follows the run from there on."""
        return render(
            "live.html",
            about,
            self._address(name, "individual"),
            inner=inner,
            title=title,
            policy="",
            root=self._root,
            here=self._address(name),
            runs={one: self._address(one) for one in known_runs(self._runs)},
            version=version,
            steers=True,
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


def _guarded(response: flask.Response) -> flask.Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _told(error: Exception) -> flask.typing.ResponseReturnValue:
    """Return an error as a line; nothing of a request that knows no key is told."""
    code, text = 500, str(error)
    if isinstance(error, RunError | LineageError | FileNotFoundError):
        code = 404
    elif isinstance(error, RecursionError):
        code, text = 400, "it is nested too deeply"
    elif isinstance(error, HTTPException):
        code, text = error.code or 500, error.description or error.name
        if flask.request.url_rule is None:
            text = "nothing is here: open the address that `evolve ui` has printed, with its key"
    if flask.request.method == "POST":
        return flask.jsonify(said=text), code
    return flask.Response(f"{text}\n", code, mimetype="text/plain")
