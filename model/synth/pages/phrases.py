"""Generate short phrases and table cells of pages."""

from random import Random

from linewise.model.synth.sources import corpus, fields
from linewise.model.synth.sources.vocabulary import choose_language, load_vocabulary


def words(random: Random, count: int) -> str:
    """Generate `count` words in one letter case."""
    text = " ".join(load_vocabulary(choose_language(random)).choose(random) for _ in range(count))
    return random.choice((str.upper, corpus.titled, corpus.capitalised, str))(text)


def letterhead(random: Random) -> str:
    """Generate the name, the registration number or the address of a business."""
    return random.choice(
        (
            lambda: words(random, random.randint(1, 4)),
            lambda: words(random, 2) + " " + fields.code(random),
            lambda: random.choice(corpus.RECEIPT_WORDS) + ": " + fields.code(random),
            lambda: f"NO. {random.randint(1, 99)}, " + words(random, 3),
        )
    )()


def count(random: Random) -> str:
    """Generate a count, sometimes negative."""
    return str(random.choice((random.randint(0, 9), random.randint(1, 30), -random.randint(1, 9))))


def flag(random: Random) -> str:
    """Generate a flag of a table column: a tax code, a unit or a mark."""
    return random.choice(("S", "Z", "SR", "ZR", "T", "X", "A", "B", "*", "%", "6%", "0%", "EA", "KG", "x", "@"))


# Generators of table cells. Most of them write one to three characters, as counts, rates and flags have.
CELL_WRITERS = (fields.number, fields.number, count, count, flag)
