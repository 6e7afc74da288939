"""Font faces found on this machine, each checked by its cmap and by rendering it.

Sources are whatever packages put on disk: Debian's fonts-* families, the wheel `canvas-fonts`, and
npm's `@fontsource` families under a folder named in the environment variable LINEWISE_FONTS.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from linewise.model.network.charset import Charset

SUFFIXES = {".ttf", ".otf", ".woff"}
PROBE_SIZE = 40
LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"

# One family in this many is kept out of training and makes the held-out-font set.
HELD_OUT_SHARE = 40

# Cuts of one design are one family, and so are Noto's faces for scripts that share their Latin.
STYLE_WORDS = re.compile(
    r"\b(thin|hairline|extra|ultra|light|semi|demi|bold|black|heavy|medium|regular|book|italic|oblique|"
    r"condensed|expanded|narrow|wide|roman|text|display|caption|slanted|[0-9]+(pt)?)\b",
    re.IGNORECASE,
)
UNUSABLE = re.compile(
    r"symbol|icon|awesome|emoji|dingbat|barcode|music|braille|math|blank|redact|lastresort|keyboard|"
    r"signwriting|cuneiform|hieroglyph|circos|stmary|wasy|chess|runes|ornament|cyklop outline|charted|guides|arrows",
    re.IGNORECASE,
)
TYPEWRITER = re.compile(
    r"courier|special ?elite|typewriter|typoscript|tlwg ?typ|typist|cousine|nimbus ?mono|freemono|cursor|"
    r"liberation ?mono|prestige|cutive|lmmono|latin modern mono|cmuntt|cmu typewriter|anonymous|kingthings|"
    r"compagnon|thabit|fixed|pica|old type",
    re.IGNORECASE,
)
BOOK = re.compile(
    r"fell|baskerv|caslon|didot|bodoni|old ?standard|century|garamond|tinos|liberation ?serif|junicode|"
    r"goudy|gfs|libertine|cmu ?serif|computer modern|latin ?modern ?roman|lmroman|termes|schola|pagella|"
    r"bonum|nimbus ?roman|c059|p052|bookman|crimson|cardo|vollkorn|gelasio|essays|isabella|linden|fanwood|"
    r"oldstyle|romande|accanthis|baskervald|prociono|lustria|spectral|cormorant|gentium|charis|playfair|"
    r"freeserif|times|times|clm|clara|modern ?antiqua|scotch|clarendon|rokkitt|sanchez|abril|prata|rufina|"
    r"unna|volkhov|ovo|poly\b|martel|lora|merriweather|alegreya|eb ?gara|caladea|cambria|dejavu ?serif|utopia|"
    r"charter|noto ?serif|source ?serif|pt ?serif|libre|artemisia|elstob|joscelyn|amiri",
    re.IGNORECASE,
)
RECEIPT = re.compile(
    r"mono|vt323|terminus|pixel|dot|ocr|hack|inconsolata|fixed|typewriter|courier|cousine|spleen|proggy|"
    r"3270|share ?tech|jetbrains|iosevka|space|hermit|consol|code|term|unscii|glass|sans",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Face:
    """One usable font file: where it is, its family, and the characters that it draws well.

    `small_caps` faces draw small letters as small capitals.
    """

    path: str
    family: str
    characters: str
    monospaced: bool
    small_caps: bool = False

    @property
    def name(self) -> str:
        """Family and file name, for matching against the kinds of face above."""
        return f"{self.family} {Path(self.path).stem}"

    @property
    def held_out(self) -> bool:
        """Whether the family belongs to the held-out-font set; by a hash, so the same everywhere."""
        digest = hashlib.sha256(self.family.encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0


def font_files(extra: Sequence[Path] = ()) -> list[Path]:
    """Every font file under the known folders, sorted; `extra` folders are searched as well."""
    folders = [Path("/usr/share/fonts"), Path("/usr/share/texmf/fonts/opentype"), Path.home() / ".fonts"]
    folders += list(extra)
    folders += [Path(part) for part in os.environ.get("LINEWISE_FONTS", "").split(os.pathsep) if part]
    wheel = importlib.util.find_spec("canvas_fonts")
    if wheel is not None and wheel.origin:
        folders.append(Path(wheel.origin).parent)
    found = {path for folder in folders if folder.is_dir() for path in folder.rglob("*")}
    return sorted(p for p in found if p.suffix.lower() in SUFFIXES and not _other_subset(p))


def _other_subset(path: Path) -> bool:
    """Web fonts come split by script and cut; of those only plain and bold Latin files are wanted."""
    return path.suffix == ".woff" and not re.search(r"-latin-(400|700)-(normal|italic)\.woff$", path.name)


def inspect(path: Path, alphabet: str) -> Face | None:
    """The face in a file, or None where it cannot be used for Latin text.

    A character counts as drawn when the cmap has it, its picture is not empty, and no other letter
    or digit of the same file has the very same picture.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            cmap = font.getBestCmap() or {}
            name = font["name"].getBestFamilyName() or path.stem
        face = ImageFont.truetype(str(path), PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)
    except (TTLibError, OSError, KeyError, AttributeError, ValueError, AssertionError):
        return None
    if UNUSABLE.search(name) or UNUSABLE.search(path.stem):
        return None
    pictures: dict[str, bytes] = {}
    try:
        for character in alphabet:
            if ord(character) in cmap and not character.isspace():
                mask, _ = face.getmask2(character, mode="L")
                picture = np.asarray(mask, np.uint8)
                if picture.size and picture.max() > 100:
                    pictures[character] = bytes(str(mask.size), "ascii") + picture.tobytes()
    except (OSError, ValueError):
        return None
    drawn = _without_doubles(pictures)
    if sum(c in drawn for c in UPPER + DIGITS) < 34 or not _plausible(face):
        return None
    family = STYLE_WORDS.sub("", name)
    family = re.sub(r"^(noto (?:sans|serif)).*", r"\1", re.sub(r"\s+", " ", family).strip().lower())
    advances = {round(face.getlength(c)) for c in "iWm0A"}
    return Face(
        str(path), family or name.lower(), "".join(sorted(drawn)), len(advances) == 1, _is_small_caps(face, drawn)
    )


