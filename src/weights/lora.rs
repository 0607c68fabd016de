//! LoRA files: low-rank changes to the weights of a network (Hu et al. 2021, arXiv:2106.09685).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::file::File;
use super::keys::{self, Place};
use crate::error::{Error, Result};

/// Prefixes of the names of layers, by tool.
const OUTER: [&str; 7] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "lora_unet_",
    "lora_transformer_",
    "",
];

/// Endings of the names of tensors, and the role of each.
const ROLES: [(&str, Role); 11] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".alpha", Role::Alpha),
    (".diff", Role::Weight),
    (".diff_b", Role::Bias),
];

/// Words with an underscore, in names where other underscores stand for dots.
const COMPOUND: [&str; 14] = [
    "self_attn",
    "cross_attn",
    "k_img",
    "v_img",
    "img_emb",
    "time_embedding",
    "time_projection",
    "text_embedding",
    "patch_embedding",
    "transformer_blocks",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
];

/// Adapters that are not LoRAs, by a word in the names of their tensors.
const OTHERS: [(&str, &str); 4] =
    [("hada_", "a LoHa"), ("lokr_", "a LoKr"), ("dora_scale", "a DoRA"), ("oft_", "an OFT")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Down,
    Up,
    Alpha,
    Weight,
    Bias,
}

/// An open LoRA file, fitted to a network.
pub(super) struct Lora {
    file: File,
    strength: f64,
    /// By the names of the network's layers in diffusers.
    layers: BTreeMap<String, Layer>,
}

/// The names of one layer's tensors in the file.
#[derive(Default)]
struct Layer {
    down: Option<String>,
    up: Option<String>,
    alpha: Option<String>,
    weight: Option<String>,
    bias: Option<String>,
}

/// How a LoRA file fits a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// Tensors in use.
    pub used: usize,
    /// Tensors without a counterpart in the network.
    pub foreign: Vec<String>,
}

/// A change to a matrix (out, in).
#[derive(Debug, Clone)]
pub enum Change {
    /// The product of `up` (out, rank) and `down` (rank, in).
    Low {
        /// (rank, in), f32
        down: Tensor,
        /// (out, rank), f32, times the strength
        up: Tensor,
    },
    /// A tensor of the same shape, f32, times the strength.
    Whole(Tensor),
}

