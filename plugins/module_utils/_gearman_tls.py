# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS to job servers: a module's options, and what is made of them."""

from __future__ import annotations

import contextlib
import ssl


def tls_argument_spec():
    return {
        "tls": {"type": "bool", "default": False},
        "tls_ca_file": {"type": "path"},
        "tls_cert_file": {"type": "path"},
        # A path, and no secret.
        "tls_key_file": {"type": "path", "no_log": False},
        "tls_server_name": {"type": "str"},
        "tls_minimum_version": {"type": "str", "choices": ["TLSv1.2", "TLSv1.3"], "default": "TLSv1.2"},
    }


class TlsError(Exception):
    """The options of TLS do not fit together, or a file is of no use."""


@contextlib.contextmanager
def _naming(option, file):
    """Neither Python nor OpenSSL names the file of an error."""
    try:
        with open(file, "rb"):
            pass
        yield
    except OSError as error:
        raise TlsError(
            "{}: {} cannot be used: {}".format(
                option, file, getattr(error, "reason", None) or error.strerror or error
            )
        ) from error


class Tls:
    """Wraps a socket as an ssl.SSLContext does, for a server that has the given name in its certificate."""

    def __init__(self, context, server_name):
        self._context, self._server_name = context, server_name

    def wrap_socket(self, connection, server_hostname):
        return self._context.wrap_socket(connection, server_hostname=self._server_name or server_hostname)


def tls_context(params):
    """The Tls of a module's options, or None without TLS. Raises TlsError, which names the option."""
    if not params["tls"]:
        return None
    if bool(params["tls_cert_file"]) != bool(params["tls_key_file"]):
        raise TlsError("tls_cert_file and tls_key_file need each other")
    if params["tls_ca_file"]:
        with _naming("tls_ca_file", params["tls_ca_file"]):
            context = ssl.create_default_context(cafile=params["tls_ca_file"])
    else:
        context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion[params["tls_minimum_version"].replace(".", "_")]
    # Python 3.13 became stricter than OpenSSL, and than the SQL functions: not every private authority is
    # made by the book.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if params["tls_cert_file"]:
        key, cert = (_naming(name, params[name]) for name in ("tls_key_file", "tls_cert_file"))
        with key, cert:
            # An encrypted key is an error; without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(params["tls_cert_file"], params["tls_key_file"], password=lambda: "")
    return Tls(context, params["tls_server_name"])
