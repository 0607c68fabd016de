"""Prompts to rows: the tokenizer, and the way through Gemma and the connectors as the pipeline goes it, but short."""

import json

import numpy as np
import torch
from diffusers.pipelines.ltx2.connectors import per_layer_masked_mean_norm
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import GemmaTokenizer

import grammar
import networks
import world

PLACES = 1024  # rows that the pipeline gives to a prompt
SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
# What a chat or an image would need; no prompt of a film contains them.
EXTRAS = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
PIECES = 640


def corpus(lines: int = 6000) -> list[str]:
    """Prompts, to learn pieces from."""
    rng = np.random.default_rng(3)
    return [grammar.describe(world.draw(rng), rng) for _ in range(lines)]


def tokenizer(lines: list[str]) -> GemmaTokenizer:
    """Gemma's kind: BPE over pieces with `▁` for spaces, bytes for what was never seen, between `<bos>` and `<eos>`."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=SPECIALS + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
    )
    # Word by word, each with and without the `▁` before it, or the merges would be whole lines.
    words = [f"▁{word}" for line in lines for word in line.split()] + [line.split()[0] for line in lines]
    bpe.train_from_iterator(words, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return GemmaTokenizer(
        vocab=model["vocab"],
        merges=merges,
        add_bos_token=True,
        add_eos_token=True,  # its row is where the whole prompt comes together
        padding_side="left",
        additional_special_tokens=EXTRAS,
    )


def rows(encoder, connectors, ids: torch.Tensor, mask: torch.Tensor):
    """What the transformer attends to, of padded ids (batch, n): video rows, audio rows, the attention's bias, the last row.

    The pipeline makes 1024 rows, of which all but the prompt's are registers, each many times. Here each register is one
    row, and its logit is raised by the logarithm of how many it stands for, which is the same softmax.
    """
    hidden = encoder.model.language_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    hidden = torch.stack(hidden, dim=-1).flatten(2, 3)
    tokens = mask.sum(1)
    width = connectors.config.caption_channels
    packed = per_layer_masked_mean_norm(hidden.unflatten(2, (width, -1)), tokens, ids.device, padding_side="left")
    text = connectors.text_proj_in(packed)
    # The padding is on the left: the text moves to the front.
    longest = ids.shape[1]
    place = (torch.arange(longest, device=ids.device)[None] + (longest - tokens)[:, None]).clamp(max=longest - 1)
    text = text.gather(1, place[..., None].expand(-1, -1, text.shape[-1]))
    valid = torch.arange(longest, device=ids.device)[None] < tokens[:, None]
    count = connectors.config.video_connector_num_learnable_registers
    first = (torch.arange(count, device=ids.device)[None] - tokens[:, None]) % count  # places behind the text
    times = (PLACES - tokens[:, None] - first + count - 1) // count
    bias = torch.cat([torch.zeros_like(valid, dtype=torch.float32).masked_fill(~valid, -1e4), times.float().log()], 1)
    both = []
    for connector in (connectors.video_connector, connectors.audio_connector):
        registers = connector.learnable_registers[None].expand(len(ids), -1, -1)
        both.append(connector.norm_out(torch.cat([text, registers], 1)))
    return *both, bias[:, None], tokens - 1


class Reader:
    """Tokenizer, text encoder and connectors: prompts to rows. New ones, or those of a pipeline."""

    def __init__(self, device: str, parts=None):
        torch.manual_seed(4)
        self.device = device
        self.tokenizer = parts.tokenizer if parts else tokenizer(corpus())
        self.encoder = parts.text_encoder if parts else networks.text_encoder(len(self.tokenizer) + 3).to(device)
        self.connectors = parts.connectors if parts else networks.connectors().to(device)

    def models(self) -> dict[str, torch.nn.Module]:
        return dict(text=self.encoder.model.language_model, connectors=self.connectors)

    def __call__(self, prompts: list[str], places: int | None = None):
        """Video rows, audio rows, the attention's bias, and which row is that of `<eos>`; `places` for each prompt, or as
        many as the longest has."""
        padding = dict(padding="max_length", max_length=places) if places else dict(padding=True)
        batch = self.tokenizer(prompts, **padding, return_tensors="pt").to(self.device)
        return rows(self.encoder, self.connectors, batch.input_ids, batch.attention_mask)

    @torch.no_grad()
    def all(self, prompts: list[str], at_once: int = 512) -> list[torch.Tensor]:
        """Of many prompts, once and for all: video rows, audio rows and the attention's bias, in bfloat16."""
        lengths = [len(ids) for ids in self.tokenizer(prompts).input_ids]
        pieces = [self(prompts[at : at + at_once], max(lengths))[:3] for at in range(0, len(prompts), at_once)]
        return [torch.cat([piece.bfloat16() for piece in part]) for part in zip(*pieces)]
