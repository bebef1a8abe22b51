"""The relay: what the SDK asks lies in a folder, and what is laid beside it is the answer."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.relayed_llm import Relay, main, taken
from mutate.claude import Claude
from mutate.llm import Answer, Block, Question
from mutate.models import Model

QUESTION = Question(
    Model("relayed", whole_file=False),
    (Block("You vary programs."),),
    ((Block("Here is one."),),),
    max_tokens=1_000,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with Relay(tmp_path / "questions", 0) as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{relay.server_address[1]}")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        yield relay.folder
        relay.shutdown()
        thread.join()


def test_a_question_is_answered_by_whoever_takes_it_and_by_nobody_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(Claude().ask(QUESTION)))
    asking.start()
    monkeypatch.setattr("sys.argv", ["relayed_llm", str(folder), "--next"])
    assert main() == 0
    number, file = capsys.readouterr().out.split()
    assert Path(file).read_text() == (
        "===== system =====\nYou vary programs.\n\n===== user =====\nHere is one."
    )
    assert list(taken(folder)) == []
    monkeypatch.setattr("sys.argv", ["relayed_llm", str(folder), "--answer", number])
    monkeypatch.setattr("sys.stdin", io.StringIO("Hypothesis: gates\n"))
    assert main() == 0
    asking.join(20)
    assert [(a.text, a.stop_reason) for a in answers] == [("Hypothesis: gates\n", "end_turn")]
    assert answers[0].usage.read > 10


def test_whoever_waits_in_vain_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.relayed_llm.PATIENCE_S", 0.0)
    monkeypatch.setattr("sys.argv", ["relayed_llm", str(tmp_path), "--next"])
    assert main() == 1
    assert capsys.readouterr().out == "no question came\n"


def test_an_answer_to_what_nobody_asked_is_refused_and_waits_for_no_later_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["relayed_llm", str(tmp_path), "--answer", "7"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "holds no question 7" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
