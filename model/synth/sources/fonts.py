"""Usable font faces of this machine, each checked by its cmap and by rendering it.

Sources are Debian's fonts-* packages, the wheel `canvas-fonts`, and the folders in the environment variable
LINEWISE_FONTS, such as npm's `@fontsource` packages.
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

FONT_SUFFIXES = {".ttf", ".otf", ".woff"}
PROBE_SIZE_PX = 40
LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"

# One family in this many is kept out of training and belongs to the held-out-font set.
HELD_OUT_MODULUS = 40

# Removed from family names, so that the cuts of one design are one family.
STYLE_WORDS = re.compile(
    r"\b(thin|hairline|extra|ultra|light|semi|demi|bold|black|heavy|medium|regular|book|italic|oblique|"
    r"condensed|expanded|narrow|wide|roman|text|display|caption|slanted|[0-9]+(pt)?)\b",
    re.IGNORECASE,
)
UNUSABLE_FONT_NAMES = re.compile(
    r"symbol|icon|awesome|emoji|dingbat|barcode|music|braille|math|blank|redact|lastresort|keyboard|"
    r"signwriting|cuneiform|hieroglyph|circos|stmary|wasy|chess|runes|ornament|cyklop outline|charted|guides|arrows",
    re.IGNORECASE,
)
TYPEWRITER_FONT_NAMES = re.compile(
    r"courier|special ?elite|typewriter|typoscript|tlwg ?typ|typist|cousine|nimbus ?mono|freemono|cursor|"
    r"liberation ?mono|prestige|cutive|lmmono|latin modern mono|cmuntt|cmu typewriter|anonymous|kingthings|"
    r"compagnon|thabit|fixed|pica|old type",
    re.IGNORECASE,
)
BOOK_FONT_NAMES = re.compile(
    r"fell|baskerv|caslon|didot|bodoni|old ?standard|century|garamond|tinos|liberation ?serif|junicode|"
    r"goudy|gfs|libertine|cmu ?serif|computer modern|latin ?modern ?roman|lmroman|termes|schola|pagella|"
    r"bonum|nimbus ?roman|c059|p052|bookman|crimson|cardo|vollkorn|gelasio|essays|isabella|linden|fanwood|"
    r"oldstyle|romande|accanthis|baskervald|prociono|lustria|spectral|cormorant|gentium|charis|playfair|"
    r"freeserif|times|times|clm|clara|modern ?antiqua|scotch|clarendon|rokkitt|sanchez|abril|prata|rufina|"
    r"unna|volkhov|ovo|poly\b|martel|lora|merriweather|alegreya|eb ?gara|caladea|cambria|dejavu ?serif|utopia|"
    r"charter|noto ?serif|source ?serif|pt ?serif|libre|artemisia|elstob|joscelyn|amiri",
    re.IGNORECASE,
)
RECEIPT_FONT_NAMES = re.compile(
    r"mono|vt323|terminus|pixel|dot|ocr|hack|inconsolata|fixed|typewriter|courier|cousine|spleen|proggy|"
    r"3270|share ?tech|jetbrains|iosevka|space|hermit|consol|code|term|unscii|glass|sans",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Face:
    """A usable font file: its path, its family, and the characters that it draws well.

    A face with `small_caps` draws lower-case letters as small capitals.
    """

    path: str
    family: str
    characters: str
    monospaced: bool
    small_caps: bool = False

    @property
    def name(self) -> str:
        """Family and file name, matched against the patterns above."""
        return f"{self.family} {Path(self.path).stem}"

    @property
    def held_out(self) -> bool:
        """Whether the family belongs to the held-out-font set; its hash decides, on every machine alike."""
        digest = hashlib.sha256(self.family.encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_MODULUS == 0


def font_files(extra: Sequence[Path] = ()) -> list[Path]:
    """List the font files under the known folders and the `extra` ones, sorted by path."""
    folders = [Path("/usr/share/fonts"), Path("/usr/share/texmf/fonts/opentype"), Path.home() / ".fonts"]
    folders += list(extra)
    folders += [Path(part) for part in os.environ.get("LINEWISE_FONTS", "").split(os.pathsep) if part]
    wheel = importlib.util.find_spec("canvas_fonts")
    if wheel is not None and wheel.origin:
        folders.append(Path(wheel.origin).parent)
    paths = {path for folder in folders if folder.is_dir() for path in folder.rglob("*")}
    return sorted(p for p in paths if p.suffix.lower() in FONT_SUFFIXES and not _is_unused_subset(p))


def _is_unused_subset(path: Path) -> bool:
    """Whether the file is a web font of another script or cut than plain or bold Latin."""
    return path.suffix == ".woff" and not re.search(r"-latin-(400|700)-(normal|italic)\.woff$", path.name)


def inspect_font(path: Path, alphabet: str) -> Face | None:
    """Inspect a font file; None where it is unusable for Latin text.

    A character counts as drawn when the cmap has it, its bitmap is not empty, and no other letter or digit of the
    file has the same bitmap.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            cmap = font.getBestCmap() or {}
            name = font["name"].getBestFamilyName() or path.stem
        face = ImageFont.truetype(str(path), PROBE_SIZE_PX, layout_engine=ImageFont.Layout.BASIC)
    except (TTLibError, OSError, KeyError, AttributeError, ValueError, AssertionError):
        return None
    if UNUSABLE_FONT_NAMES.search(name) or UNUSABLE_FONT_NAMES.search(path.stem):
        return None
    bitmaps: dict[str, bytes] = {}
    try:
        for character in alphabet:
            if ord(character) in cmap and not character.isspace():
                mask, _ = face.getmask2(character, mode="L")
                bitmap = np.asarray(mask, np.uint8)
                if bitmap.size and bitmap.max() > 100:
                    bitmaps[character] = bytes(str(mask.size), "ascii") + bitmap.tobytes()
    except (OSError, ValueError):
        return None
    drawn = _distinct_characters(bitmaps)
    if sum(c in drawn for c in UPPER + DIGITS) < 34 or not _has_letter_shapes(face):
        return None
    family = STYLE_WORDS.sub("", name)
    family = re.sub(r"^(noto (?:sans|serif)).*", r"\1", re.sub(r"\s+", " ", family).strip().lower())
    advances = {round(face.getlength(c)) for c in "iWm0A"}
    return Face(
        str(path), family or name.lower(), "".join(sorted(drawn)), len(advances) == 1, _is_small_caps(face, drawn)
    )


