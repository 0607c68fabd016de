"""What a plan says of memory against what the kernel counts.

    python benches/memory.py [--talkie target/release/talkie] [--json FILE] CASE…

A CASE is the arguments of `talkie generate` in one word: "a fox -m FOLDER --size 256x256 --frames 17". Each is planned, and then
run; when a stage begins the kernel's count of the process's largest resident set is set back, and when it ends it is read.
Linux only; needs nothing but Python.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path


def largest(process: int) -> int:
    """The largest resident set since the count was set back, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the kernel does not count")


def measure(command: list[str]) -> dict[str, int]:
    """The peak of each stage of a run."""
    peaks: dict[str, int] = {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "begin":
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        if event.get("event") == "end":
            stage = event["stage"]
            peaks[stage] = max(peaks.get(stage, 0), largest(process.pid))
    words = process.stderr.read()
    if process.wait() != 0:
        raise SystemExit(f"{shlex.join(command)} failed:\n{words}")
    return peaks


def planned(command: list[str]) -> dict[str, int]:
    """What the plan says of each stage."""
    plan = json.loads(subprocess.run([*command, "--plan"], check=True, capture_output=True, text=True).stdout)
    return {stage["stage"]: stage["weights"] + stage["scratch"] for stage in plan["stages"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--talkie", default="target/release/talkie")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("cases", nargs="+", metavar="CASE")
    asked = parser.parse_args()
    figures, ratios = [], []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TALKIE_HOME"] = f"{scratch}/home"
        for case in asked.cases:
            print(case, flush=True)
            output = ["-o", f"{scratch}/frames{len(figures)}/", "--json", "--seed", "1"]
            command = [asked.talkie, "generate", *shlex.split(case), *output]
            plan, found = planned(command), measure(command)
            for stage, peak in found.items():
                said = plan.get(stage, 0)
                print(f"  {stage:8} {said / 1e6:9.1f} MB said {peak / 1e6:9.1f} MB found {said / peak:6.3f}", flush=True)
            said, peak = max(plan.values()), max(found.values())
            ratios.append(said / peak)
            print(f"  {'peak':8} {said / 1e6:9.1f} MB said {peak / 1e6:9.1f} MB found {said / peak:6.3f}", flush=True)
            figures.append({"case": case, "said": plan, "found": found})
    print(f"{len(figures)} cases: from {min(ratios):.3f} to {max(ratios):.3f} of what was found")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
