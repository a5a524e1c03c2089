# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names, resolved without a long wait for a name server."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any, Callable, Optional


def _is_address(host: Any) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ask(
    host: Any, *arguments: Any, _getaddrinfo: Callable[..., Any] = socket.getaddrinfo, **options: Any
) -> Any:
    """What ``socket.getaddrinfo`` returns. An ASCII name is passed as bytes: for a str it loads the IDNA
    tables into each process.
    """
    return _getaddrinfo(
        host.encode() if isinstance(host, str) and host.isascii() else host, *arguments, **options
    )


class _Query:
    """A query in a thread of its own."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        #: Whether a caller has waited for it.
        self.waited_for = False
        self.done = threading.Event()
        self.answer: Any = None
        self.error: Optional[OSError] = None
        self._ask = ask
        threading.Thread(target=self._run, name="resolver", daemon=True).start()

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except OSError as error:
            self.error = error
        self.done.set()


class Resolver:
    """Replaces ``socket.getaddrinfo``, which all libraries call: waits for a short time, then uses the
    last answer.
    """

    def __init__(self, seconds: float, ask: Callable[..., Any] = _ask) -> None:
        """One call waits ``seconds`` for ``ask``, which continues in the background: the next call gets
        its answer.
        """
        self._seconds = seconds
        self._ask = ask
        self._lock = threading.Lock()
        self._open: dict[Any, _Query] = {}
        self._last: dict[Any, Any] = {}

    def __call__(self, host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        """What ``ask`` returns. Raises OSError: a gaierror when there is no answer in time and no earlier
        one.
        """
        if host is None or _is_address(host):
            return self._ask(host, port, *arguments, **options)
        name = (host, port, arguments, tuple(sorted(options.items())))
        with self._lock:
            query = self._open.get(name) or self._open.setdefault(
                name, _Query(lambda: self._ask(host, port, *arguments, **options))
            )
            # Where there is an earlier answer, one call waits for a slow query, and later calls do not.
            seconds = 0.0 if query.waited_for and name in self._last else self._seconds
            query.waited_for = True
        answered = query.done.wait(seconds)
        with self._lock:
            if answered:
                self._open.pop(name, None)
            if answered and query.error is None:
                self._last[name] = query.answer
            elif answered and getattr(query.error, "errno", 0) != socket.EAI_AGAIN:
                raise query.error  # type: ignore[misc]  # it is not None here
            if name in self._last:
                return self._last[name]
        raise query.error or socket.gaierror(
            socket.EAI_AGAIN,
            f"no name server has answered for {host}; check the host's resolver configuration",
        )
