"""The same networks in talkie and in diffusers: time and memory, in turn. See benches/README.md.

    python benches/against_diffusers.py --folders ROOT [--repeat 5] [--calls 3] [--threads N] [--json FILE] CASE…

A CASE is transformer, vae, text, ltx-block or toybox; ROOT/CASE is its folder, toybox's is in this repository. Each measurement
is a process of its own, one of talkie and one of diffusers in turn. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# More tokens than any text encoder reads: what is over is cut, so that every row is a token's.
LONG = "a fox in the snow " * 400
TOY = "a big red ball bounces on a wooden floor"
# Every other kind of guidance of LTX-2 is off by this: a step is one forward.
PLAIN = "audio_guidance=1 stg_scale=0 audio_stg_scale=0 modality_scale=1 audio_modality_scale=1".split()


@dataclass
class Case:
    """A network, what of `talkie bench` is its time, and what makes its folder."""

    stage: str
    arguments: list[str]
    made_by: str


CASES = {
    "transformer": Case(
        "denoise",
        "--size 256x256 --frames 17 --guidance 1".split(),
        "random_wan.py {} --only transformer --dtype bf16",
    ),
    "vae": Case("decode", "--size 256x256 --frames 17 --guidance 1 --steps 1".split(), "random_wan.py {} --only vae"),
    "text": Case(
        "text",
        "--size 64x64 --frames 1 --guidance 1 --steps 1".split(),
        "random_wan.py {} --only text_encoder --layers 4",
    ),
    "ltx-block": Case(
        "denoise",
        "--size 512x256 --frames 25 --fps 9.77 --guidance 1 --no-sound".split()
        + [word for value in PLAIN for word in ("--set", value)],
        "random_ltx.py {}",
    ),
    "toybox": Case("", [], ""),
}


def talkie(asked: argparse.Namespace, name: str, folder: Path, environment: dict) -> dict:
    """What `talkie bench` says of a network: the first step, or the first film, warms up and is left out."""
    case = CASES[name]
    command = [asked.talkie, "bench", LONG, "-m", str(folder), "--json", *case.arguments]
    command += ["--steps" if case.stage == "denoise" else "--repeat", str(asked.calls + 1)]
    figures = json.loads(run(command, environment)[0])
    stages = [next(stage for stage in one["stages"] if stage["stage"] == case.stage) for one in figures["runs"]]
    calls = stages[0]["steps"] if case.stage == "denoise" else stages
    setting = figures["setting"]
    return {
        "seconds": [call["seconds" if case.stage == "denoise" else "compute"] for call in calls[1:]],
        "load": stages[0]["load"],
        "peak": max(one["peak"] for one in figures["runs"]),
        "flop": calls[0]["flop"],
        "roofline": setting["roofline"],
        "tokens": [setting["tokens"], setting["sound_tokens"], *setting["text_tokens"]],
    }


def talkie_film(asked: argparse.Namespace, folder: Path, environment: dict, scratch: str) -> dict:
    """The whole process, from its start to the mp4."""
    command = [asked.talkie, "generate", TOY, "-m", str(folder), "--seed", "1", "-o", f"{scratch}/film.mp4"]
    _, seconds, peak = run(command, environment)
    return {"seconds": [seconds], "peak": peak}


def reference_process(asked: argparse.Namespace, name: str, folder: Path, environment: dict) -> dict:
    """The reference in a process of its own, with that process's largest resident set."""
    command = [sys.executable, __file__, name, "--reference", str(folder), "--calls", str(asked.calls)]
    command += ["--threads", str(asked.threads), "--dtype", asked.dtype]
    answer, seconds, peak = run(command, environment)
    told = json.loads(answer.splitlines()[-1])
    return {"seconds": [seconds]} | told | {"peak": peak}


def run(command: list[str], environment: dict) -> tuple[str, float, int]:
    """What a process says, the seconds of its life, and its largest resident set in bytes."""
    with tempfile.TemporaryFile("w+") as words:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment)
        answer = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        if status != 0:
            words.seek(0)
            raise SystemExit(f"{' '.join(command)[:400]} failed:\n{words.read()[-3000:]}")
    return answer, seconds, used.ru_maxrss * 1024


