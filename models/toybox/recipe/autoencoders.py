"""Training of what turns films into latents and back: the two autoencoders and the vocoder."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import clips
import networks
from mel import HOP, log_mel
from optimiser import Training

Plan = dict  # batch, steps, lr
# Shares of the video autoencoder's steps after which the size of latents costs a tenth, and after which they are less
# noisy: the price makes them shrink until the noise blurs what is decoded, and both are only needed in the beginning.
CHEAPER, CLEARER = 0.25, 0.4
CORNERS = 80  # what an error weighs at the corners of things


def _choose(rng: np.random.Generator, films: np.ndarray, batch: int) -> np.ndarray:
    return np.sort(rng.integers(0, len(films) - clips.LOOKED_AT, batch))


def _noise(like: torch.Tensor, step: int) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(step)).to(like)


def _pictures(folder: Path, device: str):
    """Of chosen films: their pixels, what the things cover, and how much an error weighs: thirteen times as much on things
    and around them, and most at the corners that tell a block from a ball, which are a dozen pixels."""
    frames, covers, corners = clips.pictures(folder)

    def pick(chosen):
        x = clips.pixels(frames[chosen], device)
        cover, corner = (torch.from_numpy(np.array(mask[chosen])).to(device).float() / 255 for mask in (covers, corners))
        return x, cover, (1 + 12 * torch.nn.functional.max_pool2d(cover, 5, 1, 2) + CORNERS * corner)[:, None]

    return frames, pick


def _error(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error, and that of the differences between neighbouring pixels, which keeps edges clean."""
    error = y.float() - x
    between = sum((weight.narrow(d, 1, error.shape[d] - 1) * error.diff(dim=d).abs()).mean() for d in (3, 4))
    return (weight * (error.abs() + error**2)).mean() + between


