"""Model folders of Wan with one network in its real dimensions and random weights, made on the GPU: for timing.

    python benches/gpu/folders.py FOLDER --model NAME [--device cuda] [--tiny]     writes one
    python benches/gpu/folders.py --check                                         compares names and shapes with diffusers'

What is beside that network is small: of the folders in `tests/fixtures`, or made here. Needs PyTorch; `--check` needs diffusers
and transformers too.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
STEM = "diffusion_pytorch_model.safetensors"
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}
Shapes = dict[str, tuple[int, ...]]

# The fixture whose layout a model has, the network that is real, and the sizes that the fixture's configuration lacks.
MODELS = {
    "wan-1.3b": ("wan21-t2v", "transformer", dict(num_attention_heads=12, ffn_dim=8960, num_layers=30)),
    "wan-14b": ("wan21-t2v", "transformer", dict(num_attention_heads=40, ffn_dim=13824, num_layers=40)),
    "wan-5b": ("wan22-ti2v-5b", "transformer", dict(num_attention_heads=24, ffn_dim=14336, num_layers=30)),
    "vae-2.1": ("wan21-t2v", "vae", dict(base_dim=96, num_res_blocks=2)),
    "vae-2.2": ("wan22-ti2v-5b", "vae", dict(base_dim=160, decoder_base_dim=256, num_res_blocks=2)),
}
REAL = dict(attention_head_dim=128, text_dim=4096, freq_dim=256)
TINY = {
    "transformer": dict(num_attention_heads=2, ffn_dim=256, num_layers=2, attention_head_dim=64),
    "vae": dict(base_dim=8, decoder_base_dim=8),
}
# What stands in for a transformer that is not run, as wide in its text as the fixtures' encoders.
SMALL = dict(num_attention_heads=1, attention_head_dim=64, ffn_dim=64, num_layers=1, freq_dim=64)
# An encoder that is next to nothing, as wide as the real one.
ENCODER = dict(d_model=4096, d_kv=8, d_ff=16, num_layers=1, num_heads=1)


def layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def transformer(c: dict) -> Shapes:
    """diffusers' `WanTransformer3DModel`, text to video."""
    dim, ffn, patch = c["num_attention_heads"] * c["attention_head_dim"], c["ffn_dim"], c["patch_size"]
    at = "condition_embedder"
    shapes = {"scale_shift_table": (1, 2, dim)} | layer("patch_embedding", dim, c["in_channels"], *patch)
    shapes |= layer(f"{at}.time_embedder.linear_1", dim, c["freq_dim"]) | layer(f"{at}.time_embedder.linear_2", dim, dim)
    shapes |= layer(f"{at}.time_proj", 6 * dim, dim)
    shapes |= layer(f"{at}.text_embedder.linear_1", dim, c["text_dim"]) | layer(f"{at}.text_embedder.linear_2", dim, dim)
    for block in (f"blocks.{i}" for i in range(c["num_layers"])):
        shapes[f"{block}.scale_shift_table"] = (1, 6, dim)
        for attention in (f"{block}.attn1", f"{block}.attn2"):
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                shapes |= layer(f"{attention}.{name}", dim, dim)
            shapes |= {f"{attention}.norm_{name}.weight": (dim,) for name in "qk"}
        shapes |= layer(f"{block}.norm2", dim)
        shapes |= layer(f"{block}.ffn.net.0.proj", ffn, dim) | layer(f"{block}.ffn.net.2", dim, ffn)
    return shapes | layer("proj_out", c["out_channels"] * math.prod(patch), dim)


def residual(name: str, wide: int, out: int) -> Shapes:
    shapes = {f"{name}.norm1.gamma": (wide, 1, 1, 1)} | layer(f"{name}.conv1", out, wide, 3, 3, 3)
    shapes |= {f"{name}.norm2.gamma": (out, 1, 1, 1)} | layer(f"{name}.conv2", out, out, 3, 3, 3)
    return shapes if wide == out else shapes | layer(f"{name}.conv_shortcut", out, wide, 1, 1, 1)


def middle(name: str, dim: int) -> Shapes:
    shapes = {f"{name}.attentions.0.norm.gamma": (dim, 1, 1)}
    shapes |= layer(f"{name}.attentions.0.to_qkv", 3 * dim, dim, 1, 1) | layer(f"{name}.attentions.0.proj", dim, dim, 1, 1)
    return shapes | residual(f"{name}.resnets.0", dim, dim) | residual(f"{name}.resnets.1", dim, dim)


