use std::path::Path;
use std::process::Command;

use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers;
use tempfile::TempDir;

use super::*;

fn parsed(issued: &Issued) -> Certificate {
    Certificate::parse(issued.der()).expect("a certificate")
}

fn root(name: &str) -> Certificate {
    parsed(&Authority::root(name).issue())
}

#[test]
fn a_bundle_keeps_every_byte_and_gets_each_certificate_once() {
    let (old, new) = (root("Old"), root("New"));
    for existing in [
        String::new(),
        "# nothing here\r\n".to_owned(),
        certificate_pem(&old),
        certificate_pem(&old).trim_end().to_owned(),
    ] {
        let added = add_to_pem_bundle(existing.as_bytes(), &[&new]).expect("something to add");
        assert!(added.starts_with(existing.as_bytes()));
        assert_eq!(
            certificates_in_pem(&added),
            certificates_in_pem(existing.as_bytes()) + 1
        );
        assert_eq!(add_to_pem_bundle(&added, &[&new]), None, "once");
    }
    let trusted = pem::encode_as(
        "TRUSTED CERTIFICATE",
        &[&new.der()[..], &[0x30, 0]].concat(),
    );
    assert_eq!(add_to_pem_bundle(trusted.as_bytes(), &[&new]), None);
}

#[test]
fn a_signature_list_grows_by_a_list_a_certificate() {
    let (old, new) = (root("Old"), root("New"));
    let one = add_to_efi_list(b"", &[&old]).expect("fits").expect("added");
    let two = add_to_efi_list(&one, &[&old, &new])
        .expect("fits")
        .expect("added");
    assert!(two.starts_with(&one));
    assert_eq!(two.len(), one.len() + 28 + 16 + new.der().len());
    assert_eq!(
        two[one.len() + 16..][..4],
        (44 + new.der().len() as u32).to_le_bytes()
    );
    assert_eq!(add_to_efi_list(&two, &[&new, &old]), Ok(None));
    for broken in [&two[..two.len() - 1], &two[..20], &[0; 40][..]] {
        assert!(matches!(
            add_to_efi_list(broken, &[&new]),
            Err(MergeError::Damaged(_))
        ));
    }
}

struct Keystore {
    directory: TempDir,
}

impl Keystore {
    /// Made by Java's own tool with one certificate in it.
    fn with(certificate: &Certificate, options: &[&str]) -> Self {
        let keystore = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        std::fs::write(keystore.path("old.pem"), certificate_pem(certificate)).expect("a file");
        let file = keystore.path("old.pem");
        let file = file.to_str().expect("UTF-8");
        keystore.keytool(
            &["-importcert", "-noprompt", "-alias", "old", "-file", file],
            options,
        );
        keystore
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path("store")).expect("a keystore")
    }

    fn keytool(&self, arguments: &[&str], options: &[&str]) -> String {
        let output = keytool()
            .args(arguments)
            .arg("-keystore")
            .arg(self.path("store"))
            .args(options)
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }
}

fn keytool() -> Command {
    let mut command = Command::new(servers::program("keytool"));
    command.env_clear().env("PATH", Path::new("/usr/bin"));
    command
}

#[test]
fn java_reads_what_was_added_to_its_keystores() {
    let (old, new) = (root("Old"), root("New"));
    let unprotected: [&str; 4] = [
        "-storepass",
        "changeit",
        "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE",
        "-J-Dkeystore.pkcs12.macAlgorithm=NONE",
    ];
    for (options, shown) in [
        (&["-storetype", "JKS", "-storepass", "changeit"][..], "JKS"),
        (
            &["-storetype", "PKCS12", "-storepass", "changeit"],
            "PKCS12",
        ),
        (&unprotected, "PKCS12"),
    ] {
        let keystore = Keystore::with(&old, options);
        let before = keystore.bytes();
        assert_eq!(
            add_to_java_keystore(&before, &[&old]),
            Ok(None),
            "{options:?}"
        );
        let added = add_to_java_keystore(&before, &[&old, &new])
            .unwrap_or_else(|error| panic!("{options:?}: {error}"))
            .expect("one was missing");
        std::fs::write(keystore.path("store"), &added).expect("a file");
        let list = keystore.keytool(&["-list"], options);
        assert!(list.contains(shown), "{list}");
        assert!(list.contains("contains 2 entries"), "{list}");
        assert!(list.contains("old,"), "{list}");
        assert!(
            list.contains(&format!("courser-{},", new.fingerprint())),
            "{list}"
        );
        assert!(!list.to_lowercase().contains("integrity"), "{list}");
        assert_eq!(add_to_java_keystore(&added, &[&new, &old]), Ok(None));
        for cut in [added.len() - 1, added.len() / 2, 13] {
            assert!(add_to_java_keystore(&added[..cut], &[&new]).is_err());
        }
    }
}

