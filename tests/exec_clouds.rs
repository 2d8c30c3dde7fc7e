//! `courser exec` of a job with secrets of Google, Azure and AWS beside those of a Vault: strict fakes, reached by the
//! clouds' own names, and a real OpenBao verify the ID tokens that the local issuer signs.

use courser_testkit::id_token::Federation;
use courser_testkit::proxy::FakeProxy;
use courser_testkit::servers::OpenBao;

use crate::clouds::{AUDIENCE, Clouds, VAULT};
use crate::world::{Finished, World, run};

const ISSUER: &str = "https://courser.example.com";

const PIPELINE: &str = "\
variables:
  GCP_PROJECT_NUMBER: '1234'
  GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID: pool
  GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID: prov
  AZURE_KEY_VAULT_SERVER_URL: https://unit.vault.azure.net
  AZURE_CLIENT_ID: client
  AZURE_TENANT_ID: tenant
  AWS_REGION: eu-west-1
  AWS_ROLE_ARN: arn:aws:iam::123456789012:role/ci
  VAULT_AUTH_ROLE: app
read:
  id_tokens:
    CLOUD_ID_TOKEN: {aud: https://clouds.example.com}
  secrets:
    GOOGLE_KEY:
      gcp_secret_manager: {name: api-key, version: 1}
      file: false
      token: $CLOUD_ID_TOKEN
    AZURE_CERT:
      azure_key_vault: {name: cert}
      token: $CLOUD_ID_TOKEN
    AWS_PASSWORD:
      aws_secrets_manager: app/db#password
      file: false
      token: $CLOUD_ID_TOKEN
    VAULT_PASSWORD:
      vault: app/password@ops
      file: false
      token: $CLOUD_ID_TOKEN
  script:
    - test \"$GOOGLE_KEY $(cat \"$AZURE_CERT\")\" = \"value-of-\"\"google value-of-\"\"azure\"
    - test \"$AWS_PASSWORD $VAULT_PASSWORD\" = \"value-of-\"\"aws value-of-\"\"vault\" && echo all four
";

/// A project whose job has a secret of each provider, and the providers.
struct Scene {
    world: World,
    clouds: Clouds,
    bao: OpenBao,
    proxy: FakeProxy,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        world.project(PIPELINE);
        let keys = run(&mut world.courser(["coordinator", "oidc", "keys", "-C", "project"]));
        assert_eq!(keys.code(), 0, "{}", keys.all());
        let federation = Federation {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            keys: serde_json::from_str(&keys.stdout).expect("a key set"),
        };
        let clouds = Clouds::start(&federation, "group/app", VAULT);
        let Clouds {
            google, azure, aws, ..
        } = &clouds;
        let routes = [google.routes(), azure.routes(), aws.routes()].concat();
        let routes: Vec<_> = routes
            .iter()
            .map(|(name, address)| (name.as_str(), *address))
            .collect();
        let proxy = FakeProxy::start(&routes, None);
        world.write("home/clouds.pem", clouds.root.certificate_pem());
        let bao = vault(&world);
        Self {
            world,
            clouds,
            bao,
            proxy,
        }
    }

    /// Runs a command for that project.
    fn courser(&self, arguments: &[&str]) -> Finished {
        let server = format!("VAULT_SERVER_URL={}", self.bao.url());
        run(self
            .world
            .courser(arguments)
            .args(["-C", "project", "--oidc-issuer", ISSUER])
            .args(["--variable", &server])
            .env("VAULT_CACERT", self.bao.ca_file())
            .env("SSL_CERT_FILE", self.world.path("home/clouds.pem"))
            .env("HTTPS_PROXY", format!("http://{}", self.proxy.address()))
            .env("NO_PROXY", "127.0.0.1"))
    }
}

