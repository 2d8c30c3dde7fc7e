//! The OIDC issuer: ID tokens of jobs, and what a provider needs to check them (`secrets.md` 10).
//!
//! [`Issuer`] mints tokens when a job is handed out ([`claims`] says what is in them) and publishes discovery
//! document and key set (`api/oidc.rs`). [`Keys`] signs.

mod certificate;
mod claims;
mod keys;
mod public_key;
mod publication;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};
use url::{Host, Url};

use courser_pipeline::Audience;
use courser_protocol::{JobVariable, Secret};

use crate::variables::public;

pub use certificate::certificate_of;
pub(crate) use claims::{Claims, Occasion};
pub use keys::{KeyError, Keys};
pub use public_key::PublicKey;
pub use publication::Publication;

/// Where the discovery document is, below the issuer.
pub(crate) const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the key set is, below the issuer: as on GitLab.
pub(crate) const KEY_SET: &str = "/oauth/discovery/keys";
/// A token cannot be used before it was made, but clocks differ by a little.
const NOT_BEFORE: i64 = 5;

/// Settings of the issuer.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// `iss` of the tokens; `None`: the coordinator's URL.
    pub issuer: Option<IssuerUrl>,
    /// File of the keys; made when it is needed.
    pub keys: PathBuf,
    /// What `sub` is made of.
    pub subject: Subject,
    /// Values of claims that are given, by name, instead of those that are found. They are texts, as nearly all claims
    /// are.
    pub claims: Vec<(String, String)>,
    /// Whether ids of project, namespace and user are made of their names, because the numbers that the coordinator
    /// knows are the same for all: that of a local run has one project only.
    pub ids_of_names: bool,
}

impl OidcSettings {
    /// Keys in this file; all else as it is without settings.
    pub fn new(keys: PathBuf) -> Self {
        Self {
            issuer: None,
            keys,
            subject: Subject::default(),
            claims: Vec::new(),
            ids_of_names: false,
        }
    }
}

/// The URL of an issuer: an absolute one without query, fragment and trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// As tokens and discovery document have it, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(url: &Url) -> Self {
        Self(url.as_str().trim_end_matches('/').to_owned())
    }

    pub(crate) fn host(&self) -> Option<String> {
        let url = Url::parse(&self.0).ok()?;
        Some(match url.host()? {
            Host::Ipv6(address) => address.to_string(),
            host => host.to_string(),
        })
    }

    /// The path below which a provider looks, empty for most.
    pub(crate) fn path(&self) -> String {
        let url = Url::parse(&self.0);
        url.map_or_else(
            |_| String::new(),
            |url| url.path().trim_end_matches('/').to_owned(),
        )
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IssuerUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "no absolute URL: write https://HOST[:PORT][/PATH]";
        let url = Url::parse(text).map_err(|_| FORM)?;
        // The parser mends these, but providers compare the bytes.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("an issuer has no spaces, control characters and backslashes");
        }
        let Some((_, rest)) = text.split_once("://") else {
            return Err(FORM);
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(FORM);
        }
        if url.query().is_some() || url.fragment().is_some() || authority.contains('@') {
            return Err("an issuer has no query, fragment or user");
        }
        let is_pattern = |part: &str| part.starts_with([':', '*']) || part.contains(['{', '}']);
        if path.split('/').any(is_pattern) {
            return Err("no part of an issuer's path begins with : or *, or has braces");
        }
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err("an issuer has a host"),
        };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            _ => return Err("an issuer begins with https://; http:// is for loopback only"),
        }
        // As written: providers compare bytes.
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// Claims that `sub` is made of, in order (`secrets.md` 10.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(Vec<String>);

/// What a subject may have.
const COMPONENTS: [&str; 7] = [
    "project_path",
    "project_id",
    "ref_type",
    "ref",
    "ref_protected",
    "environment_protected",
    "deployment_tier",
];

impl Default for Subject {
    fn default() -> Self {
        Self(
            ["project_path", "ref_type", "ref"]
                .map(str::to_owned)
                .into(),
        )
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let components: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        if let Some(unknown) = components
            .iter()
            .find(|name| !COMPONENTS.contains(&name.as_str()))
        {
            return Err(format!("{unknown:?} is none of {}", COMPONENTS.join(", ")));
        }
        if !components[0].starts_with("project_") {
            return Err("the first one is project_path or project_id".to_owned());
        }
        Ok(Self(components))
    }
}

impl Subject {
    /// `project_path:group/project:ref_type:branch:ref:main`; what a job does not have is left out. As on GitLab
    /// nothing is escaped.
    fn text(&self, claims: &serde_json::Map<String, Value>) -> String {
        let pair = |name: &String| Some(format!("{name}:{}", claims.get(name)?.as_str()?));
        let pairs: Vec<String> = self.0.iter().filter_map(pair).collect();
        pairs.join(":")
    }
}

/// Mints ID tokens.
#[derive(Debug)]
pub(crate) struct Issuer {
    url: IssuerUrl,
    keys: Keys,
    subject: Subject,
    claims: Vec<(String, String)>,
    ids_of_names: bool,
}

