//! `courser coordinator oidc`: the issuer of ID tokens, for those who have to trust it.

mod clouds;
mod vault;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use courser_coordinator::{
    Handle, IssuerUrl, KeyError, Keys, OidcSettings, PublicKey, Publication, SampleJob, StartError,
    certificate_of, sample_claims,
};
use courser_net::server::{ListenError, ServerIdentity};
use courser_pipeline::Audience;
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use crate::failure::{Code, Failure};
use crate::oidc_options::LocalOidcOptions;
use crate::platform;
use crate::project::Project;
use crate::repository::{Occasion, Repository, RepositoryError};
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// File beside the keys in which `coordinator serve` says who it is.
const ISSUER_FILE: &str = "issuer.json";
/// Who a sample token is for, if nobody says.
const SAMPLE_AUDIENCE: &str = "https://vault.example.com";

/// Arguments of `oidc`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// The issuer of `coordinator serve` with this state directory, instead of that of `courser exec`
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The project of this directory
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// For whom tokens are (aud)
    #[arg(long, global = true, value_name = "AUDIENCE")]
    aud: Option<String>,
    #[command(flatten)]
    oidc: LocalOidcOptions,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show issuer, keys and the claims of a job of this repository (without an action, too)
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the public keys: a JSON Web Key Set, or PEM
    Keys {
        /// The key that signs, as PEM
        #[arg(long)]
        pem: bool,
    },
    /// Sign with a new key; the old one stays published until its last token has expired
    Rotate,
    /// Print the commands that make Vault or OpenBao trust this issuer, or write the role there
    Vault(vault::Arguments),
    /// Print the commands for Google Cloud
    Google(clouds::Google),
    /// Print the commands for Azure
    Azure(clouds::Azure),
    /// Print the commands for AWS
    Aws(clouds::Aws),
}

/// The issuer that is asked about, and the project whose jobs it signs for.
struct Subject {
    settings: OidcSettings,
    issuer: IssuerUrl,
    keys: Keys,
    trust: Trust,
    /// Of a local run with `--oidc-listen`.
    place: Option<Place>,
    audience: Option<String>,
    project: String,
    claims: Value,
}

/// How a provider comes by the keys.
enum Trust {
    /// It is given them.
    Keys,
    /// It asks the issuer, whose certificate is of this authority, or of a public one.
    Discovery(Option<PathBuf>),
}

/// Who publishes the keys while a server is told of them.
enum Publishing {
    /// Nobody has to, or `courser coordinator serve` does.
    Nowhere,
    Here(Publication),
    /// The address is taken: a local run publishes them there, or it is something else.
    Taken,
}

/// Where a local run publishes its keys while it runs.
struct Place {
    address: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
}

/// What `coordinator serve` leaves for this command.
#[derive(serde::Serialize, serde::Deserialize)]
struct Left {
    issuer: String,
    /// Root certificate of its authority, unless its certificate is given by files.
    root: Option<PathBuf>,
    /// Numbers of its projects by their paths.
    #[serde(default)]
    projects: BTreeMap<String, i64>,
}

/// Leaves issuer and authority of a running coordinator beside its keys.
pub(super) fn leave(
    directory: &Path,
    coordinator: &Handle,
    state: &Path,
    projects: BTreeMap<String, i64>,
) -> Result<(), Failure> {
    let left = Left {
        issuer: coordinator.issuer().to_string(),
        root: coordinator.root_pem().map(|_| state.join("root.crt")),
        projects,
    };
    let text = serde_json::to_string(&left).unwrap_or_default();
    let path = directory.join(ISSUER_FILE);
    platform::private_directory()
        .recursive(true)
        .create(directory)
        .and_then(|()| write_private(&path, &text))
        .map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))
}

