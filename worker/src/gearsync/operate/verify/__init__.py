# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare MySQL with Redis: rows with their keys, keys with their rows. What differs is compared again before
it is reported.

Memory is constant: one piece of the table, or one page of Redis' keys, at a time.
"""
