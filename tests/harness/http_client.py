# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a web server that a test started."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class Http:
    """A server on a port of this machine, asked by GET."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **parameters: Any) -> tuple[int, str]:
        """Status and body; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}", timeout=180
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)
