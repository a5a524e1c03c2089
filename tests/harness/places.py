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


def scratch(prefix: str) -> Path:
    """A new directory, in memory where the machine has room for it: a server there never waits for a disk.

    GEARSYNC_SCRATCH names another place for all of them. A killed process loses nothing of what it wrote there; only a test of the
    machine's own crash would need a disk.
    """
    memory = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > ROOM
    place = os.environ.get("GEARSYNC_SCRATCH") or (SHARED_MEMORY if memory else None)
    directory = Path(tempfile.mkdtemp(prefix=f"gearsync-{prefix}-", dir=place))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def kept(name: str) -> Path:
    """The directory of that name among what is made once and used by all runs on this machine, and by all their processes: take its lock."""
    home = (WORK if WORK.is_dir() else Path(tempfile.gettempdir())) / name
    home.mkdir(exist_ok=True)
    return home
