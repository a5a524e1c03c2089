# SPDX-License-Identifier: GPL-3.0-or-later
"""The command tests/run."""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from harness.places import memory

from runner.reports import Timing
from runner.schedule import Result, Run
from runner.steps import Invalid, Step, choose, load

ROOT = Path(__file__).resolve().parents[2]
#: Lines of a failed step's log that are shown.
TAIL = 60
#: Lines of a failed step that say why: of pytest, Ansible and make.
REASON = re.compile(r"^(FAILED|ERROR|E  |fatal:|CRITICAL|make: \*\*\*)")
SLOWEST = 10


def say(line: str) -> None:
    # In one piece, because two lanes may write at the same time.
    sys.stdout.write(f"{time.strftime('%T')}  {line}\n")
    sys.stdout.flush()


def slowest(title: str, timings: list[Timing]) -> None:
    """Print the ten that took longest; those of one name are shown by their longest."""
    longest: dict[str, float] = {}
    for seconds, name in timings:
        longest[name] = max(seconds, longest.get(name, 0))
    if longest:
        print(f"\n{title}:")
        for name, seconds in sorted(longest.items(), key=lambda item: -item[1])[:SLOWEST]:
            print(f"  {seconds:7.1f} s  {name[:150]}")


def show_failures(run: Run, results: list[Result]) -> None:
    """Print the end of each failed step's log, and then its reasons: of a long output only the end may be
    kept.
    """
    failed = [result for result in results if result.problem]
    texts = {
        result.step.name: run.log(result.step).read_text(errors="replace").splitlines() for result in failed
    }
    for result in failed:
        print(f"\n{result.step.name}: {result.problem} (log: {run.log(result.step)})")
        print("\n".join(f"    | {line}" for line in texts[result.step.name][-TAIL:]))
    for result in failed:
        print(f"\n{result.step.name}: {result.problem}")
        reasons = dict.fromkeys(line[:300] for line in texts[result.step.name] if REASON.match(line))
        print("\n".join(f"  {line}" for line in list(reasons)[-25:]))


def show(run: Run, steps: list[Step], results: list[Result], seconds: float) -> int:
    """Print what the run found; the exit status."""
    slowest("The slowest tests", [timing for result in results for timing in result.tests.timings])
    slowest("The slowest tasks", [timing for result in results for timing in result.tasks])
    skipped: collections.Counter[str] = collections.Counter()
    for result in results:
        skipped.update(
            {f"{result.step.name}: {reason}": number for reason, number in result.tests.skipped.items()}
        )
    if skipped:
        print(f"\nSkipped ({skipped.total()}):")
        for reason, number in sorted(skipped.items()):
            print(f"  {number:4}  {reason[:200]}")
    show_failures(run, results)
    missing = [step.name for step in steps if step.name not in {result.step.name for result in results}]
    failed = [result.step.name for result in results if result.problem]
    passed = sum(result.tests.passed for result in results)
    lost = sum(result.tests.failed for result in results)
    if missing:
        print(f"\nsteps without a result: {', '.join(missing)}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    if not missing and not failed:
        print(
            f"\nall {len(results)} steps passed in {seconds / 60:.1f} minutes: "
            f"{', '.join(step.name for step in steps)}"
        )
    print(f"{passed} passed, {lost} failed, {skipped.total()} skipped")
    return 1 if missing or failed else 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/run",
        description="Run the steps of a test run. Logs are in .work/log/STEP.log. Exit status 0 only when "
        "each step has passed.",
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="only these steps")
    parser.add_argument(
        "--file",
        type=Path,
        default=ROOT / "tests/steps.toml",
        help="the file of steps (default: tests/steps.toml)",
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".work", help="directory for logs and reports (default: .work)"
    )
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="steps at a time (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="list the steps")
    return parser.parse_args()


def main() -> int:
    arguments = read_arguments()
    try:
        steps = choose(load(arguments.file), arguments.steps)
    except Invalid as error:
        print(f"tests/run: {error}", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(step.name for step in steps))
        return 0
    os.environ["PATH"] = f"{ROOT / '.work/venv/bin'}:{os.environ['PATH']}"
    os.environ.update({"ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1"})
    # Thousands of processes of this checkout start: none compiles it anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    run = Run(ROOT, arguments.work.resolve(), steps, max(1, arguments.jobs), say)

    def stop(number: int, _frame: object) -> None:
        say(f"{signal.Signals(number).name}: ending the steps that run")
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    began = time.monotonic()
    # Short-lived files of all steps in one place, which goes with the run even when a step was killed.
    with contextlib.ExitStack() as stack:
        scratch = tempfile.mkdtemp(prefix="gearsync-run-", dir=memory())
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        os.environ["GEARSYNC_SCRATCH"] = scratch
        results = run.go()
    return show(run, steps, results, time.monotonic() - began)