impl Lora {
    /// Opens a file for a network. `shape` is the shape of the network's tensor of a name in diffusers.
    ///
    /// # Errors
    /// A file that is damaged, is not a LoRA, or is for a network of other shapes.
    pub(super) fn open(path: &Path, strength: f64, shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Result<(Self, Fit)> {
        let file = File::open(path)?;
        let mut layers: BTreeMap<String, Layer> = BTreeMap::new();
        let mut fit = Fit { used: 0, foreign: Vec::new() };
        for name in file.names() {
            if let Some((_, what)) = OTHERS.iter().find(|(word, _)| name.contains(word)) {
                return Err(Error::failed(format!("{} is {what}, and talkie reads LoRA", path.display())).hint(
                    "look for a LoRA of the same style, or merge it into the weights with the tool that made it",
                ));
            }
            let role = ROLES.iter().find_map(|(end, role)| Some((name.strip_suffix(end)?, *role)));
            match role.and_then(|(layer, role)| Some((resolve(layer, shape)?, role))) {
                Some((layer, role)) => {
                    let layer = layers.entry(layer).or_default();
                    *layer.of(role) = Some(name.to_owned());
                    fit.used += 1;
                }
                None => fit.foreign.push(name.to_owned()),
            }
        }
        let lora = Self { file, strength, layers };
        for (name, layer) in &lora.layers {
            lora.check(name, layer, shape)?;
        }
        Ok((lora, fit))
    }

    /// Checks the shapes of a layer's tensors.
    fn check(&self, name: &str, layer: &Layer, shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Result<()> {
        let place = self.file.path().display();
        let of = |tensor: &Option<String>| Some(self.file.get(tensor.as_deref()?)?.shape.clone());
        if layer.down.is_some() != layer.up.is_some() {
            return Err(Error::failed(format!("`{name}` has one half of a pair of matrices only, in {place}"))
                .hint("fetch the file again"));
        }
        let rows = |shape: &[usize]| (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<usize>());
        let weight = shape(&format!("{name}.weight")).unwrap_or_default();
        let ((outputs, inputs), mut fits) = (rows(&weight), true);
        if let (Some(down), Some(up)) = (of(&layer.down), of(&layer.up)) {
            let ((rank, width), (height, other)) = (rows(&down), rows(&up));
            fits &= rank > 0 && rank == other && width == inputs && height == outputs;
        }
        fits &= of(&layer.weight).is_none_or(|found| found == weight);
        fits &= of(&layer.bias).is_none_or(|found| shape(&format!("{name}.bias")) == Some(found));
        fits &= of(&layer.alpha).is_none_or(|found| found.iter().product::<usize>() == 1);
        if fits {
            return Ok(());
        }
        Err(Error::failed(format!("the LoRA's change of `{name}` does not fit its shape {weight:?}, in {place}"))
            .hint("it was made for another model, or another size of this one"))
    }

    /// The changes to a tensor of the network.
    pub(super) fn changes(&self, tensor: &str, device: &Device) -> Result<Vec<Change>> {
        let Some((name, what)) = tensor.rsplit_once('.') else { return Ok(Vec::new()) };
        let Some(layer) = self.layers.get(name) else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        let whole = if what == "bias" { &layer.bias } else { &layer.weight };
        if let Some(whole) = whole {
            changes.push(Change::Whole((self.load(whole, device)? * self.strength)?));
        }
        if let (Some(down), Some(up), "weight") = (&layer.down, &layer.up, what) {
            let (down, up) = (self.load(down, device)?.flatten_from(1)?, self.load(up, device)?.flatten_from(1)?);
            let rank = down.dim(0)? as f64;
            let alpha = match &layer.alpha {
                Some(alpha) => f64::from(self.load(alpha, &Device::Cpu)?.flatten_all()?.get(0)?.to_scalar::<f32>()?),
                None => rank,
            };
            changes.push(Change::Low { down, up: (up * (self.strength * alpha / rank))? });
        }
        Ok(changes)
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let shape = self.file.get(name).map(|stored| stored.shape.clone()).unwrap_or_default();
        Ok(self.file.load(name, &shape.into(), device)?.to_dtype(DType::F32)?)
    }
}

impl Layer {
    fn of(&mut self, role: Role) -> &mut Option<String> {
        match role {
            Role::Down => &mut self.down,
            Role::Up => &mut self.up,
            Role::Alpha => &mut self.alpha,
            Role::Weight => &mut self.weight,
            Role::Bias => &mut self.bias,
        }
    }
}

impl Change {
    /// The changed tensor, computed in f32, in the type of `tensor`.
    pub fn merge(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        let change = match self {
            Self::Low { down, up } => up.matmul(down)?.reshape(tensor.shape())?,
            Self::Whole(whole) => whole.clone(),
        };
        (tensor.to_dtype(DType::F32)? + change)?.to_dtype(tensor.dtype())
    }

    /// The change applied to rows `xs` (n, in): the difference to the unchanged product, (n, out).
    pub fn branch(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let of = |matrix: &Tensor| matrix.to_dtype(xs.dtype())?.t();
        match self {
            Self::Low { down, up } => xs.matmul(&of(down)?)?.matmul(&of(up)?),
            Self::Whole(whole) => xs.matmul(&of(whole)?),
        }
    }
}

/// The name in diffusers of a layer under any tool's name, if the network has it.
fn resolve(layer: &str, shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for rest in OUTER.iter().filter_map(|outer| layer.strip_prefix(outer)) {
        names.insert(rest.to_owned());
        names.insert(dotted(rest));
    }
    let here = |name: &String| shape(&format!("{name}.weight")).is_some();
    if let Some(name) = names.iter().find(|name| here(name)) {
        return Some(name.clone());
    }
    let places =
        names.iter().flat_map(|name| keys::LAYOUTS.iter().map(move |layout| layout.place(&format!("{name}.weight"))));
    let found = places.filter_map(|place| match place {
        Place::Of(_, name) => name.strip_suffix(".weight").map(str::to_owned),
        _ => None,
    });
    found.into_iter().find(|name| here(name))
}

/// The name with dots for underscores that stand for dots.
fn dotted(name: &str) -> String {
    let mut made = name.replace('_', ".");
    for word in COMPOUND {
        made = made.replace(&word.replace('_', "."), word);
    }
    made
}
