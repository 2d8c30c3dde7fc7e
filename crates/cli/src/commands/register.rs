//! `register`: make a runner known to the server and add it to the file (`runner-cli.md` 2.1).
//!
//! A token that begins with `glrt-` belongs to a runner made on the server: it is verified. Any
//! other registration token makes a runner now. What fails after that takes the runner back.

use std::path::PathBuf;
use std::process::ExitCode;

use courser_config::{Config, RunnerConfig, RunnerEntry};
use courser_protocol::{Info, RegisterRequest, Secret, short_token};
use courser_runner::client::info;
use jiff::Timestamp;

use super::unregister;
use crate::config_file::{ConfigFile, ConfigOption};
use crate::connection;
use crate::executors::executors;
use crate::failure::{Code, Failure};
use crate::questions::Questions;
use crate::runner_flags::RunnerFlags;
use crate::session::Session;

/// Arguments of `register`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Template with settings for the new runner
    #[arg(long, env = "TEMPLATE_CONFIG_FILE", value_name = "FILE")]
    template_config: Option<PathBuf>,
    /// Ask nothing
    #[arg(short, long, env = "REGISTER_NON_INTERACTIVE", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    non_interactive: bool,
    /// Leave the runner on the server when a later step fails
    #[arg(long, env = "REGISTER_LEAVE_RUNNER", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    leave_runner: bool,
    /// Registration token (deprecated)
    #[arg(short, long, env = "REGISTRATION_TOKEN", hide_env_values = true)]
    registration_token: Option<Secret>,
    /// Tags, separated by commas
    #[arg(long, env = "RUNNER_TAG_LIST")]
    tag_list: Option<String>,
    /// Take jobs without tags; the default when there are no tags
    #[arg(long, env = "REGISTER_RUN_UNTAGGED", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    run_untagged: bool,
    /// Lock the runner to its project
    #[arg(long, env = "REGISTER_LOCKED", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    locked: bool,
    /// Access level: not_protected or ref_protected
    #[arg(long, env = "REGISTER_ACCESS_LEVEL")]
    access_level: Option<String>,
    /// Longest job, in seconds
    #[arg(long, env = "REGISTER_MAXIMUM_TIMEOUT", default_value = "0")]
    maximum_timeout: i64,
    /// Register the runner, but let it take no jobs
    #[arg(long, env = "REGISTER_PAUSED", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    paused: bool,
    /// Note for administrators
    #[arg(long, env = "REGISTER_MAINTENANCE_NOTE")]
    maintenance_note: Option<String>,
    #[command(flatten)]
    runner: RunnerFlags,
}

/// Registers one runner.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    session.announce_mode(true);
    arguments.check_access_level()?;
    let mut entry = arguments.runner.clone().into_entry();
    if entry.text(&["name"]).is_none() {
        entry.set_text(&["name"], &session.environment.host_name());
    }
    if let Some(path) = &arguments.template_config {
        merge_template(&mut entry, path)?;
    }
    let file = ConfigFile::open(&arguments.config.path(session), session)?;
    let system_id = file.system_id()?;
    let mut registration = Registration {
        arguments: &arguments,
        session,
        file: &file,
        system_id,
        questions: Questions::new(arguments.non_interactive),
        entry,
    };
    registration.with_server().await?;
    if let Err(failure) = registration.settle().await {
        if !arguments.leave_runner {
            registration.take_back().await;
        }
        return Err(failure);
    }
    registration.save()?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn check_access_level(&self) -> Result<(), Failure> {
        match self.access_level.as_deref() {
            None | Some("" | "not_protected" | "ref_protected") => Ok(()),
            Some(_) => Err(Failure::invalid(
                "Given access level is not valid: it is not_protected or ref_protected",
            )
            .panicking()),
        }
    }

    /// Flags that only mean something where the runner is made now.
    fn reserved(&self) -> Vec<&'static str> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        [
            ("--locked", !self.locked),
            ("--access-level", given(&self.access_level)),
            ("--run-untagged", self.run_untagged),
            ("--maximum-timeout", self.maximum_timeout != 0),
            ("--paused", self.paused),
            ("--tag-list", given(&self.tag_list)),
            ("--maintenance-note", given(&self.maintenance_note)),
        ]
        .into_iter()
        .filter_map(|(flag, set)| set.then_some(flag))
        .collect()
    }
}

/// A registration under way.
struct Registration<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    file: &'a ConfigFile,
    system_id: String,
    questions: Questions,
    entry: RunnerEntry,
}

