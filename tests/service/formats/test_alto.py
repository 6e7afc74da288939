"""ALTO: the structure of its schema, and positions and confidences of words."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from linewise.service.formats.alto import write_alto
from tests.service.formats.samples import ALTO, BOX, PAGES, document_of

# Of ALTO 4.4: what may be in what, and what each must have.
WITHIN = {
    "alto": ["Description", "Layout"],
    "Description": ["MeasurementUnit", "Processing"],
    "MeasurementUnit": [],
    "Processing": ["processingCategory", "processingSoftware"],
    "processingCategory": [],
    "processingSoftware": ["softwareName"],
    "softwareName": [],
    "Layout": ["Page"],
    "Page": ["PrintSpace"],
    "PrintSpace": ["TextBlock"],
    "TextBlock": ["TextLine"],
    "TextLine": ["Shape", "String", "SP"],
    "Shape": ["Polygon"],
    "Polygon": [],
    "String": [],
    "SP": [],
}
HAS = {
    "Processing": {"ID"},
    "Page": {"ID", "PHYSICAL_IMG_NR", "WIDTH", "HEIGHT", "PC"},
    "PrintSpace": BOX,
    "TextBlock": {"ID"} | BOX,
    "TextLine": {"ID", "BASELINE"} | BOX,
    "Polygon": {"POINTS"},
    "String": {"ID", "CONTENT", "WC"} | BOX,
    "SP": BOX,
}


def test_alto_has_the_structure_of_its_schema() -> None:
    root = ET.fromstring(write_alto(document_of(*PAGES)))
    assert root.tag == f"{ALTO}alto"
    for element in root.iter():
        name = element.tag.removeprefix(ALTO)
        inside = [child.tag.removeprefix(ALTO) for child in element]
        assert set(inside) <= set(WITHIN[name]), name
        if name != "TextLine":
            assert inside == sorted(inside, key=WITHIN[name].index), name  # a sequence
        if name in HAS:
            assert set(element.attrib) == HAS[name], name
        for attribute in BOX & set(element.attrib):
            assert int(element.attrib[attribute]) >= 0
    assert [one.text for one in root.iter(f"{ALTO}MeasurementUnit")] == ["pixel"]
    for block in root.iter(f"{ALTO}TextBlock"):
        assert len(block)
    for line in root.iter(f"{ALTO}TextLine"):
        kinds = [child.tag.removeprefix(ALTO) for child in line]
        assert kinds == ["Shape", *["String", "SP"] * (len(kinds) // 2 - 1), "String"]
    identities = [one.get("ID") for one in root.iter() if one.get("ID")]
    assert len(identities) == len(set(identities))


def test_alto_says_what_stands_where_and_how_sure_that_is() -> None:
    root = ET.fromstring(write_alto(document_of(*PAGES)))
    assert [one.get("PHYSICAL_IMG_NR") for one in root.iter(f"{ALTO}Page")] == ["1", "2", "3"]
    strings = list(root.iter(f"{ALTO}String"))
    assert [one.get("CONTENT") for one in strings][:4] == ["Žluťoučký", "<kůň>", "&", '"Straße"']
    first = strings[0]
    assert (first.get("VPOS"), first.get("HEIGHT"), first.get("WC")) == ("30", "24", "0.8200")
    assert int(str(first.get("HPOS"))) == pytest.approx(20, abs=2)
    assert int(str(first.get("WIDTH"))) == pytest.approx(9 * 12, abs=4)
    assert next(root.iter(f"{ALTO}TextLine")).get("BASELINE") == "20.0,49.2 332.0,49.2"