/// Ids, and the names that they are made of where the coordinator has none.
const IDS: [(&str, &str); 5] = [
    ("namespace_id", "namespace_path"),
    ("project_id", "project_path"),
    ("job_namespace_id", "job_namespace_path"),
    ("job_project_id", "job_project_path"),
    ("user_id", "user_email"),
];

/// A number from 1 to 2^31 - 1, the same for the same name.
fn id_of(name: &str) -> u32 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let number = digest.as_ref().iter().take(4);
    let number = number.fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
    (number >> 1).max(1)
}

impl Issuer {
    /// `server` is the coordinator's URL.
    pub(crate) fn new(settings: OidcSettings, server: &Url) -> Self {
        Self {
            url: settings.issuer.unwrap_or_else(|| IssuerUrl::of(server)),
            keys: Keys::at(settings.keys),
            subject: settings.subject,
            claims: settings.claims,
            ids_of_names: settings.ids_of_names,
        }
    }

    /// Where the project is, if Git does not tell: at the issuer, which is the same in all runs.
    pub(crate) fn project_url(&self, known: Option<&str>, path: &str) -> String {
        known.map_or_else(|| format!("{}/{path}", self.url), str::to_owned)
    }

    pub(crate) fn url(&self) -> &IssuerUrl {
        &self.url
    }

    /// A token for `aud`, which is expanded, of a job that may take `timeout` seconds from `now` on.
    pub(crate) fn mint(
        &self,
        claims: Claims,
        aud: &Audience,
        now: i64,
        timeout: i64,
    ) -> Result<Secret, KeyError> {
        let lifetime = if timeout > 0 { timeout } else { 300 };
        let mut claims = self.complete(claims, aud);
        for (name, value) in [
            ("iat", now),
            ("nbf", now - NOT_BEFORE),
            ("exp", now + lifetime),
        ] {
            claims.insert(name.to_owned(), value.into());
        }
        let id = uuid::Uuid::new_v4().to_string();
        claims.insert("jti".to_owned(), id.into());
        self.keys.sign(&claims.into(), now, lifetime)
    }

    /// The claims with what the issuer knows, but without times and number.
    pub(crate) fn complete(
        &self,
        claims: Claims,
        aud: &Audience,
    ) -> serde_json::Map<String, Value> {
        let mut claims = claims.into_map();
        for (id, name) in IDS.iter().filter(|_| self.ids_of_names) {
            let name = claims.get(*name).and_then(Value::as_str);
            let number = id_of(name.unwrap_or_default()).to_string();
            claims.insert((*id).to_owned(), number.into());
        }
        for (name, value) in &self.claims {
            claims.insert(name.clone(), value.as_str().into());
        }
        let of_issuer = [
            ("sub", self.subject.text(&claims).into()),
            ("iss", self.url.as_str().into()),
            ("aud", json!(aud)),
        ];
        for (name, value) in of_issuer {
            // A subject may be given; an issuer that is not this one would be a lie.
            if name != "sub" || !claims.contains_key("sub") {
                claims.insert(name.to_owned(), value);
            }
        }
        claims
    }

    /// What a provider asks for first.
    pub(crate) fn discovery(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url.as_str(),
            "jwks_uri": format!("{url}{KEY_SET}"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": claims::SUPPORTED.as_slice(),
        })
    }

    /// Public keys of all tokens that may be valid.
    pub(crate) fn key_set(&self, now: i64) -> Result<Value, KeyError> {
        let keys: Vec<Value> = self.keys.public(now)?.iter().map(PublicKey::jwk).collect();
        Ok(json!({ "keys": keys }))
    }
}

/// A job that might run, for people who write roles.
#[derive(Debug)]
pub struct SampleJob<'a> {
    /// `group/project`.
    pub project_path: &'a str,
    /// Its number; `None`: nobody knows it, and claims say so instead.
    pub project_id: Option<i64>,
    /// What the event tells: `CI_*` and `GITLAB_USER_*`.
    pub predefined: &'a BTreeMap<String, String>,
    /// Branch or tag; of a merge request the full ref.
    pub ref_name: &'a str,
    /// Whether it is a tag.
    pub tag: bool,
    /// For whom the token is.
    pub aud: &'a Audience,
}

/// Stands for the number of a project in a sample.
const UNKNOWN_ID: &str = "THE-PROJECT'S-ID";

