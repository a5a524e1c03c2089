# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server for its part in replication, Galera and group replication."""

from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_SPECIFIC_ACCESS_DENIED,
    ER_TABLE_ACCESS_DENIED,
    ServerError,
)

# What MySQL called its statements and columns before 8.0.22, and MariaDB still does.
OLD_WORDS = (("master_", "source_"), ("slave_", "replica_"), ("behind_master", "behind_source"))
# Group replication's own, which follow the group and no server.
GROUP_CHANNELS = ("group_replication_applier", "group_replication_recovery")
VARIABLES = (
    "binlog_format",
    "group_replication_group_name",
    "group_replication_single_primary_mode",
    "gtid_current_pos",
    "gtid_executed",
    "hostname",
    "log_bin",
    "port",
    "read_only",
    "server_id",
    "server_uuid",
    "super_read_only",
    "wsrep_on",
    "wsrep_reject_queries",
)
WSREP_STATUS = (
    "wsrep_cluster_size",
    "wsrep_cluster_state_uuid",
    "wsrep_cluster_status",
    "wsrep_incoming_addresses",
    "wsrep_local_state_comment",
    "wsrep_ready",
)


def monitor_right(engine, version):
    """The right that showing a replica's state needs."""
    return "SLAVE MONITOR" if engine == "mariadb" and version >= (10, 5, 9) else "REPLICATION CLIENT"


def hosts_right(engine, version):
    """The right that showing a server's replicas needs."""
    return (
        "REPLICATION MASTER ADMIN" if engine == "mariadb" and version >= (10, 5, 2) else "REPLICATION SLAVE"
    )


def read_replication(database):
    """What the module replication_info returns, and the rights that are missing for it, as GRANT names
    them with what they are for.
    """
    reader = Reader(database)
    return reader.read(), reader.missing


def _renamed(row):
    """A row under the names of today."""
    return {_new_name(name): value for name, value in row.items()}


def _new_name(name):
    for old, new in OLD_WORDS:
        name = name.replace(old, new)
    return name


def _number(value):
    return None if value in (None, "") else int(value)


