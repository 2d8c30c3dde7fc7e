//! Any file that somebody takes for a certificate: what it is, and what can be got out of it.
//!
//! A file of trusted certificates is read as Go reads it ([`SourceContent`](crate::SourceContent)); this is for the files
//! that are not such, or not yet: every form is tried, damage that has one obvious repair is passed over.

mod armor;
mod der_kind;

use std::fmt;

use base64::Engine as _;

use crate::certificate::{Certificate, CertificateError};
use crate::pkcs7::certificates_of_pkcs7;
use crate::pkcs12::{self, Pkcs12Error};

/// What a file is as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileForm {
    /// No bytes.
    Empty,
    /// Text with `-----BEGIN …-----` blocks.
    Pem,
    /// The base64 text of a block without its first and last line.
    BareBase64,
    /// One or more binary certificates, keys and the like.
    Der,
    /// A binary PKCS#7 message (`.p7b`, `.p7c`).
    Pkcs7,
    /// PKCS#12 (`.p12`, `.pfx`).
    Pkcs12,
    /// Java's own keystore format, `JKS` or `JCEKS`.
    JavaKeyStore,
    /// A web page, such as the error page of a download.
    Html,
    /// A key of SSH.
    SshKey,
    /// Other text.
    Text,
    /// Other bytes.
    Binary,
}

impl fmt::Display for FileForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Pem => "PEM text",
            Self::BareBase64 => "base64 text without BEGIN and END lines",
            Self::Der => "DER, binary",
            Self::Pkcs7 => "PKCS#7, binary",
            Self::Pkcs12 => "PKCS#12",
            Self::JavaKeyStore => "a Java keystore (JKS)",
            Self::Html => "a web page (HTML)",
            Self::SshKey => "a key of SSH",
            Self::Text => "text without any certificate",
            Self::Binary => "bytes of an unknown kind",
        })
    }
}

/// A file and everything in it.
#[derive(Debug)]
pub struct CertificateFile {
    /// What it is as a whole.
    pub form: FileForm,
    /// It is UTF-16.
    pub is_utf16: bool,
    /// What is in it, in order.
    pub items: Vec<FileItem>,
    /// Why the PKCS#12 could not be opened.
    pub locked: Option<Pkcs12Error>,
}

/// One thing in a file.
#[derive(Debug)]
pub struct FileItem {
    /// Line of its `BEGIN`, counted from 1; absent in binary files.
    pub line: Option<usize>,
    /// The thing.
    pub content: ItemContent,
}

/// What one thing in a file is.
#[derive(Debug)]
#[non_exhaustive]
pub enum ItemContent {
    /// A certificate.
    Certificate(Box<Certificate>),
    /// A private key.
    PrivateKey(PrivateKey),
    /// A public key without a certificate.
    PublicKey,
    /// A certificate signing request: the wish for a certificate.
    Request,
    /// A list of revoked certificates.
    RevocationList,
    /// Something else; its label.
    Other(String),
    /// Has the form of a certificate, but is none that Go would take.
    BadCertificate(CertificateError),
    /// A block that cannot be read; why.
    Damaged(String),
}

/// A private key as it stood in the file. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PrivateKey {
    label: &'static str,
    der: Vec<u8>,
    is_encrypted: bool,
}

impl PrivateKey {
    pub(crate) fn new(label: &'static str, der: Vec<u8>) -> Self {
        Self {
            label,
            der,
            is_encrypted: label == "ENCRYPTED PRIVATE KEY",
        }
    }

    /// Whether a passphrase is needed to use it.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// A PEM block with the key in it: to be written to a private file and nowhere else.
    pub fn to_pem(&self) -> String {
        crate::pem::encode_as(self.label, &self.der)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("is_encrypted", &self.is_encrypted)
            .finish_non_exhaustive()
    }
}

impl CertificateFile {
    /// Reads a file of any kind. The password opens PKCS#12; without one, none and the empty one are tried.
    pub fn read(bytes: &[u8], password: Option<&str>) -> Self {
        let mut file = Self {
            form: FileForm::Binary,
            is_utf16: false,
            items: Vec::new(),
            locked: None,
        };
        if bytes.is_empty() {
            file.form = FileForm::Empty;
            return file;
        }
        if bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.starts_with(&[0xce; 4]) {
            file.form = FileForm::JavaKeyStore;
            return file;
        }
        if bytes[0] == crate::der::SEQUENCE && file.read_binary(bytes, password) {
            return file;
        }
        let (text, is_utf16) = decode_text(bytes);
        file.is_utf16 = is_utf16;
        if let Some(text) = text {
            file.read_text(&text, password);
        }
        file
    }

