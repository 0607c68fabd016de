//! The names of tensors in other layouts, against what the reference implementations name them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use talkie::weights::keys::{self, Layout, Names, Place, recognise};

use crate::support::{cases, fixture};

/// The lists under `keys/`: of which layout they are, and of which the names are that it makes of them.
const LISTS: [(&str, &Layout, &Layout); 11] = [
    ("wan-1.3b", &keys::WAN_TRANSFORMER, &keys::WAN_TRANSFORMER_DIFFUSERS),
    ("wan-14b", &keys::WAN_TRANSFORMER, &keys::WAN_TRANSFORMER_DIFFUSERS),
    ("wan-i2v-14b", &keys::WAN_TRANSFORMER, &keys::WAN_TRANSFORMER_DIFFUSERS),
    ("wan-flf2v-14b", &keys::WAN_TRANSFORMER, &keys::WAN_TRANSFORMER_DIFFUSERS),
    ("wan-vace-1.3b", &keys::WAN_TRANSFORMER, &keys::WAN_TRANSFORMER_DIFFUSERS),
    ("wan-vace-14b", &keys::WAN_TRANSFORMER, &keys::WAN_TRANSFORMER_DIFFUSERS),
    ("wan-vae-2.1", &keys::WAN_VAE, &keys::WAN_VAE_DIFFUSERS),
    ("wan-vae-2.2", &keys::WAN_VAE_2_2, &keys::WAN_VAE_DIFFUSERS),
    ("umt5-original", &keys::UMT5_ORIGINAL, &keys::UMT5_COMFY),
    ("umt5-llama", &keys::UMT5_LLAMA, &keys::UMT5_COMFY),
    ("gemma3-llama", &keys::GEMMA3_LLAMA, &keys::GEMMA3),
];

/// What stands in the place of a layer's `weight` in files with scales of their own, and in those that change a model.
const ENDINGS: [&str; 9] = [
    "scale_weight",
    "weight_scale",
    "weight_scale_2",
    "scale_input",
    "input_scale",
    "comfy_quant",
    "lora_down.weight",
    "lora_B.default.weight",
    "alpha",
];

/// A list: each name in the file, and what becomes of it.
fn list(name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(fixture("keys").join(format!("{name}.txt"))).unwrap();
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let (theirs, ours) = line.split_once(' ').unwrap();
        for (theirs, ours) in unfolded(theirs, ours) {
            assert_eq!(names.insert(theirs, ours), None, "{name}: {line}");
        }
    }
    names
}

/// The names that a line stands for: `blocks.{0..29}.norm3.{weight,bias}` are sixty.
fn unfolded(theirs: &str, ours: &str) -> Vec<(String, String)> {
    let Some((open, close)) = theirs.find('{').zip(theirs.find('}')) else { return vec![(theirs.into(), ours.into())] };
    let braces = &theirs[open..=close];
    let inside = &theirs[open + 1..close];
    let items: Vec<String> = match inside.split_once("..") {
        Some((first, last)) => (first.parse().unwrap()..=last.parse::<u32>().unwrap()).map(|i| i.to_string()).collect(),
        None => inside.split(',').map(str::to_owned).collect(),
    };
    let one = |item: &String| unfolded(&theirs.replacen(braces, item, 1), &ours.replacen(braces, item, 1));
    items.iter().flat_map(one).collect()
}

/// What may stand before the names of a layout's files.
fn outers(layout: &Layout) -> impl Iterator<Item = &'static str> {
    std::iter::once("").chain(layout.outer.iter().copied())
}

fn part(layout: &Layout) -> &'static str {
    layout.parts[0].name
}

/// The title of the layout that some names have, and of how many it is.
fn recognised(names: &BTreeSet<String>) -> (Option<&'static str>, usize) {
    let has = |name: &str| names.contains(name);
    (recognise(&has).map(|layout| layout.title), keys::LAYOUTS.iter().filter(|layout| layout.fits(&has)).count())
}

#[test]
fn keys_are_one_to_one_and_complete() {
    for (name, theirs, ours) in LISTS {
        let list = list(name);
        for outer in outers(theirs) {
            let names = Names { layout: theirs, part: part(theirs) };
            let found: BTreeMap<String, Option<String>> =
                list.keys().map(|key| (key.clone(), names.of(&format!("{outer}{key}")))).collect();
            let wanted = list.iter().map(|(key, place)| (key.clone(), Some(place.clone()))).collect();
            assert_eq!(found, wanted, "{name}");
        }
        let made: BTreeSet<&String> = list.values().collect();
        assert_eq!(made.len(), list.len(), "{name}: two tensors have one name");
        for key in made {
            for outer in outers(ours) {
                assert_eq!(ours.place(&format!("{outer}{key}")), Place::Of(part(theirs), key.clone()), "{name}");
            }
        }
    }
}

