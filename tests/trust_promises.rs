//! Table T of `runner-tls.md` section 16: what the documentation promises operators of a private CA.
//!
//! Each test has the promise's number. The server is `courser coordinator serve` with certificates of
//! a private authority; the runner is the same binary, with a hand-written or registered `config.toml`.

mod configured;
mod full_chain;
mod hosts;
mod job;
mod machine;
mod mutual_tls;
mod predefined;
mod proxies;
mod rotation;
pub(crate) mod site;
mod system_store;
mod tool_matrix;
mod tools;
