"""The container image, built by buildah from the Dockerfile and run without an engine.

    python -m tests.campaigns.container

Needs root, buildah and debootstrap. Builds a base image of Debian with Python 3.13, then the image; runs it in a
mount namespace of its own, read-only, as the user and with the environment that the image states. The campaign fails if
a call of the README, the batch, the health check or a stop under load does not end as promised, or if a container that
cannot start says anything but one line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.campaigns.harness import ROOT, TIMEOUT_S, children, free_port

BASE = "docker.io/library/python:3.13-slim"
CERTIFICATES = "/etc/ssl/certs"
README_ADDRESS = "http://127.0.0.1:8000"
PICTURE = "tests/data/receipt.png"
TEXT = "TOTAL EUR 12.50"
LOAD_THREADS = 4
LARGEST = 8  # packages whose sizes are printed
LITTLE_MEMORY = 100_000_000  # bytes; the service needs some 500 MB
STOPS = ("little memory", "unreadable weights", "port in use")
RUNS = ("another user", "full disk")


def shell(*command: str | Path, code: int = 0) -> str:
    """Run a command and return its standard output.

    Raises:
        RuntimeError: it ended with another code; the message is the end of its output.
    """
    result = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, cwd=ROOT)
    if result.returncode != code:
        raise RuntimeError(f"{command[0]} {command[1]} ended with {result.returncode}: {result.stderr[-1000:]}")
    return result.stdout


class Buildah:
    """Images in a folder of their own; their mounts end with the context."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / "images"
        self._options = ("--storage-driver", "overlay", "--root", f"{folder}/images", "--runroot", f"{folder}/run")

    def __call__(self, command: str, *arguments: str | Path, code: int = 0) -> str:
        return shell("buildah", *self._options, command, *arguments, code=code)

    def __enter__(self) -> Buildah:
        return self

    def __exit__(self, *raised: object) -> None:
        self("rm", "--all")
        if os.path.ismount(self._store / "overlay"):  # by buildah, in some runs
            shell("umount", self._store / "overlay")

    def make_base(self, folder: Path) -> None:
        """Make the base image of Debian packages, unless it is there."""
        if "3.13-slim" in self("images", "--format", "{{.Tag}}"):
            return
        root = folder / "base"
        shell(
            *("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "trixie", root),
            "http://deb.debian.org/debian",
        )
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        shell("sh", "-c", f"rm -rf {root}/var/cache/apt/archives/*.deb {root}/var/lib/apt/lists/*")
        (folder / "Dockerfile").write_text("FROM scratch\nADD base /\n")
        self("bud", "--isolation", "chroot", "-t", BASE, folder)

    def build(self, image: str, *arguments: str, code: int = 0) -> float:
        """Build the Dockerfile, in the format that keeps its health check; returns the seconds it took."""
        started = time.monotonic()
        certificates = ("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro")
        fixed = ("--isolation", "chroot", "--format", "docker", "--pull-never", "--layers", "-t", image)
        self("bud", *fixed, *certificates, *arguments, ROOT, code=code)
        return time.monotonic() - started


class Image:
    """An image, mounted, and what its configuration says."""

    def __init__(self, buildah: Buildah, name: str) -> None:
        self.root = Path(buildah("mount", buildah("from", "--pull-never", name).strip()).strip())
        document = json.loads(buildah("inspect", "--type", "image", name))["Docker"]
        config: dict[str, Any] = document["config"]
        self.user: str = config["User"]
        self.environment = dict(entry.split("=", 1) for entry in config["Env"])
        self.command: list[str] = config["Entrypoint"] + config["Cmd"]
        self.healthcheck: list[str] = config["Healthcheck"]["Test"][1:]

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        user: str = "",
        prepare: str = "true",
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Run a command in the image; ``prepare`` is a line of the shell that runs as root before, on ``$0``."""
        variables = [f"{name}={value}" for name, value in (self.environment | dict(environment)).items()]
        script = f"""
            mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit 90
            mount -o remount,bind,ro "$0" || exit 90
            {prepare} || exit 90
            exec chroot --userspec={user or self.user} "$0" env -i -C /tmp "$@"
        """
        inside = ["sh", "-c", script, str(self.root), *variables, *command]
        return subprocess.Popen(["unshare", "--mount", *inside], text=True, stderr=subprocess.PIPE, **options)

    def try_start(self, environment: Mapping[str, str], **start: str) -> dict[str, Any]:
        """Start the service in bad conditions; returns its exit code and messages, or the text that it reads."""
        port = free_port()
        process = self.start(self.command, settings(port) | dict(environment), **start)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
        except RuntimeError:
            process.kill()
            return {"lines": process.communicate()[1].splitlines(), "code": process.returncode}
        text = read_text(f"http://127.0.0.1:{port}")
        process.terminate()
        return {"text": text, "code": process.wait(TIMEOUT_S)}

    def sizes(self) -> dict[str, float]:
        """Megabytes of the base, of the installed environment, and of its largest packages."""
        environment = self.root / "opt/linewise"
        packages = next((environment / "lib").glob("python3*")) / "site-packages"
        installed = megabytes(environment)
        each = {path.name: megabytes(path) for path in packages.iterdir()}
        largest = sorted(each, key=lambda name: -each[name])[:LARGEST]
        return {"base": round(megabytes(self.root) - installed, 1), "environment": installed} | {
            name: each[name] for name in largest
        }


def settings(port: int) -> dict[str, str]:
    """Return the settings of a container on a busy machine."""
    return {"LINEWISE_PORT": str(port), "LINEWISE_LOG_LEVEL": "error", "LINEWISE_REQUEST_TIMEOUT": "120"}


def megabytes(path: Path) -> float:
    """Measure the disk space of a file or folder."""
    return round(int(shell("du", "-xsB1", path).split()[0]) / 1e6, 1)


def cpu_seconds(pid: int) -> float:
    """Measure the processor time of a process and its children."""
    ticks = 0
    for process in (pid, *children(pid)):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return round(ticks / os.sysconf("SC_CLK_TCK"), 2)


def read_text(address: str) -> str:
    """Read the picture of the README through the service."""
    return shell("curl", "-fsS", "-F", f"file=@{PICTURE}", "-H", "Accept: text/plain", f"{address}/recognize").strip()


def wait_until_ready(address: str, process: subprocess.Popen[str]) -> float:
    """Wait for the readiness probe; returns the seconds it took.

    Raises:
        RuntimeError: the service ended, or is not ready within the timeout.
    """
    started = time.monotonic()
    while time.monotonic() < started + TIMEOUT_S and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/healthz/ready", timeout=5).close()
            return time.monotonic() - started
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"the container is not ready; it ended with {process.poll()}")


def readme_calls(address: str) -> dict[str, str]:
    """Run each call of curl in the README that needs no optional dependency; returns how each begins to answer."""
    lines = re.findall(r"^curl [^\n]+$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    calls = [line for line in lines if "application/pdf" not in line]
    calls.append(f"curl -F files=@{PICTURE} -F files=@tests/data/sign.jpg {README_ADDRESS}/recognize/batch")
    answers = {}
    for call in calls:
        answer = shell("sh", "-c", call.replace(README_ADDRESS, address).replace("curl ", "curl -fsS ", 1))
        document = json.loads(answer) if answer.startswith("{") else {"text": answer}
        texts = [result["text"] for result in document.get("results", [document])]
        answers[call] = " | ".join(text.strip()[:40] for text in texts)
    return answers


def stop_under_load(address: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Send SIGTERM while clients send pictures; returns the exit code and the outcomes of the requests."""
    picture, outcomes = (ROOT / PICTURE).read_bytes(), list[str]()
    answered = threading.Event()

    def send() -> None:
        while True:
            try:
                request = urllib.request.Request(f"{address}/recognize", picture, {"Content-Type": "image/png"})
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                    outcomes.append(str(answer.status))
                    answered.set()
            except urllib.error.HTTPError as error:
                outcomes.append(str(error.code))
                error.close()
            except urllib.error.URLError as error:  # the port is closed
                outcomes.append(type(error.reason).__name__)
                return
            except OSError as error:
                outcomes.append(type(error).__name__)
                return

    threads = [threading.Thread(target=send) for _ in range(LOAD_THREADS)]
    for thread in threads:
        thread.start()
    answered.wait(TIMEOUT_S)
    time.sleep(1.0)
    process.terminate()
    code = process.wait(TIMEOUT_S)
    for thread in threads:
        thread.join(TIMEOUT_S)
    return {"code": code, "outcomes": {each: outcomes.count(each) for each in sorted(set(outcomes))}}


def serve(image: Image) -> dict[str, Any]:
    """Run the service of the image, call it, ask for its health, and stop it under load."""
    port = free_port()
    address, environment = f"http://127.0.0.1:{port}", settings(port)
    process = image.start(image.command, environment)
    try:
        report: dict[str, Any] = {"ready_s": round(wait_until_ready(address, process), 2)}
        report |= {"ready_cpu_s": cpu_seconds(process.pid), "load": os.getloadavg()[0], "cores": os.cpu_count()}
        report["uid"] = next(
            line.split()[1] for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "Uid" in line
        )
        report["calls"] = readme_calls(address)
        report["healthcheck"] = image.start(image.healthcheck, environment).wait(TIMEOUT_S)
        report["stop"] = stop_under_load(address, process)
    finally:
        process.kill()
    report["healthcheck_when_stopped"] = image.start(image.healthcheck, environment).wait(TIMEOUT_S)
    return report


@contextmanager
def memory_limit(limit: int) -> Iterator[str]:
    """Make a control group with a limit in bytes; yields the line of the shell that enters it."""
    v1 = Path("/sys/fs/cgroup/memory")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"linewise-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(limit))
        yield f"echo $$ > {group}/cgroup.procs"
    finally:
        while (group / "cgroup.procs").read_text():
            time.sleep(0.1)
        group.rmdir()


def bad_starts(image: Image) -> dict[str, Any]:
    """Start the image as it cannot work, or as it must work nevertheless."""
    secret = "mount -t tmpfs -o mode=700 tmpfs $0/mnt && cp $0/opt/linewise/pyvenv.cfg $0/mnt/w.safetensors"
    full = "mount -t tmpfs -o size=4k,mode=1777 tmpfs $0/tmp && (cat /dev/zero > $0/tmp/full; true) 2> /dev/null"
    with memory_limit(LITTLE_MEMORY) as enter:
        starts = {"little memory": image.try_start({}, prepare=enter)}
    with socket.create_server(("127.0.0.1", 0)) as other:
        starts["port in use"] = image.try_start({"LINEWISE_PORT": str(other.getsockname()[1])})
    return starts | {
        "unreadable weights": image.try_start({"LINEWISE_WEIGHTS": "/mnt/w.safetensors"}, prepare=secret),
        "another user": image.try_start({}, user="4242:4242"),
        "full disk": image.try_start({}, prepare=full),
    }


def broken_promises(report: Mapping[str, Any]) -> list[str]:
    """Name the promises that the account of a run breaks."""
    serve, bad = report["serve"], report["bad_starts"]
    promises = {
        "stop": serve["stop"]["code"] == 0
        and set(serve["stop"]["outcomes"]) <= {"200", "503", "ConnectionRefusedError"},
        "healthcheck": serve["healthcheck"] == 0 != serve["healthcheck_when_stopped"],
        "calls": all(serve["calls"].values()),
    }
    promises |= {name: bad[name]["code"] > 0 and len(bad[name].get("lines", ())) == 1 for name in STOPS}
    promises |= {name: bad[name]["code"] == 0 and bad[name].get("text") == TEXT for name in RUNS}
    return [name for name, kept in promises.items() if not kept]


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep base and images here, for the next run")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the campaign needs root, to make a base image and to mount")
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        buildah = stack.enter_context(Buildah(folder))
        buildah.make_base(folder)
        buildah.build("linewise:refused", "--build-arg", "EXTRA=nonsense", code=1)
        report: dict[str, Any] = {"build_s": round(buildah.build("linewise:campaign"), 1)}
        image = Image(buildah, "linewise:campaign")
        report |= {"megabytes": image.sizes(), "serve": serve(image), "bad_starts": bad_starts(image)}
    report["failed"] = broken_promises(report)
    print(json.dumps(report, indent=2))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
