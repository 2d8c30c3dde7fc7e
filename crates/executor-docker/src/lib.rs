//! The Docker executor (`executor-docker.md`): jobs in containers of a Docker Engine.
//!
//! In: `[runners.docker]`, a [`Job`](courser_job::Job) and, stage by stage, what it runs. Out: containers, volumes and
//! networks of that job, its bytes and exit codes, and nothing left of it afterwards. `executor` has the
//! contract that it keeps. Read `preparation.rs` (what is made, in which order), then `environment.rs` (stages).

mod allowed;
mod belongings;
mod container;
pub mod engine;
mod environment;
mod executor;
mod helper_container;
mod helper_image;
pub mod image_trust;
pub mod images;
pub mod kept;
mod labels;
mod life_line;
mod names;
mod networks;
mod new_working_copy;
mod opening;
pub mod own_helper;
mod ownership;
mod plan;
mod preparation;
mod recipe;
mod running_services;
pub mod script_container;
mod service_logs;
mod services;
mod stage;
#[cfg(test)]
mod testing;
mod volumes;
mod waiting_shell;

pub use executor::{DockerProvider, LocalRun};
pub use helper_container::Tunnel;
