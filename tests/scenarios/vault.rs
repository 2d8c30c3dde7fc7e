//! What scenarios with secrets of a Vault take place in: a real OpenBao with a TLS listener of a private CA, and jobs as
//! GitLab sends them.

use courser_testkit::id_token::Issuer;
use courser_testkit::servers::OpenBao;
use serde_json::{Value, json};

use super::scene::Scene;
use crate::wire::gitlab::{Record, add, spooled};

const AUDIENCE: &str = "https://vault.example.com";

/// A scene with a server of secrets. One path below `ops/production` may be read, in jobs of project 42.
pub(super) struct Vault {
    pub(super) scene: Scene,
    pub(super) bao: OpenBao,
    issuer: Issuer,
    /// Claims of the next job's token that are not the usual ones.
    pub(super) claims: Value,
}

impl Vault {
    /// One that the runner trusts by `VAULT_CACERT`.
    pub(super) fn new() -> Self {
        let mut vault = Self::untrusted();
        let ca = vault.bao.ca_file().to_str().expect("a path in UTF-8");
        vault.scene.environment("VAULT_CACERT", ca);
        vault
    }

    pub(super) fn untrusted() -> Self {
        let scene = Scene::new();
        let bao = OpenBao::local();
        let issuer = Issuer::new("https://gitlab.example.com");
        bao.enable_jwt("jwt", issuer.url(), &issuer.public_key_pem());
        bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
        let data = json!({"password": "this-is-a-password", "port": 8080, "key": "first-line-of-it\nsecond-line-of-it\n"});
        bao.bao(
            &["kv", "put", "-mount=ops", "production/db", "-"],
            &data.to_string(),
        );
        bao.policy(
            "deploy",
            "path \"ops/data/production/*\" { capabilities = [\"read\"] }\n\
             path \"database/creds/*\" { capabilities = [\"read\"] }",
        );
        bao.jwt_role(
            "jwt",
            "deploy",
            &json!({"bound_claims": {"project_id": "42"}}),
        );
        let claims = json!({});
        Self {
            scene,
            bao,
            issuer,
            claims,
        }
    }

    /// A job with these secrets, each the path in `ops`, its field and whether it is a file.
    pub(super) fn job(
        &mut self,
        script: &[&str],
        secrets: &[(&str, &str, &str, Option<bool>)],
    ) -> Value {
        let job = self.scene.job(1, script);
        let token = self.issuer.token_with(AUDIENCE, &self.claims);
        self.scene.secret("the ID token", &token);
        let token = json!({"key": "VAULT_ID_TOKEN", "value": token, "masked": true, "public": false, "file": false});
        let mut job = add(job, "variables", token);
        let mut all = serde_json::Map::new();
        for (name, path, field, file) in secrets {
            all.insert((*name).to_owned(), self.secret(path, field, *file));
        }
        job["secrets"] = Value::Object(all);
        job
    }

    pub(super) fn secret(&self, path: &str, field: &str, file: Option<bool>) -> Value {
        json!({
            "vault": {
                "server": {"url": self.bao.url(), "namespace": null, "auth": {"name": "jwt", "path": "jwt",
                    "data": {"jwt": "$VAULT_ID_TOKEN", "role": "deploy"}}},
                "engine": {"name": "kv-v2", "path": "ops"}, "path": path, "field": field,
            },
            "file": file, "token": "$VAULT_ID_TOKEN",
        })
    }

    /// The log, without what differs from server to server.
    pub(super) fn log(&self, job: &Record) -> String {
        self.scene.log(job).replace(&self.bao.url(), "<vault>")
    }

    /// The login's token of the one job that has one, from the runner's spool.
    pub(super) fn written_down_token(&self) -> String {
        let mut jobs = spooled(&self.scene.world).into_iter();
        let leases = jobs.find_map(|job| std::fs::read(job.join("leases")).ok());
        let leases = leases.expect("a job in the spool has leases");
        let leases: Value = serde_json::from_slice(&leases).expect("JSON");
        let token = leases["obtained"][0]["token"].as_str();
        token.expect("a token").to_owned()
    }
}
