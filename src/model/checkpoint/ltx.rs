//! Translates the `config` of an LTX-2 checkpoint into diffusers' configurations. Missing values are those of
//! the release.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::catalogue::{self, Described};
use crate::weights::Stored;

/// The tensors of a file, by name.
pub(super) type Tensors = BTreeMap<String, Stored>;

/// The component that upsamples latents.
pub(super) const UPSAMPLER: &str = "latent_upsampler";

pub(super) const UPSAMPLER_CLASS: &str = "LTX2LatentUpsamplerModel";

/// A tensor that exists from LTX-2.3 on.
const LATER: &str = "model.diffusion_model.prompt_adaln_single.linear.weight";

/// JSON pointers to values (RFC 6901), and their names in diffusers.
type Table<'a> = &'a [(&'a str, &'a str)];

const TRANSFORMER: Table<'_> = &[
    ("/transformer/in_channels", "in_channels"),
    ("/transformer/out_channels", "out_channels"),
    ("/transformer/num_attention_heads", "num_attention_heads"),
    ("/transformer/attention_head_dim", "attention_head_dim"),
    ("/transformer/cross_attention_dim", "cross_attention_dim"),
    ("/transformer/positional_embedding_max_pos/0", "pos_embed_max_pos"),
    ("/transformer/positional_embedding_max_pos/1", "base_height"),
    ("/transformer/positional_embedding_max_pos/2", "base_width"),
    ("/transformer/apply_gated_attention", "gated_attn"),
    ("/transformer/cross_attention_adaln", "cross_attn_mod"),
    ("/transformer/audio_in_channels", "audio_in_channels"),
    ("/transformer/audio_out_channels", "audio_out_channels"),
    ("/transformer/audio_num_attention_heads", "audio_num_attention_heads"),
    ("/transformer/audio_attention_head_dim", "audio_attention_head_dim"),
    ("/transformer/audio_cross_attention_dim", "audio_cross_attention_dim"),
    ("/transformer/audio_positional_embedding_max_pos/0", "audio_pos_embed_max_pos"),
    ("/transformer/apply_gated_attention", "audio_gated_attn"),
    ("/transformer/cross_attention_adaln", "audio_cross_attn_mod"),
    ("/transformer/num_layers", "num_layers"),
    ("/transformer/activation_fn", "activation_fn"),
    ("/transformer/norm_elementwise_affine", "norm_elementwise_affine"),
    ("/transformer/norm_eps", "norm_eps"),
    ("/transformer/caption_channels", "caption_channels"),
    ("/transformer/attention_bias", "attention_bias"),
    ("/transformer/positional_embedding_theta", "rope_theta"),
    ("/transformer/timestep_scale_multiplier", "timestep_scale_multiplier"),
    ("/transformer/av_ca_timestep_scale_multiplier", "cross_attn_timestep_scale_multiplier"),
    ("/transformer/rope_type", "rope_type"),
    ("/audio_vae/model/params/sampling_rate", "audio_sampling_rate"),
    ("/audio_vae/preprocessing/stft/hop_length", "audio_hop_length"),
];

/// The audio connector has the values of the video connector, unless it has its own.
const CONNECTORS: Table<'_> = &[
    ("/transformer/caption_channels", "caption_channels"),
    ("/transformer/connector_num_attention_heads", "video_connector_num_attention_heads"),
    ("/transformer/connector_attention_head_dim", "video_connector_attention_head_dim"),
    ("/transformer/connector_num_layers", "video_connector_num_layers"),
    ("/transformer/connector_num_learnable_registers", "video_connector_num_learnable_registers"),
    ("/transformer/connector_apply_gated_attention", "video_gated_attn"),
    ("/transformer/connector_num_attention_heads", "audio_connector_num_attention_heads"),
    ("/transformer/connector_attention_head_dim", "audio_connector_attention_head_dim"),
    ("/transformer/connector_num_layers", "audio_connector_num_layers"),
    ("/transformer/connector_num_learnable_registers", "audio_connector_num_learnable_registers"),
    ("/transformer/connector_apply_gated_attention", "audio_gated_attn"),
    ("/transformer/audio_connector_num_attention_heads", "audio_connector_num_attention_heads"),
    ("/transformer/audio_connector_attention_head_dim", "audio_connector_attention_head_dim"),
    ("/transformer/audio_connector_num_layers", "audio_connector_num_layers"),
    ("/transformer/connector_positional_embedding_max_pos/0", "connector_rope_base_seq_len"),
    ("/transformer/positional_embedding_theta", "rope_theta"),
    ("/transformer/rope_type", "rope_type"),
    ("/transformer/cross_attention_dim", "video_hidden_dim"),
    ("/transformer/audio_cross_attention_dim", "audio_hidden_dim"),
];

