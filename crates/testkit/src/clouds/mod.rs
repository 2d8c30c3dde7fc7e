//! Strict fakes of the clouds whose secrets jobs read (`secrets.md` 7 to 9), written from the fact sheet and the
//! vendors' API documents.
//!
//! Each verifies the ID token as its original does (signature, issuer, audience, times, claims), refuses requests whose
//! shape the original refuses, and answers its documented errors with the original's status and words. One listener
//! serves all hosts of a cloud; a test leads their names to it by a proxy ([`routes`](google::Google::routes)) or gives
//! its address as base URL.

pub mod aws;
pub mod azure;
pub mod google;
pub(crate) mod sigv4;
pub mod vault;

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::http_message::Request;
use crate::server::{Reply, locked};

/// Answers that a fake gives instead of its own.
struct Faults<S> {
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

/// The value of a field of a form.
fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields
        .iter()
        .find(|(other, _)| other == name)
        .map_or("", |(_, value)| value)
}
