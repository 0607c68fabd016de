//! The names that authors give to tensors in files of their own layout, and the names that diffusers gives to the same.

/// A layout of files: what of a file belongs to which part of a model, and under which name.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Whose layout it is.
    pub title: &'static str,
    /// A tensor that no file of another layout has.
    pub mark: &'static str,
    /// The parts.
    pub parts: &'static [Part],
    /// Tensors that have no use.
    pub unused: &'static [&'static str],
}

/// The names of one part.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in a diffusers folder.
    pub name: &'static str,
    /// How names of the part begin in the file, and what stands in the place of that. The longest of all parts holds.
    pub prefixes: &'static [(&'static str, &'static str)],
    /// What else is renamed: one or several words between dots. Of several rules for a place the first holds.
    pub words: &'static [(&'static str, &'static str)],
}

/// What a tensor of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Of a part, by its name in diffusers.
    Of(&'static str, String),
    /// Known, and of no use.
    Unused,
    /// Of another layout.
    Foreign,
}

/// One part's names in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The layout.
    pub layout: &'static Layout,
    /// The part.
    pub part: &'static str,
}

impl Layout {
    /// Where a tensor of a file belongs.
    pub fn place(&self, name: &str) -> Place {
        if self.unused.contains(&name) {
            return Place::Unused;
        }
        let begins = |part: &'static Part| part.prefixes.iter().map(move |(from, to)| (part, *from, *to));
        let found = self.parts.iter().flat_map(begins).filter(|(_, from, _)| name.starts_with(from));
        let Some((part, from, to)) = found.max_by_key(|(_, from, _)| from.len()) else { return Place::Foreign };
        Place::Of(part.name, format!("{to}{}", renamed(&name[from.len()..], part.words)))
    }
}

impl Names {
    /// The name in diffusers of a tensor of the part.
    pub fn of(&self, name: &str) -> Option<String> {
        match self.layout.place(name) {
            Place::Of(part, name) if part == self.part => Some(name),
            _ => None,
        }
    }
}

fn renamed(name: &str, rules: &'static [(&str, &str)]) -> String {
    let mut made = Vec::new();
    let mut rest = Some(name);
    while let Some(name) = rest {
        let rule = rules.iter().find_map(|(from, to)| match name.strip_prefix(from)? {
            "" => Some((*to, None)),
            after => Some((*to, Some(after.strip_prefix('.')?))),
        });
        let (word, after) = rule.unwrap_or_else(|| match name.split_once('.') {
            Some((word, after)) => (word, Some(after)),
            None => (name, None),
        });
        made.push(word);
        rest = after;
    }
    made.join(".")
}

/// The one file of LTX-2 and LTX-2.3, with the names of diffusers' `convert_ltx2_to_diffusers.py`.
pub const LTX: Layout = Layout {
    title: "LTX-2",
    mark: "model.diffusion_model.audio_patchify_proj.weight",
    parts: &[
        Part { name: "transformer", prefixes: &[("model.diffusion_model.", "")], words: LTX_TRANSFORMER },
        Part {
            name: "connectors",
            prefixes: &[
                ("model.diffusion_model.video_embeddings_connector.", "video_connector."),
                ("model.diffusion_model.audio_embeddings_connector.", "audio_connector."),
                ("text_embedding_projection.aggregate_embed.", "text_proj_in."),
                ("text_embedding_projection.video_aggregate_embed.", "video_text_proj_in."),
                ("text_embedding_projection.audio_aggregate_embed.", "audio_text_proj_in."),
            ],
            words: &[("transformer_1d_blocks", "transformer_blocks"), ("q_norm", "norm_q"), ("k_norm", "norm_k")],
        },
        Part { name: "vae", prefixes: &[("vae.", "")], words: LTX_VAE },
        Part { name: "audio_vae", prefixes: &[("audio_vae.", "")], words: STATISTICS },
        Part {
            name: "vocoder",
            prefixes: &[("vocoder.", "")],
            words: &[
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
};

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

/// The levels are one list in the file, with the steps between them in it; the deepest level is the middle.
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
