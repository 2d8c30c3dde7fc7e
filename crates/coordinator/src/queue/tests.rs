//! The queue without the wire: what a store that fails and a long life do to it.

use std::sync::atomic::{AtomicI64, Ordering};

use courser_pipeline::{JobWhen, Pipeline, PipelineJob, Workflow};

use super::*;
use crate::cache_keys::CacheKeys;
use crate::oidc::{Issuer, OidcSettings};
use crate::pipeline_run::PipelineStatus;
use crate::repository::{Origin, ServedRepository};
use crate::settings::{Images, NewPipeline};
use crate::store::Durability;

struct World {
    dir: tempfile::TempDir,
    clock: Arc<AtomicI64>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(AtomicI64::new(1_800_000_000)),
        }
    }

    fn files(&self) -> StateDir {
        StateDir::create(&self.dir.path().join("state"), Durability::Durable).unwrap()
    }

    fn queue(&self) -> Queue {
        let files = self.files();
        let oidc = OidcSettings::new(self.dir.path().join("oidc/keys.json"));
        let clock = Arc::clone(&self.clock);
        let mut queue = Queue::load(QueueParts {
            store: Store::open(&files.database(), Durability::Durable).unwrap(),
            files,
            clock: Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap()),
            server: ServerFacts {
                url: "https://127.0.0.1:8443/".parse().unwrap(),
                default_timeout: 3600,
                issuer: Arc::new(Issuer::new(
                    oidc,
                    &"https://127.0.0.1:8443/".parse().unwrap(),
                )),
            },
            version: watch::Sender::new(0),
            events: broadcast::Sender::new(64),
            bridges: mpsc::unbounded_channel().0,
        })
        .unwrap();
        let git = self.dir.path().join("git");
        queue.add_project(Project {
            id: 1,
            path: "group/project".to_owned(),
            repository: ServedRepository::create(&git, &Origin::default()).unwrap(),
        });
        queue
    }

    fn sql(&self, statement: &str) {
        let connection = rusqlite::Connection::open(self.files().database()).unwrap();
        connection.execute_batch(statement).unwrap();
    }
}

fn create(queue: &mut Queue, when: JobWhen) -> i64 {
    create_of(queue, vec![job("build", when)])
}

fn job(name: &str, when: JobWhen) -> PipelineJob {
    PipelineJob {
        name: name.to_owned(),
        stage: "build".to_owned(),
        script: vec!["true".to_owned()],
        when,
        ..PipelineJob::default()
    }
}

fn create_of(queue: &mut Queue, jobs: Vec<PipelineJob>) -> i64 {
    let new = new_pipeline(jobs);
    queue.create_pipeline(new, &CacheKeys::default()).unwrap()
}

fn new_pipeline(jobs: Vec<PipelineJob>) -> NewPipeline {
    NewPipeline {
        project_variables: Vec::new(),
        beforehand: Default::default(),
        project_id: 1,
        pipeline: Pipeline {
            workflow: Workflow::default(),
            stages: vec!["build".to_owned()],
            jobs,
            warnings: Vec::new(),
            not_run_here: Vec::new(),
        },
        ref_name: "main".to_owned(),
        tag: false,
        sha: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        before_sha: "0".repeat(40),
        predefined: Default::default(),
        variables: Vec::new(),
    }
}

fn runner(queue: &mut Queue) -> Secret {
    let new = NewRunner {
        description: String::new(),
        tags: Vec::new(),
        run_untagged: true,
        paused: false,
        maximum_timeout: 0,
        any_tags: true,
        images: Images::Any,
        url: None,
    };
    queue.register(new).unwrap().1
}

fn report(success: bool) -> FinalReport {
    FinalReport {
        success,
        failure_reason: None,
        exit_code: i32::from(!success),
        coverage: None,
    }
}

/// Takes the next job to its end and returns its id and token.
fn run_one(queue: &mut Queue, runner: &Secret) -> (i64, Secret) {
    let asked = queue.request_job(runner.expose(), "", Default::default());
    let job = asked.unwrap().expect("a job");
    let access = queue.access_running(job.id, job.token.expose()).unwrap();
    let end = report(true);
    assert_eq!(queue.finish(&access, end).unwrap(), UpdateAnswer::Done);
    (job.id, job.token)
}

