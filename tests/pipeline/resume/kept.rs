//! What stays and what goes: the run's folder, latents, films that were there, and things that are not talkie's.

use std::fs;

use talkie::files::atomic::AtomicFile;

use super::{bench, run_folder};
use crate::support::command::{Bench, files, names};

#[test]
fn a_run_stays_where_it_was_asked_for_and_is_not_unfinished() {
    let bench = bench("wan21-t2v");
    bench.generate(&["--keep"]).worked(&[]);
    let first = files(&bench.path("out/film"));
    assert!(run_folder(&bench).join("latents.safetensors").is_file());
    bench.run(&["resume"]).refused(1, &["no unfinished run"]);
    assert!(bench.run(&["doctor"]).stdout.contains("unfinished   none"));
    // Named, it makes its film again.
    fs::remove_dir_all(bench.path("out/film")).expect("a film");
    let name = bench.runs().remove(0);
    bench.run(&["resume", &name]).worked(&[]);
    assert!(files(&bench.path("out/film")) == first);
}

#[test]
fn saved_latents_make_the_same_film_with_the_same_recipe() {
    for (model, arguments) in [("wan21-t2v", &[][..]), ("wan22-ti2v-5b", &["--image", "picture.png", "--fps", "12"])] {
        let bench = bench(model);
        let arguments = [arguments, &["--save-latents", "kept.safetensors", "--keep"]].concat();
        bench.generate(&arguments).worked(&[]);
        let first = files(&bench.path("out/film"));
        assert!(first["recipe.json"].starts_with(b"{\"talkie\""));
        let run = run_folder(&bench).join("latents.safetensors");
        for latents in ["kept.safetensors", &run.to_string_lossy()] {
            bench.run(&["decode", latents, "-m", "model", "-o", "out/again"]).worked(&[]);
            assert!(files(&bench.path("out/again")) == first, "{model}: {latents}");
        }
    }
}

/// A run whose only missing part is the film.
fn decoded_once(bench: &Bench) {
    bench.generate(&["--keep"]).worked(&[]);
    let run = bench.runs().remove(0);
    bench.json(&format!("home/runs/{run}/plan.json"), |plan| plan["request"]["keep"] = false.into());
    fs::remove_file(run_folder(bench).join("finished")).expect("a mark");
    fs::remove_dir_all(bench.path("out/film")).expect("a film");
}

#[test]
fn what_is_not_a_runs_own_is_never_removed() {
    let bench = bench("wan21-t2v");
    decoded_once(&bench);
    let moved = bench.path("elsewhere");
    fs::rename(run_folder(&bench), &moved).expect("a move");
    fs::write(moved.join("notes.txt"), "mine").expect("notes");
    fs::create_dir(moved.join("films")).expect("a folder");
    fs::write(moved.join(".plan.json.part-4000000-0"), "half").expect("a part");
    bench.run(&["resume", "elsewhere"]).worked(&[]);
    assert_eq!(names(&moved), ["films", "notes.txt"]);
    assert!(bench.path("out/film/frame-00000.png").is_file());
}

#[test]
fn a_plan_of_another_program_is_left_alone() {
    let bench = bench("wan21-t2v");
    let project = bench.path("project");
    fs::create_dir(&project).expect("a folder");
    fs::write(project.join("plan.json"), r#"{"terraform_version": "1.9"}"#).expect("a plan");
    let before = files(&project);
    bench.run(&["resume", "project"]).refused(1, &["plan of the run is damaged or of another version"]);
    assert!(files(&project) == before);
}

#[test]
fn a_model_that_was_changed_is_mentioned() {
    let bench = bench("wan21-t2v");
    decoded_once(&bench);
    // Written again without the words that the original has besides its tensors, the file is shorter.
    bench.poison("model/vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias", 0.5);
    let done = bench.run(&["resume"]);
    done.worked(&["the model's files have changed since the run began"]);
}

#[test]
fn a_film_that_came_meanwhile_is_not_replaced() {
    let bench = bench("wan21-t2v");
    decoded_once(&bench);
    let film = bench.path("out/film");
    fs::create_dir(&film).expect("a folder");
    fs::write(film.join("frame-00000.png"), "another film").expect("a frame");
    bench.run(&["resume"]).worked(&["another film has come under that name", "film-2"]);
    assert_eq!(names(&film), ["frame-00000.png"]);
    assert_eq!(names(&bench.path("out")), ["film", "film-2"]);
    assert_eq!(files(&bench.path("out/film-2")).len(), 5 + 1);

    // One that was there when the film was asked for is: that is what was asked.
    bench.generate(&[]).worked(&["is there already, and is replaced when the new film is whole"]);
    assert_eq!(files(&film).len(), 5 + 1);
    assert_eq!(names(&bench.path("out")), ["film", "film-2"]);
}

#[test]
#[cfg(unix)]
fn the_part_of_a_living_process_stays_and_that_of_a_dead_one_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let film = folder.path().join("film.mp4");
    let living = AtomicFile::file(&film).expect("a part");
    let dead = [".film.mp4.part-4000000-0", ".film.mp4.part-1-7"];
    dead.iter().for_each(|name| fs::write(folder.path().join(name), "half").expect("a part"));
    let frames = folder.path().join(".film.mp4.part-3-0");
    fs::create_dir(&frames).expect("a folder");
    fs::write(frames.join("frame-00000.png"), "half").expect("a frame");
    // A link's file is anybody's.
    fs::write(folder.path().join("precious"), "mine").expect("a file");
    std::os::unix::fs::symlink("precious", folder.path().join(".film.mp4.part-2-0")).expect("a link");

    let second = AtomicFile::file(&film).expect("a part");
    assert_ne!(living.path(), second.path());
    let name = |part: &AtomicFile| part.path().file_name().expect("a name").to_string_lossy().into_owned();
    let mut expected = vec![".film.mp4.part-2-0".to_owned(), name(&living), name(&second), "precious".to_owned()];
    expected.sort();
    assert_eq!(names(folder.path()), expected);
    drop((living, second));
    assert_eq!(names(folder.path()), [".film.mp4.part-2-0", "precious"]);
}
