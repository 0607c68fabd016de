//! LTX-2.

use super::{Layout, Part};

/// The single-file checkpoint of LTX-2 and LTX-2.3, by diffusers' `convert_ltx2_to_diffusers.py`.
pub const LTX: Layout = Layout {
    title: "LTX-2",
    marks: &["model.diffusion_model.audio_patchify_proj.weight"],
    outer: &[],
    parts: &[
        Part { name: "transformer", prefixes: &[("model.diffusion_model.", "")], renames: LTX_TRANSFORMER },
        Part {
            name: "connectors",
            prefixes: &[
                ("model.diffusion_model.video_embeddings_connector.", "video_connector."),
                ("model.diffusion_model.audio_embeddings_connector.", "audio_connector."),
                ("text_embedding_projection.aggregate_embed.", "text_proj_in."),
                ("text_embedding_projection.video_aggregate_embed.", "video_text_proj_in."),
                ("text_embedding_projection.audio_aggregate_embed.", "audio_text_proj_in."),
            ],
            renames: LTX_CONNECTORS,
        },
        Part { name: "vae", prefixes: &[("vae.", "")], renames: LTX_VAE },
        Part { name: "audio_vae", prefixes: &[("audio_vae.", "")], renames: STATISTICS },
        Part {
            name: "vocoder",
            prefixes: &[("vocoder.", "")],
            renames: &[
                ("ups", "upsamplers"),
                ("resblocks", "resnets"),
                ("conv_pre", "conv_in"),
                ("conv_post", "conv_out"),
                ("act_post", "act_out"),
                ("downsample.lowpass", "downsample"),
            ],
        },
    ],
    unused: &[
        "vae.per_channel_statistics.channel",
        "vae.per_channel_statistics.mean-of-stds",
        "vae.per_channel_statistics.mean-of-stds_over_std-of-means",
    ],
    raised: &[],
};

/// The transformer of LTX-2 and LTX-2.3 alone, as in GGUF files: the names of the checkpoint without their
/// prefix, and the connectors if the file has them.
pub const LTX_ALONE: Layout = Layout {
    title: "the transformer of LTX-2",
    marks: &["audio_patchify_proj.weight", "transformer_blocks.0.audio_to_video_attn.to_q.weight"],
    outer: &[],
    parts: &[
        Part { name: "transformer", prefixes: &[("", "")], renames: LTX_TRANSFORMER },
        Part {
            name: "connectors",
            prefixes: &[
                ("video_embeddings_connector.", "video_connector."),
                ("audio_embeddings_connector.", "audio_connector."),
            ],
            renames: LTX_CONNECTORS,
        },
    ],
    unused: &["scaled_fp8"],
    raised: &[],
};

const LTX_CONNECTORS: &[(&str, &str)] =
    &[("transformer_1d_blocks", "transformer_blocks"), ("q_norm", "norm_q"), ("k_norm", "norm_k")];

const LTX_TRANSFORMER: &[(&str, &str)] = &[
    ("patchify_proj", "proj_in"),
    ("audio_patchify_proj", "audio_proj_in"),
    ("adaln_single", "time_embed"),
    ("audio_adaln_single", "audio_time_embed"),
    ("prompt_adaln_single", "prompt_adaln"),
    ("audio_prompt_adaln_single", "audio_prompt_adaln"),
    ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
    ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
    ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
    ("scale_shift_table_a2v_ca_video", "video_a2v_cross_attn_scale_shift_table"),
    ("scale_shift_table_a2v_ca_audio", "audio_a2v_cross_attn_scale_shift_table"),
    ("q_norm", "norm_q"),
    ("k_norm", "norm_k"),
];

const STATISTICS: &[(&str, &str)] =
    &[("per_channel_statistics.mean-of-means", "latents_mean"), ("per_channel_statistics.std-of-means", "latents_std")];

/// In the file, levels and the samplers between them are one list; the deepest level is the middle.
const LTX_VAE: &[(&str, &str)] = &[
    ("down_blocks.0", "down_blocks.0"),
    ("down_blocks.1", "down_blocks.0.downsamplers.0"),
    ("down_blocks.2", "down_blocks.1"),
    ("down_blocks.3", "down_blocks.1.downsamplers.0"),
    ("down_blocks.4", "down_blocks.2"),
    ("down_blocks.5", "down_blocks.2.downsamplers.0"),
    ("down_blocks.6", "down_blocks.3"),
    ("down_blocks.7", "down_blocks.3.downsamplers.0"),
    ("down_blocks.8", "mid_block"),
    ("up_blocks.0", "mid_block"),
    ("up_blocks.1", "up_blocks.0.upsamplers.0"),
    ("up_blocks.2", "up_blocks.0"),
    ("up_blocks.3", "up_blocks.1.upsamplers.0"),
    ("up_blocks.4", "up_blocks.1"),
    ("up_blocks.5", "up_blocks.2.upsamplers.0"),
    ("up_blocks.6", "up_blocks.2"),
    ("up_blocks.7", "up_blocks.3.upsamplers.0"),
    ("up_blocks.8", "up_blocks.3"),
    ("res_blocks", "resnets"),
    ("per_channel_statistics.mean-of-means", "latents_mean"),
    ("per_channel_statistics.std-of-means", "latents_std"),
];
