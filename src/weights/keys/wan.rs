//! Wan 2.1 and 2.2: the transformer and both autoencoders.

use super::{Layout, Part};

/// The transformer under its authors' names, as in files of ComfyUI, Kijai, LightX2V and GGUF: text or image
/// to video, with or without CLIP, first and last frame, and VACE.
pub const WAN_TRANSFORMER: Layout = Layout {
    title: "Wan",
    marks: &["head.modulation", "blocks.0.self_attn.q.weight"],
    outer: &["model.diffusion_model.", "diffusion_model."],
    parts: &[Part {
        name: "transformer",
        prefixes: &[
            ("patch_embedding.", "patch_embedding."),
            ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
            ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
            ("time_projection.1.", "condition_embedder.time_proj."),
            ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
            ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
            ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
            ("img_emb.proj.0.", "condition_embedder.image_embedder.norm1."),
            ("img_emb.proj.1.", "condition_embedder.image_embedder.ff.net.0.proj."),
            ("img_emb.proj.3.", "condition_embedder.image_embedder.ff.net.2."),
            ("img_emb.proj.4.", "condition_embedder.image_embedder.norm2."),
            ("blocks.", "blocks."),
            ("vace_blocks.", "vace_blocks."),
            ("vace_patch_embedding.", "vace_patch_embedding."),
            ("head.modulation", "scale_shift_table"),
            ("head.head.", "proj_out."),
        ],
        renames: BLOCK,
    }],
    unused: &["scaled_fp8"],
    raised: &[],
};

const BLOCK: &[(&str, &str)] = &[
    ("modulation", "scale_shift_table"),
    ("self_attn", "attn1"),
    ("cross_attn", "attn2"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("o", "to_out.0"),
    ("k_img", "add_k_proj"),
    ("v_img", "add_v_proj"),
    ("norm_k_img", "norm_added_k"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    // diffusers numbers the norms in the order in which they are applied, the authors in that of their code.
    ("norm3", "norm2"),
    ("norm2", "norm3"),
    ("before_proj", "proj_in"),
    ("after_proj", "proj_out"),
];

/// The transformer under diffusers' names.
pub const WAN_TRANSFORMER_DIFFUSERS: Layout = Layout {
    title: "Wan in diffusers",
    marks: &["condition_embedder.time_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"],
    outer: &[],
    parts: &[Part {
        name: "transformer",
        prefixes: &[
            ("patch_embedding.", "patch_embedding."),
            ("condition_embedder.", "condition_embedder."),
            ("blocks.", "blocks."),
            ("vace_blocks.", "vace_blocks."),
            ("vace_patch_embedding.", "vace_patch_embedding."),
            ("scale_shift_table", "scale_shift_table"),
            ("proj_out.", "proj_out."),
        ],
        renames: &[],
    }],
    // A norm for images in early conversions, which diffusers ignores too.
    unused: &["norm_added_q.weight"],
    raised: &[],
};

/// The autoencoder of Wan 2.1 and most of Wan 2.2 under its authors' names. In the file, levels and the
/// samplers between them are one list. Qwen-Image's autoencoder has the same names.
pub const WAN_VAE: Layout = Layout {
    title: "the autoencoder of Wan 2.1",
    marks: &["decoder.middle.0.residual.0.gamma", "decoder.upsamples.0.residual.0.gamma"],
    outer: &["model."],
    parts: &[Part {
        name: "vae",
        prefixes: &[
            ("conv1.", "quant_conv."),
            ("conv2.", "post_quant_conv."),
            ("encoder.", "encoder."),
            ("encoder.downsamples.", "encoder.down_blocks."),
            ("decoder.", "decoder."),
            ("decoder.upsamples.0.", "decoder.up_blocks.0.resnets.0."),
            ("decoder.upsamples.1.", "decoder.up_blocks.0.resnets.1."),
            ("decoder.upsamples.2.", "decoder.up_blocks.0.resnets.2."),
            ("decoder.upsamples.3.", "decoder.up_blocks.0.upsamplers.0."),
            ("decoder.upsamples.4.", "decoder.up_blocks.1.resnets.0."),
            ("decoder.upsamples.5.", "decoder.up_blocks.1.resnets.1."),
            ("decoder.upsamples.6.", "decoder.up_blocks.1.resnets.2."),
            ("decoder.upsamples.7.", "decoder.up_blocks.1.upsamplers.0."),
            ("decoder.upsamples.8.", "decoder.up_blocks.2.resnets.0."),
            ("decoder.upsamples.9.", "decoder.up_blocks.2.resnets.1."),
            ("decoder.upsamples.10.", "decoder.up_blocks.2.resnets.2."),
            ("decoder.upsamples.11.", "decoder.up_blocks.2.upsamplers.0."),
            ("decoder.upsamples.12.", "decoder.up_blocks.3.resnets.0."),
            ("decoder.upsamples.13.", "decoder.up_blocks.3.resnets.1."),
            ("decoder.upsamples.14.", "decoder.up_blocks.3.resnets.2."),
        ],
        renames: LEVEL,
    }],
    unused: &[],
    raised: &[],
};

/// The autoencoder of Wan 2.2 TI2V 5B under its authors' names. Each level is a list that ends with the
/// sampler to the next.
pub const WAN_VAE_2_2: Layout = Layout {
    title: "the autoencoder of Wan 2.2",
    marks: &["decoder.middle.0.residual.0.gamma", "decoder.upsamples.0.upsamples.0.residual.0.gamma"],
    outer: &["model."],
    parts: &[Part {
        name: "vae",
        prefixes: &[
            ("conv1.", "quant_conv."),
            ("conv2.", "post_quant_conv."),
            ("encoder.", "encoder."),
            ("encoder.downsamples.", "encoder.down_blocks."),
            ("decoder.", "decoder."),
            ("decoder.upsamples.", "decoder.up_blocks."),
        ],
        renames: LEVEL,
    }],
    unused: &[],
    raised: &[],
};

const LEVEL: &[(&str, &str)] = &[
    ("conv1", "conv_in"),
    ("middle.0", "mid_block.resnets.0"),
    ("middle.1", "mid_block.attentions.0"),
    ("middle.2", "mid_block.resnets.1"),
    ("head.0", "norm_out"),
    ("head.2", "conv_out"),
    // Inside a level of Wan 2.2.
    ("downsamples.2", "downsampler"),
    ("downsamples", "resnets"),
    ("upsamples.3", "upsampler"),
    ("upsamples", "resnets"),
    ("residual.0", "norm1"),
    ("residual.2", "conv1"),
    ("residual.3", "norm2"),
    ("residual.6", "conv2"),
    ("shortcut", "conv_shortcut"),
];

/// Either autoencoder under diffusers' names.
pub const WAN_VAE_DIFFUSERS: Layout = Layout {
    title: "the autoencoder of Wan in diffusers",
    marks: &["decoder.conv_in.weight", "decoder.mid_block.resnets.0.norm1.gamma", "quant_conv.weight"],
    outer: &[],
    parts: &[Part {
        name: "vae",
        prefixes: &[
            ("quant_conv.", "quant_conv."),
            ("post_quant_conv.", "post_quant_conv."),
            ("encoder.", "encoder."),
            ("decoder.", "decoder."),
        ],
        renames: &[],
    }],
    unused: &[],
    raised: &[],
};
