//! The Docker executor (`executor-docker.md`): jobs in containers of a Docker Engine.
//!
//! In: `[runners.docker]`, a [`Job`](courser_job::Job) and, stage by stage, what it runs. Out: containers, volumes and
//! networks of that job, its bytes and exit codes, and nothing left of it afterwards. Built step by step; `executor`
//! has the contract that it keeps.

mod allowed;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the executor, which is being built")
)]
mod container;
pub mod engine;
mod helper_image;
pub mod image_trust;
pub mod images;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the executor, which is being built")
)]
mod labels;
mod names;
mod networks;
pub mod own_helper;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the executor, which is being built")
)]
mod plan;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the executor, which is being built")
)]
mod services;
#[cfg(test)]
mod testing;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the executor, which is being built")
)]
mod volumes;
