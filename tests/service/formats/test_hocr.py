"""hOCR: boxes, confidences and baselines of words and lines."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from linewise.service.formats.hocr import write_hocr
from tests.service.formats.samples import PAGES, classes, document_of


def test_hocr_has_a_box_for_every_word_within_its_page() -> None:
    text = write_hocr(document_of(*PAGES))
    assert text.startswith("<!DOCTYPE html>\n")
    assert [one.get("title") for one in classes(text, "ocr_page")] == [
        f"bbox 0 0 400 300; ppageno {i}" for i in range(3)
    ]
    words = classes(text, "ocrx_word")
    assert [one.text for one in words] == ["Žluťoučký", "<kůň>", "&", '"Straße"', "schräg", "5", "€", "up"]
    for word in words:
        place, _, confidence = str(word.get("title")).partition("; x_wconf ")
        left, top, right, bottom = map(int, place.removeprefix("bbox ").split())
        assert 0 <= left < right <= 400 and 0 <= top < bottom <= 300
        assert 0 <= int(confidence) <= 100
    assert str(words[0].get("title")).endswith("x_wconf 82")  # 0.9 - 0.01 * 8, its weakest letter
    lines = [str(one.get("title")) for one in classes(text, "ocr_line")]
    assert lines[0].endswith("; baseline 0.0000 -5")
    assert f"; baseline {math.tan(math.radians(12)):.4f} " in lines[1]
    assert lines[2].endswith("; textangle 90")
    identities = [one.get("id") for one in ET.fromstring(text.partition("\n")[2]).iter() if one.get("id")]
    assert len(identities) == len(set(identities))
