//! The shell executor: jobs are processes of this machine (`runner-build-lifecycle.md` 6.2).

#[cfg(target_os = "linux")]
mod cgroup;
mod footprint;
#[cfg_attr(not(target_os = "linux"), path = "elsewhere.rs")]
mod job_processes;
#[cfg(target_os = "linux")]
mod mark;
mod output;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;
mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_job::messages::{prepare_environment_failed, using_shell_executor};
use courser_job::{DirectoryLayout, HelperRequest, Shell, StageScript, StageWork};
use courser_protocol::{FailureReason, Features};
use tempfile::TempDir;

use crate::{
    Beside, Environment, EnvironmentFuture, Executor, ExecutorProvider, Exit, Facts, Footprint,
    Host, NoPlace, Orphan, Output, Place, Preparation, PrepareError, RunError, StopSignal, Swept,
    UnusableExecutor,
};
use footprint::{ShellFootprint, remove_private_files};
use job_processes::{JobProcesses, Marks, Survivor};
pub use process::REPOSITORY_VARIABLES;
use process::{Invocation, run_to_end};

/// Its name in `config.toml`.
const NAME: &str = "shell";

/// Makes shell executors.
pub(crate) struct ShellProvider;

impl ExecutorProvider for ShellProvider {
    fn names(&self) -> &'static [&'static str] {
        &[NAME]
    }

    fn features(&self) -> Features {
        features()
    }

    fn executor(
        &self,
        config: &RunnerConfig,
        host: &Host,
    ) -> Result<Arc<dyn Executor>, UnusableExecutor> {
        Ok(Arc::new(ShellExecutor::new(config, host)?))
    }

    fn sweep<'a>(&'a self, footprint: &'a Footprint) -> EnvironmentFuture<'a, Swept> {
        Box::pin(async move {
            match footprint.record() {
                Ok(record) => footprint::sweep(record).await,
                Err(error) => Swept {
                    not_removed: vec![("processes of the job".to_owned(), error.to_string())],
                    ..Swept::default()
                },
            }
        })
    }
}

/// Runs jobs as processes of this machine.
pub(crate) struct ShellExecutor {
    facts: Facts,
    shell: Shell,
    host: Host,
    marks: Marks,
}

impl ShellExecutor {
    pub(crate) fn new(config: &RunnerConfig, host: &Host) -> Result<Self, UnusableExecutor> {
        let shell = Shell::parse(&config.shell).map_err(|rejection| UnusableExecutor::Shell {
            why: rejection.message,
        })?;
        let facts = Facts {
            name: NAME,
            shell: shell.program().to_owned(),
            directories: DirectoryLayout {
                builds: absolute(&config.builds_dir, "builds", &host.working_directory),
                cache: absolute(&config.cache_dir, "cache", &host.working_directory),
                shared_builds: true,
            },
            custom_build_dir: false,
            clean_git_config: false,
            safe_directory: false,
            shared_environment: true,
            keeps_working_copies: true,
            open_files: false,
            tools_trust_by_executor: false,
            shows_via: false,
            helper_command: host.helper_command.clone(),
        };
        Ok(Self {
            facts,
            shell,
            host: host.clone(),
            marks: Marks::of_this_process(),
        })
    }
}

/// What works here. Terminals and native steps are later issues, secrets too.
fn features() -> Features {
    Features {
        variables: true,
        shared: true,
        artifacts: true,
        upload_multiple_artifacts: true,
        upload_raw_artifacts: true,
        cache: true,
        fallback_cache_keys: true,
        refspecs: true,
        masking: true,
        raw_variables: true,
        artifacts_exclude: true,
        multi_build_steps: true,
        return_exit_code: true,
        ..Features::default()
    }
}

/// A configured directory, or its default, below the working directory; `$PWD` is that directory.
fn absolute(configured: &str, default: &str, working_directory: &Path) -> String {
    let configured = if configured.is_empty() {
        default
    } else {
        configured
    };
    let configured = configured.replace("$PWD", &working_directory.to_string_lossy());
    working_directory
        .join(configured)
        .components()
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .collect::<PathBuf>()
        .to_string_lossy()
        .into_owned()
}

