//! Secrets of a job, fetched by the runner from Vault, OpenBao, GitLab Secrets Manager, Google, Azure and AWS.
//!
//! In: `secrets` of the payload, the job's variables to expand it with, and the [`Surroundings`], in which no job has
//! a say (trust, proxies, environment, settings). Out: variables of the job ([`resolve()`]), and in [`Leases`] what has
//! to be given back when the job is over. Secrets that share a login or a path share the request; independent ones
//! are fetched side by side. Facts: `secrets.md` 3 to 9.
//!
//! Dropping the future of [`resolve()`] stops it. What was obtained until then is in the [`Leases`], and what comes of
//! requests that are still under way appears there: [`Leases::settled`].

mod aws;
mod azure;
mod claims;
mod environment;
mod exchange;
mod expansion;
mod failure;
mod gitlab_secrets_manager;
mod google;
mod leases;
mod refusal;
mod resolve;
mod session;
mod shared;
mod surroundings;
mod vault;

pub use claims::{IdToken, NoIdToken};
pub use courser_config::SecretsConfig;
pub use environment::Environment;
pub use failure::{Failure, FailureClass, Step};
pub use leases::{Account, Leases, Obtained, Revocation};
pub use resolve::{Looked, Request, resolve, resolve_each};
pub use surroundings::Surroundings;
