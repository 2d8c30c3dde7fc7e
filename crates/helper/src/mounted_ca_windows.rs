//! The CA file that is mounted into helper containers of Windows (`runner-tls.md` 5.2, T30): its certificates go into the
//! container's own store, `ROOT`. Compiled, never run so far.

use std::path::Path;
use std::process::Command;

use courser_config::Environment;

use crate::HelperError;

/// Names another file than [`SOURCE`]; not the variable of Linux.
const VARIABLE: &str = "LOCAL_CA_PATH";
/// In a directory that is mounted: Windows cannot mount a file.
const SOURCE: &str = r"C:\GitLab-Runner\certs\ca.crt";

/// Has the programs of the container trust the mounted certificates. `false`: there are none. The store takes a
/// certificate that it has without another word.
///
/// # Errors
///
/// `certutil` cannot be started, or refuses the file.
pub fn trust_mounted_ca(_root: &Path, variables: &Environment) -> Result<bool, HelperError> {
    let named = variables.get(VARIABLE).filter(|path| !path.is_empty());
    let source = Path::new(named.unwrap_or(SOURCE));
    if !source.exists() {
        return Ok(false);
    }
    let adding = Command::new("certutil")
        .args(["-addstore", "Root"])
        .arg(source)
        .output()
        .map_err(HelperError::io(Path::new("certutil")))?;
    if !adding.status.success() {
        let said = String::from_utf8_lossy(&adding.stdout);
        let text = format!(
            "`certutil -addstore Root {}` ended with {}: {}",
            source.display(),
            adding.status,
            said.trim()
        );
        return Err(HelperError::Request(text));
    }
    Ok(true)
}
