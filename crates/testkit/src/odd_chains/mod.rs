//! Chains that put one rule each to the test, sound and odd ones, as questions for a verifier.
//!
//! Go's answers to them are committed beside them (`go-verdicts/`); new keys make new chains, so they are made again
//! only when a case is added (`cargo xtask go-verdicts --new-chains`).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::forge::*;

mod algorithms;
mod encoding;
mod issuers;
mod name_constraints;
mod names;
mod paths;
mod pins;
mod policies;
mod times;
mod usages;

/// The host that is asked for unless a case says otherwise.
const HOST: &str = "gitlab.example.com";

/// The time unless a case says otherwise; certificates of [`draft`] are valid throughout 2026.
const AT: &str = "2026-06-01T12:00:00Z";

/// One question: would you accept this?
pub struct OddChain {
    id: String,
    ca: String,
    chain: String,
    host: Option<String>,
    at: &'static str,
    purpose: &'static str,
}

impl OddChain {
    /// The keys of `courser trust verify --batch`.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "id": self.id,
            "ca": self.ca,
            "chain": self.chain,
            "at": self.at,
            "purpose": self.purpose,
        });
        if let Some(host) = &self.host {
            value["host"] = json!(host);
        }
        value
    }

    fn host(&mut self, host: &str) -> &mut Self {
        self.host = Some(host.to_owned());
        self
    }

    fn at(&mut self, at: &'static str) -> &mut Self {
        self.at = at;
        self
    }

    /// The peer is a client, which has no name.
    fn client(&mut self) -> &mut Self {
        self.purpose = "client";
        self.host = None;
        self
    }

    fn chain_text(&mut self, text: String) -> &mut Self {
        self.chain = text;
        self
    }

    fn ca_text(&mut self, text: String) -> &mut Self {
        self.ca = text;
        self
    }
}

/// All of them, ordered by subject.
pub fn all() -> Vec<OddChain> {
    let mut suite = Suite::default();
    pins::add(&mut suite);
    issuers::add(&mut suite);
    paths::add(&mut suite);
    names::add(&mut suite);
    name_constraints::add(&mut suite);
    usages::add(&mut suite);
    policies::add(&mut suite);
    times::add(&mut suite);
    algorithms::add(&mut suite);
    encoding::add(&mut suite);
    let mut ids = HashSet::new();
    for chain in &suite.0 {
        assert!(ids.insert(chain.id.as_str()), "{} is there twice", chain.id);
    }
    suite.0
}

/// Cases so far.
#[derive(Default)]
struct Suite(Vec<OddChain>);

impl Suite {
    /// A server that serves these, leaf first, asked by a client that trusts those.
    fn add(&mut self, id: &str, trusted: &[&Identity], served: &[&Identity]) -> &mut OddChain {
        let text = |all: &[&Identity]| all.iter().map(|one| one.pem()).collect();
        self.0.push(OddChain {
            id: id.to_owned(),
            ca: text(trusted),
            chain: text(served),
            host: Some(HOST.to_owned()),
            at: AT,
            purpose: "server",
        });
        self.0.last_mut().expect("it was pushed")
    }

    /// A leaf of this form below a plain root.
    fn leaf(&mut self, id: &str, leaf: Draft) -> &mut OddChain {
        let root = ca("root").self_signed();
        let leaf = leaf.issued_by(&root);
        self.add(id, &[&root], &[&leaf])
    }

    /// A root of this form above a plain leaf.
    fn root(&mut self, id: &str, root: Draft) -> &mut OddChain {
        let root = root.self_signed();
        let leaf = leaf(HOST).issued_by(&root);
        self.add(id, &[&root], &[&leaf])
    }

    /// An intermediate of this form between a plain root and a plain leaf.
    fn intermediate(&mut self, id: &str, intermediate: Draft) -> &mut OddChain {
        let root = ca("root").self_signed();
        let intermediate = intermediate.issued_by(&root);
        let leaf = leaf(HOST).issued_by(&intermediate);
        self.add(id, &[&root], &[&leaf, &intermediate])
    }
}

/// The same key once more; rcgen's do not clone.
fn same_key(identity: &Identity) -> rcgen::KeyPair {
    rcgen::KeyPair::try_from(identity.key.serialize_der()).expect("the same key")
}
