//! Through the binary.
