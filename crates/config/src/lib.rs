//! `config.toml`: model, defaults, edit in place, reload as a difference, lint.
//!
//! In: the text of the file and an [`Environment`] value that `cli` captured once. Out: a [`Config`]
//! with defaults filled in, warnings with lines, and edited text with comments kept. No I/O.
//! Facts: `runner-config.md`, `runner-cli.md`.
//!
//! ```
//! let text = "concurrent = 4\n[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"$TOKEN\"\n";
//! let environment = courser_config::Environment::new([("TOKEN".to_owned(), "glrt-x".to_owned())]);
//! let loaded = courser_config::load(text, "config.toml", &environment)?;
//! assert_eq!(loaded.config.concurrent, 4);
//! assert_eq!(loaded.config.runners[0].token.expose(), "glrt-x");
//! # Ok::<(), courser_config::ConfigError>(())
//! ```

mod change;
mod duration;
mod edit;
mod entry;
mod environment;
mod error;
pub mod keys;
mod load;
mod model;
mod setting;
mod show;
mod system_id;

pub use change::{ConfigChange, changes};
pub use duration::{DurationError, GoDuration};
pub use edit::ConfigDocument;
pub use entry::{RunnerEntry, TemplateError, ValueError};
pub use environment::Environment;
pub use error::{ConfigError, Warning};
pub use load::{LintError, Loaded, lint, load};
pub use model::{
    AwsConfig, AzureConfig, Config, Device, DockerConfig, DockerService, GoogleConfig, GpuRequest,
    Isolation, KeyFault, KubernetesConnection, RunnerConfig, SecretsConfig, SpoolConfig, Ulimit,
};
pub use show::{Origin, ShownKey, show};
pub use system_id::{parse_system_id, system_id};
