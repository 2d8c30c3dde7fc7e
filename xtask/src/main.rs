//! Everything one can do with this workspace: `cargo xtask`.
//!
//! CI calls the same recipes as a developer. Each recipe is one function that reads top to bottom.
#![expect(clippy::print_stdout, reason = "a task runner talks to the terminal")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

mod docker;
mod fuzz;
mod generated;
mod helper_image;
mod picture;
mod platforms;
mod servers;

const USAGE: &str = "\
cargo xtask <task>

  test [ARGS]     all tests: unit, property, integration and through the binary; ARGS go to `cargo test`;
                  --without-docker (first) leaves out those that need a Docker Engine
  test-servers    installs what tests run beside Courser (tests/servers/); `test` does it first
  docker-up       starts the tests' Docker Engine and leaves it running, for single tests by `cargo test`
  docker-down     ends it and removes its images
  lint            rustfmt, clippy without warnings, cargo-deny, rustdoc without warnings, generated pages fresh
  dist            the static binary that is shipped, in dist/, with its size, and the helper image beside it
  helper-image    the root file system of helper containers, in target/helper-images/, out of Debian packages
  bench [ARGS]    ratios against the peers in the same run (benches/README.md); ARGS choose benchmarks
  go-verdicts     asks Go's crypto/x509 about the odd chains of testkit again and writes its answers;
                  with --new-chains the chains are made anew first (after a case was added)
  fuzz [TARGETS]  hostile bytes for the readers and the verifier of certificates (fuzz/), ten minutes each
                  or --seconds N; needs a nightly compiler
  check-platforms [TARGETS]
                  type-checks for macOS and Windows; installs Debian's compiler (500 MB)
  drill           long fault runs: a thousand kills and cut connections over 200 jobs of runner and coordinator,
                  property tests with many cases, kill -9 of whole pipelines; 200 jobs in containers whose runner is killed at random
  docs            rustdoc, and what is generated under docs/: commands.md, the picture of a run
";

/// What `lint` may install: the guard of the dependency set.
const CARGO_DENY: &str = "0.20.2";

/// Jobs of a runner and a coordinator that are killed and cut off, each about six times (issue 5, "Shows").
const DRILLED_JOBS: &str = "200";

/// Upper bound for the binary that is shipped (issue 3, "Speed and size").
const BINARY_LIMIT_MIB: u64 = 25;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match task.as_str() {
        "test" => test(&rest),
        "test-servers" => servers::install(&root(), true),
        "docker-up" => docker_up(),
        "docker-down" => docker::down(&root()),
        "lint" => lint(),
        "dist" => dist(),
        "helper-image" => helper_image::make(&root(), true).map(drop),
        "bench" => bench(&rest),
        "fuzz" => fuzz::fuzz(&root(), &rest),
        "go-verdicts" => go_verdicts(&rest),
        "check-platforms" => platforms::check(&root(), &rest),
        "drill" => drill(),
        "docs" => docs(),
        _ => {
            print!("{USAGE}");
            return if task.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(64)
            };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[String]) -> Result<()> {
    let (arguments, with_docker) = match arguments.split_first() {
        Some((first, rest)) if first == "--without-docker" => (rest, false),
        _ => (arguments, true),
    };
    // On a fresh machine both take minutes, and the one waits for the network while the other compiles.
    let engine = std::thread::scope(|scope| {
        let preparing = scope.spawn(|| {
            servers::install(&root(), with_docker)?;
            with_docker.then(use_docker).transpose()
        });
        let of_cargo = arguments.split(|argument| argument == "--").next();
        let built = cargo(
            ["test", "--workspace", "--no-run"],
            of_cargo.unwrap_or_default(),
        );
        let prepared = preparing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        prepared.and_then(|engine| built.map(|()| engine))
    })?;
    if with_docker {
        helper_image::lay_beside_programs(&root())?;
    }
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace"]).args(arguments);
    if engine.is_none() {
        if !arguments.iter().any(|argument| argument == "--") {
            tests.arg("--");
        }
        tests.args(["--skip", docker::TESTS]);
    }
    run(&mut tests)
}

/// What tests with containers need, for one test run.
fn use_docker() -> Result<docker::InUse> {
    helper_image::make(&root(), false)?;
    docker::use_for_tests(&root())
}

/// The same, for single tests by `cargo test` until `docker-down`.
fn docker_up() -> Result<()> {
    servers::install(&root(), true)?;
    helper_image::make(&root(), false)?;
    helper_image::lay_beside_programs(&root())?;
    docker::up(&root())
}

