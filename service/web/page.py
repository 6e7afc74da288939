"""The demo page at ``/``: static files, which load nothing from other hosts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

_FOLDER = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
_MEDIA_TYPES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "card.js": "text/javascript",
    "picture.js": "text/javascript",
    "service.js": "text/javascript",
    "samples/receipt.jpg": "image/jpeg",
    "samples/sign.jpg": "image/jpeg",
    "samples/letter.png": "image/png",
    "samples/letter.tiff": "image/tiff",
}

page = APIRouter(include_in_schema=False)


def _serve(path: str, name: str, media_type: str) -> None:
    content = (_FOLDER / name).read_bytes()

    async def answer() -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    page.add_api_route(path, answer, methods=["GET", "HEAD"], name=name)


_serve("/", "index.html", "text/html")
for _name, _media_type in _MEDIA_TYPES.items():
    _serve(f"/web/{_name}", _name, _media_type)
