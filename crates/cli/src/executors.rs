//! The executors of this program, put together.

use courser_executor::Executors;

/// All that are built in.
pub(crate) fn executors() -> Executors {
    Executors::shell()
}
