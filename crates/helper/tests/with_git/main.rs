//! The helper against real repositories, caches and servers: one module per kind of request.

mod artifacts;
mod caches;
mod light;
mod site;
mod sources;
mod submodules;
mod world;
