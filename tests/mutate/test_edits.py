from pathlib import Path

import pytest

from mutate.edits import Edit, EditError, Reply, apply_reply, read_reply
from mutate.replies import NO_HYPOTHESIS

SEED = Path("seeds/transformer.py").read_text(encoding="utf-8")
PROGRAM = """\
import prepare

LR = 0.1
WIDTH = 64


class Model:
    def first(self, x):
        y = x + 1
        return y

    def second(self, x):
        y = x + 2
        return y


run = prepare.start()
run.deliver(Model())
"""
WHOLE = PROGRAM.replace("0.1", "0.2")
FENCED = f"Hypothesis: faster\nCategory: optimizer\n\n```python\n{WHOLE}```\n"
NESTED = WHOLE.replace("import prepare\n", '"""Run it:\n\n```{}\npython train.py\n```\n"""\nimport prepare\n')  # fmt: skip


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


BLOCK = block("LR = 0.1\n", "LR = 0.2\n")


def result(answer: str, source: str = PROGRAM) -> str:
    return apply_reply(source, read_reply(answer))


def refusal(answer: str, source: str = PROGRAM) -> str:
    with pytest.raises(EditError) as caught:
        result(answer, source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("head", "hypothesis", "category"),
    [
        ("Hypothesis: it helps\nCategory: optimizer\n", "it helps", "optimizer"),
        ("**Hypothesis:** it helps\n**Category:** Learning Rate\n", "it helps", "learning rate"),
        ("**Hypothesis**: *it helps*\n- Category: `lr`\n", "it helps", "lr"),
        (
            "### 1. HYPOTHESIS: **it helps**\n2. category : lr/schedule!\n",
            "it helps",
            "lr schedule",
        ),
        ("Sure!\r\nHypothesis: a\r\nHypothesis: b\r\nCategory: x\r\n", "a", "x"),
        ("Hypothesis: a\x1b[31m\x00\u202e\ud800 b\t c\nCategory: \x00\n", "a [31m b c", "other"),
        ("Hypothesis:\nCategory: ** \n", NO_HYPOTHESIS, "other"),
        ("My hypothesis: is long\n", NO_HYPOTHESIS, "other"),
        ("", NO_HYPOTHESIS, "other"),
        (f"Hypothesis: {'a' * 900}\nCategory: {'b' * 900}\n", "a" * 300, "b" * 40),
    ],
)
@pytest.mark.parametrize("form", [BLOCK, f"```\n{WHOLE}```\n"])
def test_the_head_is_one_clean_line_each(
    head: str, hypothesis: str, category: str, form: str
) -> None:
    for answer in (head + form, form + head):
        reply = read_reply(answer)
        assert (reply.hypothesis, reply.category) == (hypothesis, category)


def test_a_head_within_the_program_is_the_programs() -> None:
    text = "# Hypothesis: mine\n# Category: mine\n"
    for form in (block("LR = 0.1\n", text), f"```\n{text}{WHOLE}```\n"):
        assert read_reply(form).hypothesis == NO_HYPOTHESIS
        assert read_reply(form).category == "other"


@pytest.mark.parametrize(
    "answer",
    [
        BLOCK,
        f"Here it is.\n\n{BLOCK}\nDone. I set it to\n=======\nmore\n",
        f"```\n{BLOCK}```\n",
        f"````python\n{BLOCK}````\n```\nunclosed\n",
        BLOCK.replace("\n", "\r\n"),
        BLOCK.replace("\n", "\r"),
        BLOCK.replace("SEARCH", "search  ").replace(" REPLACE", "Replace\t"),
        BLOCK.replace("<" * 7, "<" * 5).replace("=" * 7, "=" * 9 + " ").replace(">" * 7, ">" * 6),
        BLOCK.removesuffix("\n"),
        "".join(f"  {line}\n" for line in BLOCK.splitlines()),
        f"```python\n{PROGRAM}```\n{BLOCK}",
        f"{BLOCK}\nThe whole:\n```python\n{PROGRAM.replace('0.1', '0.3')}```\n",
    ],
)
def test_a_block_is_found_however_it_is_wrapped(answer: str) -> None:
    assert result(answer) == WHOLE


@pytest.mark.parametrize(
    "answer",
    [
        FENCED,
        FENCED.replace("```", "~~~"),
        FENCED.replace("```", "````"),
        FENCED.replace("```python", "```"),
        FENCED.replace("\n", "\r\n"),
        FENCED.removesuffix("\n"),
        FENCED + "\nRun it with\n```bash\npython train.py\n```\n",
        "First\n```\nLR = 0.2\n```\nthen\n" + FENCED,
        FENCED + "```\n",
        FENCED.replace("```", "  ```"),
        "1. so:\n" + "".join(f"   {line}".rstrip() + "\n" for line in FENCED.splitlines()),
    ],
)
def test_a_whole_program_is_the_longest_code_fence(answer: str) -> None:
    assert result(answer) == WHOLE


