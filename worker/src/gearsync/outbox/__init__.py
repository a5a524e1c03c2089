# SPDX-License-Identifier: GPL-3.0-or-later
"""The workers' tables in MySQL: changes, leases, declarations, synced tables, dead letters."""
