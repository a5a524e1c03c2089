# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the pipeline at this moment, for `gearsync status` and the exporter."""
