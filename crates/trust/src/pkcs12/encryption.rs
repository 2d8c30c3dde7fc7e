//! The password side of PKCS#12: its own key derivation (RFC 7292 appendix B) with triple DES and RC2, and PBES2
//! (RFC 8018) with AES. Old files are read, nothing is ever encrypted here.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use des::TdesEde3;
use des::cipher::{Array, BlockCipherDecrypt, KeyInit, typenum::Unsigned};
use rc2::Rc2;

use super::{Pkcs12Error, WHAT};
use crate::der::{self, Element, Reader};

/// Rounds of key derivation that a file may ask for in all: a few seconds. Programs write 1 to 600,000 a part.
const MOST_ROUNDS: u64 = 10_000_000;

/// Rounds of key derivation that may still be spent.
#[derive(Debug)]
pub(crate) struct Work {
    left: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self::of(MOST_ROUNDS)
    }
}

impl Work {
    pub(crate) fn of(rounds: u64) -> Self {
        Self { left: rounds }
    }

    fn spend(&mut self, rounds: &[u8]) -> Result<NonZeroU32, Pkcs12Error> {
        let rounds = der::small_integer(rounds).unwrap_or(u64::MAX);
        // What is refused costs nothing.
        let left = self.left.checked_sub(rounds);
        self.left = left.ok_or(Pkcs12Error::TooMuchWork(rounds))?;
        u32::try_from(rounds)
            .ok()
            .and_then(NonZeroU32::new)
            .ok_or_else(|| Pkcs12Error::Malformed("zero rounds of key derivation".to_owned()))
    }
}

/// A password in the two forms in which it is used.
pub(super) struct Password {
    utf8: Vec<u8>,
    /// UTF-16, big end first, with two zeros at its end; nothing at all for no password.
    wide: Vec<u8>,
}

impl Password {
    pub(super) fn of(text: &str) -> Self {
        let units = text.encode_utf16().chain([0]);
        Self {
            utf8: text.as_bytes().to_vec(),
            wide: units.flat_map(u16::to_be_bytes).collect(),
        }
    }

    pub(super) fn none() -> Self {
        Self {
            utf8: Vec::new(),
            wide: Vec::new(),
        }
    }
}

/// What a derived key is for.
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// Whether the MAC over the contents is the password's. A kind of MAC that is not known here is passed over: a wrong
/// password shows when the contents are decrypted.
pub(super) fn mac_fits(
    mac: &Element<'_>,
    contents: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<bool, Pkcs12Error> {
    let Some(Mac { expected, tag, .. }) = mac_over(mac, contents, password, work)? else {
        return Ok(true);
    };
    Ok(constant_time::verify_slices_are_equal(tag.as_ref(), expected).is_ok())
}

/// A `MacData` made again.
pub(super) struct Mac<'a> {
    /// The `AlgorithmIdentifier` of its hash.
    pub(super) algorithm: Element<'a>,
    /// What it says the contents have.
    pub(super) expected: &'a [u8],
    /// What the contents have, by the same salt and rounds.
    pub(super) tag: hmac::Tag,
    /// Salt and rounds, encoded.
    pub(super) derivation: &'a [u8],
}

/// The MAC that `mac` describes, over these contents; `None` when its kind is not known here.
pub(super) fn mac_over<'a>(
    mac: &Element<'a>,
    contents: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<Option<Mac<'a>>, Pkcs12Error> {
    let mut fields = mac.reader();
    let info = fields.read(der::SEQUENCE, WHAT)?;
    let derivation = &mac.encoded()[info.range().end - mac.range().start..];
    let mut digest_info = info.reader();
    let algorithm = digest_info.read(der::SEQUENCE, WHAT)?;
    let hash = match algorithm.reader().object_identifier(WHAT)? {
        [0x2b, 14, 3, 2, 26] => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        [0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1] => &digest::SHA256,
        [0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 2] => &digest::SHA384,
        [0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 3] => &digest::SHA512,
        _ => return Ok(None),
    };
    let expected = digest_info.read(der::OCTET_STRING, WHAT)?.content();
    let salt = fields.read(der::OCTET_STRING, WHAT)?.content();
    let rounds = if fields.is_empty() {
        work.spend(&[1])?
    } else {
        work.spend(fields.integer(WHAT)?)?
    };
    let key = derive(
        hash,
        Purpose::Mac,
        password,
        salt,
        rounds,
        hash.output_len(),
    );
    let kind = match hash.output_len() {
        20 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        32 => hmac::HMAC_SHA256,
        48 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    Ok(Some(Mac {
        algorithm,
        expected,
        tag: hmac::sign(&hmac::Key::new(kind, &key), contents),
        derivation,
    }))
}

