//! Writes the files that fuzzing begins with: `cargo run --release --bin seeds [FOLDER]`, `corpus` where none
//! is named.

use std::fs;
use std::path::PathBuf;

use talkie_fuzz::seeds::TARGETS;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    for target in &TARGETS {
        let folder = root.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
