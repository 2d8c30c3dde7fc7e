//! From a job to its containers: what is made before its first stage, in which order (`executor-docker.md` 1).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bollard::models::NetworkCreateRequest;
use courser_config::RunnerConfig;
use courser_executor::{Preparation, PrepareError, Say};
use courser_job::{Job, JobImage, messages};
use courser_net::legs::DockerTrust;
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::belongings::Belongings;
use crate::engine::{Engine, EngineError};
use crate::environment::{Build, DockerEnvironment, Held, Scripts};
use crate::executor::{Shared, footprint};
use crate::helper_container::{self, HelperContainer};
use crate::helper_image::HelperImage;
use crate::image_trust::{Anchors, ImageTrustError};
use crate::images::{
    CredentialSources, Image, ImageError, Images, Platform, PolicySources, PullPolicy, Wanted,
    strange_architecture,
};
use crate::kept::Keeping;
use crate::life_line::LifeLine;
use crate::networks::Network;
use crate::new_working_copy::NewWorkingCopy;
use crate::opening;
use crate::own_helper::{OwnHelper, OwnHelperError};
use crate::ownership::Ownership;
use crate::plan::{Daemon, Inputs, JobContainers, PlanError};
use crate::recipe::{MakeError, Recipe};
use crate::running_services::RunningServices;
use crate::service_logs::FollowedLogs;
use crate::waiting_shell::{WaitingShell, may_wait};

/// What preparing works with.
pub(crate) struct Preparing<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) runner: &'a RunnerConfig,
    pub(crate) job: &'a Job,
    pub(crate) say: Say,
    say_of_services: Say,
    engine: Engine,
    line: Arc<LifeLine>,
    images: Images,
    anchors: Option<Arc<Anchors>>,
    /// The Engine's: `x86_64`.
    architecture: String,
}

/// Makes what a job needs in the engine.
pub(crate) async fn prepare(
    shared: &Shared,
    runner: &RunnerConfig,
    way: &DockerTrust,
    working_directory: &Path,
    preparation: Preparation<'_>,
) -> Result<DockerEnvironment, PrepareError> {
    let Preparation {
        place,
        job,
        stop,
        say,
        say_of_services,
        footprint: told,
        remains,
    } = preparation;
    let config = runner.docker.as_ref().ok_or(PlanError::NoConfiguration)?;
    let engine = tokio::select! {
        engine = Engine::connect(way) => engine.map_err(unusable)?,
        () = stop.cancelled() => return Err(PrepareError::canceled()),
    };
    let info = engine.info().await.map_err(unusable)?;
    let daemon = Daemon::new(info, engine.api_version());
    let random = *uuid::Uuid::new_v4().as_bytes();
    let [r0, r1, r2, r3, r4, r5, _, _, _, _, r10, r11, ..] = random;
    let read_file = |path: &str| std::fs::read(path);
    let plan = JobContainers::plan(Inputs {
        runner,
        job,
        daemon: &daemon,
        // Without those bits of a version 4 UUID that are not random.
        random: [r0, r1, r2, r3, r4, r5, r10, r11],
        working_directory,
        read_file: &read_file,
    });
    let plan = plan.inspect_err(|error| {
        for line in error.lines() {
            say(&line);
        }
    })?;
    for line in &plan.lines {
        say(line);
    }
    let network = plan.network.own_name();
    let belongings = Belongings::new(config, &plan.names, network);
    told(footprint(&belongings));
    let held = Held::new(&engine, belongings, Arc::clone(&say), remains);
    let line = Arc::new(LifeLine::tie(&engine));
    let preparing = Preparing {
        shared,
        runner,
        job,
        say,
        say_of_services,
        images: Images::new(engine.clone(), credentials(shared, job)),
        anchors: shared.anchors(job),
        architecture: daemon.architecture.clone(),
        engine,
        line,
    };
    let all = Box::pin(preparing.all(&plan, &held));
    let made = tokio::select! {
        made = all => made,
        () = stop.cancelled() => Err(PrepareError::canceled()),
    };
    match made {
        Ok(made) => Ok(DockerEnvironment {
            held,
            helper: made.helper,
            new_working_copy: made.new_working_copy,
            build: made.build,
            has_services: made.has_services,
            service_logs: made.service_logs,
            line: preparing.line,
            attempts: job.settings().executor_job_section_attempts,
            scripts: shared.local.scripts.clone().map(|told| Scripts {
                job: job.payload().job_info.name.clone(),
                temporary: job.directories().temporary.clone(),
                told,
            }),
            keeping: made.keeping,
            ownership: made.ownership,
            say: preparing.say,
            place,
        }),
        Err(error) => {
            // Before another attempt: it wants some of the same names.
            if let Err(left) = held.give_back().await {
                tracing::error!(job = job.payload().id, "cleaning up: {left}");
            }
            Err(error)
        }
    }
}

