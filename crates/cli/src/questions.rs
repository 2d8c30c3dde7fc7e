//! Questions of `register` on standard error, answers from standard input.

use std::io::Write as _;

use tokio::sync::mpsc;

use crate::failure::{Code, Failure};

/// Asks, or takes defaults where nothing may be asked.
pub(crate) struct Questions {
    non_interactive: bool,
    answers: Option<mpsc::Receiver<String>>,
}

impl Questions {
    /// Nothing is read before the first question.
    pub(crate) fn new(non_interactive: bool) -> Self {
        Self {
            non_interactive,
            answers: None,
        }
    }

    /// An answer, trimmed; empty takes the default. Without a default the question comes again
    /// unless it is optional.
    pub(crate) async fn ask(
        &mut self,
        flag: &str,
        question: &str,
        default: Option<&str>,
        optional: bool,
    ) -> Result<String, Failure> {
        let default = default.filter(|text| !text.is_empty());
        if self.non_interactive {
            return match default {
                Some(default) => Ok(default.to_owned()),
                None if optional => Ok(String::new()),
                None => {
                    Err(Failure::invalid(format!("The {flag} needs to be entered")).panicking())
                }
            };
        }
        loop {
            eprintln!("{question}");
            if let Some(default) = default {
                eprint!("[{default}]: ");
                // A prompt that cannot be shown shows when the answer is read.
                std::io::stderr().flush().ok();
            }
            let answer = self.read().await?;
            let answer = answer.trim();
            match (answer.is_empty(), default) {
                (false, _) => return Ok(answer.to_owned()),
                (true, Some(default)) => return Ok(default.to_owned()),
                (true, None) if optional => return Ok(String::new()),
                (true, None) => {}
            }
        }
    }

    /// The next line. Ctrl-C is a failure, so that what was begun is undone.
    async fn read(&mut self) -> Result<String, Failure> {
        let answers = self.answers.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(1);
            // A thread of its own: a read of standard input cannot be cancelled, and a runtime
            // would wait for it at the end.
            std::thread::spawn(move || {
                for line in std::io::stdin().lines() {
                    let Ok(line) = line else { return };
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
            });
            receiver
        });
        tokio::select! {
            answer = answers.recv() => answer.ok_or_else(|| {
                Failure::invalid("standard input ended before all questions were answered")
                    .panicking()
                    .hint("--non-interactive takes everything from flags and variables")
            }),
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::new(Code::Interrupted, "interrupted"))
            }
        }
    }
}
