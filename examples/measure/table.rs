//! The table: one row a figure, one column a set of films.

use crate::score::Score;
use crate::track::median;

/// What a row shows of the scores of a column: a figure with its unit, or none where nothing was asked.
type Figure = fn(&[Score]) -> Option<String>;

const ROWS: [(&str, Figure); 15] = [
    ("colours that are named", |scores| share(scores.iter().map(|score| score.colours))),
    ("shapes that are named", |scores| share(scores.iter().map(|score| score.shapes))),
    ("number of things", |scores| share(scores.iter().map(|score| score.number))),
    ("colours, shapes and number together", |scores| share(scores.iter().map(|score| score.all))),
    ("sizes, where they are named", |scores| share(scores.iter().filter_map(|score| score.sizes))),
    ("side of the wall, and the way there", |scores| share(scores.iter().filter_map(|score| score.side))),
    ("event", |scores| share(scores.iter().map(|score| score.event))),
    ("things in every frame, without a leap", |scores| share(scores.iter().map(|score| score.lasts))),
    ("contacts seen that are heard", |scores| share(scores.iter().flat_map(|score| score.heard.clone()))),
    ("onsets heard that are seen", |scores| share(scores.iter().flat_map(|score| score.shown.clone()))),
    ("films with a contact seen and heard", |scores| share(scores.iter().map(|score| !score.lags.is_empty()))),
    ("median absolute lag", |scores| lag(scores, f64::abs)),
    ("median lag (sound late: above 0)", |scores| lag(scores, |lag| lag)),
    ("material of floor or wall, by ear", |scores| share(scores.iter().filter_map(|score| score.material))),
    ("glassy click of a collision, by ear", |scores| share(scores.iter().filter_map(|score| score.click))),
];

/// The table of named columns, aligned.
pub(crate) fn table(columns: &[(&str, Vec<Score>)]) -> String {
    let mut lines =
        vec![std::iter::once(String::new()).chain(columns.iter().map(|column| column.0.to_owned())).collect()];
    let counts = columns.iter().map(|column| column.1.len().to_string());
    lines.push(std::iter::once("films".to_owned()).chain(counts).collect::<Vec<_>>());
    for (name, figure) in ROWS {
        let cells = columns.iter().map(|column| figure(&column.1).unwrap_or_else(|| "–".into()));
        lines.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    let wide = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=columns.len()).map(wide).collect();
    let cell = |(at, text): (usize, &String)| match at {
        0 => format!("{text:<0$}", widths[0]),
        _ => format!("  {text:>0$}", widths[at]),
    };
    lines.iter().map(|line| line.iter().enumerate().map(cell).collect::<String>() + "\n").collect()
}

fn share(values: impl Iterator<Item = bool>) -> Option<String> {
    let values: Vec<bool> = values.collect();
    let yes = values.iter().filter(|value| **value).count();
    (!values.is_empty()).then(|| format!("{:.1} %", 100.0 * yes as f64 / values.len() as f64))
}

fn lag(scores: &[Score], of: fn(f64) -> f64) -> Option<String> {
    let lags: Vec<f64> = scores.iter().flat_map(|score| &score.lags).map(|&lag| of(lag)).collect();
    (!lags.is_empty()).then(|| format!("{:.0} ms", 1000.0 * median(lags)))
}
