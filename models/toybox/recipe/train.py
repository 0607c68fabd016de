"""The model in the box, from nothing: renders the world, trains every part, and writes the folder.

    python train.py --work FOLDER [--out ..] [--device cpu|cuda] [--further STEPS]

May be interrupted at any moment: the same command goes on from the last checkpoint in FOLDER. With `--further`, all parts
are those that the model's folder has already, and the transformer alone is trained on from there.
"""

import argparse
import os
from pathlib import Path

import torch

import autoencoders
import clips
import film
import folder
import text
import words

PLANS = {
    "cpu": dict(
        films=12_000,
        audio=dict(batch=6, steps=500, lr=2e-3),
        video=dict(batch=6, steps=1600, lr=2e-3),
        decoder=dict(batch=6, steps=550, lr=2.5e-4),
        vocoder=dict(batch=8, steps=1400, lr=2e-3),
        words=dict(batch=96, steps=600, lr=2e-3),
        film=dict(stages=((5, 48, 600), (9, 32, 500), (17, 24, 2050)), lr=2e-3, decay=0.998, fall=1 / 3, even=0.2, shift=1.0),
    )
}
PLANS["cuda"] = PLANS["cpu"] | dict(
    films=24_000,
    video=dict(batch=24, steps=1650, lr=2e-3),
    # A step of few films, or of short ones, takes as long: what costs is to begin so many small operations.
    film=PLANS["cpu"]["film"] | dict(stages=((17, 512, 2150),), decay=0.999),
)
# Other films than those before. The rate is small because the batch is: with 8e-4 for 24 films it became worse.
FURTHER = dict(first=24_000, films=12_000, batch=64, film=dict(lr=3e-4, decay=0.998, fall=1, even=0.5, shift=3.0))


def further(work: Path, out: Path, device: str, processes: int, steps: int) -> None:
    """Goes on with the transformer of a folder; everything else stays as it is there."""
    work.mkdir(parents=True, exist_ok=True)
    parts = folder.read(out, device)
    films = clips.render(work, FURTHER["films"], processes, FURTHER["first"])
    latents = clips.encode(work, films, parts.vae, parts.audio_vae, device)
    for name, vae in (("video", parts.vae), ("audio", parts.audio_vae)):
        # Noise is measured by the statistics that the transformer has learned with.
        latents |= {f"{name}_mean": vae.latents_mean.cpu(), f"{name}_std": vae.latents_std.cpu()}
    plan = FURTHER["film"] | dict(stages=((17, FURTHER["batch"], steps),))
    trained = film.train(work, latents, text.Reader(device, parts), parts.vae, device, plan, parts.transformer)
    folder.write(out, latents, trained, parts.vae.cpu(), parts.audio_vae.cpu(), parts.vocoder.cpu())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for films and checkpoints: 10 GB, with CUDA 20")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent, help="the model's folder")
    parser.add_argument("--device", choices=PLANS, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--further", type=int, metavar="STEPS", help="train the transformer of --out so many steps more")
    arguments = parser.parse_args()
    plan, device, processes = PLANS[arguments.device], arguments.device, os.cpu_count() or 1
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.further:
        further(arguments.work / "further", arguments.out, device, processes, arguments.further)
        return
    films = clips.render(arguments.work, plan["films"], processes)
    audio = autoencoders.audio(arguments.work, films, device, plan["audio"])
    video = autoencoders.video(arguments.work, films, device, plan["video"])
    reader = text.Reader(device)
    words.train(arguments.work, reader, device, plan["words"])
    latents = clips.encode(arguments.work, films, video, audio, device)
    trained = film.train(arguments.work, latents, reader, video, device, plan["film"])
    autoencoders.decoder(arguments.work, films, device, plan["decoder"], video)
    vocoder = autoencoders.vocoder(arguments.work, films, device, plan["vocoder"], audio)
    folder.write(arguments.out, latents, trained, video.cpu(), audio.cpu(), vocoder.cpu())


if __name__ == "__main__":
    main()
