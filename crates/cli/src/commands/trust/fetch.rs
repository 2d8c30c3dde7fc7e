//! `courser trust fetch` and `pin`: what a server shows becomes what is trusted, once somebody has compared it.
//!
//! Nothing is ever written blindly: on a terminal the fingerprint is asked about, elsewhere it must be given. And
//! nothing is written that would not help: the server must be accepted with it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use courser_net::{
    Addresses, Client, Inspection, IssuerLimits, Issuers, Route, Target, TrustSettings,
};
use courser_trust::{
    Certificate, Fingerprint, Generation, PeerName, Source, Store, Usage, chain_pem, shell_word,
    verify,
};
use url::Url;

use super::fingerprint::{self, colons};
use super::shown_certificate::ShownCertificate;
use super::trust_file::TrustFile;
use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::failure::{Code, Failure};
use crate::questions::Questions;
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `fetch`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = FETCH_HELP)]
pub(super) struct Fetch {
    #[command(flatten)]
    common: Common,
    /// Complete the chain from where its certificates say that their issuers lie
    #[arg(long)]
    complete: bool,
    /// With --complete: follow certificates into private networks too
    #[arg(long, requires = "complete")]
    private_issuers: bool,
}

/// Arguments of `pin`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PIN_HELP)]
pub(super) struct Pin {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The server: HOST, HOST:PORT or a URL
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    config: ConfigOption,
    /// SHA-256 fingerprint of the certificate that is to be trusted; nothing is asked then
    #[arg(long, value_name = "SHA256", value_parser = fingerprint::parse)]
    fingerprint: Option<Fingerprint>,
    /// File to add it to [default: the tls-ca-file of the host's runner, else its predefined file]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Go past any proxy
    #[arg(long)]
    direct: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const FETCH_HELP: &str = "\
Shows the chain that the server sends, with fingerprints. The topmost CA certificate of it is
added to the file once its fingerprint is confirmed: on a terminal by typing yes, elsewhere by
--fingerprint. Compare the fingerprint with the one that the owner of the CA tells you, not with
what the server says.

  courser trust fetch gitlab.example.com
  courser trust fetch gitlab.example.com:8443 --to /etc/gitlab-runner/ca.crt
  courser trust fetch gitlab.example.com --complete --fingerprint 9D:B3:1B:A0:…

--complete fetches the issuers that the server does not send, from the addresses in its
certificates; not from private or link-local addresses (unless --private-issuers) and without a
change of scheme.

Exit codes: 0 the file holds the certificate, 1 nothing was written, 2 unusable arguments or
files, 4 the server cannot be reached.";

const PIN_HELP: &str = "\
Adds the server's own certificate to the file: it is then trusted for itself alone, until it is
replaced. For servers with a self-signed certificate, or whose CA cannot be had.

  courser trust pin gitlab.example.com
  courser trust pin gitlab.example.com --fingerprint 9D:B3:1B:A0:…

Exit codes: 0 the file holds the certificate, 1 nothing was written, 2 unusable arguments or
files, 4 the server cannot be reached.";

/// Runs `fetch`.
pub(super) async fn fetch(fetch: Fetch, session: &Session) -> Result<ExitCode, Failure> {
    let server = Server::look(&fetch.common, session).await?;
    let completed = if fetch.complete {
        server.complete(fetch.private_issuers, session).await?
    } else {
        server.received.clone()
    };
    let chain = linked(&completed);
    let choice = server.authority(&chain)?;
    server.confirm_and_write(&fetch.common, &choice).await
}

/// Runs `pin`.
pub(super) async fn pin(pin: Pin, session: &Session) -> Result<ExitCode, Failure> {
    let server = Server::look(&pin.common, session).await?;
    let choice = Choice {
        chain: linked(&server.received),
        wanted: Arc::clone(server.leaf()),
        added: vec![Arc::clone(server.leaf())],
        verb: "pin",
    };
    server.confirm_and_write(&pin.common, &choice).await
}

/// A server that was looked at.
struct Server {
    target: Target,
    inspection: Inspection,
    /// At least the leaf, which comes first.
    received: Vec<Arc<Certificate>>,
    /// The issuer of the server's own certificate, when a proxy shows another in its place.
    replaced: Option<String>,
    file: PathBuf,
}

/// What is proposed.
struct Choice {
    /// What is shown, leaf first.
    chain: Vec<Arc<Certificate>>,
    /// The certificate whose fingerprint is confirmed.
    wanted: Arc<Certificate>,
    /// What is added to the file.
    added: Vec<Arc<Certificate>>,
    verb: &'static str,
}

impl Server {
    async fn look(common: &Common, session: &Session) -> Result<Self, Failure> {
        let target = target(&common.host)?;
        let config = ConfigFile::open(&common.config.path(session), session)?;
        let settings = connection::settings_for_host(target.host(), &config.config, session);
        let file = match &common.to {
            Some(path) => session.environment.working_directory.join(path),
            None => trust_file(&settings.trust, &target)?,
        };
        let route = if common.direct {
            Route::Direct
        } else {
            Route::AsCalls
        };
        let unreachable = |fault: String| {
            Failure::new(
                Code::Surroundings,
                format!("{} cannot be looked at: {fault}", common.host),
            )
        };
        let client = Client::new(settings);
        let inspection = client.inspect(&target, route).await;
        let inspection = inspection.map_err(|fault| unreachable(fault.to_string()))?;
        let received: Vec<_> = inspection
            .received
            .iter()
            .map_while(|der| Certificate::parse(der).ok().map(Arc::new))
            .collect();
        if received.is_empty() {
            let fault = inspection.outcome.err();
            return Err(unreachable(fault.map_or_else(
                || "it sent no certificate".to_owned(),
                |fault| fault.to_string(),
            )));
        }
        let issuer_past_proxy = match inspection.proxy {
            Some(_) => client.issuer_past_proxy(&target).await,
            None => None,
        };
        Ok(Self {
            replaced: issuer_past_proxy.filter(|past| *past != received[0].issuer().to_string()),
            target,
            inspection,
            received,
            file,
        })
    }

