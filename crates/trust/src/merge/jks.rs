//! JKS, Java's own form of a keystore until Java 8, and of what Linux distributions generate until today.
//!
//! Integers have their big end first. A magic number, a version, the count of entries; then each entry: its kind, alias,
//! time in milliseconds, and a chain after a key (kind 1), or one certificate (kind 2); at the end SHA-1 over the password
//! in UTF-16, a sentence, and everything before.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::certificate::Certificate;

use super::MergeError;

pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION_2: u32 = 2;
const PRIVATE_KEY: u32 = 1;
const TRUSTED_CERTIFICATE: u32 = 2;
const DIGEST: usize = 20;
const KIND: &[u8] = b"X.509";

/// The store with those of `entries` that are not in it; `None` when all of them are.
pub(super) fn add(
    store: &[u8],
    passwords: &[&str],
    entries: &[(String, &Certificate)],
) -> Result<Option<Vec<u8>>, MergeError> {
    let (body, proof) = store
        .split_last_chunk::<DIGEST>()
        .ok_or(MergeError::Damaged("it is too short"))?;
    let password = passwords
        .iter()
        .find(|password| digest(password, body) == *proof)
        .ok_or(MergeError::UnknownPassword)?;
    let mut reader = Reader(body);
    reader.take(MAGIC.len())?;
    let version = reader.number()?;
    if version != VERSION_2 {
        return Err(MergeError::UnknownFormat(format!(
            "JKS of version {version} is not supported"
        )));
    }
    let count = reader.number()?;
    let mut trusted = Vec::new();
    for _ in 0..count {
        let kind = reader.number()?;
        reader.text()?;
        reader.take(8)?;
        match kind {
            PRIVATE_KEY => {
                reader.block()?;
                for _ in 0..reader.number()? {
                    reader.certificate()?;
                }
            }
            TRUSTED_CERTIFICATE => trusted.push(reader.certificate()?),
            _ => return Err(MergeError::Damaged("an entry of an unknown kind")),
        }
    }
    if !reader.0.is_empty() {
        return Err(MergeError::Damaged("bytes after its last entry"));
    }
    let missing = entries.iter().filter(|(_, certificate)| {
        let der: &[u8] = certificate.der();
        !trusted.contains(&der)
    });
    let mut bytes = body.to_vec();
    let mut added = 0;
    for (alias, certificate) in missing {
        bytes.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        push_text(&mut bytes, alias.as_bytes())?;
        // When an entry was made says nothing here; its certificate's first day keeps the bytes the same each time.
        let since = certificate.not_before().unix_seconds().saturating_mul(1000);
        bytes.extend(since.to_be_bytes());
        push_text(&mut bytes, KIND)?;
        let length = u32::try_from(certificate.der().len());
        bytes.extend(
            length
                .map_err(|_| MergeError::Damaged("a certificate is too long"))?
                .to_be_bytes(),
        );
        bytes.extend_from_slice(certificate.der());
        added += 1;
    }
    if added == 0 {
        return Ok(None);
    }
    let count = count
        .checked_add(added)
        .ok_or(MergeError::Damaged("it has too many entries"))?;
    bytes[8..12].copy_from_slice(&count.to_be_bytes());
    let proof = digest(password, &bytes);
    bytes.extend(proof);
    Ok(Some(bytes))
}

pub(super) fn digest(password: &str, body: &[u8]) -> [u8; DIGEST] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    context.update(&password);
    context.update(b"Mighty Aphrodite");
    context.update(body);
    let digest = context.finish();
    *digest.as_ref().first_chunk().expect("SHA-1 has 20 bytes")
}

fn push_text(bytes: &mut Vec<u8>, text: &[u8]) -> Result<(), MergeError> {
    let length =
        u16::try_from(text.len()).map_err(|_| MergeError::Damaged("an alias is too long"))?;
    bytes.extend(length.to_be_bytes());
    bytes.extend(text);
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MergeError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(MergeError::Damaged("it breaks off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, MergeError> {
        let (number, rest) = self
            .0
            .split_first_chunk()
            .ok_or(MergeError::Damaged("it breaks off"))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn text(&mut self) -> Result<&'a [u8], MergeError> {
        let length = self.take(2)?;
        self.take(usize::from(length[0]) << 8 | usize::from(length[1]))
    }

    fn block(&mut self) -> Result<&'a [u8], MergeError> {
        let length = self.number()?;
        self.take(length as usize)
    }

    fn certificate(&mut self) -> Result<&'a [u8], MergeError> {
        self.text()?;
        self.block()
    }
}
