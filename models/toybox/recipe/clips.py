"""The clips that are learned from, on disk: rendered once, then read in any order; and later their latents."""

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

CLIPS = 9000  # rendered for the autoencoders; the last 200 are only looked at
LOOKED_AT = 200
FILMS = 12_000  # encoded for the transformer, without what is held out
WORDINGS = 6  # prompts of each
CHUNK = 200


def _array(folder: Path, name: str, mode: str = "r", **shape) -> np.memmap:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode, **shape)


def _render(job: tuple[Path, int]) -> None:
    folder, chunk = job
    frames, covers, sounds = (_array(folder, name, "r+") for name in ("frames", "covers", "sounds"))
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        scene = world.draw(np.random.default_rng((7, index)))
        frames[index], covers[index] = world.picture(scene)
        sounds[index] = world.sound(scene)
    (folder / f"rendered-{chunk}").touch()


def render(work: Path, processes: int) -> Path:
    """Pictures, masks and sounds for the autoencoders: 6 GB. Chunks that are there already are kept."""
    folder = work / "clips"
    if not folder.exists():
        part = work / "clips.part"
        part.mkdir(parents=True, exist_ok=True)
        size = world.SIZE
        _array(part, "frames", "w+", dtype=np.uint8, shape=(CLIPS, world.FRAMES, size, size, 3))
        _array(part, "covers", "w+", dtype=np.uint8, shape=(CLIPS, world.FRAMES, size, size))
        _array(part, "sounds", "w+", dtype=np.float16, shape=(CLIPS, 2, round(world.SECONDS * world.RATE)))
        os.replace(part, folder)
    jobs = [(folder, chunk) for chunk in range(CLIPS // CHUNK) if not (folder / f"rendered-{chunk}").exists()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(_render, jobs), 1):
            print(f"rendered {done}/{len(jobs)} chunks of {CHUNK} clips", flush=True)
    return folder


def pixels(frames: np.ndarray) -> torch.Tensor:
    """Bytes (n, t, h, w, 3) to values (n, 3, t, h, w) from -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def _film(index: int) -> tuple[world.Scene, list[str]]:
    rng = np.random.default_rng((21, index))
    scene = world.draw(rng)
    while world.held_out(scene):
        scene = world.draw(rng)
    return scene, [grammar.describe(scene, rng) for _ in range(WORDINGS)]


def _seen_and_heard(index: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    scene, prompts = _film(index)
    return world.picture(scene)[0], world.sound(scene), prompts


@torch.no_grad()
def encode(work: Path, video: torch.nn.Module, audio: torch.nn.Module, device: str, processes: int) -> dict:
    """Latents and prompts of the films, with the statistics of the latents; computed once, in chunks that are kept."""
    folder = work / "latents"
    folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for chunk in range(FILMS // CHUNK):
            file = folder / f"{chunk:04}.pkl"
            if file.exists():
                continue
            made = pool.map(_seen_and_heard, range(chunk * CHUNK, (chunk + 1) * CHUNK), chunksize=10)
            frames, sounds, prompts = zip(*made)
            with torch.autocast(device, torch.bfloat16):
                seen = [
                    networks.encode(video, pixels(np.stack(frames[at : at + 20])).to(device)).half().cpu()
                    for at in range(0, CHUNK, 20)
                ]
                mels = log_mel(torch.from_numpy(np.stack(sounds)), networks.MELS).to(device)
                heard = [networks.encode(audio, mels[at : at + 20]).half().cpu() for at in range(0, CHUNK, 20)]
            part = file.with_suffix(".part")
            part.write_bytes(pickle.dumps((torch.cat(seen).numpy(), torch.cat(heard).numpy(), list(prompts))))
            os.replace(part, file)
            print(f"encoded {(chunk + 1) * CHUNK}/{FILMS} films", flush=True)
    parts = [pickle.loads(file.read_bytes()) for file in sorted(folder.glob("*.pkl"))]
    video_latents = torch.from_numpy(np.concatenate([part[0] for part in parts]))
    audio_latents = torch.from_numpy(np.concatenate([part[1] for part in parts]))
    tokens = audio_latents.transpose(1, 2).flatten(2).float()
    return dict(
        video=video_latents,
        audio=audio_latents,
        prompts=[prompts for part in parts for prompts in part[2]],
        video_mean=video_latents.float().mean((0, 2, 3, 4)),
        video_std=video_latents.float().std((0, 2, 3, 4)),
        audio_mean=tokens.mean((0, 1)),
        audio_std=tokens.std((0, 1)),
    )
