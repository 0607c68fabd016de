//! The library as a program uses it: frames in memory, events, a stop from the callback.

use std::ops::ControlFlow;
use std::sync::Barrier;

use talkie::error::Kind;
use talkie::pipeline::run::{self, Run};
use talkie::progress::{Stage, quiet};
use talkie::{Event, Request, Session, media};

use crate::support::{choice, machine, session};

fn request() -> Request {
    Request {
        prompt: "a red fox walks".into(),
        size: Some("48x32".parse().expect("a size")),
        frames: Some(9),
        steps: Some(6),
        seed: Some(1),
        ..Request::default()
    }
}

fn pixels(film: &talkie::Film) -> Vec<&[u8]> {
    film.frames.iter().map(|frame| frame.data.as_slice()).collect()
}

#[test]
fn frames_in_memory_are_those_of_the_files() {
    let home = tempfile::tempdir().expect("a folder");
    {
        let folder = tempfile::tempdir().expect("a folder");
        let session = session(&choice("wan21-t2v"), home.path());
        let film = session.generate(&request(), &mut quiet).expect("a film");
        assert_eq!((film.count, film.frames.len(), film.path.as_ref()), (9, 9, None));
        assert!((film.seconds - 9.0 / 16.0).abs() < 1e-9);

        let out = folder.path().join("film");
        let written =
            session.generate(&Request { output: Some(out.clone()), ..request() }, &mut quiet).expect("a film");
        assert_eq!((written.count, written.frames.len(), written.path.as_ref()), (9, 0, Some(&out)));
        for (index, frame) in film.frames.iter().enumerate() {
            let file = media::read_image(&out.join(format!("frame-{index:05}.png"))).expect("a frame");
            assert!(file == *frame, "frame {index}");
        }
        assert!(run::unfinished(home.path()).is_empty());
    }
}