fn status(queue: &mut Queue, pipeline: i64) -> PipelineStatus {
    queue.snapshot(pipeline).unwrap().expect("known").status
}

#[test]
fn what_could_not_be_stored_has_not_happened() {
    let world = World::new();
    let mut queue = world.queue();
    let runner = runner(&mut queue);
    let pipeline = create(&mut queue, JobWhen::OnSuccess);
    world.sql("ALTER TABLE jobs RENAME TO hidden");
    let asked = queue.request_job(runner.expose(), "", Default::default());
    assert!(matches!(asked, Err(RequestError::Store(_))));
    world.sql("ALTER TABLE hidden RENAME TO jobs");
    // The job was not lost: it is handed out now.
    run_one(&mut queue, &runner);
    assert_eq!(status(&mut queue, pipeline), PipelineStatus::Success);
}

#[test]
fn settled_pipelines_leave_memory_and_can_still_be_looked_at_and_played() {
    let world = World::new();
    let mut queue = world.queue();
    let runner = runner(&mut queue);
    let manual = create(&mut queue, JobWhen::Manual);
    let first = create(&mut queue, JobWhen::OnSuccess);
    let (job, token) = run_one(&mut queue, &runner);
    for _ in 0..SETTLED_IN_MEMORY + 5 {
        create(&mut queue, JobWhen::OnSuccess);
        run_one(&mut queue, &runner);
    }
    assert_eq!(queue.pipelines.len(), SETTLED_IN_MEMORY);
    assert_eq!(queue.places.len(), SETTLED_IN_MEMORY);
    assert!(!queue.pipelines.contains_key(&first) && !queue.pipelines.contains_key(&manual));
    assert_eq!(
        queue.access(job, token.expose()).unwrap_err(),
        AccessError::Forbidden
    );
    assert_eq!(status(&mut queue, first), PipelineStatus::Success);

    queue.apply(manual, Event::Play(0)).unwrap();
    run_one(&mut queue, &runner);
    assert_eq!(status(&mut queue, manual), PipelineStatus::Success);
}

#[test]
fn a_start_loads_what_is_under_way_and_leaves_the_rest_in_the_store() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let over = create(&mut queue, JobWhen::OnSuccess);
    run_one(&mut queue, &token);
    let waiting = create(&mut queue, JobWhen::OnSuccess);
    drop(queue);
    let mut queue = world.queue();
    assert_eq!(queue.pipelines.keys().collect::<Vec<_>>(), [&waiting]);
    assert_eq!(status(&mut queue, over), PipelineStatus::Success);
    run_one(&mut queue, &token);
    assert_eq!(status(&mut queue, waiting), PipelineStatus::Success);
}

#[test]
fn a_job_that_was_handed_out_and_not_acknowledged_is_pending_after_a_restart() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    create(&mut queue, JobWhen::OnSuccess);
    let features = courser_protocol::Features {
        two_phase_job_commit: true,
        ..Default::default()
    };
    let asked = queue.request_job(token.expose(), "", features);
    let lost = asked.unwrap().expect("a job");
    drop(queue);
    let mut queue = world.queue();
    // Whoever has it after all comes too late: the next one gets a token of its own.
    let refused = queue.access_running(lost.id, lost.token.expose());
    assert_eq!(refused.unwrap_err(), AccessError::Forbidden);
    let (id, _) = run_one(&mut queue, &token);
    assert_eq!(id, lost.id);
}

