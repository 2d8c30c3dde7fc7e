//! Restoring and saving caches.

use super::{notice, script_warning, work_info, work_warning};

/// Before a candidate is tried.
pub fn checking_cache(key: &str) -> String {
    notice(&format!("Checking cache for {key}..."))
}

/// A candidate was extracted.
pub fn extracted_cache() -> String {
    notice("Successfully extracted cache")
}

/// A candidate was not extracted.
pub fn failed_to_extract_cache() -> String {
    script_warning("Failed to extract cache")
}

/// Policy does not allow restoring.
pub fn not_downloading_cache(key: &str) -> String {
    notice(&format!("Not downloading cache {key} due to policy"))
}

/// Policy does not allow saving.
pub fn not_uploading_cache(key: &str) -> String {
    notice(&format!("Not uploading cache {key} due to policy"))
}

/// A failed restore leaves nothing behind.
pub fn removing_cache_path(path: &str) -> String {
    notice(&format!("Removing {path}"))
}

/// Before a cache is saved.
pub fn creating_cache(key: &str) -> String {
    notice(&format!("Creating cache {key}..."))
}

/// A cache was saved.
pub fn created_cache() -> String {
    notice("Created cache")
}

/// A cache was not saved.
pub fn failed_to_create_cache() -> String {
    script_warning("Failed to create cache")
}

/// A key had to be changed to be safe as a path.
pub fn cache_key_sanitized(raw: &str, key: &str) -> String {
    script_warning(&format!("cache key \"{raw}\" sanitized to \"{key}\""))
}

/// Nothing of a key was left.
pub fn cache_key_unusable(raw: &str) -> String {
    script_warning(&format!("cache key \"{raw}\" could not be sanitized"))
}

/// No usable key, restore.
pub fn skipping_cache_extraction() -> String {
    notice("Skipping cache extraction due to empty cache key")
}

/// No usable key, save.
pub fn skipping_cache_archiving() -> String {
    notice("Skipping cache archiving due to empty cache key")
}

/// A fallback key would give an unprotected job a protected cache.
pub fn protected_fallback_key(key: &str) -> String {
    script_warning(&format!(
        "CACHE_FALLBACK_KEY \"{key}\" not allowed to end in \"-protected\""
    ))
}

/// Restore without a cache server.
pub fn no_cache_url_for_download() -> String {
    work_info(
        "No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.",
        &[],
    )
}

/// Save without a cache server.
pub fn no_cache_url_for_upload() -> String {
    work_info(
        "No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.",
        &[],
    )
}

/// Nothing to restore.
pub fn cache_file_missing() -> String {
    work_warning("Cache file does not exist", &[])
}

/// Nothing to save.
pub fn no_files_to_cache() -> String {
    work_warning("No files to cache.", &[])
}

/// A cache that cannot be used or made; the job goes on.
pub fn cache_problem(reason: &str) -> String {
    work_warning(reason, &[])
}

/// The archive holds everything already.
pub fn archive_up_to_date() -> String {
    work_info("Archive is up to date!", &[])
}