const VAE: Table<'_> = &[
    ("/vae/in_channels", "in_channels"),
    ("/vae/out_channels", "out_channels"),
    ("/vae/latent_channels", "latent_channels"),
    ("/vae/patch_size", "patch_size"),
    ("/vae/causal_decoder", "decoder_causal"),
    ("/vae/timestep_conditioning", "timestep_conditioning"),
    ("/vae/encoder_spatial_padding_mode", "encoder_spatial_padding_mode"),
    ("/vae/spatial_padding_mode", "decoder_spatial_padding_mode"),
];

const AUDIO_VAE: Table<'_> = &[
    ("/audio_vae/model/params/ddconfig/ch", "base_channels"),
    ("/audio_vae/model/params/ddconfig/out_ch", "output_channels"),
    ("/audio_vae/model/params/ddconfig/ch_mult", "ch_mult"),
    ("/audio_vae/model/params/ddconfig/num_res_blocks", "num_res_blocks"),
    ("/audio_vae/model/params/ddconfig/attn_resolutions", "attn_resolutions"),
    ("/audio_vae/model/params/ddconfig/in_channels", "in_channels"),
    ("/audio_vae/model/params/ddconfig/z_channels", "latent_channels"),
    ("/audio_vae/model/params/ddconfig/norm_type", "norm_type"),
    ("/audio_vae/model/params/ddconfig/causality_axis", "causality_axis"),
    ("/audio_vae/model/params/ddconfig/mid_block_add_attention", "mid_block_add_attention"),
    ("/audio_vae/model/params/ddconfig/double_z", "double_z"),
    ("/audio_vae/model/params/ddconfig/mel_bins", "mel_bins"),
    ("/audio_vae/model/params/sampling_rate", "sample_rate"),
    ("/audio_vae/preprocessing/stft/hop_length", "mel_hop_length"),
    ("/audio_vae/preprocessing/mel/n_mel_channels", "mel_bins"),
];

/// For each generator of the vocoder.
const GENERATOR: Table<'_> = &[
    ("/upsample_initial_channel", "hidden_channels"),
    ("/upsample_kernel_sizes", "upsample_kernel_sizes"),
    ("/upsample_rates", "upsample_factors"),
    ("/resblock_kernel_sizes", "resnet_kernel_sizes"),
    ("/resblock_dilation_sizes", "resnet_dilations"),
    ("/activation", "act_fn"),
    ("/use_bias_at_final", "final_bias"),
];

const EXTENSION: Table<'_> = &[
    ("/vocoder/bwe/n_fft", "filter_length"),
    ("/vocoder/bwe/n_fft", "window_length"),
    ("/vocoder/bwe/hop_length", "hop_length"),
    ("/vocoder/bwe/num_mels", "num_mel_channels"),
    ("/vocoder/bwe/input_sampling_rate", "input_sampling_rate"),
    ("/vocoder/bwe/output_sampling_rate", "output_sampling_rate"),
];

const UPSAMPLER_CONFIG: Table<'_> = &[
    ("/in_channels", "in_channels"),
    ("/mid_channels", "mid_channels"),
    ("/num_blocks_per_stage", "num_blocks_per_stage"),
    ("/dims", "dims"),
    ("/spatial_upsample", "spatial_upsample"),
    ("/temporal_upsample", "temporal_upsample"),
    ("/spatial_scale", "rational_spatial_scale"),
    ("/rational_resampler", "use_rational_resampler"),
];

