//! UMT5, the text encoder of Wan. Unlike T5, each layer has its own position bias.

use super::{Layout, Part};

/// UMT5 under the names of Wan's authors: `models_t5_umt5-xxl-enc-bf16.pth`, and Kijai's files.
pub const UMT5_ORIGINAL: Layout = Layout {
    title: "UMT5 of Wan",
    marks: &["token_embedding.weight", "blocks.0.pos_embedding.embedding.weight"],
    outer: &[],
    parts: &[Part {
        name: "text_encoder",
        prefixes: &[
            ("token_embedding.", "shared."),
            ("blocks.", "encoder.block."),
            ("norm.", "encoder.final_layer_norm."),
        ],
        renames: &[
            ("attn", "layer.0.SelfAttention"),
            ("pos_embedding.embedding", "layer.0.SelfAttention.relative_attention_bias"),
            ("norm1", "layer.0.layer_norm"),
            ("ffn.gate.0", "layer.1.DenseReluDense.wi_0"),
            ("ffn.fc1", "layer.1.DenseReluDense.wi_1"),
            ("ffn.fc2", "layer.1.DenseReluDense.wo"),
            ("norm2", "layer.1.layer_norm"),
        ],
    }],
    unused: &["scaled_fp8"],
    raised: &[],
};

/// UMT5 under the names of llama.cpp: GGUF.
pub const UMT5_LLAMA: Layout = Layout {
    title: "UMT5 of llama.cpp",
    marks: &["token_embd.weight", "enc.blk.1.attn_rel_b.weight"],
    outer: &[],
    parts: &[Part {
        name: "text_encoder",
        prefixes: &[
            ("token_embd.", "shared."),
            ("enc.blk.", "encoder.block."),
            ("enc.output_norm.", "encoder.final_layer_norm."),
        ],
        renames: &[
            ("attn_q", "layer.0.SelfAttention.q"),
            ("attn_k", "layer.0.SelfAttention.k"),
            ("attn_v", "layer.0.SelfAttention.v"),
            ("attn_o", "layer.0.SelfAttention.o"),
            ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
            ("attn_norm", "layer.0.layer_norm"),
            ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
            ("ffn_up", "layer.1.DenseReluDense.wi_1"),
            ("ffn_down", "layer.1.DenseReluDense.wo"),
            ("ffn_norm", "layer.1.layer_norm"),
        ],
    }],
    // The decoder and the output head of the whole model.
    unused: &["dec", "output"],
    raised: &[],
};

/// UMT5 under the names of transformers, in diffusers folders and in ComfyUI's files, which hold the
/// tokenizer too.
pub const UMT5_COMFY: Layout = Layout {
    title: "UMT5",
    marks: &[
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
    ],
    outer: &[],
    parts: &[Part {
        name: "text_encoder",
        prefixes: &[("shared.", "shared."), ("encoder.", "encoder.")],
        renames: &[],
    }],
    unused: &["spiece_model", "scaled_fp8", "decoder", "lm_head"],
    raised: &[],
};
