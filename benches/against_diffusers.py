"""The same networks in talkie and in diffusers: time and memory, in turn.

    python benches/against_diffusers.py FOLDER [--case transformer vae text] [--repeat N] [--threads N] [--json FILE]
    python benches/against_diffusers.py models/toybox --case film

FOLDER is a Wan 2.1 folder of diffusers, such as tests/fixtures/random_wan.py writes. Both compute in f32, from the same files, on
the same number of cores; each measurement is a process of its own, talkie's and diffusers' in turn, and the table gives medians,
their ratio, and the smallest and largest ratio of two neighbours.

  transformer   one forward of 256x256, 17 frames: 1,280 tokens, a text of 512. talkie's is a step of a film without guidance,
                with its sampler
  vae           the decode of that film; talkie's writes the frames as PNG too
  text          a prompt of 512 tokens through the text encoder; talkie's reads its weights from their file meanwhile, which
                diffusers has done before
  film          of a model in LTX-2's layout: the whole process from its start to the film, both from a warm page cache

The peak is the largest resident set: of diffusers' process, and of talkie's in that stage.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import memory

PROMPT = "a big red ball bounces on a wooden floor"
# Enough words for any tokenizer to make 512 tokens of, and to cut the rest.
LONG = "a fox in the snow " + "word " * 600
SIZE, FRAMES, STEPS = "256x256", "17", "5"
STAGES = {"transformer": "denoise", "vae": "decode", "text": "text"}


def reference(case: str, folder: Path, threads: int, dtype: str) -> dict:
    """What diffusers takes, measured in this process: seconds and bytes."""
    start = time.perf_counter()
    import torch

    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)

    def timed(network) -> float:
        network()
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            network()
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)

    with torch.inference_mode():
        if case == "film":
            from diffusers import LTX2Pipeline

            pipeline = LTX2Pipeline.from_pretrained(folder, torch_dtype=torch.float32)
            pipeline.set_progress_bar_config(disable=True)
            made = pipeline(PROMPT, **settings(), generator=torch.manual_seed(1), output_type="np")
            write(made, Path(os.environ["REFERENCE_FILM"]))
            return {"seconds": time.perf_counter() - start}
        if case == "transformer":
            from diffusers import WanTransformer3DModel

            network = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32).eval()
            given = torch.randn(1, 16, 5, 32, 32), torch.tensor([500.0]), torch.randn(1, 512, network.config.text_dim)
            return {"seconds": timed(lambda: network(*given))}
        if case == "vae":
            from diffusers import AutoencoderKLWan

            network = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
            latents = torch.randn(1, 16, 5, 32, 32)
            return {"seconds": timed(lambda: network.decode(latents))}
        from transformers import UMT5EncoderModel

        network = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=kind).eval()
        ids = torch.randint(3, network.config.vocab_size, (1, 512))
        return {"seconds": timed(lambda: network(ids, torch.ones_like(ids)))}


def settings() -> dict:
    """What talkie asks of the model in the box, from its own plan."""
    plan = json.loads(os.environ["REFERENCE_PLAN"])
    shape = plan["shape"]
    set_to = plan["parameters"]
    return {
        "width": shape["width"],
        "height": shape["height"],
        "num_frames": shape["frames"],
        "frame_rate": float(plan["fps"]),
        "num_inference_steps": len(plan["steps"]),
        "negative_prompt": plan["negative"] or "",
        "guidance_scale": set_to["guidance"],
        "stg_scale": set_to["stg_scale"],
        "modality_scale": set_to["modality_scale"],
        "guidance_rescale": set_to["rescale"],
        "audio_guidance_scale": set_to["audio_guidance"],
        "audio_stg_scale": set_to["audio_stg_scale"],
        "audio_modality_scale": set_to["audio_modality_scale"],
        "audio_guidance_rescale": set_to["audio_rescale"],
        "use_cross_timestep": set_to["cross_timestep"],
    }


def write(made, path: Path) -> None:
    """The pictures of the reference's film, by the ffmpeg that is installed: its sound is made, and not written."""
    frames = (made.frames[0] * 255).round().astype("uint8")
    count, height, width, _ = frames.shape
    command = f"ffmpeg -v error -y -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r 16 -i - -pix_fmt yuv420p {path}"
    subprocess.run(shlex.split(command), input=frames.tobytes(), check=True)


