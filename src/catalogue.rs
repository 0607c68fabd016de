//! The models that can be run, as data: `models/*.toml`, embedded in the program.
