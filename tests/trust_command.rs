//! `courser trust`: what it says about certificates, and with which exit code.

mod show;
mod verify;