def reference(asked: argparse.Namespace, name: str, folder: Path) -> dict:
    """The same network in PyTorch, timed in this process: the first call warms up and is left out."""
    import torch

    torch.set_num_threads(asked.threads)
    torch.manual_seed(1)
    with torch.inference_mode():
        if name == "toybox":
            return film(torch, folder)
        begin = time.perf_counter()
        network = {"transformer": wan, "vae": vae, "text": text, "ltx-block": ltx}[name]
        call = network(torch, folder, getattr(torch, asked.dtype))
        load, seconds = time.perf_counter() - begin, []
        for _ in range(asked.calls + 1):
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds[1:], "load": load}


def wan(torch, folder: Path, dtype):
    """1,280 tokens and 512 rows of text."""
    from diffusers import WanTransformer3DModel

    network = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).eval()
    latents, rows = torch.randn(1, 16, 5, 32, 32, dtype=dtype), torch.randn(1, 512, 4096, dtype=dtype)
    return lambda: network(latents, torch.tensor([500.0]), rows)


def vae(torch, folder: Path, dtype):
    """Latents of 17 frames of 256x256."""
    from diffusers import AutoencoderKLWan

    network = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=dtype).eval()
    latents = torch.randn(1, 16, 5, 32, 32, dtype=dtype)
    return lambda: network.decode(latents)


def text(torch, folder: Path, dtype):
    """512 tokens."""
    from transformers import UMT5EncoderModel

    network = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=dtype).eval()
    ids = torch.randint(3, 400, (1, 512))
    return lambda: network(ids, torch.ones_like(ids))


def ltx(torch, folder: Path, dtype):
    """512 tokens of pictures, 64 of sound and 1,024 rows of text."""
    from diffusers import LTX2VideoTransformer3DModel

    network = LTX2VideoTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).eval()
    given = dict(
        hidden_states=torch.randn(1, 512, 128, dtype=dtype),
        audio_hidden_states=torch.randn(1, 64, 128, dtype=dtype),
        encoder_hidden_states=torch.randn(1, 1024, 4096, dtype=dtype),
        audio_encoder_hidden_states=torch.randn(1, 1024, 2048, dtype=dtype),
        timestep=torch.tensor([500.0]),
        sigma=torch.tensor([500.0]),
    )
    sizes = dict(num_frames=4, height=8, width=16, fps=9.77, audio_num_frames=64, use_cross_timestep=True)
    return lambda: network(**given, **sizes, return_dict=False)


def film(torch, folder: Path) -> dict:
    """A film of the model in the box, as talkie's plan says it, as far as its raw frames and its sound."""
    from diffusers import LTX2Pipeline

    plan = json.loads(os.environ["TALKIE_PLAN"])
    shape, values = plan["shape"], plan["parameters"]
    pipeline = LTX2Pipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=TOY,
        negative_prompt=plan["negative"] or "",
        width=shape["width"],
        height=shape["height"],
        num_frames=shape["frames"],
        frame_rate=float(plan["fps"]),
        num_inference_steps=len([step for phase in plan["phases"] for step in phase["steps"]]),
        guidance_scale=values["guidance"],
        audio_guidance_scale=values["audio_guidance"],
        stg_scale=values["stg_scale"],
        audio_stg_scale=values["audio_stg_scale"],
        spatio_temporal_guidance_blocks=values["stg_blocks"] or None,
        modality_scale=values["modality_scale"],
        audio_modality_scale=values["audio_modality_scale"],
        guidance_rescale=values["rescale"],
        audio_guidance_rescale=values["audio_rescale"],
        use_cross_timestep=values["cross_timestep"],
        generator=torch.manual_seed(1),
        output_type="np",
    )
    assert made.frames[0].shape[0] == shape["frames"]
    return {}