@pytest.mark.parametrize("language", ["", "bash"])
def test_fence_lines_within_a_program_do_not_cut_it(language: str) -> None:
    program = NESTED.format(language)
    assert result(f"```python\n{program}```\n") == program
    assert result(f"```python\n{program}```\nand\n```\nx = 1\n```\n") == program
    assert result(f"````python\n{program}````\n") == program


def test_a_program_in_another_language_needs_a_fence_that_no_other_is_like() -> None:
    kernel = "__global__ void f() {\n}\n"
    assert result(f"```cuda\n{kernel}```\n", "other") == kernel.removesuffix("\n")
    assert "only fence" in refusal(f"```cuda\n{kernel}```\n```\nmake\n```\n", "other\n")
    kernel += "/*\n```\nmake\n```\n*/\n"
    assert "only fence" in refusal(f"```cuda\n{kernel}```\n", "other\n")
    assert result(f"````cuda\n{kernel}````\n```\nmake\n```\n", "other\n") == kernel


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "neither"),
        ("I cannot help with that.", "neither"),
        (WHOLE, "neither"),
        ("```\n\n```\n", "neither"),
        ("Use `<<<<<<< SEARCH` blocks.", "neither"),
        (BLOCK[:-20], "block 1, line 1 of the answer: no >>>>>>> REPLACE"),
        (BLOCK + "\n" + BLOCK[:20], "block 2, line 7 of the answer: no >>>>>>> REPLACE"),
        (BLOCK + "<<<<<<< SEA", "block 2, line 6 of the answer: '<<<<<<< SEA' stands"),
        (BLOCK.replace("=======\n", ""), "block 1, line 1 of the answer: no ======= line"),
        (BLOCK.replace("=======\n", "=======\na\n=======\n"), "2 ======= lines (3, 5)"),
        (BLOCK.replace("<<<<<<< SEARCH\n", ""), "'>>>>>>> REPLACE' stands where <<<<<<< SEARCH"),
        (BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK, "'<<<<<<< SEARCH' stands where >>>>>>>"),
        (BLOCK + BLOCK.replace(">>>>>>> REPLACE", ">>>>>>> UPDATED"), "block 2, line 6"),
        (BLOCK + BLOCK.replace("<<<<<<<", "<<<"), "'<<< SEARCH' stands where <<<<<<< SEARCH"),
        (BLOCK + BLOCK.replace("<<<<<<<", "<" * 10), "'<<<<<<<<<< SEARCH' stands"),
        (BLOCK * 101, "too many: give the whole program"),
        (FENCED.removesuffix("```\n"), "line 4 of the answer is never closed"),
        (FENCED[:-60], "never closed"),
        (FENCED + "```\nand then", "never closed"),
        (f"```\n{NESTED.format('')}", "ends, it holds no program"),
        (f"```\n{NESTED.format('bash')}", "fence of four backticks"),
        (f"```\n{NESTED.format('')}def\n```\n", "fence of four backticks"),
        ("```\nx = 1\n```\n" * 40, "80 code fences are too many"),
        (f"```\n{WHOLE}def\n```\n```\nx = 1\n```\n", "holds no Python program, and others"),
        (BLOCK + FENCED.replace("LR", ">>>>>>> REPLACE\nLR"), "block 2"),
    ],
)  # fmt: skip
def test_an_answer_that_is_malformed_or_cut_short_is_refused(answer: str, reason: str) -> None:
    assert reason in refusal(answer)


