"""The parts of the model, in diffusers' own classes, and how they begin."""

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
from diffusers import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

VIDEO_LATENT = 32  # channels of a video latent, which stands for 16×16 pixels and two frames
AUDIO_LATENT = 2  # channels of the audio latents; a token of 40 ms is these times MEL / 4
MEL = 64
AUDIO_TOKEN = AUDIO_LATENT * MEL // 4
MELS = 205  # frames of a spectrogram: 52 latents, the first of which stands for one
MEAN, SPREAD = -3.5, 1.8  # of the log-mels, roughly

VIDEO_VAE = dict(
    latent_channels=VIDEO_LATENT,
    block_out_channels=(64, 64),
    down_block_types=("LTX2VideoDownBlock3D",) * 2,
    spatio_temporal_scaling=(True, True),
    downsample_type=("spatiotemporal", "spatial"),
    layers_per_block=(1, 2, 2),
    decoder_block_out_channels=(64, 64),
    decoder_layers_per_block=(2, 2, 2),
    decoder_spatio_temporal_scaling=(True, True),
    decoder_inject_noise=(False, False, False),
    upsample_type=("spatial", "spatiotemporal"),
    upsample_residual=(True, True),
    upsample_factor=(1, 1),
    encoder_causal=True,
    decoder_causal=False,
    encoder_spatial_padding_mode="zeros",
    decoder_spatial_padding_mode="zeros",
    spatial_compression_ratio=16,
    temporal_compression_ratio=2,
)
AUDIO_VAE = dict(
    base_channels=AUDIO_TOKEN,  # the statistics are as wide as this, and belong to whole tokens
    output_channels=2,
    ch_mult=(1, 1, 2),
    num_res_blocks=1,
    in_channels=2,
    latent_channels=AUDIO_LATENT,
    norm_type="pixel",
    causality_axis="height",
    mel_bins=MEL,
    mid_block_add_attention=False,
)
VOCODER = dict(
    in_channels=2 * MEL,
    hidden_channels=128,
    out_channels=2,
    upsample_kernel_sizes=[11, 8, 8, 4],
    upsample_factors=[5, 4, 4, 2],
    resnet_kernel_sizes=[3, 7],
    resnet_dilations=[[1, 3, 5], [1, 3, 5]],
    output_sampling_rate=16_000,
)
TEXT_WIDTH, TEXT_LAYERS, REGISTERS = 128, 3, 8
TEXT = dict(
    hidden_size=TEXT_WIDTH,
    intermediate_size=256,
    num_hidden_layers=TEXT_LAYERS,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    query_pre_attn_scalar=32,
    sliding_window=1024,
    layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    max_position_embeddings=2048,
    rope_parameters={
        "full_attention": {"rope_type": "default", "rope_theta": 1e4},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
)
VISION = dict(
    hidden_size=4,
    intermediate_size=6,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=8,
    patch_size=4,
    vision_use_head=False,
)
# Connectors without layers of their own: the rows of a prompt, and behind them registers, all of which look at nothing
# else. So a row is the same in a prompt of 30 places, as in training, and of the pipeline's 1024.
CONNECTORS = dict(
    caption_channels=TEXT_WIDTH,
    text_proj_in_factor=TEXT_LAYERS + 1,
    video_connector_num_attention_heads=4,
    video_connector_attention_head_dim=TEXT_WIDTH // 4,
    video_connector_num_layers=0,
    video_connector_num_learnable_registers=REGISTERS,
    audio_connector_num_attention_heads=4,
    audio_connector_attention_head_dim=TEXT_WIDTH // 4,
    audio_connector_num_layers=0,
    audio_connector_num_learnable_registers=REGISTERS,
    rope_type="split",
)
TRANSFORMER = dict(
    in_channels=VIDEO_LATENT,
    out_channels=VIDEO_LATENT,
    num_attention_heads=3,
    attention_head_dim=64,
    cross_attention_dim=192,
    vae_scale_factors=(2, 16, 16),
    pos_embed_max_pos=4,
    base_height=64,
    base_width=64,
    audio_in_channels=AUDIO_TOKEN,
    audio_out_channels=AUDIO_TOKEN,
    audio_num_attention_heads=3,
    audio_attention_head_dim=32,
    audio_cross_attention_dim=96,
    audio_pos_embed_max_pos=4,
    num_layers=6,
    caption_channels=TEXT_WIDTH,
    rope_theta=64.0,
    rope_type="split",
    perturbed_attn=True,  # without it spatio-temporal guidance has no effect
)


def _quiet_residuals(model: torch.nn.Module) -> None:
    """Every residual branch begins as nothing: without it, the decoder's biases win and the encoder learns little."""
    for name, module in model.named_modules():
        if name.endswith("conv2"):
            for parameter in module.parameters():
                torch.nn.init.zeros_(parameter)


def _local(model: torch.nn.Module, now: int) -> None:
    """Convolutions begin by looking mostly at their own place; `now` is the tap in time that is the present.

    From the usual beginning, in which all 27 taps weigh the same, every layer smears what moves, and the first thousands
    of steps go by in undoing that.
    """
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3) and "conv2" not in name:
                module.weight.mul_(0.1)
                module.weight[:, :, now, 1, 1] += torch.nn.init.orthogonal_(torch.empty(module.weight.shape[:2]))
                module.bias.zero_()


