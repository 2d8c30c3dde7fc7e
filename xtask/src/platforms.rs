//! Type-checks what is shipped for platforms that this machine is not.
//!
//! The pinned toolchain has no standard library for them; Debian's compiler has its sources, of which
//! `-Zbuild-std` makes one. C code (cryptography, SQLite, zstd) is not compiled: build scripts are
//! handed a compiler that makes empty objects, which is all that a check asks for. No part of `lint` or
//! the continuous integration: it installs 500 MB and takes minutes, and it shows types, not behaviour.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Debian's packages of a compiler with its sources.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";

/// Stands for every C compiler. What it is asked about itself the machine's own answers.
const EMPTY_OBJECTS: &str = r#"#!/bin/sh
# Made by `cargo xtask check-platforms`: compiles everything to nothing.
output=
previous=
file=
for argument; do
    case $argument in *.c | *.cc | *.S) file=$argument ;; esac
done
for argument; do
    case $argument in
    -E) exec cc -E "$file" ;;
    --version | -dumpmachine) exec cc "$argument" ;;
    esac
    [ "$previous" = -o ] && output=$argument
    case $argument in -o?*) output=${argument#-o} ;; esac
    previous=$argument
done
# Without an output it was asked whether it knows an option of another compiler.
[ -n "$output" ] || exit 1
exec cc -x c -c /dev/null -o "$output"
"#;

const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-pc-windows-gnu"];

/// The binary, and with it all that is shipped.
const PACKAGE: &str = "courser-cli";

/// Checks all, or those whose target contains one of `wanted`.
pub(crate) fn check(root: &Path, wanted: &[String]) -> Result<()> {
    compiler()?;
    let directory = root.join("target").join("platforms");
    let compiler = empty_objects(&directory)?;
    for target in TARGETS {
        if !wanted.is_empty() && !wanted.iter().any(|name| target.contains(name.as_str())) {
            continue;
        }
        println!("checking {PACKAGE} for {target}");
        let variable = target.replace('-', "_");
        let status = Command::new(CARGO)
            .args(["check", "--locked", "-Zbuild-std", "--target", target])
            .args(["-p", PACKAGE])
            .current_dir(root)
            .env("RUSTC", RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", &directory)
            .env(format!("CC_{variable}"), &compiler)
            .env(format!("CXX_{variable}"), &compiler)
            .env(format!("AR_{variable}"), "ar")
            // Otherwise build scripts look for Apple's tools.
            .env("SDKROOT", "/")
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTUP_TOOLCHAIN")
            .status()
            .with_context(|| format!("start {CARGO}"))?;
        ensure!(status.success(), "{target}: it does not compile");
    }
    Ok(())
}

/// Installs Debian's compiler where it is missing.
fn compiler() -> Result<()> {
    let sources = || {
        let output = Command::new(RUSTC)
            .args(["--print", "sysroot"])
            .output()
            .ok()?;
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        Some(sysroot.join("lib/rustlib/src/rust/library/std").exists())
    };
    if Path::new(CARGO).exists() && sources() == Some(true) {
        return Ok(());
    }
    let install = format!(
        "apt-get install -y --no-install-recommends {}",
        PACKAGES.join(" ")
    );
    println!("{install}");
    let installed = Command::new("sh").args(["-c", &install]).status();
    if installed.is_ok_and(|status| status.success()) && sources() == Some(true) {
        return Ok(());
    }
    bail!("Debian's compiler with its sources is missing; as root: {install}")
}

fn empty_objects(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    // A name by which build scripts know what it understands.
    let path = directory.join("empty-objects-gcc");
    fs::write(&path, EMPTY_OBJECTS).with_context(|| format!("write {}", path.display()))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, mode).with_context(|| format!("mode of {}", path.display()))?;
    Ok(path)
}