/// The plain text of what an `AlgorithmIdentifier` encrypted.
pub(super) fn decrypt(
    algorithm: &Element<'_>,
    text: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<Vec<u8>, Pkcs12Error> {
    let mut fields = algorithm.reader();
    let id = fields.object_identifier(WHAT)?;
    let mut parameters = fields.read(der::SEQUENCE, WHAT)?.reader();
    match id {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13] => {
            with_pbes2(parameters, text, password, work)
        }
        [
            0x2a,
            0x86,
            0x48,
            0x86,
            0xf7,
            0x0d,
            1,
            12,
            1,
            kind @ (3 | 5 | 6),
        ] => {
            let salt = parameters.read(der::OCTET_STRING, WHAT)?.content();
            let rounds = work.spend(parameters.integer(WHAT)?)?;
            let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
            let derived = |purpose, length| derive(sha1, purpose, password, salt, rounds, length);
            let iv = derived(Purpose::Iv, 8);
            match kind {
                3 => chained(&triple_des(&derived(Purpose::Key, 24))?, &iv, text),
                5 => chained(
                    &Rc2::new_with_eff_key_len(&derived(Purpose::Key, 16), 128),
                    &iv,
                    text,
                ),
                _ => chained(
                    &Rc2::new_with_eff_key_len(&derived(Purpose::Key, 5), 40),
                    &iv,
                    text,
                ),
            }
        }
        other => Err(unsupported(other)),
    }
}

fn with_pbes2(
    mut parameters: Reader<'_>,
    text: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<Vec<u8>, Pkcs12Error> {
    let mut derivation = parameters.read(der::SEQUENCE, WHAT)?.reader();
    let id = derivation.object_identifier(WHAT)?;
    if id != [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12] {
        return Err(unsupported(id));
    }
    let mut pbkdf2_fields = derivation.read(der::SEQUENCE, WHAT)?.reader();
    let salt = pbkdf2_fields.read(der::OCTET_STRING, WHAT)?.content();
    let rounds = work.spend(pbkdf2_fields.integer(WHAT)?)?;
    pbkdf2_fields.optional(der::INTEGER, WHAT)?;
    let function = match pbkdf2_fields.optional(der::SEQUENCE, WHAT)? {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(function) => match function.reader().object_identifier(WHAT)? {
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7] => pbkdf2::PBKDF2_HMAC_SHA1,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9] => pbkdf2::PBKDF2_HMAC_SHA256,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10] => pbkdf2::PBKDF2_HMAC_SHA384,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11] => pbkdf2::PBKDF2_HMAC_SHA512,
            other => return Err(unsupported(other)),
        },
    };
    let mut scheme = parameters.read(der::SEQUENCE, WHAT)?.reader();
    let cipher = scheme.object_identifier(WHAT)?;
    let iv = scheme.read(der::OCTET_STRING, WHAT)?.content();
    let key = |length: usize| {
        let mut key = vec![0; length];
        pbkdf2::derive(function, rounds, salt, &password.utf8, &mut key);
        key
    };
    let (aes, length) = match cipher {
        [0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 2] => (&AES_128, 16),
        [0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 22] => (&AES_192, 24),
        [0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 42] => (&AES_256, 32),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 3, 7] => {
            return chained(&triple_des(&key(24))?, iv, text);
        }
        other => return Err(unsupported(other)),
    };
    let wrong = |_| Pkcs12Error::WrongPassword;
    let iv = FixedLength::try_from(iv)
        .map_err(|_| Pkcs12Error::Malformed("initial vector of the wrong length".to_owned()))?;
    let key = UnboundCipherKey::new(aes, &key(length)).map_err(wrong)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(wrong)?;
    let mut buffer = text.to_vec();
    let plain = key
        .decrypt(&mut buffer, DecryptionContext::Iv128(iv))
        .map_err(wrong)?;
    Ok(plain.to_vec())
}

fn unsupported(id: &[u8]) -> Pkcs12Error {
    Pkcs12Error::Unsupported(der::dotted(id))
}

