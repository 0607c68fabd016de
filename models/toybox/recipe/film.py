"""Training of the transformer: rectified flow on pictures and sound at once."""

import copy
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import grammar
import networks
import quick
import words
import world
from optimiser import Training
from text import Reader

SECONDS = 25  # audio tokens in one


def shape(latent_frames: int) -> dict:
    """What the transformer is told of a film of so many latent frames; the first stands for one frame, each other for two."""
    tokens = round((2 * latent_frames - 1) / world.FPS * SECONDS)
    size = dict(num_frames=latent_frames, height=4, width=4, audio_num_frames=tokens)
    return dict(**size, fps=float(world.FPS), return_dict=False)


class Film:
    """The trained parts: what reads is finished; a new transformer begins to listen where prompts end."""

    def __init__(self, reader: Reader, device: str, transformer: torch.nn.Module | None = None):
        torch.manual_seed(6)
        self.reader, self.device = reader, device
        self.transformer = transformer or networks.transformer().to(device)
        if transformer:
            return
        with torch.no_grad():
            rng = np.random.default_rng(17)
            rows, audio_rows, _, last = reader([grammar.describe(words.draw(rng), rng) for _ in range(256)])
        networks.listen(self.transformer, rows, audio_rows, last)

    def velocity(self, transformer, video, audio, sigma, prompts):
        """Of latents in tokens (batch, n, channels), at noise `sigma` (batch), as the type of the transformer has it."""
        with torch.no_grad():
            rows, audio_rows, bias, _ = self.reader(prompts)
        kind = transformer.dtype
        video, audio, rows, audio_rows, bias = (x.to(kind) for x in (video, audio, rows, audio_rows, bias))
        masks = dict(encoder_attention_mask=bias, audio_encoder_attention_mask=bias)
        told = shape(video.shape[1] // 16)
        return transformer(video, audio, rows, audio_rows, sigma * 1000, **masks, **told)

    @torch.no_grad()
    def sample(self, prompts: list[str], steps: int = 16, guidance: float = 3.0):
        """Normalised latents in tokens, by Euler's steps."""
        generator = torch.Generator().manual_seed(7)
        told = shape(17)
        x = torch.randn(len(prompts), 17 * 16, networks.VIDEO_LATENT, generator=generator).to(self.device)
        y = torch.randn(len(prompts), told["audio_num_frames"], networks.AUDIO_TOKEN, generator=generator).to(self.device)
        said = [""] * len(prompts) + prompts
        for step in range(steps):
            sigma = torch.full((len(said),), 1 - step / steps, device=self.device)
            both = self.velocity(self.transformer, torch.cat([x, x]), torch.cat([y, y]), sigma, said)
            for z, v in zip((x, y), both):
                without, towards = v.chunk(2)
                z -= (without + guidance * (towards - without)) / steps
        return x, y


def sigmas(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Mostly logit-normal (Esser et al. 2024), a little towards noise, where it is decided what happens; some even."""
    normal = torch.sigmoid(0.3 + 1.1 * torch.randn(batch, generator=generator))
    even, which = torch.rand(batch, generator=generator), torch.rand(batch, generator=generator)
    return torch.where(which < 0.2, even, normal).clamp(0.002, 1)


LOOKED_AT = 32  # films that are not trained on
PROMPTS = [
    "a big red ball bounces on a wooden floor", "a blue cube slides from the left and strikes a metal wall",
    "a green ball and a yellow block fall into water", "a white sphere and a purple ball collide",
    "a small yellow block falls on rubber at night", "a red box and a green box drop onto a metal floor",
]


def train(work: Path, latents: dict, reader: Reader, vae, device: str, plan: dict, transformer=None) -> Film:
    """Predicts noise minus latents, from what lies between them. A tenth of the prompts are empty, for guidance.

    Films begin short and grow: what things look like and how they are asked for is learned where a step is cheap.
    `transformer` is one to begin with.
    """
    if device == "cpu":
        quick.use()
    film = Film(reader, device, transformer)
    twin = copy.deepcopy(film.transformer).bfloat16()
    video = latents["video"].float().flatten(2).transpose(1, 2)
    video = ((video - latents["video_mean"]) / latents["video_std"]).bfloat16()
    audio = latents["audio"].float().transpose(1, 2).flatten(2)
    audio = ((audio - latents["audio_mean"]) / latents["audio_std"]).bfloat16()
    prompts = latents["prompts"]
    stages = plan["stages"]  # latent frames, batch, steps

    def stage(step: int) -> tuple[int, int]:
        for frames, batch, steps in stages:
            if step < steps:
                return frames, batch
            step -= steps
        return stages[-1][:2]

    def noised(chosen, frames: int, sigma: torch.Tensor, generator: torch.Generator):
        """Noisy latents and the velocities through them."""
        out = []
        for z, tokens in ((video, 16 * frames), (audio, shape(frames)["audio_num_frames"])):
            clean = z[chosen, :tokens].float()
            noise = torch.randn(clean.shape, generator=generator)
            s = sigma[:, None, None]
            out.append(((1 - s) * clean + s * noise, noise - clean))
        return [z.to(device) for pair in zip(*out) for z in pair]

    def loss(step: int):
        rng, generator = np.random.default_rng((14, step)), torch.Generator().manual_seed(step)
        frames, batch = stage(step)
        chosen = rng.integers(0, len(video) - LOOKED_AT, batch)
        said = ["" if rng.random() < 0.1 else prompts[k][rng.integers(len(prompts[k]))] for k in chosen]
        sigma = sigmas(batch, generator)
        x, y, to_x, to_y = noised(chosen, frames, sigma, generator)
        seen, heard = film.velocity(twin, x, y, sigma.to(device), said)
        seen, heard = (seen.float() - to_x).square().mean(), (heard.float() - to_y).square().mean()
        return seen + 0.5 * heard, lambda: f"video {seen.item():.4f}  audio {heard.item():.4f}"

    def report(step: int) -> None:
        """The loss of films not trained on with their own prompts and with others', and a sheet of films."""
        chosen = np.arange(len(video) - LOOKED_AT, len(video))
        said = [prompts[k][0] for k in chosen]
        for level in (0.95, 0.8, 0.5, 0.2):
            sigma, figures = torch.full((LOOKED_AT,), level), []
            x, y, to_x, to_y = noised(chosen, 17, sigma, torch.Generator().manual_seed(8))
            for spoken in (said, said[1:] + said[:1]):
                with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                    seen, heard = film.velocity(film.transformer, x, y, sigma.to(device), spoken)
                errors = (seen.float() - to_x, heard.float() - to_y)
                figures.append([error.square().mean().item() for error in errors])
            (a, b), (c, d) = figures
            print(f"film {step} at {level}: video {a:.4f}, with other words {c:.4f}; audio {b:.4f}, {d:.4f}", flush=True)
        x, y = film.sample(PROMPTS)
        z = x.transpose(1, 2).unflatten(2, (17, 4, 4)).cpu() * latents["video_std"][:, None, None, None]
        z = z + latents["video_mean"][:, None, None, None]
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            shown = vae.decode(z.to(device)).sample.float().clamp(-1, 1)
        rows = [torch.cat(list(row[:, ::3].transpose(0, 1)), 2) for row in shown]
        picture = ((torch.cat(rows, 1) + 1) * 127.5).byte().permute(1, 2, 0).cpu()
        Image.fromarray(picture.numpy()).save(work / f"film-{step:05}.png")

    models, twins = dict(transformer=film.transformer), dict(transformer=twin)
    name = "further" if transformer else "film"
    Training(name, models, sum(s[2] for s in stages), work, plan["lr"], plan["decay"], twins).run(loss, report, every=500)
    return film