#[test]
fn an_environment_is_stopped_when_its_time_is_over_also_after_a_restart() {
    for restarts in [false, true] {
        let world = World::new();
        let mut queue = world.queue();
        let token = runner(&mut queue);
        let mut deploy = job("deploy", JobWhen::OnSuccess);
        deploy.environment = Some(serde_json::json!({
            "name": "review/$CI_COMMIT_REF_NAME", "action": "start", "on_stop": "stop it",
            "auto_stop_in": "1 hour",
        }));
        let mut stop = job("stop it", JobWhen::Manual);
        stop.environment = Some(serde_json::json!({
            "name": "review/$CI_COMMIT_REF_NAME", "action": "stop",
        }));
        let pipeline = create_of(&mut queue, vec![deploy, stop]);
        run_one(&mut queue, &token);
        world.clock.fetch_add(3599, Ordering::Relaxed);
        if restarts {
            drop(queue);
            queue = world.queue();
        }
        assert_eq!(queue.tick().unwrap(), 1, "a second is left");
        let state = |queue: &mut Queue| queue.snapshot(pipeline).unwrap().unwrap().jobs[1].state;
        assert_eq!(state(&mut queue), JobState::Manual);
        world.clock.fetch_add(1, Ordering::Relaxed);
        queue.tick().unwrap();
        assert_eq!(state(&mut queue), JobState::Pending);
        run_one(&mut queue, &token);
        assert_eq!(queue.stops.next(), None);
    }
}

#[test]
fn a_pipeline_whose_creator_died_before_it_began_begins() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let pipeline = create(&mut queue, JobWhen::OnSuccess);
    drop(queue);
    world.sql(r#"UPDATE jobs SET state = '{"state":"created"}'"#);
    let mut queue = world.queue();
    run_one(&mut queue, &token);
    assert_eq!(status(&mut queue, pipeline), PipelineStatus::Success);
}

#[test]
fn a_job_whose_runner_fell_silent_fails_with_its_reason() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let pipeline = create(&mut queue, JobWhen::OnSuccess);
    let asked = queue.request_job(token.expose(), "", Default::default());
    assert!(asked.unwrap().is_some());
    world
        .clock
        .fetch_add(SILENT_FOR_MS / 1000 + 1, Ordering::Relaxed);
    queue.tick().unwrap();
    let snapshot = queue.snapshot(pipeline).unwrap().unwrap();
    assert_eq!(snapshot.status, PipelineStatus::Failed);
    let reason = snapshot.jobs[0].end.failure_reason.as_deref();
    assert_eq!(reason, Some("stuck_or_timeout_failure"));
}

fn bridge(name: &str, trigger: serde_json::Value) -> PipelineJob {
    PipelineJob {
        script: Vec::new(),
        trigger: Some(trigger),
        ..job(name, JobWhen::OnSuccess)
    }
}

fn depends() -> serde_json::Value {
    serde_json::json!({"include": [{"local": "child.yml"}], "strategy": "depend"})
}

/// What an evaluation makes of a bridge.
fn child_of(jobs: Vec<PipelineJob>) -> crate::bridge::Evaluated {
    crate::bridge::Evaluated {
        project: None,
        pipeline: new_pipeline(jobs),
    }
}

#[test]
fn a_second_end_of_an_attempt_does_not_end_the_next_one() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let mut retried = job("build", JobWhen::OnSuccess);
    retried.retry = Some(serde_json::json!({"max": 1}));
    let pipeline = create_of(&mut queue, vec![retried]);
    let asked = queue.request_job(token.expose(), "", Default::default());
    let first = asked.unwrap().expect("a job");
    let access = queue
        .access_running(first.id, first.token.expose())
        .unwrap();
    let end = report(false);
    queue.finish(&access, end.clone()).unwrap();
    let state = |queue: &mut Queue| queue.snapshot(pipeline).unwrap().unwrap().jobs[0].state;
    assert_eq!(state(&mut queue), JobState::Pending);
    let asked = queue.request_job(token.expose(), "", Default::default());
    assert!(asked.unwrap().is_some());
    // Both were let in while the first attempt was running.
    assert_eq!(queue.finish(&access, end).unwrap(), UpdateAnswer::Done);
    assert_eq!(state(&mut queue), JobState::Running);
    queue.drop_for_large_log(&access).unwrap();
    assert_eq!(state(&mut queue), JobState::Running);
}

