# SPDX-License-Identifier: GPL-3.0-or-later
"""gearsync: applies MySQL's changes, handed over as Gearman jobs, to Redis."""

__version__ = "1.0.0"
