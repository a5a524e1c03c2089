# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the tests keep their servers' data."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Everything that the project's own scripts make; absent in a copy of the checkout inside a test host.
WORK = ROOT / ".work"
SHARED_MEMORY = Path("/dev/shm")
#: Bytes that must be free there: five servers at a time, each with its redo log and tables.
ROOM = 4 << 30


def memory() -> Path | None:
    """A place in memory for the servers' data, where the machine has room for it."""
    roomy = (
        SHARED_MEMORY.is_dir()
        and os.access(SHARED_MEMORY, os.W_OK)
        and shutil.disk_usage(SHARED_MEMORY).free > ROOM
    )
    return SHARED_MEMORY if roomy else None


def scratch(prefix: str) -> Path:
    """A new directory, in memory where there is room for it: a server there never waits for a disk.

    GEARSYNC_SCRATCH names another place for all of them. A killed process loses nothing of what it wrote
    there; only a test of the machine's own crash would need a disk.
    """
    directory = Path(
        tempfile.mkdtemp(prefix=f"gearsync-{prefix}-", dir=os.environ.get("GEARSYNC_SCRATCH") or memory())
    )
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def kept(name: str) -> Path:
    """The directory of that name among what is made once and used by all runs on this machine, and by all
    their processes: take its lock.
    """
    home = (WORK if WORK.is_dir() else Path(tempfile.gettempdir())) / name
    home.mkdir(exist_ok=True)
    return home
