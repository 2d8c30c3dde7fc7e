//! Others' word on AWS: their server for our client, and AWS' own client for our fake.

use courser_testkit::servers::{Moto, boto3};
use serde_json::json;

use crate::aws::{ROLE, scene, secret};

/// Endpoint → two secrets in it.
const CREATE: &str = r#"
import boto3, sys
client = boto3.client("secretsmanager", endpoint_url=sys.argv[1], region_name="eu-west-1",
                      aws_access_key_id="a", aws_secret_access_key="b")
client.create_secret(Name="app/db", SecretString='{"port": 5432, "ünï": "\\u00fc"}')
client.create_secret(Name="binary", SecretBinary=b"\x00\xff")
first = client.describe_secret(SecretId="app/db")["VersionIdsToStages"]
client.put_secret_value(SecretId="app/db", SecretString='{"port": 1000000}')
print(list(first)[0])
"#;

/// Endpoint, role, token → a secret's text, then the errors that the client sees.
const READ: &str = r#"
import boto3, botocore, sys
endpoint, role, token = sys.argv[1:]
sts = boto3.client("sts", endpoint_url=endpoint, region_name="eu-west-1",
                   config=botocore.config.Config(signature_version=botocore.UNSIGNED))
lent = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="boto3", WebIdentityToken=token)["Credentials"]
def client(secret_key):
    return boto3.client("secretsmanager", endpoint_url=endpoint, region_name="eu-west-1",
                        aws_access_key_id=lent["AccessKeyId"], aws_secret_access_key=secret_key,
                        aws_session_token=lent["SessionToken"])
def error(call):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        print(error.response["Error"]["Code"])
own = client(lent["SecretAccessKey"])
print(own.get_secret_value(SecretId="app/db", VersionStage="AWSPREVIOUS")["SecretString"])
print(own.get_secret_value(SecretId="binary")["SecretBinary"])
error(lambda: own.get_secret_value(SecretId="absent"))
error(lambda: own.get_secret_value(SecretId="forbidden"))
error(lambda: client("wrong").get_secret_value(SecretId="app/db"))
error(lambda: sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="boto3", WebIdentityToken="abcd"))
"#;

#[tokio::test]
async fn moto_is_read_like_aws() {
    let (mut scene, _fake) = scene();
    let moto = Moto::start(&scene.leaf(&["127.0.0.1"]));
    let first = boto3(&scene.root, CREATE, &[&moto.url()]);
    let url: url::Url = moto.url().parse().unwrap();
    scene.settings.aws.sts_url = Some(url.clone());
    scene.settings.aws.secrets_manager_url = Some(url);
    scene.set("FIRST", first.trim());
    let told = scene
        .resolve(json!({
            "A": secret(json!({"secret_id": "app/db", "field": "port"})),
            "B": secret(json!({"secret_id": "app/db", "field": "ünï", "version_id": "$FIRST"})),
            "C": secret(json!({"secret_id": "binary"})),
            "D": secret(json!({"secret_id": "app/db", "version_stage": "AWSCURRENT"})),
        }))
        .await;
    assert_eq!(
        told.values(),
        ["1000000", "ü", "AP8=", r#"{"port": 1000000}"#]
    );
    // It answers 404 where AWS answers 400.
    let told = scene
        .resolve(json!({"A": secret(json!({"secret_id": "absent"}))}))
        .await;
    let text = told.told();
    assert!(
        text.contains(
            "ResourceNotFoundException: Secrets Manager can't find the specified secret."
        ),
        "{text}"
    );
}

#[tokio::test]
async fn aws_own_client_is_served_by_the_fake() {
    let (scene, aws) = scene();
    let token = scene
        .variables
        .iter()
        .find(|(name, _)| name == "AWS_ID_TOKEN");
    let (_, token) = token.unwrap();
    let printed = boto3(&scene.root, READ, &[&aws.url(), ROLE, token]);
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        [
            "old",
            r"b'\x00\xff'",
            "ResourceNotFoundException",
            "AccessDeniedException",
            "InvalidSignatureException",
            "InvalidIdentityToken",
        ]
    );
}
