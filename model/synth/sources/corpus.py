"""Generate texts of scenes, books and receipts as people print them."""

import string
from collections.abc import Callable
from random import Random

from linewise.model.synth.sources.fields import (
    address,
    code,
    date,
    noise_string,
    number,
    ordinal,
    small_number,
)
from linewise.model.synth.sources.vocabulary import choose_language, load_vocabulary

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
CLOSING_MARKS = (*8 * ".", *10 * ",", *2 * ";:!?", "...", "...", "....", ".....", "…", ".-")
OLD_SPANISH_ACCENTS = {"a": "á", "e": "é", "o": "ó", "u": "ú"}  # Spanish one-letter words carried an accent until 1911
QUOTES = (("“", "”"), ('"', '"'), ("„", "“"), ("«", "»"), ("‘", "’"), ("(", ")"), ("[", "]"), ("'", "'"))
SCENE_MARKS = (("·", "·"), ("*", "*"), ("-", "-"), ("¡", "!"), ("¿", "?"), ("#", ""), ("@", ""))


def capitalised(word: str) -> str:
    """Return the word with a capital first letter and the rest unchanged."""
    return word[:1].upper() + word[1:]


def titled(text: str) -> str:
    """Return the text with a capital at the beginning of each word."""
    return " ".join(map(capitalised, text.split(" ")))


def scene_word(random: Random) -> str:
    """Generate the text of a sign, a poster or a label: mostly one word in any case, sometimes a number."""
    kind = random.random()
    if kind < 0.175:
        return _scene_field(random, kind)
    # Signs are full of short words, which tempered frequencies alone make rare.
    word = _cased(random, _plain_scene_word(random, frequent=kind < 0.28), upper=0.47, title=0.28)
    if random.random() < 0.06:
        word += random.choice(("!", ".", ",", "?", ":", "'s", "’s", "®", "™", "-", "%"))
    if random.random() < 0.05:  # as titles, names and calls are set off
        left, right = random.choice((*QUOTES, *SCENE_MARKS))
        word = left + word + random.choice((right, right, ""))
    if random.random() < 0.05:
        word += " " + _cased(random, load_vocabulary("en").choose(random), upper=0.5, title=0.3)
    return word


def _scene_field(random: Random, kind: float) -> str:
    """Generate a number, code, noise, address or single character.

    `kind` in [0, 0.175) selects among them.
    """
    if kind < 0.08:
        return number(random)
    if kind < 0.11:
        return code(random)
    if kind < 0.14:
        return noise_string(random)
    if kind < 0.16:
        return address(random)
    return random.choice(string.ascii_letters + string.digits + 8 * "&" + "$%#@+!?")


def _plain_scene_word(random: Random, frequent: bool) -> str:
    """Choose a word in lower case, sometimes cut short.

    With `frequent`, it is among the 250 most frequent words.
    """
    vocabulary = load_vocabulary("en" if random.random() < 0.88 else choose_language(random))
    if frequent:
        word = random.choice(vocabulary.words[:250])
    else:
        word = vocabulary.choose(random) if random.random() < 0.7 else vocabulary.choose_uniform(random)
    if random.random() < 0.05:
        word = word[: random.randint(1, max(1, len(word) - 1))]
    return word


def _cased(random: Random, word: str, upper: float, title: float) -> str:
    """Change the letter case with the probabilities of upper case and of a capital first letter."""
    choice = random.random()
    if choice < upper:
        return word.upper()
    if choice < upper + title:
        return capitalised(word)
    if choice > 0.985:
        return "".join(c.upper() if random.random() < 0.5 else c for c in word)
    return word


def prose(random: Random, characters: int, language: str | None = None) -> str:
    """Generate a line of a book or a letter of about `characters` characters.

    `language` is a code of `LANGUAGE_WEIGHTS`; None chooses one.
    """
    language = language or choose_language(random)
    words = load_vocabulary(language)
    line, start = [], random.random() < 0.3
    length = 0
    nouns = 0.35 if language == "de" else 0.08
    while length < characters:
        word = words.choose(random) if random.random() < 0.8 else words.choose_uniform(random)
        choice = random.random()
        if language == "es" and word in OLD_SPANISH_ACCENTS and random.random() < 0.4:
            word = OLD_SPANISH_ACCENTS[word]
        if start or choice < nouns:
            word = capitalised(word)
        elif choice > 0.985:
            word = word.upper()
        start = False
        if language in ("fr", "it", "ca") and random.random() < 0.12:
            word = random.choice(("l’", "d’", "qu’", "n’", "s’", "c’", "j’", "m’")) + word
        elif random.random() < 0.06:
            word = random.choice((number, date, ordinal, ordinal, small_number, code))(random)
        elif random.random() < 0.02:
            word += "-" + words.choose(random)
        if language == "es" and random.random() < 0.06:
            word = random.choice("¡¿") + capitalised(word)
        word, start = _punctuated(random, word)
        line.append(word)
        length += len(word) + 1
    if random.random() < 0.25 and line[-1].isalpha() and len(line[-1]) > 5:
        line[-1] = line[-1][: random.randint(2, len(line[-1]) - 2)] + "-"
    return " ".join(line)


def _punctuated(random: Random, word: str) -> tuple[str, bool]:
    """Add punctuation to a word; the returned flag says whether a sentence begins after it."""
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
        closer = random.choice(CLOSING_MARKS)
        return word + closer, closer[0] in ".!?…"
    return word, False


def receipt_line(random: Random) -> str:
    """Generate one line, or one cell, of a receipt or an invoice."""
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
    words = load_vocabulary("en" if random.random() < 0.8 else choose_language(random))
    chosen = [
        random.choice(RECEIPT_WORDS) if random.random() < 0.25 else words.choose(random)
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


def fit_to_characters(text: str, characters: str) -> str | None:
    """Return `text` as it can be written with `characters`: unchanged, in capitals, or None."""
    available = set(characters) | {" "}
    for candidate in (text, text.upper()):
        if all(c in available for c in candidate):
            return candidate
    return None


def collapse_spaces(text: str) -> str:
    """Return `text` with single spaces between its words and none around them."""
    return " ".join(text.split())
