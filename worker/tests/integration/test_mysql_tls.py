# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's connections to MySQL over TLS."""

from __future__ import annotations

import pathlib

from gearsync.declare.configuration import MySQLSettings
from gearsync.servers.mysql import Database
from harness.outbox_database import OutboxDatabase
from harness.tls import Certificates


def test_connections_use_tls_where_there_is_some_and_share_a_context_without_authorities(
    tmp_path: pathlib.Path,
) -> None:
    certificates = Certificates(tmp_path)
    with OutboxDatabase(
        f"--ssl-cert={certificates.path('server.pem')}", f"--ssl-key={certificates.path('server.key')}"
    ) as server:
        server.execute("CREATE USER someone@'127.0.0.1' IDENTIFIED BY 'word'")
        sessions = [
            Database(MySQLSettings(user="someone", password="word", host="127.0.0.1", port=server.port), 5.0)
            for _ in range(2)
        ]
        for session in sessions:
            assert session.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]
        first, second = (session.connection.ctx for session in sessions)
        assert first is second
        assert first.cert_store_stats()["x509_ca"] == 0
        for session in sessions:
            session.close()
