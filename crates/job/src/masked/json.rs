//! Secrets in JSON documents, such as the password in what a database's rotation writes: `jq -r` prints them alone.
//!
//! Not every text is one: engines, hosts, regions and names of projects are everywhere in logs. A text counts by the name of
//! its field, or when it looks random.

use std::fmt;

use courser_protocol::Secret;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Bytes of a document that is looked into: longer ones are data, not secrets.
const LONGEST: usize = 256 * 1024;
/// Shorter ones occur by chance.
const SHORTEST: usize = 8;
/// How long a text is that counts without its field's name.
const SHORTEST_RANDOM: usize = 12;
/// How many of small letters, capitals, digits and other signs it has.
const KINDS_IN_RANDOM: usize = 3;

/// Words in names of fields that hold secrets.
const SECRET: [&str; 19] = [
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "secret",
    "secrets",
    "token",
    "tokens",
    "key",
    "keys",
    "apikey",
    "accesskey",
    "credential",
    "credentials",
    "private",
    "auth",
    "authorization",
    "pin",
];
/// Last words of names that hold something about a secret.
const ABOUT: [&str; 16] = [
    "type",
    "kind",
    "name",
    "method",
    "uri",
    "url",
    "endpoint",
    "algorithm",
    "alg",
    "version",
    "provider",
    "format",
    "region",
    "host",
    "path",
    "usage",
];

/// The secrets of a document; none where it is no JSON.
pub(super) fn secrets(value: &str) -> Vec<Secret> {
    let text = value.trim();
    let mut texts = Vec::new();
    if text.len() <= LONGEST && text.starts_with(['{', '[', '"']) {
        let mut document = serde_json::Deserializer::from_str(text);
        let all = Texts {
            found: &mut texts,
            // A document that is a text is the secret.
            named: text.starts_with('"'),
        };
        let read = all.deserialize(&mut document);
        if read.and_then(|()| document.end()).is_err() {
            texts.clear();
        }
    }
    texts
}

/// Whether a field of this name holds secrets: `dbPassword`, `private_key_id`, and not `auth_uri`.
fn names_a_secret(name: &str) -> bool {
    let mut words: Vec<String> = Vec::new();
    let mut after_small = false;
    for character in name.chars() {
        if !character.is_alphanumeric() {
            words.push(String::new());
        } else if words.is_empty() || (after_small && character.is_uppercase()) {
            words.push(character.to_lowercase().collect());
        } else if let Some(word) = words.last_mut() {
            word.extend(character.to_lowercase());
        }
        after_small = character.is_lowercase();
    }
    let is_one = |word: &String| SECRET.contains(&word.as_str());
    words.iter().any(is_one)
        && words
            .last()
            .is_some_and(|last| !ABOUT.contains(&last.as_str()))
}

/// Whether a text is a secret; `named`: its field, or one around it, says so.
fn is_secret(text: &str, named: bool) -> bool {
    let is_address = text.contains("://") && !text.contains('@');
    if text.len() < SHORTEST || is_address {
        return false;
    }
    let is_sign = |c: char| c.is_ascii_punctuation() && !"._-/:@,".contains(c);
    let kinds = [
        text.contains(|c: char| c.is_lowercase()),
        text.contains(|c: char| c.is_uppercase()),
        text.contains(|c: char| c.is_numeric()),
        text.contains(is_sign),
    ];
    let kinds = kinds.iter().filter(|kind| **kind).count();
    named
        // A password in a URL.
        || text.contains("://")
        || (text.len() >= SHORTEST_RANDOM
            && kinds >= KINDS_IN_RANDOM
            && !text.contains(char::is_whitespace))
}

/// Takes the secrets out of a document; names of fields are none.
struct Texts<'a> {
    found: &'a mut Vec<Secret>,
    /// See [`is_secret`].
    named: bool,
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if is_secret(text, self.named) {
            self.found.push(Secret::new(text));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { found, named } = self;
        while list.next_element_seed(Texts { found, named })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { found, named } = self;
        while let Some(name) = map.next_key::<String>()? {
            let named = named || names_a_secret(&name);
            map.next_value_seed(Texts { found, named })?;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(document: &Value) -> Vec<String> {
        let found = secrets(&document.to_string());
        found.iter().map(|one| one.expose().to_owned()).collect()
    }

    #[test]
    fn of_a_database_only_the_password_is_secret() {
        let document = json!({
            "engine": "postgres", "username": "postgres", "password": "correct horse", "dbname": "production",
            "host": "db.c1a2b3.eu-west-1.rds.amazonaws.com", "port": 5432, "dbInstanceIdentifier": "orders-db-1",
            "masterarn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-x",
        });
        assert_eq!(found(&document), ["correct horse"]);
    }

    #[test]
    fn of_a_service_account_the_key_and_its_id_are_secret() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";
        let document = json!({
            "type": "service_account", "project_id": "my-project", "private_key_id": "0123456789abcdef",
            "private_key": key, "client_email": "ci@my-project.iam.gserviceaccount.com",
            "client_id": "123456789012345678901", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        });
        let mut found = found(&document);
        found.sort();
        assert_eq!(found, [key, "0123456789abcdef"]);
    }

    #[test]
    fn names_and_looks_tell_secrets() {
        for (document, expected) in [
            (json!({"dbPassword": "abcdefgh"}), &["abcdefgh"][..]),
            (json!({"API-Key": "abcdefgh"}), &["abcdefgh"]),
            (
                json!({"credentials": [{"user": "somebody"}]}),
                &["somebody"],
            ),
            (
                json!({"auths": {"registry.example": {"auth": "dTpwYXNzd29yZA=="}}}),
                &["dTpwYXNzd29yZA=="],
            ),
            (
                json!({"url": "postgres://app:pw@db/orders"}),
                &["postgres://app:pw@db/orders"],
            ),
            (json!({"value": "Xk9-plain_q7Z"}), &["Xk9-plain_q7Z"]),
            (json!({"value": "xk9plainq7z"}), &[]),
            (
                json!({"auth_method": "kubernetes", "token_type": "service-x"}),
                &[],
            ),
            (json!({"note": "Ask Team 7 about this!"}), &[]),
            (json!({"password": "short"}), &[]),
            (json!("hunter2hunter2"), &["hunter2hunter2"]),
        ] {
            assert_eq!(found(&document), expected, "{document}");
        }
        assert!(
            secrets("{\"password\": \"hunter2hunter2\"").is_empty(),
            "no JSON"
        );
    }
}