/// The release of a file, by its name in the catalogue, and all its components with their configurations.
pub(super) fn describe(config: &Value, tensors: &Tensors) -> Result<(&'static str, BTreeMap<String, Described>)> {
    for part in ["transformer", "vae"] {
        if !config.get(part).is_some_and(Value::is_object) {
            return Err(Error::failed(format!("it has no `{part}`")));
        }
    }
    let release = if tensors.contains_key(LATER) { "ltx-2.3" } else { "ltx-2" };
    let mut parts = catalogue::find(release)?.components;
    let mut configure = |name: &str, values: Map<String, Value>| {
        if let Some(part) = parts.get_mut(name) {
            part.config.extend(values);
        }
    };
    configure("transformer", transformer(config));
    configure("connectors", connectors(config, tensors)?);
    configure("vae", vae(config)?);
    configure("audio_vae", read(config, AUDIO_VAE));
    if let Some(section) = config.get("vocoder") {
        let class = if section.get("bwe").is_some() { "LTX2VocoderWithBWE" } else { "LTX2Vocoder" };
        parts.insert("vocoder".into(), Described { class: class.into(), repo: None, config: vocoder(config, class) });
    }
    // The compression ratios follow from the levels.
    if let Some(vae) = parts.get_mut("vae") {
        vae.config.retain(|key, _| !key.ends_with("compression_ratio"));
    }
    Ok((release, parts))
}

/// The upsampler of a release, with the configuration of its file.
pub(super) fn upsampler(release: &str, config: &Value) -> Result<Described> {
    let described = catalogue::find(release)?.components.remove(UPSAMPLER);
    let mut described =
        described.ok_or_else(|| Error::failed(format!("no upsampler of {release} is in the catalogue")))?;
    described.config.extend(read(config, UPSAMPLER_CONFIG));
    Ok(described)
}

/// The values of a table that exist, under their names in diffusers; later rows override earlier ones.
fn read(config: &Value, table: Table<'_>) -> Map<String, Value> {
    table.iter().filter_map(|(place, name)| Some(((*name).to_owned(), whole(config.pointer(place)?)))).collect()
}

/// Converts floats without a fraction, such as a multiplier of 1000.0, to integers.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 2f64.powi(53) => {
            json!(number as i64)
        }
        _ => value.clone(),
    }
}

fn transformer(config: &Value) -> Map<String, Value> {
    let mut made = read(config, TRANSFORMER);
    made.extend(shared(config));
    if let Some(before) = config.pointer("/transformer/caption_proj_before_connector").and_then(Value::as_bool) {
        made.insert("use_prompt_embeddings".into(), json!(!before));
    }
    match config.pointer("/transformer/qk_norm") {
        // `rms_norm` means across all heads, as in every release.
        Some(Value::String(kind)) if kind != "rms_norm" => drop(made.insert("qk_norm".into(), json!(kind))),
        _ => {}
    }
    made
}

/// Values shared by the transformer and the connectors.
fn shared(config: &Value) -> Option<(String, Value)> {
    let precision = config.pointer("/transformer/frequencies_precision")?;
    Some(("rope_double_precision".into(), json!(precision == "float64")))
}

fn connectors(config: &Value, tensors: &Tensors) -> Result<Map<String, Value>> {
    let mut made = read(config, CONNECTORS);
    made.extend(shared(config));
    let each = tensors.contains_key("text_embedding_projection.video_aggregate_embed.weight");
    made.insert("per_modality_projections".into(), json!(each));
    let kind = if each { "video_" } else { "" };
    let name = format!("text_embedding_projection.{kind}aggregate_embed");
    made.insert("proj_bias".into(), json!(tensors.contains_key(&format!("{name}.bias"))));
    // The number of hidden states follows from the width of the projection.
    let width = tensors.get(&format!("{name}.weight")).and_then(|stored| Some(*stored.shape.get(1)? as u64));
    let channels = made.get("caption_channels").map_or(Some(3840), Value::as_u64);
    if let (Some(width), Some(channels @ 1..)) = (width, channels) {
        if width % channels != 0 {
            return Err(Error::failed(format!(
                "the {width} input channels of `{name}` must be a multiple of `caption_channels`, {channels}"
            )));
        }
        made.insert("text_proj_in_factor".into(), json!(width / channels));
    }
    Ok(made)
}

