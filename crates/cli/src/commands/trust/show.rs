//! `courser trust show`: which trust each connection is handed, and what its files hold now.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use courser_net::legs::{LookedPair, LookedSource, SourceState, Unusable};
use courser_trust::{Moment, Source, Store, shell_word};

use super::legs::{self, Handed, Row};
use super::now;
use super::shown_certificate::ShownCertificate;
use crate::config_file::{ConfigFile, ConfigOption};
use crate::failure::Failure;
use crate::session::Session;
use crate::stdout::{print_json, print_text};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Show {
    #[command(flatten)]
    config: ConfigOption,
    /// Only the runner of this name
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// Every connection, also those that a runner's executor does not make, and every file of the system store
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
For each connection: the files that are trusted, whether they are there, how many certificates they
hold and until when those are valid, what was skipped in them and how to mend it, the client
certificate, and what jobs get of all this. Nothing is connected to.

  courser trust show
  courser trust show --config /etc/gitlab-runner/config.toml --runner builder --all
  courser trust show --json | jq '.legs[] | select(.leg == \"gitlab\")'

Without a config.toml the system store and the environment are shown.";

/// Runs it.
pub(super) fn run(show: &Show, session: &Session) -> Result<ExitCode, Failure> {
    let path = show.config.path(session);
    let file = ConfigFile::open(&path, session)?;
    let named = |name: &str| show.runner.as_deref().is_none_or(|wanted| wanted == name);
    let runners: Vec<_> = file
        .config
        .runners
        .iter()
        .filter(|runner| named(&runner.name))
        .collect();
    if let (Some(name), []) = (&show.runner, &runners[..]) {
        return Err(Failure::invalid(format!(
            "no runner in {} is called {name:?}",
            path.display()
        )));
    }
    let legs = session.environment.legs();
    let now = now();
    let mut rows = Vec::new();
    for runner in runners {
        rows.extend(legs::of_runner(runner, &legs, show.all));
    }
    rows.extend(legs::of_process(&legs, show.all));
    let system = session.environment.system_roots.load();
    let shown = Shown {
        config: path.exists().then(|| path.display().to_string()),
        looked_at: path.display().to_string(),
        certificate_directory: session
            .environment
            .certificate_directory()
            .display()
            .to_string(),
        system: ShownSystem::new(&system, show.all),
        legs: rows.iter().map(|row| ShownLeg::new(row, now)).collect(),
    };
    if show.json {
        print_json(&shown)?;
    } else {
        print_text(&shown.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The object of `--json`.
#[derive(serde::Serialize)]
struct Shown {
    /// Absent where the file is not there.
    config: Option<String>,
    #[serde(skip)]
    looked_at: String,
    certificate_directory: String,
    system: ShownSystem,
    legs: Vec<ShownLeg>,
}

#[derive(serde::Serialize)]
struct ShownSystem {
    certificates: usize,
    files: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<ShownCount>,
}

#[derive(serde::Serialize)]
struct ShownCount {
    path: String,
    certificates: usize,
    skipped: usize,
}

/// One connection.
#[derive(serde::Serialize)]
struct ShownLeg {
    runner: Option<String>,
    leg: &'static str,
    title: &'static str,
    peer: Option<String>,
    /// Whether the system store is trusted; absent where trust is not ours to decide, or there is none.
    system: Option<bool>,
    sources: Vec<ShownSource>,
    client_certificate: Option<ShownPair>,
    /// Predefined files that are looked for since their options are empty.
    looked_for: Vec<String>,
    notes: Vec<String>,
}

#[derive(serde::Serialize)]
struct ShownSource {
    kind: &'static str,
    name: String,
    present: bool,
    error: Option<String>,
    certificates: Vec<ShownCertificate>,
    skipped: Vec<ShownSkipped>,
}

#[derive(serde::Serialize)]
struct ShownSkipped {
    line: usize,
    reason: String,
    repair: String,
    harmless: bool,
}

#[derive(serde::Serialize)]
struct ShownPair {
    certificate: String,
    key: String,
    usable: bool,
    problem: Option<String>,
    /// `0600` and the like; others may read the key when it is more.
    key_mode: Option<String>,
    key_mode_too_open: bool,
    certificates: Vec<ShownCertificate>,
}

impl ShownSystem {
    fn new(store: &Store, all: bool) -> Self {
        let sources = store.consulted().iter();
        Self {
            certificates: store.certificates().len(),
            files: sources.len(),
            sources: sources
                .filter(|_| all)
                .map(|one| ShownCount {
                    path: one.source.name(),
                    certificates: one.certificates,
                    skipped: one.skipped,
                })
                .collect(),
        }
    }
}

impl ShownLeg {
    fn new(row: &Row, now: Moment) -> Self {
        let mut shown = Self {
            runner: row.runner.clone(),
            leg: row.leg,
            title: row.title,
            peer: row.peer.clone(),
            system: None,
            sources: Vec::new(),
            client_certificate: None,
            looked_for: Vec::new(),
            notes: row.notes.clone(),
        };
        if let Handed::Settings(settings) = &row.handed {
            let host = row.host.as_deref().unwrap_or_default();
            let look = settings.look(host);
            let predefined = settings.predefined_names(host);
            shown.system = Some(settings.system != courser_net::SystemRoots::None);
            shown.sources = look
                .sources
                .iter()
                .map(|source| ShownSource::new(source, now))
                .collect();
            shown.client_certificate = look.pair.as_ref().and_then(|pair| {
                // A pair of predefined names that is not there was never meant.
                let never_meant = matches!(pair.unusable, Some(Unusable::Absent(_)))
                    && predefined.contains(&pair.certificate)
                    && predefined.contains(&pair.key);
                (!never_meant).then(|| ShownPair::new(pair, now))
            });
            shown.looked_for = predefined
                .iter()
                .map(|path| path.display().to_string())
                .collect();
        }
        shown
    }
}

impl ShownSource {
    fn new(looked: &LookedSource, now: Moment) -> Self {
        let kind = match looked.source {
            Source::System(_) => "system",
            Source::Configured(_) => "configured",
            Source::Predefined(_) => "predefined",
            Source::Inline(_) => "inline",
        };
        let mut shown = Self {
            kind,
            name: looked.source.name(),
            present: !matches!(looked.state, SourceState::Absent),
            error: None,
            certificates: Vec::new(),
            skipped: Vec::new(),
        };
        match &looked.state {
            SourceState::Absent => {}
            SourceState::Unreadable(error) => shown.error = Some(error.clone()),
            SourceState::Present(store) => {
                let certificates = store.certificates().iter();
                shown.certificates = certificates
                    .map(|one| ShownCertificate::with_days_left(one.certificate(), now))
                    .collect();
                let skipped = store.skipped().iter();
                shown.skipped = skipped
                    .map(|block| ShownSkipped {
                        line: block.line,
                        reason: block.reason.to_string(),
                        repair: block.repair().to_string(),
                        harmless: block.reason.is_harmless(),
                    })
                    .collect();
            }
        }
        shown
    }
}

impl ShownPair {
    fn new(pair: &LookedPair, now: Moment) -> Self {
        let problem = pair.unusable.as_ref().map(|why| match why {
            Unusable::Absent(path) => format!("{} is not there", path.display()),
            Unusable::Broken(why) => why.clone(),
        });
        Self {
            certificate: pair.certificate.display().to_string(),
            key: pair.key.display().to_string(),
            usable: problem.is_none(),
            problem,
            key_mode: pair.key_mode.map(|mode| format!("{mode:04o}")),
            key_mode_too_open: pair.key_mode.is_some_and(|mode| mode & 0o077 != 0),
            certificates: pair
                .chain
                .iter()
                .map(|one| ShownCertificate::with_days_left(one, now))
                .collect(),
        }
    }
}

impl Shown {
    fn text(&self) -> String {
        let mut text = String::new();
        let bold = Style::new().bold();
        match &self.config {
            Some(path) => {
                let _ = writeln!(text, "configuration: {path}");
            }
            None => {
                let _ = writeln!(text, "configuration: {} is not there", self.looked_at);
            }
        }
        let _ = writeln!(text, "predefined files: {}", self.certificate_directory);
        let _ = writeln!(
            text,
            "system store: {} certificates in {} files",
            self.system.certificates, self.system.files
        );
        for one in &self.system.sources {
            let _ = writeln!(text, "  {}: {}", one.path, one.certificates);
        }
        let mut runner = None;
        for leg in &self.legs {
            if runner != Some(&leg.runner) {
                let title = match &leg.runner {
                    Some(name) => format!("runner {name}"),
                    None => "this process".to_owned(),
                };
                let _ = writeln!(text, "\n{bold}{title}{bold:#}");
                runner = Some(&leg.runner);
            }
            leg.write(&mut text);
        }
        text
    }
}

impl ShownLeg {
    fn write(&self, text: &mut String) {
        let red = AnsiColor::Red.on_default().bold();
        let _ = match &self.peer {
            Some(peer) => writeln!(text, "  {} ({peer})", self.title),
            None => writeln!(text, "  {}", self.title),
        };
        match self.system {
            Some(true) => text.push_str("    the system store\n"),
            Some(false) => text.push_str("    not the system store\n"),
            None => {}
        }
        for source in &self.sources {
            source.write(text);
        }
        if let Some(pair) = &self.client_certificate {
            let _ = writeln!(
                text,
                "    client certificate {} with key {}",
                pair.certificate, pair.key
            );
            if let Some(problem) = &pair.problem {
                let _ = writeln!(text, "      {red}not used{red:#}: {problem}");
            }
            if let (Some(mode), true) = (&pair.key_mode, pair.key_mode_too_open) {
                let _ = writeln!(
                    text,
                    "      {red}others may read the key{red:#} (mode {mode}): chmod 600 {}",
                    shell_word(&pair.key)
                );
            }
            for certificate in &pair.certificates {
                let _ = writeln!(text, "      {}", certificate.line());
            }
        }
        let there: Vec<&str> = self.sources.iter().map(|one| one.name.as_str()).collect();
        for path in &self.looked_for {
            let shown = there.contains(&path.as_str())
                || self
                    .client_certificate
                    .as_ref()
                    .is_some_and(|pair| pair.certificate == *path || pair.key == *path);
            if !shown {
                let _ = writeln!(text, "    looked for {path}: not there");
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "    {note}");
        }
    }
}

impl ShownSource {
    fn write(&self, text: &mut String) {
        let red = AnsiColor::Red.on_default().bold();
        let kind = match self.kind {
            "inline" => "",
            "predefined" => "predefined file ",
            _ => "file ",
        };
        let _ = match (&self.error, self.present, self.kind) {
            (Some(error), ..) => writeln!(
                text,
                "    {kind}{}: {red}cannot be read{red:#}: {error}",
                self.name
            ),
            (None, false, "predefined") => {
                writeln!(text, "    looked for {}: not there", self.name)
            }
            (None, false, _) => {
                writeln!(text, "    {kind}{}: {red}not there{red:#}", self.name)
            }
            (None, true, _) => writeln!(
                text,
                "    {kind}{}: {}",
                self.name,
                match self.certificates.len() {
                    1 => "1 certificate".to_owned(),
                    number => format!("{number} certificates"),
                }
            ),
        };
        for certificate in &self.certificates {
            let _ = writeln!(text, "      {}", certificate.line());
        }
        for block in self.skipped.iter().filter(|block| !block.harmless) {
            let _ = writeln!(
                text,
                "      {red}skipped{red:#} line {}: {}; {}",
                block.line, block.reason, block.repair
            );
        }
    }
}