class Reader:
    """Asks one server; missing: the rights that the account lacks, each with a privilege level and what it
    is for.
    """

    def __init__(self, database):
        self.database = database
        self.is_mysql = database.engine == "mysql"
        self.missing = []
        names = ", ".join(f"'{name}'" for name in VARIABLES)
        rows = database.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
        self.variables = {row["variable_name"].lower(): row["value"] for row in rows}

    def _guarded(self, sql, right, level, purpose):
        try:
            return [_renamed(row) for row in self.database.rows(sql)]
        except ServerError as error:
            if error.code not in (ER_SPECIFIC_ACCESS_DENIED, ER_TABLE_ACCESS_DENIED):
                raise
            self.missing.append((right, level, purpose))
            return []

    def _is_on(self, name):
        """A setting as a truth value, None on servers without it. MariaDB's read_only has more values than
        ON.
        """
        value = self.variables.get(name)
        return None if value is None else value.upper() not in ("OFF", "0")

    def read(self):
        channels = self.channels()
        galera, group = self.galera(), self.group()
        read_only = bool(self._is_on("read_only"))
        log_bin = bool(self._is_on("log_bin"))
        return {
            "engine": self.database.engine,
            "version": self.database.version_text,
            "hostname": self.variables.get("hostname"),
            "port": _number(self.variables.get("port")),
            "server_id": _number(self.variables.get("server_id")),
            "server_uuid": self.variables.get("server_uuid"),
            "read_only": read_only,
            "super_read_only": self._is_on("super_read_only"),
            "log_bin": log_bin,
            "binlog_format": self.variables.get("binlog_format"),
            "gtid_executed": self._gtids(),
            "channels": channels,
            "is_replica": bool(channels),
            "is_replicating": bool(channels) and all(_is_running(channel) for channel in channels),
            # Without a binary log there is nothing to follow, and MySQL refuses to show who does.
            "replicas": self.replicas() if log_bin else [],
            "dump_threads": self.dump_threads(),
            "galera": galera,
            "group_replication": group,
            "accepts_writes": not read_only
            and (galera is None or galera["accepts_writes"])
            and (group is None or group["state"] in ("ONLINE", "OFFLINE")),
        }

    def _gtids(self):
        text = self.variables.get("gtid_executed" if self.is_mysql else "gtid_current_pos")
        return None if text is None else text.replace("\n", "")

    def channels(self):
        statement = "SHOW ALL SLAVES STATUS"
        if self.is_mysql:
            is_new = self.database.version >= (8, 0, 22)
            statement = "SHOW REPLICA STATUS" if is_new else "SHOW SLAVE STATUS"
        right = monitor_right(self.database.engine, self.database.version)
        rows = self._guarded(statement, right, "*.*", f"{statement}, the state of replication")
        return [channel for channel in map(_channel, rows) if channel["name"] not in GROUP_CHANNELS]

    def replicas(self):
        is_new = self.is_mysql and self.database.version >= (8, 0, 22)
        statement = "SHOW REPLICAS" if is_new else "SHOW SLAVE HOSTS"
        right = hosts_right(self.database.engine, self.database.version)
        return [
            {
                "server_id": int(row["server_id"]),
                "host": row.get("host") or None,
                "port": _number(row.get("port")) or None,
                "server_uuid": row.get("replica_uuid") or None,
            }
            for row in self._guarded(statement, right, "*.*", f"{statement}, the connected replicas")
        ]

    def dump_threads(self):
        # The process list of an account without the right has its own connections only, and no error.
        self._guarded(
            "SELECT 1 FROM information_schema.INNODB_CMP LIMIT 1",
            "PROCESS",
            "*.*",
            "the addresses of those who read the binary log",
        )
        rows = self.database.rows(
            "SELECT USER AS user, HOST AS host FROM information_schema.PROCESSLIST WHERE COMMAND IN "
            "('Binlog Dump', 'Binlog Dump GTID') ORDER BY ID"
        )
        return [{"user": row["user"], "address": _without_port(row["host"])} for row in rows]

    def galera(self):
        """The node's state in its cluster, None without one."""
        if not self._is_on("wsrep_on"):
            return None
        names = ", ".join(f"'{name}'" for name in WSREP_STATUS)
        rows = self.database.rows(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
        status = {row["variable_name"].lower()[len("wsrep_") :]: row["value"] for row in rows}
        is_ready, is_primary = status.get("ready") == "ON", status.get("cluster_status") == "Primary"
        takes_queries = self.variables.get("wsrep_reject_queries", "NONE").upper() == "NONE"
        return {
            "cluster_uuid": status.get("cluster_state_uuid"),
            "cluster_size": _number(status.get("cluster_size")) or 0,
            "cluster_status": status.get("cluster_status"),
            "addresses": [name for name in (status.get("incoming_addresses") or "").split(",") if name],
            "state": status.get("local_state_comment"),
            "ready": is_ready,
            "accepts_writes": is_ready and is_primary and takes_queries and not self._is_on("read_only"),
        }

    def group(self):
        """The member's state in its replication group, None without the plugin."""
        if not self.variables.get("group_replication_group_name"):
            return None
        rows = self._guarded(
            "SELECT MEMBER_ID AS id, MEMBER_HOST AS host, MEMBER_PORT AS port, MEMBER_STATE AS state, "
            "MEMBER_ROLE AS role FROM performance_schema.replication_group_members ORDER BY id",
            "SELECT",
            "performance_schema.replication_group_members",
            "the state of group replication",
        )
        members = [{**row, "port": _number(row["port"])} for row in rows if row["id"]]
        own = next((row for row in members if row["id"] == self.variables.get("server_uuid")), {})
        return {
            "name": self.variables["group_replication_group_name"],
            "state": own.get("state") or "OFFLINE",
            "role": own.get("role") or None,
            "single_primary": bool(self._is_on("group_replication_single_primary_mode")),
            "members": members,
        }


def _is_running(channel):
    return channel["io_running"] == channel["sql_running"] == "Yes"


def _without_port(address):
    """A connection's address without its port, which is of no use."""
    host, separator, port = address.rpartition(":")
    return host if separator and port.isdigit() else address


def _channel(row):
    return {
        "name": row.get("connection_name") or row.get("channel_name") or "",
        "source_host": row["source_host"],
        "source_port": _number(row["source_port"]),
        # Not known before the first connection.
        "source_server_id": _number(row.get("source_server_id")) or None,
        "source_uuid": row.get("source_uuid") or None,
        "io_running": row["replica_io_running"],
        "io_error_number": _number(row["last_io_errno"]) or 0,
        "io_error": row["last_io_error"] or "",
        "sql_running": row["replica_sql_running"],
        "sql_error_number": _number(row["last_sql_errno"]) or 0,
        "sql_error": row["last_sql_error"] or "",
        "seconds_behind": _number(row["seconds_behind_source"]),
    }
