//! Where images keep the certificates that their programs trust.

/// What lies at a known place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A file of PEM blocks.
    Bundle,
    /// The same, read beside a list that a program brings along.
    AddedBundle,
    /// Certificates by their subjects' hashes, as OpenSSL looks them up.
    PemDirectory,
    /// JKS or PKCS#12.
    Keystore,
    /// The list for UEFI firmware that p11-kit makes.
    EfiList,
    /// Certificates that the image's own tool makes all others of.
    Sources(Sources),
    /// A database of NSS: its certificates are signed with a key of its own, and only NSS writes it soundly.
    Nss,
    /// Java's launcher; tells where its keystore is.
    Java,
}

/// Whose tool reads a directory of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sources {
    /// `update-ca-certificates` of Debian and Alpine: one certificate in each `*.crt`.
    UpdateCaCertificates,
    /// p11-kit, asked by `update-ca-trust` and directly by GnuTLS and NSS: any PEM file.
    P11Kit,
}

/// A bundle is made here where an image has none: Go, curl and many others look here first.
pub(super) const FIRST_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

const KNOWN: &[(Kind, &str)] = &[
    // Debian, Alpine, Arch, Gentoo, distroless
    (Kind::Bundle, FIRST_BUNDLE),
    // Nix
    (Kind::Bundle, "/etc/ssl/certs/ca-bundle.crt"),
    // Alpine, OpenBSD, LibreSSL
    (Kind::Bundle, "/etc/ssl/cert.pem"),
    // SUSE
    (Kind::Bundle, "/etc/ssl/ca-bundle.pem"),
    (Kind::Bundle, "/var/lib/ca-certificates/ca-bundle.pem"),
    // Red Hat
    (Kind::Bundle, "/etc/pki/tls/certs/ca-bundle.crt"),
    (Kind::Bundle, "/etc/pki/tls/certs/ca-bundle.trust.crt"),
    (Kind::Bundle, "/etc/pki/tls/cert.pem"),
    (
        Kind::Bundle,
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ),
    (
        Kind::Bundle,
        "/etc/pki/ca-trust/extracted/openssl/ca-bundle.trust.crt",
    ),
    // Arch
    (
        Kind::Bundle,
        "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    ),
    (
        Kind::Bundle,
        "/etc/ca-certificates/extracted/ca-bundle.trust.crt",
    ),
    // OpenSSL as its authors, Debian, FreeBSD and conda install it
    (Kind::Bundle, "/usr/local/ssl/cert.pem"),
    (Kind::Bundle, "/usr/lib/ssl/cert.pem"),
    (Kind::Bundle, "/usr/local/share/certs/ca-root-nss.crt"),
    (Kind::Bundle, "/opt/conda/ssl/cacert.pem"),
    (Kind::Bundle, "/opt/conda/ssl/cert.pem"),
    // Nix
    (
        Kind::Bundle,
        "/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt",
    ),
    (Kind::PemDirectory, "/etc/ssl/certs"),
    (Kind::PemDirectory, "/etc/pki/tls/certs"),
    (
        Kind::PemDirectory,
        "/etc/pki/ca-trust/extracted/pem/directory-hash",
    ),
    (Kind::PemDirectory, "/etc/ca-certificates/extracted/cadir"),
    (Kind::PemDirectory, "/var/lib/ca-certificates/pem"),
    (Kind::PemDirectory, "/var/lib/ca-certificates/openssl"),
    (Kind::PemDirectory, "/usr/local/ssl/certs"),
    (Kind::Keystore, "/etc/ssl/certs/java/cacerts"),
    (Kind::Keystore, "/etc/pki/java/cacerts"),
    (Kind::Keystore, "/etc/pki/ca-trust/extracted/java/cacerts"),
    (
        Kind::Keystore,
        "/etc/ca-certificates/extracted/java-cacerts.jks",
    ),
    (Kind::Keystore, "/var/lib/ca-certificates/java-cacerts"),
    (
        Kind::EfiList,
        "/etc/pki/ca-trust/extracted/edk2/cacerts.bin",
    ),
    (
        Kind::EfiList,
        "/etc/ca-certificates/extracted/edk2-cacerts.bin",
    ),
    (
        Kind::Sources(Sources::UpdateCaCertificates),
        "/usr/local/share/ca-certificates",
    ),
    (
        Kind::Sources(Sources::P11Kit),
        "/etc/pki/ca-trust/source/anchors",
    ),
    (Kind::Sources(Sources::P11Kit), "/etc/pki/trust/anchors"),
    (
        Kind::Sources(Sources::P11Kit),
        "/etc/ca-certificates/trust-source/anchors",
    ),
    (Kind::Nss, "/etc/pki/nssdb/cert9.db"),
    (Kind::Nss, "/etc/ssl/nssdb/cert9.db"),
];

/// Homes of Java beside those that the image's environment and `PATH` tell.
const JAVA_HOMES: [&str; 5] = [
    "/opt/java/openjdk",
    "/usr/lib/jvm/default-java",
    "/usr/lib/jvm/default-jvm",
    "/usr/lib/jvm/java",
    "/usr/lib/jvm/jre",
];

/// Variables of an image that name a bundle of its own.
const BUNDLE_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
];

