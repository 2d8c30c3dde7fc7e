//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a while.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// What is fuzzed when nothing is named.
const TARGETS: [&str; 7] = [
    "pem_reader",
    "chain_verifier",
    "issuer_answer",
    "archive_reader",
    "pipeline_yaml",
    "trace_reader",
    "protocol_reader",
];

/// How long a target runs unless told otherwise (issue 4, "Shows" 6).
const SECONDS: u32 = 600;

/// Installed when it is not there.
const CARGO_FUZZ: &str = "0.13.2";

/// Runs targets one after the other; the first finding ends it, with the input in `fuzz/artifacts`.
pub(crate) fn fuzz(root: &Path, arguments: &[String]) -> Result<()> {
    let mut seconds = SECONDS;
    let mut targets = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().context("--seconds needs a number")?;
            seconds = number.parse().with_context(|| number.clone())?;
        } else if let Some(target) = TARGETS.iter().find(|target| *target == word) {
            targets.push(*target);
        } else {
            bail!("no target {word:?}; there are {}", TARGETS.join(", "));
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    install()?;
    for target in targets {
        let corpus = root.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("create {}", corpus.display()))?;
        let mut command = Command::new("cargo");
        // libdeflate compiles one table into two of its objects, which is no fault of anybody's.
        command.env("ASAN_OPTIONS", "detect_odr_violation=0");
        command
            .args(["+nightly", "fuzz", "run", target])
            .arg(corpus);
        let seeds = root.join("fuzz/seeds").join(target);
        if seeds.exists() {
            command.arg(seeds);
        }
        command
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            // The clock of one input, in seconds: far above 50 ms, since sanitizers slow everything.
            .args(["-timeout=5", "-max_len=16384", "-print_final_stats=1"]);
        run(&mut command)?;
    }
    Ok(())
}

fn install() -> Result<()> {
    let works = |arguments: &[&str]| {
        Command::new("cargo")
            .args(arguments)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !works(&["+nightly", "--version"]) {
        bail!("fuzzing needs a nightly compiler: `rustup toolchain install nightly`");
    }
    if works(&["fuzz", "--version"]) {
        return Ok(());
    }
    println!("cargo-fuzz is not installed; building version {CARGO_FUZZ}");
    let install = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ];
    run(Command::new("cargo").args(install))
}
