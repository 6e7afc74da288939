"""Fuzzing of a running service with mutated pictures, documents, forms and inference requests.

    python -m tests.campaigns.hostile --inputs 200000

Starts a service with the shipped weights and sends inputs that are reproducible by number, as lines and as pages. It
fails when a response has an undocumented status or misses its deadline. Failing inputs are kept in a folder. The report
holds the resident memory of the service, which includes free memory that the allocator has not returned.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import struct
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.campaigns.documents import base_documents, mutate_structure
from tests.campaigns.harness import resident, service

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "RGB", "CMYK", "I;16", "F"),
}
# Documented statuses for arbitrary bytes; 503 and 504 depend on load only.
ALLOWED_STATUSES = {200, 400, 413, 415, 422}
INFERENCE_PATH = "/v2/models/linewise/infer"
INFERENCE_SHARE = 0.1
DEADLINE_S = 60  # generous: waiting for the pages of other clients on a slow machine is no fault
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def base_pictures() -> list[tuple[str, bytes]]:
    """Draw a small picture of a word in every supported format and mode."""
    pictures = []
    for name in FORMATS:
        for mode in MODES[name]:
            drawn = Image.new("L", (96, 28), 230)
            ImageDraw.Draw(drawn).text((4, 6), f"{name} {len(mode)}", fill=20)
            picture = Image.fromarray(np.asarray(drawn, np.uint16) * 257) if mode == "I;16" else drawn.convert(mode)
            buffer = io.BytesIO()
            picture.save(buffer, name)
            pictures.append((name, buffer.getvalue()))
    return pictures


def mutated(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """Apply one to three mutations: arbitrary ones, and ones that keep the format's checksums valid."""
    blind = (_flip, _flip, _cut, _repeat, _number, _number, _splice, _grow)
    structural = (_header,) * (8 if name in ("PDF", "TIFF") else 1)  # these two have more structure
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice(blind + structural)(random, name, data, others)
        if not data:
            break
    return data


