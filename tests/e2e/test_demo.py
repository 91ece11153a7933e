"""`make demo EXIT=1`, as a newcomer starts it: everything on one machine, to the comparison of both systems."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_ends_with_both_systems_in_agreement_and_nothing_odd_in_its_logs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.demo", "--exit"],
        env={**os.environ, "DEMO_HOME": str(tmp_path / "demo")},
        capture_output=True,
        text=True,
        timeout=400,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "both systems agree" in done.stdout
    assert "Traceback" not in done.stderr
    logs = {log.name: log.read_text(errors="replace") for log in (tmp_path / "demo" / "logs").glob("*.log")}
    assert len(logs) == 10, sorted(logs)  # two stand-ins, seven services, control
    assert [name for name, text in logs.items() if "Traceback" in text or '"level": "error"' in text] == []