def video(work: Path, folder: Path, device: str, plan: Plan) -> torch.nn.Module:
    """The video autoencoder.

    A little noise on the latents, and a small price on their size, keep them smooth; there is no sampling.
    """
    torch.manual_seed(1)
    vae = networks.video_vae().to(device, memory_format=torch.channels_last_3d)
    frames, pictures = _pictures(folder, device)

    def loss(step: int):
        x, cover, weight = pictures(_choose(np.random.default_rng((11, step)), frames, plan["batch"]))
        with torch.autocast(device, torch.bfloat16):
            z = networks.encode(vae, x)
            y = vae.decoder(z + (0.12 if step < CLEARER * plan["steps"] else 0.05) * _noise(z, step))
        price = 1e-3 if step < CHEAPER * plan["steps"] else 1e-4
        value = _error(y, x, weight) + price * (z.float() ** 2).mean()

        def line() -> str:
            squared = (y.detach().float() - x) ** 2
            things = (cover > 0.5).float()[:, None]
            inside = (squared.mean(1, keepdim=True) * things).sum() / things.sum()
            return f"loss {value.item():.4f}  {_decibels(squared.mean()):.2f} dB  things {_decibels(inside):.2f} dB"

        return value, line

    def report(step: int) -> None:
        """Films that were not trained on, every third frame, and below each what becomes of it."""
        x, *_ = pictures(slice(-6, None))
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            y = vae.decode(networks.encode(vae, x)).sample.float()
        pairs = [row for a, b in zip(x, y) for row in (a, b)]
        strips = [torch.cat(list(row[:, ::3].transpose(0, 1)), 2) for row in pairs]
        picture = ((torch.cat(strips, 1).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).cpu().numpy()
        Image.fromarray(picture).save(work / "video.png")
        print(f"video {step}: {_decibels(((y - x) ** 2).mean()):.2f} dB on films not trained on", flush=True)

    Training("video", {"vae": vae}, plan["steps"], work, plan["lr"]).run(loss, report)
    return vae.eval()


def decoder(work: Path, folder: Path, device: str, plan: Plan, vae: torch.nn.Module) -> None:
    """The video decoder alone, further, when what it decodes is settled."""
    frames, pictures = _pictures(folder, device)
    vae.encoder.requires_grad_(False)

    def loss(step: int):
        x, _, weight = pictures(_choose(np.random.default_rng((18, step)), frames, plan["batch"]))
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                z = networks.encode(vae, x)
            y = vae.decoder(z + 0.02 * _noise(z, step))
        value = _error(y, x, weight)
        return value, lambda: f"loss {value.item():.4f}  {_decibels((y.detach().float() - x).square().mean()):.2f} dB"

    Training("decoder", {"decoder": vae.decoder}, plan["steps"], work, plan["lr"]).run(loss)


def _decibels(squared: torch.Tensor) -> float:
    return 10 * math.log10(4 / squared.item())


def audio(work: Path, folder: Path, device: str, plan: Plan) -> torch.nn.Module:
    """The audio autoencoder, on log-mels, with the same losses as the video's."""
    torch.manual_seed(2)
    vae = networks.audio_vae().to(device)
    sounds = clips.sounds(folder)

    def loss(step: int):
        chosen = _choose(np.random.default_rng((12, step)), sounds, plan["batch"])
        x = log_mel(torch.from_numpy(sounds[chosen]).float(), networks.MELS).to(device)
        with torch.autocast(device, torch.bfloat16):
            z = networks.encode(vae, x)
            y = vae.decode(z + 0.1 * _noise(z, step)).sample
        error = (y.float()[:, :, : networks.MELS] - x) / networks.SPREAD
        value = (error.abs() + error**2).mean() + 1e-3 * (z.float() ** 2).mean()
        return value, lambda: f"loss {value.item():.4f}  rms {error.detach().square().mean().sqrt() * networks.SPREAD:.3f} nepers"

    Training("audio", {"vae": vae}, plan["steps"], work, plan["lr"]).run(loss)
    return vae.eval()


WINDOWS = (128, 512, 1024)
CROP = 56  # frames of a spectrogram that the vocoder learns from at a time


def _spectrum(wave: torch.Tensor, length: int) -> torch.Tensor:
    window = torch.hann_window(length, device=wave.device)
    return torch.stft(wave.reshape(-1, wave.shape[-1]), length, length // 4, length, window, return_complex=True).abs()


def _distance(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Spectral convergence and logarithmic error over three resolutions (Yamamoto et al. 2020)."""
    total = 0.0
    for length in WINDOWS:
        a, b, quiet = _spectrum(y, length), _spectrum(x, length), 3e-3 * math.sqrt(length)
        total = total + (a - b).norm() / b.norm() + ((a + quiet).log() - (b + quiet).log()).abs().mean()
    return total / len(WINDOWS)


def vocoder(work: Path, folder: Path, device: str, plan: Plan, vae: torch.nn.Module) -> torch.nn.Module:
    """The vocoder, mostly on what the autoencoder makes of a spectrogram, where something is heard."""
    torch.manual_seed(3)
    model = networks.vocoder().to(device)
    sounds = clips.sounds(folder)

    def crops(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((13, step))
        chosen = _choose(rng, sounds, plan["batch"])
        wave = torch.from_numpy(sounds[chosen]).float()
        mels = log_mel(wave, networks.MELS).to(device)
        if rng.random() < 0.7:
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                z = networks.encode(vae, mels)
                mels = vae.decode(z + 0.05 * _noise(z, step)).sample[:, :, : networks.MELS].float()
        waves, pieces = [], []
        for k in range(len(chosen)):
            loud = wave[k].abs().amax(0)[: HOP * 150 : HOP].numpy() + 0.004
            at = int(rng.choice(len(loud), p=loud / loud.sum())) - int(rng.integers(4, 40))
            at = min(max(at, 0), networks.MELS - CROP)
            waves.append(wave[k, :, at * HOP : (at + CROP) * HOP])
            pieces.append(mels[k, :, at : at + CROP])
        return torch.stack(waves).to(device), torch.stack(pieces)

    def loss(step: int):
        x, mels = crops(step)
        with torch.autocast(device, torch.bfloat16):
            y = model(mels)
        y = y.float()
        spectra, wave = _distance(y, x), (y - x).abs().mean() / x.abs().mean()
        value = spectra + 0.5 * wave
        return value, lambda: f"loss {value.item():.4f}  spectra {spectra.item():.3f}  wave {wave.item():.3f}"

    Training("vocoder", {"vocoder": model}, plan["steps"], work, plan["lr"]).run(loss)
    return model.eval()
