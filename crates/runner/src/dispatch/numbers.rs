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
    project: i64,
}

/// Numbers of jobs that another process began and that still need their working copies. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldNumbers {
    held: Arc<Mutex<Vec<Held>>>,
}

/// Runner (by its short token), project, number among the runner's jobs of the project.
type Held = (String, i64, usize);

/// Keeps a number from other jobs until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    numbers: HeldNumbers,
    held: Held,
}

impl HeldNumbers {
    /// Holds one.
    pub(crate) fn hold(&self, runner: &str, project: i64, of_project: usize) -> Hold {
        let held = (runner.to_owned(), project, of_project);
        self.locked().push(held.clone());
        Hold {
            numbers: self.clone(),
            held,
        }
    }

    fn of(&self, runner: &str, project: i64) -> BTreeSet<usize> {
        let held = self.locked();
        let of = held
            .iter()
            .filter(|held| held.0 == runner && held.1 == project);
        of.map(|held| held.2).collect()
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
        let nothing = BTreeSet::new();
        let of_project = self.of_projects.entry(project).or_default();
        JobNumbers {
            of_runner: take_lowest(&mut self.of_runner, &nothing),
            of_project: take_lowest(of_project, &held.of(runner, project)),
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
        let of_another_process = held.hold("abc", 9, 0);
        assert_eq!(take(&mut all, 9).of_project, 1);
        drop(of_another_process);
        assert_eq!(take(&mut all, 9).of_project, 0);
    }
}
