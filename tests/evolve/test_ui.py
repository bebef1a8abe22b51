"""The live page shows what is published, and steers for nobody but itself."""

import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect
from werkzeug.serving import make_server

from evaluate.outside import Outside
from evolve import steering
from evolve.control import CONTROL
from evolve.live import Exam, Running, Snapshot, write_live
from evolve.reading import Reading
from evolve.taskfile import load_task
from evolve.web import overviews
from evolve.web.overviews import Overviews
from evolve.web.server import HOST, Quiet, app
from population.individual import EvaluationId, Genome, IndividualId, Purpose, Request
from tests.evolve.browser import browsing
from tests.evolve.conftest import POLYNOMIAL, Evolve
from tests.evolve.test_recording import LEAFLET
from tests.evolve.test_report import with_hostile_program

KEY = "a-key"
PROGRAM = (POLYNOMIAL / "seeds" / "line.py").read_text(
    "utf-8"
) + "\n# and nothing else\nEXTRA = 1.5\n"


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let overviews be made as soon as there is something new, not after a rest."""
    monkeypatch.setattr(overviews, "REST_PER_WORK", 0.0)


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
    """Return status and text of an answer; with `wish`, to a command."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    headers = {"Host": host or f"{HOST}:{port}"}
    if post:
        headers["Content-Type"] = "application/json"
    place = f"/{key}{path}" if key else path
    connection.request("POST" if post else "GET", place, json.dumps(post.get("wish")), headers)
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


def test_the_page_tells_of_an_exam_that_is_held_and_offers_to_stop_it_alone(runs: Path) -> None:
    def holds(pairs: int) -> None:
        training = Running(9, 4, "recombination", "exam", 0.0)
        where = os.getpid(), socket.gethostname(), 0.0, float(pairs)
        exam = Exam(4, 2, pairs, 12)
        write_live(runs / "night" / "live.json", Snapshot(*where, exam=exam, running=(training,)))

    holds(2)
    with live(runs) as port:
        text = asked(port, "/run/night/")[1]
        assert '<span class="state exam">exam</span>' in text
        assert "exam of #4 against founder #2: 2 of at most 12 pairs done" in text
        commands = set(re.findall(r'data-command="(\w+)"', text))
        assert commands == {"stop", "pin"}
        assert "`evolve export --run night` goes on with it later" in text
        version = text.split('data-version="')[1].split('"')[0]
        holds(3)
        news = json.loads(asked(port, f"/run/night/news?since={version}")[1])
        assert "3 of at most 12 pairs" in news["training"]


def test_page_and_status_tell_of_calls_under_way(runs: Path, evolve: Evolve) -> None:
    snapshot = Snapshot(os.getpid(), socket.gethostname(), 0.0, 1.0, asking=2)
    write_live(runs / "night" / "live.json", snapshot)
    told = "asking language models: 2 calls under way"
    with live(runs) as port:
        assert f"<p>{told}</p>" in asked(port, "/run/night/")[1]
    assert f"  {told}" in evolve("status", "--runs", runs).out


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
        for key in ("guess", ""):
            status, text = asked(port, path, key=key)
            assert (status, "the address that `evolve ui` has printed" in text) == (404, True)
        assert asked(port, path)[0] in (200, 302)


def test_a_command_without_the_key_does_nothing(runs: Path) -> None:
    wish = {"source": PROGRAM, "hypothesis": "it may help"}
    with live(runs) as port:
        for key in ("", "guess"):
            assert asked(port, "/run/night/steer/inject", key=key, wish=wish)[0] == 404
    assert not (runs / "night" / "control").exists()


def test_whoever_looks_again_is_told_that_nothing_has_changed(runs: Path) -> None:
    with live(runs) as port:
        text = asked(port, "/run/night/")[1]
        version = text.split('data-version="')[1].split('"')[0]
        assert asked(port, f"/run/night/news?since={version}")[0] == 204
        whole = json.loads(asked(port, "/run/night/news?since=0/0")[1])
        assert whole["version"] == version and "Leaderboard" in whole["overview"]
        number, _ = version.split("/")
        assert json.loads(asked(port, f"/run/night/news?since={number}/0")[1]).keys() == {
            "version",
            "training",
        }


@pytest.mark.slow
def test_a_program_is_put_in_from_the_page(runs: Path, restless: None) -> None:
    with live(runs) as port, browsing() as page:
        page.goto(f"http://{HOST}:{port}/{KEY}/")
        page.locator("#inject summary").click()
        page.fill("[name=hypothesis]", "one more number <b>may</b> help")
        page.fill("[name=category]", "constant")
        page.fill("[name=source]", "x = (")
        page.locator("form button").click()
        expect(page.locator("#said")).to_contain_text("refused: ")
        with_hostile_program(runs)  # the page is made anew meanwhile
        page.wait_for_selector("text=#6", timeout=60_000)
        assert page.locator("[name=source]").input_value() == "x = ("
        page.fill("[name=source]", PROGRAM)
        page.locator("form button").click()
        expect(page.locator("#said")).to_contain_text("put in: ")
        assert page.locator("[name=source]").input_value() == ""
    (file,) = (runs / "night" / "control").glob("*.json")
    wish = json.loads(file.read_text("utf-8"))
    assert wish["source"] == PROGRAM
    assert wish["hypothesis"] == "one more number <b>may</b> help"
    assert wish["category"] == "constant"


