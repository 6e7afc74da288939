"""What is written: words, numbers, codes and lines, as people print them."""

import bisect
import itertools
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from linewise.model.network.charset import Charset

# Languages of wordfreq with their share of the words; English leads, as in signs and receipts.
LANGUAGES = {
    "en": 40, "fr": 9, "de": 9, "es": 9, "cs": 8, "da": 5, "it": 4, "pt": 4, "nl": 3, "pl": 4, "sv": 2,
    "nb": 1, "fi": 2, "hu": 3, "ro": 2, "lt": 1, "lv": 1, "sl": 1, "tr": 2, "sk": 1, "ca": 1, "is": 1,
}  # fmt: skip
WORDS_PER_LANGUAGE = 40_000
# Frequency to this power: with 1, "the" fills every line; with 0, rare words do.
TEMPERING = 0.55

RECEIPT_WORDS = (
    "TOTAL,SUBTOTAL,Sub Total,CASH,CHANGE,TAX INVOICE,INVOICE,Invoice No,RECEIPT,Receipt No.,QTY,Qty,"
    "Description,DESC/ITEM,AMOUNT,Amount,PRICE,Price,DISCOUNT,Disc,ROUNDING,Rounding Adj,GST,GST 6%,SST,VAT,"
    "TAX,TEL,Tel,FAX,Fax,DATE,Date,TIME,Time,CASHIER,Cashier,TABLE,Table,ITEM,Item(s),THANK YOU,"
    "Thank You,PLEASE COME AGAIN,GOODS SOLD ARE NOT RETURNABLE,MEMBER,CARD,VISA,MASTERCARD,BALANCE,"
    "PAID,UNIT PRICE,U/P,NO.,No,DOC NO,REG NO,CO. REG,SDN BHD,LTD,INC,GMBH,SUMMARY,TAX SUMMARY,NETT TOTAL,"
    "Total Sales,INCL. OF GST,Excl. GST,RM,SR,ZR,PCS,EA,KG,PKT,BOX,STORE,SHOP,RESTAURANT,COUNTER,TERMINAL,"
    "OPERATOR,SALES,TRANS,Take Away,Dine In,JALAN,TAMAN,ROAD,STREET,KUALA LUMPUR,SELANGOR,JOHOR BAHRU,"
    "PERNIAGAAN,SYARIKAT,KEDAI,TRADING,ENTERPRISE,HARDWARE,STATIONERY,MINI MARKET,BOOK,FOOD,AUTO,"
    "Total Quantity,Total Amount,Amount Due,Payment,Refund,Approval Code,BATCH,Ref,Customer,Salesperson"
).split(",")
CURRENCIES = ("$", "$", "$", "$", "$", "€", "€", "£", "£", "¥", "RM", "USD ", "EUR ", "Kč ", "kr ", "Rs ", "zł ")
CLOSERS = (*8 * ".", *10 * ",", *2 * ";:!?", "...", "...", "....", ".....", "…", ".-")
OLD_ACCENTS = {"a": "á", "e": "é", "o": "ó", "u": "ú"}  # Spanish words of one letter, as they were printed until 1911
QUOTES = (("“", "”"), ('"', '"'), ("„", "“"), ("«", "»"), ("‘", "’"), ("(", ")"), ("[", "]"), ("'", "'"))


@dataclass(frozen=True)
class Vocabulary:
    """Words of one language with cumulative tempered weights, for drawing in O(log n)."""

    words: tuple[str, ...]
    cumulative: tuple[float, ...]

    def draw(self, random: Random) -> str:
        """One word in lower case."""
        return self.words[bisect.bisect_left(self.cumulative, random.random() * self.cumulative[-1])]

    def uniform(self, random: Random) -> str:
        """One word, rare ones as likely as frequent ones."""
        return random.choice(self.words)


@cache
def vocabulary(language: str) -> Vocabulary:
    """The words of a language that the alphabet can write."""
    from wordfreq import get_frequency_dict

    charset, frequencies = Charset(), get_frequency_dict(language)
    words = sorted(
        (w for w in frequencies if len(w) < 24 and not charset.unsupported(w)), key=lambda w: (-frequencies[w], w)
    )[:WORDS_PER_LANGUAGE]
    weights = [max(frequencies[w], 1e-8) ** TEMPERING for w in words]
    return Vocabulary(tuple(words), tuple(itertools.accumulate(weights)))


def language(random: Random) -> str:
    """A language, by its share."""
    return random.choices(list(LANGUAGES), weights=list(LANGUAGES.values()))[0]


def capitalised(word: str) -> str:
    """The word with its first letter as a capital, the rest untouched."""
    return word[:1].upper() + word[1:]


def titled(text: str) -> str:
    """The text with a capital at the beginning of each word."""
    return " ".join(map(capitalised, text.split(" ")))