fn lint() -> Result<()> {
    cargo(["fmt", "--all", "--check"], &[])?;
    cargo(
        [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    install_cargo_deny()?;
    // The advisory database lives on a host that build machines may not reach; `advisories` is a job of its own there.
    cargo(
        [
            "deny",
            "--all-features",
            "check",
            "bans",
            "licenses",
            "sources",
        ],
        &[],
    )?;
    run(Command::new("cargo")
        .args([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    generated::check(&root(), &build_binary("dev")?)
}

fn dist() -> Result<()> {
    let binary = build_binary("dist")?;
    let target = root().join("dist").join("courser");
    std::fs::create_dir_all(root().join("dist")).context("create dist/")?;
    std::fs::copy(&binary, &target).with_context(|| format!("copy {}", binary.display()))?;
    let bytes = std::fs::metadata(&target)
        .context("size of dist/courser")?
        .len();
    let image = helper_image::make(&root(), true)?;
    let images = root().join("dist").join(helper_image::DIRECTORY);
    std::fs::create_dir_all(&images).with_context(|| images.display().to_string())?;
    let name = image.file_name().context("a file has a name")?;
    std::fs::copy(&image, images.join(name)).with_context(|| image.display().to_string())?;
    println!(
        "{}: {:.1} MiB",
        target.display(),
        bytes as f64 / 1_048_576.0
    );
    if bytes > BINARY_LIMIT_MIB * 1_048_576 {
        bail!("the binary is larger than {BINARY_LIMIT_MIB} MiB");
    }
    Ok(())
}

fn bench(arguments: &[String]) -> Result<()> {
    // What is shipped is what is measured.
    dist()?;
    run(Command::new("cargo")
        .args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "courser-benches",
            "--",
        ])
        .arg(root().join("dist").join("courser"))
        .args(arguments))
}

/// Questions and answers of `crates/trust/tests/go_verdicts.rs`.
fn go_verdicts(arguments: &[String]) -> Result<()> {
    let directory = root().join("crates/testkit/go-verdicts");
    let chains = directory.join("chains.jsonl.gz");
    match arguments {
        [] => {}
        [option] if option == "--new-chains" => {
            let mut maker = Command::new("cargo");
            maker.args(["run", "--quiet", "--package", "courser-testkit"]);
            let text = output(maker.args(["--example", "odd_chains"]), &[])?;
            let packed = output(Command::new("gzip").args(["-9", "--no-name"]), &text)?;
            std::fs::write(&chains, packed)
                .with_context(|| format!("write {}", chains.display()))?;
        }
        _ => bail!("unknown: {arguments:?}"),
    }
    let text = output(Command::new("gzip").args(["-dc"]).arg(&chains), &[])?;
    let mut go = Command::new("go");
    let answers = output(go.args(["run", "."]).current_dir(&directory), &text)
        .context("Go is needed, with its `go` in PATH")?;
    let count = answers.iter().filter(|&&byte| byte == b'\n').count();
    let target = directory.join("answers.jsonl");
    std::fs::write(&target, answers).with_context(|| format!("write {}", target.display()))?;
    println!("{}: {count} answers", target.display());
    Ok(())
}

/// What a command prints when it is given this input.
fn output(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let mut stdin = child.stdin.take().context("a pipe to the command")?;
    let output = std::thread::scope(|scope| {
        // A command that ends early says why itself.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output()
    })
    .with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    Ok(output.stdout)
}

fn drill() -> Result<()> {
    helper_image::make(&root(), false)?;
    helper_image::lay_beside_programs(&root())?;
    let _engine = docker::use_for_tests(&root())?;
    let of_runner = [
        "test",
        "--release",
        "--package",
        "courser-cli",
        "--test",
        "binary",
    ];
    run(Command::new("cargo")
        .args(of_runner)
        .args(["drill::", "--", "--nocapture"])
        .env("COURSER_DRILL_JOBS", DRILLED_JOBS))?;
    run(Command::new("cargo")
        .args(["test", "--workspace", "--release"])
        .env("PROPTEST_CASES", "20000"))?;
    kill_pipelines(&build_binary("release")?)
}

/// Kills whole pipelines with SIGKILL at other moments each time, in one state directory: the next run
/// must pass whatever the ones before left behind.
fn kill_pipelines(binary: &Path) -> Result<()> {
    let state = std::env::temp_dir().join(format!("courser-drill-{}", std::process::id()));
    let exec = || {
        let mut command = Command::new(binary);
        command
            .args(["exec", "examples/matrix"])
            .current_dir(root())
            .env("XDG_STATE_HOME", &state)
            .stdout(Stdio::null());
        command
    };
    for round in 0..40 {
        let mut child = exec().spawn().context("start courser exec")?;
        std::thread::sleep(std::time::Duration::from_millis(15 * round));
        child.kill().context("kill courser exec")?;
        child.wait().context("wait for courser exec")?;
        let passed = exec().status().context("start courser exec")?;
        if !passed.success() {
            bail!("round {round}: the run after a killed one ended with {passed}");
        }
    }
    std::fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
    println!("40 pipelines killed, 40 runs after them passed");
    Ok(())
}

fn docs() -> Result<()> {
    generated::write(&root(), &build_binary("dev")?)?;
    cargo(["doc", "--workspace", "--no-deps"], &[])
}

/// Builds `courser` in a profile and tells where it lies.
fn build_binary(profile: &str) -> Result<PathBuf> {
    let output = Command::new("cargo")
        .args([
            "build",
            "--package",
            "courser-cli",
            "--bin",
            "courser",
            "--profile",
            profile,
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo build")?;
    if !output.status.success() {
        bail!("cargo build --profile {profile} failed");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\""))
        .filter_map(|(_, rest)| rest.split_once('"'))
        .map(|(path, _)| PathBuf::from(path))
        .next_back()
        .context("cargo named no executable")
}

fn install_cargo_deny() -> Result<()> {
    let present = Command::new("cargo")
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if present {
        return Ok(());
    }
    println!("cargo-deny is not installed; building version {CARGO_DENY}");
    cargo(
        ["install", "cargo-deny", "--locked", "--version", CARGO_DENY],
        &[],
    )
}

fn cargo<const N: usize>(arguments: [&str; N], rest: &[String]) -> Result<()> {
    run(Command::new("cargo").args(arguments).args(rest))
}

fn run(command: &mut Command) -> Result<()> {
    println!("+ {command:?}");
    let status = command
        .current_dir(root())
        .status()
        .with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
