# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators use: status, verify, resync, selftest, metrics."""
