//! A private world for each test: odd certificates, strict fakes, faults. Never shipped.
//!
//! In: what a test wants to be true (this CA, that expired leaf, a server that cuts the connection).
//! Out: PEM text, addresses, and records of what the code under test really sent. Depends on no other
//! crate of Courser, so that fakes are written from the fact sheets and not from our own types.
//!
//! ```
//! use courser_testkit::pki::Authority;
//! use courser_testkit::server::{FakeServer, Reply};
//!
//! let root = Authority::root("Test Root").issue();
//! let leaf = root.server(&["localhost", "127.0.0.1"]).issue();
//! let server = FakeServer::https(&leaf, |request| {
//!     assert_eq!(request.method, "GET");
//!     Reply::text(200, "hello")
//! });
//! assert!(server.url("/x").starts_with("https://127.0.0.1:"));
//! assert!(server.requests().is_empty());
//! ```

pub mod clouds;
pub mod forge;
pub mod git_http;
pub mod hostile;
pub mod http_message;
pub mod id_token;
pub mod lfs;
pub mod odd_chains;
pub mod openssl;
pub mod pki;
pub mod programs;
pub mod proxy;
pub mod relay;
pub mod server;
pub mod servers;
pub mod world;

pub use world::World;
