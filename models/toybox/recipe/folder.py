"""The trained parts as a folder that diffusers' LTX2Pipeline loads, in half precision: written, and read again."""

import json
import os
import re
import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline

import text


def read(out: Path, device: str) -> LTX2Pipeline:
    """The parts of a folder, in full precision."""
    return LTX2Pipeline.from_pretrained(out, torch_dtype=torch.float32).to(device)


def write(out: Path, latents: dict, film, video, audio, vocoder) -> None:
    """Replaces the parts in `out`; what else lies there (the recipe, the card) stays."""
    with torch.no_grad():
        video.latents_mean.copy_(latents["video_mean"])
        video.latents_std.copy_(latents["video_std"])
        audio.latents_mean.copy_(latents["audio_mean"])
        audio.latents_std.copy_(latents["audio_std"])
    pipeline = LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False, shift=6.0),
        vae=video.half(),
        audio_vae=audio.half(),
        text_encoder=film.reader.encoder.half(),
        tokenizer=film.reader.tokenizer,
        connectors=film.reader.connectors.half(),
        transformer=film.transformer.half(),
        vocoder=vocoder.half(),
    )
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline.save_pretrained(part)
    _mark(part / "model_index.json")
    _full_precision(part / "text_encoder" / "config.json")
    for config in part.glob("*/config.json"):
        _nowhere(config)
    (part / "vocabulary.txt").write_text("".join(f"{word}\n" for word in vocabulary()))
    out.mkdir(parents=True, exist_ok=True)
    for item in part.iterdir():
        old = out / item.name
        if old.is_dir():
            shutil.rmtree(old)
        os.replace(item, old)
    part.rmdir()


def _mark(index: Path) -> None:
    """By this talkie knows the folder, wherever it lies and whatever it is called."""
    values = json.loads(index.read_text())
    index.write_text(json.dumps(values | {"_talkie": "toybox"}, indent=2) + "\n")


def _nowhere(config: Path) -> None:
    """Where a part was read from, when it was, is nobody's business."""
    values = json.loads(config.read_text())
    if values.pop("_name_or_path", None):
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _full_precision(config: Path) -> None:
    """transformers computes in the type that the configuration names; the other parts compute in float32 as loaded."""
    values = json.loads(config.read_text())
    for part in (values, values["text_config"], values["vision_config"]):
        if "dtype" in part:
            part["dtype"] = "float32"
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def vocabulary() -> list[str]:
    """Every word of the grammar, in lower case."""
    return sorted({word for line in text.corpus(20_000) for word in re.findall(r"[a-z]+", line.lower())})