impl Executor for ShellExecutor {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn acquire(&self) -> EnvironmentFuture<'_, Result<Place, NoPlace>> {
        Box::pin(std::future::ready(Ok(Place::unlimited())))
    }

    fn prepare<'a>(
        &'a self,
        preparation: Preparation<'a>,
    ) -> EnvironmentFuture<'a, Result<Box<dyn Environment>, PrepareError>> {
        let Preparation { place, job, .. } = preparation;
        let script_file = self.shell.is_powershell() && job.features().disable_powershell_stdin;
        if script_file && self.host.user.is_some() {
            let message = format!(
                "{} doesn't support changing user with the shell executor",
                self.shell.program()
            );
            let reason = FailureReason::RunnerConfigurationError;
            let error = PrepareError::because(reason, message);
            return Box::pin(std::future::ready(Err(error)));
        }
        let line = using_shell_executor(self.shell.program());
        (preparation.say)(&line);
        let environment = ShellEnvironment {
            programs: Programs {
                shell: self.shell,
                host: self.host.clone(),
                processes: self.marks.new_job(),
            },
            script_file,
            temporary_directory: PathBuf::from(&job.directories().temporary),
            cleaned: false,
            _place: place,
        };
        (preparation.footprint)(environment.footprint());
        let environment: Box<dyn Environment> = Box::new(environment);
        Box::pin(std::future::ready(Ok(environment)))
    }
}

/// What starts programs of one job, also several at once.
#[derive(Clone)]
struct Programs {
    shell: Shell,
    host: Host,
    processes: JobProcesses,
}

struct ShellEnvironment {
    programs: Programs,
    /// Scripts are files, not standard input.
    script_file: bool,
    /// Beside the working copy; holds file variables and credentials.
    temporary_directory: PathBuf,
    /// The job's own clean-up stage has removed its file variables and credentials.
    cleaned: bool,
    _place: Place,
}

impl Programs {
    fn start<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Invocation {
        Invocation::new(
            program,
            arguments,
            &self.host.working_directory,
            &self.processes,
        )
    }

    /// The shell, which reads its script from standard input, or the same through `su` (3.1).
    fn shell_invocation(&self) -> Invocation {
        let shell = self.shell.program();
        let arguments = self.shell.stdin_arguments();
        match &self.host.user {
            None => self.start(shell, arguments.iter().map(String::as_str)),
            Some(user) => {
                let directory = if self.shell.is_powershell() {
                    "/usr/bin"
                } else {
                    "/bin"
                };
                let command = format!("{shell} {}", arguments.join(" "));
                self.as_user(user, &format!("{directory}/{shell}"), command)
            }
        }
    }

    /// `su` with a shell, which keeps standard input and the environment.
    fn as_user(&self, user: &str, shell: &str, command: String) -> Invocation {
        if cfg!(target_os = "linux") {
            self.start("su", ["-s", shell, user, "-c", &command])
        } else {
            self.start("su", [user, "-c", &command])
        }
    }

    /// `courser helper run` as the job's user, request on standard input.
    fn helper_invocation(&self) -> Invocation {
        match &self.host.user {
            None => self.start(&self.host.helper_command, ["helper", "run"]),
            Some(user) => {
                let quoted = self.host.helper_command.replace('\'', r"'\''");
                let shell = match self.shell {
                    Shell::Bash => "/bin/bash",
                    _ => "/bin/sh",
                };
                self.as_user(user, shell, format!("exec '{quoted}' helper run"))
            }
        }
    }

    async fn run_helper(
        &self,
        helper: Invocation,
        request: &HelperRequest,
        output: &mut dyn Output,
        stop: StopSignal,
    ) -> Result<Exit, RunError> {
        if self.host.user.is_none() && self.host.light_helper.can_run(request) {
            return Ok(self.host.light_helper.run(request, output));
        }
        let request = serde_json::to_vec(request)
            .map_err(|error| RunError::Start(std::io::Error::other(error)))?;
        let ended = run_to_end(helper, &request, output, stop, self.grace()).await?;
        Ok(ended.exit)
    }

    fn grace(&self) -> Duration {
        self.host.grace
    }
}

impl ShellEnvironment {
    fn footprint(&self) -> Footprint {
        let private = vec![self.temporary_directory.clone()];
        let record = ShellFootprint::new(self.programs.processes.clone(), private);
        Footprint::new(NAME, &record)
    }

