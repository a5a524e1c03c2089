# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For the tests: what ansible-playbook sends to hosts is made once, and not by each of a hundred runs.

Ansible looks for the imports of each module that a run uses, and packs them with it: an eighth of the time
of a run that changes nothing. It keeps what it has packed for that run, in a directory that this callback
replaces by a link to a common one.
"""

from __future__ import annotations

DOCUMENTATION = """
name: kept_modules
type: aggregate
short_description: Keep packed modules from one run of ansible-playbook to the next
description:
  - They are kept in the directory that the environment variable GEARSYNC_KEPT_MODULES names; without it, not.
author:
  - The gearsync developers (@gearsync)
"""

import contextlib
import hashlib
import os
import pathlib
import sys

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__

PLUGINS = "ansible_collections/gearsync/mysql_redis/plugins"


def key(collections):
    """What tells the packed modules of these collections from those of others, such as a release that a test
    has installed.
    """
    checksum = hashlib.sha256(f"{__version__} {sys.prefix}".encode())
    for path in collections:
        for file in sorted(pathlib.Path(path, PLUGINS).rglob("*.py")):
            checksum.update(f"{file}\0".encode())
            checksum.update(file.read_bytes())
    return checksum.hexdigest()


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_modules"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook):
        """Put the link where Ansible will look, before the first task."""
        home = os.environ.get("GEARSYNC_KEPT_MODULES")
        # Another user, who may not write there, does without.
        with contextlib.suppress(OSError):
            if home:
                kept = pathlib.Path(home, key(constants.COLLECTIONS_PATHS))
                kept.mkdir(parents=True, exist_ok=True)
                pathlib.Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(kept)
