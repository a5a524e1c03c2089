# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings and job servers of a Gearman library while it is loaded again."""

from __future__ import annotations

import json

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import ServerError, literal
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._udf_plan import settings_to_restore


class GearmanState:
    """Settings and job servers of a Gearman library, which it loses when it is unloaded."""

    def __init__(self, module, database, rows):
        self.module = module
        self.database = database
        self.settings, self.lists = {}, {}
        if {"gman_stats", "gman_servers_set"}.issubset(row["name"] for row in rows):
            stats = self._stats()
            self.settings, self.lists = stats.get("settings", {}), stats.get("server_lists", {})

    def is_locked(self):
        return self.settings.get("locked") == "on"

    def is_locked_now(self):
        return self._stats().get("settings", {}).get("locked") == "on"

    def _stats(self):
        try:
            stats = json.loads(self.database.value("SELECT gman_stats()"))
            return stats if isinstance(stats, dict) else {}
        except (ServerError, TypeError, ValueError):
            return {}  # another library's function of that name, or a broken one

    def restore(self):
        """Set them again, settings before job servers: nothing may be sent in plain text. Then lock them,
        unless the task unlocks them. Returns the problem, '' without one.
        """
        if not self.settings and not self.lists:
            return ""
        # In check mode the new library is not loaded and cannot be asked for its defaults.
        problem = "" if self.module.check_mode else self._restore_settings()
        if not problem:
            self._restore_servers()
        if not problem and self.is_locked() and not self.module.params["unlock"]:
            problem = self._lock()
        return problem

    def _restore_settings(self):
        is_secure = self.settings.get("tls") == "on"
        for name, value in settings_to_restore(self.settings, self._stats().get("settings", {})):
            # Not DO, which ignores errors.
            error = self.database.attempt(f"SELECT gman_configure({literal(name)}, {literal(str(value))})")
            if error is not None and is_secure and name.startswith("tls"):
                return (
                    "The functions connect to no job server until TLS is set and the job servers are set "
                    f"again, because {name}, {value!r} before, cannot be set again: {error}"
                )
            if error is not None:
                self.module.warn(
                    f"the library does not accept the setting {name} that it had, {value}: {error}"
                )
        if is_secure and self._stats().get("settings", {}).get("tls") != "on":
            return (
                "The functions connect to no job server, because they used TLS before and the library cannot"
            )
        return ""

    def _restore_servers(self):
        for function, servers in sorted(self.lists.items()):
            arguments = literal(servers) + (f", {literal(function)}" if function else "")
            error = self.database.attempt(f"DO gman_servers_set({arguments})")
            if error is not None:
                self.module.warn(
                    f"the library does not accept the job servers that were set, {servers}: {error}"
                )

    def _lock(self):
        error = self.database.attempt("SELECT gman_configure('locked', 'on')")
        if error is not None:
            self.module.warn(
                f"every account may change the settings and job servers now, because the library cannot lock "
                f"them as the one before: {error}"
            )
        elif not self.module.check_mode and self._stats().get("server_lists") != self.lists:
            return (
                "The job servers were locked, but are not those that were set before: another account has "
                "changed them meanwhile. See gman_stats(), and run this again with unlock: true"
            )
        return ""
