//! Verifying a server's chain and reading a file of roots, beside Go's `crypto/x509`.
//!
//! Both sides do what a TLS client does for each handshake: parse leaf and intermediate, find the root among 150, check
//! signatures, dates, usages and the name. "Cold" verifies with a store that has seen no handshake, "warm" with one
//! that has; Go remembers nothing between handshakes. Rounds of both alternate, so that a busy machine slows both.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::{forge, hostile};
use courser_trust::{Generation, PeerName, Source, SourceContent, Store, Usage, verify};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use crate::arguments::Arguments;
use crate::figure::{Figure, Goal, median};
use crate::peers;
use crate::world::World;

const HOST: &str = "gitlab.example.com";
const ROOTS: usize = 150;
const ROUNDS: usize = 31;

/// Where Linux systems keep their roots in one file.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

pub(crate) fn figures(_: &Arguments) -> Result<Vec<Figure>> {
    let world = World::new()?;
    let chains = [("P-256", Chain::of(false)), ("RSA 2048", Chain::of(true))];
    let roots = roots(&chains)?;
    let peer = Peer::prepare(&world, &roots, &chains)?;

    let mut load = Vec::new();
    let mut cold = vec![Vec::new(); chains.len()];
    let mut warm = vec![Vec::new(); chains.len()];
    let mut go = Vec::new();
    for _ in 0..ROUNDS {
        load.push(timed(5, || (), |()| drop(read(&roots))));
        let content = read(&roots);
        for (number, (_, chain)) in chains.iter().enumerate() {
            let fresh = || Store::builder().add_content(&content).build(Generation(1));
            cold[number].push(timed(61, fresh, |store| chain.verify(store)));
            let store = fresh();
            chain.verify(&store);
            warm[number].push(timed(201, || (), |()| chain.verify(&store)));
        }
        if let Some(peer) = &peer {
            go.push(peer.measure()?);
        }
    }

    let of_peer = |pick: &dyn Fn(&GoFigures) -> f64| {
        (!go.is_empty()).then(|| median(go.iter().map(pick).collect()) / 1e9)
    };
    let mut figures = Vec::new();
    for (number, (name, _)) in chains.iter().enumerate() {
        let peer = of_peer(&|figures| figures.verify[number]);
        for (how, bound, own) in [("cold", 0.65, &cold), ("warm", 0.45, &warm)] {
            let what = format!("leaf + intermediate, {name}, {how}");
            let figure = Figure::microseconds(&what, median(own[number].clone()));
            figures.push(
                figure
                    .beside(peer.map(|peer| Figure::microseconds(&what, peer)))
                    .goal(Goal::RatioAtMost(bound)),
            );
        }
    }
    figures.push(worst_hostile());
    let what = format!("{ROOTS} roots from one file");
    let peer = of_peer(&|figures| figures.load).map(|peer| Figure::milliseconds(&what, peer));
    figures.push(
        Figure::milliseconds(&what, median(load))
            .beside(peer)
            .goal(Goal::AtMost(1.0)),
    );
    Ok(figures)
}

/// What a server serves, and the root that is trusted.
struct Chain {
    root: Issued,
    leaf: Issued,
    served: Vec<CertificateDer<'static>>,
}

impl Chain {
    fn of(rsa: bool) -> Self {
        let key = |order: courser_testkit::pki::Order<'_>| {
            if rsa {
                order.rsa().issue()
            } else {
                order.issue()
            }
        };
        let root = key(Authority::root(if rsa { "RSA root" } else { "EC root" }));
        let intermediate = key(root.intermediate("intermediate"));
        let leaf = key(intermediate.server(&[HOST]));
        let served = leaf.chain();
        Self { root, leaf, served }
    }

    fn verify(&self, store: &Store) {
        let (leaf, intermediates) = self.served.split_first().expect("a leaf");
        let name = PeerName::from_host(HOST);
        let now = jiff::Timestamp::now();
        verify(
            leaf,
            intermediates,
            store,
            Some(&name),
            now,
            Usage::ServerAuth,
        )
        .expect("a good chain");
    }
}

