//! Files that hold secrets: nobody but their owner may read them.

use std::path::Path;

use crate::failure::Failure;
use crate::platform;

/// The text of a file of at most `limit` bytes; `what` names its kind in messages, such as `token file`.
///
/// # Errors
///
/// It cannot be read, others can read it, or it is too large.
pub(crate) fn read(path: &Path, what: &str, limit: u64) -> Result<String, Failure> {
    let named = |message: String| Failure::invalid(format!("{}: {message}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| named(error.to_string()))?;
    if let Some(mode) = platform::mode_for_others(&metadata) {
        return Err(
            named(format!("{what} with mode {mode:04o}: others can read it"))
                .hint(format!("chmod 600 {}", path.display())),
        );
    }
    if metadata.len() > limit {
        return Err(named(format!("larger than {limit} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| named(error.to_string()))
}
