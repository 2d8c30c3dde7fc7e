//! zip, tar, gzip, zstd and globs; safe extraction.
