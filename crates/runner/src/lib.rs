//! The daemon: request, dispatch, run, feed the trace, report.

pub mod client;