def talkie(program: str, case: str, folder: Path, threads: int, scratch: str) -> dict:
    """What talkie takes: seconds and bytes."""
    environment = os.environ | {"TALKIE_HOME": f"{scratch}/home", "RAYON_NUM_THREADS": str(threads)}
    film = f"{scratch}/film.mp4" if case == "film" else f"{scratch}/frames/"
    command = [program, "generate", PROMPT if case == "film" else LONG, "-m", str(folder), "--seed", "1", "--json", "-o", film]
    if case != "film":
        command += ["--size", SIZE, "--frames", FRAMES, "--steps", STEPS if case == "transformer" else "1", "--guidance", "1"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    seconds, peak, steps, last = 0.0, 0, [], begin
    for line in process.stdout:
        event, now = json.loads(line), time.perf_counter()
        name, stage = event.get("event"), event.get("stage")
        if case == "film":
            peak = max(peak, memory.largest(process.pid) or 0)
        elif stage == STAGES[case] and name == "begin":
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        elif stage == STAGES[case] and name == "end":
            seconds, peak = event["seconds"], memory.largest(process.pid)
            # What comes after it is of no interest here.
            process.kill()
            break
        elif case == "transformer" and stage == "denoise" and name == "advance":
            steps.append(now - last)
            last = now
    words = process.communicate()[1]
    if process.returncode != 0 and not seconds:
        raise SystemExit(f"{shlex.join(command)} failed:\n{words}")
    if case == "film":
        seconds = time.perf_counter() - begin
    # The first interval is of what came before, the second has the loading in it.
    return {"seconds": statistics.median(steps[2:]) if steps else seconds, "peak": peak}


def in_a_process(case: str, folder: Path, threads: int, dtype: str) -> dict:
    """The reference, and the largest resident set of its process."""
    command = [sys.executable, __file__, str(folder), "--case", case, "--threads", str(threads), "--dtype", dtype, "--reference"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    answer = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{shlex.join(command)} failed: run it by itself to see why")
    return json.loads(answer.splitlines()[-1]) | {"peak": used.ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", nargs="+", choices=[*STAGES, "film"], default=list(STAGES))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtype", default="float32", help="of the reference's text encoder: bfloat16 is how its weights are stored")
    parser.add_argument("--talkie", default="target/release/talkie")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reference:
        print(json.dumps(reference(asked.case[0], asked.folder, asked.threads, asked.dtype)))
        return
    figures = {}
    print(f"{'':12} {'talkie':>18} {'diffusers':>18} {'time':>6} {'':>13} {'memory':>6}")
    for case in asked.case:
        pairs = []
        with tempfile.TemporaryDirectory() as scratch:
            if case == "film":
                plan = [asked.talkie, "generate", PROMPT, "-m", str(asked.folder), "--plan", "--json"]
                os.environ["REFERENCE_PLAN"] = subprocess.run(plan, check=True, capture_output=True, text=True).stdout
                os.environ["REFERENCE_FILM"] = f"{scratch}/reference.mp4"
            for _ in range(asked.repeat):
                own = talkie(asked.talkie, case, asked.folder, asked.threads, scratch)
                pairs.append((own, in_a_process(case, asked.folder, asked.threads, asked.dtype)))
        own, theirs = ({key: statistics.median(side[key] for side in sides) for key in ("seconds", "peak")} for sides in zip(*pairs))
        ratios = sorted(a["seconds"] / b["seconds"] for a, b in pairs)
        shown = [f"{side['seconds']:7.2f} s {side['peak'] / 1e6:6.0f} MB" for side in (own, theirs)]
        time_ratio, memory_ratio = own["seconds"] / theirs["seconds"], own["peak"] / theirs["peak"]
        print(f"{case:12} {shown[0]:>18} {shown[1]:>18} {time_ratio:6.2f} {ratios[0]:.2f} to {ratios[-1]:.2f} {memory_ratio:6.2f}", flush=True)
        figures[case] = {"talkie": own, "diffusers": theirs, "pairs": pairs}
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
