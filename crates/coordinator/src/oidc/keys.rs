//! The keys that sign ID tokens: RSA 2048, kept in a file that only its owner can read (`secrets.md` 10.2).
//!
//! The file is made when the first token is signed. Processes of one user share it, behind a lock, and look at it
//! again when it has changed: a key that one of them rotates is used by all. A rotated key stays published for as
//! long as a token of it may live.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use courser_protocol::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PublicKey;
use crate::store::{FileLock, private_dir};

/// Seconds by which clocks of those who check a token may be behind: what OpenBao and Vault allow.
const SKEW: i64 = 60;
/// Bytes of a key file that are read.
const LARGEST: u64 = 1 << 20;

/// Why no token can be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file, its directory or its lock.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could sign tokens with it.
    #[error("{path}: keys with mode {mode:04o}: others can read them (chmod 600 {path})", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what is written here.
    #[error("{path}: no keys of ID tokens: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No randomness, no memory.
    #[error("no RSA key could be made")]
    Generation,
    /// The library refused.
    #[error("the token could not be signed")]
    Signature,
}

/// A file of keys. Cheap to open: nothing is read before a key is needed.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

/// What the file had when it looked like this.
#[derive(Debug)]
struct Loaded {
    stamp: Stamp,
    keys: Arc<[Key]>,
}

type Stamp = (SystemTime, u64);

/// A key as it is stored, newest first.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    /// Unix seconds.
    created_at: i64,
    /// Since when another one signs.
    retired_at: Option<i64>,
    /// Seconds that the longest of its tokens lives.
    longest_token: i64,
    /// PKCS#8, base64.
    pkcs8: Secret,
}

#[derive(Default, Serialize, Deserialize)]
struct StoredKeys {
    keys: Vec<StoredKey>,
}

