//! Derives configurations from tensor shapes, for weight files without one.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Piece;
use crate::error::{Error, Result};
use crate::files::read_json;
use crate::model::catalogue;
use crate::weights::keys::{Layout, WAN_VAE_2_2};

/// Configuration of a transformer. Shapes do not determine the number of heads: that comes from the authors'
/// `config.json` or, without one, from 128 channels per head, as in all releases.
pub(super) fn transformer(piece: &Piece, folder: &Path) -> Result<Map<String, Value>> {
    let dim = piece.side("patch_embedding.weight", 0)?;
    let patch: usize = (2..5).map(|side| piece.side("patch_embedding.weight", side)).product::<Result<_>>()?;
    let beside = [piece.paths[0].with_file_name("config.json"), folder.join("config.json")];
    let authors = beside.iter().find(|path| path.is_file()).map(|path| read_json(path)).transpose()?;
    let heads = authors.as_ref().and_then(|config| config.get("num_heads")).and_then(Value::as_u64);
    let heads = heads.map_or(dim / 128, |heads| heads as usize);
    if heads == 0 || dim % heads != 0 {
        return Err(Error::failed(format!("{heads} heads cannot share {dim} channels: {}", piece.paths[0].display()))
            .hint(
                "put the `config.json` of its authors beside the file, or name a folder of the same shape with `-m`",
            ));
    }
    let mut config = json!({
        "num_attention_heads": heads,
        "attention_head_dim": dim / heads,
        "in_channels": piece.side("patch_embedding.weight", 1)?,
        "out_channels": piece.side("proj_out.weight", 0)? / patch.max(1),
        "freq_dim": piece.side("condition_embedder.time_embedder.linear_1.weight", 1)?,
        "text_dim": piece.side("condition_embedder.text_embedder.linear_1.weight", 1)?,
        "ffn_dim": piece.side("blocks.0.ffn.net.0.proj.weight", 0)?,
        "num_layers": piece.count("blocks."),
    });
    if piece.shapes.contains_key("condition_embedder.image_embedder.norm1.weight") {
        config["image_dim"] = json!(piece.side("condition_embedder.image_embedder.norm1.weight", 0)?);
    }
    object(config)
}

/// Configuration of an autoencoder; what shapes do not determine is that of the release.
pub(super) fn vae(piece: &Piece) -> Result<Map<String, Value>> {
    let later = std::ptr::eq::<Layout>(piece.names.layout, &WAN_VAE_2_2) || piece.side("quant_conv.weight", 0)? == 96;
    let release = catalogue::find(if later { "wan2.2-ti2v-5b" } else { "wan2.1-t2v-1.3b" })?;
    let mut config = release.components.get("vae").map(|vae| vae.config.clone()).unwrap_or_default();
    let base = piece.side("encoder.conv_in.weight", 0)?;
    let levels = config.get("dim_mult").and_then(Value::as_array).and_then(|all| all.last()?.as_u64()).unwrap_or(4);
    let decoder = piece.side("decoder.conv_in.weight", 0)? / levels.max(1) as usize;
    config.insert("base_dim".into(), json!(base));
    config.insert("decoder_base_dim".into(), json!(decoder));
    config.insert("z_dim".into(), json!(piece.side("post_quant_conv.weight", 0)?));
    config.insert("num_res_blocks".into(), json!(piece.count("decoder.up_blocks.0.resnets.").saturating_sub(1)));
    Ok(config)
}

/// Configuration of a text encoder.
pub(super) fn text(piece: &Piece) -> Result<Map<String, Value>> {
    let first = "encoder.block.0.layer.0.SelfAttention";
    let table = format!("{first}.relative_attention_bias.weight");
    let (inner, heads) = (piece.side(&format!("{first}.q.weight"), 0)?, piece.side(&table, 1)?);
    object(json!({
        "model_type": "umt5",
        "vocab_size": piece.side("shared.weight", 0)?,
        "d_model": piece.side("shared.weight", 1)?,
        "d_kv": inner / heads.max(1),
        "d_ff": piece.side("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0)?,
        "num_layers": piece.count("encoder.block."),
        "num_heads": heads,
        "relative_attention_num_buckets": piece.side(&table, 0)?,
    }))
}

fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Error::failed("a configuration must be a JSON object")),
    }
}
