# SPDX-License-Identifier: GPL-3.0-or-later
"""Load tables, or load them again: their rows go through the outbox, piece by piece, while the
application writes.
"""
