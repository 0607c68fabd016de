//! Sessions: weights that stay loaded, LoRAs that change, threads, and requests for other weights.

use std::path::Path;

use serde_json::Value;
use talkie::error::Kind;
use talkie::pipeline::run::Run;
use talkie::plan::{Free, Machine, StageMemory};
use talkie::progress::{Chore, Stage, quiet};
use talkie::request::Adapter;
use talkie::{Budget, Event, Film, ModelChoice, Request, Session};

use crate::support::{choice, fixture, machine, session};

fn request(prompt: &str, seed: u64) -> Request {
    Request {
        prompt: prompt.into(),
        size: Some("64x64".parse().expect("a size")),
        frames: Some(9),
        steps: Some(2),
        seed: Some(seed),
        ..Request::default()
    }
}

#[track_caller]
fn keeping(choice: &ModelChoice, budget: Budget, home: &Path) -> Session {
    Session::open_on(machine(home), choice, budget, &mut quiet).expect("a session")
}

fn pixels(film: &Film) -> Vec<&[u8]> {
    film.frames.iter().map(|frame| frame.data.as_slice()).collect()
}

fn style(strength: f64) -> Adapter {
    Adapter { path: fixture("loras/peft.safetensors"), strength, expert: None }
}

/// Seconds of loading that events report.
fn loading(session: &Session, request: &Request) -> (Film, f64) {
    let mut seconds = 0.0;
    let film = session.generate(request, &mut |event| {
        if let Event::Spent { on: Chore::Load, seconds: more } = event {
            seconds += more;
        }
        std::ops::ControlFlow::Continue(())
    });
    (film.expect("a film"), seconds)
}

#[test]
fn no_weight_is_read_twice_and_films_stay_the_same() {
    let home = tempfile::tempdir().expect("a folder");
    for model in ["wan21-t2v", "wan22-a14b", "ltx2", "ltx23"] {
        let plain = session(&choice(model), home.path());
        let session = keeping(&choice(model), Budget::All, home.path());
        let mut read = Vec::new();
        for seed in 1..=3 {
            let request = request("a red fox walks", seed);
            let (film, seconds) = loading(&session, &request);
            let alone = plain.generate(&request, &mut quiet).expect("a film");
            assert!(pixels(&film) == pixels(&alone), "{model}, film {seed}: another film than without a session");
            assert_eq!(
                film.waveform.map(|sound| sound.channels),
                alone.waveform.map(|sound| sound.channels),
                "{model}"
            );
            assert!(seed == 1 || seconds == 0.0, "{model}: film {seed} loads for {seconds} s");
            read.push(session.bytes_read());
        }
        assert!(read[0] > 0 && read[1] == read[0] && read[2] == read[0], "{model}: {read:?}");
        let (kept, dropped) = (session.plan(&request("a fox", 1)), plain.plan(&request("a fox", 1)));
        let (kept, dropped) = (kept.expect("a plan"), dropped.expect("a plan"));
        assert_eq!(kept.parameters, dropped.parameters, "{model}: another recipe than without a session");
        let keeps = kept.keeps;
        assert!(keeps.contains(&Stage::Text) && keeps.contains(&Stage::Denoise) && keeps.contains(&Stage::Decode));
        // Without a budget everything is read for every film.
        assert!(
            plain.bytes_read() >= 3 * read[0] && plain.plan(&request("a fox", 1)).expect("a plan").keeps.is_empty()
        );
    }
}

#[test]
fn loras_change_without_reading_the_model_again() {
    let home = tempfile::tempdir().expect("a folder");
    let own = |loras: &[Adapter]| ModelChoice { loras: loras.to_vec(), ..choice("layouts/diffusers") };
    let alone = |loras: &[Adapter]| {
        session(&own(loras), home.path()).generate(&request("a fox", 4), &mut quiet).expect("a film")
    };
    let mut session = keeping(&own(&[]), Budget::All, home.path());
    let mut films = Vec::new();
    let mut read = Vec::new();
    for loras in [vec![], vec![style(1.0)], vec![style(0.5)], vec![]] {
        session.adapt(&loras).expect("LoRAs that fit");
        let film = session.generate(&request("a fox", 4), &mut quiet).expect("a film");
        assert!(pixels(&film) == pixels(&alone(&loras)), "{loras:?}: another film than of a session of its own");
        films.push(film);
        read.push(session.bytes_read());
    }
    assert!(read.iter().all(|&bytes| bytes == read[0]), "{read:?}");
    assert!(pixels(&films[0]) == pixels(&films[3]) && pixels(&films[0]) != pixels(&films[1]));
    // What does not fit changes nothing.
    let foreign = Adapter { path: fixture("wan21-t2v/first.png"), strength: 1.0, expert: None };
    session.adapt(&[foreign]).expect_err("not a LoRA");
    assert!(session.choice().loras.is_empty());
}

#[test]
fn two_sessions_in_two_threads_make_the_same_films_as_alone() {
    let home = tempfile::tempdir().expect("a folder");
    let models = ["wan22-ti2v-5b", "ltx2"];
    let alone = models.map(|model| {
        let session = session(&choice(model), home.path());
        [1, 2].map(|seed| session.generate(&request("a red fox walks", seed), &mut quiet).expect("a film"))
    });
    let sessions = models.map(|model| keeping(&choice(model), Budget::All, home.path()));
    // One is shared by two threads, too: films of a session are made one at a time.
    let together = std::thread::scope(|scope| {
        let film = |of: usize, seed: u64| {
            let session = &sessions[of];
            scope.spawn(move || session.generate(&request("a red fox walks", seed), &mut quiet).expect("a film"))
        };
        let films = [[film(0, 1), film(0, 2)], [film(1, 1), film(1, 2)]];
        films.map(|films| films.map(|film| film.join().expect("a thread")))
    });
    for (alone, together) in alone.iter().flatten().zip(together.iter().flatten()) {
        assert!(pixels(alone) == pixels(together));
    }
}