fn triple_des(key: &[u8]) -> Result<TdesEde3, Pkcs12Error> {
    TdesEde3::new_from_slice(key).map_err(|_| Pkcs12Error::Malformed("DES key".to_owned()))
}

/// Cipher block chaining over blocks of eight, with the padding of PKCS#7.
fn chained<C: BlockCipherDecrypt>(
    cipher: &C,
    iv: &[u8],
    text: &[u8],
) -> Result<Vec<u8>, Pkcs12Error> {
    let size = C::BlockSize::USIZE;
    if iv.len() != size || text.is_empty() || !text.len().is_multiple_of(size) {
        return Err(Pkcs12Error::WrongPassword);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut before = iv;
    for chunk in text.chunks_exact(size) {
        let mut block =
            Array::try_from(chunk).map_err(|_| Pkcs12Error::Malformed("block".to_owned()))?;
        cipher.decrypt_block(&mut block);
        plain.extend(block.iter().zip(before).map(|(one, other)| one ^ other));
        before = chunk;
    }
    let padding = usize::from(*plain.last().unwrap_or(&0));
    let kept = plain.len().checked_sub(padding);
    let kept = kept.filter(|kept| {
        (1..=size).contains(&padding)
            && plain[*kept..]
                .iter()
                .all(|byte| usize::from(*byte) == padding)
    });
    plain.truncate(kept.ok_or(Pkcs12Error::WrongPassword)?);
    Ok(plain)
}

/// RFC 7292 appendix B.2.
fn derive(
    hash: &'static digest::Algorithm,
    purpose: Purpose,
    password: &Password,
    salt: &[u8],
    rounds: NonZeroU32,
    length: usize,
) -> Vec<u8> {
    let block = hash.block_len();
    let filled = |text: &[u8]| -> Vec<u8> {
        let blocks = text.len().div_ceil(block);
        text.iter().copied().cycle().take(blocks * block).collect()
    };
    let diversifier = vec![purpose as u8; block];
    let mut input = filled(salt);
    input.extend(filled(&password.wide));
    let mut derived = Vec::with_capacity(length + hash.output_len());
    while derived.len() < length {
        let mut state = digest::digest(hash, &[&diversifier[..], &input].concat());
        for _ in 1..rounds.get() {
            state = digest::digest(hash, state.as_ref());
        }
        derived.extend_from_slice(state.as_ref());
        let addend: Vec<u8> = state.as_ref().iter().copied().cycle().take(block).collect();
        for chunk in input.chunks_exact_mut(block) {
            add(chunk, &addend);
        }
    }
    derived.truncate(length);
    derived
}

/// `number += addend + 1`, both with their big end first.
fn add(number: &mut [u8], addend: &[u8]) {
    let mut carry = 1;
    for (byte, other) in number.iter_mut().zip(addend).rev() {
        let sum = u16::from(*byte) + u16::from(*other) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_derived_as_everybody_derives_them() {
        let one = NonZeroU32::MIN;
        let derived = |purpose, length| {
            let salt = hex::decode("0a58cf64530d823f").unwrap();
            let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
            hex::encode(derive(
                sha1,
                purpose,
                &Password::of("smeg"),
                &salt,
                one,
                length,
            ))
        };
        assert_eq!(
            derived(Purpose::Key, 24),
            "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3"
        );
        assert_eq!(derived(Purpose::Iv, 8), "79993dfe048d3b76");
    }

    #[test]
    fn no_file_gets_more_rounds_than_honest_ones_need() {
        let mut work = Work::default();
        assert!(work.spend(&[0]).is_err());
        assert!(work.spend(&[0x7f, 0xff]).is_ok());
        // Nine million, twice.
        assert!(work.spend(&[0, 0x89, 0x54, 0x40]).is_ok());
        assert!(matches!(
            work.spend(&[0, 0x89, 0x54, 0x40]),
            Err(Pkcs12Error::TooMuchWork(_))
        ));
        let huge = [0x7f; 9];
        let spent = Work::default().spend(&huge);
        assert!(matches!(spent, Err(Pkcs12Error::TooMuchWork(_))));
    }

    #[test]
    fn padding_that_is_none_means_a_wrong_password() {
        let cipher = triple_des(&[7; 24]).unwrap();
        for text in [&[][..], &[0; 7], &[0; 16]] {
            let plain = chained(&cipher, &[0; 8], text);
            assert_eq!(plain, Err(Pkcs12Error::WrongPassword), "{text:?}");
        }
    }
}
