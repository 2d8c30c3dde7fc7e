//! One job that prints a gigabyte: speed to the final acknowledgement, CPU and memory of the runner.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::arguments::Arguments;
use crate::cost::{Watched, own_cpu};
use crate::figure::{Figure, Goal, median, side_by_side};
use crate::gitlab::GitLab;
use crate::memory::{cpu_of, peak_resident};
use crate::world::World;

const PRINTED: usize = 1 << 30;
/// Line end included.
const LINE: usize = 100;
const MASKED: usize = 60;
const RUNS: usize = 3;

/// One job's way.
struct Run {
    megabytes_a_second: f64,
    cpu: f64,
    peak: u64,
    server_cpu: f64,
}

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let own = rows(&arguments.courser)?;
    let peer = arguments.gitlab_runner.as_deref().map(rows).transpose()?;
    let goals = [
        Some(Goal::AtLeast(250.0)),
        Some(Goal::AtMost(3600.0)),
        Some(Goal::AtMost(67.1)),
        None,
    ];
    Ok(side_by_side(own, peer, goals))
}

fn rows(runner: &Path) -> Result<Vec<Figure>> {
    let runs: Vec<Run> = (0..RUNS).map(|_| run(runner)).collect::<Result<_>>()?;
    let middle = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let title = |what: &str| format!("a job that prints 1 GiB: {what}");
    Ok(vec![
        Figure::new(title("speed"), "MB/s", middle(|run| run.megabytes_a_second)),
        Figure::milliseconds(title("CPU of the runner"), middle(|run| run.cpu)),
        Figure::megabytes(
            title("peak of the runner"),
            middle(|run| run.peak as f64) as u64,
        ),
        Figure::milliseconds(
            title("CPU of our GitLab side"),
            middle(|run| run.server_cpu),
        ),
    ])
}

fn run(runner: &Path) -> Result<Run> {
    let world = World::new()?;
    let masked: Vec<String> = (0..MASKED).map(secret).collect();
    let text = text(&masked);
    let times = PRINTED / text.len();
    let file = world.write("text", text)?;
    let file = file.display().to_string();
    let script = format!("cat {}", vec!["$TEXT"; times].join(" "));
    let gitlab = GitLab::with_masked(1, &format!("TEXT={file}\n{script}"), &masked);
    let config =
        gitlab.configure_with(&world, 1, "executor = \"shell\"\noutput_limit = 4194304")?;
    let server_before = own_cpu()?;
    let mut command = world.command(runner);
    command.args(["run", "--config", &config]);
    let watched = Watched::start(&world, &command)?;
    let progress = gitlab.wait_until("the end of the job", |progress| progress.succeeded == 1)?;
    let (cpu, peak) = (cpu_of(watched.pid())?, peak_resident(watched.pid())?);
    let server_cpu = own_cpu()? - server_before;
    watched.signal(Signal::SIGQUIT)?;
    watched.finish()?;
    let (bytes, sum) = progress.log;
    ensure!(
        progress.log == progress.told && bytes > PRINTED as u64,
        "{bytes} bytes arrived with checksum {sum:08x}, the runner told {:?}",
        progress.told
    );
    let (first, last) = progress.first.zip(progress.last).context("no job ran")?;
    Ok(Run {
        megabytes_a_second: PRINTED as f64 / 1e6 / last.duration_since(first).as_secs_f64(),
        cpu,
        peak,
        server_cpu,
    })
}

/// A mebibyte of lines as a compiler prints them; one in a hundred holds a secret.
fn text(masked: &[String]) -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0.. {
        let secret = (number % 100 == 99).then(|| masked[number / 100 % masked.len()].as_str());
        let mut line = format!(
            "[{number:05}/10485] {} src/module_{}/part{}.rs?line={} {} ",
            ["Compiling", "Checking", "Linking", "Documenting"][number % 4],
            number * 7919 % 613,
            number * 31 % 97,
            number * 17 % 4999,
            secret.unwrap_or("warning: unused import of std::collections"),
        );
        line.truncate(LINE - 1);
        let line = format!("{line:.<width$}\n", width = LINE - 1);
        if text.len() + line.len() > 1 << 20 {
            break;
        }
        text.extend_from_slice(line.as_bytes());
    }
    // The rest of the mebibyte is a shorter line.
    let rest = (1 << 20) - text.len();
    text.extend(std::iter::repeat_n(b'.', rest.saturating_sub(1)));
    text.push(b'\n');
    text
}

/// As tokens look: 20 letters and digits, none like another.
fn secret(number: usize) -> String {
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[(state % letters.len() as u64) as usize])
    };
    (0..20).map(letter).collect()
}
