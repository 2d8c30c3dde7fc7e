//! What the crate promises, through its public interface, with certificates forged on the spot.

mod adversary;
mod bundles;
mod handshake;
mod matrix;
mod messages;
mod reload;
