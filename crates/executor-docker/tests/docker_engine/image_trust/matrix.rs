//! Kinds of images and real tools, each asking a server of the private CA and one of a CA like the public ones, which the
//! image has in its own way. The outcomes are the table in `docs/trust.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use courser_testkit::servers;
use tempfile::TempDir;

use super::scene::{Order, Scene};

const TOOLS_IMAGE: &str = "courser.test/tools:1";

/// As `ask.sh` names them, and as people do.
const TOOLS: [(&str, &str); 9] = [
    ("curl", "curl"),
    ("wget", "wget"),
    ("git", "Git"),
    ("openssl", "OpenSSL"),
    ("python", "Python"),
    ("requests", "Python requests"),
    ("node", "Node"),
    ("java", "Java"),
    ("go", "Go, static"),
];

const BEGIN: &str = "<!-- begin: images -->\n";
const END: &str = "<!-- end: images -->\n";

/// An image, how containers of it are made, and what is expected.
struct Kind {
    shown: &'static str,
    image: &'static str,
    user: Option<&'static str>,
    read_only: bool,
    trust: bool,
    /// It has no shell and nothing but the Go program.
    only_go: bool,
}

const KIND: Kind = Kind {
    shown: "",
    image: "",
    user: None,
    read_only: false,
    trust: true,
    only_go: false,
};

const KINDS: [Kind; 9] = [
    Kind {
        shown: "Debian layout",
        image: "courser.test/trust-debian:1",
        ..KIND
    },
    Kind {
        shown: "… user 1000, read-only root",
        image: "courser.test/trust-debian:1",
        user: Some("1000:1000"),
        read_only: true,
        ..KIND
    },
    Kind {
        shown: "… `images = false`",
        image: "courser.test/trust-debian:1",
        trust: false,
        ..KIND
    },
    Kind {
        shown: "Alpine layout, PKCS#12 keystore",
        image: "courser.test/trust-alpine:1",
        ..KIND
    },
    Kind {
        shown: "Red Hat layout",
        image: "courser.test/trust-redhat:1",
        ..KIND
    },
    Kind {
        shown: "Debian without `ca-certificates`",
        image: "courser.test/trust-slim:1",
        ..KIND
    },
    Kind {
        shown: "… `images = false`",
        image: "courser.test/trust-slim:1",
        trust: false,
        ..KIND
    },
    Kind {
        shown: "distroless: a bundle and no shell",
        image: "courser.test/trust-distroless:1",
        only_go: true,
        ..KIND
    },
    Kind {
        shown: "scratch: one program",
        image: "courser.test/trust-scratch:1",
        only_go: true,
        ..KIND
    },
];

/// `(tool, server)` to `works`, `refuses` or `breaks`.
type Outcomes = BTreeMap<(String, String), String>;

#[tokio::test(flavor = "multi_thread")]
async fn each_tool_in_each_kind_of_image_reaches_the_private_ca_and_the_public_ones() {
    let scene = Scene::new().await;
    let files = files();
    make_images(&scene, files.path()).await;
    let mut seen = Vec::new();
    for kind in &KINDS {
        let outcomes = if kind.only_go {
            ask_go(&scene, kind).await
        } else {
            ask_all(&scene, kind, files.path()).await
        };
        seen.push(outcomes);
    }
    let mut images: Vec<&str> = KINDS.iter().map(|kind| kind.image).collect();
    images.dedup();
    for image in images {
        scene.remove_image(image).await;
    }
    for (kind, outcomes) in KINDS.iter().zip(&seen) {
        for ((tool, server), outcome) in outcomes {
            let told = format!("{}: {tool}, {server}\n{seen:#?}", kind.shown);
            if kind.trust {
                assert_eq!(outcome, "works", "{told}");
            } else if server == "private" {
                assert_eq!(outcome, "refuses", "{told}");
            }
        }
        let expected = if kind.only_go { 2 } else { 2 * TOOLS.len() };
        assert_eq!(outcomes.len(), expected, "{}: {outcomes:#?}", kind.shown);
    }
    compare_with_docs(&table(&seen));
}

