//! The options that say what ID tokens of jobs are like: for `exec`, `shell` and `coordinator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use courser_coordinator::{IssuerUrl, OidcSettings, Subject};

use crate::environment::ProcessEnvironment;

/// `iss` of local runs that are not told another one. Nothing answers there: a provider is given the public key.
const LOCAL_ISSUER: &str = "https://courser.localhost";

/// What tokens say, whoever signs them.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "ID tokens")]
pub(crate) struct OidcOptions {
    /// Issuer of ID tokens: their iss, and where a provider looks for the keys
    #[arg(long, global = true, env = "COURSER_OIDC_ISSUER", value_name = "URL")]
    oidc_issuer: Option<IssuerUrl>,
    /// Claims that sub is made of [default: project_path,ref_type,ref]
    #[arg(
        long,
        global = true,
        env = "COURSER_OIDC_SUB",
        value_name = "CLAIM,..."
    )]
    oidc_sub: Option<Subject>,
    /// Give a claim of ID tokens this value, such as project_id=42
    #[arg(long = "oidc-claim", global = true, value_name = "NAME=VALUE", value_parser = parse_claim)]
    oidc_claims: Vec<(String, String)>,
}

/// The same for local runs, which publish their keys only when they are told where.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "ID tokens")]
pub(crate) struct LocalOidcOptions {
    #[command(flatten)]
    pub(crate) tokens: OidcOptions,
    /// Publish the keys of ID tokens here while jobs run that have some, so that Vault can fetch them; the issuer is
    /// then https://localhost:PORT
    #[arg(
        long,
        global = true,
        env = "COURSER_OIDC_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    oidc_listen: Option<SocketAddr>,
}

/// Claims that nobody can give: they are what makes a token one of this issuer's.
const FIXED_CLAIMS: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

fn parse_claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if FIXED_CLAIMS.contains(&name) => {
            Err(format!("{name} is the issuer's to say"))
        }
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

impl OidcOptions {
    /// Settings with keys in this directory.
    pub(crate) fn settings(&self, directory: PathBuf) -> OidcSettings {
        OidcSettings {
            issuer: self.oidc_issuer.clone(),
            subject: self.oidc_sub.clone().unwrap_or_default(),
            claims: self.oidc_claims.clone(),
            ..OidcSettings::new(directory.join("keys.json"))
        }
    }
}

/// The issuer of a local run.
#[derive(Debug, Clone)]
pub(crate) struct OidcOfRun {
    pub(crate) settings: OidcSettings,
    /// Where its keys are published, and where the certificate for that lies.
    pub(crate) published: Option<(SocketAddr, PathBuf)>,
}

impl LocalOidcOptions {
    /// The keys are the user's, the same in all projects.
    pub(crate) fn of_run(&self, environment: &ProcessEnvironment) -> OidcOfRun {
        let directory = local_directory(environment);
        let mut settings = self.tokens.settings(directory.clone());
        settings.ids_of_names = true;
        settings.issuer = settings.issuer.or_else(|| {
            let default = match self.oidc_listen {
                Some(address) => format!("https://localhost:{}", address.port()),
                None => LOCAL_ISSUER.to_owned(),
            };
            default.parse().ok()
        });
        OidcOfRun {
            settings,
            published: self.oidc_listen.map(|address| (address, directory)),
        }
    }
}

/// Keys and certificate of local runs.
pub(crate) fn local_directory(environment: &ProcessEnvironment) -> PathBuf {
    environment.user_state().join("oidc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_given_but_not_those_that_make_a_token_ours() {
        assert_eq!(
            parse_claim("project_id=a=b"),
            Ok(("project_id".to_owned(), "a=b".to_owned()))
        );
        for text in ["project_id", "=a", "iss=https://gitlab.com", "exp=9"] {
            assert!(parse_claim(text).is_err(), "{text}");
        }
    }
}
