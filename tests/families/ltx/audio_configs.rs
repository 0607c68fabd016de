//! Configurations of LTX-2's audio autoencoder and vocoders that no network can be built from.

use serde_json::{Value, json};
use talkie::families::ltx::{audio_vae, vocoder};

use crate::support::fixture;

fn json(folder: &str, part: &str) -> Value {
    let text = std::fs::read_to_string(fixture(folder).join(part).join("config.json")).expect(folder);
    serde_json::from_str(&text).expect("JSON")
}

/// Whether `parse` refuses `json` with `key` changed to each of `values`, naming `named`.
fn refuses<T>(parse: fn(&str) -> talkie::Result<T>, json: &Value, key: &str, values: &[Value], named: &str) {
    for value in values {
        let mut changed = json.clone();
        changed[key] = value.clone();
        let report = parse(&changed.to_string()).err().unwrap_or_else(|| panic!("{key} = {value}")).report();
        assert!(report.contains(named), "{key} = {value}: {report}");
    }
}

const HUGE: u64 = u64::MAX;

#[test]
fn audio_autoencoders() {
    let good = json("ltx23", "audio_vae");
    let parse = audio_vae::Config::parse;
    parse(&good.to_string()).expect("the fixture's own");
    parse("{}").expect("the defaults");
    let sizes = [
        "base_channels",
        "output_channels",
        "num_res_blocks",
        "in_channels",
        "latent_channels",
        "sample_rate",
        "mel_hop_length",
        "mel_bins",
    ];
    for key in sizes {
        refuses(parse, &good, key, &[json!(0), json!(1 << 30)], key);
        refuses(parse, &good, key, &[json!(-1), json!("8"), json!(1.5), json!(1e300)], "JSON of an audio autoencoder");
    }
    refuses(parse, &good, "mel_bins", &[json!(null), json!([])], "JSON of an audio autoencoder");
    refuses(parse, &good, "mel_bins", &[json!(10), json!(9)], "mel_bins");
    refuses(parse, &good, "mel_bins", &[json!(12)], "base_channels");
    let mults = [json!([]), json!([1, 2]), json!([1, 2, 0]), json!([1, 2, HUGE]), json!([1, 2, 4, 8])];
    refuses(parse, &good, "ch_mult", &mults, "ch_mult");
    refuses(parse, &good, "norm_type", &[json!("group")], "norm_type");
    refuses(parse, &good, "causality_axis", &[json!("width"), json!("none"), json!(null)], "causality_axis");
    refuses(parse, &good, "attn_resolutions", &[json!([16])], "attn_resolutions");
    refuses(parse, &good, "mid_block_add_attention", &[json!(true)], "mid_block_add_attention");
    refuses(parse, &good, "double_z", &[json!(false)], "double_z");
    for text in ["", "[3]", "null", "{", "\u{0}"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn vocoders() {
    let parse = vocoder::Config::parse;
    parse("{}").expect("the defaults of 2.0");
    assert_eq!(
        parse(r#"{"_class_name": "LTX2VocoderWithBWE"}"#).expect("the defaults of 2.3").generator_rate(),
        16_000
    );
    assert!(parse(r#"{"bwe_hidden_channels": 512}"#).expect("keys of 2.3").extension.is_some());
    for (folder, prefixes) in [("ltx2", &[""][..]), ("ltx23", &["", "bwe_"])] {
        let good = json(folder, "vocoder");
        parse(&good.to_string()).expect(folder);
        for prefix in prefixes {
            generators(&good, prefix);
        }
        refuses(parse, &good, "output_sampling_rate", &[json!(0), json!(1 << 30), json!(HUGE)], "vocoder");
    }
    refuses(parse, &json("ltx2", "vocoder"), "_class_name", &[json!("BigVGAN")], "`BigVGAN` is not a vocoder");
    for text in ["", "[]", "null", "{", r#"{"_class_name": 3, "hidden_channels": {}}"#] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

/// The keys of one generator.
fn generators(good: &Value, prefix: &str) {
    let refuses = |key: &str, values: &[Value], named: &str| {
        refuses(vocoder::Config::parse, good, &format!("{prefix}{key}"), values, named);
    };
    for key in ["in_channels", "hidden_channels", "out_channels", "antialias_ratio", "antialias_kernel_size"] {
        refuses(key, &[json!(0), json!(1 << 30)], key);
        refuses(key, &[json!(-1), json!("8"), json!(null)], "JSON of a vocoder");
    }
    // Fewer channels than halvings; filters no longer than the ratio.
    refuses("hidden_channels", &[json!(7)], "hidden_channels");
    refuses("antialias_kernel_size", &[json!(2)], "antialias_kernel_size");
    let kernels = &good[format!("{prefix}upsample_kernel_sizes")].as_array().expect("kernels").clone();
    let factor = good[format!("{prefix}upsample_factors")][0].as_u64().expect("a factor");
    let with = |value: Value| json!([&[value][..], &kernels[1..]].concat());
    refuses(
        "upsample_kernel_sizes",
        &[with(json!(0)), with(json!(1)), with(json!(1 << 30)), json!([])],
        "upsample_kernel",
    );
    refuses("upsample_kernel_sizes", &[with(json!(factor + 3))], "step up by");
    refuses("upsample_factors", &[json!([]), json!([2]), json!(vec![0; kernels.len()])], "upsample_");
    refuses("upsample_factors", &[json!(vec![HUGE; kernels.len()]), json!(vec![64; kernels.len()])], "upsample_");
    refuses("resnet_kernel_sizes", &[json!([]), json!([3, 7]), json!([3, 7, 0]), json!([3, 7, 1 << 30])], "resnet_");
    let dilations =
        [json!([]), json!([[1], [1]]), json!([[1], [1], []]), json!([[1], [1], [0]]), json!([[1], [1], [HUGE]])];
    refuses("resnet_dilations", &dilations, "resnet_dilations");
    refuses("act_fn", &[json!("relu"), json!(null)], "JSON of a vocoder");
    refuses("final_act_fn", &[json!("softmax")], "JSON of a vocoder");
}

#[test]
fn bandwidth_extensions() {
    let good = json("ltx23", "vocoder");
    let refuses = |key: &str, values: &[Value], named: &str| refuses(vocoder::Config::parse, &good, key, values, named);
    refuses("filter_length", &[json!(0), json!(1), json!(1 << 30)], "filter_length");
    refuses("hop_length", &[json!(0), json!(1 << 30)], "hop_length");
    refuses("hop_length", &[json!(79)], "`bwe_upsample_factors` make 240 samples");
    refuses("window_length", &[json!(0), json!(1 << 30)], "window_length");
    refuses("window_length", &[json!(95), json!(176)], "`window_length` must be");
    refuses("num_mel_channels", &[json!(0), json!(1 << 30)], "num_mel_channels");
    refuses("num_mel_channels", &[json!(9)], "`bwe_in_channels` must be 18, for 2 channels");
    refuses("out_channels", &[json!(1)], "`bwe_in_channels` must be 8");
    refuses("bwe_out_channels", &[json!(1)], "`bwe_out_channels` must be 2, not 1");
    refuses("input_sampling_rate", &[json!(0), json!(1 << 30), json!(44_100)], "sampling_rate");
    refuses("input_sampling_rate", &[json!(24_000)], "`bwe_upsample_factors`");
    refuses("bwe_antialias", &[json!(1)], "JSON of a vocoder");
    refuses("bwe_act_fn", &[json!("leaky_relu")], "`bwe_antialias` needs");
}
