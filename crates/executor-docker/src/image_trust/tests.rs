use std::collections::BTreeMap;

use bytes::Bytes;
use courser_testkit::pki::{Authority, Issued};
use courser_trust::{Bundle, Certificate, Generation, Source, Store};
use tar::{EntryType, Header};

use super::cover::Layout;
use super::survey::Stat;
use super::*;

/// An image as a table of paths. Parents are directories.
#[derive(Default)]
struct Image {
    files: BTreeMap<String, Content>,
    environment: Vec<String>,
}

enum Content {
    File(Vec<u8>),
    Link(String),
    Directory,
}

impl Image {
    fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = Content::File(content.into());
        self.files.insert(path.to_owned(), content);
        self
    }

    fn link(mut self, path: &str, target: &str) -> Self {
        let content = Content::Link(target.to_owned());
        self.files.insert(path.to_owned(), content);
        self
    }

    fn directory(mut self, path: &str) -> Self {
        self.files.insert(path.to_owned(), Content::Directory);
        self
    }

    fn variable(mut self, variable: &str) -> Self {
        self.environment.push(variable.to_owned());
        self
    }

    /// As an engine answers; targets are written evaluated.
    fn stat(&self, path: &str) -> Stat {
        let below = format!("{path}/");
        match self.files.get(path) {
            Some(Content::File(_)) => Stat::File,
            Some(Content::Link(target)) if target.starts_with('/') => Stat::Link(target.clone()),
            Some(Content::Link(target)) => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                Stat::Link(format!("{parent}/{target}"))
            }
            Some(Content::Directory) => Stat::Directory,
            None if self.files.keys().any(|other| other.starts_with(&below)) => Stat::Directory,
            None => Stat::Missing,
        }
    }

    fn archive(&self, directory: &str) -> Bytes {
        let mut builder = tar::Builder::new(Vec::new());
        let name = directory.rsplit('/').next().unwrap_or_default();
        for (path, content) in &self.files {
            let Some(rest) = path.strip_prefix(directory) else {
                continue;
            };
            let path = format!("{name}{rest}");
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            match content {
                Content::File(bytes) => {
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, path, &bytes[..]).unwrap();
                }
                Content::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    builder.append_link(&mut header, path, target).unwrap();
                }
                Content::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    builder.append_data(&mut header, path, io::empty()).unwrap();
                }
            }
        }
        builder.into_inner().unwrap().into()
    }

    fn trust(&self, anchors: &Anchors) -> ImageTrust {
        let mut survey = Survey::of(&self.environment);
        loop {
            let questions = survey.questions();
            if questions.is_empty() {
                break;
            }
            for path in questions {
                let stat = self.stat(&path);
                survey.answer(path, stat);
            }
        }
        let layout = Layout::of(&survey);
        let read = layout
            .to_read()
            .map(|path| (path.to_owned(), Directory::read(path, &self.archive(path))))
            .collect();
        ImageTrust::new(
            layout.cover(read, anchors),
            survey,
            &self.environment,
            anchors,
        )
    }
}

struct Pki {
    private: Issued,
    public: Issued,
    anchors: Anchors,
}

fn pki() -> Pki {
    let (private, public) = (
        Authority::root("Private").issue(),
        Authority::root("Public").issue(),
    );
    let store = |source, issued: &Issued| {
        let text = issued.certificate_pem();
        Store::builder()
            .add(source, text.as_bytes())
            .build(Generation(1))
    };
    let configured = store(Source::Configured("/ca.pem".into()), &private);
    let system = store(Source::System("/bundle".into()), &public);
    let anchors = Anchors::of(&Bundle::compose(&system, &configured, None)).expect("a private CA");
    Pki {
        private,
        public,
        anchors,
    }
}

fn certificate(issued: &Issued) -> Certificate {
    Certificate::parse(issued.der()).expect("a certificate")
}

/// What the volumes hold, by path.
fn contents(plan: &ContainerTrust) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, archive) in &plan.archives {
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let path = format!("{}/{path}", at.trim_end_matches('/'));
            let content = match entry.link_name().unwrap() {
                Some(target) => format!("-> {}", target.display()),
                None => {
                    let mut bytes = Vec::new();
                    io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            found.insert(path, content);
        }
    }
    found
}

fn targets(plan: &ContainerTrust) -> Vec<&str> {
    let mounts = plan.mounts.iter();
    mounts.filter_map(|mount| mount.target.as_deref()).collect()
}