#[test]
fn a_resource_group_that_was_taken_during_the_evaluation_holds_the_bridge_back() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let mut down = bridge("down", depends());
    down.resource_group = Some("only".to_owned());
    let mut rival = job("rival", JobWhen::OnSuccess);
    rival.resource_group = Some("only".to_owned());
    let pipeline = create_of(&mut queue, vec![down, rival]);
    let child = child_of(vec![job("inner", JobWhen::OnSuccess)]);
    assert!(queue.bridge_work(pipeline, 0).unwrap().is_some());
    let asked = queue.request_job(token.expose(), "", Default::default());
    let rival = asked.unwrap().expect("the rival");
    let keys = CacheKeys::default();
    queue
        .start_downstream((pipeline, 0), child.clone(), &keys)
        .unwrap();
    let state = |queue: &mut Queue| queue.snapshot(pipeline).unwrap().unwrap().jobs[0].state;
    assert_eq!(state(&mut queue), JobState::Pending);
    let access = queue
        .access_running(rival.id, rival.token.expose())
        .unwrap();
    queue.finish(&access, report(true)).unwrap();
    queue.start_downstream((pipeline, 0), child, &keys).unwrap();
    assert_eq!(state(&mut queue), JobState::Running);
}

#[test]
fn a_bridge_that_waits_for_a_person_keeps_its_resource_group() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let mut trigger = depends();
    trigger["strategy"] = "mirror".into();
    let mut down = bridge("down", trigger);
    down.resource_group = Some("only".to_owned());
    let pipeline = create_of(&mut queue, vec![down]);
    let asks = job("asks", JobWhen::Manual);
    let keys = CacheKeys::default();
    queue
        .start_downstream((pipeline, 0), child_of(vec![asks]), &keys)
        .unwrap();
    let state = |queue: &mut Queue| queue.snapshot(pipeline).unwrap().unwrap().jobs[0].state;
    assert_eq!(state(&mut queue), JobState::Held);
    for _ in 0..SETTLED_IN_MEMORY + 5 {
        create(&mut queue, JobWhen::OnSuccess);
        run_one(&mut queue, &token);
    }
    for _ in 0..2 {
        let mut rival = job("rival", JobWhen::OnSuccess);
        rival.resource_group = Some("only".to_owned());
        create_of(&mut queue, vec![rival]);
        let asked = queue.request_job(token.expose(), "", Default::default());
        assert!(asked.unwrap().is_none(), "the group is held");
        drop(queue);
        queue = world.queue();
    }
}

#[test]
fn a_bridge_that_has_ended_stays_as_it_is_and_its_pipeline_is_found_after_a_restart() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    let pipeline = create_of(&mut queue, vec![bridge("down", depends())]);
    let mut optional = job("optional", JobWhen::Manual);
    optional.allow_failure = courser_pipeline::AllowFailure::Always(true);
    let keys = CacheKeys::default();
    // Nothing in it runs by itself: it is settled when it is created.
    queue
        .start_downstream((pipeline, 0), child_of(vec![optional]), &keys)
        .unwrap();
    drop(queue);
    let mut queue = world.queue();
    let bridge = |queue: &mut Queue| queue.snapshot(pipeline).unwrap().unwrap().jobs.remove(0);
    let (before, child) = (bridge(&mut queue), bridge(&mut queue).downstream);
    assert!(before.state.is_over(), "{:?}", before.state);
    let child = child.expect("the pipeline that it started");
    queue.apply(child, Event::Play(0)).unwrap();
    let asked = queue.request_job(token.expose(), "", Default::default());
    let inner = asked.unwrap().expect("the job");
    let access = queue
        .access_running(inner.id, inner.token.expose())
        .unwrap();
    let end = report(false);
    queue.finish(&access, end).unwrap();
    let after = bridge(&mut queue);
    assert_eq!(after.state, before.state);
    assert_eq!(after.end.message, before.end.message);
    assert_eq!(after.end.failure_reason, before.end.failure_reason);
}

