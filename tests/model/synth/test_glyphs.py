"""Glyphs: word spaces, thin spaces, equal cells and ligatures."""

from random import Random

import numpy as np

from linewise.model.synth import glyphs
from linewise.model.synth.sources.fonts import Face


def test_spaces_in_the_text_are_gaps_in_the_ink(faces: list[Face]) -> None:
    face = next(f for f in faces if not f.monospaced and "a" in f.characters)
    font = glyphs.load_font(face.path, 32)
    apart = glyphs.draw_line(Random(0), font, "in to", glyphs.Typesetting()).mask.max(axis=0)
    together = glyphs.draw_line(Random(0), font, "into", glyphs.Typesetting()).mask.max(axis=0)

    def widest_gap(columns: np.ndarray) -> int:
        return max(len(run) for run in "".join("." if c == 0 else "#" for c in columns).split("#"))

    assert widest_gap(apart) > widest_gap(together) + 2


def test_old_printers_thin_space_is_drawn_but_not_a_character(faces: list[Face]) -> None:
    font = glyphs.load_font(faces[0].path, 32)
    plain = glyphs.draw_line(Random(0), font, "A;", glyphs.Typesetting())
    spaced = glyphs.draw_line(Random(0), font, "A;", glyphs.Typesetting(thin_space=0.3))
    assert spaced.mask.shape[1] >= plain.mask.shape[1] + 6


def test_monospaced_setting_gives_every_character_the_same_cell(faces: list[Face]) -> None:
    face = next(f for f in faces if not f.monospaced and "i" in f.characters)
    font = glyphs.load_font(face.path, 32)
    setting = glyphs.Typesetting(monospaced=True)
    widths = [glyphs.draw_line(Random(0), font, "H" + c * 8 + "H", setting).mask.shape[1] for c in "io"]
    assert abs(widths[0] - widths[1]) <= 1


def test_ligatures_are_drawn_where_a_face_has_them_and_read_as_their_letters(faces: list[Face]) -> None:
    faces_with_ligatures = 0
    for face in Random(3).sample(faces, min(80, len(faces))):
        font = glyphs.load_font(face.path, 32)
        shown = glyphs.apply_ligatures(font, "office flows")
        if shown == "office flows":
            continue
        faces_with_ligatures += 1
        assert not set(shown) & {"\uffff"}
        plain, joined = (
            glyphs.draw_line(Random(0), font, text, glyphs.Typesetting()).mask for text in ("office flows", shown)
        )
        assert 0.6 < joined.shape[1] / plain.shape[1] < 1.3, face.path
    assert faces_with_ligatures, "no face has a ligature"
