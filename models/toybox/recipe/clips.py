"""The films that are learned from, on disk: rendered once, then read in any order; and later their latents."""

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import torch

import grammar
import networks
import world
from mel import log_mel

LOOKED_AT = 200  # the last films are not trained on
WORDINGS = 6  # prompts of each
CHUNK = 200
# How often each kind of event is shown: two things are harder to learn than one.
SHARES = dict(bounce=0.31, pair=0.23, wall=0.18, collide=0.28)


def _array(folder: Path, name: str, mode: str = "r", **shape) -> np.memmap:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode, **shape)


def _film(index: int) -> tuple[world.Scene, list[str]]:
    """A scene of a combination that is not held out, and what may be said of it."""
    rng = np.random.default_rng((21, index))
    while True:
        scene = world.draw(rng, str(rng.choice(list(SHARES), p=list(SHARES.values()))))
        if not world.held_out(scene):
            return scene, [grammar.describe(scene, rng) for _ in range(WORDINGS)]


def _render(job: tuple[Path, int, int]) -> None:
    folder, chunk, first = job
    frames, covers, corners, sounds = (_array(folder, name, "r+") for name in ("frames", "covers", "corners", "sounds"))
    prompts = []
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        scene, said = _film(first + index)
        frames[index], covers[index], corners[index] = world.picture(scene)
        sounds[index] = world.sound(scene)
        prompts.append(said)
    part = folder / f"{chunk:04}.part"
    part.write_text(json.dumps(prompts))
    os.replace(part, part.with_suffix(".json"))


def render(work: Path, films: int, processes: int, first: int = 0) -> Path:
    """Pictures, masks, sounds and prompts of films from `first` on: 0.8 MB a film. Chunks that are there already are kept."""
    folder = work / "films"
    if not folder.exists():
        part = work / "films.part"
        part.mkdir(parents=True, exist_ok=True)
        size = world.SIZE
        _array(part, "frames", "w+", dtype=np.uint8, shape=(films, world.FRAMES, size, size, 3))
        for mask in ("covers", "corners"):
            _array(part, mask, "w+", dtype=np.uint8, shape=(films, world.FRAMES, size, size))
        _array(part, "sounds", "w+", dtype=np.float16, shape=(films, 2, round(world.SECONDS * world.RATE)))
        os.replace(part, folder)
    jobs = [(folder, chunk, first) for chunk in range(films // CHUNK) if not (folder / f"{chunk:04}.json").exists()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(_render, jobs), 1):
            print(f"rendered {done}/{len(jobs)} chunks of {CHUNK} films", flush=True)
    return folder


def sounds(folder: Path) -> np.ndarray:
    """Samples (films, 2, n) at 16 kHz."""
    return _array(folder, "sounds")


def pictures(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (films, 33, 64, 64, 3), what the things cover of them, and the corners that tell one shape from the other (films,
    33, 64, 64)."""
    return _array(folder, "frames"), _array(folder, "covers"), _array(folder, "corners")


def pixels(frames: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """Bytes (n, t, h, w, 3) to values (n, 3, t, h, w) from -1 to 1."""
    return torch.from_numpy(np.array(frames)).to(device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


@torch.no_grad()
def encode(work: Path, films: Path, video: torch.nn.Module, audio: torch.nn.Module, device: str) -> dict:
    """Latents and prompts of the films, with the statistics of the latents; computed once, in chunks that are kept."""
    folder = work / "latents"
    folder.mkdir(parents=True, exist_ok=True)
    frames, waves = pictures(films)[0], sounds(films)
    for chunk in range(len(frames) // CHUNK):
        file = folder / f"{chunk:04}.pkl"
        if file.exists():
            continue
        seen, heard = [], []
        for at in range(chunk * CHUNK, (chunk + 1) * CHUNK, 50):
            mels = log_mel(torch.from_numpy(np.array(waves[at : at + 50])).float(), networks.MELS).to(device)
            with torch.autocast(device, torch.bfloat16):
                seen.append(networks.encode(video, pixels(frames[at : at + 50], device)).half().cpu())
                heard.append(networks.encode(audio, mels).half().cpu())
        part = file.with_suffix(".part")
        part.write_bytes(pickle.dumps((torch.cat(seen).numpy(), torch.cat(heard).numpy())))
        os.replace(part, file)
        print(f"encoded {(chunk + 1) * CHUNK}/{len(frames)} films", flush=True)
    parts = [pickle.loads(file.read_bytes()) for file in sorted(folder.glob("*.pkl"))]
    video_latents = torch.from_numpy(np.concatenate([part[0] for part in parts]))
    audio_latents = torch.from_numpy(np.concatenate([part[1] for part in parts]))
    tokens = audio_latents.transpose(1, 2).flatten(2).float()
    return dict(
        video=video_latents,
        audio=audio_latents,
        prompts=[said for file in sorted(films.glob("*.json")) for said in json.loads(file.read_text())],
        video_mean=video_latents.float().mean((0, 2, 3, 4)),
        video_std=video_latents.float().std((0, 2, 3, 4)),
        audio_mean=tokens.mean((0, 1)),
        audio_std=tokens.std((0, 1)),
    )
