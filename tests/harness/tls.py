# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS for tests, of these libraries and of the collection's other parts: certificates, and a front before
servers that speak none.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any


class Certificates:
    """An authority and what it has signed, in files of `directory`: NAME.pem and NAME.key."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.directory = directory
        for authority in ("ca", "other-ca"):
            self.openssl(
                "req",
                "-x509",
                "-days",
                "2",
                "-subj",
                f"/CN={authority}",
                # Python 3.13 and later want it.
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
                "-out",
                f"{authority}.pem",
                *self._new_key(authority),
            )
        self.issue(
            "server", "DNS:localhost,IP:127.0.0.1,IP:::1" + (f",IP:{host}" if host != "127.0.0.1" else "")
        )
        self.issue("elsewhere", "DNS:elsewhere.example,IP:127.0.0.2")
        self.issue("expired", "DNS:localhost,IP:127.0.0.1", days=0)
        self.issue("client", "DNS:client.example")
        self.issue("stranger", "DNS:stranger.example", authority="other-ca")

    @staticmethod
    def _new_key(name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]

    def openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, cwd=self.directory, capture_output=True)

    def issue(self, name: str, names: str, days: int = 1, authority: str = "ca") -> None:
        (self.directory / "names").write_text(f"subjectAltName={names}\n")
        self.openssl("req", "-subj", f"/CN={name}", "-out", f"{name}.csr", *self._new_key(name))
        self.openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            f"{authority}.pem",
            "-CAkey",
            f"{authority}.key",
            "-CAcreateserial",
            "-days",
            str(days),
            "-extfile",
            "names",
            "-out",
            f"{name}.pem",
        )

    def path(self, file: str) -> str:
        return str(self.directory / file)

    def of_redis(self, name: str = "server") -> list[str]:
        """Options of a Redis or a Sentinel that shows this certificate, and wants one of `ca`."""
        files = {"cert": f"{name}.pem", "key": f"{name}.key", "ca-cert": "ca.pem"}
        return [
            word for option, file in files.items() for word in (f"--tls-{option}-file", self.path(file))
        ] + ["--tls-replication", "yes"]

    @property
    def of_redis_client(self) -> dict[str, Any]:
        """Options of redis-py, for a test's own client: whatever the server shows."""
        return {
            "ssl": True,
            "ssl_cert_reqs": "none",
            "ssl_certfile": self.path("client.pem"),
            "ssl_keyfile": self.path("client.key"),
        }

    def context(self, name: str = "server", client_ca: str = "") -> ssl.SSLContext:
        """A server's, which asks for a client's certificate of client_ca."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if client_ca:
            context.load_verify_locations(self.path(f"{client_ca}.pem"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class TlsFront:
    """Speaks TLS on a port of its own and hands all that it gets on to a plain server: distributions
    build gearmand without TLS.
    """

    def __init__(self, context: ssl.SSLContext, target: tuple[str, int]) -> None:
        host = target[0]
        self.context, self.target = context, target
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((host, 0), backlog=128)
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with (
                self.context.wrap_socket(connection, server_side=True) as secure,
                socket.create_connection(self.target) as plain,
            ):
                self._sockets += [secure, plain]
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secure.setblocking(False)
                while self._to_plain(secure, plain) and self._to_secure(secure, plain):
                    if not secure.pending():
                        select.select([secure, plain], [], [], 1)
        except (OSError, ValueError):  # ValueError: `stop` closed a socket before select got its number
            pass

    @staticmethod
    def _to_plain(secure: ssl.SSLSocket, plain: socket.socket) -> bool:
        try:
            data = secure.recv(65536)
        except ssl.SSLWantReadError:
            return True
        plain.sendall(data)
        return bool(data)

    @staticmethod
    def _to_secure(secure: ssl.SSLSocket, plain: socket.socket) -> bool:
        try:
            data = plain.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        secure.setblocking(True)
        secure.sendall(data)
        secure.setblocking(False)
        return bool(data)

    def stop(self) -> None:
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