    /// A directory of its own with the script, for as long as it runs. In the job's private directory, which
    /// is emptied should this process die.
    fn script_in_file(&self, script: &str) -> std::io::Result<(TempDir, Invocation)> {
        std::fs::create_dir_all(&self.temporary_directory)?;
        let directory = tempfile::Builder::new()
            .prefix("build_script")
            .tempdir_in(&self.temporary_directory)?;
        let name = format!("script.{}", self.programs.shell.script_extension());
        let path = directory.path().join(name);
        std::fs::write(&path, script)?;
        let arguments = self.programs.shell.file_arguments(&path.to_string_lossy());
        let shell = self.programs.shell.program();
        let invocation = self
            .programs
            .start(shell, arguments.iter().map(String::as_str));
        Ok((directory, invocation))
    }

    async fn run_script(
        &self,
        script: &str,
        output: &mut dyn Output,
        stop: StopSignal,
    ) -> Result<Exit, RunError> {
        if self.script_file {
            let (_directory, shell) = self.script_in_file(script).map_err(RunError::Start)?;
            return Ok(run_to_end(shell, &[], output, stop, self.programs.grace())
                .await?
                .exit);
        }
        let shell = self.programs.shell_invocation();
        let ended = run_to_end(
            shell,
            script.as_bytes(),
            output,
            stop,
            self.programs.grace(),
        )
        .await?;
        Ok(match ended.exit {
            // A login shell that did not read its script has failed in a profile.
            Exit::Failure { code, text }
                if !ended.input_was_read && !self.programs.shell.is_powershell() =>
            {
                Exit::Failure {
                    code,
                    text: prepare_environment_failed(&text),
                }
            }
            exit => exit,
        })
    }
}

impl Environment for ShellEnvironment {
    fn run<'a>(
        &'a mut self,
        stage: &'a StageScript,
        output: &'a mut dyn Output,
        stop: StopSignal,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>> {
        Box::pin(async move {
            match &stage.work {
                StageWork::Shell(script) => self.run_script(script, output, stop).await,
                StageWork::Helper(requests) => {
                    for request in requests {
                        let helper = self.programs.helper_invocation();
                        let exit = self
                            .programs
                            .run_helper(helper, request, output, stop.clone())
                            .await?;
                        if !exit.is_success() {
                            return Ok(exit);
                        }
                        self.cleaned |= matches!(request, HelperRequest::CleanUp(_));
                    }
                    Ok(Exit::Success)
                }
            }
        })
    }

    fn beside(&self) -> Arc<dyn Beside> {
        Arc::new(self.programs.clone())
    }

    /// A job that was aborted or ran out of time has no clean-up stage: its secrets go all the same.
    fn clean_up(self: Box<Self>) -> EnvironmentFuture<'static, Result<(), RunError>> {
        let directory = (!self.cleaned).then(|| self.temporary_directory.clone());
        Box::pin(async move {
            match directory {
                Some(directory) => remove_private_files(directory).await,
                None => Ok(()),
            }
        })
    }
}

impl Beside for Programs {
    fn run<'a>(
        &'a self,
        request: &'a HelperRequest,
        output: &'a mut dyn Output,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>> {
        // A request that is given up must not take the script along.
        let helper = self.helper_invocation().beside_others(JobProcesses::part());
        Box::pin(self.run_helper(helper, request, output, StopSignal::new()))
    }
}

impl Drop for ShellEnvironment {
    fn drop(&mut self) {
        self.programs.processes.forget();
    }
}

/// Kills what is left of a job of another process; gives what was killed and what lives nevertheless.
fn kill_orphans(processes: &JobProcesses, patience: Duration) -> (Vec<Orphan>, Vec<Orphan>) {
    let orphans = |survivors: Vec<Survivor>| {
        let orphan = |survivor: Survivor| Orphan {
            pid: survivor.pid.unsigned_abs(),
            name: survivor.name,
        };
        survivors.into_iter().map(orphan).collect()
    };
    processes.hold();
    processes.find();
    let killed = processes.kill(patience);
    processes.forget();
    (orphans(killed.killed), orphans(killed.left))
}

#[cfg(test)]
mod tests;
