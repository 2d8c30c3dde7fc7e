//! Argument lists of all processes that a runner starts.
//!
//! Shells and Git are found through `PATH` and recorded by a program in front of them, however short they live; the rest
//! is seen by looking at `/proc` again and again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use courser_testkit::programs::write_program;

use crate::world::World;

/// Between two looks at `/proc`.
const PAUSE: Duration = Duration::from_millis(2);

/// Programs with a recorder in front of them.
const RECORDED: [(&str, &str); 3] = [
    ("git", "/usr/bin/git"),
    ("bash", "/bin/bash"),
    ("sh", "/bin/sh"),
];

/// Puts the recorders in a directory of the world; gives it.
pub(super) fn recorders(world: &World) -> PathBuf {
    let log = world.path("arguments");
    for (name, program) in RECORDED {
        let script = format!(
            "#!/bin/bash -p\nprintf '%s ' '{name}' \"$@\" >> '{log}'; echo >> '{log}'\n\
             exec -a '{name}' {program} \"$@\"\n",
            log = log.display()
        );
        write_program(world.path(&format!("recorders/{name}")), script);
    }
    world.path("recorders")
}

/// Looks at the processes below one until it is dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(process: u32) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let done = Arc::new(AtomicBool::new(false));
        let (into, end) = (Arc::clone(&seen), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let mut found = Vec::new();
                look(process, &mut found);
                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(found);
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            seen,
            done,
            thread: Some(thread),
        }
    }

    /// Argument lists so far.
    pub(super) fn seen(&self) -> Vec<u8> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().flatten().copied().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The arguments of a process and of all below it. Processes end while one looks: that is no fault.
fn look(process: u32, found: &mut Vec<Vec<u8>>) {
    let Ok(arguments) = std::fs::read(format!("/proc/{process}/cmdline")) else {
        return;
    };
    found.push([arguments.as_slice(), b"\n"].concat());
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return;
    };
    for thread in threads.flatten() {
        let children = std::fs::read_to_string(thread.path().join("children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Ok(child) = child.parse() {
                look(child, found);
            }
        }
    }
}
