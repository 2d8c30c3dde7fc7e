//! A Git LFS server: the batch API, and a store that may be somewhere else, as with GitLab.
//!
//! Written from the Git LFS specification (`docs/api`), judged by the real `git-lfs`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::pki::Issued;
use crate::server::{FakeServer, Reply, Request, locked};

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// `objects/batch` of all repositories. Speaks plain HTTP: the server in front of it has the certificate.
pub struct LfsServer {
    server: FakeServer,
}

/// Where a batch answer sends a client for `upload` or `download` of an object id: URL and headers.
pub type Href = dyn Fn(&str, &str) -> (String, Vec<(String, String)>) + Send + Sync;

impl LfsServer {
    /// Starts it. With `authorization`, a request whose header of that name differs gets 401.
    /// Objects that `exists` denies are an error of their own in a download, as the specification says.
    pub fn start(
        authorization: Option<&str>,
        exists: impl Fn(&str) -> bool + Send + Sync + 'static,
        href: Box<Href>,
    ) -> Self {
        let authorization = authorization.map(ToOwned::to_owned);
        let server = FakeServer::http(move |request| {
            if authorization
                .as_ref()
                .is_some_and(|wanted| request.header("authorization") != wanted)
            {
                return Reply::with(MEDIA_TYPE, 401, r#"{"message":"credentials needed"}"#)
                    .header("LFS-Authenticate", "Basic realm=\"lfs\"");
            }
            if request.method == "POST" && request.path.ends_with("/info/lfs/objects/batch") {
                return batch(request, &exists, &href);
            }
            // Locks are optional; clients go on without.
            Reply::with(MEDIA_TYPE, 404, r#"{"message":"not found"}"#)
        });
        Self { server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

fn batch(request: &Request, exists: &dyn Fn(&str) -> bool, href: &Href) -> Reply {
    let body = request.json();
    let operation = body["operation"].as_str().unwrap_or_default();
    let basic = body["transfers"]
        .as_array()
        .is_none_or(|transfers| transfers.iter().any(|transfer| transfer == "basic"));
    let accepted = request.header("accept").starts_with(MEDIA_TYPE)
        && request.header("content-type").starts_with(MEDIA_TYPE)
        && ["upload", "download"].contains(&operation)
        && basic;
    let (true, Some(objects)) = (accepted, body["objects"].as_array()) else {
        return Reply::with(MEDIA_TYPE, 422, r#"{"message":"no batch request"}"#);
    };
    let objects: Vec<Value> = objects
        .iter()
        .map(|object| {
            let oid = object["oid"].as_str().unwrap_or_default();
            let mut answer = json!({"oid": oid, "size": object["size"], "authenticated": true});
            match (operation, exists(oid)) {
                ("download", false) => {
                    answer["error"] = json!({"code": 404, "message": "there is no such object"});
                }
                // What the server has need not be sent: no actions.
                ("upload", true) => {}
                _ => {
                    let (href, headers) = href(operation, oid);
                    let headers: serde_json::Map<String, Value> = headers
                        .into_iter()
                        .map(|(name, value)| (name, value.into()))
                        .collect();
                    answer["actions"] = json!({
                        operation: {"href": href, "header": headers, "expires_in": 600},
                    });
                }
            }
            answer
        })
        .collect();
    let answer = json!({"transfer": "basic", "objects": objects, "hash_algo": "sha256"});
    Reply::with(MEDIA_TYPE, 200, answer.to_string())
}

/// Object id of a content, and the file that stands for it in a repository.
pub fn pointer(content: &[u8]) -> (String, String) {
    let oid = hex::encode(digest::digest(&digest::SHA256, content));
    let size = content.len();
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    (oid, text)
}

/// A store of LFS objects over TLS: `PUT` and `GET` of `/<oid>`, with a token of its own.
pub struct LfsStore {
    server: FakeServer,
    objects: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

/// The store takes no other token, and none of the Git server.
const STORE_TOKEN: &str = "Bearer store-token";

impl LfsStore {
    /// Starts it.
    pub fn start(leaf: &Issued) -> Self {
        let objects = Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new()));
        let held = Arc::clone(&objects);
        let server = FakeServer::https(leaf, move |request| {
            if request.header("authorization") != STORE_TOKEN {
                return Reply::status(403);
            }
            let oid = request.path.trim_start_matches('/').to_owned();
            let mut held = locked(&held);
            match request.method.as_str() {
                "PUT" => {
                    held.insert(oid, request.body.clone());
                    Reply::status(200)
                }
                "GET" => match held.get(&oid) {
                    Some(content) => Reply::with("application/octet-stream", 200, content.clone()),
                    None => Reply::status(404),
                },
                _ => Reply::status(405),
            }
        });
        Self { server, objects }
    }

    /// Has an object from now on.
    pub fn put(&self, oid: &str, content: &[u8]) {
        locked(&self.objects).insert(oid.to_owned(), content.to_vec());
    }

    /// A batch API whose objects are here, under a host name that leads here.
    pub fn batch_api(&self, host: &str, authorization: Option<&str>) -> LfsServer {
        let held = Arc::clone(&self.objects);
        let base = self.server.url_by_name(host, "");
        LfsServer::start(
            authorization,
            move |oid| locked(&held).contains_key(oid),
            Box::new(move |_, oid| {
                let token = ("Authorization".to_owned(), STORE_TOKEN.to_owned());
                (format!("{base}/{oid}"), vec![token])
            }),
        )
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}