def video_vae() -> AutoencoderKLLTX2Video:
    model = AutoencoderKLLTX2Video(**VIDEO_VAE)
    _quiet_residuals(model)
    _local(model.encoder, 2)
    _local(model.decoder, 1)
    return model


def audio_vae() -> AutoencoderKLLTX2Audio:
    model = AutoencoderKLLTX2Audio(**AUDIO_VAE)
    _quiet_residuals(model)
    with torch.no_grad():  # log-mels lie about MEAN, SPREAD wide
        model.encoder.conv_in.conv.weight.div_(SPREAD)
        model.decoder.conv_out.conv.weight.mul_(SPREAD)
        model.decoder.conv_out.conv.bias.fill_(MEAN)
    return model


def vocoder() -> LTX2Vocoder:
    model = LTX2Vocoder(**VOCODER)
    with torch.no_grad():
        model.conv_in.weight.div_(SPREAD)
    return model


def text_encoder(pieces: int) -> Gemma3ForConditionalGeneration:
    config = Gemma3Config(
        text_config=TEXT | dict(vocab_size=pieces, bos_token_id=2, eos_token_id=1, pad_token_id=0),
        vision_config=VISION,
        mm_tokens_per_image=1,
        boi_token_index=pieces - 3,
        eoi_token_index=pieces - 2,
        image_token_index=pieces - 1,
    )
    return Gemma3ForConditionalGeneration(config)


def connectors() -> LTX2TextConnectors:
    return LTX2TextConnectors(**CONNECTORS)


def transformer() -> LTX2VideoTransformer3DModel:
    """Modulation begins as nothing, and so does what goes out; attention to the text begins sharp."""
    model = LTX2VideoTransformer3DModel(**TRANSFORMER)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".linear.weight", ".linear.bias")) or name.startswith(("proj_out", "audio_proj_out")):
                parameter.zero_()
            elif name.endswith("scale_shift_table") or "_scale_shift_table" in name:
                _identity(name, parameter)
            elif "attn2.norm_" in name:
                # A thousand registers share the attention: only sharp logits let a dozen words be heard over them.
                parameter.fill_(1.7)
    return model


@torch.no_grad()
def listen(model: LTX2VideoTransformer3DModel, rows: torch.Tensor, audio_rows: torch.Tensor, last: torch.Tensor) -> None:
    """Attention to the text begins at its last row: every query is pulled towards the keys that such rows have."""
    place = torch.arange(rows.shape[1], device=rows.device)[None]
    ends, before, behind = place == last[:, None], place < last[:, None], place >= rows.shape[1] - REGISTERS
    texts = model.caption_projection(rows), model.audio_caption_projection(audio_rows)
    for block in model.transformer_blocks:
        for attention, text in zip((block.attn2, block.audio_attn2), texts):
            keys = attention.norm_k(attention.to_k(text))
            end = keys[ends].mean(0)
            rest = (keys[others.expand(ends.shape)].mean(0) for others in (before, behind))
            away = sum(torch.nn.functional.normalize(end - other, dim=0) for other in rest)
            attention.to_q.bias.copy_(1.5 * away / away.square().mean().sqrt())


def _identity(name: str, table: torch.Tensor) -> None:
    """Shifts and scales of nothing, gates of one: the two rows of six, and the last of five, are gates."""
    table.zero_()
    if table.shape[0] == 6:
        table[2], table[5] = 1.0, 1.0
    elif table.shape[0] == 5:
        table[4] = 1.0


def encode(vae: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The mean of the posterior; neither autoencoder is sampled from."""
    return vae.encode(x).latent_dist.mean
