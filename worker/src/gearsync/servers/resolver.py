"""Names of hosts, for a process that must not wait for a name server."""

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


def _ask(host: Any, *arguments: Any, _getaddrinfo: Callable[..., Any] = socket.getaddrinfo, **options: Any) -> Any:
    """What ``socket.getaddrinfo`` answers. For a text it loads the tables of international names in each process, whether it needs them or not."""
    return _getaddrinfo(host.encode() if isinstance(host, str) and host.isascii() else host, *arguments, **options)


class _Question:
    """A name that is asked for in a thread of its own."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.asked = False
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
    """In place of ``socket.getaddrinfo``, by which all libraries resolve names: waits for a short time, and goes on with the last answer."""

    def __init__(self, seconds: float, ask: Callable[..., Any] = _ask) -> None:
        """``seconds``: how long one call may wait for ``ask``, which goes on behind: the next call finds its answer."""
        self._seconds = seconds
        self._ask = ask
        self._lock = threading.Lock()
        self._open: dict[Any, _Question] = {}
        self._last: dict[Any, Any] = {}

    def __call__(self, host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        """What ``ask`` answers. Raises OSError, a gaierror when there is no answer in time and none from before."""
        if host is None or _is_address(host):
            return self._ask(host, port, *arguments, **options)
        name = (host, port, arguments, tuple(sorted(options.items())))
        with self._lock:
            question = self._open.get(name) or self._open.setdefault(name, _Question(lambda: self._ask(host, port, *arguments, **options)))
            # Who has waited once does so no more where there is an answer from before.
            seconds = 0.0 if question.asked and name in self._last else self._seconds
            question.asked = True
        answered = question.done.wait(seconds)
        with self._lock:
            if answered:
                self._open.pop(name, None)
            if answered and question.error is None:
                self._last[name] = question.answer
            elif answered and getattr(question.error, "errno", 0) != socket.EAI_AGAIN:
                raise question.error  # type: ignore[misc]  # it is not None here
            if name in self._last:
                return self._last[name]
        raise question.error or socket.gaierror(socket.EAI_AGAIN, f"no name server has answered for {host}")
