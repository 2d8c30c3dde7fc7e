//! Every client and every listener, made from a trust value.
//!
//! In: [`TrustSettings`] (where certificates lie), [`ProxySettings`], requests. Out: responses that
//! know the chain they were verified with, listeners that reload their certificate, and errors that
//! say which link is missing. Nothing else in Courser opens a socket.
//! Facts: `runner-protocol.md` section 1, `runner-tls.md` sections 2 to 4.

pub mod client;
mod identity;
pub mod proxy;
pub mod server;
mod system_roots;
mod tls;
pub mod trust_files;

pub use client::{
    Ambience, Answer, Body, Call, CallError, Client, ClientSettings, Redirects, Retry, Timeouts,
    shown_url,
};
pub use proxy::ProxySettings;
pub use server::{Listener, ServerIdentity};
pub use trust_files::{SystemRoots, TrustSettings};
