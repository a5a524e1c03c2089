# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gearsync, a file for each subcommand."""