#[test]
fn s02_each_provider_is_asked_for_its_own_secret() {
    let scene = Scene::new();
    let ended = scene.courser(&["exec"]);
    assert_eq!(ended.code(), 0, "{}", ended.all());
    assert!(ended.stdout.contains("all four"), "{}", ended.all());
    let Clouds {
        google, azure, aws, ..
    } = &scene.clouds;
    for (secret, resolver) in [
        ("GOOGLE_KEY", "gcp_secret_manager"),
        ("AZURE_CERT", "azure-key-vault"),
        ("AWS_PASSWORD", "aws_secrets_manager"),
        ("VAULT_PASSWORD", "vault"),
    ] {
        let lines = ended
            .stdout
            .lines()
            .map(|line| line.trim_start_matches("read | "));
        let mut lines =
            lines.skip_while(|line| *line != format!("Resolving secret \"{secret}\"..."));
        let next = format!("Using \"{resolver}\" secret resolver...");
        assert_eq!(lines.nth(1), Some(next.as_str()), "{}", ended.all());
    }
    // A login and a read each; Azure's vault is asked first what it wants.
    let requests = [google.requests(), azure.requests(), aws.requests()];
    assert_eq!(requests.map(|all| all.len()), [2, 3, 2]);
    assert_eq!(scene.bao.accessors(), [""; 0]);
    for secret in [
        "value-of-google",
        "value-of-azure",
        "value-of-aws",
        "value-of-vault",
        "eyJ",
        "ya29.",
        "fake-entra",
        "fake-aws",
    ] {
        assert!(!ended.all().contains(secret), "{secret}: {}", ended.all());
    }
    // AWS takes the job's number, its project's and the host for the session.
    let sessions = aws.sessions();
    assert_eq!(sessions.len(), 1);
    assert!(
        sessions[0].name.split('-').count() >= 3,
        "{}",
        sessions[0].name
    );
}

#[test]
fn check_tells_of_each_provider_how_far_it_comes() {
    let scene = Scene::new();
    let check = |more: &[&str]| scene.courser(&[&["secrets", "check", "read"], more].concat());
    let checked = check(&[]);
    assert_eq!(checked.code(), 0, "{}", checked.all());
    for text in [
        "GOOGLE_KEY  (gcp_secret_manager)\n  ✓ settings  project 1234\n",
        "  ✓ log in    provider prov of pool pool\n",
        "  ✓ policy    secretmanager.versions.access on projects/1234/secrets/api-key\n",
        "  ✓ path      projects/1234/secrets/api-key/versions/1\n  ✓ field     value, 15 bytes, as a variable\n",
        "AZURE_CERT  (azure_key_vault)\n  ✓ settings  tenant tenant\n  ✓ connect   https://unit.vault.azure.net/\n",
        "  ✓ path      secret cert\n  ✓ field     value, 14 bytes, as a file\n",
        "AWS_PASSWORD  (aws_secrets_manager)\n  ✓ settings  region eu-west-1\n",
        "  ✓ log in    role arn:aws:iam::123456789012:role/ci\n",
        "  ✓ path      secret app/db\n  ✓ field     key password, 12 bytes, as a variable\n",
    ] {
        assert!(checked.stdout.contains(text), "{text}: {}", checked.all());
    }
    // Another subject: each says so in its own way, and one does not end the look at the others.
    let refused = check(&["--oidc-claim", "sub=project_path:group/other"]);
    assert_eq!(refused.code(), 1, "{}", refused.all());
    for text in [
        "✗ policy    secretmanager.versions.access on projects/1234/secrets/api-key: failed to get secret: ",
        "✗ claims    sub project_path:group/other, aud https://clouds.example.com: getting secret failed: ",
        "AADSTS700213",
        "✗ claims    sub project_path:group/other, aud https://clouds.example.com: operation error Secrets Manager",
        "the trust policy of arn:aws:iam::123456789012:role/ci must allow",
    ] {
        assert!(refused.stdout.contains(text), "{text}: {}", refused.all());
    }
}

/// A server that has been told of the project's issuer, and has one secret for it.
fn vault(world: &World) -> OpenBao {
    let bao = OpenBao::local();
    bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
    let put = ["kv", "put", "-mount=ops", "app", "password=value-of-vault"];
    bao.bao(&put, "");
    bao.policy("app", "path \"ops/data/app\" { capabilities = [\"read\"] }");
    let written = run(world
        .courser(["coordinator", "oidc", "vault", "--write", "-C", "project"])
        .args(["--role", "app", "--policy", "app", "--aud", AUDIENCE])
        .args(["--oidc-issuer", ISSUER])
        .env("VAULT_ADDR", bao.url())
        .env("VAULT_TOKEN", bao.root_token())
        .env("VAULT_CACERT", bao.ca_file()));
    assert_eq!(written.code(), 0, "{}", written.all());
    bao
}
