//! The fuzz targets on whole and on damaged files, in a moment. `fuzz/README.md` says how they are fuzzed for
//! longer.

#[path = "../../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use seeds::TARGETS;

/// Where libFuzzer would take a panic that is caught for a crash, its package says nothing of it. Here nobody listens.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Damaged files of each target, at most. What reads a whole model gets as many as fit into a moment.
const MOST: usize = 60;
const MOMENT: std::time::Duration = std::time::Duration::from_millis(60);

/// Numbers that are the same in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// Up to four bytes or runs of bytes replaced, doubled or left out.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let begin = self.below(bytes.len());
            let end = (begin + 1 + self.below(16)).min(bytes.len());
            match self.below(5) {
                0 => bytes[begin..end].fill([0, 0xff, b'9', b'"'][self.below(4)]),
                1 => drop(bytes.drain(begin..end)),
                2 => drop(bytes.splice(begin..begin, bytes[begin..end].to_vec())),
                3 if self.below(8) == 0 => bytes.truncate(begin),
                _ => bytes[begin..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
            }
        }
    }
}

#[test]
fn every_fuzz_target_survives_whole_and_damaged_files() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty() || target.name == "film" && !cfg!(feature = "ffmpeg"), "{}", target.name);
        (target.run)(&[]);
        seeds.iter().for_each(|seed| (target.run)(seed));
        let begin = std::time::Instant::now();
        for seed in seeds.iter().cycle().take(MOST) {
            let mut damaged = seed.clone();
            numbers.damage(&mut damaged);
            (target.run)(&damaged);
            if begin.elapsed() > MOMENT {
                break;
            }
        }
    }
}

#[test]
fn every_fuzz_target_has_its_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(folder).expect("the targets").flatten();
    let mut found: Vec<String> =
        entries.filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned())).collect();
    let mut wanted = TARGETS.map(|target| target.name.to_owned()).to_vec();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
