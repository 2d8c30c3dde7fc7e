//! Secrets through the crate's entry, against servers on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which fail by panicking"
)]

mod aws;
mod aws_identity;
mod aws_peers;
mod azure;
mod bad_days;
mod google;
mod hostile;
mod old_vault;
mod openbao;
mod openbao_logins;
mod scene;
mod speed;
mod steps;
mod under_way;
mod values;
mod vault_answers;
