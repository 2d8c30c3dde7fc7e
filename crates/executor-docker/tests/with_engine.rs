//! Against the real Docker Engine of the tests (`cargo xtask docker-up`).
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

mod docker_engine;
