//! All secrets of a job, fetched side by side and told of in order.

use std::sync::Arc;
use std::time::Duration;

use courser_job::{Job, messages};
use courser_protocol::{JobSecret, JobSecrets, JobVariable, Secret};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::aws::Aws;
use crate::azure::Azure;
use crate::expansion::expanded;
use crate::gitlab_secrets_manager::GitLabSecretsManager;
use crate::google::Google;
use crate::session::Session;
use crate::vault::Vault;
use crate::{Failure, FailureClass, Leases, Step, Surroundings};

/// Requests that are under way at the same time.
const SIDE_BY_SIDE: usize = 32;
/// What Linux passes to a program in one variable, `NAME=value` and its end included (`MAX_ARG_STRLEN`).
const VARIABLE_LIMIT: usize = 128 * 1024;

/// The secrets of a job, and what its settings say of them.
#[derive(Debug, Clone)]
pub struct Request {
    secrets: Arc<[(String, JobSecret)]>,
    /// `SECRETS_RETRIEVAL_ATTEMPTS`.
    pub attempts: u32,
    /// `FF_SECRET_RESOLVING_FAILS_IF_MISSING`: else a secret that is missing is empty.
    pub missing_fails: bool,
    /// `FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY`.
    pub long_backoff: bool,
}

impl Request {
    /// Secrets whose references are replaced by `expand`.
    pub fn new(secrets: &JobSecrets, expand: impl Fn(&str) -> String) -> Self {
        let secrets = secrets.iter();
        Self {
            secrets: secrets
                .map(|(name, secret)| (name.to_owned(), expanded(secret, &expand)))
                .collect(),
            attempts: 1,
            missing_fails: true,
            long_backoff: true,
        }
    }

    /// What a job asks for; nothing where its payload has no `secrets`.
    pub fn of(job: &Job) -> Option<Self> {
        let secrets = job.payload().secrets.as_ref()?;
        let request = Self::new(secrets, |text| job.variables().expand(text));
        Some(Self {
            attempts: job.settings().secrets_retrieval_attempts,
            missing_fails: job.features().secret_resolving_fails_if_missing,
            long_backoff: job.features().exponential_backoff,
            ..request
        })
    }

    /// The secrets, with their references replaced.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &JobSecret)> {
        let secrets = self.secrets.iter();
        secrets.map(|(name, secret)| (name.as_str(), secret))
    }

    /// Wait after attempt number `failed` (1-based): 5 s doubling to 5 min, or 1 s doubling to 5 s.
    fn backoff(&self, failed: u32) -> Duration {
        let (first, longest) = if self.long_backoff { (5, 300) } else { (1, 5) };
        Duration::from_secs((first << failed.saturating_sub(1).min(16)).min(longest))
    }
}

impl Missing {
    /// A failure, where it is one.
    fn failure(&self, name: &str) -> Failure {
        let text = format!("{}secret not found: {name}", self.context);
        let notes = self.notes.iter();
        let failure = Failure::system(text).at(self.step);
        notes.fold(failure, |failure, note| failure.advise(note))
    }

    /// Of which the provider says nothing more.
    pub(crate) fn at(step: Step) -> Self {
        Self {
            step,
            context: "",
            notes: Vec::new(),
        }
    }
}

/// What one provider says of one secret.
pub(crate) enum Resolution {
    /// Its value.
    Value(Secret),
    /// There is no such secret, in the sense of `FF_SECRET_RESOLVING_FAILS_IF_MISSING`.
    Missing(Missing),
}

/// A secret that is not there.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    /// What is not there: [`Step::Path`] or [`Step::Field`].
    pub(crate) step: Step,
    /// Stands before `secret not found: NAME`; ends with a colon and a blank where it is not empty.
    pub(crate) context: &'static str,
    /// What the provider says about it, a line each.
    pub(crate) notes: Vec<String>,
}

/// What there is of a job's secrets, by provider: a further attempt asks for the rest.
struct Providers {
    vault: Vault,
    google: Google,
    azure: Azure,
    aws: Aws,
    gitlab: GitLabSecretsManager,
}

impl Providers {
    fn new(session: &Arc<Session>) -> Self {
        Self {
            vault: Vault::new(session),
            google: Google::new(session),
            azure: Azure::new(session),
            aws: Aws::new(session),
            gitlab: GitLabSecretsManager::new(session),
        }
    }

