//! The words of the command as golden files: a change of them is seen.

use serde_json::Value;

use crate::support::command::Bench;
use crate::support::golden::{golden, steady};

#[test]
fn every_help_is_as_it_was() {
    let bench = Bench::new("wan21-t2v");
    golden("help", &bench.run(&["--help"]).worked(&[]).stdout);
    for command in ["generate", "decode", "resume", "models", "quantize", "inspect", "bench", "doctor"] {
        golden(&format!("help.{command}"), &bench.run(&[command, "--help"]).worked(&[]).stdout);
    }
}

#[test]
fn every_plan_is_as_it_was() {
    let small = ["--size", "64x64", "--frames", "9", "--steps", "3"];
    for model in ["wan21-t2v", "wan22-a14b", "wan22-i2v-a14b", "wan22-ti2v-5b", "ltx2", "ltx23"] {
        let bench = Bench::new(model);
        let image: &[&str] = if model.contains("i2v") { &["--image", "model/first.png"] } else { &[] };
        let common =
            ["generate", "a red fox walks", "-m", "model", "--seed", "7", "--memory", "20GB", "--device", "cpu"];
        let plan = |more: &[&str]| {
            bench.run(&[&common[..], &small, image, &["--plan"], more].concat()).worked(&[]).stdout.clone()
        };
        golden(&format!("plan.{model}"), &steady(&plan(&[]), &bench.path("")));
        let mut json: Value = serde_json::from_str(&plan(&["--json"])).expect("JSON");
        json["talkie"] = "[version]".into();
        // When a file was written is the machine's business.
        for input in json["inputs"].as_array_mut().into_iter().flatten() {
            input["modified"] = Value::Null;
        }
        let json = serde_json::to_string_pretty(&json).expect("JSON");
        golden(&format!("plan.{model}.json"), &json.replace(&*bench.path("").to_string_lossy(), "[bench]/"));
    }
}

#[test]
fn plans_of_released_models_are_as_they_were() {
    let bench = Bench::new("wan21-t2v");
    for model in ["wan2.1-t2v-1.3b", "wan2.2-t2v-a14b", "ltx-2.3-distilled"] {
        let done = bench.run(&[
            "generate",
            "a red fox walks",
            "-m",
            model,
            "--seed",
            "7",
            "--memory",
            "300GB",
            "--device",
            "cpu",
            "--plan",
        ]);
        golden(&format!("plan.{model}"), &steady(&done.worked(&[]).stdout, &bench.path("")));
    }
}

#[test]
fn the_models_are_as_they_were() {
    let bench = Bench::new("wan21-t2v");
    golden("models", &bench.run(&["models"]).worked(&[]).stdout);
    for model in ["wan2.2-i2v-a14b", "ltx-2.3"] {
        golden(&format!("models.{model}"), &bench.run(&["models", "show", model]).worked(&[]).stdout);
    }
}

/// What is found differs from machine to machine, and with the features of the build: the keys do not.
#[test]
fn the_doctor_reports_the_same_things() {
    let bench = Bench::new("wan21-t2v");
    let report: Value = serde_json::from_str(&bench.run(&["doctor", "--json"]).worked(&[]).stdout).expect("JSON");
    let kind = |value: &Value| match value {
        Value::Array(_) => "list",
        Value::Number(_) => "number",
        _ => "text",
    };
    let keys = report.as_object().expect("an object").iter().map(|(key, value)| format!("{key}: {}", kind(value)));
    golden("doctor", &keys.collect::<Vec<_>>().join("\n"));
}

/// Events, without times and without how often reading is reported, which depend on the machine.
#[test]
fn the_events_of_a_film_are_as_they_were() {
    for model in ["wan21-t2v", "ltx2"] {
        let bench = Bench::new(model);
        let done = bench.generate(&["--json", "--size", "64x64", "-o", "out/film/"]);
        let events = done.worked(&[]).stdout.lines().map(|line| {
            let mut event: Value = serde_json::from_str(line).expect("an event");
            if let Some(seconds) =
                event.get_mut("seconds").filter(|_| line.contains("\"end\"") || line.contains("\"spent\""))
            {
                *seconds = "[seconds]".into();
            }
            event.to_string()
        });
        let events: Vec<String> = events.filter(|event| !event.contains("\"file\"")).collect();
        golden(&format!("events.{model}"), &steady(&events.join("\n"), &bench.path("")));
    }
}