/// What the tools are handed: the script, and programs in the forms in which an image has them.
fn files() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name);
    std::fs::write(at("ask.sh"), include_str!("ask.sh")).unwrap();
    std::fs::write(at("Fetch.java"), FETCH).unwrap();
    run(
        Command::new(servers::program("javac")).args(["--release", "17", "Fetch.java"]),
        files.path(),
    );
    std::fs::write(at("ask.go"), ASK).unwrap();
    run(
        Command::new("go")
            .args(["build", "-o", "ask", "ask.go"])
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local"),
        files.path(),
    );
    // requests with a certifi that is not Debian's, which would read the system's bundle.
    let python = servers::program("python");
    let venv = python
        .parent()
        .and_then(Path::parent)
        .expect("a virtual environment");
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = Command::new(venv.join("bin/python"))
        .args(["-c", script])
        .output()
        .unwrap();
    let packages = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    std::fs::create_dir(at("python")).unwrap();
    for package in [
        "certifi",
        "charset_normalizer",
        "idna",
        "requests",
        "urllib3",
    ] {
        run(
            Command::new("cp")
                .arg("-R")
                .arg(packages.join(package))
                .arg("python"),
            files.path(),
        );
    }
    run(
        Command::new("chmod").args(["-R", "a+rX", "."]),
        files.path(),
    );
    files
}

fn run(command: &mut Command, directory: &Path) {
    let output = command.current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const FETCH: &str = "public class Fetch {
    public static void main(String[] arguments) throws Exception {
        new java.net.URL(arguments[0]).openStream().readAllBytes();
    }
}
";

const ASK: &str = r#"package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil || answer.StatusCode != 200 {
		fmt.Println(err, answer)
		os.Exit(1)
	}
}
"#;

/// The public-like CA comes into each image as its own tools would have put it there.
async fn make_images(scene: &Scene, files: &Path) {
    for (image, script) in [
        ("trust-debian", DEBIAN),
        ("trust-alpine", ALPINE),
        ("trust-redhat", RED_HAT),
        ("trust-slim", SLIM),
    ] {
        let script = format!("set -e; echo \"$PEM\" >/tmp/public.pem\n{script}");
        let order = Order::new(TOOLS_IMAGE, &script)
            .without_trust()
            .variable("PEM", &scene.public.certificate_pem());
        scene.make_image(order, image).await;
    }
    let program = std::fs::read(files.join("ask")).unwrap();
    let bundle = scene.public.certificate_pem();
    let program = ("ask", &program[..]);
    let bundle = ("etc/ssl/certs/ca-certificates.crt", bundle.as_bytes());
    scene
        .import_image("trust-distroless", &[program, bundle])
        .await;
    scene.import_image("trust-scratch", &[program]).await;
}

const DEBIAN: &str =
    "cp /tmp/public.pem /usr/local/share/ca-certificates/public.crt; update-ca-certificates";