def scene_word(random: Random) -> str:
    """What a sign, a poster or a label carries: mostly one word, in any case, sometimes a number."""
    kind = random.random()
    if kind < 0.08:
        return number(random)
    if kind < 0.11:
        return code(random)
    if kind < 0.14:
        return noise_string(random)
    if kind < 0.16:
        return address(random)
    if kind < 0.175:
        return random.choice(string.ascii_letters + string.digits + 8 * "&" + "$%#@+!?")
    chosen = vocabulary("en" if random.random() < 0.88 else language(random))
    # Short words are what signs are full of, and tempering alone would make them rare.
    if kind < 0.28:
        word = random.choice(chosen.words[:250])
    else:
        word = chosen.draw(random) if random.random() < 0.7 else chosen.uniform(random)
    if random.random() < 0.05:
        word = word[: random.randint(1, max(1, len(word) - 1))]
    word = _cased(random, word, upper=0.47, title=0.28)
    if random.random() < 0.06:
        word += random.choice(("!", ".", ",", "?", ":", "'s", "’s", "®", "™", "-", "%"))
    if random.random() < 0.05:  # as titles, names and calls are set off
        left, right = random.choice(
            (*QUOTES, ("·", "·"), ("*", "*"), ("-", "-"), ("¡", "!"), ("¿", "?"), ("#", ""), ("@", ""))
        )
        word = left + word + random.choice((right, right, ""))
    if random.random() < 0.05:
        word += " " + _cased(random, vocabulary("en").draw(random), upper=0.5, title=0.3)
    return word


def _cased(random: Random, word: str, upper: float, title: float) -> str:
    choice = random.random()
    if choice < upper:
        return word.upper()
    if choice < upper + title:
        return capitalised(word)
    if choice > 0.985:
        return "".join(c.upper() if random.random() < 0.5 else c for c in word)
    return word


def prose(random: Random, characters: int, tongue: str | None = None) -> str:
    """A stretch of a book or a letter of about `characters` characters, cut where a line would be."""
    tongue = tongue or language(random)
    words = vocabulary(tongue)
    line, start = [], random.random() < 0.3
    length = 0
    nouns = 0.35 if tongue == "de" else 0.08
    while length < characters:
        word = words.draw(random) if random.random() < 0.8 else words.uniform(random)
        choice = random.random()
        if tongue == "es" and word in OLD_ACCENTS and random.random() < 0.4:
            word = OLD_ACCENTS[word]
        if start or choice < nouns:
            word = capitalised(word)
        elif choice > 0.985:
            word = word.upper()
        start = False
        if tongue in ("fr", "it", "ca") and random.random() < 0.12:
            word = random.choice(("l’", "d’", "qu’", "n’", "s’", "c’", "j’", "m’")) + word
        elif random.random() < 0.06:
            word = random.choice((number, date, ordinal, ordinal, small_number, code))(random)
        elif random.random() < 0.02:
            word += "-" + words.draw(random)
        if tongue == "es" and random.random() < 0.06:
            word = random.choice("¡¿") + capitalised(word)
        word, start = _punctuated(random, word)
        line.append(word)
        length += len(word) + 1
    if random.random() < 0.25 and line[-1].isalpha() and len(line[-1]) > 5:
        line[-1] = line[-1][: random.randint(2, len(line[-1]) - 2)] + "-"
    return " ".join(line)


def _punctuated(random: Random, word: str) -> tuple[str, bool]:
    """The word with what follows it, and whether a sentence begins after it."""
    choice = random.random()
    if choice < 0.035:
        left, right = random.choice(QUOTES)
        return left + word + right, False
    if choice < 0.055:
        return random.choice(QUOTES)[0] + word, False
    if choice < 0.075:
        return word + random.choice((",", ".", "")) + random.choice(QUOTES)[1], False
    if choice < 0.085:
        return random.choice((word, "")) + random.choice(("—", "–")) + random.choice(("", word)), False
    if choice < 0.09:
        return word + random.choice((" — ", " – ", " - ", " & ", " / ")) + word[:3], False
    if choice < 0.21:
        closer = random.choice(CLOSERS)
        return word + closer, closer[0] in ".!?…"
    return word, False


def digits(random: Random, low: int, high: int) -> str:
    """A string of `low` to `high` digits."""
    return "".join(random.choices(string.digits, k=random.randint(low, high)))


def number(random: Random) -> str:
    """A plain, grouped, decimal or percent number, or a price."""
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
    """A count or an age, one to three digits, round ones more often."""
    return str(random.choice((random.randint(1, 99), 10 * random.randint(1, 99), random.randint(100, 999))))


def page_number(random: Random) -> str:
    """What stands alone at a page's head or foot."""
    number = str(random.randint(1, 900))
    return random.choice((number, f"— {number} —", f"- {number} -", f"[{number}]", f"({number})", f"{number}."))


