//! Starting, steering and stopping a coordinator: where its parts are put together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use courser_net::{Clients, Listener, ServerIdentity};
use courser_protocol::Secret;

use crate::api::{self, Api};
use crate::authority::{Authority, Leaf};
use crate::bridge::Starter;
use crate::cache_keys::CacheKeys;
use crate::events::CoordinatorEvent;
use crate::oidc::{Issuer, IssuerUrl};
use crate::payload::ServerFacts;
use crate::pipeline_run::{Event, Position};
use crate::project::Project;
use crate::queue::{CreateError, NewRunner, PipelineSnapshot, Queue, QueueHandle, QueueParts};
use crate::settings::{Certificate, Clock, NewPipeline, OwnRunner, Settings};
use crate::store::{StateDir, Store, StoreError};
use crate::token;

/// Requests that are running when the coordinator stops get this long.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Events a watcher may lag behind before it has to read a snapshot.
const EVENTS: usize = 16 * 1024;

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// State directory or database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The throw-away certificates could not be made.
    #[error("cannot make certificates: {0}")]
    Certificates(#[from] rcgen::Error),
    /// Address or certificate.
    #[error(transparent)]
    Listen(#[from] courser_net::server::ListenError),
    /// The external host name makes no URL.
    #[error("{0:?} is not a host name")]
    Host(String),
    /// There is no certificate for another address.
    #[error("cannot serve {0} too: the certificate is not generated here")]
    NoLeaf(IpAddr),
    /// No thread.
    #[error("cannot start the queue: {0}")]
    Thread(std::io::Error),
}

/// The embedded GitLab side.
pub struct Coordinator;

impl Coordinator {
    /// Opens the state, binds the address and serves until [`Handle::stop`].
    pub async fn start(settings: Settings) -> Result<Handle, StartError> {
        let (identity, authority) = identity(&settings)?;
        let listener = Listener::bind(settings.address, identity, settings.clients.clone()).await?;
        let url = external_url(&settings, listener.address().port())?;

        let files = StateDir::create(&settings.state_dir, settings.durability)?;
        let store = Store::open(&files.database(), settings.durability)?;
        let version = watch::Sender::new(0);
        let events = broadcast::Sender::new(EVENTS);
        let (bridges, ready) = mpsc::unbounded_channel();
        let issuer = Arc::new(Issuer::new(settings.oidc.clone(), &url));
        let queue = Queue::load(QueueParts {
            store,
            files: files.clone(),
            clock: Arc::clone(&settings.clock),
            server: ServerFacts {
                url: url.clone(),
                default_timeout: settings.default_timeout,
                issuer: Arc::clone(&issuer),
            },
            version: version.clone(),
            events: events.clone(),
            bridges,
        })?;
        let (queue, thread) = QueueHandle::start(queue).map_err(StartError::Thread)?;

        let registration_token = settings
            .registration_token
            .clone()
            .unwrap_or_else(|| token::random("GR1348941"));
        let shutdown = CancellationToken::new();
        let api = Api::new(api::Parts {
            queue: queue.clone(),
            files,
            hosts: allowed_hosts(&settings)
                .into_iter()
                .chain(issuer.url().host())
                .collect(),
            issuer,
            clock: Arc::clone(&settings.clock),
            registration_token: registration_token.clone(),
            pipelines: settings.pipelines.clone(),
            limits: settings.limits,
            hold: api::job_request::HOLD,
            version,
            events: events.clone(),
            shutdown: shutdown.clone(),
        });
        let private_token = api.private_token();
        let mut tasks = JoinSet::new();
        let starter = Starter {
            queue: queue.clone(),
            source: settings.pipelines.clone(),
            bridges: ready,
            shutdown: shutdown.clone(),
        };
        tasks.spawn(starter.run());
        tasks.spawn(listener.serve(api.router(), shutdown.clone(), GRACE));
        Ok(Handle {
            url,
            authority,
            clock: settings.clock,
            api,
            registration_token,
            private_token,
            queue,
            thread: Some(thread),
            events,
            shutdown,
            tasks,
        })
    }
}

/// A running coordinator. Dropping it stops the server at once; [`Handle::stop`] drains it.
pub struct Handle {
    url: Url,
    /// Unless the certificate is one of files.
    authority: Option<Authority>,
    clock: Clock,
    api: Api,
    registration_token: Secret,
    private_token: Secret,
    queue: QueueHandle,
    thread: Option<std::thread::JoinHandle<()>>,
    events: broadcast::Sender<CoordinatorEvent>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Handle {
    /// `https://host:port/`: the `url` of a runner's configuration.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// PEM of the generated root, to be trusted by runners; `None` with certificate files.
    pub fn root_pem(&self) -> Option<&str> {
        let authority = self.authority.as_ref();
        authority.map(|authority| authority.root_pem.as_str())
    }

    /// Registers runners.
    pub fn registration_token(&self) -> &Secret {
        &self.registration_token
    }

    /// `PRIVATE-TOKEN` of the calls that create and cancel pipelines.
    pub fn private_token(&self) -> &Secret {
        &self.private_token
    }

    /// Makes a project known.
    pub async fn add_project(&self, project: Project) -> Result<(), CreateError> {
        self.queue
            .call(|queue| queue.add_project(project))
            .await
            .map_err(|_| CreateError::Stopped)
    }

    /// Listens at an address of this machine, too, with a leaf for it. Returns the URL there. Only with generated
    /// certificates.
    pub async fn listen_at(&mut self, address: IpAddr) -> Result<Url, StartError> {
        let Some(authority) = &self.authority else {
            return Err(StartError::NoLeaf(address));
        };
        let host = address.to_string();
        let Leaf { chain_pem, key_pem } =
            authority.leaf(std::slice::from_ref(&host), (self.clock)())?;
        let identity = ServerIdentity::Memory {
            certificate_pem: chain_pem,
            key_pem,
        };
        let listener = Listener::bind((address, 0).into(), identity, Clients::Anybody).await?;
        let port = listener.address().port();
        self.api.answer_for(host);
        let serving = listener.serve(self.api.router(), self.shutdown.clone(), GRACE);
        self.tasks.spawn(serving);
        url_of(&host_in_url(address), port)
    }

    /// `iss` of the ID tokens.
    pub fn issuer(&self) -> &IssuerUrl {
        self.api.issuer().url()
    }

    /// Publishes the keys of ID tokens, and nothing else, at another address, too.
    pub async fn publish_keys_at(
        &mut self,
        address: SocketAddr,
        identity: ServerIdentity,
    ) -> Result<(), StartError> {
        let listener = Listener::bind(address, identity, Clients::Anybody).await?;
        let serving = listener.serve(self.api.keys_router(), self.shutdown.clone(), GRACE);
        self.tasks.spawn(serving);
        Ok(())
    }

    /// Creates a runner and returns its token.
    pub async fn create_runner(&self, runner: OwnRunner) -> Result<Secret, CreateError> {
        let new = NewRunner {
            description: runner.description,
            tags: Vec::new(),
            run_untagged: true,
            paused: false,
            maximum_timeout: 0,
            any_tags: true,
            images: runner.images,
            url: runner.url,
        };
        let created = self.queue.call(|queue| queue.register(new)).await;
        Ok(created.map_err(|_| CreateError::Stopped)??.1)
    }

    /// Creates a pipeline and puts its first jobs into the queue. Returns its id.
    pub async fn create_pipeline(&self, new: NewPipeline) -> Result<i64, CreateError> {
        create_pipeline(&self.queue, new).await
    }

    /// Watches what happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<CoordinatorEvent> {
        self.events.subscribe()
    }

    /// A pipeline and its jobs as they are now.
    pub async fn snapshot(&self, pipeline: i64) -> Option<PipelineSnapshot> {
        let snapshot = self.queue.call(move |queue| queue.snapshot(pipeline)).await;
        snapshot.ok()?.ok().flatten()
    }

    /// Stops a pipeline and those it started; running jobs still run their `after_script`.
    pub async fn cancel(&self, pipeline: i64) -> Result<(), CreateError> {
        self.end(pipeline, Event::Cancel).await
    }

    /// Stops a pipeline and those it started at once.
    pub async fn abort(&self, pipeline: i64) -> Result<(), CreateError> {
        self.end(pipeline, Event::Abort).await
    }

    async fn end(&self, pipeline: i64, event: Event) -> Result<(), CreateError> {
        let ended = self.queue.call(move |queue| queue.stop(pipeline, &event));
        Ok(ended.await.map_err(|_| CreateError::Stopped)??)
    }

    /// Starts a manual or delayed job.
    pub async fn play(&self, pipeline: i64, job: Position) -> Result<(), CreateError> {
        self.apply(pipeline, Event::Play(job)).await
    }

    async fn apply(&self, pipeline: i64, event: Event) -> Result<(), CreateError> {
        let applied = self
            .queue
            .call(move |queue| queue.apply(pipeline, event))
            .await;
        Ok(applied.map_err(|_| CreateError::Stopped)??)
    }

    /// Answers waiting runners, drains running requests, and closes the database.
    pub async fn stop(self) {
        let Self {
            queue,
            api,
            thread,
            shutdown,
            mut tasks,
            ..
        } = self;
        shutdown.cancel();
        while tasks.join_next().await.is_some() {}
        // The queue ends with its last handle.
        drop((queue, api));
        if let Some(thread) = thread {
            // Its last act is closing the database; a panic there has been printed already.
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
    }
}

/// Looks cache keys up in the repository, then creates the pipeline in the queue.
pub(crate) async fn create_pipeline(
    queue: &QueueHandle,
    new: NewPipeline,
) -> Result<i64, CreateError> {
    let keys = cache_keys(queue, &new).await?;
    queue
        .call(move |queue| queue.create_pipeline(new, &keys))
        .await
        .map_err(|_| CreateError::Stopped)?
}

/// Cache keys of a new pipeline, from its project's repository.
pub(crate) async fn cache_keys(
    queue: &QueueHandle,
    new: &NewPipeline,
) -> Result<CacheKeys, CreateError> {
    let id = new.project_id;
    let project = queue.call(move |queue| queue.project(id).cloned()).await;
    let project = project
        .map_err(|_| CreateError::Stopped)?
        .ok_or(CreateError::UnknownProject(id))?;
    let git_dir = project.repository.git_dir();
    let found = CacheKeys::look_up(&new.pipeline, git_dir, &new.sha).await;
    Ok(found.map_err(|source| StoreError::Io {
        path: "git".to_owned(),
        source,
    })?)
}

fn identity(settings: &Settings) -> Result<(ServerIdentity, Option<Authority>), StartError> {
    Ok(match &settings.certificate {
        Certificate::Files { certificate, key } => (
            ServerIdentity::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            None,
        ),
        Certificate::Generated => {
            let now = (settings.clock)();
            let authority = Authority::generate(now)?;
            let Leaf { chain_pem, key_pem } = authority.leaf(&allowed_hosts(settings), now)?;
            (
                ServerIdentity::Memory {
                    certificate_pem: chain_pem,
                    key_pem,
                },
                Some(authority),
            )
        }
    })
}

/// The names a request may be addressed to: loopback, the listening address, the external name.
fn allowed_hosts(settings: &Settings) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let ip = settings.address.ip();
    if !ip.is_loopback() && !ip.is_unspecified() {
        hosts.push(ip.to_string());
    }
    hosts.extend(settings.external_host.clone());
    hosts
}

fn external_url(settings: &Settings, port: u16) -> Result<Url, StartError> {
    let host = settings.external_host.clone().unwrap_or_else(|| {
        let ip = settings.address.ip();
        if ip.is_unspecified() {
            "localhost".to_owned()
        } else {
            host_in_url(ip)
        }
    });
    url_of(&host, port)
}

fn host_in_url(address: IpAddr) -> String {
    match address {
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

fn url_of(host: &str, port: u16) -> Result<Url, StartError> {
    let url = Url::parse(&format!("https://{host}:{port}/"));
    url.map_err(|_| StartError::Host(host.to_owned()))
}
