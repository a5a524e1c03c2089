# SPDX-License-Identifier: GPL-3.0-or-later
"""MySQL, Redis and the job servers: connections, requests, and what their errors mean."""
