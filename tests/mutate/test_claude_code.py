import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mutate.claude_code import ClaudeCode
from mutate.llm import Answer, Block, Question, Scope, Unavailable, Usage
from mutate.models import Model

QUESTION = Question(
    model=Model("claude-code:claude-opus-5-5", input_usd=4.0, output_usd=20.0),
    system=(Block("You change programs.", cached=True), Block("Briefly.")),
    turns=((Block("program"), Block("change it 🧬")),),
    max_tokens=4000,
)
USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 300,
    "output_tokens": 4,
}
GOOD = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "api_error_status": None,
    "result": "the answer",
    "stop_reason": "end_turn",
    "total_cost_usd": 0.0123,
    "usage": USAGE,
}
"""As version 2.1 prints it, less what nobody reads."""
RECORD = """
import json, os, sys
file = sys.argv[sys.argv.index("--system-prompt-file") + 1]
json.dump({"argv": sys.argv[1:], "env": dict(os.environ), "stdin": sys.stdin.read(),
           "system": open(file, encoding="utf-8").read(), "folder": os.getcwd(),
           "entries": os.listdir(), "leads": os.getpgid(0) == os.getpid()}, open(%r, "w"))
"""


def failed(said: str, status: int | None = None, **more: Any) -> dict[str, Any]:
    error = {"is_error": True, "result": said, "api_error_status": status}
    return {**GOOD, **error, "stop_reason": "stop_sequence", **more}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put a `claude` on the path that runs a program, in Python unless said otherwise."""

    def installed(program: str, runner: str = f"{sys.executable} -IS") -> None:
        file = tmp_path / "bin" / "claude"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!{runner}\n{program}", encoding="utf-8")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(file.parent))

    return installed


@pytest.fixture
def ask(install: Callable[..., None], tmp_path: Path) -> Callable[..., Answer]:
    def asked(printed: Any, code: int = 0, question: Question = QUESTION) -> Answer:
        text = printed if isinstance(printed, str) else json.dumps(printed)
        (tmp_path / "printed").write_text(text)
        install(f"/bin/cat {tmp_path}/printed; exit {code}", "/bin/sh")  # starts at once
        return ClaudeCode(20.0).ask(question)

    return asked


def refused(ask: Callable[[], Answer]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        ask()
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return caught.value


def test_a_good_answer_is_its_result_with_its_price(ask: Callable[..., Answer]) -> None:
    answer = ask(GOOD)
    assert answer.text == "the answer"
    assert answer.complete
    assert answer.usage == Usage(fresh=7, written=20, cached=300, out=4)
    assert answer.cost_usd == 0.0123
    assert answer.duration_s > 0


def test_it_gets_the_question_and_nothing_of_ours(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    install(RECORD % str(record) + f"print({json.dumps(GOOD)!r})")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-fake-0123456789abcdef")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "of a local server")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:8080")
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "the login")
    ClaudeCode(20.0).ask(QUESTION)
    saw = json.loads(record.read_text())
    assert not any(name.startswith("ANTHROPIC_") for name in saw["env"])
    assert saw["env"]["CLAUDE_CODE_OAUTH_TOKEN"] == "the login"
    assert saw["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "4000"
    assert saw["env"]["CLAUDE_CODE_DISABLE_TERMINAL_TITLE"] == "1"
    assert saw["stdin"] == "program\n\nchange it 🧬"
    assert saw["system"] == "You change programs.\n\nBriefly."
    assert saw["entries"] == []
    assert saw["leads"]
    assert not Path(saw["folder"]).parent.exists()
    at = saw["argv"].index("--system-prompt-file")
    assert saw["argv"][:at] == [
        *("-p", "--output-format", "json", "--max-turns", "1"),
        *("--tools", "", "--setting-sources", "", "--strict-mcp-config"),
        *("--no-session-persistence", "--disable-slash-commands"),
    ]
    assert saw["argv"][at + 2 :] == ["--model", "claude-opus-5-5"]


def test_model_and_effort_are_named_only_where_they_are_wanted(
    install: Callable[..., None], tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    install(RECORD % str(record) + f"print({json.dumps(GOOD)!r})")
    ClaudeCode(20.0).ask(replace(QUESTION, model=Model("claude-code"), effort="low"))
    assert not {"--model", "--effort"} & set(json.loads(record.read_text())["argv"])
    ClaudeCode(20.0).ask(replace(QUESTION, model=Model("claude-code", effort=True), effort="low"))
    assert json.loads(record.read_text())["argv"][-2:] == ["--effort", "low"]


def test_several_turns_become_one_text(install: Callable[..., None], tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    install(RECORD % str(record) + f"print({json.dumps(GOOD)!r})")
    turns = ((Block("write"),), (Block("half"),), (Block("go"), Block("on")))
    ClaudeCode(20.0).ask(replace(QUESTION, turns=turns))
    assert json.loads(record.read_text())["stdin"] == (
        "# The user wrote\n\nwrite\n\n# You answered\n\nhalf\n\n"
        "# The user writes now; answer this\n\ngo\n\non"
    )


def test_a_question_of_any_size_and_kind_arrives(
    install: Callable[..., None], tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    install(RECORD % str(record) + f"print({json.dumps(GOOD)!r})")
    long = replace(
        QUESTION, system=(Block("\0s" * 200_000),), turns=((Block("t\udcff" * 200_000),),)
    )
    ClaudeCode(20.0).ask(long)
    saw = json.loads(record.read_text())
    assert saw["system"] == "\0s" * 200_000
    assert saw["stdin"] == "t\ufffd" * 200_000


def test_a_program_that_reads_nothing_may_answer_all_the_same(ask: Callable[..., Answer]) -> None:
    assert ask(GOOD, question=replace(QUESTION, turns=((Block("x" * 10**6),),))).complete


@pytest.mark.parametrize(
    "printed",
    [
        {key: GOOD[key] for key in ("is_error", "result")},
        {**GOOD, "usage": None, "total_cost_usd": None, "stop_reason": None},
        {**GOOD, "usage": [1], "total_cost_usd": "much", "stop_reason": 5},
        {**GOOD, "usage": dict.fromkeys(USAGE, -1), "total_cost_usd": -1},
        {**GOOD, "usage": dict.fromkeys(USAGE, float("nan")), "total_cost_usd": float("nan")},
    ],
)
def test_absurd_or_missing_figures_are_estimated(
    ask: Callable[..., Answer], printed: dict[str, Any]
) -> None:
    answer = ask(printed)
    assert answer.complete
    assert (answer.usage.fresh, answer.usage.out) == (21, 4)  # 55 and 10 bytes
    assert answer.cost_usd == pytest.approx(164e-6)


def test_a_list_of_messages_ends_with_the_result(ask: Callable[..., Answer]) -> None:
    assert ask([{"type": "system"}, {"type": "assistant"}, GOOD]).text == "the answer"


def test_what_an_answer_talks_about_is_no_error(ask: Callable[..., Answer]) -> None:
    text = "rate limit reached\x1b[2J: please run /login; invalid api key \ud800"
    assert ask({**GOOD, "result": text}).text == text[:-1] + "\ufffd"


def test_a_refusal_and_an_answer_cut_for_length_were_charged(ask: Callable[..., Answer]) -> None:
    policy = "API Error: Claude Code is unable to respond to this request, which appears to ..."
    refusal = ask(failed(policy, stop_reason="refusal"), 1)
    assert (refusal.text, refusal.stop_reason, refusal.cost_usd) == ("", "refusal", 0.0123)
    length = "API Error: Claude's response exceeded the 4000 output token maximum. To configure ..."
    cut = ask(failed(length), 1)
    assert (cut.text, cut.stop_reason, cut.usage.out) == ("", "max_tokens", 4)


@pytest.mark.parametrize(
    ("printed", "reason", "scope", "word"),
    [
        (failed("Not logged in · Please run /login"), "not_logged_in", Scope.PROVIDER, "/login"),
        (failed("Invalid API key · Please run /login"), "not_logged_in", Scope.PROVIDER, "/login"),
        (failed("Failed to authenticate. API Error: 401 x", 401), "not_logged_in", Scope.PROVIDER, "/login"),
        (failed("OAuth token has expired"), "not_logged_in", Scope.PROVIDER, "/login"),
        (failed("Credit balance is too low", 400), "no_credit", Scope.PROVIDER, "credit"),
        (failed("Credit balance is too low"), "no_credit", Scope.PROVIDER, "credit"),
        (failed("There's an issue with the selected model (x).", 404), "unknown_model", Scope.MODEL, "--llm"),
        (failed("There's an issue with the selected model (x)."), "unknown_model", Scope.MODEL, "--llm"),
        (failed("Prompt is too long · the request is ~300000 tokens", 400), "bad_request", Scope.CALL, "300000"),
        (failed("API Error: Request rejected (429) · slow", 429), "rate_limited", Scope.CALL, "slow"),
        (failed("You've hit your weekly limit · resets 3pm"), "rate_limited", Scope.CALL, "3pm"),
        (failed("API Error: 529 busy.", 529), "overloaded", Scope.CALL, "busy"),
        (failed("API Error: 500 x.", 500), "server_error", Scope.CALL, "500"),
        (failed("something new"), "failed", Scope.CALL, "something new"),
        (failed(""), "failed", Scope.CALL, "silently"),
        (failed("x" * 10**6), "failed", Scope.CALL, "…"),
        ({"is_error": True, "subtype": "error_max_turns"}, "failed", Scope.CALL, "silently"),
    ],
)  # fmt: skip
def test_an_error_becomes_a_reason_with_its_remedy(
    ask: Callable[..., Answer], printed: Any, reason: str, scope: Scope, word: str
) -> None:
    error = refused(lambda: ask(printed, 1))
    assert (error.reason, error.scope) == (reason, scope)
    assert word in str(error)


def test_the_end_of_a_usage_limit_is_passed_on(ask: Callable[..., Answer]) -> None:
    end = int(time.time()) + 3600
    error = refused(lambda: ask(failed(f"Claude AI usage limit reached|{end}"), 1))
    assert error.reason == "rate_limited"
    assert error.retry_after_s == pytest.approx(3600, abs=30)


@pytest.mark.parametrize(
    ("printed", "code", "reason"),
    [
        ("", 0, "malformed"),
        ("hello", 0, "malformed"),
        ("5", 0, "malformed"),
        ("[]", 0, "malformed"),
        ("{}", 0, "malformed"),
        ("[" * 100_000, 0, "malformed"),
        ('{"result": "cut off', 0, "malformed"),
        ("", 1, "failed"),
        ("Segmentation fault", 139, "failed"),
        ("Please run /login", 1, "not_logged_in"),
    ],
)
def test_what_is_not_its_json_is_no_answer(
    ask: Callable[..., Answer], printed: str, code: int, reason: str
) -> None:
    assert refused(lambda: ask(printed, code)).reason == reason


def test_a_missing_program_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(lambda: ClaudeCode().ask(QUESTION))
    assert (error.reason, error.scope) == ("not_installed", Scope.PROVIDER)
    assert "npm install -g @anthropic-ai/claude-code" in str(error)


def test_a_program_that_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "claude"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(lambda: ClaudeCode().ask(QUESTION)).reason == "not_installed"


def gone(process: int) -> bool:
    """Whether a process ends, and be it as a zombie that nobody waits for, within 5 s."""
    for _ in range(500):
        try:
            os.kill(process, 0)
            stat = Path(f"/proc/{process}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    return False


def test_a_program_that_hangs_is_killed_with_its_children(
    install: Callable[..., None], tmp_path: Path
) -> None:
    note = tmp_path / "child"
    install(
        "import os, time\n"
        "child = os.fork()\n"
        f"if child: open({str(note)!r} + '.new', 'w').write(str(child)); "
        f"os.rename({str(note)!r} + '.new', {str(note)!r})\n"
        "time.sleep(60)"
    )
    error = refused(lambda: ClaudeCode(1.0).ask(QUESTION))
    assert (error.reason, error.scope) == ("timeout", Scope.CALL)
    assert gone(int(note.read_text()))


def test_closing_kills_a_program_that_runs(install: Callable[..., None], tmp_path: Path) -> None:
    note = tmp_path / "begun"
    install(f"import time\nopen({str(note)!r}, 'w').close()\ntime.sleep(60)")
    code = ClaudeCode(60.0)
    closing = threading.Thread(target=lambda: (_wait_for(note), code.close()))
    closing.start()
    error = refused(lambda: code.ask(QUESTION))
    closing.join()
    assert (error.reason, error.scope) == ("stopped", Scope.PROVIDER)


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_a_child_that_keeps_the_output_open_holds_nothing_up(
    install: Callable[..., None], tmp_path: Path
) -> None:
    note = tmp_path / "child"
    install(
        "import os, time\n"
        "child = os.fork()\n"
        "if not child: time.sleep(60)\n"
        f"open({str(note)!r}, 'w').write(str(child)); print({json.dumps(GOOD)!r})"
    )
    assert ClaudeCode(30.0).ask(QUESTION).complete
    os.kill(int(note.read_text()), signal.SIGKILL)  # it lives: nobody has waited for it


def test_a_program_that_prints_without_end_is_killed(install: Callable[..., None]) -> None:
    install("import os\nwhile True: os.write(1, b'x' * 2**20); __import__('time').sleep(0.002)")
    assert refused(lambda: ClaudeCode(20.0).ask(QUESTION)).reason == "malformed"


def test_ten_megabytes_are_too_much(ask: Callable[..., Answer]) -> None:
    assert refused(lambda: ask({**GOOD, "result": "x" * 10**7})).reason == "malformed"


def test_it_does_not_count() -> None:
    assert ClaudeCode().count(QUESTION) is None
