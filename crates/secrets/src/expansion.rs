//! References in the payload's secrets, replaced once before anything is asked (`secrets.md` 3, 4.1).

use courser_protocol::secrets::{
    AwsSecret, AwsServer, AzureSecret, GoogleSecret, GoogleServer, VaultAuth, VaultSecret,
    VaultServer,
};
use courser_protocol::{JobSecret, Secret};

/// Name of the session at AWS where nobody gives one.
const SESSION_NAME: &str = "${CI_JOB_ID}-${CI_PROJECT_ID}-${CI_SERVER_HOST}";
/// What STS takes, in bytes.
const SESSION_NAME_LIMIT: usize = 64;

/// The secret with the references replaced by `expand`, in those fields in which upstream does so.
pub(crate) fn expanded(secret: &JobSecret, expand: &dyn Fn(&str) -> String) -> JobSecret {
    let mut secret = secret.clone();
    let all = |fields: &mut [&mut String]| {
        for field in fields {
            **field = expand(field);
        }
    };
    let token = |token: &mut Secret| *token = Secret::new(expand(token.expose()));
    if let Some(VaultSecret {
        server: VaultServer {
            url,
            namespace,
            auth,
        },
        engine,
        path,
        field,
    }) = &mut secret.vault
    {
        let VaultAuth {
            name,
            path: mount,
            data,
        } = auth;
        all(&mut [
            url,
            namespace,
            name,
            mount,
            &mut engine.name,
            &mut engine.path,
            path,
            field,
        ]);
        data.values_mut().for_each(token);
    }
    if let Some(GoogleSecret {
        name,
        version,
        server,
    }) = &mut secret.gcp_secret_manager
    {
        let GoogleServer {
            project_number,
            workload_identity_federation_pool_id: pool,
            workload_identity_federation_provider_id: provider,
            jwt,
        } = server;
        all(&mut [name, version, project_number, pool, provider]);
        token(jwt);
    }
    if let Some(AzureSecret {
        name,
        version,
        server,
    }) = &mut secret.azure_key_vault
    {
        all(&mut [name, version]);
        token(&mut server.jwt);
    }
    if let Some(AwsSecret {
        secret_id,
        version_id,
        version_stage,
        field,
        region,
        role_arn,
        role_session_name,
        server,
    }) = &mut secret.aws_secrets_manager
    {
        let AwsServer {
            region: server_region,
            role_arn: server_role,
            role_session_name: session,
            jwt,
        } = server;
        if session.is_empty() {
            SESSION_NAME.clone_into(session);
        }
        all(&mut [
            secret_id,
            version_id,
            version_stage,
            field,
            region,
            role_arn,
            role_session_name,
            server_region,
            server_role,
            session,
        ]);
        session.truncate(session.floor_char_boundary(SESSION_NAME_LIMIT));
        token(jwt);
    }
    secret
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expanded_json(secret: serde_json::Value) -> serde_json::Value {
        let secret: JobSecret = serde_json::from_value(secret).unwrap();
        serde_json::to_value(expanded(&secret, &|text| text.replace("$A", "a"))).unwrap()
    }

    #[test]
    fn the_fields_of_the_fact_sheet_are_expanded_and_no_others() {
        let vault = expanded_json(
            json!({"vault": {"server": {"url": "$A", "namespace": "$A", "auth": {"name": "$A",
            "path": "$A", "data": {"jwt": "$A", "x": "$A"}}}, "engine": {"name": "$A", "path": "$A"}, "path": "$A", "field": "$A"}}),
        );
        assert!(!vault.to_string().contains('$'), "{vault}");
        let google = expanded_json(
            json!({"gcp_secret_manager": {"name": "$A", "version": "$A", "server": {
            "project_number": "$A", "workload_identity_federation_pool_id": "$A",
            "workload_identity_federation_provider_id": "$A", "jwt": "$A"}}}),
        );
        assert!(!google.to_string().contains('$'), "{google}");
        let azure = expanded_json(json!({"azure_key_vault": {"name": "$A", "version": "$A",
            "server": {"url": "$A", "client_id": "$A", "tenant_id": "$A", "jwt": "$A"}}}));
        assert_eq!(
            azure["azure_key_vault"]["server"],
            json!({"url": "$A", "client_id": "$A", "tenant_id": "$A", "jwt": "a"})
        );
        let gitlab = json!({"gitlab_secrets_manager": {"server": {"url": "$A", "inline_auth":
            {"path": "$A", "jwt": "$A", "role": "$A", "auth_mount": ""}}, "engine": {"name": "$A", "path": "$A"}, "path": "$A", "field": "$A"}});
        assert_eq!(expanded_json(gitlab.clone()), gitlab);
    }

    #[test]
    fn a_session_at_aws_always_has_a_name_that_sts_takes() {
        let secret: JobSecret = serde_json::from_value(
            json!({"aws_secrets_manager": {"role_session_name": "own-${B}"}}),
        )
        .unwrap();
        let aws = expanded(&secret, &|text| {
            text.replace("${CI_JOB_ID}", &"é".repeat(40))
        })
        .aws_secrets_manager
        .unwrap();
        assert_eq!(aws.server.role_session_name, "é".repeat(32));
        assert_eq!(aws.role_session_name, "own-${B}");
    }
}