def _without_doubles(pictures: dict[str, bytes]) -> set[str]:
    """Characters whose picture is their own; capitals win over the small letters they stand in for."""
    drawn = set(pictures)
    doubled = [c for c in LOWER if c in pictures and pictures[c] == pictures.get(c.upper())]
    if len(doubled) > 3:  # a few small letters are enlarged-alike by design, most of them never
        drawn = {c for c in drawn if not (c.isalpha() and c.islower())}
    basic = [c for c in UPPER + LOWER + DIGITS if c in drawn]
    for index, character in enumerate(basic):
        same = [other for other in basic[index + 1 :] if pictures[other] == pictures[character]]
        if len(same) > 2:  # one picture for many characters: a font of placeholders
            return set()
    # An accented letter that looks like its bare one, or like any other, was never drawn.
    owners: dict[bytes, int] = {}
    for character in drawn:
        owners[pictures[character]] = owners.get(pictures[character], 0) + 1
    return {c for c in drawn if ord(c) < 128 or owners[pictures[c]] == 1}


def _is_small_caps(face: ImageFont.FreeTypeFont, drawn: set[str]) -> bool:
    """Whether the small letters have the shapes of their capitals, whatever their size."""
    if not set("aegrbdAEGRBD") <= drawn:
        return False
    likeness = sorted(_alike(_shape(face, letter), _shape(face, letter.upper())) for letter in "aegrbd")
    return likeness[2] > 0.72


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Correlation of two shapes, in [-1, 1]; 0 where one of them is a full box."""
    spread = one.std() * other.std()
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread else 0.0


def _shape(face: ImageFont.FreeTypeFont, letter: str) -> NDArray[np.float64]:
    """The letter's ink, cut out and brought to one size, as a vector."""
    mask, _ = face.getmask2(letter, mode="L")
    picture = np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])
    left, top, width, height = cv2.boundingRect(picture)
    cut = picture[top : top + height, left : left + width]
    return cv2.resize(cut, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()


def _plausible(face: ImageFont.FreeTypeFont) -> bool:
    """Whether capitals have a letter's size and darkness, which ornaments and outlines of boxes lack."""
    heights, inks = [], []
    for character in "HEOASR":
        mask, _ = face.getmask2(character, mode="L")
        picture = np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])
        if not picture.size:
            return False
        heights.append(picture.shape[0])
        inks.append(float(picture.mean()) / 255)
    return min(heights) >= 8 and max(heights) <= 90 and 0.05 < sum(inks) / len(inks) < 0.85


def _inspect_many(paths: Sequence[str], alphabet: str) -> list[dict[str, object] | None]:
    return [asdict(face) if (face := inspect(Path(p), alphabet)) else None for p in paths]


def find_faces(extra: Sequence[Path] = (), workers: int | None = None) -> list[Face]:
    """All usable faces of this machine, sorted by path.

    What was found is cached under the user's cache folder, since looking at 2000 files takes minutes.

    Raises:
        RuntimeError: no usable font is installed; the message names packages that have some.
    """
    alphabet = Charset().alphabet
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "linewise" / "faces.json"
    stamp = hashlib.sha256((alphabet + Path(__file__).read_text("utf-8")).encode()).hexdigest()[:16]
    known: dict[str, dict[str, object] | None] = {}
    if cache.is_file():
        stored = json.loads(cache.read_text("utf-8"))
        known = stored["faces"] if stored["stamp"] == stamp else {}
    files = [str(path) for path in font_files(extra)]
    new = [path for path in files if path not in known]
    if new:
        chunks = [new[i : i + 32] for i in range(0, len(new), 32)]
        with ProcessPoolExecutor(workers) as pool:
            for chunk, result in zip(chunks, pool.map(_inspect_many, chunks, [alphabet] * len(chunks)), strict=True):
                known.update(zip(chunk, result, strict=True))
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({"stamp": stamp, "faces": known}, ensure_ascii=False), "utf-8")
    faces = [_face(entry) for path in files if (entry := known[path]) is not None]
    if not faces:
        raise RuntimeError("no usable font found: install Debian's fonts-dejavu or fonts-liberation, or canvas-fonts")
    return faces


def _face(entry: dict[str, object]) -> Face:
    return Face(
        str(entry["path"]), str(entry["family"]), str(entry["characters"]), bool(entry["monospaced"]),
        bool(entry["small_caps"]),
    )  # fmt: skip


def by_family(faces: Iterable[Face]) -> dict[str, list[Face]]:
    """Faces grouped by family, so that a family of 40 cuts is drawn as often as one of a single cut."""
    families: dict[str, list[Face]] = {}
    for face in faces:
        families.setdefault(face.family, []).append(face)
    return families
