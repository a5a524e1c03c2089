# SPDX-License-Identifier: GPL-3.0-or-later
"""From a change to Redis commands, and from a row to what Redis should hold for it."""
