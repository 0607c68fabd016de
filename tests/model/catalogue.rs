//! The catalogue: every file parses, and its values are those of the models' own code.

use talkie::error::{Kind, nearest};
use talkie::families::ltx;
use talkie::model::catalogue::{self, Entry, Task};

#[test]
fn every_file_is_embedded_parses_and_is_named_after_its_entry() {
    let entries = catalogue::entries().expect("models/*.toml");
    let mut names: Vec<String> = entries.iter().map(|entry| format!("{}.toml", entry.name)).collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("models")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    files.sort();
    assert_eq!(names, files);
    names.dedup();
    assert_eq!(names.len(), files.len(), "names are unique");
}

#[test]
fn entries_make_sense() {
    let readme = include_str!("../../models/README.md");
    for entry in catalogue::entries().expect("models/*.toml") {
        let name = &entry.name;
        let repo = entry.repo().unwrap_or("in the box");
        assert!(readme.contains(&format!("| `{name}` | `{repo}` |")), "{name} is in models/README.md");
        assert!(entry.licence.url.starts_with("https://"), "{name}");
        assert!(!entry.tasks.is_empty() && !entry.title.is_empty() && !entry.checked.is_empty(), "{name}");
        if entry.is_boxed() {
            assert!(entry.files.is_empty() && entry.components.is_empty(), "{name}: its folder is there");
            continue;
        }
        let sound = entry.sampling.av.is_some();
        let (family, licence) = if sound { ("ltx", "LicenseRef-LTX-2-Community") } else { ("wan", "Apache-2.0") };
        assert_eq!((entry.family.as_str(), entry.licence.name.as_str()), (family, licence), "{name}");
        assert_eq!(entry.licence.terms.is_some(), sound, "{name}: terms where a licence has more than the usual ones");
        let two = entry.parameters.transformer_2.is_some();
        assert_eq!(two, entry.sampling.boundary_ratio.is_some(), "{name}");
        assert_eq!(two, entry.sampling.guidance_2.is_some(), "{name}");
        assert_eq!(two, entry.files.iter().any(|file| file.starts_with("transformer_2/")), "{name}");
        for folder in ["scheduler/", "tokenizer/", "text_encoder/", "transformer/", "vae/"] {
            assert!(entry.files.iter().any(|file| file.starts_with(folder)), "{name}: {folder}");
        }
        for (part, described) in &entry.components {
            let network = !matches!(part.as_str(), "scheduler" | "tokenizer");
            assert_eq!(entry.parameters.of(part) > 0, network, "{name}: {part}");
            let folder = format!("{part}/");
            let fetched = entry.files.iter().any(|file| file.starts_with(&folder));
            assert_ne!(fetched, described.repo.is_some(), "{name}: {part} is in one place");
        }
        let side = if sound || entry.name.contains("5b") { 32 } else { 16 };
        for (width, height) in &entry.geometry.sizes {
            assert_eq!((width % side, height % side), (0, 0), "{name}");
        }
        assert_eq!(entry.geometry.frames % if sound { 8 } else { 4 }, 1, "{name}");
    }
}

#[test]
fn sampling_defaults_are_those_of_wan_itself() {
    // name, steps, guidance, guidance_2, flow shift at 832x480 and at 1280x720, boundary, frames, frames a second
    let table = [
        ("wan2.1-t2v-1.3b", 50, 6.0, None, 8.0, 8.0, None, 81, 16.0),
        ("wan2.1-t2v-14b", 50, 5.0, None, 3.0, 5.0, None, 81, 16.0),
        ("wan2.2-ti2v-5b", 50, 5.0, None, 5.0, 5.0, None, 121, 24.0),
        ("wan2.2-t2v-a14b", 40, 4.0, Some(3.0), 12.0, 12.0, Some(0.875), 81, 16.0),
        ("wan2.2-i2v-a14b", 40, 3.5, Some(3.5), 5.0, 5.0, Some(0.9), 81, 16.0),
    ];
    for (name, steps, guidance, guidance_2, small, large, boundary, frames, fps) in table {
        let entry = catalogue::find(name).expect(name);
        let sampling = &entry.sampling;
        assert_eq!((sampling.steps, sampling.guidance, sampling.guidance_2), (steps, guidance, guidance_2), "{name}");
        assert_eq!(sampling.flow_shift_at(480, 832), small, "{name}");
        assert_eq!(sampling.flow_shift_at(1280, 720), large, "{name}");
        assert_eq!(sampling.boundary_ratio, boundary, "{name}");
        assert_eq!((entry.geometry.frames, entry.geometry.fps), (frames, fps), "{name}");
        assert!(
            sampling.negative_prompt.starts_with("色调艳丽，过曝，") && sampling.negative_prompt.ends_with("倒着走")
        );
        assert_eq!(sampling.negative_prompt.chars().count(), 137, "{name}");
    }
}