    fn leaf(&self) -> &Arc<Certificate> {
        &self.received[0]
    }

    /// The received certificates and their issuers, as far as they can be had.
    async fn complete(
        &self,
        private: bool,
        session: &Session,
    ) -> Result<Vec<Arc<Certificate>>, Failure> {
        let addresses = if private {
            Addresses::Any
        } else {
            Addresses::PublicOnly
        };
        let legs = session.environment.legs();
        let settings = connection::settings_with(legs.issuers(), Duration::ZERO, session);
        let issuers = Issuers::new(settings, addresses, IssuerLimits::default());
        let linked = linked(&self.received);
        let completed = issuers
            .complete_unverified(&linked)
            .await
            .map_err(|error| {
                let failure = Failure::new(Code::Surroundings, error.to_string());
                if private {
                    failure
                } else {
                    failure.hint("an issuer in a private network is fetched with --private-issuers")
                }
            })?;
        let mut all = self.received.clone();
        for one in completed {
            if all
                .iter()
                .all(|known| known.fingerprint() != one.fingerprint())
            {
                all.push(one);
            }
        }
        Ok(all)
    }

    /// The CA to trust: the topmost certificate, and what lies between it and what the server sends.
    fn authority(&self, chain: &[Arc<Certificate>]) -> Result<Choice, Failure> {
        let top = chain
            .last()
            .unwrap_or_else(|| unreachable!("the leaf is there"));
        let host = &self.inspection.host;
        let place = shell_word(&self.place());
        if chain.len() == 1 {
            let failure = Failure::new(
                Code::Failed,
                if top.is_self_issued() {
                    format!(
                        "{host} sends its own, self-signed certificate and no CA: nothing was written"
                    )
                } else {
                    format!(
                        "{host} does not send the certificate of {}, which issued its own: nothing was written",
                        top.issuer()
                    )
                },
            );
            let failure = if top.is_self_issued() || top.issuing_certificate_urls().is_empty() {
                failure
            } else {
                failure.hint(format!(
                    "fetch it from where the server's certificate says: courser trust fetch --complete {place}"
                ))
            };
            return Err(failure.hint(format!(
                "trust the server's own certificate: courser trust pin {place}"
            )));
        }
        let is_served = |one: &Arc<Certificate>| {
            let mut received = self.received.iter();
            received.any(|known| known.fingerprint() == one.fingerprint())
        };
        let mut added: Vec<_> = chain[1..chain.len() - 1]
            .iter()
            .filter(|one| !is_served(one))
            .cloned()
            .collect();
        added.push(Arc::clone(top));
        Ok(Choice {
            chain: chain.to_vec(),
            wanted: Arc::clone(top),
            added,
            verb: "trust",
        })
    }

