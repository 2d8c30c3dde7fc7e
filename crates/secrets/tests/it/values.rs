//! Values of every provider: many, large ones, and bytes that are no text.

use serde_json::{Value, json};

use crate::bad_days::{Provider, Step};

#[tokio::test]
async fn two_hundred_secrets_are_one_login_and_two_hundred_reads() {
    for (name, scene, provider) in Provider::all() {
        let secrets: serde_json::Map<_, _> = (0..200)
            .map(|number| (format!("S{number:03}"), provider.secret(number)))
            .collect();
        let told = scene.resolve(Value::Object(secrets)).await;
        let expected: Vec<_> = (0..200).map(|number| format!("v{number}")).collect();
        assert_eq!(told.values(), expected, "{name}");
        assert_eq!(!told.leases.is_empty(), name == "vault", "{name}");
        assert_eq!(provider.requests(), provider.logins() + 200, "{name}");
    }
}

#[tokio::test]
async fn a_megabyte_fits_into_a_file_and_not_into_a_variable() {
    let large = "x".repeat(1 << 20);
    for (name, scene, provider) in Provider::all() {
        provider.always(Step::Read, provider.answer(large.as_bytes()));
        let mut secret = provider.secret(0);
        let told = scene.resolve(json!({"LARGE": secret})).await;
        assert!(told.values() == [large.as_str()], "{name}");
        secret["file"] = false.into();
        let told = scene.resolve(json!({"LARGE": secret})).await;
        assert_eq!(
            told.told(),
            "Configuration: secret \"LARGE\": its value of 1048576 bytes is too long for a variable: a program that is started \
             with more than 131072 bytes in one variable fails with \"Argument list too long\"\n  > let the job have it as a \
             file: `file: true` for LARGE in `secrets:`",
            "{name}"
        );
        assert!(!told.log().contains("xxx"));
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_or_come_as_base64() {
    for (name, scene, provider) in Provider::all() {
        match provider {
            // A value is JSON text there.
            Provider::Azure(_) | Provider::Vault(_) | Provider::GitLab(_) => {}
            Provider::Aws(_) => {
                let secret = crate::aws::secret(json!({"secret_id": "binary"}));
                assert_eq!(scene.resolve(json!({"B": secret})).await.values(), ["AP8="]);
            }
            Provider::Google(_) => {
                let secret = crate::google::secret("binary", "1");
                let told = scene.resolve(json!({"B": secret})).await.told();
                assert_eq!(
                    told,
                    "Configuration: failed to get secret: projects/1234/secrets/binary/versions/1 holds 2 bytes that are no \
                     text (byte 1 is not UTF-8), which no variable can carry\n  > store it as base64 and decode it in the \
                     job's script",
                    "{name}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_nul_byte_is_refused_in_a_variable() {
    for (name, scene, provider) in Provider::all() {
        provider.always(Step::Read, provider.answer(b"a\0b"));
        let mut secret = provider.secret(0);
        secret["file"] = false.into();
        let told = scene.resolve(json!({"NUL": secret})).await;
        let text = "secret \"NUL\": its value has NUL bytes, which no variable can hold";
        assert_eq!(told.failure().to_string(), text, "{name}");
    }
}
