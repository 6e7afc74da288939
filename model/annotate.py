"""Annotated pictures: an image with a box around each word, and the text beside it."""

from collections.abc import Sequence

import cv2
import numpy as np

from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.results import Word

MIN_SIDE_PX = 600  # smaller images are enlarged by a whole factor, so that boxes and text can be seen
MAX_ZOOM = 4
TEXT_HEIGHT_RATIO = 0.8  # of a line
DESCENDER_RATIO = 0.2  # of a line, between its lower edge and the baseline of its text
TEXT_SIZE_RANGE_PX = (8, 300)
PAPER = (255, 255, 255)

# Colours (R, G, B) of the confidences 0, 0.5 and 1; dark enough for text on white.
COLOURS = np.array([(190, 20, 20), (190, 110, 0), (0, 120, 60)], float)


def draw_words(image: Image, words: Sequence[Word], lines: Sequence[Word]) -> Image:
    """Draw words and lines: RGB `(H, 2 W, 3)`, at left the image with the words' boxes, at right the lines' texts.

    `image` is uint8 `(H, W)` or `(H, W, 3)`, polygons are in its pixels; small images are enlarged. Boxes and texts
    have the colour of their confidence: green is sure, red is not.
    """
    zoom = max(1, min(MAX_ZOOM, MIN_SIDE_PX // max(image.shape[:2])))
    height, width = image.shape[:2]
    colours = np.broadcast_to(image.reshape(height, width, -1), (height, width, 3))
    size = (zoom * width, zoom * height)
    picture = np.asarray(cv2.resize(np.ascontiguousarray(colours), size, interpolation=cv2.INTER_NEAREST), np.uint8)
    texts = np.full_like(picture, PAPER)
    thickness = max(1, round(min(size) / 500))
    for word in words:
        corners = np.rint(np.array(word.polygon) * zoom).astype(np.int32)
        cv2.polylines(picture, [corners], True, confidence_colour(word.confidence), thickness, cv2.LINE_AA)
    for line in lines:
        _write_text(texts, line, zoom)
    return np.concatenate([picture, texts], axis=1)


def confidence_colour(confidence: float) -> tuple[int, int, int]:
    """Colour (R, G, B) of a confidence in [0, 1]."""
    red, green, blue = (round(float(np.interp(confidence, (0, 0.5, 1), channel))) for channel in COLOURS.T)
    return red, green, blue


def _write_text(canvas: Image, line: Word, zoom: int) -> None:
    """Write the text of a line where the line is, as high as the line and no wider."""
    if not line.text:
        return
    corners = np.array(line.polygon) * zoom
    height, width = (float(np.linalg.norm(corners[end] - corners[0])) for end in (3, 1))
    smallest, largest = TEXT_SIZE_RANGE_PX
    size = min(max(TEXT_HEIGHT_RATIO * height, smallest), largest)
    font = cv2.FontFace("sans")  # the font of OpenCV itself, which has the letters of the alphabet
    _, _, natural_width, _ = cv2.getTextSize((0, 0), line.text, (0, 0), font, round(size))
    size = max(smallest, min(size, size * width / max(natural_width, 1)))
    left, bottom = float(corners[:, 0].min()), float(corners[:, 1].max())
    origin = round(left), round(bottom - DESCENDER_RATIO * min(height, width))
    cv2.putText(canvas, line.text, origin, confidence_colour(line.confidence), font, round(size))
