//! Stages in a container, run by a process of ours in it, over one stream each way.
//!
//! Starting a process in a container from outside costs a tenth of a second and more, so the helper container of a job
//! has one process for all its stages: [`serve()`] (`courser helper agent`). The runner's side is an [`Agent`]. Several
//! runs may be under way at once. When the stream ends, because the runner died, all that runs is killed.
//!
//! Where a container cannot reach the runner's machine, connections to one address there go over the stream, too (module
//! `tunnel`).
//!
//! On the stream are frames (module `frame`): a byte that says what it is, the number of the run, the length of what
//! follows.

mod frame;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod tunnel;

pub use serve::{Listener, serve};
pub use session::{Agent, AgentError, AgentWork};
pub use tunnel::{Connecting, Connection, Connector};