    /// Nothing where no provider of ours is meant.
    async fn get(&self, secret: &JobSecret) -> Option<Result<Resolution, Failure>> {
        Some(if let Some(secret) = &secret.vault {
            self.vault.get(secret).await
        } else if let Some(secret) = &secret.gcp_secret_manager {
            self.google.get(secret).await
        } else if let Some(secret) = &secret.azure_key_vault {
            self.azure.get(secret).await
        } else if let Some(secret) = &secret.aws_secrets_manager {
            self.aws.get(secret).await
        } else if let Some(secret) = &secret.gitlab_secrets_manager {
            self.gitlab.get(secret).await
        } else {
            return None;
        })
    }
}

/// Upstream's name of the resolver.
fn resolver(secret: &JobSecret) -> Option<&'static str> {
    let known = [
        (secret.vault.is_some(), "vault"),
        (secret.gcp_secret_manager.is_some(), "gcp_secret_manager"),
        (secret.azure_key_vault.is_some(), "azure-key-vault"),
        (secret.aws_secrets_manager.is_some(), "aws_secrets_manager"),
        (
            secret.gitlab_secrets_manager.is_some(),
            "gitlab_secrets_manager",
        ),
    ];
    known
        .into_iter()
        .find_map(|(is_there, name)| is_there.then_some(name))
}

/// What a provider says of one secret; nothing where no provider of ours is meant.
type Fetched = Option<Result<Resolution, Failure>>;

/// Fetches all, in a task of its own: whoever gives up on the results does not take a request back that may have made
/// a token, and its answer is still waited for and kept in the [`Leases`]. `look` sees each result with its name before
/// anything more is asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends by itself soon after nobody wants its results, as its requests are limited in time; ended with its owner it \
              would lose tokens that are being made"
)]
fn fetch(
    providers: &Arc<Providers>,
    secrets: &Arc<[(String, JobSecret)]>,
    look: impl Fn(&str, &Fetched) + Send + 'static,
) -> mpsc::UnboundedReceiver<Fetched> {
    let (tell, told) = mpsc::unbounded_channel();
    let (providers, secrets) = (Arc::clone(providers), Arc::clone(secrets));
    tokio::spawn(async move {
        let fetching: Vec<_> = secrets
            .iter()
            .map(|(_, secret)| Box::pin(providers.get(secret)))
            .collect();
        let mut fetched = futures_util::stream::iter(fetching).buffered(SIDE_BY_SIDE);
        for (name, _) in secrets.iter() {
            let Some(one) = fetched.next().await else {
                break;
            };
            look(name, &one);
            // The rest comes to its end all the same.
            tell.send(one).ok();
        }
    });
    told
}