@pytest.mark.parametrize(
    ("search", "replace", "old", "new"),
    [
        ("LR = 0.1\n", "", "LR = 0.1\n", ""),
        ("LR = 0.1\n", "\n", "LR = 0.1\n", "\n"),
        ("        y = x + 1\n        return y\n", "        return x\n", "y = x + 1\n        return y", "return x"),
        ("LR = 0.1  \nWIDTH = 64\n", "LR = 1\n", "LR = 0.1\nWIDTH = 64\n", "LR = 1\n"),
        ("WIDTH = 64\n \n\nclass Model:\n", "class Model:\n", "WIDTH = 64\n\n\nclass", "class"),
        ("y = x + 1\nreturn y\n", "if x:\n\n    return x\n", "y = x + 1\n        return y", "if x:\n\n            return x"),
        ("    y = x + 1\n    return y\n", "return x\n", "        y = x + 1\n        return y", "    return x"),
        ("            y = x + 1\n", "            y = x\n                z\n", "y = x + 1\n", "y = x\n            z\n"),
        ("            y = x + 1\n", "        if x:\n            y = x\n", "    y = x + 1\n", "if x:\n        y = x\n"),
        ("\t\ty = x + 1\n", "\t\tif x:\n\t\t\ty = x\n", "y = x + 1\n", "if x:\n        \ty = x\n"),
        ("import prepare\n", "import prepare\nimport torch\n", "import prepare\n", "import prepare\nimport torch\n"),
        ("run.deliver(Model())\n", "x\n", "run.deliver(Model())", "x"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("final", [True, False])
def test_a_block_replaces_the_one_place_that_it_matches(
    search: str, replace: str, old: str, new: str, newline: str, final: bool
) -> None:
    assert PROGRAM.count(old) == 1
    source, expected = PROGRAM, PROGRAM.replace(old, new)
    if not final:
        source, expected = source.removesuffix("\n"), expected.removesuffix("\n")
    reply = Reply("", "", (Edit(search, replace),))
    assert apply_reply(source.replace("\n", newline), reply) == expected.replace("\n", newline)


def test_an_exact_match_goes_before_a_tolerant_one() -> None:
    answer = block("x = 1\n", "x = 2\n")
    assert result(answer, "x = 1 \nx = 1\n  x = 1\n") == "x = 1 \nx = 2\n  x = 1\n"
    assert result(answer, "x = 1 \n  x = 1\n") == "x = 2\n  x = 1\n"


def test_all_blocks_apply_to_the_program_as_it_was() -> None:
    swap = block("WIDTH = 64\n", "LR = 0.1\n") + "and\n" + block("LR = 0.1\n", "WIDTH = 64\n")
    assert result(swap) == PROGRAM.replace("LR = 0.1\nWIDTH = 64", "WIDTH = 64\nLR = 0.1")
    assert "block 2: its SEARCH is not in" in refusal(BLOCK + block("LR = 0.2\n", "LR = 0.3\n"))


def test_a_whole_program_takes_the_line_ends_of_the_source() -> None:
    source = PROGRAM.removesuffix("\n").replace("\n", "\r\n")
    assert result(FENCED, source) == WHOLE.removesuffix("\n").replace("\n", "\r\n")


def test_dividers_in_an_indented_docstring_are_its_own() -> None:
    text = '    """Head\n    =======\n    """\n'
    assert result(block("class Model:\n", f"class Model:\n{text}")).count(text) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (block("", "x\n"), "block 1: its SEARCH is empty"),
        (block("\n  \n", "x\n"), "block 1: its SEARCH is empty"),
        (block("        return y\n", "x\n"), "occurs 2 times in the program, from lines 10, 14: add"),
        (block("return y\n", "x\n"), "occurs 2 times"),
        (block("return y  \n", "x\n"), "occurs 2 times"),
        (block("prepare\n", "x\n"), "whole lines"),
        (block("LR = 0.1\n\nWIDTH = 64\n", "x\n"), "lines 2 to 5 of the program:\n\nLR = 0.1\nWIDTH = 64\n"),
        (block("    y = x + 1\n        return y\n", "x\n"), "lines 9 to 10"),
        (block("\t\ty = x + 1\n", "  z\n"), "REPLACE cannot be moved along"),
        (block("            y = x + 1\n", "  z\n"), "REPLACE cannot be moved along"),
        (block("optimizer.step()\n", "x\n"), "Nothing in the program resembles it"),
        (BLOCK + BLOCK, "blocks 1 and 2 both change line 3"),
        (block("WIDTH = 64\n\n", "") + block("LR = 0.1\nWIDTH = 64\n", ""), "blocks 1 and 2 both change line 4"),
        (block("LR = 0.1\n", "LR = 0.1\n"), "changes nothing"),
        (f"```\n{PROGRAM}```\n", "changes nothing"),
        (f"```\n{WHOLE}# ... rest unchanged ...\n```\n", "leaves lines out behind '# ... rest unch"),
        (BLOCK + block("WIDTH = 64\n", "WIDTH = 1\n# ...\n"), "block 2: its REPLACE leaves lines out"),
    ],
)  # fmt: skip
def test_a_block_without_its_one_place_is_refused(answer: str, reason: str) -> None:
    assert reason in refusal(answer)


@pytest.mark.parametrize(
    "comment",
    [
        "...",
        "    ...",
        "# ... rest unchanged ...",
        "# (unchanged)",
        "# ...",
        "    # … existing code …",
        "# rest of the code remains the same",
        "# The rest of the file is unchanged.",
        "# (rest of the class ...)",
        "# ... (omitted for brevity)",
        "# everything else stays as before",
        "        ...  # same as before",
        "// ... remaining kernels",
    ],
)
def test_a_comment_that_stands_for_lines_is_refused_unless_the_program_has_it(comment: str) -> None:
    answer = f"```\n{WHOLE}{comment}\n```\n"
    assert "leaves lines out" in refusal(answer)
    assert result(answer, PROGRAM + comment + "\n") == f"{WHOLE}{comment}\n"


@pytest.mark.parametrize(
    "line",
    [
        "# the rest of the channels are unchanged by the rotation",
        "# keep the same seed as before the restart",
        "# remaining share of the budget",
        "# 1, 2, ..., the same",
        "x = 1  # unchanged",
        "x = ...",
        "# existing keys: a, b",
    ],
)
def test_an_ordinary_comment_stands_for_nothing(line: str) -> None:
    assert result(f"```\n{WHOLE}{line}\n```\n") == f"{WHOLE}{line}\n"


def test_a_message_names_the_faults_of_several_blocks_and_stays_short() -> None:
    far = block("".join(f"        x = x + {n}\n" for n in range(3_000)), "x\n")
    told = refusal(BLOCK + far * 5, PROGRAM + f"        x = x + {'1' * 90_000}\n" * 200)
    assert told.count("its SEARCH is not in") == 3
    assert "block 4: " in told
    assert len(told) < 3 * 2_300


def test_the_nearest_passage_can_be_copied_as_it_stands() -> None:
    lines = SEED.splitlines()
    passage = next(n for n, line in enumerate(lines) if "def build_optimizer" in line)
    wrong = "\n".join(lines[passage : passage + 12]).replace("known", "seen").replace("fused", "f")
    told = refusal(block(wrong + "\n", "x\n"), SEED)
    assert f"lines {passage + 1} to {passage + 12} of the program:\n" in told
    quoted = told.split("of the program:\n")[1] + "\n"
    assert result(block(quoted, "x\n"), SEED) == SEED.replace(quoted, "x\n")


def test_a_passage_is_quoted_within_the_program_and_in_bounds() -> None:
    told = refusal(block("# new\nimport prepared\nimport prepare\n\nLR = 1\n", "x\n"))
    assert told.endswith("lines 1 to 3 of the program:\nimport prepare\n\nLR = 0.1")
    told = refusal(block(SEED.replace("0.5", "0.6"), "x\n"), SEED)
    assert "lines 1 to 4" in told
    assert len(told) < 2_300
    told = refusal(block("x = 1\n" * 60, "x\n"), "x = 2\n" * 60)
    assert told.count("x = 2") == 40
    told = refusal(block("a = 1  # b\n", "x\n"), "a = 1  # \ud800\n")
    assert told.endswith("a = 1  # ?")


def test_a_reply_holds_one_form() -> None:
    for edits, whole in (((), None), ((Edit("a", "b"),), "c")):
        with pytest.raises(ValueError, match="either edits or a whole program"):
            Reply("", "", edits, whole)


MEGABYTE = 1 << 20
HUGE = [
    "<" * MEGABYTE,
    "`" * MEGABYTE,
    " " * MEGABYTE,
    "\n" * MEGABYTE,
    "=======\n" * (MEGABYTE // 8),
    "```\n" * (MEGABYTE // 4),
    "<<<<<<< SEARCH\n" * (MEGABYTE // 15),
    BLOCK * (MEGABYTE // len(BLOCK)),
    block("x = 1\n" * (MEGABYTE // 6), "x\n"),
    block(" " * MEGABYTE + "\n", "x\n"),
    block("a b " * (MEGABYTE // 4) + "\n", "x\n"),
    block("LR = 0.1\n", "# " + "." * MEGABYTE + "\n") * 2,
    block("LR = 0.1\n", f"# {'...x' * 99}\n" * (MEGABYTE // 400)),
    block("x = 1\n" * 1_000 + "x = 2\n", "x\n") * 80,
    f"Hypothesis: {'**' * (MEGABYTE // 2)}\n{BLOCK}",
    f"Hypothesis: {'*a' * (MEGABYTE // 2)}\n{BLOCK}",
    f"```\nx = {'-' * MEGABYTE}1\n```\n",
    f"```\nx = {'(' * MEGABYTE}\n```\n",
    "```\n" + "x = 1\n" * 25_000 + "x = '''\n" + "```\n" * 40,
]


@pytest.mark.parametrize("answer", HUGE, ids=[repr(answer[:12]) for answer in HUGE])
def test_a_huge_answer_is_read_or_refused(answer: str) -> None:
    source = PROGRAM + "x = 1\n" * 2_000
    try:
        result(answer, source)
    except EditError as error:
        assert len(str(error)) < 8_000