#[test]
fn keys_keep_what_follows_a_layer() {
    let one = keys::WAN_TRANSFORMER.place("blocks.0.self_attn.q.scale_weight");
    assert_eq!(one, Place::Of("transformer", "blocks.0.attn1.to_q.scale_weight".into()));
    for (name, theirs, _) in LISTS {
        let mut layers = 0;
        for (key, place) in list(name) {
            let Some((key, place)) = key.strip_suffix(".weight").zip(place.strip_suffix(".weight")) else { continue };
            layers += 1;
            for ending in ENDINGS {
                let wanted = Place::Of(part(theirs), format!("{place}.{ending}"));
                assert_eq!(theirs.place(&format!("{key}.{ending}")), wanted, "{name}");
            }
        }
        assert!(layers > 30, "{name}: {layers}");
    }
}

#[test]
fn keys_tell_layouts_apart() {
    for (name, theirs, ours) in LISTS {
        let list = list(name);
        for outer in outers(theirs) {
            let names = list.keys().map(|key| format!("{outer}{key}")).collect();
            assert_eq!(recognised(&names), (Some(theirs.title), 1), "{name}");
        }
        for outer in outers(ours) {
            let names = list.values().map(|key| format!("{outer}{key}")).collect();
            assert_eq!(recognised(&names), (Some(ours.title), 1), "{name}");
        }
    }
    let text = std::fs::read_to_string(fixture("ltx2/single_file.json")).unwrap();
    let single: Value = serde_json::from_str(&text).unwrap();
    let names = single["tensors"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(recognised(&names), (Some(keys::LTX.title), 1));
    assert_eq!(recognised(&BTreeSet::new()), (None, 0));
}

#[test]
fn keys_without_a_use_and_of_other_networks() {
    let unused = [
        (&keys::WAN_TRANSFORMER, "model.diffusion_model.scaled_fp8"),
        (&keys::WAN_TRANSFORMER_DIFFUSERS, "blocks.3.attn2.norm_added_q.weight"),
        (&keys::UMT5_COMFY, "spiece_model"),
        (&keys::UMT5_COMFY, "scaled_fp8"),
        (&keys::UMT5_COMFY, "decoder.block.0.layer.0.SelfAttention.q.weight"),
        (&keys::UMT5_LLAMA, "dec.blk.0.attn_q.weight"),
        (&keys::GEMMA3_LLAMA, "output.weight"),
        (&keys::GEMMA3, "spiece_model"),
        (&keys::GEMMA3, "language_model.lm_head.weight"),
        (&keys::GEMMA3, "model.vision_tower.vision_model.head.weight"),
    ];
    for (layout, name) in unused {
        assert_eq!(layout.place(name), Place::Unused, "{}: {name}", layout.title);
    }
    let foreign = [
        (&keys::WAN_TRANSFORMER, "face_adapter.fuser_blocks.0.linear2.weight"),
        (&keys::WAN_TRANSFORMER, "vae.conv1.weight"),
        (&keys::WAN_TRANSFORMER, "model.blocks.0.self_attn.q.weight"),
        (&keys::WAN_VAE, "conv3.weight"),
        (&keys::UMT5_LLAMA, "blk.0.attn_q.weight"),
    ];
    for (layout, name) in foreign {
        assert_eq!(layout.place(name), Place::Foreign, "{}: {name}", layout.title);
    }
}

#[test]
fn norms_of_llama_have_one_added() {
    let list = list("gemma3-llama");
    let added: BTreeSet<&String> = list.values().filter(|name| name.ends_with(keys::GEMMA3_LLAMA.raised[0])).collect();
    let norms: BTreeSet<&String> =
        list.iter().filter(|(theirs, _)| theirs.contains("norm")).map(|(_, ours)| ours).collect();
    assert_eq!(added, norms);
    assert_eq!(norms.len(), 48 * 6 + 1);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn names_of_nothing_are_of_no_layout(
        names in prop::collection::btree_set(r"([a-z_]{1,8}|[0-9])(\.([a-z_]{1,8}|[0-9])){0,4}", 0..60)
    ) {
        prop_assert_eq!(recognised(&names), (None, 0));
        for name in names {
            for layout in keys::LAYOUTS {
                let _ = layout.place(&name);
            }
        }
    }
}