#[test]
fn a_keystore_with_a_password_of_its_own_is_left_alone() {
    let (old, new) = (root("Old"), root("New"));
    for kind in ["JKS", "PKCS12"] {
        let keystore = Keystore::with(&old, &["-storetype", kind, "-storepass", "confidential"]);
        assert_eq!(
            add_to_java_keystore(&keystore.bytes(), &[&new]),
            Err(MergeError::UnknownPassword)
        );
    }
    for other in [
        &b""[..],
        b"\xce\xce\xce\xce\0\0\0\x02",
        b"-----BEGIN CERTIFICATE-----",
    ] {
        assert!(matches!(
            add_to_java_keystore(other, &[&new]),
            Err(MergeError::UnknownFormat(_))
        ));
    }
}

#[test]
fn subjects_are_hashed_as_openssl_hashes_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    openssl(&[
        "ecparam",
        "-genkey",
        "-name",
        "prime256v1",
        "-out",
        "key.pem",
    ]);
    for (subject, strings) in [
        ("/C=DE/O=Example GmbH/CN=Example Root CA", "utf8only"),
        (
            "/C=DE/O=  Two   spaces \t and a tab /CN=UPPER lower",
            "default",
        ),
        ("/O=Ärger & Söhne/CN=ÄÖÜ 日本", "utf8only"),
        ("/O=Ärger  & SÖHNE/CN=Wide", "pkix"),
        ("/DC=com/DC=Example/CN=a+OU=b+O=c", "default"),
        (
            "/emailAddress=Root@Example.com/serialNumber=00 1",
            "default",
        ),
        ("/CN=", "default"),
        ("/", "default"),
    ] {
        let config =
            format!("[req]\ndistinguished_name = dn\nstring_mask = {strings}\nutf8 = yes\n[dn]\n");
        std::fs::write(path("config"), config).expect("a file");
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "key.pem",
            "-config",
            "config",
            "-subj",
            subject,
            "-multivalue-rdn",
            "-outform",
            "DER",
            "-out",
            "certificate.der",
        ]);
        let expected = openssl(&[
            "x509",
            "-inform",
            "DER",
            "-in",
            "certificate.der",
            "-noout",
            "-subject_hash",
        ]);
        let der = std::fs::read(path("certificate.der")).expect("a file");
        let certificate = Certificate::parse(&der).expect("a certificate");
        assert_eq!(certificate.subject_hash(), expected.trim(), "{subject}");
    }
}

/// With all the work that one image may cost.
fn add_to_java_keystore(
    keystore: &[u8],
    certificates: &[&Certificate],
) -> Result<Option<Vec<u8>>, MergeError> {
    super::add_to_java_keystore(keystore, certificates, &mut KeystoreWork::default())
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A keystore of an image, changed anywhere: added to, or refused, and what comes out is read again.
        #[test]
        fn files_of_strangers_are_added_to_or_refused(
            content in proptest::collection::vec(any::<u8>(), 0..600),
            at in 0_usize..600,
            byte: u8,
        ) {
            let new = root("New");
            let valid = empty_jks();
            let mut changed = add_to_java_keystore(&valid, &[&new]).unwrap().unwrap();
            // Its proof made anew, or nothing would be read of it.
            changed.truncate(changed.len() - 20);
            let place = at % changed.len();
            changed[place] = byte;
            changed.extend(jks::digest("changeit", &changed));
            for file in [&content, &changed, &[&jks::MAGIC[..], &content].concat()] {
                if let Ok(Some(more)) = add_to_java_keystore(file, &[&new]) {
                    prop_assert_eq!(add_to_java_keystore(&more, &[&new]), Ok(None));
                }
                if let Ok(Some(more)) = add_to_efi_list(file, &[&new]) {
                    prop_assert_eq!(add_to_efi_list(&more, &[&new]), Ok(None));
                }
                add_to_pem_bundle(file, &[&new]);
            }
        }
    }

    fn empty_jks() -> Vec<u8> {
        let body = [&jks::MAGIC[..], &[0, 0, 0, 2, 0, 0, 0, 0]].concat();
        let proof = jks::digest("changeit", &body);
        [&body[..], &proof].concat()
    }
}
