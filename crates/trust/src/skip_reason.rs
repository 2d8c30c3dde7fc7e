//! Why a part of a trust file gave no certificate, in words, with its repair.

use std::fmt;

use crate::certificate::CertificateError;
use crate::explain::Remedy;

/// Why a part of a file gave no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The file has no bytes.
    EmptyFile,
    /// The file is UTF-16, as Windows editors and `>` of PowerShell write it.
    Utf16,
    /// The file is one binary certificate.
    Der,
    /// The file is a binary PKCS#7 message.
    Pkcs7File,
    /// The file is PKCS#12.
    Pkcs12File,
    /// Nothing in the file looks like PEM.
    NoPem,
    /// Lines end with a carriage return only.
    BareCarriageReturns,
    /// The text has the two characters `\` and `n` where lines should end.
    LiteralNewlines,
    /// A byte-order mark stands before the first block.
    ByteOrderMark,
    /// White space stands before `-----BEGIN`.
    Indented,
    /// The end of one block and the beginning of the next share a line, or other text stands before `-----BEGIN`.
    Joined,
    /// `-----BEGIN …` isn't closed by five dashes and the end of the line.
    MalformedBegin,
    /// There is no `END` line of its own for this block.
    Unterminated,
    /// The `END` line names another kind than the `BEGIN` line, or something follows it.
    MalformedEnd,
    /// The block has headers (`Proc-Type: …`); Go passes over those.
    Headers,
    /// The body is no base64.
    Base64,
    /// OpenSSL's own form with trust settings attached.
    TrustedCertificate,
    /// A certificate under a name that Go doesn't know, such as `X509 CERTIFICATE`.
    OtherCertificateLabel(String),
    /// PKCS#7, which may hold certificates.
    Pkcs7,
    /// A private key. Harmless for trust, but it has no business in a CA file.
    PrivateKey,
    /// Some other block that is no certificate, such as `X509 CRL`. Harmless.
    OtherBlock(String),
    /// The block is PEM but its content is no certificate that Go would take.
    Unparsable(CertificateError),
}

impl SkipReason {
    /// Whether the block was never meant as a trusted certificate.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::PrivateKey | Self::OtherBlock(_))
    }

    /// What to do about it. Commands that rewrite a file put the result in its place.
    pub fn repair(&self, file: &str) -> Remedy {
        let word = shell_word(file);
        let rewrite = |command: String| Some(format!("{command} && mv {word}.pem {word}"));
        // The file was meant to be trusted already: nothing is left to confirm.
        let import_in_place = || Some(format!("courser trust import {word} --to {word} --yes"));
        let (advice, command) = match self {
            Self::EmptyFile | Self::NoPem => ("put PEM certificates into it", None),
            Self::Utf16 => (
                "convert it to plain text",
                rewrite(format!("iconv -f UTF-16 -t UTF-8 {word} > {word}.pem")),
            ),
            Self::Der => ("convert it to PEM", import_in_place()),
            Self::Pkcs7File => ("take the certificates out", import_in_place()),
            Self::Pkcs12File => (
                "take the certificates out, and name the new file",
                Some(format!("courser trust import {word} --to {word}.pem")),
            ),
            Self::BareCarriageReturns => (
                "convert its line ends",
                rewrite(format!("tr '\\r' '\\n' < {word} > {word}.pem")),
            ),
            Self::LiteralNewlines => (
                "turn the two characters \\n into line ends",
                Some(format!("sed -i 's/\\\\n/\\n/g' {word}")),
            ),
            Self::ByteOrderMark => (
                "remove the byte-order mark",
                Some(format!("sed -i '1s/^\\xef\\xbb\\xbf//' {word}")),
            ),
            Self::Indented => (
                "remove the indentation",
                Some(format!("sed -i 's/^[[:space:]]*//' {word}")),
            ),
            Self::Joined => (
                "put a newline before each block",
                Some(format!(
                    "sed -i 's/\\(.\\)-----BEGIN /\\1\\n-----BEGIN /g' {word}"
                )),
            ),
            Self::MalformedBegin => (
                "write the line as -----BEGIN CERTIFICATE----- and nothing else",
                None,
            ),
            Self::Unterminated => (
                "the block is cut off: add its missing lines up to -----END CERTIFICATE-----",
                None,
            ),
            Self::MalformedEnd => (
                "write the last line as -----END CERTIFICATE----- and nothing else",
                None,
            ),
            Self::Headers => (
                "remove the header lines between BEGIN and the base64 text",
                None,
            ),
            Self::Base64 => (
                "copy the certificate again: its base64 text is damaged",
                None,
            ),
            Self::TrustedCertificate => ("write it as a plain certificate", import_in_place()),
            Self::OtherCertificateLabel(_) => (
                "call it CERTIFICATE",
                Some(format!(
                    "sed -i 's/-----\\(BEGIN\\|END\\) X509 /-----\\1 /' {word}"
                )),
            ),
            Self::Pkcs7 => ("take the certificates out", import_in_place()),
            Self::PrivateKey => ("move the private key out of this file", None),
            Self::OtherBlock(_) => ("nothing to do, unless a certificate was meant", None),
            Self::Unparsable(_) => (
                "have the certificate issued again, or remove it from the file",
                None,
            ),
        };
        Remedy {
            advice: advice.to_owned(),
            command,
        }
    }
}

/// A file's name as a word for a POSIX shell.
pub fn shell_word(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@:,".contains(&byte);
    if !file.is_empty() && file.bytes().all(plain) {
        return file.to_owned();
    }
    format!("'{}'", file.replace('\'', r"'\''"))
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyFile => "this file is empty",
            Self::Utf16 => "this file is UTF-16, not plain text",
            Self::Der => "this file is a DER certificate, not PEM",
            Self::Pkcs7File => "this file is PKCS#7, not PEM",
            Self::Pkcs12File => "this file is PKCS#12, not PEM",
            Self::NoPem => "this file has no PEM block",
            Self::BareCarriageReturns => "the lines of this file end with a bare carriage return",
            Self::LiteralNewlines => "the text has literal \\n where lines should end",
            Self::ByteOrderMark => "a byte-order mark hides the first block",
            Self::Indented => "the block is indented",
            Self::Joined => "a newline is missing between two blocks",
            Self::MalformedBegin => "the BEGIN line is malformed",
            Self::Unterminated => "the block has no END line",
            Self::MalformedEnd => {
                "the END line doesn't fit the BEGIN line or isn't alone on its line"
            }
            Self::Headers => "the block has headers",
            Self::Base64 => "the block is no valid base64",
            Self::TrustedCertificate => "a TRUSTED CERTIFICATE is OpenSSL's own format",
            Self::OtherCertificateLabel(label) => {
                return write!(f, "the block is called {label:?}, not \"CERTIFICATE\"");
            }
            Self::Pkcs7 => "the block is PKCS#7, not a certificate",
            Self::PrivateKey => "the block is a private key",
            Self::OtherBlock(label) => return write!(f, "the block is {label:?}, no certificate"),
            Self::Unparsable(error) => return write!(f, "not a usable certificate: {error}"),
        })
    }
}
