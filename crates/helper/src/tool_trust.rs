//! Files of trust for the job's own tools ([`ToolFiles`]).
//!
//! They come with the request, from the runner's memory, and are written anew before each job: a job may run as the
//! user who owns them, so nothing that lay there before is believed, and nothing is shared between jobs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use courser_config::Environment;
use courser_job::helper_request::{GitServer, RenewTrust};
use courser_job::{ToolFiles, ToolTrust, messages};

use crate::git_config::GitConfig;
use crate::leftovers::remove_directory;
use crate::output::Output;
use crate::sources::make_private_directory;
use crate::{HelperError, platform};

/// Where the machine's wget looks.
const WGET_CONFIG: &str = "/etc/wgetrc";
/// Far more than any configuration of wget has.
const LARGEST_WGET_CONFIG: u64 = 256 * 1024;
/// A tool that appends to its bundle by mistake is told so.
const READ_ONLY: u32 = 0o400;

/// What the job's tools get.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    trust: &'a ToolTrust,
    git_server: Option<&'a GitServer>,
}

impl<'a> Wanted<'a> {
    /// Nothing at all without certificates.
    pub(crate) fn new(
        trust: Option<&'a ToolTrust>,
        git_server: Option<&'a GitServer>,
    ) -> Option<Self> {
        trust.map(|trust| Self { trust, git_server })
    }
}

/// Puts the files of this job in place of those an earlier one left, and says so.
pub(crate) fn renew(
    temporary_dir: &str,
    wanted: Option<Wanted<'_>>,
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let files = ToolFiles::below(temporary_dir);
    remove(temporary_dir)?;
    let Some(Wanted { trust, git_server }) = wanted else {
        return Ok(());
    };
    make_private_directory(files.directory().as_ref())?;
    let bundle = files.bundle();
    for (path, content) in contents(&files, Wanted { trust, git_server }, variables)? {
        write(&path, &content, READ_ONLY)?;
    }
    output.say(&messages::tool_trust(trust.private, trust.system, &bundle))?;
    Ok(())
}

/// Gives the files of a running job other contents, each at once: its programs may be reading them. What the job does
/// not have is not made.
pub(crate) fn exchange(work: &RenewTrust, variables: &Environment) -> Result<(), HelperError> {
    let directory = Path::new(&work.temporary_dir);
    // The script of each stage writes file variables anew: they stay writable.
    let variable_files = work.files.iter().map(|(name, content)| {
        let path = directory.join(name).to_string_lossy().into_owned();
        (path, content.expose().as_bytes().to_vec(), 0o600)
    });
    let mut wanted: Vec<_> = variable_files.collect();
    if let Some(tools) = Wanted::new(work.tools.as_deref(), work.git_server.as_ref()) {
        let files = ToolFiles::below(&work.temporary_dir);
        let of_tools = contents(&files, tools, variables)?;
        wanted.extend(of_tools.map(|(path, content)| (path, content, READ_ONLY)));
    }
    for (path, content, mode) in wanted {
        if fs::symlink_metadata(&path).is_ok() {
            let beside = format!("{path}.new");
            fs::remove_file(&beside).ok();
            write(&beside, &content, mode)?;
            fs::rename(&beside, &path).map_err(HelperError::io(&path))?;
        }
    }
    Ok(())
}

/// The files for the job's tools, by path.
fn contents(
    files: &ToolFiles,
    Wanted { trust, git_server }: Wanted<'_>,
    variables: &Environment,
) -> Result<[(String, Vec<u8>); 4], HelperError> {
    let bundle = files.bundle();
    let git_config = git_config(&bundle, git_server, variables)?;
    Ok([
        (files.git_config(), git_config.into_bytes()),
        (files.wget_config(), wget_config(&bundle)),
        (files.truststore(), trust.truststore.clone()),
        (bundle, trust.bundle.clone().into_bytes()),
    ])
}

/// Takes the files of a job away.
pub(crate) fn remove(temporary_dir: &str) -> Result<(), HelperError> {
    remove_directory(ToolFiles::below(temporary_dir).directory().as_ref())
}

