# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be written where: the configuration file, the declared tables and their templates."""
