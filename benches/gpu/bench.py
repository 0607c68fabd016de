"""Checks and measures talkie on a GPU, part by part, and goes on after a part that fails. benches/gpu.sh starts it."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

import parity
import reference
import speed
from run import BEGIN, ROOT, Row, Run, Skip, note
from talkie import Late

# In this order, should the time not be enough. 1.3B's folder serves several.
PARTS = {
    "parity": parity.parity,
    "wan-1.3b": speed.timed("wan-1.3b"),
    "wan-14b": speed.timed("wan-14b"),
    "vae-2.1": speed.timed("vae-2.1"),
    "vae-2.2": speed.timed("vae-2.2"),
    "wan-5b": speed.timed("wan-5b"),
    "cold": speed.cold,
    "plain": parity.plain,
    "streamed": parity.streamed,
    "compile": speed.compiled,
}


def machine(asked: argparse.Namespace) -> dict:
    """What the figures belong to."""
    own = subprocess.run([asked.talkie, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    facts = {"device": asked.device, "tiny": asked.tiny, "talkie": own, "ceiling": reference.ceiling(asked.device)}
    for name in ("torch", "diffusers", "transformers"):
        facts[name] = version(name) if find_spec(name) else None
    if asked.device != "cpu":
        facts |= {"gpu": torch.cuda.get_device_name(), "memory": torch.cuda.mem_get_info()[1], "cuda": torch.version.cuda}
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def refuse(words: str, advice: str) -> None:
    print(f"error: {words}\n  try: {advice}", file=sys.stderr)
    raise SystemExit(2)


def ready(asked: argparse.Namespace) -> None:
    """Stops before anything is made that would not be measured."""
    if not asked.talkie.is_file():
        build = "cargo build --release --no-default-features --features cuda,cudnn"
        refuse(f"there is no {asked.talkie}", f"{build}, or --talkie BINARY")
    if asked.device != "cpu" and not torch.cuda.is_available():
        advice = "nvidia-smi, which shows what there is; --device cpu --tiny tries the bench without"
        refuse("PyTorch sees no CUDA device", advice)
    linked = subprocess.run(["ldd", asked.talkie], capture_output=True, text=True).stdout.splitlines()
    if missing := [line.split()[0] for line in linked if "not found" in line]:
        advice = "LD_LIBRARY_PATH=FOLDER, or a binary built against the CUDA that is here"
        refuse(f"{asked.talkie} lacks {', '.join(missing)}", advice)


def measure(run: Run, name: str) -> list[Row]:
    """The rows of a part, told as they come. What goes wrong is a row, too."""
    rows = []

    def tell(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    try:
        if time.monotonic() > run.end - 60:
            raise Skip(f"less than a minute of the {run.asked.minutes:g} was left: --only {name}")
        for row in PARTS[name](run):
            tell(row)
    except (Skip, Late) as why:
        tell(Row(name, "NOT RUN" if isinstance(why, Skip) else "NOT DONE", None, "", str(why)))
    except Exception as why:  # noqa: BLE001, whatever it is, the other parts are to be measured
        tell(Row(name, "BROKEN", None, "", f"{type(why).__name__}: {why}", parity=True))
    reference.free(run.device)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--talkie", type=Path, default=ROOT / "target" / "release" / "talkie", help="the binary")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "gpu-bench", help="where gpu.json goes, every figure")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="networks and films next to nothing, to try the bench itself")
    parser.add_argument("--folders", type=Path, help="where weights are made [default: /dev/shm, or where temporary files are]")
    parser.add_argument("--minutes", type=float, default=8, help="no part begins in the last of them [default: 8]")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that 28 GB in memory are given back
    ready(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine(asked)}
    print(json.dumps(figures["machine"]), flush=True)
    print(f"{'part':10}{'what':52}{'measured':>10}  {'bar':9}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(asked, Path(scratch), figures["machine"]["ceiling"])
        try:
            for name in asked.only or PARTS:
                rows += measure(run, name)
                run.forget("wan-1.3b")
                told = [asdict(row) | {"verdict": row.verdict()} for row in rows]
                figures |= {"rows": told, "measured": run.figures, "seconds": time.monotonic() - BEGIN}
                (asked.out / "gpu.json").write_text(json.dumps(figures, indent=1) + "\n")
        finally:
            run.forget()
    failed = [f"{row.part}: {row.what}" for row in rows if row.verdict() == "FAILED"]
    missed = [f"{row.part}: {row.what}" for row in rows if row.verdict() == "missed"]
    note(f"{len(failed)} failed, {len(missed)} bars missed; every figure is in {asked.out / 'gpu.json'}")
    for words in failed:
        print(f"FAILED {words}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