/// How many places an image's environment can add.
const MOST_FROM_ENVIRONMENT: usize = 32;

/// What an engine sets where an image sets nothing.
const PATH_OF_ENGINE: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Known places, and those that the image's environment (`NAME=value`) names.
pub(super) fn of_image(environment: &[String]) -> Vec<(Kind, String)> {
    let mut places: Vec<(Kind, String)> = KNOWN
        .iter()
        .map(|(kind, path)| (*kind, (*path).to_owned()))
        .collect();
    places.extend(JAVA_HOMES.into_iter().flat_map(keystores_of));
    let mut named = Vec::new();
    let own: Vec<(&str, &str)> = environment
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .collect();
    let has_path = own.iter().any(|(name, _)| *name == "PATH");
    let path = (!has_path).then_some(("PATH", PATH_OF_ENGINE));
    for (name, value) in own.into_iter().chain(path) {
        match name {
            "PATH" => {
                let launchers = value
                    .split(':')
                    .map(|directory| format!("{directory}/java"));
                named.extend(launchers.map(|path| (Kind::Java, path)));
            }
            "SSL_CERT_DIR" => {
                let directories = value.split(':').map(str::to_owned);
                named.extend(directories.map(|path| (Kind::PemDirectory, path)));
            }
            "NODE_EXTRA_CA_CERTS" => named.push((Kind::AddedBundle, value.to_owned())),
            name if BUNDLE_VARIABLES.contains(&name) => {
                named.push((Kind::Bundle, value.to_owned()));
            }
            name if is_java_home(name) => named.extend(keystores_of(value)),
            _ => {}
        }
    }
    named.retain(|(_, path)| is_plain(path));
    named.truncate(MOST_FROM_ENVIRONMENT);
    places.extend(named);
    places
}

/// `JAVA_HOME`, `JAVA_17_HOME`, `JDK_HOME` and the like.
fn is_java_home(name: &str) -> bool {
    let begins = ["JAVA", "JDK", "JRE", "GRAALVM"]
        .iter()
        .any(|start| name.starts_with(start));
    begins && name.contains("HOME")
}

/// The keystores below a home of Java: of Java 9 and later, of Java 8 and earlier, and the one that goes before both.
pub(super) fn keystores_of(home: &str) -> impl Iterator<Item = (Kind, String)> + use<> {
    let home = home.trim_end_matches('/').to_owned();
    [
        "lib/security/cacerts",
        "jre/lib/security/cacerts",
        "lib/security/jssecacerts",
    ]
    .into_iter()
    .map(move |path| (Kind::Keystore, format!("{home}/{path}")))
}

/// The home that has this launcher.
pub(super) fn home_of_java(launcher: &str) -> Option<&str> {
    let home = launcher.strip_suffix("/bin/java")?;
    Some(home.strip_suffix("/jre").unwrap_or(home))
}

/// An absolute path that needs no cleaning and that no engine or log stumbles over.
pub(super) fn is_plain(path: &str) -> bool {
    path.len() < 1024
        && path.starts_with('/')
        && path[1..]
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(char::is_control)
}

/// Directories that hold too much else to be covered.
const SHARED: [&str; 13] = [
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

/// Whether a volume may lie over this directory: below the first level, and nothing that everybody shares.
pub(super) fn may_be_covered(directory: &str) -> bool {
    let below_first = directory.rfind('/').is_some_and(|slash| slash > 0);
    let kernel = ["/proc/", "/sys/", "/dev/", "/run/"]
        .iter()
        .any(|place| directory.starts_with(place));
    below_first && !kernel && !SHARED.contains(&directory)
}

/// Directories that only their distribution's tools write: one volume over all of one, in place of one over each part.
const WHOLE: [&str; 3] = [
    "/etc/pki/ca-trust",
    "/var/lib/ca-certificates",
    "/etc/ca-certificates",
];

/// The directory to cover for what lies in this one.
pub(super) fn covering(directory: &str) -> &str {
    let whole = WHOLE
        .into_iter()
        .find(|whole| is_at_or_below(directory, whole));
    whole.unwrap_or(directory)
}

/// Whether `path` is `directory` or lies in it.
pub(super) fn is_at_or_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
