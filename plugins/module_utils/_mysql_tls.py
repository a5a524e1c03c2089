# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PyMySQL connection that never falls back from TLS, and never takes it for verified when it is not."""

from __future__ import annotations

import ssl


def _unverified():
    """TLS without verification of the server. PyMySQL's own context reads all certificate authorities of the
    host for that, which takes longer than the rest of a login.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def open_connection(pymysql, arguments):
    """A connection. Raises what PyMySQL raises, and ValueError."""

    # PyMySQL may be missing where this file is read.
    class Connection(pymysql.connections.Connection):
        def _create_ssl_ctx(self, sslp):
            if not sslp:
                return _unverified()
            context = super()._create_ssl_ctx(sslp)
            wanted = isinstance(sslp, dict) and sslp.get("check_hostname") is not False
            if wanted and context.verify_mode == ssl.CERT_NONE:
                raise ValueError(
                    "client_cert and client_key need ca_cert: without it the server's certificate is not "
                    "verified at all. check_hostname: false allows that"
                )
            return context

        def _get_server_information(self):
            super()._get_server_information()
            # Releases before 2 go on in plain text; in later ones the attribute is false where that is meant.
            demanded = self.ssl and getattr(self, "_ssl_required", True)
            if demanded and not self.server_capabilities & pymysql.constants.CLIENT.SSL:
                raise pymysql.err.OperationalError(
                    2026, "the server has no TLS, which ca_cert, client_cert or check_hostname demands"
                )

    return Connection(**arguments)
