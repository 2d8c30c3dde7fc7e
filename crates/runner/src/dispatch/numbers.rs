//! `CI_CONCURRENT_ID` and `CI_CONCURRENT_PROJECT_ID`: the lowest numbers that no running job has.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    pub(crate) project: i64,
}

/// Numbers of jobs that another process began and that still need their working copies. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldNumbers {
    held: Arc<Mutex<Vec<Held>>>,
}

/// The numbers of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    /// By its short token.
    runner: String,
    numbers: JobNumbers,
}

/// Keeps a job's numbers from other jobs until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    numbers: HeldNumbers,
    held: Held,
}

impl HeldNumbers {
    /// Holds those of one job: directories may be named by either.
    pub(crate) fn hold(&self, runner: &str, numbers: JobNumbers) -> Hold {
        let held = Held {
            runner: runner.to_owned(),
            numbers,
        };
        self.locked().push(held.clone());
        Hold {
            numbers: self.clone(),
            held,
        }
    }

    /// Numbers among the runner's jobs, and among those of a project.
    fn of(&self, runner: &str, project: i64) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let held = self.locked();
        let of_runner = held.iter().filter(|held| held.runner == runner);
        let of_runner: Vec<_> = of_runner.map(|held| held.numbers).collect();
        let of_project = of_runner.iter().filter(|job| job.project == project);
        (
            of_runner.iter().map(|job| job.of_runner).collect(),
            of_project.map(|job| job.of_project).collect(),
        )
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.numbers.locked();
        if let Some(at) = held.iter().position(|one| *one == self.held) {
            held.swap_remove(at);
        }
    }
}

impl Numbers {
    /// Takes the lowest free ones for a job of `project` at the runner of that short token.
    pub(crate) fn take(&mut self, project: i64, runner: &str, held: &HeldNumbers) -> JobNumbers {
        let (held_of_runner, held_of_project) = held.of(runner, project);
        let of_project = self.of_projects.entry(project).or_default();
        JobNumbers {
            of_runner: take_lowest(&mut self.of_runner, &held_of_runner),
            of_project: take_lowest(of_project, &held_of_project),
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

fn take_lowest(used: &mut BTreeSet<usize>, held: &BTreeSet<usize>) -> usize {
    let mut number = 0;
    while used.contains(&number) || held.contains(&number) {
        number += 1;
    }
    used.insert(number);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken_by_runner_and_by_project() {
        let (mut all, held) = (Numbers::default(), HeldNumbers::default());
        let take = |numbers: &mut Numbers, project| numbers.take(project, "abc", &held);
        let first = take(&mut all, 7);
        let second = take(&mut all, 8);
        let third = take(&mut all, 7);
        let pairs = [first, second, third].map(|job| (job.of_runner, job.of_project));
        assert_eq!(pairs, [(0, 0), (1, 0), (2, 1)]);
        all.give_back(first);
        let fourth = take(&mut all, 8);
        assert_eq!((fourth.of_runner, fourth.of_project), (0, 1));
        let fifth = take(&mut all, 7);
        assert_eq!((fifth.of_runner, fifth.of_project), (3, 0));
        let of_another_process = JobNumbers {
            of_runner: 4,
            of_project: 0,
            project: 9,
        };
        let of_another_process = held.hold("abc", of_another_process);
        let beside = take(&mut all, 9);
        assert_eq!((beside.of_runner, beside.of_project), (5, 1));
        assert_eq!(take(&mut all, 10).of_project, 0);
        assert_eq!(numbers_of_another_runner(&held), (0, 0));
        drop(of_another_process);
        let after = take(&mut all, 9);
        assert_eq!((after.of_runner, after.of_project), (4, 0));
    }

    fn numbers_of_another_runner(held: &HeldNumbers) -> (usize, usize) {
        let numbers = Numbers::default().take(9, "xyz", held);
        (numbers.of_runner, numbers.of_project)
    }
}