impl Registration<'_> {
    /// Asks for URL and token and settles with the server who the runner is.
    async fn with_server(&mut self) -> Result<(), Failure> {
        self.ask(
            "url",
            &["url"],
            "GitLab URL, for example https://gitlab.com:",
            false,
        )
        .await?;
        if let Some(token) = self.entry.text(&["token"]).map(ToOwned::to_owned) {
            if token.starts_with("glrt-") {
                let reserved = self.arguments.reserved();
                if !reserved.is_empty() {
                    return Err(Failure::invalid(format!(
                        "{} cannot be given with a runner authentication token: the server has these settings",
                        reserved.join(", ")
                    ))
                    .hint("leave them out here and set them where the runner was made"));
                }
                return self.verify_created(&token).await;
            }
            tracing::warn!(
                "A token given with --token is only verified; to register a runner use --registration-token"
            );
            return self.verify_existing().await;
        }
        let given = self.arguments.registration_token.clone();
        let token = self
            .questions
            .ask(
                "registration-token",
                "Registration token:",
                given.as_ref().map(Secret::expose),
                false,
            )
            .await?;
        if token.starts_with("glrt-") {
            let reserved = self.arguments.reserved();
            if !reserved.is_empty() {
                tracing::warn!(
                    "A runner authentication token was given as registration token. \
                     This has triggered the 'legacy-compatible registration process': {} are ignored, the server has these settings",
                    reserved.join(", ")
                );
            }
            self.entry.set_text(&["token"], &token);
            return self.verify_created(&token).await;
        }
        self.register_now(&token).await
    }

    /// A runner made on the server.
    async fn verify_created(&mut self, token: &str) -> Result<(), Failure> {
        let known = &self.file.config.runners;
        if known.iter().any(|runner| runner.token.expose() == token) {
            tracing::warn!(
                "A runner with this token is already in {}",
                self.file.path().display()
            );
        }
        let short = short_token(token).to_owned();
        let failed =
            || Failure::new(Code::Surroundings, "Failed to verify the runner.").panicking();
        let runner = self.runner();
        let api = self.connect(&runner).map_err(|error| {
            tracing::error!(runner = short, status = %error, "Verifying runner... client error");
            failed()
        })?;
        match api.verify(&self.info(&runner)).await {
            Ok(granted) if granted.value.id != 0 => {
                let correlation_id = granted.correlation_id;
                tracing::info!(
                    correlation_id,
                    runner = short,
                    "Verifying runner... is valid"
                );
                self.entry.set_number(&["id"], granted.value.id);
                self.entry
                    .set_time(&["token_obtained_at"], Some(Timestamp::now()));
                self.entry
                    .set_time(&["token_expires_at"], granted.value.token_expires_at);
            }
            Ok(granted) => {
                let correlation_id = granted.correlation_id;
                tracing::error!(
                    correlation_id,
                    runner = short,
                    "Verifying runner... the server told no id"
                );
                return Err(failed());
            }
            Err(refusal) => {
                let correlation_id = refusal.correlation_id();
                let ending = match &refusal {
                    courser_runner::client::registration::Refusal::Forbidden { .. } => {
                        "is not valid"
                    }
                    courser_runner::client::registration::Refusal::Client(_) => "client error",
                    _ => "failed",
                };
                tracing::error!(correlation_id, runner = short, status = %refusal, "Verifying runner... {ending}");
                return Err(failed());
            }
        }
        // The runner exists now as far as the server is concerned: a name that is missing here
        // takes this manager off again.
        let asked = self
            .ask(
                "name",
                &["name"],
                "Name of the runner, kept in the local file only:",
                false,
            )
            .await;
        if let Err(failure) = asked {
            if !self.arguments.leave_runner {
                self.take_back().await;
            }
            return Err(failure);
        }
        Ok(())
    }

    /// A runner that was registered before: only checked.
    fn info(&self, runner: &RunnerConfig) -> Info {
        let environment = &self.session.environment;
        let executors = executors(environment, &environment.working_directory, None);
        info::of_runner(runner, &executors)
    }

    async fn verify_existing(&self) -> Result<(), Failure> {
        let runner = self.runner();
        let short = short_token(runner.token.expose());
        let failed =
            || Failure::new(Code::Surroundings, "Failed to verify the runner.").panicking();
        let api = self.connect(&runner).map_err(|error| {
            tracing::error!(runner = %short, status = %error, "Verifying runner... client error");
            failed()
        })?;
        match api.verify(&self.info(&runner)).await {
            Ok(granted) => {
                let correlation_id = granted.correlation_id;
                tracing::info!(correlation_id, runner = %short, "Verifying runner... is alive");
                Ok(())
            }
            Err(refusal) => {
                let correlation_id = refusal.correlation_id();
                tracing::error!(correlation_id, runner = %short, status = %refusal, "Verifying runner... failed");
                Err(failed())
            }
        }
    }

    /// The old way: description, tags and note, then `POST runners`.
    async fn register_now(&mut self, token: &str) -> Result<(), Failure> {
        self.ask("name", &["name"], "Description of the runner:", false)
            .await?;
        let arguments = self.arguments;
        let tags = self
            .questions
            .ask(
                "tag-list",
                "Tags of the runner, separated by commas:",
                arguments.tag_list.as_deref(),
                true,
            )
            .await?;
        let note = self
            .questions
            .ask(
                "maintenance-note",
                "Maintenance note for administrators, if any:",
                arguments.maintenance_note.as_deref(),
                true,
            )
            .await?;
        tracing::warn!(
            "Registration tokens are deprecated; make the runner on the server and use its authentication token"
        );
        let runner = self.runner();
        let short = short_token(token).to_owned();
        let failed =
            || Failure::new(Code::Surroundings, "Failed to register the runner.").panicking();
        let api = self.connect(&runner).map_err(|error| {
            tracing::error!(runner = short, status = %error, "Registering runner... client error");
            failed()
        })?;
        let request = RegisterRequest {
            description: runner.name.clone(),
            maintenance_note: note,
            run_untagged: arguments.run_untagged || tags.is_empty(),
            tag_list: tags,
            locked: arguments.locked,
            access_level: arguments.access_level.clone().unwrap_or_default(),
            maximum_timeout: arguments.maximum_timeout,
            paused: arguments.paused,
            info: info::of_nobody(),
            token: Secret::new(token),
        };
        match api.register(&request).await {
            Ok(granted) => {
                let correlation_id = granted.correlation_id;
                tracing::info!(
                    correlation_id,
                    runner = short,
                    "Registering runner... succeeded"
                );
                self.entry.set_number(&["id"], granted.value.id);
                self.entry
                    .set_text(&["token"], granted.value.token.expose());
                self.entry
                    .set_time(&["token_obtained_at"], Some(Timestamp::now()));
                self.entry
                    .set_time(&["token_expires_at"], granted.value.token_expires_at);
                Ok(())
            }
            Err(refusal) => {
                let correlation_id = refusal.correlation_id();
                let ending = match &refusal {
                    courser_runner::client::registration::Refusal::Forbidden { .. } => {
                        "forbidden (check registration token)"
                    }
                    courser_runner::client::registration::Refusal::Client(_) => "client error",
                    _ => "failed",
                };
                tracing::error!(correlation_id, runner = short, status = %refusal, "Registering runner... {ending}");
                Err(failed())
            }
        }
    }

    /// Executor and what belongs to it.
    async fn settle(&mut self) -> Result<(), Failure> {
        let question = format!("Executor ({}):", EXECUTORS.join(", "));
        loop {
            self.ask("executor", &["executor"], &question, true).await?;
            let executor = self.entry.text(&["executor"]).unwrap_or_default();
            if EXECUTORS.contains(&executor) {
                break;
            }
            if self.arguments.non_interactive {
                return Err(Failure::invalid("Invalid executor specified").panicking());
            }
            tracing::error!("Invalid executor specified");
            self.entry.set_text(&["executor"], "");
        }
        let executor = self
            .entry
            .text(&["executor"])
            .unwrap_or_default()
            .to_owned();
        for (flag, path, question, optional) in questions_of(&executor) {
            self.ask(flag, path, question, *optional).await?;
        }
        self.add_cache_volume(&executor);
        if executor == "docker-windows" && self.entry.text(&["shell"]).is_none() {
            self.entry.set_text(&["shell"], "pwsh");
        }
        if !matches!(executor.as_str(), "shell" | "docker") {
            tracing::warn!(
                "The executor {executor} is not built in Courser yet; the runner will not take jobs"
            );
        }
        self.entry.settle_for_executor();
        Ok(())
    }

    /// Docker containers get `/cache` unless a volume is there already.
    fn add_cache_volume(&mut self, executor: &str) {
        let mut volumes = self.entry.texts(&["docker", "volumes"]);
        let cache = match executor {
            "docker" | "docker+machine" | "docker-autoscaler" => {
                if self.entry.is_true(&["docker", "disable_cache"])
                    || volumes.iter().any(|volume| volume.ends_with("/cache"))
                {
                    return;
                }
                "/cache"
            }
            "docker-windows" => {
                if volumes.iter().any(|volume| volume.contains("c:\\cache")) {
                    return;
                }
                "c:\\cache"
            }
            _ => return,
        };
        volumes.push(cache.to_owned());
        self.entry.set_texts(&["docker", "volumes"], &volumes);
    }

    fn save(&self) -> Result<(), Failure> {
        let concurrent = i64::try_from(self.file.config.concurrent).unwrap_or(i64::MAX);
        for key in ["limit", "request_concurrency"] {
            if let Some(value) = self.entry.number(&[key])
                && value > concurrent
            {
                tracing::warn!("{key} ({value}) is above the global concurrent ({concurrent})");
            }
        }
        let mut document = self.file.document()?;
        document.append_runner(&self.entry);
        self.file.save(&document)?;
        tracing::info!(
            "Runner registered successfully. Start it with \"{} run\"; one that is running loads the file by itself.",
            self.session.program
        );
        tracing::info!(
            "The configuration, token included, was saved in {:?}",
            self.file.path().display().to_string()
        );
        Ok(())
    }

    /// Undoes the registration on the server.
    async fn take_back(&self) {
        let runner = self.runner();
        if let Ok(api) = self.connect(&runner) {
            unregister::delete(&api, &runner).await;
        }
    }

    fn connect(
        &self,
        runner: &RunnerConfig,
    ) -> Result<courser_runner::client::Api, courser_runner::client::BadUrl> {
        let Config {
            connection_max_age, ..
        } = self.file.config;
        connection::api(runner, connection_max_age, &self.system_id, self.session)
    }

    /// The entry as far as the server is concerned.
    fn runner(&self) -> RunnerConfig {
        let text = |key: &str| self.entry.text(&[key]).map(ToOwned::to_owned);
        RunnerConfig {
            name: text("name").unwrap_or_default(),
            url: text("url").unwrap_or_default(),
            token: text("token").unwrap_or_default().into(),
            tls_ca_file: text("tls-ca-file"),
            tls_cert_file: text("tls-cert-file"),
            tls_key_file: text("tls-key-file"),
            executor: text("executor").unwrap_or_default(),
            shell: text("shell").unwrap_or_default(),
            labels: self.file.config.labels.clone(),
            ..RunnerConfig::default()
        }
    }

    /// Asks for a text of the entry, its present value being the default.
    async fn ask(
        &mut self,
        flag: &str,
        path: &[&'static str],
        question: &str,
        optional: bool,
    ) -> Result<(), Failure> {
        let default = self.entry.text(path).map(ToOwned::to_owned);
        let answer = self
            .questions
            .ask(flag, question, default.as_deref(), optional)
            .await?;
        self.entry.set_text(path, &answer);
        Ok(())
    }
}

