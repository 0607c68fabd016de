//! Gemma 3, the text encoder of LTX-2. Its names are those of the text model alone, `Gemma3TextModel` in
//! transformers.

use super::{Layout, Part};

/// Gemma 3 under the names of llama.cpp: GGUF of the architecture `gemma3`. Gemma multiplies by one
/// more than the weights of its norms; llama.cpp adds the one when it converts them.
pub const GEMMA3_LLAMA: Layout = Layout {
    title: "Gemma 3 of llama.cpp",
    marks: &["blk.0.attn_q_norm.weight", "blk.0.post_ffw_norm.weight"],
    outer: &[],
    parts: &[Part {
        name: "text_encoder",
        prefixes: &[("token_embd.", "embed_tokens."), ("blk.", "layers."), ("output_norm.", "norm.")],
        renames: &[
            ("attn_norm", "input_layernorm"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("attn_q_norm", "self_attn.q_norm"),
            ("attn_k_norm", "self_attn.k_norm"),
            ("post_attention_norm", "post_attention_layernorm"),
            ("ffn_norm", "pre_feedforward_layernorm"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
            ("post_ffw_norm", "post_feedforward_layernorm"),
        ],
    }],
    // The output head, if it is not the table of embeddings.
    unused: &["output"],
    raised: &["norm.weight"],
};

/// Gemma 3 under the names of transformers: its folders of every version, and ComfyUI's files, which hold the
/// tokenizer too. The vision tower is left out.
pub const GEMMA3: Layout = Layout {
    title: "Gemma 3",
    marks: &["layers.0.self_attn.q_norm.weight", "layers.0.post_feedforward_layernorm.weight"],
    outer: &["model.", "language_model.", "language_model.model.", "model.language_model."],
    parts: &[Part {
        name: "text_encoder",
        prefixes: &[("embed_tokens.", "embed_tokens."), ("layers.", "layers."), ("norm.", "norm.")],
        renames: &[],
    }],
    unused: &["lm_head", "vision_tower", "vision_model", "multi_modal_projector", "spiece_model", "scaled_fp8"],
    raised: &[],
};
