# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server that runs as a user can use its files of TLS. Arguments: the user, the certificate, its
key, the authorities (empty for the system's), and a word when the role shows the certificate, too. Exits with
1, and the reason on standard error, when it cannot.

Run by the Python of the host, from standard input.
"""

import os
import pwd
import ssl
import sys


def become(user):
    """Go on as the user; without, when there is none yet."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        print("no user", user)
        return
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def read(user, *files):
    for file in filter(None, files):
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            sys.exit(f"{file} cannot be read by the user {user}: {error.strerror}")


def contexts(cert, key, ca, shows):
    """Of the server and of a client as the role is one."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(cert, key, password=lambda: "")
    except OSError as error:
        sys.exit(f"{key} is not the key of {cert}, or one of both is damaged: {error.args[-1]}")
    try:
        client = ssl.create_default_context(cafile=ca or None)
        if shows:
            server.load_verify_locations(ca)
    except OSError as error:
        sys.exit(f"{ca} has no certificates of authorities: {error.args[-1]}")
    client.check_hostname = False
    # Python 3.13 became stricter than OpenSSL.
    client.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if shows:
        server.verify_mode = ssl.CERT_REQUIRED
        client.load_cert_chain(cert, key, password=lambda: "")
    return server, client


def agree(server, client, cert, ca):
    """A handshake between the two, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    of_client = client.wrap_bio(to_client, to_server)
    of_server = server.wrap_bio(to_server, to_client, server_side=True)
    for end, purpose in ((of_client, "servers"), (of_server, "clients")) * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", None) or error.reason or error
            sys.exit(
                "{} is not accepted with the authorities in {} as a certificate of {}: {}".format(
                    cert, ca or "the system", purpose, reason
                )
            )


def main(user, cert, key, ca, shows):
    become(user)
    read(user, cert, key, ca)
    agree(*contexts(cert, key, ca, shows), cert, ca)


main(*sys.argv[1:])
