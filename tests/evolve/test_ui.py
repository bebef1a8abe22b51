"""The live page shows what is published, and steers for nobody but itself."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from evolve.web.server import HOST, Quiet, app
from tests.evolve.browser import browsing
from tests.evolve.conftest import POLYNOMIAL, Evolve
from tests.evolve.test_report import with_hostile_program

KEY = "a-key"
PROGRAM = (POLYNOMIAL / "seeds" / "line.py").read_text(
    "utf-8"
) + "\n# and nothing else\nEXTRA = 1.5\n"


@contextmanager
def live(runs: Path) -> Iterator[int]:
    """Yield the port of a server of the runs."""
    server = make_server(HOST, 0, app(runs, KEY), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(
    port: int, path: str, host: str | None = None, key: str = KEY, **post: object
) -> tuple[int, str]:
    """Return status and text of an answer; with `post`, to a command with that key and wish."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    headers = {"Host": host or f"{HOST}:{port}", "Cookie": f"evolve-{port}={key}"}
    if post:
        headers |= {"X-Key": str(post["header"]), "Content-Type": "application/json"}
    connection.request("POST" if post else "GET", path, json.dumps(post.get("wish")), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_page_of_a_run_shows_what_is_published(runs: Path) -> None:
    with live(runs) as port:
        status, text = asked(port, "/run/night/")
        assert status == 200
        assert "not running" in text and "#4" in text and "recombination" in text
        assert asked(port, "/")[0] == 302
        assert "it raised ValueError" in asked(port, "/run/night/individual/5")[1]


def test_what_is_not_there_is_said_in_a_line(runs: Path) -> None:
    with live(runs) as port:
        for path in ("/run/day/", "/run/%2e%2e/", "/run/night/individual/99", "/nothing"):
            status, text = asked(port, path)
            assert status == 404, path
            assert "Traceback" not in text and text.count("\n") <= 2


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_no_other_site_reaches_the_page_under_a_name_of_its_own(runs: Path, host: str) -> None:
    with live(runs) as port:
        assert asked(port, "/run/night/", host=host)[0] == 403
        assert asked(port, "/run/night/", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("path", ["/", "/run/night/", "/run/night/individual/4", "/page.js"])
def test_others_on_this_machine_are_shown_nothing_without_the_key(runs: Path, path: str) -> None:
    with live(runs) as port:
        status, text = asked(port, path, key="guess")
        assert (status, "the address that `evolve ui` has printed" in text) == (403, True)
        assert asked(port, f"{path}?key={KEY}", key="")[0] in (200, 302)


def test_a_command_without_the_key_in_its_header_does_nothing(runs: Path) -> None:
    wish = {"source": PROGRAM, "hypothesis": "it may help"}
    with live(runs) as port:
        for header in ("", "guess"):
            assert asked(port, "/run/night/steer/inject", header=header, wish=wish)[0] == 403
        assert asked(port, "/run/night/steer/inject", key="", header=KEY, wish=wish)[0] == 403
    assert not (runs / "night" / "control").exists()


def test_whoever_looks_again_is_told_that_nothing_has_changed(runs: Path) -> None:
    with live(runs) as port:
        text = asked(port, "/run/night/")[1]
        version = text.split('data-version="')[1].split('"')[0]
        assert asked(port, f"/run/night/overview?since={version}")[0] == 204
        assert asked(port, "/run/night/overview?since=0")[0] == 200


@pytest.mark.slow
def test_a_program_is_put_in_from_the_page(runs: Path) -> None:
    with live(runs) as port, browsing() as page:
        page.goto(f"http://{HOST}:{port}/?key={KEY}")
        page.locator("#inject summary").click()
        page.fill("[name=hypothesis]", "one more number <b>may</b> help")
        page.fill("[name=source]", PROGRAM)
        page.locator("form button").click()
        page.wait_for_selector("#said:not(:empty)")
        assert page.locator("#said").inner_text().startswith("put in")
    (file,) = (runs / "night" / "control").glob("*.json")
    wish = json.loads(file.read_text("utf-8"))
    assert wish["source"] == PROGRAM
    assert wish["hypothesis"] == "one more number <b>may</b> help"


@pytest.mark.slow
def test_the_page_follows_the_run_and_keeps_what_was_opened(runs: Path) -> None:
    with live(runs) as port, browsing() as page:
        page.goto(f"http://{HOST}:{port}/?key={KEY}")
        page.wait_for_selector("#chart-progress .scatterlayer .point")
        page.locator("#configuration summary").click()
        with_hostile_program(runs)
        page.wait_for_selector("text=#6", timeout=60_000)
        assert page.locator("#configuration").get_attribute("open") is not None
        assert page.locator("#chart-progress .scatterlayer .point").count() == 7
        assert page.title() == "night"


def test_a_port_that_is_taken_is_told_in_a_line(runs: Path, evolve: Evolve) -> None:
    with live(runs) as port:
        said = evolve("ui", "--runs", runs, "--port", port)
    assert said.code == 2
    assert f"port {port} cannot be had" in said.err


def test_without_a_run_there_is_no_page(tmp_path: Path, evolve: Evolve) -> None:
    said = evolve("ui", "--runs", tmp_path)
    assert said.code == 2
    assert "evolve run" in said.err