fn plan(trust: &ImageTrust, facts: ContainerFacts<'_>) -> ContainerTrust {
    trust.plan(facts).expect("archives").expect("a plan")
}

/// The names that `update-ca-certificates` would give to the private CA.
fn names(pki: &Pki) -> (String, String) {
    let certificate = certificate(&pki.private);
    let name = format!("courser-{}", &certificate.fingerprint().to_string()[..16]);
    (name, certificate.subject_hash())
}

const NODE: &str = "NODE_EXTRA_CA_CERTS=";

#[test]
fn debian_gets_what_its_own_tool_would_make() {
    let pki = pki();
    let (name, hash) = names(&pki);
    let own = pki.public.certificate_pem();
    let image = Image::default()
        .file("/etc/ssl/certs/ca-certificates.crt", &*own)
        .link(
            "/etc/ssl/certs/Public.pem",
            "/usr/share/ca-certificates/public.crt",
        )
        .link(&format!("/etc/ssl/certs/{hash}.0"), "Public.pem")
        .directory("/usr/local/share/ca-certificates");
    let plan = plan(&image.trust(&pki.anchors), ContainerFacts::default());
    assert_eq!(
        targets(&plan),
        ["/etc/ssl/certs", "/usr/local/share/ca-certificates"]
    );
    let found = contents(&plan);
    let bundle = &found["/etc/ssl/certs/ca-certificates.crt"];
    assert!(bundle.starts_with(&own) && bundle.ends_with(&pki.private.certificate_pem()));
    assert_eq!(
        found[&format!("/etc/ssl/certs/{name}.pem")],
        format!("-> /usr/local/share/ca-certificates/{name}.crt")
    );
    // Further names of the links beside them.
    assert_eq!(
        found[&format!("/etc/ssl/certs/{hash}.0")],
        "-> etc/ssl/certs/Public.pem"
    );
    assert_eq!(
        found[&format!("/etc/ssl/certs/{hash}.1")],
        format!("-> etc/ssl/certs/{name}.pem")
    );
    let source = &found[&format!("/usr/local/share/ca-certificates/{name}.crt")];
    assert!(source.contains(&pki.private.certificate_pem()));
    assert!(
        plan.environment
            .contains(&"REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt".to_owned())
    );
    assert!(plan.environment.contains(&format!(
        "{NODE}/usr/local/share/ca-certificates/courser-private-cas.pem"
    )));
    assert!(
        !plan
            .environment
            .iter()
            .any(|variable| variable.starts_with("SSL_CERT_FILE"))
    );
    assert_eq!(
        plan.line,
        "Trust in containers of this image: 1 private CA beside the image's 1, in volumes over /etc/ssl/certs, \
         /usr/local/share/ca-certificates (off: images = false in [runners.trust])"
    );
}

#[test]
fn red_hat_is_covered_where_its_links_lead_and_nss_by_its_sources() {
    let pki = pki();
    let extracted = "/etc/pki/ca-trust/extracted";
    let bundle = format!("{extracted}/pem/tls-ca-bundle.pem");
    let image = Image::default()
        .file(&bundle, pki.public.certificate_pem())
        .file(&format!("{extracted}/pem/email-ca-bundle.pem"), "mail")
        .file(
            &format!("{extracted}/openssl/ca-bundle.trust.crt"),
            "# trust\n",
        )
        .file(&format!("{extracted}/edk2/cacerts.bin"), "")
        .directory("/etc/pki/ca-trust/source/anchors")
        .link("/etc/pki/tls/certs/ca-bundle.crt", &bundle)
        .link("/etc/pki/tls/cert.pem", &bundle)
        .link("/etc/ssl/certs", "/etc/pki/tls/certs")
        .file("/etc/pki/nssdb/cert9.db", "SQLite");
    let plan = plan(&image.trust(&pki.anchors), ContainerFacts::default());
    assert_eq!(targets(&plan), ["/etc/pki/ca-trust"]);
    let found = contents(&plan);
    let added = pki.private.certificate_pem();
    for path in [
        &bundle,
        "/etc/pki/ca-trust/extracted/openssl/ca-bundle.trust.crt",
    ] {
        assert!(found[path].ends_with(&added), "{path}");
    }
    assert_eq!(
        found[&format!("{extracted}/pem/email-ca-bundle.pem")],
        "mail"
    );
    assert!(found[&format!("{extracted}/edk2/cacerts.bin")].len() > 44);
    let private = "/etc/pki/ca-trust/source/anchors/courser-private-cas.pem";
    assert!(found[private].ends_with(&added));
    assert!(plan.environment.contains(&format!("{NODE}{private}")));
    assert!(!plan.line.contains("left as it is"), "{}", plan.line);
}

