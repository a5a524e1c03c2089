"""What the service does without costs it no memory."""

from __future__ import annotations

import subprocess
import sys

from harness.worker import SOURCES


def test_the_service_imports_nothing_that_only_commands_and_the_exporter_need() -> None:
    script = "import sys, gearsync.cli.run; print(*{'rich', 'prometheus_client', 'http.server', 'gearsync.operate.verify'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env={"PYTHONPATH": str(SOURCES)})
    assert found.stdout.split() == []
