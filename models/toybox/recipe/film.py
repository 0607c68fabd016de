"""Training of the transformer together with the text encoder: rectified flow on pictures and sound at once."""

from pathlib import Path

import numpy as np
import torch

import networks
import text
import world
from optimiser import Training

SHAPE = dict(num_frames=17, height=4, width=4, fps=float(world.FPS), audio_num_frames=52, return_dict=False)


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """`scaled_dot_product_attention` in plain products: PyTorch's for CPUs took half of a training step at 144 tokens."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    logits = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -1e4) if attn_mask.dtype == torch.bool else logits + attn_mask
    if is_causal:
        logits = logits + torch.full(logits.shape[-2:], -1e4, device=logits.device).triu(1)
    return logits.float().softmax(-1).to(value.dtype) @ value


class Film:
    """The parts that are trained together."""

    def __init__(self, device: str):
        torch.manual_seed(4)
        self.device = device
        self.tokenizer = text.tokenizer(text.corpus())
        self.tokenizer.padding_side = "left"
        self.encoder = networks.text_encoder(len(self.tokenizer) + 3).to(device)
        self.connectors = networks.connectors().to(device)
        self.transformer = networks.transformer().to(device)

    def models(self) -> dict[str, torch.nn.Module]:
        return dict(text=self.encoder.model.language_model, connectors=self.connectors, transformer=self.transformer)

    def rows(self, prompts: list[str]):
        batch = self.tokenizer(prompts, padding=True, return_tensors="pt").to(self.device)
        return text.rows(self.encoder, self.connectors, batch.input_ids, batch.attention_mask)

    def velocity(self, video, audio, sigma, prompts):
        rows, audio_rows, bias = self.rows(prompts)
        masks = dict(encoder_attention_mask=bias, audio_encoder_attention_mask=bias)
        return self.transformer(video, audio, rows, audio_rows, sigma * 1000, **masks, **SHAPE)


def sigmas(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Mostly logit-normal (Esser et al. 2024), a little towards noise, where it is decided what happens; some even."""
    normal = torch.sigmoid(0.3 + 1.1 * torch.randn(batch, generator=generator))
    even, which = torch.rand(batch, generator=generator), torch.rand(batch, generator=generator)
    return torch.where(which < 0.15, even, normal).clamp(0.002, 1)


def train(work: Path, latents: dict, device: str, plan: dict) -> Film:
    """Predicts noise minus latents, from what lies between them. A tenth of the prompts are empty, for guidance."""
    torch.nn.functional.scaled_dot_product_attention = _attention
    film = Film(device)
    video, audio, prompts = latents["video"], latents["audio"], latents["prompts"]
    batch = plan["batch"]

    def draw(step: int):
        rng, generator = np.random.default_rng((14, step)), torch.Generator().manual_seed(step)
        chosen = rng.integers(0, len(video), batch)
        x = video[chosen].float().flatten(2).transpose(1, 2)
        x = (x - latents["video_mean"]) / latents["video_std"]
        y = audio[chosen].float().transpose(1, 2).flatten(2)
        y = (y - latents["audio_mean"]) / latents["audio_std"]
        said = ["" if rng.random() < 0.1 else prompts[k][rng.integers(len(prompts[k]))] for k in chosen]
        sigma = sigmas(batch, generator)
        noises = [torch.randn(z.shape, generator=generator) for z in (x, y)]
        return [z.to(device) for z in (x, y, sigma, *noises)], said

    def loss(step: int):
        (x, y, sigma, n, m), said = draw(step)
        s = sigma[:, None, None]
        with torch.autocast(device, torch.bfloat16):
            seen, heard = film.velocity((1 - s) * x + s * n, (1 - s) * y + s * m, sigma, said)
        seen = (seen.float() - (n - x)).square().mean()
        heard = (heard.float() - (m - y)).square().mean()
        value = seen + 0.5 * heard
        return value, lambda: f"loss {value.item():.4f}  video {seen.item():.4f}  audio {heard.item():.4f}"

    Training("film", film.models(), plan["steps"], work, plan["lr"], decay=plan["decay"]).run(loss)
    return film
