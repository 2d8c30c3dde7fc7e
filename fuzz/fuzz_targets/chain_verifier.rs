//! The odd chains of `courser-testkit`, changed in structure and in bytes, at other times and for other names.
//!
//! A sound chain is unreachable from random bytes, so an input chooses one of the committed chains and then edits it:
//! certificates of other chains come in, others go, change place or lose bytes.
#![no_main]

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use courser_trust::{
    Certificate, Generation, Moment, PeerName, Reason, ServedChain, Source, Store, Usage,
    VerifiedChains, VerifyError, chain_pem, verify_at,
};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

#[derive(Debug, Arbitrary)]
struct Question {
    case: u16,
    edits: Vec<Edit>,
    more: u16,
}

#[derive(Debug, Arbitrary)]
enum Edit {
    /// Another certificate of the pool, served or trusted.
    Add {
        pool: u16,
        served: bool,
    },
    Remove {
        at: u8,
        served: bool,
    },
    Swap {
        one: u8,
        other: u8,
    },
    /// In the place of some octets of a certificate, perhaps none, come others, or none.
    Bytes {
        at: u8,
        served: bool,
        offset: u16,
        delete: u8,
        insert: Option<u8>,
    },
    Days(i16),
    Host(u8),
    Client,
}

/// Names to ask for beside a case's own.
const HOSTS: [&str; 8] = [
    "gitlab.example.com",
    "a.gitlab.example.com",
    "*.example.com",
    "192.0.2.1",
    "[2001:db8::1]",
    "..",
    "",
    "xn--gtlab-3ya.example.com.",
];

struct Case {
    trusted: Vec<Vec<u8>>,
    served: Vec<Vec<u8>>,
    host: Option<String>,
    at: Moment,
    client: bool,
}

#[derive(serde::Deserialize)]
struct Line {
    ca: String,
    chain: String,
    host: Option<String>,
    at: String,
    purpose: String,
}

struct Corpus {
    cases: Vec<Case>,
    pool: Vec<Vec<u8>>,
}

fn corpus() -> &'static Corpus {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let packed = include_bytes!("../../crates/testkit/go-verdicts/chains.jsonl.gz");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .expect("committed text");
        let mut pool = HashMap::new();
        let mut cases = Vec::new();
        for line in text.lines() {
            let line: Line = serde_json::from_str(line).expect("a committed case");
            let mut read = |pem: &str| -> Vec<Vec<u8>> {
                let source = Source::Inline("corpus".to_owned());
                let chain = ServedChain::read(source, pem.as_bytes());
                let all = chain.certificates().iter();
                all.map(|one| {
                    let next = pool.len();
                    pool.entry(one.to_vec()).or_insert(next);
                    one.to_vec()
                })
                .collect()
            };
            cases.push(Case {
                trusted: read(&line.ca),
                served: read(&line.chain),
                host: line.host,
                at: Moment::parse_rfc3339(&line.at).expect("a time"),
                client: line.purpose == "client",
            });
        }
        let mut pool: Vec<(Vec<u8>, usize)> = pool.into_iter().collect();
        pool.sort_by_key(|(_, number)| *number);
        Corpus {
            cases,
            pool: pool.into_iter().map(|(der, _)| der).collect(),
        }
    })
}

struct Certificates {
    trusted: Vec<Vec<u8>>,
    served: Vec<Vec<u8>>,
}

impl Certificates {
    fn list(&mut self, served: bool) -> &mut Vec<Vec<u8>> {
        if served {
            &mut self.served
        } else {
            &mut self.trusted
        }
    }
}

