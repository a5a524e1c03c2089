# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role worker reads in the output of `gearsync selftest` is what that prints."""

from __future__ import annotations

import re

from harness.places import ROOT


def test_the_role_knows_the_message_about_a_schema_that_is_made_after_the_worker() -> None:
    tolerated = re.findall(
        r"\(\?!\.\* (.*?: )\)", (ROOT / "roles/worker/tasks/check_source.yml").read_text(encoding="utf-8")
    )
    source = (ROOT / "worker/src/gearsync/operate/selftest.py").read_text(encoding="utf-8")
    assert tolerated == ["does not exist yet, run site.yml: "]
    assert tolerated[0] in re.findall(r"the schema \{SCHEMA\} (.*?: )\{", source)
