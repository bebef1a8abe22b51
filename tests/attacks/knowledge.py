"""Programs that bring knowledge along; the static checks must refuse them."""

import random

RANDOM = random.Random(5)
PAD = "import prepare\n"


def bits(count: int) -> str:
    """Return `count` bits that nothing can compress, as hexadecimal digits."""
    return f"{RANDOM.getrandbits(count):0{count // 4}x}"


def lines(count: int, line: str, length: int = 64) -> str:
    """Return lines in which N is the line's number and X are digits that nothing can compress."""
    return PAD + "\n".join(
        line.replace("N", str(n)).replace("X", bits(4 * length)) for n in range(count)
    )


def chosen(count: int, words: str, between: str) -> str:
    """Return words drawn at random."""
    return between.join(RANDOM.choices(words.split(), k=count))


REFUSED = {
    "one text": PAD + f"text = '{bits(4 * 3000)}'",
    "many texts": lines(300, "xN = 'X'"),
    "many bytes": lines(300, "xN = b'X'"),
    "a text in an f-string": PAD + f"text = f'{bits(4 * 3000)}{{1}}'",
    "a text joined from neighbours": PAD + "text = (" + "\n".join(f"'{bits(256)}'" for _ in range(60)) + ")",
    "a table": PAD + "table = [" + ",".join(str(RANDOM.random()) for _ in range(300)) + "]",
    "a table of tables": PAD + "table = [" + ",".join("[1, 2, 3]" for _ in range(100)) + "]",
    "a table in calls": PAD + "\n".join(f"f({RANDOM.random()}, {RANDOM.random()})" for _ in range(1200)),
    "a dictionary": PAD + "table = {" + ",".join(f"{n}: {n}" for n in range(200)) + "}",
    "one number": PAD + f"number = 0x{bits(4 * 2000)}",
    "a comment": lines(200, "# X"),
    "a docstring": PAD + f'def f():\n    """{bits(4 * 9000)}"""',
    "names": lines(400, "aX = 1", 60),
    "a name longer than any": PAD + f"a{bits(4 * 100)} = 1",
    "blanks at the ends of lines": PAD + "\n".join("x = 1" + chosen(40, "s t", "").replace("s", " ").replace("t", "\t") for _ in range(100)),
    "a program larger than allowed": PAD + "x = 1\n" * 30_000,
    "numbers of 256 bits": lines(1500, "xN = 0xX"),
    "the order of short names": PAD + chosen(60_000, "a b c d e f g h i j k l m n o p", ";"),
    "signs before numbers": PAD + "\n".join(f"x = {chosen(50, '+ - ~', '')}1" for _ in range(1900)),
    "operators between names": PAD + "\n".join(f"x{chosen(1, '+ - * / % @ & | ^', '')}x" for _ in range(30_000)),
    "blanks inside lines": PAD + "\n".join("x ="+ chosen(60, "s t", "").replace("s", " ").replace("t", "\t") + "x" for _ in range(1800)),
}  # fmt: skip