def heading(random: Random) -> str:
    """A chapter's or a section's name."""
    roman = random.choice(("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIV", "XX"))
    chapter = random.choice(("CHAPTER", "Chapter", "CHAPITRE", "Capítulo", "BOOK", "Kapitel", "PART", "§"))
    return f"{chapter} {random.choice((roman, str(random.randint(1, 40))))}{random.choice(('.', '', ':'))}"


def ordinal(random: Random) -> str:
    """A year, a page or a Roman number."""
    return random.choice(
        (str(random.randint(1500, 2030)), f"p. {random.randint(1, 900)}", random.choice("IVX") * random.randint(1, 3) + ".",
         f"({random.randint(1, 40)})", f"{random.randint(1, 31)}.", random.choice("½¼¾"), f"{random.randint(1, 12)}½")
    )  # fmt: skip


def date(random: Random) -> str:
    """A date or a time of day in one of many styles."""
    day, month, year = random.randint(1, 31), random.randint(1, 12), random.randint(1800, 2030)
    hour, minute, second = random.randint(0, 23), random.randint(0, 59), random.randint(0, 59)
    name = random.choice(
        ("Jan", "Feb", "March", "Apr", "May", "June", "Jul", "August", "Sep", "Oct", "Nov", "December")
    )
    return random.choice(
        (f"{day:02}/{month:02}/{year}", f"{day}.{month}.{year}", f"{day}. {month}. {year}", f"{year}-{month:02}-{day:02}",
         f"{day:02}-{month:02}-{year % 100:02}", f"{name} {day}, {year}", f"{day} {name} {year}",
         f"{day:02}-{name.upper()}-{year}", f"{hour:02}:{minute:02}", f"{hour:02}:{minute:02}:{second:02}",
         f"{hour % 12 or 12}:{minute:02} {random.choice(('AM', 'PM', 'am', 'pm'))}", f"{hour}.{minute:02}")
    )  # fmt: skip


def code(random: Random) -> str:
    """A serial, plate, article or phone number."""
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
    """An e-mail or web address."""
    words = vocabulary("en")
    name, host = (
        words.draw(random),
        words.draw(random) + random.choice((".com", ".org", ".net", ".de", ".fr", ".com.my", ".io")),
    )
    return random.choice(
        (
            f"www.{host}",
            host,
            f"http://{host}/{name}",
            f"https://www.{host}",
            f"{name}@{host}",
            f"{name}.{words.draw(random)}@{host}",
        )
    ).replace("’", "")


@cache
def _rare() -> str:
    return "".join(c for c in Charset().alphabet if not c.isalnum() or ord(c) > 126)


def noise_string(random: Random) -> str:
    """Characters in no order, so that the language model inside the LSTM never gets too sure of itself."""
    alphabet = random.choice(
        (string.ascii_uppercase, string.digits, string.ascii_lowercase, _rare(), string.printable[:94])
    )
    return "".join(random.choices(alphabet, k=random.randint(1, 8))).strip()


def receipt_line(random: Random) -> str:
    """One line, or one cell, of a receipt or an invoice."""
    kind = random.random()
    if kind < 0.16:
        return number(random)
    if kind < 0.24:
        return date(random) + (" " + date(random) if random.random() < 0.2 else "")
    if kind < 0.36:
        text = random.choice(RECEIPT_WORDS)
        return text + random.choice(("", ":", " :", ": ", ".", "")).rstrip()
    if kind < 0.56:
        field: Callable[[Random], str] = random.choice((number, date, code, code))
        return random.choice(RECEIPT_WORDS) + random.choice((": ", " : ", ":", " ", " #", ". ")) + field(random)
    if kind < 0.6:
        return code(random)
    if kind < 0.63:
        return address(random)
    words = vocabulary("en" if random.random() < 0.8 else language(random))
    chosen = [
        random.choice(RECEIPT_WORDS) if random.random() < 0.25 else words.draw(random)
        for _ in range(random.randint(1, 5))
    ]
    text = " ".join(chosen)
    case = random.random()
    text = text.upper() if case < 0.6 else titled(text) if case < 0.85 else capitalised(text)
    if random.random() < 0.12:
        text = f"({text})"
    if random.random() < 0.25:
        text += " " + number(random)
    if random.random() < 0.15:
        text = f"{random.randint(1, 20)} {random.choice(('x', 'X', '@', ''))} {text}".replace("  ", " ")
    return text + random.choice(("", "", "", "", ".", ",", ":", "*", " -"))


def restricted(text: str, characters: str) -> str | None:
    """`text` as a face with these `characters` can write it: as it is, in capitals, or None."""
    have = set(characters) | {" "}
    for candidate in (text, text.upper()):
        if all(c in have for c in candidate):
            return candidate
    return None


def joined(parts: Sequence[str]) -> str:
    """Parts with single spaces between and none around."""
    return " ".join(" ".join(parts).split())
