"""Makes films with diffusers' own pipeline, from the prompts of rendered scenes, for the instruments and for parity.

    python sample.py MODEL SCENES OUT [--films N] [--steps N] [--guidance G] [--stg G] [--seed N]

Film i has seed N + i. OUT gets a safetensors file a film, named as in SCENES/scenes.json, with `frames` (33, 64, 64, 3),
values 0 to 1, and `sound` (2, samples).
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import LTX2Pipeline
from safetensors.torch import save_file

import world


def film(pipeline: LTX2Pipeline, prompts: list[str], seeds: list[int], steps: int, guidance: float, stg: float):
    """Frames (n, 33, 64, 64, 3) from 0 to 1 and sound (n, 2, samples)."""
    return pipeline(
        prompt=prompts,
        negative_prompt=[""] * len(prompts),
        height=world.SIZE,
        width=world.SIZE,
        num_frames=world.FRAMES,
        frame_rate=float(world.FPS),
        num_inference_steps=steps,
        guidance_scale=guidance,
        # Both kinds the same for pictures and sound: the pipeline's other defaults are those of the 19B model.
        audio_guidance_scale=guidance,
        stg_scale=stg,
        audio_stg_scale=stg,
        spatio_temporal_guidance_blocks=[3],
        modality_scale=1.0,
        audio_modality_scale=1.0,
        guidance_rescale=0.0,
        audio_guidance_rescale=0.0,
        use_cross_timestep=False,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
        return_dict=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=0, help="how many; all where nothing is said")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=6.0)
    parser.add_argument("--stg", type=float, default=1.0, help="spatio-temporal guidance")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    pipeline = LTX2Pipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    scenes = json.loads((arguments.scenes / "scenes.json").read_text())
    if arguments.films:
        scenes = scenes[:: max(len(scenes) // arguments.films, 1)][: arguments.films]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for at in range(0, len(scenes), arguments.batch):
        some = scenes[at : at + arguments.batch]
        seeds = [arguments.seed + int(Path(scene["file"]).stem) for scene in some]
        prompts, scales = [scene["prompt"] for scene in some], (arguments.guidance, arguments.stg)
        frames, sounds = film(pipeline, prompts, seeds, arguments.steps, *scales)
        for scene, frame, sound in zip(some, frames, sounds):
            frame = frame.permute(0, 2, 3, 1).contiguous().float()
            save_file(dict(frames=frame, sound=sound.float().contiguous()), arguments.out / scene["file"])
        print(f"{at + len(some)}/{len(scenes)} films", flush=True)


if __name__ == "__main__":
    main()
