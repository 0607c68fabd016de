"""The command as a bench sees it: its events with their times, its figures, its films, and the GPU's memory beside it."""

import itertools
import json
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PLAIN = {"TALKIE_PLAIN": "1"}  # every way that was written for a device, off


class Broken(Exception):
    """A process failed."""


class Late(Exception):
    """A process took longer than there was time."""


def watch(command: list[str], environment: dict, seconds: float, until: Callable[[str], bool] | None = None):
    """The lines that a process says, each with the seconds since its start. It is killed at the first that `until` takes."""
    told = []
    with tempfile.TemporaryFile("w+") as words:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment)
        clock = threading.Timer(max(seconds, 1), process.kill)
        clock.start()
        try:
            for line in process.stdout:
                told.append((time.perf_counter() - begin, line))
                if until and until(line):
                    process.kill()
                    process.wait()
                    return told
            status = process.wait()
        finally:
            late = not clock.is_alive()
            clock.cancel()
            process.stdout.close()
        if late:
            raise Late(f"`{' '.join(command)[:300]}` was stopped after {seconds:.0f} s, when the time was over")
        if status != 0 or until:
            words.seek(0)
            why = words.read()[-2000:].strip() or f"it ended with {status} and said nothing"
            raise Broken(f"`{' '.join(command)[:300]}` failed: {why}")
    return told


class Poll:
    """How much more of the GPU's memory is in use than before, by nvidia-smi: as `peak`, in bytes, or None without it."""

    COMMAND = "nvidia-smi -i 0 --query-gpu=memory.used --format=csv,noheader,nounits -lms 100".split()

    def __init__(self, device: str):
        self.wanted, self.peak = device.startswith("cuda") and shutil.which("nvidia-smi"), None

    def __enter__(self):
        if self.wanted:
            self.process = subprocess.Popen(self.COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.before = self.process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        if self.wanted:
            self.process.terminate()
            used = [int(line) for line in self.process.communicate()[0].split() if line.isdigit()]
            if used and self.before.isdigit():
                self.peak = (max(used) - int(self.before)) * 2**20


@dataclass
class Film:
    """What `generate` left: latents by name, frames as PNG files, and the seconds of each step."""

    latents: dict[str, np.ndarray]
    frames: list[Path]
    steps: list[float]


class Talkie:
    """The binary, on a device."""

    def __init__(self, binary: str, device: str, scratch: Path, left: Callable[[], float]):
        self.binary, self.device, self.scratch, self.left = binary, device, scratch, left
        self.count = itertools.count()
        self.environment = os.environ | {"TALKIE_HOME": str(scratch / "home"), "HF_HUB_OFFLINE": "1", "TALKIE_PLAIN": "0"}

    def dtype(self, name: str, device: str | None = None) -> list[str]:
        """A CPU computes in f32 only."""
        device = device or self.device
        return ["--device", device, "--dtype", "f32" if device == "cpu" else name]

    def say(self, arguments: list[str], environment: dict | None = None, until=None) -> list[tuple[float, str]]:
        return watch([self.binary, *arguments], self.environment | (environment or {}), self.left(), until)

    def json(self, arguments: list[str]) -> dict:
        return json.loads("".join(line for _, line in self.say(arguments)))

    def bench(self, prompt: str, folder: Path, arguments: list[str]) -> dict:
        """The figures of `talkie bench`, with what nvidia-smi saw as `polled`."""
        with Poll(self.device) as poll:
            figures = self.json(["bench", prompt, "-m", str(folder), "--json", *self.dtype("bf16"), *arguments])
        return figures | {"polled": poll.peak}

    def film(self, prompt: str, arguments: list[str], environment: dict | None = None) -> Film:
        """Makes a film as PNG frames, and keeps its latents."""
        out = self.scratch / f"film-{next(self.count)}"
        latents, frames = out / "latents.safetensors", out / "frames"
        out.mkdir()
        command = ["generate", prompt, "--seed", "1", "--json", "--save-latents", str(latents), "-o", f"{frames}/"]
        events = [(at, json.loads(line)) for at, line in self.say([*command, *arguments], environment)]
        steps = [at for at, event in events if event["event"] == "advance" and event["stage"] == "denoise"]
        took = [end - begin for begin, end in itertools.pairwise(steps)]
        return Film(tensors(latents), sorted(frames.glob("*.png")), took)


def first_step(line: str) -> bool:
    """Whether a line of `generate --json` says that the first step is done."""
    event = json.loads(line)
    return event["event"] == "advance" and event["stage"] == "denoise" and event["done"] > 0


def tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file in float32, as latents are kept."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    found = {}
    for name, of in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + at for at in of["data_offsets"])
            if of["dtype"] != "F32":
                raise Broken(f"`{name}` in {file} is {of['dtype']}, where latents are F32: this bench reads no other type")
            found[name] = np.frombuffer(data[start:end], "<f4").reshape(of["shape"])
    return found


def apart(found: Film, wanted: Film) -> float:
    """The largest relative L2 of the latents of two films; not a number where one of them has such."""
    if found.latents.keys() != wanted.latents.keys():
        raise Broken(f"one film has the latents {sorted(found.latents)}, the other {sorted(wanted.latents)}")
    errors = []
    for name, right in wanted.latents.items():
        left, right = found.latents[name].astype(np.float64), right.astype(np.float64)
        errors.append(np.linalg.norm(left - right) / np.linalg.norm(right))
    return float(np.max(errors))


def levels(found: Film, wanted: Film) -> int | None:
    """The largest difference of their frames in levels of 8 bits; None without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return None
    picture = lambda file: np.asarray(Image.open(file).convert("RGB")).astype(int)  # noqa: E731
    pairs = zip(found.frames, wanted.frames, strict=True)
    return max(int(np.abs(picture(left) - picture(right)).max()) for left, right in pairs)
