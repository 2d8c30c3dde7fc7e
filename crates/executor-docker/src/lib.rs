//! The Docker executor (`executor-docker.md`): jobs in containers of a Docker Engine.
//!
//! In: `[runners.docker]`, a [`Job`](courser_job::Job) and, stage by stage, what it runs. Out: containers, volumes and
//! networks of that job, its bytes and exit codes, and nothing left of it afterwards. Built step by step; `executor`
//! has the contract that it keeps.

pub mod engine;
