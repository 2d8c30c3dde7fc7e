//! Who this runner manager is: the text in `.runner_system_id` (`runner-config.md` 14.2).

use sha2::{Digest, Sha256};

/// The id in an existing file, if it is one: `s_` or `r_` and 12 letters or digits.
pub fn parse_system_id(content: &str) -> Option<&str> {
    let id = content.trim();
    let random = id.strip_prefix("s_").or_else(|| id.strip_prefix("r_"))?;
    (random.len() == 12 && random.bytes().all(|letter| letter.is_ascii_alphanumeric()))
        .then_some(id)
}

/// Makes an id: from the machine's where it has one, so that it stays the same, else from `random`.
pub fn system_id(machine_id: Option<&str>, random: [u8; 12]) -> String {
    const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    match machine_id.map(str::trim).filter(|id| !id.is_empty()) {
        Some(machine) => {
            let digest = hmac_sha256(machine.as_bytes(), b"gitlab-runner");
            let hex: String = digest[..6]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("s_{hex}")
        }
        None => {
            let letters = random.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            format!("r_{}", letters.iter().collect::<String>())
        }
    }
}

/// RFC 2104 over SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        assert_eq!(
            hex(&hmac_sha256(&[0x0b; 20], b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac_sha256(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_machine_always_has_the_same_id() {
        let id = system_id(Some("0123456789abcdef0123456789abcdef\n"), [0; 12]);
        assert_eq!(
            id,
            system_id(Some("0123456789abcdef0123456789abcdef"), [9; 12])
        );
        assert_eq!(parse_system_id(&id), Some(id.as_str()));
    }

    #[test]
    fn without_a_machine_id_it_is_random_letters() {
        for machine in [None, Some("  \n")] {
            let id = system_id(machine, [0, 25, 26, 51, 52, 61, 62, 255, 1, 2, 3, 4]);
            assert_eq!(id, "r_azAZ09ahbcde");
            assert_eq!(parse_system_id(&id), Some(id.as_str()));
        }
    }

    #[test]
    fn malformed_ids_are_not_taken() {
        for content in [
            "",
            "s_12345",
            "x_123456789abc",
            "s_123456789ab-",
            "s_123456789abcd",
        ] {
            assert_eq!(parse_system_id(content), None, "{content}");
        }
        assert_eq!(parse_system_id(" s_123456789abc\n"), Some("s_123456789abc"));
    }
}