/// The most expensive of the handshakes that want to be expensive.
fn worst_hostile() -> Figure {
    let name = PeerName::from_host(hostile::HOST);
    let now = forge::now();
    let costs = hostile::handshakes().into_iter().map(|handshake| {
        let (leaf, above) = handshake.served.split_first().expect("a leaf");
        let roots = Source::Inline("roots".to_owned());
        let roots = SourceContent::read(roots, handshake.roots.as_bytes());
        let fresh = || Store::builder().add_content(&roots).build(Generation(1));
        let judge = |store: &Store| {
            let usage = Usage::ServerAuth;
            drop(verify(leaf, above, store, Some(&name), now, usage));
        };
        let rounds = (0..ROUNDS).map(|_| timed(1, fresh, judge));
        (median(rounds.collect()), handshake.what)
    });
    let costs: Vec<(f64, &str)> = costs.collect();
    let worst = costs.iter().max_by(|one, other| one.0.total_cmp(&other.0));
    let (cost, what) = worst.copied().expect("there are hostile handshakes");
    let what = format!("the worst of {} hostile handshakes: {what}", costs.len());
    Figure::milliseconds(what, cost).goal(Goal::AtMost(50.0))
}

/// The roots of this system and those of the chains, filled up with others of ours or cut.
fn roots(chains: &[(&str, Chain)]) -> Result<String> {
    let bundle = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
    let bundle = bundle.context("this system has no bundle of roots (package ca-certificates)")?;
    let system = String::from_utf8(bundle).context("the system's roots are not text")?;
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let blocks = system.split(BEGIN).skip(1);
    let mut roots: Vec<String> = blocks
        .take(ROOTS - chains.len())
        .map(|block| format!("{BEGIN}{block}"))
        .collect();
    roots.extend(chains.iter().map(|(_, chain)| chain.root.certificate_pem()));
    for number in roots.len()..ROOTS {
        let more = Authority::root(&format!("filler {number}")).issue();
        roots.push(more.certificate_pem());
    }
    Ok(roots.concat())
}

fn read(roots: &str) -> SourceContent {
    let content = SourceContent::read(Source::Inline("roots".to_owned()), roots.as_bytes());
    assert_eq!(content.count(), ROOTS, "every root can be read");
    content
}

/// Seconds that one call of `work` takes on average; what `prepare` takes does not count.
fn timed<T>(runs: u32, prepare: impl Fn() -> T, work: impl Fn(&T)) -> f64 {
    let mut spent = Duration::ZERO;
    for _ in 0..runs {
        let prepared = prepare();
        let started = Instant::now();
        work(&prepared);
        spent += started.elapsed();
    }
    (spent / runs).as_secs_f64()
}

/// The Go program, ready to run.
struct Peer {
    program: PathBuf,
    roots: PathBuf,
    chains: Vec<PathBuf>,
}

/// Nanoseconds.
#[derive(Deserialize)]
struct GoFigures {
    load: f64,
    verify: Vec<f64>,
}

impl Peer {
    fn prepare(world: &World, roots: &str, chains: &[(&str, Chain)]) -> Result<Option<Self>> {
        let Some(program) = peers::go_x509()? else {
            eprintln!("NO PEER: Go is not installed, so `trust` has no ratios");
            return Ok(None);
        };
        let files = chains.iter().enumerate().map(|(number, (_, chain))| {
            world.write(&format!("chain-{number}.pem"), chain.leaf.chain_pem())
        });
        Ok(Some(Self {
            program,
            roots: world.write("roots.pem", roots)?,
            chains: files.collect::<Result<_>>()?,
        }))
    }

    fn measure(&self) -> Result<GoFigures> {
        let output = Command::new(&self.program)
            .arg(&self.roots)
            .arg(HOST)
            .args(&self.chains)
            .output()
            .context("go-x509")?;
        if !output.status.success() {
            bail!("go-x509: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("what go-x509 printed")
    }
}