#[test]
fn an_older_list_of_submodules_does_not_replace_a_longer_one() {
    let world = World::new();
    let mut queue = world.queue();
    let repository = queue.project(1).unwrap().repository.clone();
    let with = |names: &[&str]| {
        let submodules = names.iter().map(|name| crate::repository::Submodule {
            url: format!("https://example.com/{name}.git"),
            repository: repository.clone(),
        });
        Project {
            id: 1,
            path: "group/project".to_owned(),
            repository: repository.clone().with_submodules(submodules.collect()),
        }
    };
    queue.add_project(with(&["a", "b"]));
    queue.add_project(with(&["a"]));
    let known = queue.project(1).unwrap().repository.submodules().len();
    assert_eq!(known, 2);
}

#[test]
fn pipelines_are_numbered_whatever_the_rules_were_told() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    for number in ["1", "2"] {
        let mut new = new_pipeline(vec![job("build", JobWhen::OnSuccess)]);
        let known = ("CI_PIPELINE_IID".to_owned(), "1".to_owned());
        new.predefined.extend([known]);
        queue.create_pipeline(new, &CacheKeys::default()).unwrap();
        let asked = queue.request_job(token.expose(), "", Default::default());
        let job = asked.unwrap().expect("a job");
        let mut told = job.variables.iter();
        let told = told.find(|variable| variable.key == "CI_PIPELINE_IID");
        assert_eq!(told.map(|told| told.value.expose()), Some(number));
    }
}

#[test]
fn jobs_of_other_pipelines_are_given_however_far_apart_they_are() {
    let world = World::new();
    let mut queue = world.queue();
    let token = runner(&mut queue);
    create_of(&mut queue, vec![job("early", JobWhen::OnSuccess)]);
    run_one(&mut queue, &token);
    for _ in 0..SETTLED_IN_MEMORY + 5 {
        create(&mut queue, JobWhen::OnSuccess);
        run_one(&mut queue, &token);
    }
    create_of(&mut queue, vec![job("late", JobWhen::OnSuccess)]);
    run_one(&mut queue, &token);
    let need = |job: &str| serde_json::json!({"project": "group/project", "ref": "main", "job": job, "artifacts": true});
    let mut gathers = job("gathers", JobWhen::OnSuccess);
    gathers.needs = Some(vec![need("late"), need("early")]);
    create_of(&mut queue, vec![gathers]);
    let asked = queue.request_job(token.expose(), "", Default::default());
    let given = asked.unwrap().expect("a job").dependencies;
    let names: Vec<_> = given.iter().map(|given| given.name.as_str()).collect();
    assert_eq!(names, ["late", "early"]);
}

/// Evaluates until it is told to stop.
struct Slow {
    began: std::sync::mpsc::Sender<()>,
    ends: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl crate::settings::PipelineSource for Slow {
    fn pipeline(
        &self,
        _: i64,
        _: &str,
        _: &[(String, String)],
    ) -> Result<crate::bridge::Evaluated, String> {
        Err("no pipeline".to_owned())
    }

    fn downstream(
        &self,
        _: crate::bridge::DownstreamRequest,
    ) -> Result<crate::bridge::Evaluated, crate::bridge::DownstreamError> {
        self.began.send(()).unwrap();
        let _ = self.ends.lock().unwrap().recv();
        Err(crate::bridge::DownstreamError::creation("too late"))
    }
}

#[test]
fn a_stop_does_not_wait_for_the_evaluation_of_a_bridge() {
    let world = World::new();
    let mut queue = world.queue();
    let pipeline = create_of(&mut queue, vec![bridge("down", depends())]);
    let (queue, _thread) = QueueHandle::start(queue).unwrap();
    let (began, begins) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel();
    let (sender, bridges) = mpsc::unbounded_channel();
    sender.send((pipeline, 0)).unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let starter = crate::bridge::Starter {
        queue,
        source: Some(Arc::new(Slow {
            began,
            ends: std::sync::Mutex::new(ends),
        })),
        bridges,
        shutdown: shutdown.clone(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let working = runtime.spawn(starter.run());
    begins.recv().unwrap();
    shutdown.cancel();
    let limit = std::time::Duration::from_secs(20);
    let stopped = runtime.block_on(async { tokio::time::timeout(limit, working).await });
    end.send(()).unwrap();
    assert!(stopped.is_ok(), "it waits for the evaluation");
}