fuzz_target!(|question: Question| {
    let Corpus { cases, pool } = corpus();
    let case = &cases[usize::from(question.case) % cases.len()];
    let pick = |number: u16| pool[usize::from(number) % pool.len()].clone();
    let mut certificates = Certificates {
        trusted: case.trusted.clone(),
        served: case.served.clone(),
    };
    let mut at = case.at;
    let mut host = case.host.as_deref();
    let mut client = case.client;
    for edit in question.edits.iter().take(24) {
        match *edit {
            Edit::Add { pool, served } => certificates.list(served).push(pick(pool)),
            Edit::Remove { at, served } => {
                let list = certificates.list(served);
                if !list.is_empty() {
                    list.remove(usize::from(at) % list.len());
                }
            }
            Edit::Swap { one, other } => {
                let served = certificates.list(true);
                if !served.is_empty() {
                    let length = served.len();
                    served.swap(usize::from(one) % length, usize::from(other) % length);
                }
            }
            Edit::Bytes {
                at,
                served,
                offset,
                delete,
                insert,
            } => {
                let list = certificates.list(served);
                let length = list.len().max(1);
                if let Some(der) = list.get_mut(usize::from(at) % length) {
                    let offset = usize::from(offset) % (der.len() + 1);
                    let end = der.len().min(offset + usize::from(delete));
                    der.splice(offset..end, insert);
                }
            }
            Edit::Days(days) => {
                at = Moment::from_unix_seconds(at.unix_seconds() + i64::from(days) * 86_400);
            }
            Edit::Host(number) => host = Some(HOSTS[usize::from(number) % HOSTS.len()]),
            Edit::Client => client = !client,
        }
    }
    let Certificates {
        mut trusted,
        served,
    } = certificates;
    let Some((leaf, above)) = served.split_first() else {
        return;
    };
    let leaf = CertificateDer::from(&leaf[..]);
    let above: Vec<CertificateDer<'_>> = above.iter().map(|der| der[..].into()).collect();
    let name = host.filter(|_| !client).map(PeerName::from_host);
    let usage = if client {
        Usage::ClientAuth
    } else {
        Usage::ServerAuth
    };
    let judge = |store: &Store| verify_at(&leaf, &above, store, name.as_ref(), at, usage);

    let store = store(&trusted);
    let first = judge(&store);
    check(&first, &store, &leaf);

    // What the store remembers of a chain does not change the verdict.
    let again = judge(&store);
    assert_eq!(words(&first), words(&again));

    // One more anchor refuses nothing, unless the work it makes is too much.
    if first.is_ok() {
        trusted.push(pick(question.more));
        if let Err(error) = judge(&self::store(&trusted)) {
            let limit = matches!(
                error.reason(),
                Reason::SignatureLimit | Reason::ConstraintLimit
            );
            assert!(limit, "one more anchor: {error}");
        }
    }
});

fn store(trusted: &[Vec<u8>]) -> Store {
    let certificates: Vec<_> = trusted
        .iter()
        .filter_map(|der| Certificate::parse(der).ok().map(Arc::new))
        .collect();
    let pem: String = certificates
        .iter()
        .map(|one| chain_pem([one]) + "\n")
        .collect();
    Store::builder()
        .add(Source::Inline("trusted".to_owned()), pem.as_bytes())
        .build(Generation(1))
}

fn words(verdict: &Result<VerifiedChains, VerifyError>) -> Result<String, String> {
    match verdict {
        Ok(chains) => Ok(chains.to_pem()),
        Err(error) => Err(error.to_string()),
    }
}

fn check(verdict: &Result<VerifiedChains, VerifyError>, store: &Store, leaf: &[u8]) {
    match verdict {
        Ok(chains) => {
            for chain in chains.chains() {
                let path = chain.certificates();
                assert_eq!(path[0].der().as_ref(), leaf);
                let last = path.last().expect("a path is not empty");
                assert!(
                    store.find(last.fingerprint()).is_some(),
                    "an anchor is trusted"
                );
                for pair in path.windows(2) {
                    assert_eq!(pair[0].issuer_der(), pair[1].subject_der());
                }
            }
        }
        Err(error) => {
            let summary = error.to_string();
            assert!(!summary.contains(['\n', '\u{1b}']), "one line: {summary}");
            assert!(error.explain().starts_with(&summary));
        }
    }
}
