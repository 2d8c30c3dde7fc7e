//! One of each cloud, strict fakes of Google, Azure and AWS with one secret each, for jobs of one project.

use courser_testkit::clouds::aws::{Account, Aws, Content};
use courser_testkit::clouds::azure::{Azure, Tenant};
use courser_testkit::clouds::google::{Google, Project};
use courser_testkit::clouds::{aws, azure, google};
use courser_testkit::id_token::Federation;
use courser_testkit::pki::{Authority, Issued};

/// The one `aud` that they take.
pub(crate) const AUDIENCE: &str = "https://clouds.example.com";
/// The role at AWS.
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/ci";
/// The vault at Azure, where it is not reached by its address.
pub(crate) const VAULT: &str = "unit.vault.azure.net";

/// They have `value-of-google` in `api-key`, `value-of-azure` in `cert`, and at AWS `app/db` with `password` and `port`,
/// beside `forbidden`.
pub(crate) struct Clouds {
    /// Who signed their certificates.
    pub(crate) root: Issued,
    pub(crate) google: Google,
    pub(crate) azure: Azure,
    pub(crate) aws: Aws,
}

impl Clouds {
    /// For jobs on the branch `main` of a project, with tokens of that issuer; Azure's vault has this host name.
    pub(crate) fn start(federation: &Federation, project: &str, vault: &str) -> Self {
        let subject = format!("project_path:{project}:ref_type:branch:ref:main");
        let root = Authority::root("Root of the clouds").issue();
        let [sts, secrets_manager] = Aws::names("eu-west-1");
        let mut names = vec![Azure::AUTHORITY, VAULT, &sts, &secrets_manager];
        names.extend(Google::NAMES);
        let leaf = root.server(&names).issue();
        let google = Google::start(
            &leaf,
            Project {
                number: "1234".to_owned(),
                pool: "pool".to_owned(),
                provider: "prov".to_owned(),
                federation: federation.clone(),
                project_path: Some(project.to_owned()),
                secrets: vec![google::Secret {
                    name: "projects/1234/secrets/api-key".to_owned(),
                    versions: vec![Some(b"value-of-google".to_vec())],
                    readers: vec![subject.clone()],
                }],
            },
        );
        let azure = Azure::start(
            &leaf,
            Tenant {
                id: "tenant".to_owned(),
                client_id: "client".to_owned(),
                federation: federation.clone(),
                subject: subject.clone(),
                vault: vault.to_owned(),
                resource: "https://vault.azure.net".to_owned(),
                secrets: vec![azure::Secret {
                    name: "cert".to_owned(),
                    versions: vec![("v1".to_owned(), Some("value-of-azure".to_owned()))],
                }],
                may_read: true,
            },
        );
        let secret = |name: &str, readable: bool| aws::Secret {
            name: name.to_owned(),
            arn: format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"),
            versions: vec![(
                "v1".to_owned(),
                Content::Text(r#"{"password":"value-of-aws","port":1000000}"#.to_owned()),
            )],
            readable,
        };
        let aws = Aws::start(
            &leaf,
            Account {
                region: "eu-west-1".to_owned(),
                federation: federation.clone(),
                role_arn: ROLE.to_owned(),
                subjects: vec![subject],
                user: None,
                secrets: vec![secret("app/db", true), secret("forbidden", false)],
            },
        );
        Self {
            root,
            google,
            azure,
            aws,
        }
    }
}
