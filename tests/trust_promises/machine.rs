//! A machine that is not this one: files of the world in place of the system's, in a mount namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{World, run};

/// The same command on a machine where each `target` is what lies at `source`. Both have to exist and
/// to be of one kind. Who is not root gets a user namespace in which they are.
pub(super) fn with_files(world: &World, command: &Command, files: &[(PathBuf, &str)]) -> Command {
    const MOUNT: &str = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@""#;
    let mut wrapped = world.program("unshare");
    if !is_root() {
        wrapped.arg("--map-root-user");
    }
    wrapped.args(["--mount", "sh", "-euc", MOUNT, "sh"]);
    for (source, target) in files {
        wrapped.arg(source).arg(target);
    }
    wrapped
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

pub(super) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout == b"0\n"
}

/// The store of a Debian system, with one public authority in it until another is installed.
pub(super) struct SystemStore {
    files: Vec<(PathBuf, &'static str)>,
}

impl SystemStore {
    pub(super) fn new(world: &World) -> Self {
        let public = courser_testkit::pki::Authority::root("Public Root").issue();
        let bundle = public.certificate_pem();
        world.write("system/certs/ca-certificates.crt", bundle);
        world.write("system/local/.keep", "");
        world.write("system/hooks/.keep", "");
        world.write("system/ca-certificates.conf", "");
        Self {
            files: vec![
                (world.path("system/certs"), "/etc/ssl/certs"),
                (
                    world.path("system/local"),
                    "/usr/local/share/ca-certificates",
                ),
                (world.path("system/hooks"), "/etc/ca-certificates/update.d"),
                (
                    world.path("system/ca-certificates.conf"),
                    "/etc/ca-certificates.conf",
                ),
            ],
        }
    }

    /// The same command on the machine with this store.
    pub(super) fn with(&self, world: &World, command: &Command) -> Command {
        with_files(world, command, &self.files)
    }

    /// Installs an authority as Debian's documentation says; programs that run on the machine go on.
    pub(super) fn install(&self, world: &World, certificate: &Path) {
        let mut cure = world.program("sh");
        cure.args([
            "-euc",
            "cp \"$1\" /usr/local/share/ca-certificates/private.crt && update-ca-certificates",
            "sh",
        ])
        .arg(certificate);
        let finished = run(&mut self.with(world, &cure));
        assert!(finished.status.success(), "{}", finished.all());
    }
}
