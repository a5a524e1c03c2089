# SPDX-License-Identifier: GPL-3.0-or-later
import sys
from pathlib import Path

# The collection under the name by which it imports itself; a link in the checkout leads back to it.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".collections"))