/// The whole file, its owner's only.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Runs it.
pub(super) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let subject = Subject::of(&arguments, session)?;
    match arguments.action.unwrap_or(Action::Show { json: false }) {
        Action::Show { json } => subject.show(json)?,
        Action::Keys { pem: true } => print_text(&subject.key()?.pem())?,
        Action::Keys { pem: false } => {
            let keys: Vec<Value> = subject.keys()?.iter().map(PublicKey::jwk).collect();
            print_json(&json!({ "keys": keys }))?;
        }
        Action::Rotate => {
            let key = subject.keys.rotate(now()).map_err(|error| failed(&error))?;
            print_text(&format!(
                "tokens are signed with {} from now on\nwho was given the keys has to be given them again, as courser coordinator oidc vault, google, ... say\n",
                key.kid()
            ))?;
        }
        Action::Vault(vault) => vault.run(&subject, session).await?,
        Action::Google(google) => print_text(&google.commands(&subject))?,
        Action::Azure(azure) => print_text(&azure.commands(&subject))?,
        Action::Aws(aws) => print_text(&aws.commands(&subject))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &KeyError) -> Failure {
    Failure::from_error(Code::Invalid, error)
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Subject {
    fn of(arguments: &Arguments, session: &Session) -> Result<Self, Failure> {
        let environment = &session.environment;
        let (settings, published) = match &arguments.state {
            None => {
                let of_run = arguments.oidc.of_run(environment);
                (of_run.settings, of_run.published)
            }
            Some(state) => {
                let directory = environment.working_directory.join(state).join("oidc");
                (arguments.oidc.tokens.settings(directory), None)
            }
        };
        let mut place = None;
        let mut projects = BTreeMap::new();
        let (issuer, trust) = match (&settings.issuer, published) {
            (Some(issuer), Some((address, directory))) => {
                let pair = certificate_of(issuer, &directory, Timestamp::now());
                let (certificate, key) =
                    pair.map_err(|error| Failure::from_error(Code::Invalid, &error))?;
                place = Some(Place {
                    address,
                    certificate: certificate.clone(),
                    key,
                });
                (issuer.clone(), Trust::Discovery(Some(certificate)))
            }
            (Some(issuer), None) if arguments.state.is_none() => (issuer.clone(), Trust::Keys),
            (given, _) => {
                let (issuer, left) = left_at(&settings.keys.with_file_name(ISSUER_FILE))?;
                projects = left.projects;
                (given.clone().unwrap_or(issuer), Trust::Discovery(left.root))
            }
        };
        let settings = OidcSettings {
            issuer: Some(issuer.clone()),
            ..settings
        };
        let directory = arguments
            .directory
            .as_deref()
            .unwrap_or(&environment.working_directory);
        let directory = environment.working_directory.join(directory);
        let git_failed = |error: RepositoryError| Failure::from_error(Code::Invalid, &error);
        // Each of the two has its own way to tell which project a directory is.
        let repository = if arguments.state.is_some() {
            Repository::discover(&directory).map_err(git_failed)?
        } else {
            let project = Project::find(&directory, None).map_err(|error| {
                Failure::new(Code::Usage, format!("{}: {error}", directory.display()))
            })?;
            project.open(true).map_err(git_failed)?.repository
        };
        let event = repository.event(&Occasion::from_source("push"));
        let project = courser_coordinator::Project::plain_path(&repository.project_path());
        let aud = arguments
            .aud
            .clone()
            .unwrap_or_else(|| SAMPLE_AUDIENCE.to_owned());
        let job = SampleJob {
            project_path: &project,
            project_id: projects.get(&project).copied(),
            predefined: &event.predefined,
            ref_name: &event.ref_name,
            tag: event.tag,
            aud: &Audience::One(aud),
        };
        let server = Url::parse(issuer.as_str())
            .map_err(|error| Failure::from_error(Code::Internal, &error))?;
        let claims = sample_claims(settings.clone(), &server, &job);
        Ok(Self {
            keys: Keys::at(settings.keys.clone()),
            settings,
            issuer,
            trust,
            place,
            audience: arguments.aud.clone(),
            project,
            claims,
        })
    }

    /// Publishes the keys where a local run would.
    async fn publish(&self) -> Result<Publishing, Failure> {
        let Some(place) = &self.place else {
            return Ok(Publishing::Nowhere);
        };
        let server = Url::parse(self.issuer.as_str())
            .map_err(|error| Failure::from_error(Code::Internal, &error))?;
        let identity = ServerIdentity::Files {
            certificate: place.certificate.clone(),
            key: place.key.clone(),
        };
        let clock = Arc::new(Timestamp::now);
        let settings = self.settings.clone();
        match Publication::start(settings, &server, clock, place.address, identity).await {
            Ok(publication) => Ok(Publishing::Here(publication)),
            Err(StartError::Listen(ListenError::Bind { source, .. }))
                if source.kind() == std::io::ErrorKind::AddrInUse =>
            {
                Ok(Publishing::Taken)
            }
            Err(error) => Err(Failure::from_error(Code::Surroundings, &error)),
        }
    }

    fn keys(&self) -> Result<Vec<PublicKey>, Failure> {
        self.keys.public(now()).map_err(|error| failed(&error))
    }

    /// The one that signs.
    fn key(&self) -> Result<PublicKey, Failure> {
        let first = self.keys()?.into_iter().next();
        first.ok_or_else(|| Failure::internal("there is no key".to_owned()))
    }

    /// A claim of the sample that is a text.
    fn claim(&self, name: &str) -> &str {
        self.claims
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn audience(&self) -> &str {
        self.claim("aud")
    }

    fn show(&self, json: bool) -> Result<(), Failure> {
        let kids: Vec<String> = self.keys()?.iter().map(PublicKey::kid).collect();
        let path = self.settings.keys.display();
        if json {
            return print_json(&json!({
                "issuer": self.issuer.as_str(), "keys": kids, "key_file": path.to_string(),
                "claims": self.claims,
            }));
        }
        let claims = serde_json::to_string_pretty(&self.claims).unwrap_or_default();
        print_text(&format!(
            "issuer     {}\nkey file   {path}\nkeys       {}\nproject    {}\n\nclaims of a job of this repository, beside iat, nbf, exp and jti:\n{claims}\n",
            self.issuer,
            kids.join(", "),
            self.project,
        ))
    }
}

fn parse_pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE"),
    }
}

/// What `coordinator serve` has left.
fn left_at(path: &Path) -> Result<(IssuerUrl, Left), Failure> {
    let named = |reason: String| {
        Failure::invalid(format!("{}: {reason}", path.display()))
            .hint("start `courser coordinator serve` with this state once")
    };
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    let left: Left = serde_json::from_str(&text).map_err(|error| named(error.to_string()))?;
    let issuer = left.issuer.parse();
    let issuer = issuer.map_err(|reason: &str| named(reason.to_owned()))?;
    Ok((issuer, left))
}

/// What `--help` says below the options.
const HELP: &str = "\
Examples:
  courser coordinator oidc                                 issuer, keys, claims
  courser coordinator oidc keys --pem > courser.pem        for a Vault that cannot reach this machine
  courser coordinator oidc vault --aud https://vault.example.com --policy app
  VAULT_ADDR=... VAULT_TOKEN=... courser coordinator oidc vault --policy app --write
  courser coordinator oidc --state /var/lib/courser show   the issuer of `coordinator serve`

Without --state it is the issuer of `courser exec`, whose key is yours on this machine: whoever has the
key file can claim to be any project. Bind no production role to it.";