struct Key {
    public: PublicKey,
    pair: KeyPair,
    retired_at: Option<i64>,
    longest_token: i64,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.public.kid())
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Those in the file at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            loaded: Mutex::default(),
        }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Public keys of all tokens that may be valid at `now` (Unix seconds); the one that signs comes first. Makes it
    /// if there is none.
    ///
    /// # Errors
    ///
    /// The file.
    pub fn public(&self, now: i64) -> Result<Vec<PublicKey>, KeyError> {
        let keys = self.current(now, 0)?;
        let is_published = |key: &&Key| is_published(key.retired_at, key.longest_token, now);
        Ok(keys
            .iter()
            .filter(is_published)
            .map(|key| key.public.clone())
            .collect())
    }

    /// Signs with a new key from now on. Others are published until their last tokens have expired.
    ///
    /// # Errors
    ///
    /// The file.
    pub fn rotate(&self, now: i64) -> Result<PublicKey, KeyError> {
        let keys = self.change(|keys| {
            for key in keys.iter_mut() {
                key.retired_at.get_or_insert(now);
            }
            keys.retain(|key| is_published(key.retired_at, key.longest_token, now));
            keys.insert(0, StoredKey::generate(now)?);
            Ok(())
        })?;
        keys.first()
            .map(|key| key.public.clone())
            .ok_or(KeyError::Generation)
    }

    /// A compact JWS of the claims, which expire `lifetime` seconds after `now`.
    pub(super) fn sign(&self, claims: &Value, now: i64, lifetime: i64) -> Result<Secret, KeyError> {
        let keys = self.current(now, lifetime)?;
        let key = keys.first().ok_or(KeyError::Generation)?;
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": key.public.kid()});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; key.pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        key.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &random,
                message.as_bytes(),
                &mut signature,
            )
            .map_err(|_| KeyError::Signature)?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(Secret::new(format!("{message}.{signature}")))
    }

    /// The keys as the file has them now, the first one good for tokens of this lifetime.
    fn current(&self, now: i64, lifetime: i64) -> Result<Arc<[Key]>, KeyError> {
        let fits = |keys: &[Key]| {
            keys.first()
                .is_some_and(|key| key.longest_token >= lifetime)
        };
        let stamp = self.stamp()?;
        if let Some(stamp) = stamp {
            let known = self
                .loaded()
                .as_ref()
                .filter(|loaded| loaded.stamp == stamp)
                .map(|loaded| Arc::clone(&loaded.keys));
            let keys = match known {
                Some(keys) => keys,
                None => self.take(&self.read()?, stamp)?,
            };
            if fits(&keys) {
                return Ok(keys);
            }
        }
        self.change(|keys| {
            if keys.is_empty() {
                keys.push(StoredKey::generate(now)?);
            }
            if let Some(newest) = keys.first_mut() {
                newest.longest_token = newest.longest_token.max(lifetime);
            }
            Ok(())
        })
    }

    fn loaded(&self) -> MutexGuard<'_, Option<Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tells whether the file has changed; `None`: there is none.
    fn stamp(&self) -> Result<Option<Stamp>, KeyError> {
        match self.path.metadata() {
            Ok(metadata) => {
                let modified = metadata.modified().map_err(|error| self.io(error))?;
                Ok(Some((modified, metadata.len())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    fn io(&self, source: io::Error) -> KeyError {
        KeyError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, reason: impl ToString) -> KeyError {
        KeyError::Damaged {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    fn read(&self) -> Result<StoredKeys, KeyError> {
        let file = File::open(&self.path).map_err(|error| self.io(error))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = file
                .metadata()
                .map_err(|error| self.io(error))?
                .permissions()
                .mode();
            if mode & 0o077 != 0 {
                return Err(KeyError::Exposed {
                    path: self.path.clone(),
                    mode: mode & 0o7777,
                });
            }
        }
        serde_json::from_reader(file.take(LARGEST)).map_err(|error| self.damaged(error))
    }

    /// Remembers what the file has.
    fn take(&self, stored: &StoredKeys, stamp: Stamp) -> Result<Arc<[Key]>, KeyError> {
        let keys: Option<Vec<Key>> = stored.keys.iter().map(StoredKey::load).collect();
        let keys: Arc<[Key]> = keys
            .ok_or_else(|| self.damaged("a key is no RSA key of 2048 bits"))?
            .into();
        *self.loaded() = Some(Loaded {
            stamp,
            keys: Arc::clone(&keys),
        });
        Ok(keys)
    }

    /// Changes the file, one process after the other.
    fn change(
        &self,
        change: impl FnOnce(&mut Vec<StoredKey>) -> Result<(), KeyError>,
    ) -> Result<Arc<[Key]>, KeyError> {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        private_dir(directory).map_err(|error| self.io(io::Error::other(error)))?;
        let lock = FileLock::of(&self.path.with_extension("lock"));
        let lock = lock.map_err(|error| self.io(io::Error::other(error)))?;
        let mut stored = match self.stamp()? {
            Some(_) => self.read()?,
            None => StoredKeys::default(),
        };
        change(&mut stored.keys)?;
        let text = serde_json::to_vec_pretty(&stored).map_err(|error| self.damaged(error))?;
        self.replace(directory, &text)
            .map_err(|error| self.io(error))?;
        let stamp = self.stamp()?.ok_or_else(|| self.damaged("it is gone"))?;
        let keys = self.take(&stored, stamp);
        drop(lock);
        keys
    }

    /// The whole file or nothing of it; a temporary file is its owner's only.
    fn replace(&self, directory: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }
}

/// Whether tokens of the key may be valid.
fn is_published(retired_at: Option<i64>, longest_token: i64, now: i64) -> bool {
    retired_at.is_none_or(|at| now <= at.saturating_add(longest_token).saturating_add(SKEW))
}

impl StoredKey {
    fn generate(now: i64) -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generation)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Generation)?;
        Ok(Self {
            created_at: now,
            retired_at: None,
            longest_token: 0,
            pkcs8: Secret::new(STANDARD.encode(der.as_ref())),
        })
    }

    /// `None`: not a key of the kind that is made here.
    fn load(&self) -> Option<Key> {
        let der = STANDARD.decode(self.pkcs8.expose()).ok()?;
        let pair = KeyPair::from_pkcs8(&der).ok()?;
        Some(Key {
            public: PublicKey::of(pair.public_key())?,
            pair,
            retired_at: self.retired_at,
            longest_token: self.longest_token,
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn keys(directory: &tempfile::TempDir) -> Keys {
        Keys::at(directory.path().join("oidc/keys.json"))
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_signed_by_the_key_that_its_header_names() {
        let directory = tempfile::tempdir().unwrap();
        let keys = keys(&directory);
        let token = keys.sign(&json!({"sub": "me"}), 1000, 3600).unwrap();
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let public = keys.public(1000).unwrap();
        assert_eq!(public.len(), 1);
        assert_eq!(
            decoded(header),
            json!({"alg": "RS256", "typ": "JWT", "kid": public[0].kid()})
        );
        assert_eq!(decoded(claims), json!({"sub": "me"}));
        let jwk = public[0].jwk();
        let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        assert_eq!((modulus.len(), modulus[0] > 0x7f), (256, true));
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public[0].spki())
            .verify(
                message.as_bytes(),
                &URL_SAFE_NO_PAD.decode(signature).unwrap(),
            )
            .unwrap();
        let pem = public[0].pem();
        assert!(
            pem.starts_with("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEF"),
            "{pem}"
        );
        assert!(pem.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn the_file_is_its_owners_only_and_another_process_signs_with_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let first = keys(&directory);
        let kid = first.public(0).unwrap()[0].kid();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(first.path()), 0o600);
        assert_eq!(mode(first.path().parent().unwrap()), 0o700);
        assert_eq!(keys(&directory).public(0).unwrap()[0].kid(), kid);
        std::fs::set_permissions(first.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = keys(&directory).public(0).unwrap_err().to_string();
        assert!(
            error.contains("0640") && error.contains("chmod 600"),
            "{error}"
        );
        assert!(!format!("{first:?}").contains("pkcs8"));
    }

    #[test]
    fn a_rotated_key_stays_published_while_a_token_of_it_lives() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (keys(&directory), keys(&directory));
        first.sign(&json!({}), 1000, 300).unwrap();
        first.sign(&json!({}), 1000, 7200).unwrap();
        let old = first.public(1000).unwrap()[0].kid();
        let new = second.rotate(2000).unwrap().kid();
        let kids = |keys: &Keys, now| -> Vec<String> {
            keys.public(now)
                .unwrap()
                .iter()
                .map(PublicKey::kid)
                .collect()
        };
        assert_eq!(kids(&first, 2000), [new.clone(), old.clone()]);
        assert_eq!(kids(&first, 2000 + 7200 + SKEW), [new.clone(), old]);
        assert_eq!(kids(&first, 2001 + 7200 + SKEW), std::slice::from_ref(&new));
        let token = first.sign(&json!({}), 2000, 60).unwrap();
        let header = token.expose().split('.').next().unwrap();
        assert_eq!(decoded(header)["kid"], new.as_str());
        // What has expired is forgotten at the next rotation.
        first.rotate(90_000).unwrap();
        assert_eq!(second.read().unwrap().keys.len(), 2);
    }

    #[test]
    fn a_file_that_holds_no_keys_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let keys = keys(&directory);
        private_dir(keys.path().parent().unwrap()).unwrap();
        for text in [
            "",
            "{}",
            r#"{"keys":[{"created_at":1,"longest_token":1,"pkcs8":"AAAA"}]}"#,
        ] {
            crate::store::write_private(keys.path(), text.as_bytes()).unwrap();
            let error = keys.public(0).unwrap_err();
            assert!(matches!(error, KeyError::Damaged { .. }), "{text}: {error}");
            assert!(error.to_string().contains("keys.json"), "{error}");
        }
    }
}
