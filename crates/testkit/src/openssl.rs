//! Keys and signatures that rcgen does not make, by the `openssl` command.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// An RSA or EC key in a file of its own, which is gone when the key is dropped.
pub struct OpensslKey {
    directory: tempfile::TempDir,
    public: Vec<u8>,
}

impl OpensslKey {
    /// An RSA key of so many bits.
    pub fn rsa(bits: usize) -> Self {
        Self::generate(&["RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
    }

    /// An RSA key with this public exponent.
    pub fn rsa_with_exponent(bits: usize, exponent: u64) -> Self {
        let bits = format!("rsa_keygen_bits:{bits}");
        let exponent = format!("rsa_keygen_pubexp:{exponent}");
        Self::generate(&["RSA", "-pkeyopt", &bits, "-pkeyopt", &exponent])
    }

    /// A key on a curve, by OpenSSL's name of it.
    pub fn on_curve(curve: &str) -> Self {
        Self::generate(&["EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")])
    }

    /// A DSA key of 2,048 bits.
    pub fn dsa() -> Self {
        let parameters = openssl(&["genpkey", "-genparam", "-algorithm", "DSA"], &[]);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("parameters.pem");
        std::fs::write(&file, parameters).expect("a file can be written");
        let key = openssl(&["genpkey", "-paramfile", text(&file)], &[]);
        Self::of(&key)
    }

    fn generate(options: &[&str]) -> Self {
        Self::of(&openssl(
            &[&["genpkey", "-algorithm"], options].concat(),
            &[],
        ))
    }

    fn of(pem: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("key.pem"), pem).expect("a file can be written");
        let public = openssl(&["pkey", "-pubout", "-outform", "DER"], pem);
        Self { directory, public }
    }

    /// Its `SubjectPublicKeyInfo`.
    pub fn key_info(&self) -> Vec<u8> {
        self.public.clone()
    }

    /// Signs with options of `openssl dgst`.
    pub fn sign(&self, options: &[&str], message: &[u8]) -> Vec<u8> {
        let file = self.directory.path().join("key.pem");
        let arguments = [&["dgst"], options, &["-sign", text(&file)]].concat();
        openssl(&arguments, message)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary files have plain names")
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that does not read its input may be gone already.
    drop(stdin.write_all(input));
    drop(stdin);
    let output = child.wait_with_output().expect("openssl ends");
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
