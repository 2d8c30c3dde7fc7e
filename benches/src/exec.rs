//! A small pipeline of the repository at hand: `courser exec` beside gitlab-ci-local.

use std::path::Path;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::cost::{self, Watched};
use crate::figure::{Figure, Goal, median, side_by_side};
use crate::memory::peak_of_tree;
use crate::peers;
use crate::world::World;

const PIPELINE: &str = "\
one:
  script: echo one

two:
  script: echo two
";

const RUNS: usize = 11;

/// Looks at memory in runs of their own: looking costs time.
const MEMORY_RUNS: usize = 5;

#[derive(Default)]
struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    largest: Vec<f64>,
    together: Vec<f64>,
}

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let peer = peers::gitlab_ci_local(arguments)?;
    let (mut own_samples, mut peer_samples) = (Samples::default(), Samples::default());
    // In turns, so that a busy moment of the machine meets both.
    for number in 0..RUNS + MEMORY_RUNS {
        let looks = number >= RUNS;
        own_samples.add(&arguments.courser, &["exec"], looks)?;
        peer_samples.add(&peer, &[], looks)?;
    }
    let goal = Some(Goal::RatioAtMost(0.25));
    let goals = [goal, None, goal, goal];
    let (own, peer) = (own_samples.rows(), peer_samples.rows());
    Ok(side_by_side(own, Some(peer), goals))
}

impl Samples {
    fn add(&mut self, program: &Path, words: &[&str], looks: bool) -> Result<()> {
        let world = World::new()?;
        world.write("work/.gitlab-ci.yml", PIPELINE)?;
        world.commit()?;
        let mut command = world.command(program);
        command.args(words);
        if looks {
            let watched = Watched::start(&world, &command)?;
            self.together.push(peak_of_tree(watched.pid()) as f64);
            watched.finish()?;
        } else {
            let cost = cost::of(&world, &command)?;
            self.wall.push(cost.wall);
            self.cpu.push(cost.cpu);
            self.largest.push(cost.largest as f64);
        }
        Ok(())
    }

    fn rows(self) -> Vec<Figure> {
        let title = |what: &str| format!("`exec` of two trivial jobs: {what}");
        vec![
            Figure::milliseconds(title("time"), median(self.wall)),
            Figure::milliseconds(title("CPU with children"), median(self.cpu)),
            Figure::megabytes(title("largest process"), median(self.largest) as u64),
            Figure::megabytes(
                title("all processes together"),
                median(self.together) as u64,
            ),
        ]
    }
}