def _distinct_characters(bitmaps: dict[str, bytes]) -> set[str]:
    """Select the characters with a bitmap of their own; capitals win over equal lower-case letters."""
    drawn = set(bitmaps)
    doubled = [c for c in LOWER if c in bitmaps and bitmaps[c] == bitmaps.get(c.upper())]
    if len(doubled) > 3:  # a few lower-case letters may equal their capitals by design
        drawn = {c for c in drawn if not (c.isalpha() and c.islower())}
    basic = [c for c in UPPER + LOWER + DIGITS if c in drawn]
    for index, character in enumerate(basic):
        same = [other for other in basic[index + 1 :] if bitmaps[other] == bitmaps[character]]
        if len(same) > 2:  # one bitmap for many characters: a font of placeholders
            return set()
    # An accented letter with the bitmap of another character was never drawn.
    owners: dict[bytes, int] = {}
    for character in drawn:
        owners[bitmaps[character]] = owners.get(bitmaps[character], 0) + 1
    return {c for c in drawn if ord(c) < 128 or owners[bitmaps[c]] == 1}


def _is_small_caps(face: ImageFont.FreeTypeFont, drawn: set[str]) -> bool:
    """Whether lower-case letters have the shapes of their capitals at any size."""
    if not set("aegrbdAEGRBD") <= drawn:
        return False
    correlations = sorted(_correlation(_shape(face, letter), _shape(face, letter.upper())) for letter in "aegrbd")
    return correlations[2] > 0.72


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Correlate two shapes, in [-1, 1]; 0 where either is constant."""
    scale = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / scale) if scale else 0.0


def _shape(face: ImageFont.FreeTypeFont, letter: str) -> NDArray[np.float64]:
    """Crop the letter's ink and scale it to 24 x 24 pixels, float64 `(576,)`."""
    mask, _ = face.getmask2(letter, mode="L")
    bitmap = np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])
    left, top, width, height = cv2.boundingRect(bitmap)
    cut = bitmap[top : top + height, left : left + width]
    return cv2.resize(cut, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()


def _has_letter_shapes(face: ImageFont.FreeTypeFont) -> bool:
    """Whether capitals have the height and ink density of letters, which ornaments and empty boxes lack."""
    heights, densities = [], []
    for character in "HEOASR":
        mask, _ = face.getmask2(character, mode="L")
        bitmap = np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])
        if not bitmap.size:
            return False
        heights.append(bitmap.shape[0])
        densities.append(float(bitmap.mean()) / 255)
    return min(heights) >= 8 and max(heights) <= 90 and 0.05 < sum(densities) / len(densities) < 0.85


def _inspect_fonts(paths: Sequence[str], alphabet: str) -> list[dict[str, object] | None]:
    """Inspect font files in a worker process; faces are returned as dictionaries for the cache."""
    return [asdict(face) if (face := inspect_font(Path(p), alphabet)) else None for p in paths]


def find_faces(extra: Sequence[Path] = (), workers: int | None = None) -> list[Face]:
    """Find all usable faces of this machine, sorted by path.

    Results are cached under the user's cache folder, since inspecting 2000 files takes minutes. A change of this
    file or of the alphabet invalidates the cache.

    Raises:
        RuntimeError: no usable font is installed; the message names packages with fonts.
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
            for chunk, result in zip(chunks, pool.map(_inspect_fonts, chunks, [alphabet] * len(chunks)), strict=True):
                known.update(zip(chunk, result, strict=True))
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({"stamp": stamp, "faces": known}, ensure_ascii=False), "utf-8")
    faces = [_face(entry) for path in files if (entry := known[path]) is not None]
    if not faces:
        raise RuntimeError(
            "no usable font is installed: install Debian's fonts-dejavu or fonts-liberation, or canvas-fonts"
        )
    return faces


def _face(entry: dict[str, object]) -> Face:
    """Restore a face from its entry in the cache."""
    return Face(
        str(entry["path"]), str(entry["family"]), str(entry["characters"]), bool(entry["monospaced"]),
        bool(entry["small_caps"]),
    )  # fmt: skip


def by_family(faces: Iterable[Face]) -> dict[str, list[Face]]:
    """Group faces by family.

    Choosing a family first gives a family of 40 cuts no more weight than a family of one.
    """
    families: dict[str, list[Face]] = {}
    for face in faces:
        families.setdefault(face.family, []).append(face)
    return families


def family_pools(families: dict[str, list[Face]]) -> dict[str, dict[str, list[Face]]]:
    """Select the families for each kind of print: any, book, typewriter, receipt.

    A pool without a matching family has all families.
    """
    patterns = {"book": BOOK_FONT_NAMES, "typewriter": TYPEWRITER_FONT_NAMES, "receipt": RECEIPT_FONT_NAMES}
    pools = {"any": families}
    for pool, pattern in patterns.items():
        pools[pool] = {name: faces for name, faces in families.items() if pattern.search(faces[0].name)} or families
    return pools
