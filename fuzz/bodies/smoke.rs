//! A short run of a target's body in the ordinary tests: its seeds, and what becomes of them under a generator that does
//! the same every time. Finds what is plainly broken; `cargo xtask fuzz` looks for the rest.

use std::path::Path;

/// Changed inputs made of each seed.
const CHANGES: usize = 200;

/// Runs `check` on the seeds of a target, on changes of them, and on bytes of no kind.
pub(crate) fn run(seeds: &Path, check: impl Fn(&[u8])) {
    let mut inputs: Vec<Vec<u8>> = std::fs::read_dir(seeds)
        .unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        .map(|seed| std::fs::read(seed.expect("a seed").path()).expect("a file"))
        .collect();
    // Whatever order the directory has.
    inputs.sort();
    assert!(!inputs.is_empty(), "a target has seeds");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let random: Vec<u8> = (0..2048).map(|_| numbers.below(256) as u8).collect();
    inputs.push(random);
    for input in &inputs {
        check(input);
        for _ in 0..CHANGES {
            let other = &inputs[numbers.below(inputs.len())];
            check(&changed(input, other, &mut numbers));
        }
    }
}

/// One to three changes: a byte, a cut, a piece doubled, a piece of another seed.
fn changed(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len() + 1);
        let length = numbers.below(64);
        match numbers.below(4) {
            0 if at < bytes.len() => bytes[at] = numbers.below(256) as u8,
            1 => {
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let end = (at + length).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = numbers.below(other.len() + 1);
                let end = (from + length).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    bytes
}

/// xorshift64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
