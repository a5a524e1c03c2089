# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences in a file: there may be more than memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

import msgspec

from gearsync.operate.verify.report import Difference


class Spool:
    """Differences that are read again in the groups in which they were added."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, differences: Sequence[Difference]) -> None:
        encoded = msgspec.msgpack.encode(differences)
        self._file.write(b"%d\n%s" % (len(encoded), encoded))

    def read(self) -> Iterator[list[Difference]]:
        self._file.seek(0)
        for line in iter(self._file.readline, b""):
            yield [Difference(*each) for each in msgspec.msgpack.decode(self._file.read(int(line)))]
