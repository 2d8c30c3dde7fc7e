//! The helper against real repositories, caches and servers: one module per kind of request.

mod artifacts;
mod caches;
mod earlier_jobs;
mod hostile;
mod light;
mod site;
mod sources;
mod submodules;
mod world;
