//! `courser helper`: work beside the checkout, started by Courser itself within a job.
//!
//! The request of `run` comes as JSON on standard input: it holds tokens, so it is no argument and no file
//! with a name: a here-document that is larger than a pipe's buffer comes from a temporary file of mode
//! 0600 that bash has already unlinked.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;

use courser_executor::agent;
use courser_helper::{HelperRequest, Output, Programs};
use courser_net::LoopbackListener;

use super::exec::shell::hold;
use crate::failure::Failure;
use crate::job_streams::Ordered;
use crate::session::Session;
use crate::transfer;

/// Requests are lists of names and flags: far below this.
const MAX_REQUEST: u64 = 16 << 20;

/// Arguments of `helper`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, clap::Subcommand)]
enum Work {
    /// Do the work of the request on standard input
    Run,
    /// Run the stages of a container's job as they come on standard input
    Agent {
        /// Carry connections to this port of the loopback to the runner's side
        #[arg(long, value_name = "PORT")]
        listen: Option<u16>,
        /// Make files with the container's umask, not open to all users
        #[arg(long)]
        keep_umask: bool,
    },
    /// Hand the job's environment to whoever opened `courser shell`, and wait until that is closed
    Hold {
        /// Where the two meet
        directory: PathBuf,
    },
}

/// Does the work. The helper has printed why it failed.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    match arguments.work {
        Work::Run => run_request(session).await,
        Work::Agent { listen, keep_umask } => serve(session, listen, keep_umask).await,
        Work::Hold { directory } => hold::hold(&directory, &session.environment),
    }
}

/// Ends when the runner closes its end.
async fn serve(
    session: &Session,
    listen: Option<u16>,
    keep_umask: bool,
) -> Result<ExitCode, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("cannot tell where courser lies: {error}")))?;
    if !keep_umask {
        crate::platform::open_files_to_all();
    }
    // The container does not need it for anything that does not need the CA.
    let variables = &session.environment.variables;
    if let Err(error) = courser_helper::trust_mounted_ca(Path::new("/"), variables) {
        anstream::eprintln!("the mounted CA is not trusted: {error}");
    }
    let listener: Option<Box<dyn agent::Listener>> = match listen {
        Some(port) => {
            let listening = LoopbackListener::bind(port).await;
            let listener = listening.map_err(|error| {
                Failure::internal(format!("cannot listen on port {port}: {error}"))
            })?;
            Some(Box::new(Loopback(listener)))
        }
        None => None,
    };
    let serving = agent::serve(tokio::io::stdin(), tokio::io::stdout(), &program, listener);
    match serving.await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let failure = Failure::internal(format!("the stream to the runner: {error}"));
            Err(failure.hint("this command is started by Courser itself"))
        }
    }
}

/// Where programs in the helper container ask for the coordinator.
struct Loopback(LoopbackListener);

impl agent::Listener for Loopback {
    fn accept(&mut self) -> agent::Connecting<'_> {
        Box::pin(async {
            let stream = self.0.accept().await?;
            Ok(Box::pin(stream) as Pin<Box<dyn agent::Connection>>)
        })
    }
}

async fn run_request(session: &Session) -> Result<ExitCode, Failure> {
    let request = read_request()?;
    let environment = transfer::helper_environment(session);
    let mut output = Output {
        out: &mut Ordered::new(io::stdout(), io::stderr()),
        err: &mut Ordered::new(io::stderr(), io::stdout()),
        programs: Programs::Inherit,
    };
    let result = courser_helper::run(&request, &environment, &mut output).await;
    Ok(transfer::exit_code(result))
}

fn read_request() -> Result<HelperRequest, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(MAX_REQUEST)
        .read_to_string(&mut text)
        .map_err(|error| Failure::internal(format!("cannot read the request: {error}")))?;
    // The text of a JSON error could quote a token.
    HelperRequest::from_json(&text).map_err(|error| {
        Failure::internal(format!(
            "standard input holds no request: line {} column {}",
            error.line(),
            error.column()
        ))
        .hint("this command is started by Courser itself")
    })
}
