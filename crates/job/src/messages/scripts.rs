//! What scripts print, and what is done for their tools.

use super::notice;

/// Echo of a command.
pub fn command(text: &str) -> String {
    notice(&format!("$ {text}"))
}

/// Echo of a command of several lines.
pub fn collapsed_command(first_line: &str) -> String {
    notice(&format!("$ {first_line} # collapsed multi-line command"))
}

/// First line of `after_script`.
pub fn running_after_script() -> String {
    notice("Running after script...")
}

/// First line of `prepare_script`; `via` empty = unknown.
pub fn running_on_host(host: &str, via: &str) -> String {
    if via.is_empty() {
        format!("Running on {host}...")
    } else {
        format!("Running on {host} via {via}...")
    }
}

/// What was done for the job's own tools: how many private CAs, how many of the system, in which file.
pub fn tool_trust(private: usize, system: usize, bundle: &str) -> String {
    let private = private_cas(private);
    notice(&format!(
        "Trust for this job's tools: {private} beside the system's {system}, in {bundle} \
         (SSL_CERT_FILE, GIT_CONFIG_SYSTEM and others name it where unset; off: job_tools = false in [runners.trust])"
    ))
}

pub(super) fn private_cas(count: usize) -> String {
    match count {
        1 => "1 private CA".to_owned(),
        many => format!("{many} private CAs"),
    }
}
