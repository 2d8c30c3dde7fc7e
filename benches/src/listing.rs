//! A large configuration that is read and evaluated, without running anything: CMake's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::arguments::Arguments;
use crate::cost;
use crate::figure::{Figure, Goal, median, side_by_side};
use crate::peers;
use crate::world::{World, workspace};

const RUNS: usize = 21;
/// Issue 5, "Speed".
const BOUND: f64 = 60.0;

#[derive(Default)]
struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    largest: Vec<f64>,
}

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let source = workspace().join("../shared/data/pipeline/real/CMake");
    ensure!(
        source.is_dir(),
        "{}: the configuration that is listed stands beside the project",
        source.display()
    );
    let peer = peers::gitlab_ci_local(arguments)?;
    let world = World::new()?;
    copy(&source, &world, &PathBuf::from("work"))?;
    world.commit()?;
    // Its rules look at the project and at the default branch.
    let url = "https://gitlab.kitware.com/cmake/cmake.git";
    for words in [
        &["branch", "--move", "master"][..],
        &["remote", "add", "origin", url],
    ] {
        let status = world.command("git").args(words).status();
        ensure!(status.context("git")?.success(), "git {words:?} failed");
    }
    let (mut own, mut others) = (Samples::default(), Samples::default());
    // In turns, so that a busy moment of the machine meets both.
    for _ in 0..RUNS {
        own.add(&world, &arguments.courser, &["pipeline", "list", "--json"])?;
        // Its schema refuses what GitLab takes.
        let words = ["--list-json", "--json-schema-validation=false"];
        others.add(&world, &peer, &words)?;
    }
    let goals = [Some(Goal::AtMost(BOUND)), None, None];
    Ok(side_by_side(own.rows(), Some(others.rows()), goals))
}

/// The files of a directory into the world.
fn copy(from: &Path, world: &World, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), world, &to)?;
        } else {
            let relative = to.to_str().context("a path of the configuration")?;
            world.write(relative, std::fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

impl Samples {
    fn add(&mut self, world: &World, program: &Path, words: &[&str]) -> Result<()> {
        let mut command = world.command(program);
        command.args(words);
        let cost = cost::of(world, &command)?;
        self.wall.push(cost.wall);
        self.cpu.push(cost.cpu);
        self.largest.push(cost.largest as f64);
        Ok(())
    }

    fn rows(self) -> [Figure; 3] {
        let title = |what: &str| format!("CMake's configuration listed: {what}");
        [
            Figure::milliseconds(title("time"), median(self.wall)),
            Figure::milliseconds(title("CPU with children"), median(self.cpu)),
            Figure::megabytes(title("largest process"), median(self.largest) as u64),
        ]
    }
}
