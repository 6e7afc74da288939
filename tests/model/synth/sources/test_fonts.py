"""Fonts: the characters and the families of faces."""

from pathlib import Path
from random import Random

from PIL import ImageFont

from linewise.model.synth.sources import corpus
from linewise.model.synth.sources.fonts import Face, by_family


def test_faces_draw_the_characters_that_they_list(faces: list[Face]) -> None:
    for face in Random(0).sample(faces, min(20, len(faces))):
        font = ImageFont.truetype(face.path, 30)
        for character in Random(1).sample(face.characters, 5):
            assert font.getmask(character).getbbox() is not None, (face.path, character)
        assert " " not in face.characters


def test_a_face_that_draws_capitals_for_small_letters_does_not_list_these(faces: list[Face]) -> None:
    for face in faces:
        if "a" not in face.characters:
            assert corpus.fit_to_characters("Total", face.characters) in ("TOTAL", None)


def test_whole_families_are_held_out(faces: list[Face]) -> None:
    for family in by_family(faces).values():
        assert len({face.held_out for face in family}) == 1


def test_small_capitals_are_detected(faces: list[Face]) -> None:
    by_file = {Path(face.path).stem: face for face in faces}
    for name, expected in {"DejaVuSans": False, "DejaVuSerif-Bold": False, "Go-Smallcaps": True}.items():
        if name in by_file:
            assert by_file[name].small_caps == expected, name
    assert sum(face.small_caps for face in faces) < 0.1 * len(faces)