/// The bundle for all hosts but the server of the sources, which has files of its own: the checkout's configuration says
/// the same of them, but other clones that the job makes do not read that. The machine's configuration comes last: what
/// it says itself stays in force.
fn git_config(
    bundle: &str,
    git_server: Option<&GitServer>,
    variables: &Environment,
) -> Result<String, HelperError> {
    let machine = machine_git_config(variables.get("PATH").unwrap_or_default());
    let mut config = GitConfig::default();
    // The second for a proxy that speaks TLS itself.
    let values = [("sslCAInfo", bundle), ("proxySSLCAInfo", bundle)];
    config.section("http", "", &values)?;
    if let Some(server) = git_server {
        let mut values = Vec::new();
        values.extend(server.ca_file.as_deref().map(|ca| ("sslCAInfo", ca)));
        if let Some((certificate, key)) = &server.client_pair {
            values.extend([("sslCert", certificate.as_str()), ("sslKey", key.as_str())]);
        }
        config.section("http", &server.base, &values)?;
    }
    config.section("include", "", &[("path", &machine.to_string_lossy())])?;
    Ok(config.text().to_owned())
}

/// Where Git's build puts the machine's configuration: `/etc` for a Git below `/usr`, else `etc` beside its `bin`.
fn machine_git_config(path: &str) -> PathBuf {
    let directories = path.split(':').map(Path::new);
    let program = directories
        .filter_map(|directory| directory.join("git").canonicalize().ok())
        .find(|program| program.is_file());
    let prefix = program.as_deref().and_then(|git| git.parent()?.parent());
    let beside = prefix
        .filter(|prefix| *prefix != Path::new("/usr"))
        .map(|prefix| prefix.join("etc/gitconfig"))
        .filter(|file| file.is_file());
    beside.unwrap_or_else(|| PathBuf::from("/etc/gitconfig"))
}

/// As for Git: the machine's lines come after ours.
fn wget_config(bundle: &str) -> Vec<u8> {
    use std::io::Read as _;

    let mut text = format!("ca_certificate = {bundle}\n").into_bytes();
    // A file that cannot be read says nothing to wget either.
    if let Ok(machine) = fs::File::open(WGET_CONFIG) {
        machine
            .take(LARGEST_WGET_CONFIG)
            .read_to_end(&mut text)
            .ok();
    }
    text
}

