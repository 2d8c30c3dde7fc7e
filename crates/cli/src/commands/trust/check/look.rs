//! Going the ways: the handshake of each, the one past the proxy, and a harmless request.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_net::{
    Body, Call, Client, ClientCertificate, ClientSettings, Fault, Inspection, Redirects, Retry,
    Route, Target, Timeouts, shown_url,
};
use courser_trust::Certificate;
use http::header::{ACCEPT, LOCATION};
use http::{HeaderValue, Method};
use url::Url;

use super::engine::{self, Registry};
use super::legs::{Leg, Question, Trust};
use crate::failure::Failure;
use crate::session::Session;
use crate::version;

/// Longest look at a server, and longest request.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest chain of redirects.
const MOST_REDIRECTS: usize = 5;
/// Longest answer that is read.
const ANSWER_LIMIT: usize = 256 * 1024;
const LFS_MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// What a leg showed.
pub(super) struct Finding {
    pub(super) name: &'static str,
    /// Without secrets.
    pub(super) url: String,
    /// `None` where no TLS is spoken.
    pub(super) inspection: Option<Inspection>,
    /// Certificates that the server sent, as far as they can be read.
    pub(super) received: Vec<Arc<Certificate>>,
    /// Who issued what the server shows without the proxy.
    pub(super) issuer_without_proxy: Option<String>,
    /// Status of the harmless request.
    pub(super) http_status: Option<u16>,
    /// What the other side said of itself, where that is no HTTP status.
    pub(super) note: Option<String>,
    /// What fails, with its remedy.
    pub(super) fault: Option<Fault>,
}

/// Looks at legs.
pub(super) struct Looker<'a> {
    session: &'a Session,
    /// The Engine's `/etc/docker`, if what is missing there may be written.
    fix: Option<PathBuf>,
}

impl Finding {
    pub(super) fn is_fine(&self) -> bool {
        self.fault.is_none()
    }

    /// The chain with which the server was verified, PEM.
    fn chain_pem(&self) -> Option<String> {
        let accepted = self.inspection.as_ref()?.outcome.as_ref().ok()?;
        Some(accepted.to_pem())
    }
}

impl<'a> Looker<'a> {
    pub(super) fn new(session: &'a Session, fix: Option<PathBuf>) -> Self {
        Self { session, fix }
    }

    /// Looks at the legs of one runner or URL, and at where they send their readers.
    pub(super) async fn look(&self, legs: Vec<Leg>) -> Result<Vec<Finding>, Failure> {
        let mut findings: Vec<Finding> = Vec::new();
        let mut api_chain = None;
        let mut engine = None;
        for leg in legs {
            match (&leg.question, &engine) {
                (Question::Engine(way), _) => {
                    let (mut finding, _) = self.one(&leg, None).await?;
                    engine = engine::ask(way, &mut finding).await;
                    findings.push(finding);
                    continue;
                }
                (Question::Registry(image), Some(engine)) => {
                    let (mut finding, _) = self.one(&leg, None).await?;
                    let client = self.client(&leg.trust, None);
                    let registry = Registry {
                        image,
                        url: &leg.url,
                        engine,
                        client: &client,
                    };
                    registry.ask(self.fix.as_deref(), &mut finding).await;
                    findings.push(finding);
                    continue;
                }
                // Nobody can be asked; the Engine's own leg says why.
                (Question::Registry(_), None) => continue,
                _ => {}
            }
            let mut seen = HashSet::from([leg.url.clone()]);
            let (finding, mut next) = self.one(&leg, api_chain.as_deref()).await?;
            if leg.name == "api" {
                api_chain = finding.chain_pem();
            }
            findings.push(finding);
            let mut from = leg;
            while let Some(url) = next.take() {
                if seen.len() > MOST_REDIRECTS || !seen.insert(url.clone()) {
                    break;
                }
                let further = from.storage(url);
                let (finding, then) = self.one(&further, api_chain.as_deref()).await?;
                findings.push(finding);
                (from, next) = (further, then);
            }
        }
        Ok(findings)
    }

