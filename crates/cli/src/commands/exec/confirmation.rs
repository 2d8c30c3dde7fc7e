//! `manual_confirmation`: the question before a manual job is started.

use std::io::IsTerminal as _;

use courser_pipeline::PipelineJob;

use super::launch::say;
use crate::control_characters::written_out;
use crate::failure::Failure;
use crate::questions::Questions;

/// Asks on a terminal and leaves out what is not confirmed: such a job waits, as if nobody had started it.
/// Without a terminal the command line has decided, and the text is shown.
pub(super) async fn ask(
    jobs: &[PipelineJob],
    played: Vec<usize>,
    json: bool,
) -> Result<Vec<usize>, Failure> {
    let may_ask = !json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut questions = Questions::new(false);
    let mut confirmed = Vec::with_capacity(played.len());
    for position in played {
        let job = &jobs[position];
        let name = &job.name;
        if let Some(text) = &job.manual_confirmation {
            if may_ask {
                let question = format!("{name}: {text} Start it? [y/N]");
                let question = written_out(&question);
                let answer = questions.ask("JOB", &question, None, true).await?;
                if !matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
                    continue;
                }
            } else {
                say(&format!("{name} is started: {text}"), json);
            }
        }
        confirmed.push(position);
    }
    Ok(confirmed)
}
