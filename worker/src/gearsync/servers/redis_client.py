# SPDX-License-Identifier: GPL-3.0-or-later
"""redis-py's clients, with TLS that is the same for each of them."""

from __future__ import annotations

from typing import Any, Optional

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from gearsync.declare.configuration import DEFAULT_SENTINEL_PORT, RedisSettings, parse_address
from gearsync.declare.tls import TlsSettings, tls_settings
from gearsync.servers.hops import Hop, hop
from gearsync.servers.redis_errors import Unavailable, message_of
from gearsync.servers.tls import Handshake


def secured(kind: Any, tls: TlsSettings) -> Any:
    """The connections of this class, over TLS."""

    class Secured(kind):  # type: ignore[misc]  # whichever it is
        def _connect(self) -> Any:
            handshake = Handshake(tls)
            connection = super()._connect()
            try:
                return handshake.wrap_socket(connection, self.host)
            except BaseException:
                connection.close()
                raise

    return Secured


def _with_tls(client: redis.Redis, tls: Optional[TlsSettings]) -> redis.Redis:
    """A client that has not connected yet."""
    if tls:
        pool = client.connection_pool
        pool.connection_class = secured(pool.connection_class, tls)
    return client


def _sentinel(settings: RedisSettings, address: str, timeout: float) -> redis.Redis:
    host, port = parse_address(address, DEFAULT_SENTINEL_PORT)
    client = redis.Redis(
        host=host,
        port=port,
        username=settings.sentinel_username,
        password=settings.sentinel_password,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )
    return _with_tls(client, tls_settings(settings.sentinel_tls))


def server_client(settings: RedisSettings, timeout: float) -> redis.Redis:
    """A client of one server, by its address or as the master that Sentinels know; ``timeout`` bounds
    connecting and every answer, in seconds.
    """
    options: dict[str, Any] = {
        "db": settings.db,
        "username": settings.username,
        "password": settings.password,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # The caller retries: it holds the jobs meanwhile.
        "retry": Retry(NoBackoff(), 0),
    }
    if settings.unix_socket and not settings.sentinels:
        return redis.Redis(unix_socket_path=settings.unix_socket, **options)
    options["socket_keepalive"] = True
    if not settings.sentinels:
        return _with_tls(redis.Redis(host=settings.host, port=settings.port, **options), settings.secured)
    # All sentinels together take no longer than one answer may; the caller retries.
    share = timeout / (2 * len(settings.sentinels))
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    sentinel.sentinels = [_sentinel(settings, each, share) for each in settings.sentinels]
    master = sentinel.master_for(str(settings.sentinel_master), **options)  # type: ignore[no-untyped-call]
    return _with_tls(master, settings.secured)


def hop_of(client: redis.Redis, is_verified: bool) -> Hop:
    """How the way to the client's server is protected. Raises Unavailable."""
    connection: Any = client.connection_pool.make_connection()
    try:
        connection.connect()
        return hop(connection._sock, is_verified)
    except (exceptions.RedisError, OSError) as error:
        raise Unavailable(message_of(error)) from None
    finally:
        connection.disconnect()


def sentinel_hop(settings: RedisSettings, address: str, timeout: float) -> Hop:
    """How the way to a Sentinel is protected, that knows the master. Raises Unavailable."""
    client = _sentinel(settings, address, timeout)
    try:
        if not client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.sentinel_master):  # type: ignore[no-untyped-call]
            raise Unavailable(f"it knows no master {settings.sentinel_master}: correct redis.sentinel_master")
        return hop_of(client, tls_settings(settings.sentinel_tls) is not None)
    except (exceptions.RedisError, OSError) as error:
        raise Unavailable(message_of(error)) from None
    finally:
        client.close()