fn vae(config: &Value) -> Result<Map<String, Value>> {
    let mut made = read(config, VAE);
    let number = |key: &str| config.pointer(&format!("/vae/{key}")).map(whole).as_ref().and_then(Value::as_u64);
    if config.pointer("/vae/encoder_blocks").is_some() {
        let (middle, levels) = levels(config, "encoder_blocks")?;
        let mut channels = number("encoder_base_channels").or(number("latent_channels")).unwrap_or(128);
        let mut widths = Vec::new();
        for level in &levels {
            channels = channels.saturating_mul(level.step("multiplier").unwrap_or(2));
            widths.push(channels);
        }
        let layers = levels.iter().map(|level| level.layers).chain([middle]).collect::<Vec<_>>();
        let kinds = levels.iter().map(|level| level.kind("_res")).collect::<Result<Vec<_>>>()?;
        made.insert("block_out_channels".into(), json!(widths));
        made.insert("layers_per_block".into(), json!(layers));
        made.insert("downsample_type".into(), json!(kinds));
        made.insert("down_block_types".into(), json!(vec!["LTX2VideoDownBlock3D"; levels.len()]));
        made.insert("spatio_temporal_scaling".into(), json!(vec![true; levels.len()]));
    }
    if config.pointer("/vae/decoder_blocks").is_some() {
        decoder(config, number("decoder_base_channels").unwrap_or(128), &mut made)?;
    }
    Ok(made)
}

/// The decoder's blocks are listed from the pixels to the latents, as in diffusers, except the kinds of its
/// steps.
fn decoder(config: &Value, base: u64, made: &mut Map<String, Value>) -> Result<()> {
    let (middle, levels) = levels(config, "decoder_blocks")?;
    let factors: Vec<u64> = levels.iter().map(|level| level.step("multiplier").unwrap_or(1)).collect();
    let widths = factors.iter().scan(base, |channels, &factor| {
        *channels = channels.saturating_mul(factor);
        Some(*channels)
    });
    made.insert("decoder_block_out_channels".into(), json!(widths.collect::<Vec<_>>()));
    let layers = levels.iter().map(|level| level.layers).chain([middle]).collect::<Vec<_>>();
    made.insert("decoder_layers_per_block".into(), json!(layers));
    let kinds = levels.iter().rev().map(|level| level.kind("")).collect::<Result<Vec<_>>>()?;
    made.insert("upsample_type".into(), json!(kinds));
    made.insert("upsample_factor".into(), json!(factors));
    let residual = levels.iter().map(|level| level.params.get("residual") == Some(&Value::Bool(true)));
    made.insert("upsample_residual".into(), json!(residual.collect::<Vec<_>>()));
    made.insert("decoder_spatio_temporal_scaling".into(), json!(vec![true; levels.len()]));
    let blocks = config.pointer("/vae/decoder_blocks").and_then(Value::as_array).into_iter().flatten().step_by(2);
    let noisy = blocks.map(|block| block.pointer("/1/inject_noise") == Some(&Value::Bool(true)));
    made.insert("decoder_inject_noise".into(), json!(noisy.collect::<Vec<_>>()));
    Ok(())
}

/// Residual blocks, and the step between them and the next level away from the pixels.
struct Level<'a> {
    layers: u64,
    scaling: &'a str,
    params: &'a Value,
}

