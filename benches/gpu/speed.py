"""Time and memory of the networks in their real dimensions: against the ceiling, and beside diffusers."""

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import torch

import folders
import reference
from run import GB, LONG, PROMPT, Row, Run, Skip, note
from talkie import Broken, first_step, watch


@dataclass
class Timed:
    """A network in its real dimensions: the film that it is timed in, and its bars. Without one for time, it is timed alone."""

    film: tuple[int, int, int]
    rounds: int
    calls: int
    needs: float
    share: str = ""
    time: str = ""
    memory: str = ""


# `needs` is memory of the GPU in GB: of both sides at once where they take turns, else of the larger.
TIMED = {
    "wan-1.3b": Timed((832, 480, 81), rounds=2, calls=2, needs=20, share="≥ 0.6", time="≤ 0.9"),
    "wan-14b": Timed((832, 480, 81), rounds=1, calls=1, needs=48, share="≥ 0.7", time="≤ 0.9"),
    "wan-5b": Timed((1280, 704, 121), rounds=1, calls=2, needs=20, share="≥ 0.65"),
    "vae-2.1": Timed((832, 480, 81), rounds=1, calls=2, needs=24, time="≤ 1", memory="≤ 0.5"),
    "vae-2.2": Timed((832, 480, 81), rounds=1, calls=2, needs=32, time="≤ 1", memory="≤ 0.5"),
}


def bench(run: Run, model: str) -> dict:
    """What `talkie bench` says of the network that is real in a folder; its first call is left out."""
    case, folder = TIMED[model], run.folder(model)
    stage, count = ("decode", "--repeat") if model.startswith("vae") else ("denoise", "--steps")
    arguments = [*run.film(*case.film), "--guidance", "1", count, str(case.calls + 1)]
    figures = run.talkie.bench(LONG, folder, arguments + (["--steps", "1"] if stage == "decode" else []))
    stages = [next(one for one in made["stages"] if one["stage"] == stage) for made in figures["runs"]]
    calls = stages[1:] if stage == "decode" else stages[0]["steps"][1:]
    return {
        "seconds": statistics.median(one["compute" if stage == "decode" else "seconds"] for one in calls),
        "share": statistics.median(one["share"] for one in calls),
        "peak": max(one.get("device_peak") or 0 for one in stages) or figures["polled"],
        "peak_of": "talkie's own count" if stages[0].get("device_peak") else "by nvidia-smi",
        "figures": figures,
    }


