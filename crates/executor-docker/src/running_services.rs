//! Services of a job: started before its containers, waited for until a port answers (`executor-docker.md` 14.2, 14.3).

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::LogsOptionsBuilder;
use courser_executor::agent::AgentWork;
use courser_executor::{Exit, Output, PrepareError, StopSignal, Stream};
use courser_job::helper_request::AwaitPort;
use courser_job::{HelperRequest, messages};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::helper_container::HelperContainer;
use crate::networks::Reachable;
use crate::plan::JobContainers;
use crate::preparation::{Preparing, unusable};
use crate::recipe::Recipe;
use crate::service_logs::Followed;
use crate::services::ports_to_check;

/// Seconds that services have by default.
const TIMEOUT: u64 = 30;

/// Bytes of a service's log that are shown when it did not answer.
const SHOWN: usize = 64 * 1024;

/// Services that were started.
pub(crate) struct RunningServices {
    list: Vec<Running>,
    reachable: Vec<Reachable>,
}

struct Running {
    /// Name of the container.
    name: String,
    id: String,
    /// Where it answers, seen from the helper container.
    address: String,
    /// Ports that are tried, or why none is known.
    ports: Result<Vec<u16>, String>,
}

impl RunningServices {
    pub(crate) async fn start(
        preparing: &Preparing<'_>,
        plan: &JobContainers<'_>,
    ) -> Result<Self, PrepareError> {
        let engine = preparing.engine();
        let mut services = Self {
            list: Vec::new(),
            reachable: Vec::new(),
        };
        for service in &plan.services.list {
            (preparing.say)(&messages::starting_service(&service.name.shown()));
            let mut wanted = service.image.clone();
            wanted.name.clone_from(&service.name.image);
            let image = preparing.fetch(&wanted).await?;
            let mut recipe = Recipe::new(plan.service(service, &image));
            preparing.trust(&mut recipe, &image, plan).await?;
            for line in recipe.lines() {
                (preparing.say)(line);
            }
            let id = recipe.make(engine).await?;
            let started = engine.api().start_container(&id, None).await;
            started.map_err(|error| unusable(error.into()))?;
            let inspected = engine.api().inspect_container(&id, None).await;
            let inspected = inspected.map_err(|error| unusable(error.into()))?;
            let addresses = addresses(&inspected);
            let config = image.inspected.config.as_ref();
            let exposed = config.and_then(|config| config.exposed_ports.as_ref());
            let exposed: Vec<String> = exposed.into_iter().flatten().cloned().collect();
            services.list.push(Running {
                name: service.container.clone(),
                id: id.clone(),
                // In the host's network, or another container's, it has none of its own.
                address: addresses
                    .first()
                    .cloned()
                    .unwrap_or_else(|| "localhost".to_owned()),
                ports: ports_to_check(&service.environment, &exposed),
            });
            services.reachable.push(Reachable {
                aliases: service.aliases.clone(),
                id,
                addresses,
            });
        }
        Ok(services)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How other containers reach them.
    pub(crate) fn reachable(&self) -> &[Reachable] {
        &self.reachable
    }

    /// Those whose logs can be followed.
    pub(crate) fn to_follow(&self) -> impl Iterator<Item = Followed> {
        let services = self.list.iter().zip(&self.reachable);
        services.map(|(service, reachable)| Followed {
            container: service.name.clone(),
            id: service.id.clone(),
            aliases: reachable.aliases.clone(),
        })
    }

    /// Until each answers, or its time is over; that never fails the job.
    pub(crate) async fn wait_for(
        &self,
        preparing: &Preparing<'_>,
        seconds: i64,
        helper: &HelperContainer,
    ) {
        let seconds = match u64::try_from(seconds) {
            Ok(0) => TIMEOUT,
            Ok(seconds) => seconds,
            Err(_) => return,
        };
        if self.list.is_empty() {
            return;
        }
        (preparing.say)(&messages::waiting_for_services(seconds));
        let limit = Duration::from_secs(seconds);
        let waiting = self
            .list
            .iter()
            .map(|service| service.answers(helper, limit));
        let answers = join_all(waiting).await;
        for (service, answer) in self.list.iter().zip(answers) {
            let Err(NoAnswer { fault, check_log }) = answer else {
                continue;
            };
            let log = service.log(preparing.engine()).await;
            let lines = messages::service_not_ready(&service.name, &fault, &check_log, &log);
            (preparing.say)(&lines);
        }
    }
}

/// A service that did not answer.
struct NoAnswer {
    fault: String,
    check_log: String,
}

impl Running {
    async fn answers(&self, helper: &HelperContainer, limit: Duration) -> Result<(), NoAnswer> {
        let no_answer = |fault: String, check_log: String| Err(NoAnswer { fault, check_log });
        let ports = match &self.ports {
            Ok(ports) if ports.is_empty() => {
                return no_answer(messages::service_without_ports(&self.name), String::new());
            }
            Ok(ports) => ports.clone(),
            Err(fault) => return no_answer(fault.clone(), String::new()),
        };
        let request = HelperRequest::AwaitPort(AwaitPort {
            host: self.address.clone(),
            ports,
        });
        let mut said = Said(String::new());
        let work = AgentWork::Request(&request);
        let trying = helper.perform(work, &mut said, StopSignal::new());
        let tried = timeout(limit, trying).await;
        let fault = match tried {
            Ok(Ok(Exit::Success)) => return Ok(()),
            Ok(Ok(Exit::Failure { code, .. })) => {
                messages::health_check_failed(&self.name, code.into())
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => messages::health_check_timeout(&self.name),
        };
        no_answer(fault, said.0)
    }

    /// The beginning of what it printed, with its time stamps.
    async fn log(&self, engine: &Engine) -> String {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .build();
        let mut pieces = engine.api().logs(&self.id, Some(options));
        let mut log = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            let piece = LogOutput::into_bytes(piece);
            let room = SHOWN.saturating_sub(log.len());
            log.extend_from_slice(&piece[..piece.len().min(room)]);
            if room == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&log).into_owned()
    }
}

fn addresses(container: &ContainerInspectResponse) -> Vec<String> {
    let settings = container.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    let endpoints = networks.into_iter().flat_map(|networks| networks.values());
    endpoints
        .flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address])
        .flatten()
        .filter(|address| !address.is_empty())
        .cloned()
        .collect()
}

struct Said(String);

impl Output for Said {
    fn write(&mut self, _: Stream, bytes: &[u8]) {
        let room = (16_usize * 1024).saturating_sub(self.0.len());
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(room)]);
        self.0.push_str(&text);
    }
}