/// One bundle, `cert.pem` beside it, hashes under Alpine's names, and a keystore in Java's own directory, as its images of
/// Java have it.
const ALPINE: &str = "
rm -rf /etc/ssl/certs /usr/lib/ssl/certs /usr/lib/ssl/cert.pem; mkdir /etc/ssl/certs
cp /tmp/public.pem /etc/ssl/certs/ca-certificates.crt; ln -s certs/ca-certificates.crt /etc/ssl/cert.pem
mkdir -p /usr/share/ca-certificates; cp /tmp/public.pem /usr/share/ca-certificates/public.crt
ln -s /usr/share/ca-certificates/public.crt /etc/ssl/certs/ca-cert-public.pem; openssl rehash /etc/ssl/certs 2>/dev/null
ln -s /etc/ssl/certs /usr/lib/ssl/certs
home=$(dirname \"$(dirname \"$(readlink -f /usr/bin/java)\")\"); rm \"$home/lib/security/cacerts\"
keytool -J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE -J-Dkeystore.pkcs12.macAlgorithm=NONE \
  -importcert -noprompt -storetype PKCS12 -alias public -storepass changeit -file /tmp/public.pem -keystore \"$home/lib/security/cacerts\"
";

/// p11-kit's tree, and links to it from where programs look.
const RED_HAT: &str = "
rm -rf /etc/ssl/certs /usr/lib/ssl/certs /usr/lib/ssl/cert.pem /usr/local/share/ca-certificates
extracted=/etc/pki/ca-trust/extracted
mkdir -p /etc/pki/ca-trust/source/anchors $extracted/pem $extracted/openssl $extracted/java $extracted/edk2 /etc/pki/tls/certs /etc/pki/java
cp /tmp/public.pem $extracted/pem/tls-ca-bundle.pem
openssl x509 -in /tmp/public.pem -addtrust serverAuth -out $extracted/openssl/ca-bundle.trust.crt
keytool -importcert -noprompt -storetype JKS -alias public -storepass changeit -file /tmp/public.pem -keystore $extracted/java/cacerts
ln -s $extracted/java/cacerts /etc/pki/java/cacerts
for name in cert.pem certs/ca-bundle.crt certs/ca-certificates.crt; do ln -s $extracted/pem/tls-ca-bundle.pem /etc/pki/tls/$name; done
ln -s /etc/pki/tls/certs /etc/ssl/certs; ln -s /etc/pki/tls/cert.pem /usr/lib/ssl/cert.pem; ln -s /etc/pki/tls/certs /usr/lib/ssl/certs
home=$(dirname \"$(dirname \"$(readlink -f /usr/bin/java)\")\"); ln -sf /etc/pki/java/cacerts \"$home/lib/security/cacerts\"
";

/// Nothing but Java has certificates.
const SLIM: &str = "
home=$(dirname \"$(dirname \"$(readlink -f /usr/bin/java)\")\"); rm \"$home/lib/security/cacerts\"
keytool -importcert -noprompt -storetype JKS -alias public -storepass changeit -file /tmp/public.pem -keystore \"$home/lib/security/cacerts\"
rm -rf /etc/ssl/certs /usr/local/share/ca-certificates /usr/share/ca-certificates /etc/ca-certificates.conf
";

async fn ask_all(scene: &Scene, kind: &Kind, files: &Path) -> Outcomes {
    let bind = format!("{}:/ask:ro", files.display());
    let mut order = Order::new(kind.image, "sh /ask/ask.sh").bind(&bind);
    if let Some(user) = kind.user {
        order = order.user(user);
    }
    if kind.read_only {
        order = order.read_only();
    }
    if !kind.trust {
        order = order.without_trust();
    }
    let ran = scene.run(order).await;
    assert!(!ran.log.contains(": breaks"), "{}: {}", kind.shown, ran.log);
    let said = ran
        .log
        .lines()
        .filter_map(|line| line.split_once("outcome: "));
    said.filter_map(|(_, said)| {
        let (asked, how) = said.trim().split_once(": ")?;
        let (tool, server) = asked.split_once(", ")?;
        Some(((tool.to_owned(), server.to_owned()), how.to_owned()))
    })
    .collect()
}

async fn ask_go(scene: &Scene, kind: &Kind) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (name, server) in [
        ("private", &scene.private_server),
        ("public", &scene.public_server),
    ] {
        let order = Order::new(kind.image, "").command(&["/ask", &server.url("/x")]);
        let ran = scene.run(order).await;
        let how = match ran.code {
            0 => "works",
            _ if ran.log.contains("x509") => "refuses",
            _ => panic!("{}: {}", kind.shown, ran.log),
        };
        outcomes.insert(("go".to_owned(), name.to_owned()), how.to_owned());
    }
    outcomes
}

fn table(seen: &[Outcomes]) -> String {
    let mut table = String::from("| image | CA |");
    let mut rule = String::from("| --- | --- |");
    for (_, shown) in TOOLS {
        write!(table, " {shown} |").expect("strings take everything");
        rule.push_str(" --- |");
    }
    writeln!(table, "\n{rule}").expect("strings take everything");
    for (kind, outcomes) in KINDS.iter().zip(seen) {
        for (server, image) in [("private", kind.shown), ("public", "")] {
            write!(table, "| {image} | {server} |").expect("strings take everything");
            for (tool, _) in TOOLS {
                let key = (tool.to_owned(), server.to_owned());
                let how = outcomes.get(&key).map_or("–", String::as_str);
                write!(table, " {how} |").expect("strings take everything");
            }
            table.push('\n');
        }
    }
    table
}

/// The page says what was seen. With `COURSER_UPDATE_TABLES` in the environment it is made to.
#[expect(
    clippy::disallowed_methods,
    reason = "the only way to tell a test something; it decides nothing about the program"
)]
fn compare_with_docs(table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trust.md");
    let text = std::fs::read_to_string(&page).expect("docs/trust.md");
    let (before, rest) = text.split_once(BEGIN).expect("the table has a beginning");
    let (written, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("COURSER_UPDATE_TABLES").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}"))
            .expect("docs/trust.md");
    } else {
        assert_eq!(
            written, table,
            "docs/trust.md differs from what was seen; \
             COURSER_UPDATE_TABLES=1 cargo test -p courser-executor-docker --test with_engine matrix"
        );
    }
}
