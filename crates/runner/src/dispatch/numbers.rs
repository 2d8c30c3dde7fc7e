//! `CI_CONCURRENT_ID` and `CI_CONCURRENT_PROJECT_ID`: the lowest numbers that no running job has.

use std::collections::{BTreeSet, HashMap};

/// Numbers in use by the jobs of one runner.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    of_runner: BTreeSet<usize>,
    of_projects: HashMap<i64, BTreeSet<usize>>,
}

/// Numbers of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JobNumbers {
    /// Among the runner's jobs.
    pub(crate) of_runner: usize,
    /// Among the runner's jobs of the same project.
    pub(crate) of_project: usize,
    project: i64,
}

impl Numbers {
    /// Takes the lowest free ones for a job of `project`.
    pub(crate) fn take(&mut self, project: i64) -> JobNumbers {
        JobNumbers {
            of_runner: take_lowest(&mut self.of_runner),
            of_project: take_lowest(self.of_projects.entry(project).or_default()),
            project,
        }
    }

    /// Gives a job's numbers back.
    pub(crate) fn give_back(&mut self, numbers: JobNumbers) {
        self.of_runner.remove(&numbers.of_runner);
        if let Some(of_project) = self.of_projects.get_mut(&numbers.project) {
            of_project.remove(&numbers.of_project);
            if of_project.is_empty() {
                self.of_projects.remove(&numbers.project);
            }
        }
    }
}

fn take_lowest(used: &mut BTreeSet<usize>) -> usize {
    let lowest = (0..)
        .zip(used.iter())
        .find(|(number, used)| number != *used);
    let lowest = lowest.map_or(used.len(), |(number, _)| number);
    used.insert(lowest);
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken_by_runner_and_by_project() {
        let mut numbers = Numbers::default();
        let first = numbers.take(7);
        let second = numbers.take(8);
        let third = numbers.take(7);
        let pairs = [first, second, third].map(|job| (job.of_runner, job.of_project));
        assert_eq!(pairs, [(0, 0), (1, 0), (2, 1)]);
        numbers.give_back(first);
        let fourth = numbers.take(8);
        assert_eq!((fourth.of_runner, fourth.of_project), (0, 1));
        let fifth = numbers.take(7);
        assert_eq!((fifth.of_runner, fifth.of_project), (3, 0));
    }
}
