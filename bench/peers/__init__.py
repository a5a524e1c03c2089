# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems that carry changes from MySQL to Redis, and the work that each of them gets."""