/// The claims that such a job's token has, but for times and numbers of its own.
pub fn sample_claims(mut settings: OidcSettings, server: &Url, job: &SampleJob<'_>) -> Value {
    if job.project_id.is_none() && !settings.ids_of_names {
        let unknown = ["project_id", "job_project_id"];
        let unknown = unknown.map(|name| (name.to_owned(), UNKNOWN_ID.to_owned()));
        // Those that are given come later, and count.
        settings.claims.splice(0..0, unknown);
    }
    let full_ref = crate::payload::full_ref(job.ref_name, job.tag);
    let of_server = crate::payload::server_variables(server, 1, job.project_path, &full_ref);
    let of_server = of_server
        .iter()
        .map(|(key, value)| public(key, value.as_str()));
    let of_event = job
        .predefined
        .iter()
        .map(|(key, value)| public(key, value.as_str()));
    let predefined: Vec<JobVariable> = of_server.chain(of_event).collect();
    let known = |key: &str| job.predefined.get(key).map(String::as_str);
    let issuer = Issuer::new(settings, server);
    let claims = Claims::of(&Occasion {
        predefined: &predefined,
        project_path: job.project_path,
        project_id: job.project_id.unwrap_or_default(),
        project_url: &issuer.project_url(known("CI_PROJECT_URL"), job.project_path),
        config_path: Some(known("CI_CONFIG_PATH").unwrap_or(crate::payload::CONFIG_PATH)),
        ref_name: job.ref_name,
        tag: job.tag,
        sha: known("CI_COMMIT_SHA").unwrap_or_default(),
        protected: known("CI_COMMIT_REF_PROTECTED") == Some("true"),
        pipeline_id: 1,
        job_id: 1,
        runner_id: 1,
        environment: None,
    });
    issuer.complete(claims, job.aud).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_keep_their_bytes_but_no_slash_at_the_end() {
        for (text, kept) in [
            ("https://gitlab.example.com", "https://gitlab.example.com"),
            (
                "https://GitLab.example.com:8443/",
                "https://GitLab.example.com:8443",
            ),
            ("https://example.com/gitlab/", "https://example.com/gitlab"),
            ("http://127.0.0.1:8929", "http://127.0.0.1:8929"),
            ("http://courser.localhost", "http://courser.localhost"),
        ] {
            assert_eq!(text.parse::<IssuerUrl>().unwrap().as_str(), kept);
        }
        for text in [
            "gitlab.example.com",
            "http://gitlab.example.com",
            "https://example.com?a=b",
            "https://u@example.com",
            "https://@example.com",
            "https://:p@example.com",
            "ftp://localhost",
            "https:example.com",
            "https:/example.com",
            "https:///example.com",
            " https://example.com",
            "https://example.com/a b",
            "https://example.com/a\n",
            "https://exa\tmple.com",
            "https:\\\\example.com",
            "https://example.com\\a",
            "https://example.com/:b",
            "https://example.com/a/*b",
            "https://example.com/{b}",
        ] {
            assert!(text.parse::<IssuerUrl>().is_err(), "{text}");
        }
        let issuer: IssuerUrl = "https://example.com/gitlab/".parse().unwrap();
        assert_eq!(
            (issuer.host().as_deref(), issuer.path().as_str()),
            (Some("example.com"), "/gitlab")
        );
        let issuer: IssuerUrl = "https://[::1]:1".parse().unwrap();
        assert_eq!(
            (issuer.host().as_deref(), issuer.path().as_str()),
            (Some("::1"), "")
        );
    }

    #[test]
    fn ids_of_local_projects_differ_and_last() {
        let claims = |path: &str, email: &str| {
            let predefined = BTreeMap::from([("GITLAB_USER_EMAIL".to_owned(), email.to_owned())]);
            let job = SampleJob {
                project_path: path,
                project_id: None,
                predefined: &predefined,
                ref_name: "main",
                tag: false,
                aud: &Audience::One("a".to_owned()),
            };
            let settings = OidcSettings {
                subject: "project_id,ref".parse().unwrap(),
                issuer: Some("https://courser.localhost".parse().unwrap()),
                ids_of_names: true,
                ..OidcSettings::new("/keys.json".into())
            };
            let server = Url::parse("https://localhost:1/").unwrap();
            sample_claims(settings, &server, &job)
        };
        let [one, other] = [claims("group/app", "a@x"), claims("group/b", "b@x")];
        for name in ["project_id", "job_project_id", "user_id", "sub"] {
            assert_ne!(one[name], other[name], "{name}");
            assert_eq!(one[name], claims("group/app", "a@x")[name], "{name}");
        }
        assert_eq!(one["namespace_id"], other["job_namespace_id"]);
        let id: u32 = one["project_id"].as_str().unwrap().parse().unwrap();
        assert!((1..1 << 31).contains(&id), "{id}");
        assert_eq!(
            one["ci_config_ref_uri"],
            "courser.localhost/group/app//.gitlab-ci.yml@refs/heads/main"
        );
    }

    #[test]
    fn subjects_are_pairs_in_the_order_that_is_asked_for() {
        let claims = json!({
            "project_path": "g/p", "project_id": "7", "ref_type": "branch", "ref": "a:b*",
            "ref_protected": "false",
        });
        let claims = claims.as_object().unwrap();
        for (asked, text) in [
            (
                "project_path,ref_type,ref",
                "project_path:g/p:ref_type:branch:ref:a:b*",
            ),
            (
                "project_id, ref_protected",
                "project_id:7:ref_protected:false",
            ),
            ("project_path,deployment_tier", "project_path:g/p"),
        ] {
            assert_eq!(asked.parse::<Subject>().unwrap().text(claims), text);
        }
        assert_eq!(
            Subject::default(),
            "project_path,ref_type,ref".parse().unwrap()
        );
        for asked in ["", "ref", "project_path,sha"] {
            assert!(asked.parse::<Subject>().is_err(), "{asked}");
        }
    }
}