    async fn confirm_and_write(
        &self,
        common: &Common,
        choice: &Choice,
    ) -> Result<ExitCode, Failure> {
        let wanted = &choice.wanted;
        if !common.json {
            print_text(&self.shown(choice))?;
        }
        let outcome = self.decide(common, choice).await?;
        let written = match &outcome {
            Decision::Confirmed => {
                let before = TrustFile::read(&self.file)?;
                Some(before.add(&self.file, &choice.added)?)
            }
            Decision::Not(_) => None,
        };
        if common.json {
            let chain: Vec<_> = choice
                .chain
                .iter()
                .map(|one| ShownCertificate::new(one))
                .collect();
            print_json(&serde_json::json!({
                "host": self.inspection.host,
                "port": self.inspection.port,
                "proxy": self.inspection.proxy,
                "issuer_without_proxy": self.replaced,
                "chain": chain,
                "wanted": colons(wanted.fingerprint()),
                "file": self.file,
                "written": written.is_some_and(|added| added > 0),
                "holds": written.is_some(),
                "reason": match &outcome {
                    Decision::Confirmed => None,
                    Decision::Not(reason) => Some(reason),
                },
            }))?;
        }
        match (outcome, written) {
            (Decision::Not(reason), _) => {
                if !common.json {
                    print_text(&format!("\nnothing was written: {reason}\n"))?;
                }
                Ok(Code::Failed.into())
            }
            (Decision::Confirmed, written) => {
                if !common.json {
                    let file = self.file.display();
                    print_text(&match written {
                        Some(0) => format!("\n{file} holds it already\n"),
                        _ => format!(
                            "\nwritten to {file}; a running courser uses it from the next request on\n"
                        ),
                    })?;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn shown(&self, choice: &Choice) -> String {
        let inspection = &self.inspection;
        let way = inspection
            .proxy
            .as_ref()
            .map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
        let mut text = format!("{} shows{way}:\n", self.place());
        for (number, certificate) in choice.chain.iter().enumerate() {
            ShownCertificate::new(certificate).write(&mut text, number);
        }
        if inspection.outcome.is_ok() {
            text.push_str("It is trusted already.\n");
        }
        if let Some(issuer) = &self.replaced {
            let _ = writeln!(
                text,
                "The proxy replaces certificates: without it the server's is issued by {issuer} (--direct shows it)."
            );
        }
        let wanted = &choice.wanted;
        let _ = writeln!(
            text,
            "\nto {}: {}\nSHA-256 {}\nfile    {}",
            choice.verb,
            wanted.subject(),
            colons(wanted.fingerprint()),
            self.file.display()
        );
        if choice.verb == "pin" && wanted.is_ca() {
            text.push_str(
                "It says CA:TRUE: whoever has its key could vouch for any server that this file is used for.\n",
            );
        }
        text
    }

    async fn decide(&self, common: &Common, choice: &Choice) -> Result<Decision, Failure> {
        if let Err(reason) = self.would_help(choice) {
            return Ok(Decision::Not(format!(
                "the server would be refused all the same: {reason}"
            )));
        }
        let fingerprint = choice.wanted.fingerprint();
        if let Some(given) = common.fingerprint {
            return Ok(if given == fingerprint {
                Decision::Confirmed
            } else {
                Decision::Not(format!(
                    "its SHA-256 fingerprint is {}, not {}",
                    colons(fingerprint),
                    colons(given)
                ))
            });
        }
        if common.json || !std::io::stdin().is_terminal() {
            return Ok(Decision::Not(
                "nobody is here to compare the fingerprint; --fingerprint tells which one is right"
                    .to_owned(),
            ));
        }
        let question =
            "Is this the fingerprint that the owner of the certificate tells you? (yes/no)";
        let answer = Questions::new(false)
            .ask("fingerprint", question, None, true)
            .await?;
        Ok(if answer == "yes" {
            Decision::Confirmed
        } else {
            Decision::Not("the fingerprint was not confirmed".to_owned())
        })
    }

    /// Whether the server is accepted with the certificate that is confirmed, and with what leads to it: nothing is
    /// added that the confirmed one does not vouch for.
    fn would_help(&self, choice: &Choice) -> Result<(), String> {
        let source = Source::Configured(self.file.clone());
        let store = Store::builder()
            .add(source, chain_pem([&choice.wanted]).as_bytes())
            .build(Generation(1));
        let others = self.received[1..].iter().chain(&choice.added);
        let others: Vec<_> = others.map(|one| one.der().clone()).collect();
        let name = PeerName::from_host(&self.inspection.host);
        let now = jiff::Timestamp::now();
        let leaf = self.leaf().der();
        verify(leaf, &others, &store, Some(&name), now, Usage::ServerAuth)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// `host` or `host:port`.
    fn place(&self) -> String {
        let host = if self.target.host().contains(':') {
            format!("[{}]", self.target.host())
        } else {
            self.target.host().to_owned()
        };
        match self.target.port() {
            443 => host,
            port => format!("{host}:{port}"),
        }
    }
}

enum Decision {
    Confirmed,
    /// Nothing is written, for this reason.
    Not(String),
}

fn target(host: &str) -> Result<Target, Failure> {
    let text = if host.contains("://") {
        host.to_owned()
    } else {
        format!("https://{host}")
    };
    let url = Url::parse(&text)
        .map_err(|error| Failure::invalid(format!("{host:?} is no server: {error}")))?;
    Target::from_url(&url).ok_or_else(|| {
        Failure::invalid(format!("{host:?} is no server that speaks TLS"))
            .hint("write HOST, HOST:PORT or a https:// URL")
    })
}

fn trust_file(trust: &TrustSettings, target: &Target) -> Result<PathBuf, Failure> {
    trust.ca_path_for(target.host()).ok_or_else(|| {
        Failure::invalid(format!("no file is named after {:?}", target.host()))
            .hint("--to names one")
    })
}

/// The certificates from the leaf upwards, each followed by one that has its issuer's name.
fn linked(all: &[Arc<Certificate>]) -> Vec<Arc<Certificate>> {
    let mut chain: Vec<Arc<Certificate>> = all.first().cloned().into_iter().collect();
    while let Some(last) = chain.last() {
        if last.is_self_issued() {
            break;
        }
        let issuer = all.iter().find(|one| {
            one.subject_der() == last.issuer_der()
                && chain
                    .iter()
                    .all(|known| known.fingerprint() != one.fingerprint())
        });
        match issuer {
            Some(issuer) => chain.push(Arc::clone(issuer)),
            None => break,
        }
    }
    chain
}