    /// A leg, and the other server that its answer names.
    async fn one(
        &self,
        leg: &Leg,
        api_chain: Option<&str>,
    ) -> Result<(Finding, Option<Url>), Failure> {
        let client = self.client(&leg.trust, api_chain);
        let mut finding = Finding {
            name: leg.name,
            url: shown_url(&leg.url),
            inspection: None,
            received: Vec::new(),
            issuer_without_proxy: None,
            http_status: None,
            note: None,
            fault: None,
        };
        let (target, route) = match leg.question {
            Question::Registry(_) => (None, Route::Direct),
            Question::Engine(_) => (Target::from_url(&leg.url), Route::Direct),
            _ => (Target::from_url(&leg.url), Route::AsCalls),
        };
        if let Some(target) = target {
            let looking = client.inspect(&target, route);
            let inspection = match tokio::time::timeout(LOOK_TIMEOUT, looking).await {
                Ok(Ok(inspection)) => inspection,
                Ok(Err(fault)) => return Err(Failure::internal(fault.to_string())),
                Err(_) => {
                    finding.fault = Some(Fault::timeout(&target));
                    return Ok((finding, None));
                }
            };
            finding.received = readable(&inspection);
            if inspection.proxy.is_some() {
                finding.issuer_without_proxy = client.issuer_past_proxy(&target).await;
            }
            let fault = inspection.outcome.as_ref().err().cloned();
            finding.fault = match (fault, &finding.issuer_without_proxy) {
                (Some(fault), Some(issuer)) => Some(fault.with_direct_issuer(issuer.clone())),
                (fault, _) => fault,
            };
            finding.inspection = Some(inspection);
        }
        let asked = matches!(leg.question, Question::Get | Question::LfsBatch(_));
        if finding.fault.is_some() || !asked {
            return Ok((finding, None));
        }
        let next = self.ask(&client, leg, &mut finding).await;
        Ok((finding, next))
    }

    fn client(&self, trust: &Trust, api_chain: Option<&str>) -> Client {
        Client::new(ClientSettings {
            trust: trust.settings(api_chain),
            proxy: self.session.environment.proxy.clone(),
            user_agent: version::user_agent(),
            connection_max_age: Duration::ZERO,
        })
    }

    /// Asks the harmless question. Whatever status is answered, the way there is good; what is looked for is another
    /// server, and a web server's word that it misses a client certificate.
    async fn ask(&self, client: &Client, leg: &Leg, finding: &mut Finding) -> Option<Url> {
        let mut call = Call::new(Method::GET, leg.url.clone());
        call.retry = Retry::Never;
        call.redirects = Redirects::Return;
        call.timeouts = Timeouts {
            response_header: LOOK_TIMEOUT,
            total: LOOK_TIMEOUT,
        };
        if let Question::LfsBatch(oid) = &leg.question {
            call.method = Method::POST;
            call.headers
                .insert(ACCEPT, HeaderValue::from_static(LFS_MEDIA_TYPE));
            let body = serde_json::json!({
                "operation": "download",
                "transfers": ["basic"],
                "objects": [{"oid": oid, "size": 1}],
            });
            call.body = Body::Bytes(Bytes::from(body.to_string()), LFS_MEDIA_TYPE);
        }
        let answer = match client.send(call).await {
            Ok(answer) => answer,
            Err(error) => {
                finding.fault = Some(Fault::of_call(&error));
                return None;
            }
        };
        let status = answer.status.as_u16();
        finding.http_status = Some(status);
        let unanswered = finding.inspection.as_ref().is_some_and(|inspection| {
            inspection.client_certificate == ClientCertificate::NotOffered
        });
        // 495 and 496 are nginx's own; it shows them as 400.
        if unanswered && matches!(status, 400 | 495 | 496) {
            let host = leg.url.host_str().unwrap_or_default();
            finding.fault = Some(Fault::client_certificate_demanded(
                host,
                format!("HTTP status {status}: no required client certificate was sent"),
            ));
            return None;
        }
        if answer.status.is_redirection() {
            let location = answer.headers.get(LOCATION)?.to_str().ok()?;
            let url = leg.url.join(location).ok()?;
            let elsewhere = url.host_str() != leg.url.host_str()
                || url.port_or_known_default() != leg.url.port_or_known_default();
            return (elsewhere && matches!(url.scheme(), "http" | "https")).then_some(url);
        }
        if matches!(leg.question, Question::LfsBatch(_)) && answer.status.is_success() {
            let body = answer.bytes(ANSWER_LIMIT).await.ok()?;
            return storage_of(&body).filter(|url| url.host_str() != leg.url.host_str());
        }
        None
    }
}

fn readable(inspection: &Inspection) -> Vec<Arc<Certificate>> {
    inspection
        .received
        .iter()
        .filter_map(|der| Certificate::parse(der).ok().map(Arc::new))
        .collect()
}

/// Where LFS sends its reader for the first object.
fn storage_of(answer: &[u8]) -> Option<Url> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let actions = answer.get("objects")?.get(0)?.get("actions")?;
    let action = actions.get("download").or_else(|| actions.get("upload"))?;
    action.get("href")?.as_str()?.parse().ok()
}
