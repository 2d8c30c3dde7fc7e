//! The executor contract and the shell executor.
