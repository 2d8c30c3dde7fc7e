//! `courser exec` of a pipeline with secrets of Google, Azure and AWS: strict fakes, reached by the clouds' own names,
//! verify the ID tokens that the local issuer signs.

use courser_testkit::clouds::aws::{Account, Aws, Content};
use courser_testkit::clouds::azure::{Azure, Tenant};
use courser_testkit::clouds::google::{Google, Project};
use courser_testkit::clouds::{aws, azure, google};
use courser_testkit::id_token::Federation;
use courser_testkit::pki::Authority;
use courser_testkit::proxy::FakeProxy;

use crate::world::{World, run};

const ISSUER: &str = "https://courser.example.com";
const AUDIENCE: &str = "https://clouds.example.com";
const SUBJECT: &str = "project_path:group/app:ref_type:branch:ref:main";
const ROLE: &str = "arn:aws:iam::123456789012:role/ci";

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
  script:
    - test \"$GOOGLE_KEY $(cat \"$AZURE_CERT\") $AWS_PASSWORD\" = \"of-google of-azure of-\"\"aws\" && echo all three
";

#[test]
fn three_clouds_believe_the_local_issuer() {
    let world = World::new();
    world.repository("work/project", &[(".gitlab-ci.yml", PIPELINE)]);
    let url = "https://gitlab.example.com/group/app.git";
    world.git("work/project", &["remote", "add", "origin", url]);
    let keys = run(&mut world.courser(["coordinator", "oidc", "keys", "-C", "project"]));
    assert_eq!(keys.code(), 0, "{}", keys.all());
    let federation = Federation {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        keys: serde_json::from_str(&keys.stdout).expect("a key set"),
    };

    let root = Authority::root("Root of the clouds").issue();
    let [sts, secrets_manager] = Aws::names("eu-west-1");
    let mut names = vec![
        Azure::AUTHORITY,
        "unit.vault.azure.net",
        &sts,
        &secrets_manager,
    ];
    names.extend(Google::NAMES);
    let leaf = root.server(&names).issue();
    let google = Google::start(
        &leaf,
        Project {
            number: "1234".to_owned(),
            pool: "pool".to_owned(),
            provider: "prov".to_owned(),
            federation: federation.clone(),
            project_path: Some("group/app".to_owned()),
            secrets: vec![google::Secret {
                name: "projects/1234/secrets/api-key".to_owned(),
                versions: vec![Some(b"of-google".to_vec())],
                readers: vec![SUBJECT.to_owned()],
            }],
        },
    );
    let azure = Azure::start(
        &leaf,
        Tenant {
            id: "tenant".to_owned(),
            client_id: "client".to_owned(),
            federation: federation.clone(),
            subject: SUBJECT.to_owned(),
            vault: "unit.vault.azure.net".to_owned(),
            resource: "https://vault.azure.net".to_owned(),
            secrets: vec![azure::Secret {
                name: "cert".to_owned(),
                versions: vec![("v1".to_owned(), Some("of-azure".to_owned()))],
            }],
            may_read: true,
        },
    );
    let aws = Aws::start(
        &leaf,
        Account {
            region: "eu-west-1".to_owned(),
            federation,
            role_arn: ROLE.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            user: None,
            secrets: vec![aws::Secret {
                name: "app/db".to_owned(),
                arn: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/db-AbCdEf"
                    .to_owned(),
                versions: vec![(
                    "v1".to_owned(),
                    Content::Text(r#"{"password":"of-aws"}"#.to_owned()),
                )],
                readable: true,
            }],
        },
    );
    let routes = [google.routes(), azure.routes(), aws.routes()].concat();
    let routes: Vec<_> = routes
        .iter()
        .map(|(name, address)| (name.as_str(), *address))
        .collect();
    let proxy = FakeProxy::start(&routes, None);

    let ended = run(world
        .courser(["exec", "-C", "project", "--oidc-issuer", ISSUER])
        .env(
            "SSL_CERT_FILE",
            world.write("home/clouds.pem", root.certificate_pem()),
        )
        .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
        .env("NO_PROXY", "127.0.0.1"));
    assert_eq!(ended.code(), 0, "{}", ended.all());
    assert!(ended.stdout.contains("all three"), "{}", ended.all());
    for secret in ["of-google of", "eyJ", "ya29.", "fake-entra", "fake-aws"] {
        assert!(
            !ended
                .all()
                .replace("\"of-google of-azure of-\"", "")
                .contains(secret),
            "{}",
            ended.all()
        );
    }
    // AWS takes the job's number, its project's and the host for the session.
    let sessions = aws.sessions();
    assert_eq!(sessions.len(), 1);
    assert!(
        sessions[0].name.split('-').count() >= 3,
        "{}",
        sessions[0].name
    );

    let check = |more: &[&str]| {
        run(world
            .courser([
                "secrets",
                "check",
                "read",
                "-C",
                "project",
                "--oidc-issuer",
                ISSUER,
            ])
            .args(more)
            .env("SSL_CERT_FILE", world.path("home/clouds.pem"))
            .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
            .env("NO_PROXY", "127.0.0.1"))
    };
    let checked = check(&[]);
    assert_eq!(checked.code(), 0, "{}", checked.all());
    for text in [
        "GOOGLE_KEY  (gcp_secret_manager)\n  ✓ settings  project 1234\n",
        "  ✓ log in    provider prov of pool pool\n",
        "  ✓ policy    secretmanager.versions.access on projects/1234/secrets/api-key\n",
        "  ✓ path      projects/1234/secrets/api-key/versions/1\n  ✓ field     value, 9 bytes, as a variable\n",
        "AZURE_CERT  (azure_key_vault)\n  ✓ settings  tenant tenant\n  ✓ connect   https://unit.vault.azure.net/\n",
        "  ✓ path      secret cert\n  ✓ field     value, 8 bytes, as a file\n",
        "AWS_PASSWORD  (aws_secrets_manager)\n  ✓ settings  region eu-west-1\n",
        "  ✓ log in    role arn:aws:iam::123456789012:role/ci\n",
        "  ✓ path      secret app/db\n  ✓ field     key password, 6 bytes, as a variable\n",
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
