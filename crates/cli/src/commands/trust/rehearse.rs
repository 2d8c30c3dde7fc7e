//! `courser trust rehearse`: the classic faults, played by a throw-away CA on loopback, with what they look like and
//! what cures them.

mod plays;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use courser_net::{
    Client, ClientSettings, Fault, PlayedServer, ProxySettings, Route, SystemRoots, Target,
    TrustSettings,
};
use tempfile::TempDir;
use url::Url;

use self::plays::{Play, Scene};
use crate::failure::{Code, Failure};
use crate::platform;
use crate::stdout::print_text;
use crate::version;

/// Arguments of `rehearse`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Rehearse {
    /// Faults to play [default: all]
    #[arg(value_name = "FAULT", value_parser = parse_play)]
    faults: Vec<Play>,
    /// List the faults
    #[arg(long)]
    list: bool,
    /// Keep one fault listening, to try other programs on, until Ctrl-C
    #[arg(long)]
    serve: bool,
}

const HELP: &str = "\
Everything is made anew for each call and kept in memory: keys never reach the disk, but for the
client's in the rehearsal of client certificates. Nothing is trusted afterwards.

  courser trust rehearse
  courser trust rehearse missing-intermediate expired-ca
  courser trust rehearse wrong-name --serve

Exit codes: 0 every fault looked as it should and was cured, 1 one was not, 2 unusable arguments.";

fn parse_play(name: &str) -> Result<Play, String> {
    Play::ALL
        .into_iter()
        .find(|play| play.name() == name)
        .ok_or_else(|| "--list shows the faults".to_owned())
}

/// Runs it.
pub(super) async fn run(rehearse: Rehearse) -> Result<ExitCode, Failure> {
    if rehearse.list {
        let mut text = String::new();
        for play in Play::ALL {
            let _ = writeln!(text, "{:<28} {}", play.name(), play.story());
        }
        print_text(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if rehearse.serve {
        let [play] = rehearse.faults.as_slice() else {
            return Err(Failure::invalid("--serve plays one fault: name it")
                .hint("courser trust rehearse --list"));
        };
        return serve(*play).await;
    }
    let plays = if rehearse.faults.is_empty() {
        Play::ALL.to_vec()
    } else {
        rehearse.faults
    };
    let mut failed = 0;
    for play in plays {
        if !perform(play).await? {
            failed += 1;
        }
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        Code::Failed.into()
    })
}

/// Plays one fault and its cure; whether both went as they should.
async fn perform(play: Play) -> Result<bool, Failure> {
    let bold = Style::new().bold();
    let (good, bad) = (
        AnsiColor::Green.on_default().bold(),
        AnsiColor::Red.on_default().bold(),
    );
    let scene = play.scene(jiff::Timestamp::now()).map_err(unmade)?;
    print_text(&format!(
        "{bold}{}{bold:#}: {}\n",
        play.name(),
        play.story()
    ))?;
    let before = look(&scene.before).await?;
    let after = look(&scene.after).await?;
    let mut text = String::new();
    let expected = match &before {
        Some(fault) => {
            let _ = writeln!(text, "\n{}\n", indented(&fault.to_string()));
            fault.help() == Some(play.help())
        }
        None => {
            let _ = writeln!(text, "  {bad}✗{bad:#} it was accepted");
            false
        }
    };
    let cured = after.is_none();
    let _ = match &after {
        None => writeln!(text, "  {good}✓{good:#} cured: {}\n", play.cure()),
        Some(fault) => writeln!(text, "  {bad}✗{bad:#} not cured: {}\n", fault.summary()),
    };
    print_text(&text)?;
    Ok(expected && cured)
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

fn unmade(error: impl std::fmt::Display) -> Failure {
    Failure::internal(format!("the rehearsal cannot be set up: {error}"))
}

/// One look at a scene: `None` when the server is accepted.
async fn look(scene: &Scene) -> Result<Option<Fault>, Failure> {
    let server = PlayedServer::start(scene.part()).await.map_err(unmade)?;
    let directory = TempDir::new().map_err(unmade)?;
    let mut trust = TrustSettings {
        system: SystemRoots::None,
        ca_file: None,
        cert_file: None,
        key_file: None,
        certificate_directory: None,
        inline_ca: scene.trusted_pem.clone(),
    };
    if let Some((certificate, key)) = &scene.client {
        trust.cert_file = Some(write(&directory, "client.crt", certificate)?);
        trust.key_file = Some(write(&directory, "client.key", key)?);
    }
    let mut proxy = ProxySettings::default();
    let port = server.address().port();
    let url = if scene.through_proxy {
        proxy.https = Some(format!("http://{}", server.address()));
        format!("https://{}/", plays::DISTANT_HOST)
    } else {
        format!("https://{}:{port}/", scene.host)
    };
    let client = Client::new(ClientSettings {
        trust,
        proxy,
        user_agent: version::user_agent(),
        connection_max_age: Duration::ZERO,
    });
    let url = Url::parse(&url).map_err(unmade)?;
    let target = Target::from_url(&url).ok_or_else(|| unmade("no target"))?;
    let seen = client.inspect(&target, Route::AsCalls).await;
    let fault = seen.map_err(unmade)?.outcome.err();
    Ok(match &scene.direct_issuer {
        Some(issuer) => fault.map(|fault| fault.with_direct_issuer(issuer.clone())),
        None => fault,
    })
}

/// Keys lie in a directory of our own, readable by its user only.
fn write(directory: &TempDir, name: &str, text: &str) -> Result<std::path::PathBuf, Failure> {
    use std::io::Write as _;

    let path = directory.path().join(name);
    platform::new_private_file()
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(unmade)?;
    Ok(path)
}

/// Keeps one fault listening.
async fn serve(play: Play) -> Result<ExitCode, Failure> {
    let scene = play.scene(jiff::Timestamp::now()).map_err(unmade)?.before;
    let server = PlayedServer::start(scene.part()).await.map_err(unmade)?;
    let directory = TempDir::new().map_err(unmade)?;
    let ca = write(&directory, "rehearsal-ca.pem", &scene.authority_pem)?;
    let address = server.address();
    let mut text = format!("{}: {}\n\n", play.name(), play.story());
    let _ = if scene.through_proxy {
        writeln!(
            text,
            "proxy     http://{address}\nCA        {}\n\ntry\n  HTTPS_PROXY=http://{address} courser trust check https://{} --ca {1}\n  curl --proxy http://{address} --cacert {1} https://{2}/",
            ca.display(),
            ca.display(),
            plays::DISTANT_HOST,
        )
    } else {
        let url = format!("https://{}:{}", scene.host, address.port());
        writeln!(
            text,
            "server    {url}\nCA        {0}\n\ntry\n  courser trust check {url} --ca {0}\n  curl --cacert {0} {url}/\n  openssl s_client -connect {address} -CAfile {0} </dev/null",
            ca.display()
        )
    };
    text.push_str("\nCtrl-C ends it.\n");
    print_text(&text)?;
    tokio::signal::ctrl_c().await.map_err(unmade)?;
    Ok(ExitCode::SUCCESS)
}