    /// The certificates in order.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.items.iter().filter_map(|item| match &item.content {
            ItemContent::Certificate(certificate) => Some(&**certificate),
            _ => None,
        })
    }

    /// The private keys in order.
    pub fn private_keys(&self) -> impl Iterator<Item = &PrivateKey> {
        self.items.iter().filter_map(|item| match &item.content {
            ItemContent::PrivateKey(key) => Some(key),
            _ => None,
        })
    }

    /// Whether the bytes are anything known.
    fn read_binary(&mut self, bytes: &[u8], password: Option<&str>) -> bool {
        if let Ok(certificates) = certificates_of_pkcs7(bytes) {
            self.form = FileForm::Pkcs7;
            self.push_certificates(None, certificates);
            return true;
        }
        match pkcs12::read(bytes, password) {
            Ok(contents) => {
                self.form = FileForm::Pkcs12;
                self.items
                    .extend(contents.into_iter().map(|content| FileItem {
                        line: None,
                        content,
                    }));
                return true;
            }
            Err(Pkcs12Error::NotPkcs12) => {}
            Err(error) => {
                self.form = FileForm::Pkcs12;
                self.locked = Some(error);
                return true;
            }
        }
        let mut contents = Vec::new();
        let mut rest = bytes;
        // Several may follow one another (`cat a.der b.der`); trailing line ends come from editors.
        while !rest.trim_ascii_start().is_empty() {
            let Some((element, behind)) = der_kind::first_element(rest) else {
                break;
            };
            let Some(content) = der_kind::content(element) else {
                break;
            };
            contents.push(content);
            rest = behind;
        }
        let found = !contents.is_empty();
        if found {
            self.form = FileForm::Der;
            self.items
                .extend(contents.into_iter().map(|content| FileItem {
                    line: None,
                    content,
                }));
        }
        found
    }

    fn read_text(&mut self, text: &str, password: Option<&str>) {
        let trimmed = text.trim_start();
        let blocks = armor::blocks(text);
        if !blocks.is_empty() {
            self.form = FileForm::Pem;
            for block in blocks {
                self.push_block(block);
            }
            return;
        }
        let starts_with = |start: &str| {
            let head = trimmed.get(..start.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(start))
        };
        if starts_with("<!doctype html") || starts_with("<html") {
            self.form = FileForm::Html;
        } else if ["ssh-", "ecdsa-sha2-", "sk-ssh-", "PuTTY-User-Key"]
            .iter()
            .any(|start| trimmed.starts_with(start))
        {
            self.form = FileForm::SshKey;
        } else if let Some(der) = armor::decode(text.as_bytes())
            && der.first() == Some(&crate::der::SEQUENCE)
            && self.read_binary(&der, password)
        {
            self.form = match self.form {
                FileForm::Der => FileForm::BareBase64,
                other => other,
            };
        } else {
            self.form = FileForm::Text;
        }
    }

    fn push_block(&mut self, block: armor::Block) {
        let line = Some(block.line);
        let body = match block.body {
            Ok(body) => body,
            Err(why) => {
                self.items.push(FileItem {
                    line,
                    content: ItemContent::Damaged(why),
                });
                return;
            }
        };
        let label = block.label.as_str();
        let content = match label {
            "PKCS7" | "CMS" => match certificates_of_pkcs7(&body) {
                Ok(certificates) => {
                    self.push_certificates(line, certificates);
                    return;
                }
                Err(error) => ItemContent::Damaged(error.to_string()),
            },
            // OpenSSL puts its own settings behind the certificate.
            "TRUSTED CERTIFICATE" => match der_kind::first_element(&body) {
                Some((first, _)) => certificate(first),
                None => ItemContent::Damaged("no DER inside".to_owned()),
            },
            "CERTIFICATE" | "X509 CERTIFICATE" => certificate(&body),
            "OPENSSH PRIVATE KEY" => ItemContent::Other(label.to_owned()),
            key if key.ends_with("PRIVATE KEY") => {
                let mut key = PrivateKey::new(der_kind::key_label(key), body);
                key.is_encrypted |= block.is_encrypted;
                ItemContent::PrivateKey(key)
            }
            _ => match der_kind::content(&body) {
                Some(ItemContent::Certificate(_) | ItemContent::BadCertificate(_)) | None => {
                    ItemContent::Other(label.to_owned())
                }
                Some(content) => content,
            },
        };
        self.items.push(FileItem { line, content });
    }

    fn push_certificates(&mut self, line: Option<usize>, certificates: Vec<Certificate>) {
        let items = certificates.into_iter().map(|certificate| FileItem {
            line,
            content: ItemContent::Certificate(Box::new(certificate)),
        });
        self.items.extend(items);
    }
}

fn certificate(der: &[u8]) -> ItemContent {
    match Certificate::parse(der) {
        Ok(certificate) => ItemContent::Certificate(Box::new(certificate)),
        Err(error) => ItemContent::BadCertificate(error),
    }
}

/// The text, and whether it was UTF-16; none when the bytes are no text.
fn decode_text(bytes: &[u8]) -> (Option<String>, bool) {
    let little = bytes.starts_with(&[0xff, 0xfe]) || bytes.get(1) == Some(&0);
    let big = bytes.starts_with(&[0xfe, 0xff]) || bytes.first() == Some(&0);
    if little || big {
        let units = bytes.chunks_exact(2).map(|pair| match little {
            true => u16::from_le_bytes([pair[0], pair[1]]),
            false => u16::from_be_bytes([pair[0], pair[1]]),
        });
        let text: Result<String, _> = char::decode_utf16(units).collect();
        let text = text.ok().filter(|text| !text.contains('\0'));
        return (text, true);
    }
    let text = String::from_utf8_lossy(bytes);
    // Comments may be in an older encoding; zeros are in no text.
    ((!text.contains('\0')).then(|| text.into_owned()), false)
}

/// Standard base64, padded or not.
const BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests;
