# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests share: private servers, processes that are watched, and waiting with a deadline."""
