"""The report of a run is one file that tells all of it and fetches nothing."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from evolve.reading import Reading, Rows
from evolve.report import contents, report
from population.errors import LineageError
from population.individual import Change, Failed, Genome, IndividualId, Scored, Stage
from population.lineage import DuckLineage, stored_identity
from population.ports import Attempt, Proposed, Selected
from tests.evolve.browser import browsing
from tests.evolve.conftest import Evolve, arrival, born, evaluation

HOSTILE = "<b>x</b><img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"


HOVER = """([operator, individual]) => {
    const chart = document.getElementById("chart-progress");
    const curveNumber = chart.data.findIndex((trace) => trace.name === operator);
    const pointNumber = [...chart.data[curveNumber].customdata].indexOf(individual);
    Plotly.Fx.hover(chart, [{ curveNumber, pointNumber }], operator === "failed" ? "xy2" : "xy");
}"""
"""Points at the score or failure of an individual."""


def with_hostile_program(runs: Path) -> None:
    """Add a program that leads and whose every text wants to be a page of its own."""
    hostile = replace(
        born(6, 1.5, 4, operator="refine"),
        genome=Genome(f"{HOSTILE}\n"),
        changes=(Change(f"+{HOSTILE}\n", HOSTILE, "markup"),),
        constants={"A": HOSTILE},
    )
    born_so = arrival(hostile)
    assert isinstance(born_so, Proposed)
    call = Attempt("edit", "accepted", model=HOSTILE, prompt=HOSTILE, answer=HOSTILE, cost_usd=0.25)
    born_so = replace(born_so, proposal=replace(born_so.proposal, attempts=(call,)))
    failed = Failed(Stage.TRAINING, HOSTILE, HOSTILE)
    folder = runs / "night"
    identity = stored_identity(folder)
    assert identity is not None
    with DuckLineage.open(folder, identity) as lineage:
        for record in (
            born_so,
            *evaluation(6, hostile, Scored(1.5)),
            *evaluation(7, hostile, failed),
        ):
            lineage.record(record)
        lineage.publish()


def test_a_report_is_written_into_the_run_s_folder_and_named(evolve: Evolve, runs: Path) -> None:
    said = evolve("report", "--runs", runs)
    file = runs / "night" / "report.html"
    assert said.code == 0
    assert said.out.strip() == str(file)
    assert file.read_text("utf-8").startswith("<!doctype html>")


def test_a_report_goes_where_it_is_told(evolve: Evolve, runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "morning.html"
    assert evolve("report", "--runs", runs, "-o", file).code == 0
    assert "closeness" in file.read_text("utf-8")


def test_programs_read_the_same_as_json(evolve: Evolve, runs: Path) -> None:
    found = json.loads(evolve("report", "--runs", runs, "--json").out)
    assert found["leaders"][0]["individual"] == 4
    assert [step["individual"] for step in found["steps"]] == [1, 3, 4]
    assert {one["id"] for one in found["told"]} == {1, 2, 3, 4}


def test_individuals_are_told_together_as_each_is_told_alone(runs: Path) -> None:
    with_hostile_program(runs)
    with Reading(runs / "night") as reading:
        together = reading.individuals([4, 1, 6, 5])
        assert together == [reading.individual(one) for one in (4, 1, 6, 5)]
        assert [one["id"] for one in together] == [4, 1, 6, 5]
        assert reading.individuals([]) == []
        with pytest.raises(LineageError, match="individual 7 does not exist; ids go from 1 to 6"):
            reading.individuals([1, 7])


def test_a_report_of_more_programs_asks_the_lineage_no_more_often(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = Reading.query, []

    def counting(reading: Reading, sql: str, values: Sequence[Any] = ()) -> Rows:
        asked.append(sql)
        return real(reading, sql, values)

    monkeypatch.setattr(Reading, "query", counting)
    counts = []
    for longer in (False, True):
        if longer:
            with_hostile_program(runs)
        asked.clear()
        with Reading(runs / "night") as reading:
            told = contents(reading)["told"]
        counts.append((len(told), len(asked)))
    (few, questions), (more, again) = counts
    assert (few, more, again) == (4, 5, questions)


def test_a_gain_is_coloured_where_it_is_more_than_the_noise_of_both(runs: Path) -> None:
    def colours() -> list[str]:
        with Reading(runs / "night") as reading:
            return re.findall(r'class="number gain (\w+)"', report(reading))

    assert colours() == ["up", "quiet"]  # +0.5 and +0.25 where one score has a noise of 0.1
    identity = stored_identity(runs / "night")
    with DuckLineage.open(runs / "night", identity) as lineage:
        members = ((IndividualId(4), 2.25, 0.05), (IndividualId(3), 2.5, 0.05))
        lineage.record(Selected(2, 0.05, members))
        lineage.publish()
    assert colours() == ["up", "up"]


def test_a_report_needs_nothing_else(runs: Path) -> None:
    with Reading(runs / "night") as reading:
        text = report(reading)
    scripts = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", scripts)
    assert "default-src 'none'" in html.unescape(text)


@pytest.mark.slow
def test_a_browser_shows_charts_descent_and_leaders(
    runs: Path, tmp_path: Path, evolve: Evolve
) -> None:
    file = tmp_path / "report.html"
    evolve("report", "--runs", runs, "-o", file)
    with browsing() as page:
        page.goto(file.as_uri())
        page.wait_for_selector("#chart-progress .scatterlayer .point")
        assert page.locator("#chart-progress .scatterlayer .point").count() == 5  # and a failure
        assert "#1" in page.locator(".descent li").first.inner_text()
        assert page.locator(".descent li").count() == 3
        page.locator("table a", has_text="#4").first.click()
        assert page.url.endswith("#individual-4")
        assert "night" in page.title()


@pytest.mark.slow
def test_nothing_that_a_candidate_wrote_becomes_part_of_the_page(
    runs: Path, tmp_path: Path, evolve: Evolve
) -> None:
    with_hostile_program(runs)
    file = tmp_path / "report.html"
    evolve("report", "--runs", runs, "-o", file)
    with browsing() as page:
        page.goto(file.as_uri())
        page.wait_for_selector("#chart-progress .scatterlayer .point")
        for trace in ("refine", "failed"):
            page.evaluate(HOVER, [trace, 6])
            expect(page.locator("#chart-progress .hoverlayer")).to_contain_text(HOSTILE[:20])
            page.evaluate("() => Plotly.Fx.unhover('chart-progress')")
            expect(page.locator("#chart-progress .hoverlayer")).to_be_empty()
        assert page.title() == "night: closeness"
        assert page.locator("main img").count() == 0
        assert HOSTILE in page.locator("#individual-6").inner_text()
        assert HOSTILE in page.locator("table", has_text="unanswered").inner_text()
        for closed in page.locator("#individual-6 details").all():
            closed.locator("summary").click()
        assert page.locator("#individual-6").inner_text().count(HOSTILE) == 8  # constants are JSON
