"""Generate short texts that are no prose: numbers, dates, codes, addresses and headings."""

import string
from functools import cache
from random import Random

from linewise.model.network.charset import Charset
from linewise.model.synth.sources.vocabulary import load_vocabulary

CURRENCIES = ("$", "$", "$", "$", "$", "€", "€", "£", "£", "¥", "RM", "USD ", "EUR ", "Kč ", "kr ", "Rs ", "zł ")


def digits(random: Random, low: int, high: int) -> str:
    """Generate a string of `low` to `high` digits."""
    return "".join(random.choices(string.digits, k=random.randint(low, high)))


def number(random: Random) -> str:
    """Generate a plain, grouped, decimal or percent number, or a price."""
    kind = random.random()
    if kind < 0.35:
        return digits(random, 1, 4)
    if kind < 0.5:
        return f"{random.randrange(10 ** random.randint(1, 6)):,}"
    if kind < 0.8:
        value = f"{random.randrange(10 ** random.randint(1, 4))}{random.choice('.....,')}{digits(random, 2, 2)}"
        return (random.choice(CURRENCIES) if random.random() < 0.45 else "") + value
    if kind < 0.87:
        return f"{digits(random, 1, 2)}{random.choice(('%', '.5%', '°', '°C', 'x', 'kg', 'cm', ' ml', 'g', 'th'))}"
    if kind < 0.92:
        return random.choice(("-", "+", "#", "No.", "№", "§ ", "±")) + digits(random, 1, 5)
    return digits(random, 5, 13)


def small_number(random: Random) -> str:
    """Generate a count or an age of one to three digits, often a round one."""
    return str(random.choice((random.randint(1, 99), 10 * random.randint(1, 99), random.randint(100, 999))))


def page_number(random: Random) -> str:
    """Generate a page number as it stands at the head or foot of a page."""
    number = str(random.randint(1, 900))
    return random.choice((number, f"— {number} —", f"- {number} -", f"[{number}]", f"({number})", f"{number}."))


def heading(random: Random) -> str:
    """Generate the heading of a chapter or a section."""
    roman = random.choice(("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIV", "XX"))
    chapter = random.choice(("CHAPTER", "Chapter", "CHAPITRE", "Capítulo", "BOOK", "Kapitel", "PART", "§"))
    return f"{chapter} {random.choice((roman, str(random.randint(1, 40))))}{random.choice(('.', '', ':'))}"


def ordinal(random: Random) -> str:
    """Generate a year, a page reference, a Roman numeral, an ordinal or a fraction."""
    return random.choice(
        (
            str(random.randint(1500, 2030)),
            f"p. {random.randint(1, 900)}",
            random.choice("IVX") * random.randint(1, 3) + ".",
            f"({random.randint(1, 40)})",
            f"{random.randint(1, 31)}.",
            random.choice("½¼¾"),
            f"{random.randint(1, 12)}½",
        )
    )


def date(random: Random) -> str:
    """Generate a date or a time of day in one of twelve styles."""
    day, month, year = random.randint(1, 31), random.randint(1, 12), random.randint(1800, 2030)
    hour, minute, second = random.randint(0, 23), random.randint(0, 59), random.randint(0, 59)
    name = random.choice(
        ("Jan", "Feb", "March", "Apr", "May", "June", "Jul", "August", "Sep", "Oct", "Nov", "December")
    )
    return random.choice(
        (
            f"{day:02}/{month:02}/{year}",
            f"{day}.{month}.{year}",
            f"{day}. {month}. {year}",
            f"{year}-{month:02}-{day:02}",
            f"{day:02}-{month:02}-{year % 100:02}",
            f"{name} {day}, {year}",
            f"{day} {name} {year}",
            f"{day:02}-{name.upper()}-{year}",
            f"{hour:02}:{minute:02}",
            f"{hour:02}:{minute:02}:{second:02}",
            f"{hour % 12 or 12}:{minute:02} {random.choice(('AM', 'PM', 'am', 'pm'))}",
            f"{hour}.{minute:02}",
        )
    )


def code(random: Random) -> str:
    """Generate a serial, plate, article or phone number."""
    kind = random.random()
    if kind < 0.3:
        pattern = random.choice(
            ("00-00000000", "+00 000 000000", "(000) 000-0000", "000-0000", "0000 000 000", "00-000 0000")
        )
        return "".join(random.choice(string.digits) if c == "0" else c for c in pattern)
    if kind < 0.7:
        pattern = random.choice(
            ("AA000000", "AA 0000", "A-00000", "000000-A", "AAA-0000", "A0A 0A0", "AA0000000000", "A00")
        )
        table = {"A": string.ascii_uppercase, "0": string.digits}
        return "".join(random.choice(table[c]) if c in table else c for c in pattern)
    alphabet = string.ascii_uppercase + string.digits + ("-/._" if random.random() < 0.3 else "")
    return "".join(random.choices(alphabet, k=random.randint(2, 10)))


def address(random: Random) -> str:
    """Generate an e-mail or web address."""
    words = load_vocabulary("en")
    name, host = (
        words.choose(random),
        words.choose(random) + random.choice((".com", ".org", ".net", ".de", ".fr", ".com.my", ".io")),
    )
    return random.choice(
        (
            f"www.{host}",
            host,
            f"http://{host}/{name}",
            f"https://www.{host}",
            f"{name}@{host}",
            f"{name}.{words.choose(random)}@{host}",
        )
    ).replace("’", "")


@cache
def _rare_characters() -> str:
    """List the characters of the alphabet that are not ASCII letters or digits."""
    return "".join(c for c in Charset().alphabet if not c.isalnum() or ord(c) > 126)


def noise_string(random: Random) -> str:
    """Generate random characters, so that the LSTM does not rely on its implicit language model."""
    alphabet = random.choice(
        (string.ascii_uppercase, string.digits, string.ascii_lowercase, _rare_characters(), string.printable[:94])
    )
    return "".join(random.choices(alphabet, k=random.randint(1, 8))).strip()
