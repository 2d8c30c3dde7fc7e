//! What tests run beside Courser: servers, proxies and clients that others wrote.
//!
//! `tests/servers/` lists what is needed, by where it comes from. Debian packages go into the system,
//! the rest into `target/test-servers/`. What is there already is found in milliseconds and left alone.
//! Nothing here starts anything; tests do, through `courser_testkit::servers`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Installs what is missing; what only the Docker Engine of the tests needs, if they have one.
pub(crate) fn install(root: &Path, with_docker: bool) -> Result<()> {
    let lists = root.join("tests").join("servers");
    let directory = root.join("target").join("test-servers");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let mut packages = read(&lists.join("packages"))?;
    if with_docker {
        packages.push_str(&read(&lists.join("docker").join("packages"))?);
    }
    debian_packages(&packages)?;
    python_packages(&lists.join("requirements.txt"), &directory.join("venv"))?;
    go_programs(&read(&lists.join("go-programs"))?, &directory.join("bin"))
}

fn debian_packages(list: &str) -> Result<()> {
    let mut missing = Vec::new();
    for line in entries(list) {
        let (package, proof) = line
            .split_once(char::is_whitespace)
            .with_context(|| format!("a list of packages in tests/servers: {line}: no proof"))?;
        if !is_there(proof.trim()) {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let by_hand = format!(
        "tests need programs that are not installed here; as root on Debian:\n  \
         apt-get install --no-install-recommends {names}\n\
         elsewhere install what the lists of packages in tests/servers name for them"
    );
    ensure!(
        is_root() && Path::new("/etc/debian_version").exists(),
        by_hand
    );
    println!("test servers: installing {names}");
    let deny = DenyServices::new()?;
    // Package lists of an image are old, or gone; most of the time they are good enough.
    let installed = apt_get(&missing).or_else(|_| {
        quietly(Command::new("apt-get").args(["update", "--quiet"]))?;
        apt_get(&missing)
    });
    drop(deny);
    installed.context(by_hand)
}

fn apt_get(packages: &[&str]) -> Result<()> {
    quietly(
        Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            // Another run may be installing.
            .args(["--option", "DPkg::Lock::Timeout=300"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// While it lives, packages start no service (Debian Policy 9.3.3): tests want ports of their own.
struct DenyServices {
    created: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl DenyServices {
    fn new() -> Result<Self> {
        let created = !Path::new(POLICY).exists();
        if created {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
            quietly(Command::new("chmod").args(["0755", POLICY]))?;
        }
        Ok(Self { created })
    }
}

impl Drop for DenyServices {
    fn drop(&mut self) {
        if self.created {
            // Left behind it would keep the machine's own services from starting: worth a word.
            if let Err(error) = fs::remove_file(POLICY) {
                println!("test servers: {POLICY} is in the way, remove it: {error}");
            }
        }
    }
}

fn python_packages(requirements: &Path, venv: &Path) -> Result<()> {
    let wanted = read(requirements)?;
    let stamp = venv.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!(
        "test servers: installing {} from PyPI",
        requirements.display()
    );
    quietly(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(venv),
    )
    .context("a Python environment (Debian: apt-get install python3-venv)")?;
    quietly(
        Command::new(venv.join("bin").join("pip"))
            .args(["install", "--quiet", "--requirement"])
            .arg(requirements),
    )?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

fn go_programs(list: &str, directory: &Path) -> Result<()> {
    for module in entries(list) {
        let (path, _) = module
            .split_once('@')
            .with_context(|| format!("tests/servers/go-programs: {module}: no version"))?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let stamp = directory.join(format!("{name}.module"));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == module)
            && directory.join(name).is_file()
        {
            continue;
        }
        println!("test servers: building {module}");
        quietly(
            Command::new("go")
                .args(["install", "-trimpath", "-ldflags", "-s -w", module])
                .env("GOBIN", directory)
                .env("GOTOOLCHAIN", "local")
                .env("CGO_ENABLED", "0"),
        )?;
        fs::write(&stamp, module).with_context(|| stamp.display().to_string())?;
    }
    Ok(())
}

/// Lines that are neither blank nor comments.
pub(crate) fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn is_there(proof: &str) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a task runner looks for programs where the shell does"
    )]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|directory| directory.join(proof).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Runs a command behind the build, and shows what it printed only when it failed.
pub(crate) fn quietly(command: &Command) -> Result<()> {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        nice.current_dir(directory);
    }
    let output = nice
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
