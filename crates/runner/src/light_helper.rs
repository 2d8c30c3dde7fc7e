//! Helper work that needs no process, done here for executors that allow it.

use std::io::{self, Write};

use courser_executor::{Exit, LightHelper, Output, Stream};
use courser_helper::{LightEnvironment, is_light, run_light};
use courser_job::HelperRequest;

/// Runs light requests in this process, as this process's user.
#[derive(Debug, Clone)]
pub struct InProcessHelper(pub LightEnvironment);

impl LightHelper for InProcessHelper {
    fn can_run(&self, request: &HelperRequest) -> bool {
        is_light(request, &self.0)
    }

    fn run(&self, request: &HelperRequest, output: &mut dyn Output) -> Exit {
        match run_light(request, &self.0, &mut Log(output)) {
            Ok(()) => Exit::Success,
            Err(error) => {
                let line = courser_job::messages::work_fatal(&error.to_string(), &[]);
                output.write(Stream::Stderr, line.as_bytes());
                Exit::Failure {
                    code: 1,
                    text: "exit status 1".to_owned(),
                }
            }
        }
    }
}

struct Log<'a>(&'a mut dyn Output);

impl Write for Log<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.write(Stream::Stdout, bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
