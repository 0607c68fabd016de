//! Rates as exact fractions.

use proptest::prelude::*;
use talkie::fps::Fps;

fn parts(text: &str) -> Option<(u32, u32)> {
    text.parse::<Fps>().ok().map(|fps| (fps.numerator(), fps.denominator()))
}

#[test]
fn rates_are_read_exactly() {
    let table = [
        ("16", 16, 1),
        ("24", 24, 1),
        (" 25 ", 25, 1),
        ("1", 1, 1),
        ("240", 240, 1),
        ("12.5", 25, 2),
        ("24.0", 24, 1),
        ("29.97", 30000, 1001),
        ("23.976", 24000, 1001),
        ("23.98", 24000, 1001),
        ("59.94", 60000, 1001),
        ("119.88", 120_000, 1001),
        ("30000/1001", 30000, 1001),
        ("48/2", 24, 1),
    ];
    for (text, numerator, denominator) in table {
        assert_eq!(parts(text), Some((numerator, denominator)), "{text}");
    }
}

#[test]
fn absurd_rates_are_refused() {
    let texts =
        ["", "0", "-16", "+16", "241", "0.5", "1/2", "24/0", "0/0", "abc", "1e2", "nan", "inf", "16fps", "24/", "."];
    for text in texts.into_iter().chain(["99999999999999999999", "4294967296/4294967295", "24.0000001", "24 /1"]) {
        let error = text.parse::<Fps>().expect_err(text);
        assert_eq!(error.kind(), talkie::error::Kind::Usage);
        assert!(
            error.report().contains(&format!("`{}`", text.trim())) && error.report().contains("240"),
            "{}",
            error.report()
        );
    }
    assert!(Fps::new(24, 0).is_err() && Fps::new(0, 1).is_err() && Fps::new(u32::MAX, 1).is_err());
}

#[test]
fn rates_go_through_json_and_back() {
    for (text, json) in [("16", "16"), ("29.97", "\"30000/1001\"")] {
        let fps: Fps = text.parse().expect("a rate");
        assert_eq!(serde_json::to_string(&fps).expect("json"), json);
        assert_eq!(serde_json::from_str::<Fps>(json).expect("a rate"), fps);
    }
    assert_eq!(serde_json::from_str::<Fps>("23.976").expect("a rate").numerator(), 24000);
    for json in ["-1", "0", "1e9", "null", "[16]", "\"x\""] {
        assert!(serde_json::from_str::<Fps>(json).is_err(), "{json}");
    }
}

#[test]
fn lengths_are_exact() {
    let fps: Fps = "16".parse().expect("a rate");
    assert_eq!((fps.seconds(33), fps.as_f64()), (2.0625, 16.0));
    assert_eq!(Fps::new(30000, 1001).expect("a rate").seconds(30000), 1001.0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9./eE+ -]{0,24}|.{0,12}") {
        if let Ok(fps) = text.parse::<Fps>() {
            prop_assert!((1.0..=240.0).contains(&fps.as_f64()));
            prop_assert_eq!(fps.to_string().parse::<Fps>().ok(), Some(fps));
        }
    }
}