#[test]
fn an_empty_image_gets_the_runners_roots_too_and_finds_them_by_hash() {
    let pki = pki();
    let plan = plan(
        &Image::default().trust(&pki.anchors),
        ContainerFacts::default(),
    );
    let found = contents(&plan);
    let bundle = &found["/etc/ssl/certs/ca-certificates.crt"];
    for issued in [&pki.private, &pki.public] {
        assert!(bundle.contains(&issued.certificate_pem()));
        let hash = certificate(issued).subject_hash();
        assert!(found.contains_key(&format!("/etc/ssl/certs/{hash}.0")));
    }
    assert!(
        plan.line
            .contains("1 private CA and the runner's 1 of the system"),
        "{}",
        plan.line
    );
}

#[test]
fn what_the_image_trusts_already_is_not_put_in_again() {
    let pki = pki();
    let (_, hash) = names(&pki);
    let both = pki.public.certificate_pem() + &pki.private.certificate_pem();
    let image = Image::default()
        .file("/etc/ssl/certs/ca-certificates.crt", both)
        .file("/etc/ssl/certs/own.pem", pki.private.certificate_pem())
        .link(&format!("/etc/ssl/certs/{hash}.0"), "own.pem");
    let plan = plan(&image.trust(&pki.anchors), ContainerFacts::default());
    assert_eq!(targets(&plan), ["/usr/local/share/ca-certificates"]);
}

#[test]
fn what_the_container_mounts_itself_is_neither_covered_nor_written() {
    let pki = pki();
    let image = Image::default()
        .file(
            "/etc/pki/tls/certs/ca-bundle.crt",
            pki.public.certificate_pem(),
        )
        .file("/etc/pki/tls/certs/sub/other", "x")
        .link("/etc/ssl/certs", "/etc/pki/tls/certs")
        .file("/opt/jdk/lib/security/cacerts", "no keystore")
        .variable("JAVA_HOME=/opt/jdk");
    let trust = image.trust(&pki.anchors);
    let with = |mounted: &[&str]| {
        let facts = ContainerFacts {
            mounted,
            ..ContainerFacts::default()
        };
        trust.plan(facts).expect("archives")
    };
    let all = with(&["/builds", "/etc/gitlab-runner/certs/ca.crt"]).expect("a plan");
    assert_eq!(
        targets(&all),
        ["/etc/pki/tls/certs", "/usr/local/share/ca-certificates"]
    );
    assert!(
        all.line
            .contains("/opt/jdk/lib/security/cacerts left as it is: it is no keystore")
    );
    // By the name that is a link in the image.
    for over in ["/etc/ssl/certs", "/etc/pki", "/etc/ssl/certs/"] {
        let plan = with(&[over]).expect("a plan");
        assert_eq!(
            targets(&plan),
            ["/usr/local/share/ca-certificates"],
            "{over}"
        );
        assert!(
            !plan
                .environment
                .iter()
                .any(|variable| variable.contains("/etc/pki"))
        );
    }
    let inside = with(&["/etc/ssl/certs/ca-bundle.crt"]).expect("a plan");
    assert_eq!(targets(&inside).len(), 2);
    let found = contents(&inside);
    assert!(!found.contains_key("/etc/pki/tls/certs/ca-bundle.crt"));
    assert!(found.contains_key("/etc/pki/tls/certs/sub/other"));
    assert!(with(&["/etc", "/usr/local/share"]).is_none());
}

#[test]
fn a_variable_that_somebody_has_set_stays_and_its_file_is_added_to() {
    let pki = pki();
    let image = Image::default()
        .file("/app/tls/roots.pem", pki.public.certificate_pem())
        .file("/secrets", "x")
        .variable("SSL_CERT_FILE=/app/tls/roots.pem")
        .variable("NODE_EXTRA_CA_CERTS=/secrets");
    let trust = image.trust(&pki.anchors);
    let facts = ContainerFacts {
        variables: &["CURL_CA_BUNDLE"],
        ..ContainerFacts::default()
    };
    let plan = plan(&trust, facts);
    assert!(contents(&plan)["/app/tls/roots.pem"].ends_with(&pki.private.certificate_pem()));
    let names: Vec<&str> = plan
        .environment
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, _)| name)
        .collect();
    // requests and pip would read CURL_CA_BUNDLE.
    assert!(
        !names
            .iter()
            .any(|name| ["PIP_CERT", "REQUESTS_CA_BUNDLE"].contains(name))
    );
    assert!(
        names.contains(&"DENO_CERT") && !names.contains(&"NODE_EXTRA_CA_CERTS"),
        "{names:?}"
    );
    // A directory of the first level is everybody's.
    let told = "/secrets left as it is: / holds too much else";
    assert!(plan.line.contains(told), "{}", plan.line);
}