def encoder(c: dict) -> Shapes:
    wide = [c["base_dim"] * factor for factor in (1, *c["dim_mult"])]
    shapes, counted = layer("encoder.conv_in", wide[0], c["in_channels"], 3, 3, 3), 0
    for level, (into, out) in enumerate(zip(wide, wide[1:])):
        down = level + 1 < len(c["dim_mult"])
        for at in range(c["num_res_blocks"] + down):
            # Wan 2.1 counts blocks and what makes smaller in one row, Wan 2.2 by levels.
            flat, shrinks = f"encoder.down_blocks.{counted}", at == c["num_res_blocks"]
            counted += 1
            if shrinks:
                name = f"encoder.down_blocks.{level}.downsampler" if c["is_residual"] else flat
                shapes |= layer(f"{name}.resample.1", out, out, 3, 3)
                shapes |= layer(f"{name}.time_conv", out, out, 3, 1, 1) if c["temperal_downsample"][level] else {}
            else:
                name = f"encoder.down_blocks.{level}.resnets.{at}" if c["is_residual"] else flat
                shapes |= residual(name, into if at == 0 else out, out)
    shapes |= middle("encoder.mid_block", wide[-1]) | {"encoder.norm_out.gamma": (wide[-1], 1, 1, 1)}
    return shapes | layer("encoder.conv_out", 2 * c["z_dim"], wide[-1], 3, 3, 3)


