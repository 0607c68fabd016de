"""What the parts of the bench share: the command, the device, folders of weights, the time left, and rows of figures."""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import folders
import reference
from talkie import Talkie

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))
from against_diffusers import LONG  # noqa: E402, F401
from against_diffusers import PLAIN as UNGUIDED  # noqa: E402, F401

BEGIN = time.monotonic()
PROMPT = reference.PROMPT
GB = 1e9


class Skip(Exception):
    """A part that cannot be run here, and why."""


@dataclass
class Row:
    """A figure of a part. A `parity` check that misses its bar, or has no figure, makes the whole fail."""

    part: str
    what: str
    figure: float | None
    bar: str = ""
    detail: str = ""
    parity: bool = False

    def verdict(self) -> str:
        if self.figure is None or not self.bar:
            return "FAILED" if self.parity else ""
        sign, bar = self.bar.split()
        # Not the other way round: what is not a number is below no bar and above none.
        met = {"≤": self.figure <= float(bar), "≥": self.figure >= float(bar)}[sign]
        return "ok" if met else "FAILED" if self.parity else "missed"

    def __str__(self) -> str:
        figure = "–" if self.figure is None else f"{self.figure:.3g}"
        detail = " ".join(self.detail.split())
        return f"{self.part:10}{self.what:52}{figure:>10}  {self.bar:9}{self.verdict():8}{detail}".rstrip()


class Run:
    """What all parts share: the command, the device, the folders, and the time that is left."""

    def __init__(self, asked: argparse.Namespace, scratch: Path, ceiling: float):
        self.asked, self.device, self.scratch, self.ceiling = asked, asked.device, scratch, ceiling
        self.end = BEGIN + 60 * asked.minutes
        self.talkie = Talkie(str(asked.talkie), asked.device, scratch, lambda: self.end - time.monotonic())
        self.made: dict[str, Path] = {}
        self.seconds: dict[str, float] = {}  # of talkie, by model
        self.figures: dict[str, object] = {}

    def folder(self, model: str) -> Path:
        """A model's folder, made where there is room: in memory before on a disk."""
        if model not in self.made:
            need = folders.size(model, self.asked.tiny)
            places = [self.asked.folders] if self.asked.folders else [Path("/dev/shm"), Path(tempfile.gettempdir())]
            place = next((place for place in places if has_room(place, need)), None)
            if place is None:
                raise Skip(f"{need / GB:.0f} GB have no room in {' or '.join(map(str, places))}: --folders names another place")
            self.made[model] = Path(tempfile.mkdtemp(prefix="talkie-bench-", dir=place))
            begin = time.monotonic()
            folders.make(self.made[model], model, self.device, self.asked.tiny)
            note(f"{model}: {need / GB:.1f} GB made in {time.monotonic() - begin:.1f} s, in {place}")
            reference.free(self.device)
        return self.made[model]

    def forget(self, *but: str) -> None:
        for model in self.made.keys() - set(but):
            shutil.rmtree(self.made.pop(model), ignore_errors=True)

    def film(self, width: int, height: int, frames: int) -> list[str]:
        """The arguments of a film's shape."""
        if self.asked.tiny:
            width, height, frames = 64, 64, 9
        return ["--size", f"{width}x{height}", "--frames", str(frames)]


def has_room(place: Path, need: int) -> bool:
    """Whether a file fits into a place; into memory, with as much again for who reads it."""
    if not place.is_dir() or shutil.disk_usage(place).free < 1.02 * need + GB:
        return False
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return place != Path("/dev/shm") or int(free.split()[1]) * 1024 > 2 * need + 4 * GB


def note(words: str) -> None:
    print(f"[{time.monotonic() - BEGIN:4.0f} s] {words}", flush=True)
