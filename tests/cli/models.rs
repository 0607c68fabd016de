//! Models by name, as a user meets them: planned before anything is fetched, licences said once, parts from elsewhere.

use std::fs;

use serde_json::Value;

use crate::support::command::{Bench, Done};

const LTX: [&str; 4] = ["ltx-2", "ltx-2-distilled", "ltx-2.3", "ltx-2.3-distilled"];

/// A plan of a model's defaults as JSON. Its memory is not this machine's.
fn plan(bench: &Bench, model: &str) -> Value {
    let done = bench.run(&["generate", "a red fox walks", "-m", model, "--plan", "--json", "--memory", "100GB"]);
    done.worked(&[]);
    serde_json::from_str(&done.stdout).expect("JSON")
}

fn notes(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.starts_with("note: ")).collect()
}

/// Moves a folder of the bench into the hub's cache, as a snapshot of `repo`.
fn cache(bench: &Bench, folder: &str, repo: &str) {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let place = bench.path("hub/hub").join(format!("models--{}", repo.replace('/', "--")));
    fs::create_dir_all(place.join("refs")).expect("a folder");
    fs::create_dir_all(place.join("snapshots")).expect("a folder");
    fs::write(place.join("refs/main"), commit).expect("a reference");
    fs::rename(bench.path(folder), place.join("snapshots").join(commit)).expect("a snapshot");
}

#[test]
fn every_model_is_planned_before_it_is_fetched() {
    let bench = Bench::new("ltx2");
    for model in LTX {
        let plan = plan(&bench, model);
        let distilled = model.ends_with("distilled");
        let latents = if distilled { [1, 128, 16, 32, 48] } else { [1, 128, 16, 16, 24] };
        assert_eq!(plan["shape"]["latents"], serde_json::json!(latents), "{model}");
        assert_eq!(plan["parameters"]["stages"], if distilled { 2 } else { 1 }, "{model}");
        assert_eq!(plan["parameters"]["cross_timestep"], model.starts_with("ltx-2.3"), "{model}");
        assert_eq!(plan["parameters"]["shift_terminal"], 0.1, "{model}");
        let steps = match model {
            "ltx-2" => 40,
            "ltx-2.3" => 30,
            _ => 8 + 3,
        };
        assert_eq!(crate::support::steps(&plan).len(), steps, "{model}");
        let stages = plan["stages"].as_array().expect("stages");
        let weights: Vec<u64> = stages.iter().filter_map(|stage| stage["weights"].as_u64()).collect();
        assert!(weights.len() == stages.len() && weights.iter().all(|&bytes| bytes > 100_000_000), "{weights:?}");
        let parts: Vec<&str> = plan["files"]
            .as_array()
            .expect("files")
            .iter()
            .inspect(|file| assert_eq!(file["present"], false, "{model}: {file}"))
            .filter_map(|file| file["component"].as_str())
            .collect();
        for part in ["connectors", "transformer", "vae", "audio_vae", "vocoder", "latent_upsampler", "text_encoder"] {
            assert!(parts.contains(&part), "{model}: {part}");
        }
    }
    assert!(!bench.path("home").exists(), "a plan says no licence and writes nothing");
}

/// Sigmas are diffusers': the shift grows with the tokens beyond what a user may ask for.
#[test]
fn large_films_are_planned_in_one_stage() {
    let bench = Bench::new("ltx2");
    let plan = |arguments: &[&str]| {
        let common = ["generate", "a red fox walks", "--plan", "--json", "--memory", "900GB"];
        bench.run(&[&common[..], arguments].concat())
    };
    let done = plan(&["-m", "ltx-2", "--size", "1536x1024", "--steps", "8"]);
    let json: Value = serde_json::from_str(&done.worked(&[]).stdout).expect("JSON");
    let expected = [1.0, 0.981_677_3, 0.957_155_9, 0.922_880_6, 0.871_376_5, 0.785_597_1, 0.614_129_4, 0.1];
    for (step, sigma) in crate::support::steps(&json).iter().zip(expected) {
        assert!((step["sigma"].as_f64().expect("a number") - sigma).abs() < 1e-5, "{step} {sigma}");
    }
    let done = plan(&["-m", "ltx-2", "--size", "1920x1088", "--frames", "241"]);
    assert!(done.code == Some(2) && done.stderr.contains("63240 tokens"), "{done}");
    assert!(done.stderr.contains("--flow-shift 8"), "{done}");
    plan(&["-m", "ltx-2", "--size", "1920x1088", "--frames", "241", "--flow-shift", "8"]).worked(&[]);
    plan(&["-m", "ltx-2.3-distilled", "--size", "1920x1088", "--frames", "241", "--set", "stages=1"]).worked(&[]);
}