def decoder(c: dict) -> Shapes:
    base, factors = c["decoder_base_dim"] or c["base_dim"], c["dim_mult"][::-1]
    wide = [base * factor for factor in (factors[0], *factors)]
    shapes = layer("decoder.conv_in", wide[0], c["z_dim"], 3, 3, 3) | middle("decoder.mid_block", wide[0])
    for level, (into, out) in enumerate(zip(wide, wide[1:])):
        name, up = f"decoder.up_blocks.{level}", level + 1 < len(factors)
        if level > 0 and not c["is_residual"]:
            into //= 2  # Wan 2.1 halves the channels where it makes larger
        for at in range(c["num_res_blocks"] + 1):
            shapes |= residual(f"{name}.resnets.{at}", into if at == 0 else out, out)
        if up:
            name += ".upsampler" if c["is_residual"] else ".upsamplers.0"
            shapes |= layer(f"{name}.resample.1", out if c["is_residual"] else out // 2, out, 3, 3)
            shapes |= layer(f"{name}.time_conv", 2 * out, out, 3, 1, 1) if c["temperal_downsample"][::-1][level] else {}
    shapes |= {"decoder.norm_out.gamma": (wide[-1], 1, 1, 1)}
    return shapes | layer("decoder.conv_out", c["out_channels"], wide[-1], 3, 3, 3)


def vae(c: dict) -> Shapes:
    """diffusers' `AutoencoderKLWan`, both of them."""
    both = 2 * c["z_dim"]
    turns = layer("quant_conv", both, both, 1, 1, 1) | layer("post_quant_conv", c["z_dim"], c["z_dim"], 1, 1, 1)
    return encoder(c) | turns | decoder(c)


def text_encoder(c: dict) -> Shapes:
    """transformers' `UMT5EncoderModel`, as its files have it."""
    dim, heads, ffn = c["d_model"], c["num_heads"] * c["d_kv"], c["d_ff"]
    shapes = {"shared.weight": (c["vocab_size"], dim), "encoder.final_layer_norm.weight": (dim,)}
    for block in (f"encoder.block.{i}.layer" for i in range(c["num_layers"])):
        attention, dense = f"{block}.0.SelfAttention", f"{block}.1.DenseReluDense"
        shapes |= {f"{attention}.{name}.weight": (heads, dim) for name in "qkv"} | {f"{attention}.o.weight": (dim, heads)}
        shapes[f"{attention}.relative_attention_bias.weight"] = (c["relative_attention_num_buckets"], c["num_heads"])
        shapes |= {f"{dense}.wi_{i}.weight": (ffn, dim) for i in range(2)} | {f"{dense}.wo.weight": (dim, ffn)}
        shapes |= {f"{block}.{i}.layer_norm.weight": (dim,) for i in range(2)}
    return shapes


def spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and deviation of a parameter's values, such that activations keep their size."""
    if "norm" in name and name.endswith(("weight", "gamma")):
        return 1.0, 0.2
    if name.endswith(("scale_shift_table", "bias", "bias.weight")):
        return 0.0, 0.15
    if name == "shared.weight":
        return 0.0, 1.0
    # In an autoencoder SiLU takes away what keeps a convolution's output as large as its input.
    return 0.0, (1.5 if len(shape) == 5 and "conv" in name else 1.0) / math.sqrt(math.prod(shape[1:]))


def write(file: Path, shapes: Shapes, dtype: torch.dtype, device: str) -> None:
    """A safetensors file, its tensors drawn on the device and written by several threads: one alone is slower than memory."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out, ThreadPoolExecutor(8) as threads:
        out.write(struct.pack("<Q", len(text)) + text)
        out.flush()

        def put(name: str) -> None:
            mean, deviation = spread(name, shapes[name])
            seed = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(shapes[name], generator=seed, device=device).mul_(deviation).add_(mean).to(dtype)
            data, at = values.flatten().view(torch.uint8).cpu().numpy(), 8 + len(text) + header[name]["data_offsets"][0]
            if os.pwrite(out.fileno(), data, at) != data.size:
                raise OSError(f"{file} is not written whole: the disk is full; --folders names another place")

        list(threads.map(put, shapes))


def configuration(model: str, tiny: bool) -> tuple[str, dict]:
    """The network that is real in a model's folder, and its configuration."""
    fixture, network, sizes = MODELS[model]
    config = json.loads((FIXTURES / fixture / network / "config.json").read_text())
    return network, config | (REAL if network == "transformer" else {}) | sizes | (TINY[network] if tiny else {})


def size(model: str, tiny: bool) -> int:
    """Bytes of the network's file."""
    network, config = configuration(model, tiny)
    return sum(map(math.prod, SHAPES[network](config).values())) * STORED[network].itemsize


# As the released files are: text encoders and here also transformers in half, autoencoders in float32.
SHAPES = {"transformer": transformer, "vae": vae, "text_encoder": text_encoder}
STORED = {"transformer": torch.bfloat16, "vae": torch.float32, "text_encoder": torch.bfloat16}


def make(folder: Path, model: str, device: str, tiny: bool = False) -> Path:
    """Writes a model's folder."""
    fixture, network, _ = MODELS[model]
    for part in ("tokenizer", "scheduler", "text_encoder", "vae", "transformer"):
        shutil.copytree(FIXTURES / fixture / part, folder / part)
    shutil.copy(FIXTURES / fixture / "model_index.json", folder)
    _, config = configuration(model, tiny)
    parts = {network: config}
    if network == "transformer":
        parts["text_encoder"] = json.loads((folder / "text_encoder" / "config.json").read_text()) | ENCODER
    else:
        parts["transformer"] = json.loads((folder / "transformer" / "config.json").read_text()) | SMALL
    (folder / "blobs").mkdir()
    for part, config in parts.items():
        (folder / part / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        file = folder / part / ("model.safetensors" if part == "text_encoder" else STEM)
        # As in the hub's cache, where a file's name is its hash: nobody has to read 28 GB to know what made a film.
        blob = folder / "blobs" / hashlib.sha256(f"{model} {part}".encode()).hexdigest()
        write(blob, SHAPES[part](config), STORED[part], device)
        file.unlink()
        file.symlink_to(Path("..") / "blobs" / blob.name)
    return folder


def check() -> None:
    """Every name and shape of every network, against the classes that they are of."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    text = json.loads((FIXTURES / "wan21-t2v" / "text_encoder" / "config.json").read_text()) | ENCODER
    cases = [("text encoder", "text_encoder", text)]
    cases += [(f"{model}{' tiny' * tiny}", *configuration(model, tiny)) for model in MODELS for tiny in (False, True)]
    for title, network, config in cases:
        given = {name: value for name, value in config.items() if not name.startswith("_")}
        with torch.device("meta"):
            match network:
                case "text_encoder":
                    theirs = UMT5EncoderModel(UMT5Config(**given))
                case "vae":
                    theirs = AutoencoderKLWan(**given)
                case _:
                    theirs = WanTransformer3DModel(**given)
        wanted, found = {name: tuple(p.shape) for name, p in theirs.named_parameters()}, SHAPES[network](config)
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        if differ:
            raise SystemExit(f"{title}: {len(differ)} tensors are not diffusers', {', '.join(differ[:5])} among them")
        print(f"{title}: {len(found)} tensors, {sum(map(math.prod, found.values())):,} values, as in diffusers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", choices=list(MODELS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        return check()
    if not (asked.folder and asked.model):
        parser.error("name a FOLDER and a --model, or --check")
    make(asked.folder, asked.model, asked.device, asked.tiny)


if __name__ == "__main__":
    main()