def _flip(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    flipped = bytearray(data)
    for _ in range(random.choice((1, 2, 8, 64))):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _cut(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    start = random.randrange(len(data))
    return data[:start] if random.random() < 0.6 else data[:start] + data[start + random.randint(1, 40) :]


def _repeat(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    start = random.randrange(len(data))
    piece = data[start : start + random.randint(1, 200)]
    return data[:start] + piece * random.randint(2, 20) + data[start:]


def _number(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """Set a number near the front, where sizes and offsets are, to an extreme value."""
    width = random.choice("BHI")
    packed = struct.pack(random.choice("<>") + width, random.choice(EXTREMES) & (256 ** struct.calcsize(width) - 1))
    place = random.randrange(max(1, min(len(data) - len(packed), 300)))
    return data[:place] + packed + data[place + len(packed) :]


def _splice(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    other = random.choice(others)[1]
    return data[: random.randrange(len(data))] + other[random.randrange(len(other)) :]


def _grow(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    return data + random.randbytes(random.choice((1, 100, 5000)))


def _header(random: Random, name: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """Change sizes, depths and types in the header of the format and renew its checksum."""
    if name == "PNG" and len(data) > 33:
        header = bytearray(data[16:29])
        header[random.randrange(13)] = random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        return data[:16] + bytes(header) + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]
    if name == "JPEG" and (place := data.find(b"\xff\xc0")) > 0:
        sides = struct.pack(">HH", random.choice(EXTREMES) & 0xFFFF, random.choice(EXTREMES) & 0xFFFF)
        return data[: place + 5] + sides + data[place + 9 :]
    if name == "BMP" and len(data) > 30:
        sides = struct.pack("<ii", *(random.choice((-(2**31), -1, 0, 1, 3, 9, 65_535, 2**31 - 1)) for _ in range(2)))
        return data[:18] + sides + data[26:]
    if name in ("PDF", "TIFF"):
        return mutate_structure(random, name, data)
    return _number(random, name, data, others)


def request(random: Random, picture: bytes, paged: float = 0.0) -> tuple[str, str, bytes]:
    """Build target, content type and body: the picture alone, in a form or in JSON, at times in an invalid one.

    ``paged`` is the share of requests that detect lines.
    """
    if random.random() < INFERENCE_SHARE:
        return inference(random)
    mode = random.choice(("page", "auto")) if random.random() < paged else "line"
    path, content_type, body = _wrapped(random, picture)
    return f"{path}?mode={mode}", content_type, body


def _wrapped(random: Random, picture: bytes) -> tuple[str, str, bytes]:
    kind = random.random()
    path = "/recognize" if random.random() < 0.85 else "/recognize/batch"
    if kind < 0.5:
        return "/recognize", random.choice(("image/png", "application/pdf", "", "image/x-nonsense")), picture
    if kind < 0.75:
        field = random.choice(("file", "file", "files", "wrong", "")) if path == "/recognize" else "files"
        filename = random.choice(("a", "../b", "\u202e"))  # the last one is RIGHT-TO-LEFT OVERRIDE
        head = f'Content-Disposition: form-data; name="{field}"; filename="{filename}"'
        part = f"--B\r\n{head}\r\n\r\n".encode() + picture
        body = b"\r\n".join([part] * random.choice((1, 1, 2, 70))) + random.choice((b"\r\n--B--\r\n", b"", b"\r\n--B"))
        return path, random.choice(("multipart/form-data; boundary=B",) * 5 + ("multipart/form-data",)), body
    encoded = base64.b64encode(picture).decode()
    document: object = {"image": encoded, "detail": random.choice(("chars", "text", "x")), "alternatives": 3}
    if path.endswith("batch"):
        document = {"images": [{"id": "é", "image": encoded}] * random.choice((0, 1, 3))}
    body = json.dumps(document).encode()
    if random.random() < 0.3:
        body = _flip(random, "JSON", body, [])
    return path, "application/json", body


def inference(random: Random) -> tuple[str, str, bytes]:
    """Build target, headers and body of an inference request whose sizes, shapes and types may be wrong."""
    height, width = random.choice(((28, 96), (28, 96), (3, 3), (1, 400), (60, 2)))
    pixels = random.randbytes(height * width * 3)
    image: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [1, height, width, 3]}
    language: dict[str, Any] = {"name": "lang_type", "datatype": "BYTES", "shape": [1, 1]}
    raw = b"\2\0\0\0en" + pixels
    sizes: dict[str, Any] = {"binary_data_size": len(pixels)}
    if random.random() < 0.3:
        image["data"], raw = list(pixels[: random.choice((len(pixels), 7))]), raw[:6]
    else:
        image["parameters"] = sizes
    language["parameters"] = {"binary_data_size": 6}
    document: dict[str, Any] = {"inputs": [language, image], "parameters": {"mode": random.choice(("line", "page"))}}
    document["outputs"] = [{"name": "txts", "parameters": {"binary_data": random.random() < 0.5}}]
    for _ in range(random.choice((0, 1, 1, 2))):
        holder = random.choice((image, image, language, document, sizes))
        holder[random.choice(list(holder) or ["shape"])] = random.choice(
            (None, -1, 2**31, 2**63, 10**40, 1.5, "x" * 1000, [], [1] * 1000, [2**20] * 4, {}, [[]], True)
        )
    head = json.dumps(document).encode()
    if random.random() < 0.1:
        head = _flip(random, "JSON", head, [])
    if random.random() < 0.2:
        raw = random.choice((_flip, _cut, _repeat, _number, _grow))(random, "tensor", raw, [])
    length: object = random.choice((len(head),) * 40 + (0, len(head) - 1, len(head) + 1, 2**31, 10**30, -1, "x"))
    return INFERENCE_PATH, f"application/octet-stream\r\nInference-Header-Content-Length: {length}", head + raw


async def _exchange(port: int, path: str, content_type: str, body: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
        head += f"X-Request-Timeout: {DEADLINE_S}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1]) if answer else 0
    except ConnectionError:
        return 0
    finally:
        writer.close()


async def run(port: int, pid: int, inputs: int, seed: int, clients: int, kept: Path) -> dict[str, object]:
    """Send all inputs and return the report."""
    pictures, documents = base_pictures(), base_documents()
    numbers = iter(range(inputs))
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    slowest = (0.0, 0)  # seconds, number
    memory: list[float] = []

    async def client() -> None:
        nonlocal slowest
        for number in numbers:
            random = Random(f"{seed}/{number}")
            bases, paged = (documents, 0.8) if random.random() < 0.3 else (pictures, 0.2)
            picture = mutated(random, *random.choice(bases), pictures + documents)
            path, content_type, body = request(random, picture, paged)
            started = time.monotonic()
            try:
                status = await asyncio.wait_for(_exchange(port, path, content_type, body), DEADLINE_S + 15)
            except TimeoutError:
                status = -1
            elapsed = time.monotonic() - started
            slowest = max(slowest, (elapsed, number))
            statuses[status] += 1
            if status not in ALLOWED_STATUSES:
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{seed}-{number}-{status}.bin").write_bytes(body)
                wrong.append(f"{number}: {status} to {content_type} at {path}")
            if sum(statuses.values()) % max(1, inputs // 50) == 0:
                memory.append(resident(pid))

    await asyncio.gather(*(client() for _ in range(clients)))
    half = memory[len(memory) // 2 :]
    return {
        "inputs": inputs, "statuses": dict(sorted(statuses.items())), "slowest_s": round(slowest[0], 2),
        "slowest": slowest[1],
        "memory_mb": [round(memory[0]), round(half[0]), round(memory[-1])] if memory else [], "wrong": wrong[:20],
    }  # fmt: skip


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--keep", type=Path, default=Path(".runs/hostile"))
    arguments = parser.parse_args()
    with service() as (port, pid):
        report = asyncio.run(run(port, pid, arguments.inputs, arguments.seed, arguments.clients, arguments.keep))
    print(json.dumps(report, indent=2))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