#[test]
fn volumes_can_be_filled_one_by_one() {
    let pki = pki();
    let trust = Image::default().trust(&pki.anchors);
    let at_once = plan(&trust, ContainerFacts::default());
    let facts = ContainerFacts {
        volumes_one_by_one: true,
        ..ContainerFacts::default()
    };
    let one_by_one = plan(&trust, facts);
    assert_eq!(at_once.archives.len(), 1);
    assert_eq!(one_by_one.archives.len(), 2);
    let files = |plan: &ContainerTrust| -> Vec<String> {
        let found = contents(plan).into_keys();
        found.filter(|path| path.contains("courser-")).collect()
    };
    assert_eq!(files(&at_once), files(&one_by_one));
    let podman = ImageTrust {
        fills_at_once: false,
        ..trust
    };
    let podmans = plan(&podman, ContainerFacts::default());
    assert_eq!(podmans.archives.len(), 2);
}

#[test]
fn images_of_strangers_cannot_make_the_runner_hold_much() {
    let images = ImageTrusts::default();
    let pki = pki();
    for number in 0..40 {
        let trust = Image::default()
            .file(
                "/etc/ssl/certs/ca-certificates.crt",
                vec![b'#'; 1024 * 1024],
            )
            .trust(&pki.anchors);
        let key = (String::new(), number.to_string(), [0; 32]);
        images.cell(&key).set(Arc::new(trust)).expect("new");
        images.forget();
    }
    let known = images.known.lock().expect("a lock");
    let weights = known.iter().filter_map(|(_, cell)| cell.get());
    assert!(weights.map(|trust| trust.weight).sum::<usize>() <= MOST_BYTES);
    assert!(known.len() > 10);
    assert_eq!(
        known.last().map(|((_, image, _), _)| image.as_str()),
        Some("39")
    );
}

/// A keystore of PKCS#12 whose MAC asks for so many rounds, and fits no password.
fn demanding_keystore(rounds: u32) -> Vec<u8> {
    const SHA1: [u8; 7] = [6, 5, 0x2b, 14, 3, 2, 26];
    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("short");
        [&[tag, length][..], &content].concat()
    }
    let rounds = rounds.to_be_bytes();
    let zeros = rounds.iter().take_while(|byte| **byte == 0).count();
    let safe = element(4, &[&element(0x30, &[])]);
    let data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
    let digest = element(0x30, &[&element(0x30, &[&SHA1]), &element(4, &[&[0; 20]])]);
    let mac = element(
        0x30,
        &[
            &digest,
            &element(4, &[&[7; 8]]),
            &element(2, &[&rounds[zeros..]]),
        ],
    );
    let info = element(0x30, &[&data, &element(0xa0, &[&safe])]);
    element(0x30, &[&[2, 1, 3], &info, &mac])
}

#[test]
fn keystores_of_one_image_cost_a_bounded_work_together() {
    let pki = pki();
    let mut image = Image::default()
        .file(
            "/etc/ssl/certs/ca-certificates.crt",
            &*pki.public.certificate_pem(),
        )
        .file(
            "/jdk/0/lib/security/cacerts",
            demanding_keystore(u32::MAX / 2),
        );
    // Four passwords are tried of each: 1.2 million rounds.
    for number in 0..10 {
        let home = format!("/jdk/{number}");
        if number > 0 {
            let keystore = format!("{home}/lib/security/cacerts");
            image = image.file(&keystore, demanding_keystore(300_000));
        }
        image = image.variable(&format!("JAVA_{number}_HOME={home}"));
    }
    let trust = image.trust(&pki.anchors);
    let because = |text: &str| {
        let left_alone = trust.covered.left_alone.iter();
        left_alone
            .filter(|left| left.because.contains(text))
            .count()
    };
    assert_eq!(because("its password is not"), 2);
    assert_eq!(because("more work than any honest file"), 8);
}