const EXECUTORS: [&str; 11] = [
    "shell",
    "custom",
    "docker",
    "docker-windows",
    "docker+machine",
    "docker-autoscaler",
    "instance",
    "kubernetes",
    "ssh",
    "parallels",
    "virtualbox",
];

type Question = (&'static str, &'static [&'static str], &'static str, bool);

/// What else an executor needs: flag, key, question, whether it may stay empty.
fn questions_of(executor: &str) -> &'static [Question] {
    const SSH_HOST: [Question; 2] = [
        ("ssh-host", &["ssh", "host"], "SSH host:", false),
        (
            "ssh-port",
            &["ssh", "port"],
            "SSH port, for example 22:",
            true,
        ),
    ];
    const SSH_USER: [Question; 3] = [
        (
            "ssh-user",
            &["ssh", "user"],
            "SSH user, for example root:",
            false,
        ),
        ("ssh-password", &["ssh", "password"], "SSH password:", true),
        (
            "ssh-identity-file",
            &["ssh", "identity_file"],
            "File with the SSH key:",
            true,
        ),
    ];
    const SSH: [Question; 5] = [
        SSH_HOST[0],
        SSH_HOST[1],
        SSH_USER[0],
        SSH_USER[1],
        SSH_USER[2],
    ];
    const PARALLELS: [Question; 3] = [
        (
            "parallels-base-name",
            &["parallels", "base_name"],
            "Parallels virtual machine:",
            false,
        ),
        SSH_HOST[0],
        SSH_HOST[1],
    ];
    const VIRTUALBOX: [Question; 4] = [
        (
            "virtualbox-base-name",
            &["virtualbox", "base_name"],
            "VirtualBox virtual machine:",
            false,
        ),
        SSH_USER[0],
        SSH_USER[1],
        SSH_USER[2],
    ];
    match executor {
        "docker" | "docker+machine" | "docker-autoscaler" => &[(
            "docker-image",
            &["docker", "image"],
            "Default Docker image, for example ruby:3.3:",
            false,
        )],
        "docker-windows" => &[(
            "docker-image",
            &["docker", "image"],
            "Default Docker image, for example mcr.microsoft.com/windows/servercore:1809:",
            false,
        )],
        "ssh" => &SSH,
        "parallels" => &PARALLELS,
        "virtualbox" => &VIRTUALBOX,
        _ => &[],
    }
}

fn merge_template(entry: &mut RunnerEntry, path: &std::path::Path) -> Result<(), Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::invalid(format!("cannot read the template {name}: {error}")))?;
    entry
        .merge_template(&text, &name)
        .map_err(|error| Failure::from_error(Code::Invalid, &error))
}
