//! The daemon: request, dispatch, run, feed the trace, report.