/// A new file.
fn write(path: &str, content: &[u8], mode: u32) -> Result<(), HelperError> {
    platform::new_file(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(HelperError::io(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::output::Programs;

    fn trust(bundle: &str) -> ToolTrust {
        ToolTrust {
            private_bundle: String::new(),
            bundle: bundle.to_owned(),
            truststore: b"p12".to_vec(),
            private: 1,
            system: 2,
        }
    }

    fn renewed(temporary_dir: &str, tools: Option<&ToolTrust>) -> String {
        let (mut log, mut nowhere) = (Vec::new(), std::io::sink());
        let mut output = Output {
            out: &mut log,
            err: &mut nowhere,
            programs: Programs::Capture,
        };
        renew(
            temporary_dir,
            Wanted::new(tools, None),
            &Environment::default(),
            &mut output,
        )
        .expect("writes");
        String::from_utf8(log).expect("UTF-8")
    }

    #[test]
    fn what_a_job_did_to_its_files_never_reaches_the_next_job() {
        let world = tempfile::tempdir().expect("temporary directory");
        let temporary = world.path().join("p.tmp").display().to_string();
        let files = ToolFiles::below(&temporary);
        let said = renewed(&temporary, Some(&trust("first")));
        assert!(
            said.contains("1 private CA beside the system's 2, in "),
            "{said}"
        );
        let mode = |path: &str| fs::metadata(path).expect("file").permissions().mode() & 0o777;
        assert_eq!(mode(&files.bundle()), 0o400);
        assert_eq!(mode(files.directory()), 0o700);

        // The job replaces the bundle by a link to a file of its own, and adds a file.
        let evil = world.path().join("evil.pem");
        fs::write(&evil, "evil").expect("file");
        fs::remove_file(files.bundle()).expect("the job owns it");
        std::os::unix::fs::symlink(&evil, files.bundle()).expect("link");
        fs::write(format!("{}/more", files.directory()), "").expect("file");
        renewed(&temporary, Some(&trust("second")));
        assert_eq!(fs::read_to_string(files.bundle()).expect("file"), "second");
        assert_eq!(fs::read_to_string(&evil).expect("file"), "evil");
        assert_eq!(
            fs::read_dir(files.directory()).expect("directory").count(),
            4
        );

        // A link in place of the directory itself leads nowhere.
        remove(&temporary).expect("removes");
        let elsewhere = world.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("directory");
        std::os::unix::fs::symlink(&elsewhere, files.directory()).expect("link");
        renewed(&temporary, Some(&trust("third")));
        assert_eq!(fs::read_dir(&elsewhere).expect("directory").count(), 0);
        assert_eq!(renewed(&temporary, None), "");
        assert!(fs::symlink_metadata(files.directory()).is_err());
    }

    #[test]
    fn exchanged_variables_stay_writable_for_the_next_script_and_nothing_is_made() {
        let world = tempfile::tempdir().expect("temporary directory");
        let temporary = world.path().join("p.tmp").display().to_string();
        renewed(&temporary, Some(&trust("first")));
        let variable = format!("{temporary}/CI_SERVER_TLS_CA_FILE");
        write(&variable, b"old", 0o600).expect("file");
        let names = ["CI_SERVER_TLS_CA_FILE", "CI_SERVER_TLS_KEY_FILE"];
        let work = RenewTrust {
            temporary_dir: temporary.clone(),
            files: names.map(|name| (name.to_owned(), "new".into())).into(),
            tools: Some(trust("second").into()),
            git_server: None,
        };
        exchange(&work, &Environment::default()).expect("exchanges");
        let files = ToolFiles::below(&temporary);
        for (path, content, mode) in [(variable, "new", 0o600), (files.bundle(), "second", 0o400)] {
            assert_eq!(fs::read_to_string(&path).expect("file"), content);
            let data = fs::metadata(&path).expect("file");
            assert_eq!(data.permissions().mode() & 0o777, mode, "{path}");
        }
        assert!(!Path::new(&temporary).join(names[1]).exists());
    }

    #[test]
    fn the_server_of_the_sources_has_its_own_files_in_every_clone() {
        let server = GitServer {
            base: "https://gitlab.example.com:8443".to_owned(),
            ca_file: Some("/b/p.tmp/CI_SERVER_TLS_CA_FILE".to_owned()),
            client_pair: Some(("/b/c".to_owned(), "/b/k".to_owned())),
        };
        let text = git_config("/b/bundle", Some(&server), &Environment::default()).expect("text");
        assert!(
            text.starts_with("[http]\n\tsslCAInfo = /b/bundle\n"),
            "{text}"
        );
        let of_server = "[http \"https://gitlab.example.com:8443\"]\n\tsslCAInfo = /b/p.tmp/CI_SERVER_TLS_CA_FILE\n\t\
                         sslCert = /b/c\n\tsslKey = /b/k\n[include]\n";
        assert!(text.contains(of_server), "{text}");
    }

    #[test]
    fn the_machines_own_configuration_of_git_stays_in_force() {
        let world = tempfile::tempdir().expect("temporary directory");
        let prefix = world.path().canonicalize().expect("path").join("opt");
        for (name, text) in [("bin/git", ""), ("etc/gitconfig", "")] {
            let file = prefix.join(name);
            fs::create_dir_all(file.parent().expect("has one")).expect("directory");
            fs::write(file, text).expect("file");
        }
        let path = format!("/nowhere:{}", prefix.join("bin").display());
        assert_eq!(machine_git_config(&path), prefix.join("etc/gitconfig"));
        fs::remove_file(prefix.join("etc/gitconfig")).expect("removes");
        assert_eq!(machine_git_config(&path), Path::new("/etc/gitconfig"));
        assert_eq!(machine_git_config(""), Path::new("/etc/gitconfig"));
    }
}
