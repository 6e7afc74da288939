"""docling reads a PDF through a service and prints the Markdown: docling_driver.py URL PDF KEY. Needs docling's Python.

The layout model, whose weights docling downloads, is replaced by one that takes each page for one region of text; the
stage for tables is off.
"""

# mypy: ignore-errors

from __future__ import annotations

import sys
from typing import ClassVar

import docling.models.plugins.defaults
from docling.datamodel.base_models import Cluster, InputFormat, LayoutPrediction
from docling.datamodel.pipeline_options import BaseLayoutOptions, KserveV2OcrOptions, PdfPipelineOptions
from docling.document_converter import DocumentConverter, PdfFormatOption
from docling.models import factories
from docling.models.base_layout_model import BaseLayoutModel
from docling_core.types.doc import BoundingBox, DocItemLabel


class WholePageOptions(BaseLayoutOptions):
    """Options of the replaced layout model."""

    kind: ClassVar[str] = "whole_page"


class WholePage(BaseLayoutModel):
    """Layout of one region of text on each page."""

    def __init__(self, **_: object) -> None:
        """Nothing to load."""

    @classmethod
    def get_options_type(cls) -> type[BaseLayoutOptions]:
        return WholePageOptions

    def predict_layout(self, conv_res: object, pages: object) -> list[LayoutPrediction]:
        return [LayoutPrediction(clusters=[self._cluster(page.size)]) for page in pages]

    def _cluster(self, size) -> Cluster:
        box = BoundingBox(l=0, t=0, r=size.width, b=size.height)
        return Cluster(id=0, label=DocItemLabel.TEXT, bbox=box, confidence=1.0, cells=[])


class NoTables:
    """Stage for tables that finds none."""

    def __init__(self, *_: object, **__: object) -> None:
        """Nothing to load."""

    @classmethod
    def get_options_type(cls) -> type:
        return type(PdfPipelineOptions().table_structure_options)

    def __call__(self, conv_res: object, pages: object) -> object:
        return pages


def main(url: str, pdf: str, key: str) -> None:
    """Convert the PDF and print the Markdown."""
    docling.models.plugins.defaults.table_structure_engines = lambda: {"table_structure_engines": []}
    for external in (False, True):
        factories.get_layout_factory(allow_external_plugins=external).register(WholePage, "test", "test")
        factories.get_table_structure_factory(allow_external_plugins=external).register(NoTables, "test", "test")
    headers = {"Authorization": f"Bearer {key}"}
    ocr = KserveV2OcrOptions(url=url, transport="http", model_name="linewise", lang=["en"], headers=headers)
    options = PdfPipelineOptions(
        ocr_options=ocr, layout_options=WholePageOptions(), do_table_structure=False, enable_remote_services=True
    )
    converter = DocumentConverter(format_options={InputFormat.PDF: PdfFormatOption(pipeline_options=options)})
    result = converter.convert(pdf)
    assert not result.errors, result.errors
    print(result.document.export_to_markdown())


if __name__ == "__main__":
    main(*sys.argv[1:])
