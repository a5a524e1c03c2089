# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements for one server alone: its replicas and the other nodes of its cluster never get them."""

from __future__ import annotations

import contextlib

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_OPTION_PREVENTS_STATEMENT,
    ER_SPECIFIC_ACCESS_DENIED,
    ServerError,
    grant_sql,
)

LIFT, RESTORE = "SET GLOBAL super_read_only = OFF", "SET GLOBAL super_read_only = ON"
# Changes nothing, and is refused where the statements that register functions would be. MariaDB must not be
# asked to register one that it refuses: it keeps the function until it stops, without a row in mysql.func.
PROBE = "DELETE FROM `mysql`.`func` WHERE FALSE"


def log_right(engine, version):
    """The right that SET SESSION sql_log_bin needs, the smallest one that the server has. Galera's wsrep_on
    needs SUPER.
    """
    if engine == "mariadb":
        return "BINLOG ADMIN" if version >= (10, 5, 2) else "SUPER"
    if version >= (8, 0, 14):
        return "SESSION_VARIABLES_ADMIN"
    return "SYSTEM_VARIABLES_ADMIN" if version >= (8, 0, 0) else "SUPER"


def write_right(engine, version):
    """The right to write to a server that is read_only, the smallest one that the server has."""
    if engine == "mariadb":
        return "READ_ONLY ADMIN" if version >= (10, 5, 2) else "SUPER"
    return "CONNECTION_ADMIN" if version >= (8, 0, 0) else "SUPER"


class LocalStatements:
    """Changes one server by statements that are in no binary log and go to no other node of a Galera
    cluster.
    """

    def __init__(self, module, database, lifts_super_read_only):
        """Ends the module when the account may not do that.

        lifts_super_read_only: whether a server that is super_read_only may be made to take statements, within
        `writable`.
        """
        self.module = module
        self.database = database
        # Galera sends CREATE FUNCTION to all nodes, with and without a binary log, whatever sql_log_bin is.
        pairs = (("log_bin", "sql_log_bin"), ("wsrep_on", "wsrep_on"))
        self._switches = [switch for setting, switch in pairs if database.variable(setting) == "ON"]
        self._is_super_read_only = database.variable("super_read_only") == "ON"
        for switch in self._switches:
            self._require_right_to_set(switch)
        if self._is_super_read_only and not lifts_super_read_only:
            self._fail_super_read_only()
        if not self._is_super_read_only:
            self._require_right_to_write()

    def _fail(self, text):
        self.module.fail_json(msg=f"{text} Nothing was changed.", queries=[])

    def _require_right_to_set(self, switch):
        try:
            self._set([switch], 0)
            self._set([switch], 1)
        except ServerError as error:
            if error.code != ER_SPECIFIC_ACCESS_DENIED:
                raise
            is_log = switch == "sql_log_bin"
            right = log_right(self.database.engine, self.database.version) if is_log else "SUPER"
            self._fail(
                "registering and dropping functions would reach the other servers "
                f"{'that replicate from this one' if is_log else 'of the cluster'}, and stop those that have "
                f"not the same library; this account may not execute SET SESSION {switch} = 0: {error}. "
                f"{grant_sql(self.database, right)}."
            )

    def _set(self, switches, value):
        if switches:
            self.database.session("SET SESSION " + ", ".join(f"{switch} = {value}" for switch in switches))

    def _fail_super_read_only(self):
        self._fail(
            "the server is super_read_only, so it takes no function from any account. Run "
            f"{LIFT} on it, run this again, and then run {RESTORE}; or set lift_super_read_only: true, with "
            "which this module does both."
        )

    def _require_right_to_write(self):
        if self.database.variable("read_only") in (None, "OFF"):
            return
        try:
            with self._alone():
                self.database.session(PROBE)
        except ServerError as error:
            if error.code != ER_OPTION_PREVENTS_STATEMENT:
                # The statement that changes something shows that as well, and what it needs.
                return
            right = write_right(self.database.engine, self.database.version)
            self._fail(
                "the server is read_only, and this account may not register functions on it: "
                f"{error}. {grant_sql(self.database, right)}."
            )

    @contextlib.contextmanager
    def _alone(self):
        self._set(self._switches, 0)
        try:
            yield
        finally:
            # What this connection does beside belongs to the others as well.
            self._set(self._switches, 1)

    def change(self, sql):
        """Execute a statement on this server alone."""
        with self._alone():
            self.database.change(sql)

    def attempt(self, sql):
        """Change something that may be refused: None, or the server's error."""
        with self._alone():
            return self.database.attempt(sql)

    @contextlib.contextmanager
    def writable(self):
        """Have a server that is super_read_only take these statements; it stays read_only."""
        if not self._is_super_read_only:
            yield
            return
        self.database.change(LIFT)
        try:
            if not self.module.check_mode:
                self._require_right_to_write()
            yield
        finally:
            self._restore()

    def _restore(self):
        if not self.module.check_mode and self.database.variable("read_only") == "OFF":
            # It was made the primary meanwhile; super_read_only would stop all its writers.
            self.module.warn(
                "super_read_only was not switched on again, because read_only was switched off meanwhile"
            )
            return
        error = self.database.attempt(RESTORE)
        if error is not None:
            self.module.warn(f"super_read_only is off and must be switched on again: {RESTORE}: {error}")
