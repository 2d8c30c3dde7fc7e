//! Everything here needs an Engine; `cargo xtask test --without-docker` goes by this module's name.

mod connection;
mod image_trust;
mod own_helper;
mod registries;

use courser_executor_docker::engine::Engine;
use courser_net::legs::{DockerOptions, DockerTrust};
use courser_net::{Legs, SystemRoots};
use courser_testkit::servers::DockerEngine;

/// How an Engine is reached with these keys, none of the machine's variables set.
pub(crate) fn way(options: DockerOptions<'_>) -> DockerTrust {
    Legs::new(SystemRoots::None, None, "/".into()).docker(options)
}

/// Connected over the socket.
pub(crate) async fn connected() -> Engine {
    let running = DockerEngine::running();
    let options = DockerOptions {
        host: &running.host,
        ..DockerOptions::default()
    };
    let connecting = Engine::connect(&way(options)).await;
    connecting.unwrap_or_else(|error| panic!("{error}"))
}
