# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m gearsync``."""

import sys

from gearsync.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
