# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections of a drain."""

from __future__ import annotations

from typing import NamedTuple, Optional

from gearsync.servers.gearman import JobServers
from gearsync.servers.mysql import Database
from gearsync.servers.primary import Watch
from gearsync.servers.target import Target


class Servers(NamedTuple):
    """The connections of a drain."""

    jobs: JobServers
    target: Target
    database: Database
    #: A second connection, over which applied changes are deleted.
    deleting: Database
    #: Where there are several members: which of them is the primary.
    watch: Optional[Watch] = None