def network(run: Run, model: str, compiled: bool = False) -> reference.Network:
    """The same network in diffusers."""
    if not find_spec("diffusers"):
        raise Skip("not compared: this Python has no diffusers (pip install diffusers)")
    folder = run.folder(model)
    vae = json.loads((folder / "vae" / "config.json").read_text())
    width, height, frames = (64, 64, 9) if run.asked.tiny else TIMED[model].film
    shrink = vae["scale_factor_spatial"]
    shape = [1, vae["z_dim"], (frames - 1) // 4 + 1, height // shrink, width // shrink]
    return reference.Network(folder, folders.MODELS[model][1], shape, run.device, compiled)


def fastest(theirs: list[dict[str, dict]]) -> tuple[str, float]:
    """The way of diffusers that never failed and was the fastest, and its seconds."""
    ways = [way for way in theirs[0] if all("failed" not in one[way] for one in theirs)]
    if not ways:
        raise Broken("diffusers failed in every way")
    seconds = {way: statistics.median(one[way]["seconds"] for one in theirs) for way in ways}
    return min(seconds.items(), key=lambda item: item[1])


def compared(part: str, own: list[dict], theirs: list[dict[str, dict]], time_bar: str, memory_bar: str) -> Iterator[Row]:
    """Medians of both sides; diffusers' is that of its fastest way, and the least memory of any."""
    median = statistics.median(one["seconds"] for one in own)
    for way, told in theirs[0].items():
        if "failed" in told:
            note(f"{part}: diffusers with {way} is left out: {told['failed']}")
    way, seconds = fastest(theirs)
    yield Row(part, "time over diffusers'", median / seconds, time_bar, f"{median:.3f} s against {seconds:.3f} s, {way}")
    peak = max(one["peak"] or 0 for one in own)
    least = min(told.get("allocated") or 0 for one in theirs for told in one.values() if "failed" not in told)
    if peak and least:
        detail = f"{peak / GB:.2f} GB, {own[0]['peak_of']}, against {least / GB:.2f} GB"
        yield Row(part, "the GPU's memory over diffusers'", peak / least, memory_bar, detail)


def timed(model: str) -> Callable[[Run], Iterator[Row]]:
    """The part of a network: talkie and diffusers in turn."""

    def part(run: Run) -> Iterator[Row]:
        case = TIMED[model]
        if run.device != "cpu" and not run.asked.tiny and (free := torch.cuda.mem_get_info()[0] / GB) < case.needs:
            raise Skip(f"{free:.0f} GB of the GPU are free, and this takes {case.needs:.0f}")
        own, theirs = [bench(run, model)], []
        run.figures[model] = {"talkie": own, "diffusers": theirs}
        ceiling = own[0]["figures"]["setting"]["roofline"]
        detail = f"{own[0]['seconds']:.3f} s; the ceiling {ceiling / 1e12:.3g} TFLOP/s, PyTorch's {run.ceiling / 1e12:.3g}"
        yield Row(model, "share of the roofline", own[0]["share"], case.share, detail)
        try:
            other = network(run, model) if case.time else None
            for again in range(case.rounds if other else 0):
                own += [bench(run, model)] if again else []
                theirs.append(other.measure(case.calls))
        except Skip as why:
            note(f"{model}: {why}")
        run.seconds[model] = statistics.median(one["seconds"] for one in own)
        if theirs:
            yield from compared(model, own, theirs, case.time, case.memory)

    return part


def compiled(run: Run) -> Iterator[Row]:
    """1.3B beside compiled diffusers. Only this one, and its blocks only: compiling takes its time."""
    if "wan-1.3b" not in run.seconds:
        run.seconds["wan-1.3b"] = bench(run, "wan-1.3b")["seconds"]
    own = {"seconds": run.seconds["wan-1.3b"], "peak": None}
    other = network(run, "wan-1.3b", compiled=True)
    if eager := run.figures.get("wan-1.3b", {}).get("diffusers"):
        other.ways = {way: other.ways[way] for way in fastest(eager)[:1]}
    theirs = other.measure(TIMED["wan-1.3b"].calls)
    run.figures["compile"] = {"talkie": own, "diffusers": theirs}
    yield from compared("compile", [own], [theirs], "", "")


def cold(run: Run) -> Iterator[Row]:
    """From the start of a process to the end of the first step of 1.3B, files in the page cache, a small text encoder."""
    folder, shape = run.folder("wan-1.3b"), run.film(*TIMED["wan-1.3b"].film)
    generate = ["generate", PROMPT, "-m", str(folder), *shape, "--steps", "2", "--guidance", "1", "--json"]
    generate += [*run.talkie.dtype("bf16"), "-o", f"{run.scratch}/cold/"]
    sides = shape[1].split("x")
    theirs = [sys.executable, reference.__file__, str(folder), *sides, shape[3], run.device]
    seconds = run.figures["cold"] = {"talkie": [run.talkie.say(generate, until=first_step)[-1][0] for _ in range(2)]}
    # The faster of two, not a median: the first of diffusers may have read its programs from a disk.
    own = min(seconds["talkie"])
    yield Row("cold", "seconds to the end of the first step", own, "≤ 5")
    if not (find_spec("diffusers") and find_spec("transformers")):
        return note("cold: not compared: this Python lacks diffusers or transformers")
    done = "step\n".__eq__
    said = [watch(theirs, run.talkie.environment, run.talkie.left(), until=done) for _ in range(2)]
    seconds["diffusers"] = [lines[-1][0] for lines in said]
    other = min(seconds["diffusers"])
    yield Row("cold", "the same over diffusers'", own / other, "≤ 0.3", f"{own:.2f} s against {other:.2f} s")