/// Compiles where a session may be used from every thread.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Session>();
};

#[test]
fn a_run_of_other_weights_is_refused_by_both_names() {
    let home = tempfile::tempdir().expect("a folder");
    let style = ModelChoice { loras: vec![style(0.7)], ..choice("layouts/diffusers") };
    let plan = session(&style, home.path()).plan(&request("a fox", 1)).expect("a plan");
    let own = session(&choice("layouts/diffusers"), home.path());
    let run = Run::create(&plan, home.path()).expect("a run");
    let error = own.resume(run, &mut quiet).expect_err("other LoRAs");
    let told = error.to_string();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(told.contains("this session holds") && told.contains("layouts/diffusers, and the run is of"), "{told}");
    assert!(told.contains("with LoRA") && told.contains("peft.safetensors:0.7"), "{told}");
    let run = Run::open(None, home.path()).expect("it is kept");
    let error = session(&choice("wan21-t2v"), home.path()).resume(run, &mut quiet).expect_err("another model");
    assert!(error.to_string().contains("wan21-t2v, and the run is of"), "{error}");
    // The very same weights are taken, whatever they are computed with.
    let run = Run::open(None, home.path()).expect("it is kept");
    let same = ModelChoice { memory: Some(20_000_000_000), device: Some("cpu".into()), ..style };
    session(&same, home.path()).resume(run, &mut quiet).expect("a film");
}

#[test]
fn a_budget_too_small_for_any_stage_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let open = |bytes| Session::open_on(machine(home.path()), &choice("wan21-t2v"), Budget::Bytes(bytes), &mut quiet);
    let error = open(1000).map(drop).expect_err("nothing fits into a kilobyte");
    let told = error.report();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(told.contains("a budget of 1.0 kB keeps no stage loaded: the smallest, "), "{told}");
    assert!(told.contains("give at least ") && told.contains("all stages take "), "{told}");
    // As much as the smallest takes keeps that one, and nothing larger.
    let weights = session(&choice("wan21-t2v"), home.path()).family().weights();
    let (smallest, least) = *weights.iter().min_by_key(|(_, bytes)| *bytes).expect("stages");
    let plan = open(least).expect("a session").plan(&request("a fox", 1)).expect("a plan");
    assert_eq!(plan.keeps, [smallest]);
    assert!(plan.to_string().contains(&format!("keeps     {} loaded", smallest.name())), "{plan}");
}

#[test]
fn a_plan_is_made_for_another_machine() {
    let home = tempfile::tempdir().expect("a folder");
    let free = |bytes| Machine { free: Free::Given(vec![("cpu".into(), bytes)]), ..machine(home.path()) };
    let look = |bytes| Session::look(&free(bytes), &choice("wan21-t2v"), &request("a fox", 1));
    assert_eq!(look(7_000_000_000).expect("a plan").memory, Some(7_000_000_000));
    let error = look(1_000_000).map(drop).expect_err("a machine without memory");
    assert!(error.to_string().contains("and 1.0 MB may be used"), "{error}");
    // Where memory is short, a session of that machine keeps less.
    let keeps = |bytes| {
        let session = Session::open_on(free(bytes), &choice("wan21-t2v"), Budget::All, &mut quiet).expect("a session");
        session.plan(&request("a fox", 1)).expect("a plan").keeps.len()
    };
    let peak = look(7_000_000_000).expect("a plan").stages.iter().map(StageMemory::peak).max().expect("stages");
    assert!(keeps(peak + 1000) < keeps(7_000_000_000));
}

#[test]
fn a_run_of_another_version_names_it() {
    let home = tempfile::tempdir().expect("a folder");
    let plan = session(&choice("wan21-t2v"), home.path()).plan(&request("a fox", 1)).expect("a plan");
    let plan = serde_json::to_value(&plan).expect("JSON");
    let newer = {
        let mut newer = plan.clone();
        newer["talkie"] = "9.9.9".into();
        newer
    };
    let old = std::fs::read(fixture("plans/0.1.json")).expect("a plan that 0.1 wrote");
    let old: Value = serde_json::from_slice(&old).expect("JSON");
    for (version, plan) in [("0.1", old), ("9.9.9", newer)] {
        let folder = home.path().join(version);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("plan.json"), plan.to_string()).expect("a plan");
        let error = Run::open(folder.to_str(), home.path()).map(drop).expect_err("another version's");
        let told = error.to_string();
        assert!(told.contains(&format!("the run was begun by talkie {version}, and this is talkie ")), "{told}");
        assert!(!folder.join("lock").exists(), "a run that is refused is left as it is");
    }
}

#[test]
fn an_error_of_a_tensor_names_its_stage_and_networks() {
    let mut on_event = quiet;
    let mut progress = talkie::progress::Progress::new(&mut on_event);
    let failed = |_: &mut _| {
        let short = candle_core::Tensor::zeros(2, candle_core::DType::F32, &candle_core::Device::Cpu)?;
        Ok(short.reshape((3, 3)).map(drop)?)
    };
    let error = progress.stage(Stage::Denoise, 1, failed).expect_err("four numbers are not nine");
    assert_eq!(error.to_string(), "a tensor operation failed in the stage `denoise` (`transformer`)");
    assert!(error.report().contains("because: "), "{}", error.report());
}