def test_commands_to_a_run_that_is_not_running_say_so(runs: Path) -> None:
    with live(runs) as port:
        for command, wish in (("pause", {}), ("stop", {}), ("kill", {"individual": 4})):
            status, text = asked(port, f"/run/night/steer/{command}", wish=wish)
            assert status == 404 and "is not running here" in text
        status, text = asked(port, "/run/night/steer/pin", wish={"individual": 4})
        assert status == 200 and "it waits in the run's folder" in text
        for wish in ({"individual": "4 or 5"}, {"individual": None}, {}, [4]):
            assert asked(port, "/run/night/steer/pin", wish=wish)[0] in (400, 404)
        assert asked(port, "/run/night/steer/explode", wish={})[0] == 404


def waiting_in(run: Path) -> Path:
    """Let program 4 of a run wait for its result; return the folder that it waits in."""
    port = Outside(load_task(LEAFLET), run, slots=2)
    genome, who = Genome("LINES = 1\n"), IndividualId(4)
    port.submit(Request(EvaluationId(9), who, genome, 1, "reading", Purpose.SCREEN))
    (folder,) = (run / "outside" / "waiting").iterdir()
    return folder


def test_results_that_are_waited_for_are_recorded_from_the_page(runs: Path) -> None:
    with live(runs) as port:
        text = asked(port, "/run/night/")[1]
        assert "record a result" not in text  # programs are scored here
        folder = waiting_in(runs / "night")
        version = text.split('data-version="')[1].split('"')[0]
        news = json.loads(asked(port, f"/run/night/news?since={version}")[1])
        assert 'data-records="4"' in news["training"]
        assert "record a result" in asked(port, "/run/night/")[1]

        def told(**wish: object) -> tuple[int, str]:
            status, answer = asked(port, "/run/night/steer/record", wish=wish)
            return status, json.loads(answer)["said"]

        for wrong, says in (
            ({"individual": 4, "result": "good"}, "a result is a number"),
            ({"individual": 4, "result": "9/4"}, "this is no result"),
            ({"individual": 4}, "there is no result"),
            ({"individual": 4, "result": "1", "failed": "it broke"}, "give one of"),
            ({"individual": 5, "result": "1"}, "it waits for no result"),
            ({"individual": "x", "result": "1"}, "expected the id"),
        ):
            status, said = told(**wrong)
            assert status == 404 and says in said, said
        assert not (folder / "result.json").exists()
        status, said = told(individual=4, result="37/120", failed="", note="they liked it")
        assert status == 200
        assert said == "recorded for #4: 37 of 120; the next `evolve run` takes it"
        assert "data-records" not in asked(port, "/run/night/")[1]
    found = json.loads((folder / "result.json").read_text())
    assert found == {"successes": 37, "trials": 120, "note": "they liked it"}


@pytest.mark.slow
def test_a_click_on_what_waits_asks_for_its_result(runs: Path, restless: None) -> None:
    folder = waiting_in(runs / "night")
    with live(runs) as port, browsing() as page:
        page.goto(f"http://{HOST}:{port}/{KEY}/")
        page.locator("[data-records]").click()
        assert page.locator("#record [name=individual]").input_value() == "4"
        page.locator("#record [name=result]").fill("0.73")
        page.locator("#record button").click()
        expect(page.locator("#said")).to_contain_text("recorded for #4: 0.73")
        expect(page.locator("#training")).to_contain_text("recorded")
        assert page.locator("#record [name=result]").input_value() == ""
    assert json.loads((folder / "result.json").read_text()) == {"value": 0.73}


def test_a_page_that_is_read_while_another_publication_comes_shows_that_in_the_end(
    runs: Path, restless: None
) -> None:
    known, folder = Overviews(), runs / "night"
    before, _ = known.of(folder)
    with ThreadPoolExecutor(1) as another, Reading(folder):
        with_hostile_program(runs)
        found, _ = another.submit(known.of, folder).result(timeout=60)
        assert found["individuals"] == before["individuals"]
    assert known.of(folder)[0]["individuals"] == before["individuals"] + 1


def test_no_page_waits_for_a_driver_that_does_not_answer(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "PATIENCE_S", 60.0)
    file, driver = runs / "night" / "live.json", Snapshot(os.getpid(), socket.gethostname(), 0, 0)
    write_live(file, driver)
    with live(runs) as port, ThreadPoolExecutor(1) as another:
        command = another.submit(asked, port, "/run/night/steer/pin", wish={"individual": 3})
        while not list((runs / "night" / CONTROL).glob("*.json")):
            assert not command.done()
        assert asked(port, "/run/night/")[0] == asked(port, "/run/night/individual/3")[0] == 200
        assert not command.done()
        write_live(file, replace(driver, ended_at=1.0))
        assert "it waits in the run's folder" in command.result(timeout=60)[1]


@pytest.mark.slow
def test_whoever_follows_a_run_is_told_when_its_server_is_gone(runs: Path) -> None:
    with browsing(errors=False) as page:
        with live(runs) as port:
            page.goto(f"http://{HOST}:{port}/{KEY}/")
            page.wait_for_selector(".tiles")
        expect(page.locator("#said")).to_contain_text("the server does not answer")


@pytest.mark.slow
def test_the_page_follows_the_run_and_keeps_what_was_opened(runs: Path, restless: None) -> None:
    with live(runs) as port, browsing() as page:
        page.goto(f"http://{HOST}:{port}/{KEY}/")
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
