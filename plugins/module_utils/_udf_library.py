# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a library in the server's plugin directory."""

from __future__ import annotations

import os
import shutil


class Library:
    """The library's file in the plugin directory, and the file that replaces it."""

    def __init__(self, module, plugin_dir):
        self.module = module
        self.soname = module.params["soname"]
        self.src = module.params["src"]
        self.plugin_dir = plugin_dir
        self.path = os.path.join(plugin_dir, self.soname)
        # Beside the library, so that a rename is all that is left to do. Hidden files cannot be loaded by
        # name.
        self.new = os.path.join(plugin_dir, f".{self.soname}.new")
        self.old = os.path.join(plugin_dir, f".{self.soname}.old")

    def check(self):
        """Whether the file has to be installed. Ends the module when that cannot be done."""
        fail = self.module.fail_json
        if self.src is None:
            # The plugin directory of a server on another host cannot be looked at.
            if os.path.isdir(self.plugin_dir) and not os.path.isfile(self.path):
                fail(
                    msg=f"library {self.soname} is not in the server's plugin directory "
                    f"{self.plugin_dir}; give its file as src, or put it there"
                )
            return False
        if not os.path.isfile(self.src):
            fail(msg=f"src {self.src} does not exist on the managed host, or is no file")
        if not os.access(self.src, os.R_OK):
            fail(msg=f"src {self.src} cannot be read")
        if not os.path.isdir(self.plugin_dir):
            fail(
                msg=f"the server's plugin directory {self.plugin_dir} does not exist on this host; "
                "create it, or run this on the server's host"
            )
        changed = self.module.sha256(self.src) != self.digest()
        if changed and not os.access(self.plugin_dir, os.W_OK):
            fail(
                msg=f"the server's plugin directory {self.plugin_dir} cannot be written; run this as "
                "root (become: true)"
            )
        return changed

    def digest(self):
        """The SHA-256 of the installed file, None when there is none."""
        return self.module.sha256(self.path) if os.path.isfile(self.path) else None

    def is_outdated(self, database):
        """Whether the running server has mapped a file that was replaced since. False where that cannot
        be looked up.
        """
        try:
            with open(database.value("SELECT @@pid_file")) as pid_file:
                pid = int(pid_file.read().strip())
            with open(f"/proc/{pid}/maps") as maps:
                return any(
                    line.rstrip().endswith(f"{os.path.realpath(self.path)} (deleted)") for line in maps
                )
        except (OSError, ValueError):
            return False

    def stage(self):
        """Put the new file beside the old one, complete and on disk."""
        shutil.copyfile(self.src, self.new)
        os.chmod(self.new, 0o644)
        with open(self.new, "rb") as staged:
            os.fsync(staged.fileno())

    def install(self):
        """Rename the new file into place and keep the old one for `restore`. The old inode stays as it
        is: the server may have it mapped.
        """
        if os.path.exists(self.path):
            if os.path.exists(self.old):
                os.unlink(self.old)
            os.link(self.path, self.old)
        os.rename(self.new, self.path)

    def restore(self):
        """Undo `install`."""
        if os.path.exists(self.old):
            os.rename(self.old, self.path)
        elif os.path.exists(self.path):
            os.unlink(self.path)

    def remove(self):
        os.unlink(self.path)
        self.clean_up()

    def clean_up(self):
        """Remove the files that only a replacement needs."""
        for path in (self.new, self.old):
            if os.path.exists(path):
                os.unlink(path)
