# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying changes: from the outbox, and from jobs of direct delivery."""