#[test]
fn a_licence_is_said_once_for_each_model() {
    let bench = Bench::new("ltx2");
    let pull = |model: &str| bench.run(&["models", "pull", model]);
    for model in ["ltx-2", "ltx-2.3"] {
        let done = pull(model);
        let said = notes(&done);
        assert_eq!(said.len(), 1, "{done}");
        for word in [model, "LicenseRef-LTX-2-Community", "https://github.com/Lightricks/", "10 million", "Gemma"] {
            assert!(said[0].contains(word), "{word}: {done}");
        }
        done.refused(1, &["HF_HUB_OFFLINE"]);
        assert!(notes(&pull(model)).is_empty(), "said before");
    }
    // Other words than those that were said are said again.
    fs::write(bench.path("home/licences/ltx-2"), "free").expect("a file");
    assert_eq!(notes(&pull("ltx-2")).len(), 1);
    assert!(notes(&pull("wan2.1-t2v-1.3b")).is_empty(), "Apache-2.0 asks for nothing");
    // Where it cannot be kept it is said every time, which stops nobody.
    fs::remove_dir_all(bench.path("home")).expect("a folder");
    fs::write(bench.path("home"), "no folder").expect("a file");
    for _ in 0..2 {
        let done = pull("ltx-2.3");
        assert_eq!(notes(&done).len(), 1, "{done}");
        done.refused(1, &["HF_HUB_OFFLINE"]);
    }
}

#[test]
fn a_part_from_elsewhere_is_used_or_done_without() {
    let bench = Bench::new("ltx23");
    fs::create_dir(bench.path("other")).expect("a folder");
    fs::rename(bench.path("model/latent_upsampler"), bench.path("other/latent_upsampler")).expect("a part");
    cache(&bench, "model", "diffusers/LTX-2.3-Distilled-Diffusers");
    let listed = plan(&bench, "ltx-2.3-distilled");
    let missing: Vec<&Value> =
        listed["files"].as_array().expect("files").iter().filter(|file| file["present"] == false).collect();
    assert!(missing.len() == 1 && missing[0]["component"] == "latent_upsampler", "{missing:?}");
    assert_eq!(listed["parameters"]["stages"], 2, "what will be fetched counts");
    let pull = bench.run(&["models", "pull", "ltx-2.3-distilled"]);
    pull.worked(&["the model does without its `latent_upsampler`", "HF_HUB_OFFLINE"]);
    cache(&bench, "other", "rootonchair/LTX-2.3-spatial-upscaler-x2-v1.1-Diffusers");
    let pull = bench.run(&["models", "pull", "ltx-2.3-distilled"]);
    assert!(notes(pull.worked(&["ltx-2.3-distilled is here"])).is_empty(), "{pull}");
    let listed = plan(&bench, "ltx-2.3-distilled");
    let files = listed["files"].as_array().expect("files");
    assert!(files.iter().all(|file| file["present"] == true && file["bytes"].as_u64() > Some(0)), "{files:?}");
    assert!(files.iter().any(|file| file["component"] == "latent_upsampler"), "{files:?}");
    let film = bench.run(&[
        "generate",
        "a red fox walks",
        "-m",
        "ltx-2.3-distilled",
        "-o",
        "out/film",
        "--size",
        "64x64",
        "--frames",
        "9",
    ]);
    film.worked(&[]);
}

#[test]
fn a_repository_without_an_entry_is_named_after_itself() {
    let bench = Bench::new("ltx2");
    cache(&bench, "model", "someone/LTX-2-Distilled-Mine");
    let plan = plan(&bench, "someone/LTX-2-Distilled-Mine");
    assert_eq!(crate::support::steps(&plan).len(), 11, "the recipe follows from the name");
    assert_eq!(plan["model"], "someone/LTX-2-Distilled-Mine");
}