def measured(asked: argparse.Namespace, name: str, scratch: str) -> dict:
    """A case, `--repeat` times on either side in turn."""
    folder = ROOT / "models" / "toybox" if name == "toybox" else asked.folders / name
    if not folder.is_dir():
        made_by = CASES[name].made_by.format(folder)
        raise SystemExit(f"there is no {folder}: make it with `python tests/fixtures/{made_by}`")
    threads = str(asked.threads)
    environment = os.environ | {"TALKIE_HOME": f"{scratch}/home", "HF_HUB_OFFLINE": "1"}
    environment |= {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    if name == "toybox":
        plan = [asked.talkie, "generate", TOY, "-m", str(folder), "--plan", "--json"]
        environment["TALKIE_PLAN"] = run(plan, environment)[0]
    own, theirs = [], []
    for _ in range(asked.repeat):
        if name == "toybox":
            own.append(talkie_film(asked, folder, environment, scratch))
        else:
            own.append(talkie(asked, name, folder, environment))
        theirs.append(reference_process(asked, name, folder, environment))
    return {"talkie": own, "diffusers": theirs}


def summary(sides: dict) -> dict:
    """Medians of both sides and of the ratios of neighbours, with the smallest and the largest of those."""
    seconds = {side: [statistics.median(one["seconds"]) for one in all_] for side, all_ in sides.items()}
    ratios = sorted(own / theirs for own, theirs in zip(seconds["talkie"], seconds["diffusers"]))
    told = {side: {"seconds": statistics.median(seconds[side])} for side in sides}
    for side, all_ in sides.items():
        told[side]["peak"] = statistics.median(one["peak"] for one in all_)
        if "load" in all_[0]:
            told[side]["load"] = statistics.median(one["load"] for one in all_)
        if flop := sides["talkie"][0].get("flop"):
            told[side]["flop_per_second"] = flop / told[side]["seconds"]
    peaks = told["talkie"]["peak"] / told["diffusers"]["peak"]
    return told | {"ratio": statistics.median(ratios), "ratios": ratios, "peak_ratio": peaks}


def row(name: str, told: dict) -> str:
    side = lambda of: (  # noqa: E731
        f"{of['seconds']:9.3f} s {of['peak'] / 1e6:7.0f} MB"
        + (f" {of['flop_per_second'] / 1e9:6.1f} GFLOP/s" if "flop_per_second" in of else " " * 15)
        + (f" {of['load']:6.2f} s to load" if "load" in of else " " * 17)
    )
    ratios = told["ratios"]
    spread = f"{told['ratio']:5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"{name:12}{side(told['talkie'])}  |{side(told['diffusers'])}  | time {spread}, memory {told['peak_ratio']:.2f}"


def machine(asked: argparse.Namespace) -> dict:
    """What the figures belong to."""
    words = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in words if line.startswith("model name")), "?")
    versions = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    own = subprocess.run([asked.talkie, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    facts = {"processor": processor, "threads": asked.threads, "dtype": asked.dtype, "load": os.getloadavg()[0]}
    return facts | {"repeat": asked.repeat, "calls": asked.calls, "versions": {"talkie": own} | versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="CASE")
    parser.add_argument("--folders", type=Path, default=Path("."), help="where the folders of the cases are")
    parser.add_argument("--repeat", type=int, default=5, help="processes of either side")
    parser.add_argument("--calls", type=int, default=3, help="timed calls in each, after one that is not")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        default="float32",
        help="what PyTorch computes in; talkie computes in float32",
    )
    parser.add_argument("--talkie", default=str(ROOT / "target" / "release" / "talkie"))
    parser.add_argument("--json", type=Path, help="where every figure goes")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reference:
        print(json.dumps(reference(asked, asked.cases[0], asked.reference)))
        return
    figures = {"machine": machine(asked), "cases": {}}
    print(json.dumps(figures["machine"]), flush=True)
    print(f"{'':12}talkie{'':52}| diffusers", flush=True)
    for name in asked.cases:
        with tempfile.TemporaryDirectory() as scratch:
            sides = measured(asked, name, scratch)
        told = summary(sides)
        print(row(name, told), flush=True)
        figures["cases"][name] = told | {"measured": sides}
        if asked.json:
            asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
