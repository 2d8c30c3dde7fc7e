//! The shell executor: jobs are processes of this machine (`runner-build-lifecycle.md` 6.2).

mod cgroup;
mod job_processes;
mod mark;
mod output;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_job::messages::prepare_environment_failed;
use courser_job::{DirectoryLayout, HelperRequest, Job, StageScript, StageWork};
use courser_protocol::Features;

use crate::{
    Environment, EnvironmentFuture, Executor, Exit, Facts, Footprint, Host, NoPlace, Orphan,
    Output, Place, PrepareError, RunError, StopSignal, UnusableExecutor,
};
use cgroup::Cgroups;
pub(crate) use job_processes::JobProcesses;
use job_processes::Survivor;
use mark::Mark;
pub use process::REPOSITORY_VARIABLES;
use process::{Invocation, run_to_end};

/// Runs jobs as processes of this machine.
pub(crate) struct ShellExecutor {
    facts: Facts,
    shell: Shell,
    host: Host,
    /// Where jobs can have control groups.
    cgroups: Option<Cgroups>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Bash,
    Sh,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Sh => "sh",
        }
    }
}

impl ShellExecutor {
    pub(crate) fn new(config: &RunnerConfig, host: &Host) -> Result<Self, UnusableExecutor> {
        let shell = match config.shell.as_str() {
            "" | "bash" => Shell::Bash,
            "sh" => Shell::Sh,
            other => {
                return Err(UnusableExecutor::Shell {
                    name: other.to_owned(),
                });
            }
        };
        let facts = Facts {
            name: "shell",
            shell: shell.name().to_owned(),
            directories: DirectoryLayout {
                builds: absolute(&config.builds_dir, "builds", &host.working_directory),
                cache: absolute(&config.cache_dir, "cache", &host.working_directory),
                shared_builds: true,
            },
            custom_build_dir: false,
            clean_git_config: false,
            shared_environment: true,
            shows_via: false,
            helper_command: host.helper_command.clone(),
        };
        Ok(Self {
            facts,
            shell,
            host: host.clone(),
            cgroups: Cgroups::of_this_process(),
        })
    }
}

/// What works here. Terminals and native steps are later issues, secrets too.
pub(crate) fn features() -> Features {
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
        place: Place,
        job: &'a Job,
    ) -> EnvironmentFuture<'a, Result<Box<dyn Environment>, PrepareError>> {
        let mark = Mark::new();
        let cgroup = self
            .cgroups
            .as_ref()
            .and_then(|groups| groups.of_job(&mark));
        let environment: Box<dyn Environment> = Box::new(ShellEnvironment {
            shell: self.shell,
            host: self.host.clone(),
            processes: JobProcesses::new(mark, cgroup),
            temporary_directory: PathBuf::from(&job.directories().temporary),
            _place: place,
        });
        Box::pin(std::future::ready(Ok(environment)))
    }
}

struct ShellEnvironment {
    shell: Shell,
    host: Host,
    processes: JobProcesses,
    /// Beside the working copy; holds file variables and credentials.
    temporary_directory: PathBuf,
    _place: Place,
}

impl ShellEnvironment {
    fn start<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Invocation {
        Invocation::new(
            program,
            arguments,
            &self.host.working_directory,
            &self.processes,
        )
    }

    /// `<shell> -l`, or the same through `su` (3.1).
    fn shell_invocation(&self) -> Invocation {
        let shell = self.shell.name();
        match &self.host.user {
            None => self.start(shell, ["-l"]),
            Some(user) => self.as_user(user, format!("{shell} -l")),
        }
    }

    /// `su` with the job's shell, which keeps standard input and the environment.
    fn as_user(&self, user: &str, command: String) -> Invocation {
        let shell_path = format!("/bin/{}", self.shell.name());
        if cfg!(target_os = "linux") {
            self.start("su", ["-s", &shell_path, user, "-c", &command])
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
                self.as_user(user, format!("exec '{quoted}' helper run"))
            }
        }
    }

    async fn run_helper(
        &self,
        request: &HelperRequest,
        output: &mut dyn Output,
        stop: StopSignal,
    ) -> Result<Exit, RunError> {
        if self.host.user.is_none() && self.host.light_helper.can_run(request) {
            return Ok(self.host.light_helper.run(request, output));
        }
        let request = serde_json::to_vec(request)
            .map_err(|error| RunError::Start(std::io::Error::other(error)))?;
        let ended = run_to_end(
            self.helper_invocation(),
            &request,
            output,
            stop,
            self.grace(),
        )
        .await?;
        Ok(ended.exit)
    }

    fn grace(&self) -> Duration {
        self.host.grace
    }
}

impl Environment for ShellEnvironment {
    fn description(&self) -> String {
        format!("Using Shell ({}) executor...", self.shell.name())
    }

    fn run<'a>(
        &'a mut self,
        stage: &'a StageScript,
        output: &'a mut dyn Output,
        stop: StopSignal,
    ) -> EnvironmentFuture<'a, Result<Exit, RunError>> {
        Box::pin(async move {
            match &stage.work {
                StageWork::Shell(script) => {
                    let shell = self.shell_invocation();
                    let ended =
                        run_to_end(shell, script.as_bytes(), output, stop, self.grace()).await?;
                    Ok(match ended.exit {
                        // A login shell that did not read its script has failed in a profile.
                        Exit::Failure { code, text } if !ended.input_was_read => Exit::Failure {
                            code,
                            text: prepare_environment_failed(&text),
                        },
                        exit => exit,
                    })
                }
                StageWork::Helper(requests) => {
                    for request in requests {
                        let exit = self.run_helper(request, output, stop.clone()).await?;
                        if !exit.is_success() {
                            return Ok(exit);
                        }
                    }
                    Ok(Exit::Success)
                }
            }
        })
    }

    fn footprint(&self) -> Footprint {
        Footprint::new(
            self.processes.clone(),
            vec![self.temporary_directory.clone()],
        )
    }

    fn clean_up(self: Box<Self>) -> EnvironmentFuture<'static, Result<(), RunError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for ShellEnvironment {
    fn drop(&mut self) {
        self.processes.forget();
    }
}

/// Kills what is left of a job of another process; gives what was killed and what lives nevertheless.
pub(crate) fn kill_orphans(
    processes: &JobProcesses,
    patience: Duration,
) -> (Vec<Orphan>, Vec<Orphan>) {
    let orphans = |survivors: Vec<Survivor>| {
        let orphan = |survivor: Survivor| Orphan {
            pid: survivor.pid.unsigned_abs(),
            name: survivor.name,
        };
        survivors.into_iter().map(orphan).collect()
    };
    processes.find();
    let killed = processes.kill(patience);
    processes.forget();
    (orphans(killed.killed), orphans(killed.left))
}

#[cfg(test)]
mod tests;