#[test]
fn events_tell_every_stage_to_its_end() {
    let home = tempfile::tempdir().expect("a folder");
    {
        let mut events = Vec::new();
        let mut on_event = |event: &Event| {
            events.push(event.clone());
            ControlFlow::Continue(())
        };
        let request = Request { preview: true, ..request() };
        let session = session(&choice("wan21-t2v"), home.path());
        session.generate(&request, &mut on_event).expect("a film");

        assert!(matches!(&events[0], Event::Run { name } if name.ends_with("-1")), "{:?}", events[0]);
        let begun = events.iter().filter_map(|event| match event {
            Event::Begin { stage, total } => Some((*stage, *total)),
            _ => None,
        });
        assert_eq!(begun.map(|(stage, _)| stage).collect::<Vec<_>>(), [Stage::Text, Stage::Denoise, Stage::Decode]);
        for (stage, units) in [(Stage::Denoise, 6), (Stage::Decode, 9)] {
            let done = events.iter().filter_map(|event| match event {
                Event::Advance { stage: of, done, total } if *of == stage => Some((*done, *total)),
                _ => None,
            });
            let done: Vec<_> = done.collect();
            assert!(done.is_sorted() && done.last() == Some(&(units, units)), "{stage:?}: {done:?}");
            let ended = |event: &Event| matches!(event, Event::End { stage: of, .. } if *of == stage);
            assert_eq!(events.iter().filter(|event| ended(event)).count(), 1, "{stage:?}");
        }
        let steps = events.iter().filter_map(|event| match event {
            Event::Preview { step, width, height, rgb } => {
                assert_eq!((*width, *height, rgb.len()), (48, 32, 48 * 32 * 3));
                Some(*step)
            }
            _ => None,
        });
        assert_eq!(steps.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }
}

/// Where a callback says stop.
type Stop = (&'static str, fn(&Event) -> bool);

#[test]
fn a_stop_in_any_stage_is_resumed_to_the_same_film() {
    let home = tempfile::tempdir().expect("a folder");
    {
        let session = session(&choice("wan21-t2v"), home.path());
        let whole = session.generate(&request(), &mut quiet).expect("a film");
        let stops: [Stop; 6] = [
            ("the beginning", |event| matches!(event, Event::Run { .. })),
            ("the text", |event| matches!(event, Event::Begin { stage: Stage::Text, .. })),
            ("no step", |event| matches!(event, Event::Begin { stage: Stage::Denoise, .. })),
            ("step 3", |event| matches!(event, Event::Advance { stage: Stage::Denoise, done: 3, .. })),
            ("the last step", |event| matches!(event, Event::End { stage: Stage::Denoise, .. })),
            ("the first frame", |event| matches!(event, Event::Advance { stage: Stage::Decode, done: 1, .. })),
        ];
        for (place, stop) in stops {
            let mut steps = 0;
            let mut on_event = |event: &Event| {
                steps += u64::from(matches!(event, Event::Advance { stage: Stage::Denoise, done: 1.., .. }));
                if stop(event) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let stopped = session.generate(&request(), &mut on_event).expect_err(place);
            assert_eq!(stopped.kind(), Kind::Stopped, "{place}: {stopped}");
            let name = run::unfinished(home.path()).pop().expect(place);
            let run = Run::open(Some(&name), home.path()).expect(place);
            let busy = Run::open(Some(&name), home.path()).expect_err("one process, but two at work");
            assert!(busy.to_string().contains("at work"), "{place}: {busy}");
            let film = session.resume(run, &mut quiet).expect(place);
            assert!(pixels(&film) == pixels(&whole), "{place}: another film");
            assert!(run::unfinished(home.path()).is_empty(), "{place}");
        }
    }
}

#[test]
fn a_plan_says_what_will_be_without_a_run() {
    let home = tempfile::tempdir().expect("a folder");
    {
        let plan = Session::look(
            &machine(home.path()),
            &choice("wan21-t2v"),
            &Request { size: Some("50x33".parse().expect("a size")), ..request() },
        )
        .expect("a plan");
        assert_eq!((plan.shape.width, plan.shape.height, plan.shape.frames, plan.step_count()), (48, 32, 9, 6));
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
        let json = serde_json::to_string(&plan).expect("JSON");
        let again: talkie::plan::Plan = serde_json::from_str(&json).expect("a plan");
        assert_eq!(again, plan);
        assert!(!home.path().join("runs").exists());
    }
}

/// Nothing that one film leaves in the process reaches another: two at once, of different families, are what each is alone.
#[test]
fn two_films_at_once_are_those_made_alone() {
    let home = tempfile::tempdir().expect("a folder");
    {
        let ltx = Request { size: Some("64x64".parse().expect("a size")), steps: Some(3), ..request() };
        let requests = [
            ("wan21-t2v", request()),
            ("wan21-t2v", Request { seed: Some(2), prompt: "a bird".into(), ..request() }),
            ("ltx2", ltx),
        ];
        let make = |(model, request): &(&str, Request)| {
            session(&choice(model), home.path()).generate(request, &mut quiet).expect("a film")
        };
        let alone = requests.each_ref().map(make);
        assert!(pixels(&alone[0]) != pixels(&alone[1]), "another seed, and the same film");
        for (one, other) in [(0, 1), (0, 2), (2, 2)] {
            let start = Barrier::new(2);
            let film = |index: usize| {
                start.wait();
                make(&requests[index])
            };
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(|| film(other));
                [film(one), other.join().expect("a film")]
            });
            for (made, alone) in both.iter().zip([&alone[one], &alone[other]]) {
                assert!(pixels(made) == pixels(alone), "{one} and {other}: other frames than alone");
                let sound = |film: &talkie::Film| film.waveform.as_ref().map(|sound| sound.channels.clone());
                assert!(sound(made) == sound(alone), "{one} and {other}: another sound than alone");
            }
        }
    }
}
