"""Training of the transformer: rectified flow on pictures and sound at once."""

import copy
import functools
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

    @functools.cache  # noqa: B019, one film a process
    def places(self, frames: int, batch: int) -> dict:
        """Where and when the tokens are: bounds (batch, 3, n, 2) of the pictures' and (batch, 1, n, 2) of the sound's."""
        told = shape(frames)
        size = (told["num_frames"], told["height"], told["width"], self.device)
        video = self.transformer.rope.prepare_video_coords(1, *size, fps=told["fps"])
        audio = self.transformer.audio_rope.prepare_audio_coords(1, told["audio_num_frames"], self.device)
        return dict(video_coords=video.repeat(batch, 1, 1, 1), audio_coords=audio.repeat(batch, 1, 1, 1))

    def velocity(self, transformer, video, audio, sigma, said):
        """Of latents in tokens (batch, n, channels), at noise `sigma` (batch), as the type of the transformer has it.

        `said` are the rows for pictures and for sound, and the attention's bias.
        """
        video, audio, rows, audio_rows, bias = (x.to(transformer.dtype) for x in (video, audio, *said))
        masks = dict(encoder_attention_mask=bias, audio_encoder_attention_mask=bias)
        told = shape(video.shape[1] // 16) | self.places(video.shape[1] // 16, len(video))
        return transformer(video, audio, rows, audio_rows, sigma * 1000, **masks, **told)

    @torch.no_grad()
    def sample(self, prompts: list[str], steps: int = 16, guidance: float = 3.0):
        """Normalised latents in tokens, by Euler's steps."""
        generator = torch.Generator().manual_seed(7)
        told = shape(17)
        x = torch.randn(len(prompts), 17 * 16, networks.VIDEO_LATENT, generator=generator).to(self.device)
        y = torch.randn(len(prompts), told["audio_num_frames"], networks.AUDIO_TOKEN, generator=generator).to(self.device)
        said = self.reader([""] * len(prompts) + prompts)[:3]
        for step in range(steps):
            sigma = torch.full((2 * len(prompts),), 1 - step / steps, device=self.device)
            both = self.velocity(self.transformer, torch.cat([x, x]), torch.cat([y, y]), sigma, said)
            for z, v in zip((x, y), both):
                without, towards = v.chunk(2)
                z -= (without + guidance * (towards - without)) / steps
        return x, y


class Lesson:
    """What is learned from: normalised latents in tokens, and the rows of every prompt, all on the device."""

    def __init__(self, latents: dict, reader: Reader, device: str):
        video = latents["video"].float().flatten(2).transpose(1, 2)
        audio = latents["audio"].float().transpose(1, 2).flatten(2)
        self.video = ((video - latents["video_mean"]) / latents["video_std"]).bfloat16().to(device)
        self.audio = ((audio - latents["audio_mean"]) / latents["audio_std"]).bfloat16().to(device)
        self.rows = reader.all(["", *(prompt for said in latents["prompts"] for prompt in said)])
        self.wordings = len(latents["prompts"][0])
        self.device = device

    def draw(self, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Films, and a wording of each; a tenth of them none, for guidance."""
        draw = functools.partial(torch.randint, size=(batch,), generator=generator, device=self.device)
        chosen, wording = draw(high=len(self.video) - LOOKED_AT), draw(high=self.wordings)
        unsaid = torch.rand(batch, generator=generator, device=self.device) < 0.1
        return chosen, torch.where(unsaid, 0, 1 + chosen * self.wordings + wording)

    def said(self, which: torch.Tensor) -> list[torch.Tensor]:
        return [rows[which] for rows in self.rows]

    def noised(self, chosen: torch.Tensor, frames: int, sigma: torch.Tensor, generator: torch.Generator):
        """Noisy latents of the first latent frames, and the velocities through them: noise minus latents."""
        out = []
        for z, tokens in ((self.video, 16 * frames), (self.audio, shape(frames)["audio_num_frames"])):
            clean = z[chosen, :tokens].float()
            noise = torch.randn(clean.shape, generator=generator, device=self.device)
            s = sigma[:, None, None]
            out.append(((1 - s) * clean + s * noise, noise - clean))
        return [z for pair in zip(*out) for z in pair]


def sigmas(batch: int, generator: torch.Generator, even: float, shift: float) -> torch.Tensor:
    """Mostly logit-normal (Esser et al. 2024), a little towards noise, where it is decided what happens; a share of `even`
    as the steps of a film have them: even, but for the shift of the flow."""
    like = dict(generator=generator, device=generator.device)
    normal = torch.sigmoid(0.3 + 1.1 * torch.randn(batch, **like))
    steps, which = torch.rand(batch, **like), torch.rand(batch, **like)
    return torch.where(which < even, shift * steps / (1 + (shift - 1) * steps), normal).clamp(0.002, 1)


LOOKED_AT = 32  # films that are not trained on
PROMPTS = [
    "a big red ball bounces on a wooden floor", "a blue cube slides from the left and strikes a metal wall",
    "a green ball and a yellow block fall into water", "a white sphere and a purple ball collide",
    "a small yellow block falls on rubber at night", "a red box and a green box drop onto a metal floor",
]


def train(work: Path, latents: dict, reader: Reader, vae, device: str, plan: dict, transformer=None) -> Film:
    """Predicts noise minus latents, from what lies between them.

    Films begin short and grow: what things look like and how they are asked for is learned where a step is cheap.
    `transformer` is one to begin with.
    """
    film, lesson = Film(reader, device, transformer), Lesson(latents, reader, device)
    twin = copy.deepcopy(film.transformer).bfloat16()
    if device == "cpu":
        quick.use()
    for block in twin.transformer_blocks:
        block.compile(dynamic=False)
    stages = plan["stages"]  # latent frames, batch, steps

    def stage(step: int) -> tuple[int, int]:
        for frames, batch, steps in stages:
            if step < steps:
                return frames, batch
            step -= steps
        return stages[-1][:2]

    def loss(step: int):
        generator = torch.Generator(device).manual_seed(step)
        frames, batch = stage(step)
        chosen, prompts = lesson.draw(batch, generator)
        sigma = sigmas(batch, generator, plan["even"], plan["shift"])
        x, y, to_x, to_y = lesson.noised(chosen, frames, sigma, generator)
        seen, heard = film.velocity(twin, x, y, sigma, lesson.said(prompts))
        seen, heard = (seen.float() - to_x).square().mean(), (heard.float() - to_y).square().mean()
        return seen + 0.5 * heard, lambda: f"video {seen.item():.4f}  audio {heard.item():.4f}"

    def report(step: int) -> None:
        _levels(film, lesson, step)
        _sheet(film, latents, vae, work / f"film-{step:05}.png")

    models, twins = dict(transformer=film.transformer), dict(transformer=twin)
    name = "further" if transformer else "film"
    steps, rates = sum(s[2] for s in stages), (plan["lr"], plan["decay"])
    Training(name, models, steps, work, *rates, twins, plan["fall"]).run(loss, report, every=500)
    return film


@torch.no_grad()
def _levels(film: Film, lesson: Lesson, step: int) -> None:
    """Prints the loss of films not trained on, with their own prompts and with others'."""
    count = len(lesson.video)
    chosen = torch.arange(count - LOOKED_AT, count, device=film.device)
    for level in (0.95, 0.8, 0.5, 0.2):
        sigma, figures = torch.full((LOOKED_AT,), level, device=film.device), []
        generator = torch.Generator(film.device).manual_seed(8)
        x, y, to_x, to_y = lesson.noised(chosen, 17, sigma, generator)
        for spoken in (chosen, chosen.roll(-1)):
            with torch.autocast(film.device, torch.bfloat16):
                said = lesson.said(1 + spoken * lesson.wordings)
                seen, heard = film.velocity(film.transformer, x, y, sigma, said)
            figures.append([(v.float() - to).square().mean().item() for v, to in ((seen, to_x), (heard, to_y))])
        (a, b), (c, d) = figures
        print(f"film {step} at {level}: video {a:.4f}, with other words {c:.4f}; audio {b:.4f}, {d:.4f}", flush=True)


@torch.no_grad()
def _sheet(film: Film, latents: dict, vae, file: Path) -> None:
    """Every third frame of a film of each of `PROMPTS`."""
    x, _ = film.sample(PROMPTS)
    z = x.transpose(1, 2).unflatten(2, (17, 4, 4)).cpu() * latents["video_std"][:, None, None, None]
    z = z + latents["video_mean"][:, None, None, None]
    with torch.autocast(film.device, torch.bfloat16):
        shown = vae.decode(z.to(film.device)).sample.float().clamp(-1, 1)
    rows = [torch.cat(list(row[:, ::3].transpose(0, 1)), 2) for row in shown]
    picture = ((torch.cat(rows, 1) + 1) * 127.5).byte().permute(1, 2, 0).cpu()
    Image.fromarray(picture.numpy()).save(file)
