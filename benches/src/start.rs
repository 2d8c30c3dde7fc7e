//! Commands that do one thing and end.

use std::path::Path;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::cost;
use crate::figure::{Figure, Goal, median};
use crate::gitlab::{GitLab, TOKEN};
use crate::world::World;

const RUNS: usize = 21;

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let gitlab = GitLab::with_jobs(0, "true");
    let commands: [(&str, Prepare, f64); 3] = [
        ("`--version`", version, 10.0),
        ("`register`", register, 20.0),
        ("`verify`", verify, 20.0),
    ];
    let mut figures = Vec::new();
    for (name, prepare, bound) in commands {
        let measure = |program: &Path| -> Result<Figure> {
            let walls = (0..RUNS).map(|_| {
                let world = World::new()?;
                let words = prepare(&gitlab, &world)?;
                let mut command = world.command(program);
                command.args(words);
                Ok(cost::of(&world, &command)?.wall)
            });
            let walls: Vec<f64> = walls.collect::<Result<_>>()?;
            Ok(Figure::milliseconds(name, median(walls)))
        };
        let own = measure(&arguments.courser)?;
        let peer = arguments
            .gitlab_runner
            .as_deref()
            .map(measure)
            .transpose()?;
        figures.push(own.beside(peer).goal(Goal::AtMost(bound)));
    }
    Ok(figures)
}

/// Makes the world ready for a command; gives its words.
type Prepare = fn(&GitLab, &World) -> Result<Vec<String>>;

fn version(_: &GitLab, _: &World) -> Result<Vec<String>> {
    Ok(vec!["--version".to_owned()])
}

fn register(gitlab: &GitLab, world: &World) -> Result<Vec<String>> {
    let config = gitlab.configure(world, 1)?;
    std::fs::remove_file(&config)?;
    let (url, ca) = (gitlab.url(), world.path("home/ca.pem"));
    let words = [
        "register",
        "--non-interactive",
        "--executor",
        "shell",
        "--token",
        TOKEN,
        "--url",
        &url,
        "--config",
        &config,
        "--tls-ca-file",
        &ca.display().to_string(),
    ];
    Ok(words.map(str::to_owned).into())
}

fn verify(gitlab: &GitLab, world: &World) -> Result<Vec<String>> {
    let config = gitlab.configure(world, 1)?;
    Ok(["verify", "--config", &config].map(str::to_owned).into())
}
