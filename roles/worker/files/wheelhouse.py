# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller: make the archive of wheels that a worker host installs without an index.

What the lock names is fetched with its hashes, for the host's Python and platform. What has no wheel there is
built here, by the setuptools of the lock, and must be pure Python; so is the worker, when it is not a wheel
yet. The archive has a list of its own, requirements.txt, with the hashes of the wheels that are in it.

Standard input is JSON: lock, package (the worker's wheel, or its sources), environment (see compare.yml) and
entry (the path of what is made, without its end).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

#: What a checkout's worker/ has that is not the worker.
NOT_PACKAGED = shutil.ignore_patterns("tests", "build", "__pycache__", "*.egg-info")


def locked(lock: str, environment: dict[str, str]) -> list[str]:
    """The lines of a lock that count in ``environment``, with their hashes and without their conditions."""
    lines = []
    for line in lock.replace("\\\n", " ").splitlines():
        pin, hashes, rest = line.partition(" --hash=")
        requirement, _semicolon, marker = pin.partition(";")
        if requirement.strip().startswith("#") or not hashes:
            continue
        if not marker.strip() or Marker(marker.strip()).evaluate(environment):
            lines.append(f"{requirement.strip()}{hashes}{' '.join(rest.split())}")
    return lines


def platforms(machine: str, libc: str) -> list[str]:
    """The platform tags of wheels that run with ``libc``, as "glibc 2.36", the newest first."""
    known = re.fullmatch(r"glibc 2\.(\d+)", libc)
    newest = int(known.group(1)) if known else 17
    return [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 16, -1)] + [
        f"manylinux2014_{machine}",
        f"linux_{machine}",
    ]


def target(environment: dict[str, str]) -> list[str]:
    """The options of pip for another Python than the one that runs it."""
    version = environment["python_version"]
    options = ["--python-version", version, "--implementation", "cp"]
    for abi in (f"cp{version.replace('.', '')}", "abi3", "none"):
        options += ["--abi", abi]
    for platform in platforms(environment["platform_machine"], environment["libc"]):
        options += ["--platform", platform]
    return options


def pip(*arguments: str, backend: Path | None = None) -> None:
    """Run pip; what is built is built by the setuptools in ``backend``, which is not asked from an index."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if backend:
        environment["PYTHONPATH"] = str(backend)
        arguments = (*arguments, "--no-build-isolation", "--use-pep517")
    command = [sys.executable, "-m", "pip", *arguments[:1], "--quiet", *arguments[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip on the controller: {(done.stderr or done.stdout).strip()}")


def fetch(lines: list[str], options: list[str], scratch: Path, wheels: Path) -> Path:
    """Fetch what ``lines`` name into ``wheels``; the directory with the setuptools among them."""
    backend, first = scratch / "setuptools", scratch / "setuptools.txt"
    first.write_text("".join(f"{line}\n" for line in lines if line.startswith("setuptools==")))
    download = ("download", "--no-deps", "--require-hashes", "--dest", str(wheels), *options)
    pip(*download, "--requirement", str(first))
    (wheel,) = wheels.glob("setuptools-*.whl")
    shutil.unpack_archive(wheel, backend, "zip")
    wheel.unlink()
    rest = scratch / "requirements.txt"
    rest.write_text("".join(f"{line}\n" for line in lines if not line.startswith("setuptools==")))
    pip(*download, "--requirement", str(rest), backend=backend)
    return backend


def build(source: Path, wheels: Path, backend: Path) -> None:
    """Make the wheel of ``source``, which must run on every platform."""
    before = set(wheels.iterdir())
    pip("wheel", "--no-deps", "--no-index", "--wheel-dir", str(wheels), str(source), backend=backend)
    for wheel in set(wheels.iterdir()) - before:
        if not wheel.name.endswith("-none-any.whl"):
            sys.exit(
                f"{source.name} has no wheel for the host's platform, and is not pure Python: {wheel.name}"
            )


def listed(wheels: Path) -> str:
    """The requirements that are installed from ``wheels``."""
    lines = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, _build, _tags = parse_wheel_filename(wheel.name)
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def pack(directory: Path, entry: Path) -> None:
    """Write the archive and then, in one step, the list that names it."""
    new = entry.with_name(f"{entry.name}.{os.getpid()}")
    with tarfile.open(new, "w:gz") as archive:
        for path in sorted(directory.iterdir()):
            archive.add(path, path.name)
    checksum = hashlib.sha256(new.read_bytes()).hexdigest()
    file = entry.with_name(f"{entry.name}-{checksum[:16]}.tar.gz")
    new.replace(file)
    new.write_text(json.dumps({"file": file.name, "sha256": checksum, "packages": []}, indent=4) + "\n")
    new.replace(entry.with_name(f"{entry.name}.json"))


def main() -> None:
    wanted = json.load(sys.stdin)
    package, environment, entry = Path(wanted["package"]), wanted["environment"], Path(wanted["entry"])
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"gearsync_build_cache cannot be written on the controller: {error}")
    lines = locked(Path(wanted["lock"]).read_text(), environment)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        wheels = scratch / "wheels"
        wheels.mkdir()
        backend = fetch(lines, target(environment), scratch, wheels)
        for source in [path for path in wheels.iterdir() if path.suffix != ".whl"]:
            build(source, wheels, backend)
            source.unlink()
        if package.is_dir():
            # pip leaves its files in the directory.
            build(Path(shutil.copytree(package, scratch / "worker", ignore=NOT_PACKAGED)), wheels, backend)
        else:
            shutil.copy(package, wheels)
        (wheels / "requirements.txt").write_text(listed(wheels))
        pack(wheels, entry)


if __name__ == "__main__":
    main()