#[test]
fn sampling_defaults_are_those_of_ltx_itself() {
    // name, steps, guidance, of the sound, STG, its block, modality, rescale, told each other's time, size
    let table = [
        ("ltx-2", 40, 3.0, 7.0, 1.0, 29, 3.0, 0.7, false, (768, 512)),
        ("ltx-2-distilled", 8, 1.0, 1.0, 0.0, 29, 1.0, 0.0, false, (1536, 1024)),
        ("ltx-2.3", 30, 3.0, 7.0, 1.0, 28, 3.0, 0.7, true, (768, 512)),
        ("ltx-2.3-distilled", 8, 1.0, 1.0, 0.0, 28, 1.0, 0.0, true, (1536, 1024)),
    ];
    for (name, steps, guidance, audio, stg, block, modality, rescale, cross, size) in table {
        let entry = catalogue::find(name).expect(name);
        let sampling = &entry.sampling;
        let av = sampling.av.as_ref().expect(name);
        assert_eq!((sampling.steps, sampling.guidance, av.audio_guidance), (steps, guidance, audio), "{name}");
        assert_eq!((av.stg_scale, av.audio_stg_scale, av.stg_blocks.as_slice()), (stg, stg, &[block][..]), "{name}");
        assert_eq!((av.modality_scale, av.audio_modality_scale), (modality, modality), "{name}");
        assert_eq!((av.rescale, av.audio_rescale, av.cross_timestep), (rescale, rescale, cross), "{name}");
        assert_eq!((entry.geometry.sizes[0], entry.geometry.frames, entry.geometry.fps), (size, 121, 24.0), "{name}");
        assert_eq!(av.image_crf, 33, "{name}");
        let (first, second): (&[f64], &[f64]) = match name.ends_with("distilled") {
            true => {
                (&[1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909_375, 0.725, 0.421_875], &[0.909_375, 0.725, 0.421_875])
            }
            false => (&[], &[]),
        };
        assert_eq!((sampling.sigmas.as_slice(), sampling.refine_sigmas.as_slice()), (first, second), "{name}");
        let negative = &sampling.negative_prompt;
        assert!(negative.starts_with("blurry, out of focus, ") && negative.ends_with(", or AI artifacts."), "{name}");
        assert_eq!(negative.len(), 1078, "{name}");
    }
}

#[test]
fn numbers_of_parameters_are_those_of_the_configurations() {
    let entries = catalogue::entries().expect("models/*.toml");
    let ltx: Vec<&Entry> = entries.iter().filter(|entry| entry.family == "ltx" && !entry.is_boxed()).collect();
    assert_eq!(ltx.len(), 4);
    for entry in ltx {
        let described = &entry.components["transformer"].config;
        let config: ltx::config::Config = serde_json::from_value(described.clone().into()).expect("a configuration");
        assert_eq!(config.parameters(), entry.parameters.transformer, "{}", entry.name);
        let repository = |entry: &Entry| entry.components["latent_upsampler"].repo.clone().expect("a repository");
        assert!(repository(entry).contains(if entry.name.contains("2.3") { "LTX-2.3" } else { "LTX-2" }));
    }
}

#[test]
fn models_are_found_by_name_and_by_repository() {
    let by_name = catalogue::find("Wan2.2-TI2V-5B").expect("any case");
    assert_eq!(by_name, catalogue::find("Wan-AI/Wan2.2-TI2V-5B-Diffusers").expect("a repository"));
    assert_eq!(by_name.tasks, [Task::T2v, Task::I2v]);
    let error = catalogue::find("wan2.1-t2v-1.3").expect_err("a letter short");
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.report().contains("did you mean wan2.1-t2v-1.3b"), "{}", error.report());
    let error = catalogue::find("something else").expect_err("nothing like it");
    assert!(error.report().contains("talkie models"), "{}", error.report());
    assert!(catalogue::find(&"x".repeat(1_000_000)).is_err());
}

#[test]
fn an_entry_is_in_one_place() {
    let entry = toml::Table::try_from(catalogue::find("ltx-2").expect("an entry")).expect("a table");
    let placed = |place: &str| {
        let mut entry = entry.clone();
        entry.insert("place".into(), toml::Value::Table(toml::from_str(place).expect("TOML")));
        entry.try_into::<Entry>()
    };
    let repo = placed("repo = \"a/b\"\nrevision = \"main\"").expect("a repository");
    assert!(repo.repo() == Some("a/b") && !repo.is_boxed());
    let boxed = placed("folder = \"toybox\"").expect("a folder");
    assert!(boxed.repo().is_none() && boxed.is_boxed());
    for wrong in
        ["", "repo = \"a/b\"", "repo = \"a/b\"\nrevision = \"main\"\nfolder = \"toybox\"", "folder = \"a\"\nx = 1"]
    {
        placed(wrong).expect_err(wrong);
    }
}

#[test]
fn near_names_come_nearest_first() {
    let names = ["guidance", "guidance_2", "sigmas", "steps"];
    assert_eq!(nearest("guidence", &names), ["guidance", "guidance_2"][..1]);
    assert_eq!(nearest("guidance2", &names), ["guidance", "guidance_2"]);
    assert_eq!(nearest("sigma", &names), ["sigmas"]);
    assert_eq!(nearest("stpes", &names), ["steps"]);
    assert_eq!(nearest("温度", &names), [""; 0]);
    assert_eq!(nearest("", &names), [""; 0]);
}