/// Fetches the secrets of a job: its variables, in the order of the payload. What was obtained for it is in `leases`,
/// also after a failure and what comes after this has returned. Each line for the job's log goes to `say`, complete
/// with its end.
///
/// Fails with the first secret, in order, that cannot be had. Another attempt is made where that may help: what has
/// come is not asked for again, and what is under way goes on; where that fails for good, so does the attempt after it,
/// with that failure. Returns at once after `stop`, with a failure that nobody
/// needs to see.
pub async fn resolve(
    request: &Request,
    surroundings: &Surroundings,
    leases: &Leases,
    stop: &CancellationToken,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<JobVariable>, Failure> {
    let session = Arc::new(Session::new(surroundings.clone(), leases.clone()));
    let _stopping = session.stopping();
    let providers = Arc::new(Providers::new(&session));
    let mut attempt = 1;
    loop {
        let (is_last, missing_fails) = (attempt >= request.attempts, request.missing_fails);
        let failing = Arc::clone(&session);
        // Goes on behind an attempt that has failed: what it finds then ends the next one too.
        let fetched = fetch(&providers, &request.secrets, move |name, one| match one {
            Some(Err(failure)) if is_last || !failure.is_transient => failing.fail(failure.clone()),
            Some(Ok(Resolution::Missing(missing))) if missing_fails => {
                failing.fail(missing.failure(name));
            }
            Some(_) | None => {}
        });
        let failure = match once(request, surroundings, fetched, stop, say).await {
            Ok(variables) => return Ok(variables),
            Err(failure) => failure,
        };
        if stop.is_cancelled() {
            return Err(failure);
        }
        if let Some(fatal) = session.fatal() {
            return Err(fatal.clone());
        }
        if !failure.is_transient || attempt >= request.attempts {
            return Err(failure);
        }
        say(&messages::warning(&format!("resolving secrets: {failure}")));
        say(&messages::retrying());
        tokio::select! {
            () = tokio::time::sleep(request.backoff(attempt)) => {}
            () = session.stopped() => {}
            () = stop.cancelled() => return Err(failure),
        }
        if let Some(fatal) = session.fatal() {
            return Err(fatal.clone());
        }
        say(&messages::stage_title("Resolving secrets"));
        session.begin_attempt();
        attempt += 1;
    }
}

async fn once(
    request: &Request,
    surroundings: &Surroundings,
    mut fetched: mpsc::UnboundedReceiver<Fetched>,
    stop: &CancellationToken,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<JobVariable>, Failure> {
    let limit = surroundings.settings.timeout;
    let in_order = async {
        let mut variables = Vec::with_capacity(request.secrets.len());
        for (name, secret) in request.secrets.iter() {
            say(&messages::resolving_secret(name));
            match resolver(secret) {
                Some(resolver) => say(&messages::using_resolver(resolver)),
                None => say(&messages::secret_not_resolved()),
            }
            let Some(result) = fetched.recv().await.unwrap_or_else(broken) else {
                continue;
            };
            let value = match result? {
                Resolution::Value(value) => value,
                Resolution::Missing(missing) => empty(name, &missing, request.missing_fails, say)?,
            };
            variables.push(variable(name, secret, value)?);
        }
        Ok(variables)
    };
    tokio::select! {
        result = in_order => result,
        () = stop.cancelled() => Err(canceled()),
        () = tokio::time::sleep(limit) => {
            let text = format!("not all secrets came within {limit:?}");
            let failure = Failure::new(FailureClass::ExternalDependency, text);
            Err(failure.at(Step::Read).transient(true))
        }
    }
}

/// What a look at a secret found.
#[derive(Debug)]
pub enum Looked {
    /// The variable that the job gets.
    There(JobVariable),
    /// It is missing, for this reason, and the job's variable is empty: so its feature flag wants it.
    Empty(Failure),
    /// No provider of ours is meant.
    Unknown,
}

/// Looks at each secret of a request, for people: one that fails does not end the look at the others. One attempt, the
/// same requests as [`resolve`]; after `stop` what has not come is told as a failure.
pub async fn resolve_each(
    request: &Request,
    surroundings: &Surroundings,
    leases: &Leases,
    stop: &CancellationToken,
) -> Vec<Result<Looked, Failure>> {
    let session = Arc::new(Session::new(surroundings.clone(), leases.clone()));
    let _stopping = session.stopping();
    let providers = Arc::new(Providers::new(&session));
    let mut fetched = fetch(&providers, &request.secrets, |_, _| ());
    let mut all = Vec::with_capacity(request.secrets.len());
    for (name, secret) in request.secrets.iter() {
        let got = tokio::select! {
            biased;
            got = fetched.recv() => got.unwrap_or_else(broken),
            () = stop.cancelled() => Some(Err(canceled())),
        };
        all.push(match got {
            None => Ok(Looked::Unknown),
            Some(Err(failure)) => Err(failure),
            Some(Ok(Resolution::Value(value))) => variable(name, secret, value).map(Looked::There),
            Some(Ok(Resolution::Missing(missing))) => match missing.failure(name) {
                failure if request.missing_fails => Err(failure),
                failure => Ok(Looked::Empty(failure)),
            },
        });
    }
    all
}

fn canceled() -> Failure {
    Failure::system("canceled")
}

/// The task that fetches came to no end: a fault of ours.
fn broken() -> Fetched {
    Some(Err(Failure::system("fetching secrets broke off")))
}

/// The value of a secret that is missing, where that is allowed.
fn empty(
    name: &str,
    missing: &Missing,
    fails: bool,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Secret, Failure> {
    let failure = missing.failure(name);
    if fails {
        return Err(failure);
    }
    say(&messages::warning(&format!(
        "{failure}; the variable is empty"
    )));
    for note in &failure.advice {
        say(&messages::plain(note));
    }
    Ok(Secret::default())
}

/// The variable that a job gets (`secrets.md` 4.4).
fn variable(name: &str, secret: &JobSecret, value: Secret) -> Result<JobVariable, Failure> {
    let refused = |why: String| {
        let failure = Failure::new(
            FailureClass::Configuration,
            format!("secret {name:?}: {why}"),
        )
        .at(Step::Field);
        Err(failure.advise(format!(
            "let the job have it as a file: `file: true` for {name} in `secrets:`"
        )))
    };
    if !secret.is_file() {
        let length = name.len() + "=".len() + value.expose().len() + "\0".len();
        if length > VARIABLE_LIMIT {
            return refused(format!(
                "its value of {} bytes is too long for a variable: a program that is started with more than {VARIABLE_LIMIT} bytes \
                 in one variable fails with \"Argument list too long\"",
                value.expose().len()
            ));
        }
        if value.expose().contains('\0') {
            return refused("its value has NUL bytes, which no variable can hold".to_owned());
        }
    }
    Ok(JobVariable {
        key: name.to_owned(),
        value,
        public: false,
        file: secret.is_file(),
        masked: true,
        raw: true,
    })
}
