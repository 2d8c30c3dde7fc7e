//! Through the binary, with the real Docker Engine of the tests; `cargo xtask test --without-docker` goes by this
//! module's name.

mod containers;
mod dind;
mod documented_recipes;
mod drill;
mod engine_lost;
mod exec;
mod exec_elsewhere;
mod faults;
mod image_trust;
mod images;
mod limits;
mod mounted_ca;
mod networks;
mod registries;
mod scene;
mod services;
mod shell;
mod stages;
mod trust_check;
mod vault_trust;
mod volumes;
mod working_copies;