impl Level<'_> {
    fn step(&self, key: &str) -> Option<u64> {
        self.params.get(key).map(whole).as_ref().and_then(Value::as_u64)
    }

    /// The scaling of the step, in diffusers' terms. Those of the encoder end in `_res`.
    fn kind(&self, ending: &str) -> Result<&'static str> {
        let known = [("space", "spatial"), ("time", "temporal"), ("all", "spatiotemporal")];
        let name = self.scaling.strip_prefix("compress_").and_then(|name| name.strip_suffix(ending));
        let found = known.into_iter().find(|(word, _)| Some(*word) == name);
        found.map(|(_, kind)| kind).ok_or_else(|| Error::failed(format!("its `vae` has a block `{}`", self.scaling)))
    }
}

/// The number of residual blocks in the middle, and the levels, of a list of blocks from the pixels to the
/// latents.
fn levels<'a>(config: &'a Value, key: &str) -> Result<(u64, Vec<Level<'a>>)> {
    let list = config.pointer(&format!("/vae/{key}")).and_then(Value::as_array);
    let bad = || Error::failed(format!("its `{key}` is not a list of residual blocks with a step between each two"));
    let block = |value: &'a Value| match value.as_array()?.as_slice() {
        [Value::String(name), params] => Some((name.as_str(), params)),
        _ => None,
    };
    let blocks: Option<Vec<_>> = list.ok_or_else(bad)?.iter().map(block).collect();
    let blocks = blocks.ok_or_else(bad)?;
    let layers = |(name, params): &(&str, &Value)| {
        let count = if params.is_number() { Some(*params) } else { params.get("num_layers") };
        count.filter(|_| *name == "res_x").and_then(Value::as_u64).ok_or_else(bad)
    };
    let mut levels = Vec::new();
    let mut pairs = blocks.chunks_exact(2);
    for pair in &mut pairs {
        let (scaling, params) = pair[1];
        levels.push(Level { layers: layers(&pair[0])?, scaling, params });
    }
    let middle = pairs.remainder().first().ok_or_else(bad)?;
    Ok((layers(middle)?, levels))
}

/// The vocoder's configuration, with the keys of its class in diffusers.
fn vocoder(config: &Value, class: &str) -> Map<String, Value> {
    let bins = |place: &str| config.pointer(place).map(whole).as_ref().and_then(Value::as_u64);
    let audio = bins("/audio_vae/preprocessing/mel/n_mel_channels");
    let mut made = Map::from_iter([("_class_name".to_owned(), json!(class))]);
    if class == "LTX2Vocoder" {
        made.extend(generator(&config["vocoder"], audio));
        made.extend(read(config, &[("/vocoder/output_sampling_rate", "output_sampling_rate")]));
        return made;
    }
    made.extend(generator(&config["vocoder"]["vocoder"], audio));
    let second = generator(&config["vocoder"]["bwe"], bins("/vocoder/bwe/num_mels"));
    made.extend(second.into_iter().map(|(key, value)| (format!("bwe_{key}"), value)));
    made.extend(read(config, EXTENSION));
    made
}

/// The configuration of a generator: BigVGAN's blocks are `AMP1` and anti-aliased, HiFi-GAN's are `1`.
fn generator(section: &Value, bins: Option<u64>) -> Map<String, Value> {
    let big = section.get("resblock").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("AMP"));
    let act = if big { "snakebeta" } else { "leaky_relu" };
    let mut made = Map::from_iter([("act_fn".to_owned(), json!(act)), ("antialias".to_owned(), json!(big))]);
    made.extend(read(section, GENERATOR));
    let flag = |key: &str| section.get(key).and_then(Value::as_bool);
    let channels = if flag("stereo") == Some(false) { 1 } else { 2 };
    made.insert("out_channels".into(), json!(channels));
    if let Some(bins) = bins {
        made.insert("in_channels".into(), json!(bins.saturating_mul(channels)));
    }
    if let Some(tanh) = flag("use_tanh_at_final") {
        let end = tanh && flag("apply_final_activation") != Some(false);
        made.insert("final_act_fn".into(), if end { json!("tanh") } else { Value::Null });
    }
    made
}
