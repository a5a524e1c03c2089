# SPDX-License-Identifier: GPL-3.0-or-later
"""How a server is spoken to by TLS. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Optional, Union

import msgspec

from gearsync.declare.config_file import Path
from gearsync.declare.problem import Problem


class TlsSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """TLS that verifies the server: ``ca`` empty for the system's authorities, ``cert`` and ``key`` empty
    for no certificate of one's own, ``server_name`` empty for the name that is connected to.
    """

    ca: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None
    server_name: Optional[str] = None
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"


class ServingTls(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """TLS of a server of the worker's own: ``ca`` empty for clients without a certificate."""

    cert: str
    key: str
    ca: Optional[str] = None
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"


#: As it is written: off, on with the system's authorities, or on with these settings.
Tls = Union[bool, TlsSettings, None]


def tls_settings(written: Tls) -> Optional[TlsSettings]:
    """None when it is off."""
    return TlsSettings() if written is True else written or None


def tls_problems(path: Path, written: Tls) -> Iterator[Problem]:
    """What is wrong with the settings under ``path``."""
    tls = tls_settings(written)
    if tls and bool(tls.cert) != bool(tls.key):
        yield Problem(path, "cert and key need each other", "name both files, or neither")
