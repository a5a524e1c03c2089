# SPDX-License-Identifier: GPL-3.0-or-later
"""The article's test function, which reverses a text."""

from __future__ import annotations

NAME = "reverse"


def reverse(data: bytes) -> bytes:
    """``data`` reversed by characters where it is UTF-8, else by bytes."""
    try:
        return data.decode()[::-1].encode()
    except UnicodeDecodeError:
        return data[::-1]
