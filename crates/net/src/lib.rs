//! Every client and every listener, made from a trust value.
//!
//! In: [`TrustSettings`] (where certificates lie), [`ProxySettings`], requests. Out: responses that
//! know the chain they were verified with, listeners that reload their certificate, and errors that
//! say which link is missing. Nothing else in Courser opens a socket.
//! Facts: `runner-protocol.md` section 1, `runner-tls.md` sections 2 to 4.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use courser_net::{Call, Client, ClientSettings, ProxySettings, SystemRoots, TrustSettings};
//! use http::Method;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(ClientSettings {
//!     trust: TrustSettings {
//!         system: SystemRoots::Platform { file: None, directories: None },
//!         ca_file: Some("/etc/gitlab-runner/ca.pem".into()),
//!         cert_file: None,
//!         key_file: None,
//!         certificate_directory: Some("/etc/gitlab-runner/certs".into()),
//!         inline_ca: None,
//!     },
//!     proxy: ProxySettings::default(),
//!     user_agent: "courser".to_owned(),
//!     connection_max_age: Duration::from_secs(15 * 60),
//! });
//! let url = "https://gitlab.example.com/api/v4/runners/router/discovery".parse()?;
//! let answer = client.send(Call::new(Method::GET, url)).await?;
//! println!("{} {:?}", answer.status, answer.verified_chain_pem());
//! # Ok(())
//! # }
//! ```

mod addresses;
mod admission;
mod client;
mod disk;
mod engine;
mod expiry;
mod fault;
mod followed;
mod identity;
mod inventory;
mod issuers;
mod key_pair;
pub mod legs;
mod loopback;
mod plain_server;
mod played;
mod port;
mod provider;
mod proxy;
mod refused;
pub mod server;
mod system_roots;
mod tls;
mod trust_files;
mod watch;

pub use addresses::{Addresses, METADATA};
pub use client::{
    Ambience, Answer, Body, Call, CallError, Client, ClientCertificate, ClientSettings, Growth,
    Inspection, Redirects, Retry, Route, Target, Timeouts, Trusted, shown_url, status_line,
    without_brackets,
};
pub use disk::read as read_trust_file;
pub use engine::{EngineCallError, EngineSetupError, EngineTransport, TakenOver};
pub use fault::Fault;
pub use inventory::{Dated, Refusals, Role, SystemStore, TrustReport, trust_report};
pub use issuers::{CompletionError, IssuerLimits, Issuers};
pub use legs::{Legs, TlsOptions};
pub use loopback::{LoopbackListener, connect_loopback};
pub use plain_server::{Page, PageListener};
pub use played::{Part, PlayedServer, PlayedTls};
pub use port::await_port;
pub use provider::ProviderTls;
pub use proxy::ProxySettings;
pub use server::{Clients, ListenError, Listener, ServerIdentity};
pub use trust_files::{SystemRoots, TrustSettings};
pub use watch::{trust_changes, watch_trust_files};
