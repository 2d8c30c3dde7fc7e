//! Strict fakes of the clouds whose secrets jobs read (`secrets.md` 7 to 9), written from the fact sheet and the
//! vendors' API documents.
//!
//! Each verifies the ID token as its original does (signature, issuer, audience, times, claims), refuses requests whose
//! shape the original refuses, and answers its documented errors with the original's status and words. One listener
//! serves all hosts of a cloud; a test leads their names to it by a proxy ([`Listening::routes`]) or gives
//! its address as base URL.

pub mod aws;
pub mod azure;
pub mod google;
pub(crate) mod sigv4;
pub mod vault;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::http_message::Request;
use crate::pki::Issued;
use crate::server::{FakeServer, Reply, locked};

/// What a fake stands for.
pub trait Cloud: Send + Sync + 'static {
    /// Its requests that can be made to fail.
    type Step: Copy + PartialEq;

    /// Answers that are given instead of its own.
    fn faults(&self) -> &Faults<Self::Step>;

    /// The hosts it is on.
    fn hosts(&self) -> Vec<String>;

    /// Its answer, faults included.
    fn answer(&self, request: &Request) -> Reply;
}

/// A running fake: one listener for all hosts of a cloud.
pub struct Listening<C> {
    server: FakeServer,
    cloud: Arc<C>,
}

impl<C: Cloud> Listening<C> {
    fn over_tls(leaf: &Issued, cloud: C) -> Self {
        let cloud = Arc::new(cloud);
        let shared = Arc::clone(&cloud);
        Self {
            server: FakeServer::https(leaf, move |request| shared.answer(request)),
            cloud,
        }
    }

    /// `host:port`s that lead here.
    pub fn routes(&self) -> Vec<(String, SocketAddr)> {
        let hosts = self.cloud.hosts().into_iter();
        let address = self.server.address();
        hosts.map(|host| (format!("{host}:443"), address)).collect()
    }

    /// Its base URL, for all its services.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// Answers the next requests of a step so.
    pub fn next(&self, step: C::Step, replies: Vec<Reply>) {
        self.cloud.faults().queue(step, replies);
    }

    /// Answers all requests of a step so.
    pub fn always(&self, step: C::Step, reply: Reply) {
        self.cloud.faults().keep(step, reply);
    }

    /// What was received.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

/// Answers that a fake gives instead of its own.
pub struct Faults<S> {
    queued: Mutex<Vec<(S, VecDeque<Reply>)>>,
    lasting: Mutex<Vec<(S, Reply)>>,
}

impl<S> Default for Faults<S> {
    fn default() -> Self {
        Self {
            queued: Mutex::default(),
            lasting: Mutex::default(),
        }
    }
}

impl<S: PartialEq + Copy> Faults<S> {
    /// The next answers of this step.
    fn queue(&self, step: S, replies: Vec<Reply>) {
        locked(&self.queued).push((step, replies.into()));
    }

    /// All answers of this step that are not queued.
    fn keep(&self, step: S, reply: Reply) {
        locked(&self.lasting).push((step, reply));
    }

    fn take(&self, step: S) -> Option<Reply> {
        let mut queued = locked(&self.queued);
        let of_step = queued.iter_mut().filter(|(queued, _)| *queued == step);
        if let Some(reply) = of_step
            .filter_map(|(_, replies)| replies.pop_front())
            .next()
        {
            return Some(reply);
        }
        let lasting = locked(&self.lasting);
        let found = lasting.iter().find(|(lasting, _)| *lasting == step);
        found.map(|(_, reply)| reply.clone())
    }
}

/// Whether a request came to one of these hosts, or to the listener by its address.
fn is_for(request: &Request, hosts: &[&str]) -> bool {
    let host = request.header("host");
    host.starts_with("127.0.0.1:") || hosts.contains(&host)
}

/// The fields of a form in their order, percent-decoded. `None`: it is not one, or a field stands twice.
fn form(request: &Request) -> Option<Vec<(String, String)>> {
    let kind = request.header("content-type");
    if kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
        return None;
    }
    let text = std::str::from_utf8(&request.body).ok()?;
    let mut fields: Vec<(String, String)> = Vec::new();
    for field in text.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=')?;
        let (name, value) = (unescaped(name)?, unescaped(value)?);
        if fields.iter().any(|(other, _)| *other == name) {
            return None;
        }
        fields.push((name, value));
    }
    Some(fields)
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Access tokens, without what is known of each.
fn given_out(tokens: &Mutex<Vec<(String, String)>>) -> Vec<String> {
    let tokens = locked(tokens);
    tokens.iter().map(|(token, _)| token.clone()).collect()
}

/// The value of a field of a form.
fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields
        .iter()
        .find(|(other, _)| other == name)
        .map_or("", |(_, value)| value)
}
