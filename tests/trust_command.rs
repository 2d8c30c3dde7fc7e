//! `courser trust`: what it says about certificates, and with which exit code.

mod explain;
mod export;
mod import;
mod show;
mod verify;
