"""The model in the box, from nothing: renders the world, trains every part, and writes the folder.

    python train.py --work FOLDER [--out ..] [--device cpu|cuda]

May be interrupted at any moment: the same command goes on from the last checkpoint in FOLDER.
"""

import argparse
import os
from pathlib import Path

import torch

import autoencoders
import clips
import film
import folder

PLANS = {
    "cpu": dict(
        audio=dict(batch=6, steps=700, lr=2e-3),
        video=dict(batch=6, steps=5000, lr=2e-3),
        vocoder=dict(batch=8, steps=1500, lr=2e-3),
        film=dict(batch=32, steps=12_000, lr=2e-3, decay=0.999),
    ),
    "cuda": dict(
        audio=dict(batch=32, steps=2000, lr=2e-3),
        video=dict(batch=24, steps=8000, lr=2e-3),
        vocoder=dict(batch=32, steps=4000, lr=2e-3),
        film=dict(batch=256, steps=16_000, lr=2e-3, decay=0.9995),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for clips and checkpoints: 8 GB")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent, help="the model's folder")
    parser.add_argument("--device", choices=PLANS, default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    plan, device, processes = PLANS[arguments.device], arguments.device, os.cpu_count() or 1
    arguments.work.mkdir(parents=True, exist_ok=True)
    rendered = clips.render(arguments.work, processes)
    audio = autoencoders.audio(arguments.work, rendered, device, plan["audio"])
    video = autoencoders.video(arguments.work, rendered, device, plan["video"])
    vocoder = autoencoders.vocoder(arguments.work, rendered, device, plan["vocoder"], audio)
    latents = clips.encode(arguments.work, video, audio, device, processes)
    trained = film.train(arguments.work, latents, device, plan["film"])
    folder.write(arguments.out, latents, trained, video.cpu(), audio.cpu(), vocoder.cpu())


if __name__ == "__main__":
    main()
