//! Directories in which OpenSSL finds a certificate by its subject's hash (`openssl rehash`, `c_rehash`).

use courser_trust::{Certificate, add_to_pem_bundle, certificates_in_pem};

use super::anchors::{file_name, pem_file};
use super::directory::{Content, Directory};

/// Certificates with the same hash in an honest directory are two or three.
const MOST_OF_ONE_HASH: u32 = 32;

/// One certificate with all that tools write around it has a few thousand bytes.
const MOST_BYTES: usize = 64 * 1024;

/// Whether certificates are found by hash in there.
pub(super) fn is_hashed(directory: &Directory, below: &str) -> bool {
    directory.names_in(below).any(is_hash_name)
}

/// Eight hexadecimal digits, a point, a number.
fn is_hash_name(name: &str) -> bool {
    let Some((hash, number)) = name.split_once('.') else {
        return false;
    };
    hash.len() == 8
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Puts a certificate in unless it is there: as a file or, where `source` has the path of one, as a link to that, and
/// a link by its hash. Whether something was put in.
pub(super) fn add(
    directory: &mut Directory,
    below: &str,
    certificate: &Certificate,
    source: Option<String>,
) -> bool {
    let at = |name: &str| match below {
        "" => name.to_owned(),
        below => format!("{below}/{name}"),
    };
    let hash = certificate.subject_hash();
    for number in 0..MOST_OF_ONE_HASH {
        let name = format!("{hash}.{number}");
        let path = at(&name);
        if directory.get(&path).is_some() {
            let known = directory.file(&path);
            if known.is_some_and(|file| holds(file, certificate)) {
                return false;
            }
            continue;
        }
        let file = format!("{}.pem", file_name(certificate));
        let content = match source {
            Some(source) => Content::Link(source),
            None => Content::File(pem_file([certificate])),
        };
        directory.put(&at(&file), content);
        directory.put(&path, Content::Link(file));
        return true;
    }
    false
}

/// Whether this file is that certificate's.
fn holds(file: &[u8], certificate: &Certificate) -> bool {
    file.len() <= MOST_BYTES
        && certificates_in_pem(file) == 1
        && add_to_pem_bundle(file, &[certificate]).is_none()
}