/// What a job's stages run in.
struct Made {
    helper: HelperContainer,
    new_working_copy: Option<NewWorkingCopy>,
    build: Build,
    has_services: bool,
    service_logs: FollowedLogs,
    keeping: Option<Keeping>,
    ownership: Option<Ownership>,
}

impl Preparing<'_> {
    async fn all(&self, plan: &JobContainers<'_>, held: &Held) -> Result<Made, PrepareError> {
        let (made, helper_image) =
            tokio::join!(self.network_and_volumes(plan), self.helper_image(plan));
        let new_volumes = made?;
        let helper_image = helper_image?;
        let services = RunningServices::start(self, plan).await?;
        let mut service_logs = FollowedLogs::default();
        if self.job.settings().debug_services {
            for followed in services.to_follow() {
                service_logs.follow(&held.engine, followed, &self.say, &self.say_of_services);
            }
        }
        let links = plan.network.emulated_links(services.reachable());
        let image = self.fetch(&plan.image).await?;

        let keeps_umask = self.job.features().disable_umask_for_docker;
        if keeps_umask {
            (self.say)(&messages::not_using_umask());
        }
        let tunnel = self.shared.local.tunnel.as_ref();
        let mut helper = Recipe::new(plan.helper(
            &helper_image.image,
            helper_container::command(tunnel, !keeps_umask),
            &links,
        ));
        if !helper_image.has_program {
            helper = helper.with_program(self.own_helper()?);
        }
        let mut new_working_copy = NewWorkingCopy::of(self.job, &plan.volumes, helper.definition());
        if self.shared.local.keep.is_some() || keeps_umask {
            // It may outlive the job: its secrets have to go. And only the helper can change owners.
            new_working_copy = None;
        }
        let without_helper = services.is_empty()
            && !self.engine.is_podman()
            && new_working_copy
                .as_ref()
                .is_some_and(|copy| copy.without_helper);
        let mut build = Recipe::new(plan.build(&image, &links));
        if without_helper {
            build = build.with_open_directories(opening::directories(self.job, plan, &new_volumes));
        } else {
            // Git LFS, submodules and caches lead to other hosts than the server's.
            let id = &helper_image.image.id;
            self.trust_silently(&mut helper, id, plan).await?;
        }
        self.trust(&mut build, &image, plan).await?;
        let build_lines = build.lines().to_vec();
        let (opening, tunnel) = (opening::script(self.job, plan), tunnel.cloned());
        let helper = HelperContainer::new(&held.engine, helper, opening, &self.line, tunnel);
        let may_wait = may_wait(build.definition(), &image);
        let make_build = async {
            let made = build.make(&held.engine).await;
            let id = made.as_ref().ok().filter(|_| may_wait);
            let waiting = id.map(|id| WaitingShell::start(&held.engine, id));
            (made, waiting)
        };
        let (mut made, mut waiting);
        if without_helper {
            (made, waiting) = make_build.await;
            // One that takes its place in mid-job finds them as the job has left them.
            build = build.with_open_directories(Vec::new());
            if let Err(MakeError::Directories(error)) = &made {
                tracing::debug!("the helper container makes the directories: {error}");
                (made, waiting) = (build.make(&held.engine).await, None);
                helper.agent().await?;
            }
        } else {
            // Both take their time in the engine.
            let started;
            (started, (made, waiting)) = tokio::join!(helper.agent(), make_build);
            started?;
        }
        let config = self.runner.docker.as_ref();
        let seconds = config.map_or(0, |config| config.wait_for_services_timeout);
        services.wait_for(self, seconds, &helper).await;
        let keep = self.shared.local.keep.as_ref();
        let job = self.job.payload().id;
        Ok(Made {
            keeping: keep.map(|keep| keep.job(job, plan, &image, build.variables())),
            ownership: Ownership::of(self.job, build.definition(), &image),
            build: Build {
                politely: !self.job.shell().is_powershell()
                    && !self.job.features().native_container_stop,
                recipe: build,
                made: Some(made),
                waiting,
                lines: {
                    let mut lines = self.lines_of_use(&plan.image, &image)?;
                    lines.extend(build_lines);
                    lines
                },
            },
            helper,
            new_working_copy,
            has_services: !plan.services.list.is_empty(),
            service_logs,
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Gives the places of those volumes that were not there before.
    async fn network_and_volumes<'p>(
        &self,
        plan: &'p JobContainers<'_>,
    ) -> Result<BTreeSet<&'p str>, PrepareError> {
        if let Network::OfJob(request) = &plan.network {
            let request = NetworkCreateRequest::clone(request);
            let created = self.engine.api().create_network(request).await;
            created.map_err(|error| unusable(error.into()))?;
        }
        let creating = plan.volumes.made().map(async |(path, volume)| {
            // One that is there already is taken as it is.
            let name = volume.request.name.as_deref().unwrap_or_default();
            let is_new = volume.temporary || self.engine.api().inspect_volume(name).await.is_err();
            let mut request = volume.request.clone();
            if let Some(keep) = &self.shared.local.keep
                && volume.temporary
            {
                let labels = request.labels.get_or_insert_default();
                labels.extend(keep.labels.clone());
            }
            self.engine.api().create_volume(request).await?;
            Ok::<_, EngineError>(is_new.then_some(path))
        });
        let mut new = BTreeSet::new();
        for created in join_all(creating).await {
            new.extend(created.map_err(unusable)?);
        }
        Ok(new)
    }

    fn own_helper(&self) -> Result<&OwnHelper, PrepareError> {
        let own = self.shared.own_helper.as_ref();
        own.map_err(|why| PrepareError::passing(why.clone()))
    }

    async fn helper_image(&self, plan: &JobContainers<'_>) -> Result<FoundHelper, PrepareError> {
        match &plan.helper_image {
            HelperImage::Configured { image, line } => {
                (self.say)(line);
                self.foreign_helper(image).await
            }
            HelperImage::Own { upstream } => {
                let own = self.own_helper()?;
                let id = own.ready(&self.engine, Timestamp::now()).await;
                let Some(id) = id.map_err(no_helper)? else {
                    (self.say)(&messages::warning(&own.missing()));
                    (self.say)(&messages::using_upstreams_helper_image(upstream));
                    return self.foreign_helper(upstream).await;
                };
                let inspected = self.engine.api().inspect_image(&id).await;
                Ok(FoundHelper {
                    image: Image::new(&id, inspected.map_err(|error| unusable(error.into()))?),
                    has_program: true,
                })
            }
        }
    }

    /// An image of somebody else's, which gets our program.
    async fn foreign_helper(&self, name: &str) -> Result<FoundHelper, PrepareError> {
        let wanted = JobImage {
            name: name.to_owned(),
            ..JobImage::default()
        };
        Ok(FoundHelper {
            image: self.fetch(&wanted).await?,
            has_program: false,
        })
    }

    /// Gets an image as the runner's and the job's settings have it.
    pub(crate) async fn fetch(&self, image: &JobImage) -> Result<Image, PrepareError> {
        let policies = self.policies(image)?;
        let mut platform = None;
        if !image.platform.is_empty() {
            let (parsed, line) = Platform::parse(&image.platform).map_err(no_image)?;
            if let Some(line) = line {
                (self.say)(&messages::warning(&line));
            }
            platform = Some(parsed);
        }
        let wanted = Wanted {
            name: &image.name,
            platform: platform.as_ref(),
            policies: &policies,
        };
        let fetching = self.images.fetch(wanted, &*self.say);
        let fetched = fetching.await.map_err(no_image)?;
        let built_for = fetched
            .inspected
            .architecture
            .as_deref()
            .unwrap_or_default();
        if let Some(strange) = strange_architecture(built_for, &self.architecture) {
            let line = messages::image_for_other_machines(&image.name, strange, &self.architecture);
            (self.say)(&line);
        }
        Ok(fetched)
    }

    /// What upstream says again when a container of an image is used first.
    fn lines_of_use(&self, wanted: &JobImage, image: &Image) -> Result<Vec<String>, PrepareError> {
        Ok(image.lines_of_use(&self.policies(wanted)?))
    }

    /// By which an image may be had.
    fn policies(&self, image: &JobImage) -> Result<Vec<PullPolicy>, PrepareError> {
        let config = self.runner.docker.as_ref();
        let config = config.ok_or(PlanError::NoConfiguration)?;
        let sources = PolicySources {
            job: &image.pull_policy,
            runner: &config.pull_policy,
            allowed: &config.allowed_pull_policies,
        };
        sources.effective(&image.name).map_err(no_image)
    }

    /// Has a container of an image trust the private CAs, and says so.
    pub(crate) async fn trust(
        &self,
        recipe: &mut Recipe,
        image: &Image,
        plan: &JobContainers<'_>,
    ) -> Result<(), PrepareError> {
        if let Some(line) = self.trust_silently(recipe, &image.id, plan).await? {
            (self.say)(&messages::plain(&line));
        }
        Ok(())
    }

    /// The same of the image with this id; gives the line.
    async fn trust_silently(
        &self,
        recipe: &mut Recipe,
        image: &str,
        plan: &JobContainers<'_>,
    ) -> Result<Option<String>, PrepareError> {
        let Some(anchors) = &self.anchors else {
            return Ok(None);
        };
        let (name, labels) = plan.probe(image);
        let trusts = &self.shared.image_trusts;
        let failed = |error: ImageTrustError| PrepareError::passing(error.to_string());
        let trust = trusts.of(&self.engine, image, anchors, (&name, &labels));
        let trust = trust.await.map_err(failed)?;
        recipe
            .with_trust(&trust, &plan.volumes.destinations(), plan.names.base())
            .map_err(failed)
    }
}

struct FoundHelper {
    image: Image,
    /// Our program is in it.
    has_program: bool,
}

fn credentials(shared: &Shared, job: &Job) -> CredentialSources {
    let auth_config = job
        .variables()
        .iter()
        .rfind(|one| one.key == "DOCKER_AUTH_CONFIG");
    CredentialSources {
        auth_config: auth_config.map(|variable| variable.value.clone()),
        home: shared.home.clone(),
        of_job: job.payload().credentials.clone(),
        path: None,
    }
}

/// With what to do about it.
pub(crate) fn unusable(error: EngineError) -> PrepareError {
    let text = match &error {
        // Upstream's words, `runner-tls.md` section 6.
        EngineError::Setup(error) => format!("creating docker connection: {error}"),
        error => error.to_string(),
    };
    PrepareError::passing(error.with_remedy(text))
}

fn no_image(error: ImageError) -> PrepareError {
    PrepareError {
        message: error.message,
        reason: error.reason,
    }
}

fn no_helper(error: OwnHelperError) -> PrepareError {
    PrepareError::passing(error.to_string())
}
