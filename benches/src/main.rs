//! Measurements of whole processes, beside the peers: `courser-benches <courser> [NAMES…]`.
//!
//! In: the program under test, the benchmarks wanted. Out: a Markdown table (or JSON) of figures with
//! their goals and, where a peer can run here, its figure in the same run and the ratio.
//! Every run of a program gets a [`world::World`] of its own: empty home, cleared environment.
//!
//! Each benchmark is a module with `pub(crate) fn figures(&Bench) -> Result<Vec<Figure>>`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod archives;
mod arguments;
mod cost;
mod docker;
mod exec;
mod figure;
mod gitlab;
mod listing;
mod memory;
mod peers;
mod resident;
mod secrets;
mod size;
mod start;
mod throughput;
mod trace;
mod trust;
mod world;

use std::process::ExitCode;

use anyhow::{Context, Result};

use arguments::{Arguments, Invocation};
use figure::Figure;

/// A benchmark by name.
type Benchmark = (&'static str, fn(&Arguments) -> Result<Vec<Figure>>);

/// All of them, in the order of the table.
const BENCHMARKS: [Benchmark; 12] = [
    ("exec", exec::figures),
    ("listing", listing::figures),
    ("throughput", throughput::figures),
    ("idle", resident::idle),
    ("sleeping", resident::sleeping),
    ("start", start::figures),
    ("size", size::figures),
    ("trust", trust::figures),
    ("trace", trace::figures),
    ("archives", archives::figures),
    ("docker", docker::figures),
    ("secrets", secrets::figures),
];

fn main() -> ExitCode {
    let done = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Measure(arguments)) => measure(&arguments),
        Ok(Invocation::Watch(command)) => cost::watch(&command),
        Err(error) => {
            eprintln!("{error:#}\n\n{}", arguments::USAGE);
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("courser-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let mut figures = Vec::new();
    for (name, benchmark) in BENCHMARKS {
        if arguments.wants(name) {
            eprintln!("{name} …");
            figures.extend(benchmark(arguments).with_context(|| name.to_owned())?);
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print!("{}", figure::table(&figures));
    }
    Ok(())
}
