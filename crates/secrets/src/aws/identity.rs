//! The identity that the runner's machine has at AWS: of the process, of a web identity file, of the container, of the
//! instance, in the order of AWS' SDKs. Profiles in files are not read.

use std::time::Duration;

use courser_net::{Call, Timeouts};
use courser_protocol::Secret;
use http::{HeaderName, Method, StatusCode, header};
use serde::Deserialize;
use url::Url;

use super::{Aws, Credentials, Identity, READ, Role};
use crate::exchange::{Repeat, Reply};
use crate::refusal::unanswered;
use crate::{Failure, FailureClass};

/// What answers on instances and in containers is near.
const NEAR: Timeouts = Timeouts {
    response_header: Duration::from_secs(1),
    total: Duration::from_secs(2),
};
const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const SESSION_SECONDS: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// Name of the session where the process has none.
const SESSION_NAME: &str = "courser";
const CONTEXT: &str = "get identity: get credentials: failed to refresh cached credentials";

/// Credentials of a container or an instance.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lent {
    access_key_id: String,
    secret_access_key: Secret,
    token: Option<Secret>,
}

/// The credentials of the first source that is there.
pub(super) async fn ambient(aws: &Aws, identity: &Identity) -> Result<Credentials, Failure> {
    let environment = &aws.session.surroundings.environment;
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let (Some(access_key), Some(secret_key)) = (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    ) {
        return Ok(Credentials {
            access_key: access_key.to_owned(),
            secret_key: secret_key.into(),
            session_token: variable("AWS_SESSION_TOKEN").map(Into::into),
        });
    }
    if let (Some(file), Some(arn)) = (
        variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
        variable("AWS_ROLE_ARN"),
    ) {
        let token = tokio::fs::read_to_string(file).await.map_err(|error| {
            let text = format!("{READ}, {CONTEXT}, open {file}: {error}");
            Failure::new(FailureClass::System, text)
        })?;
        let role = Role {
            arn: arn.to_owned(),
            session_name: variable("AWS_ROLE_SESSION_NAME")
                .unwrap_or(SESSION_NAME)
                .to_owned(),
            token: Secret::new(token.trim()),
        };
        return aws.assume(identity, &role).await;
    }
    let container =
        variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let container =
        container.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(ToOwned::to_owned));
    if let Some(url) = container {
        let file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        let token = match file {
            Some(file) => tokio::fs::read_to_string(file).await.ok().map(Secret::new),
            None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
        };
        let mut call = near(Method::GET, &url)?;
        if let Some(token) = token {
            call = call.secret_header(header::AUTHORIZATION, token.expose().trim());
        }
        return lent(&ask(aws, call).await?);
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Err(none(
            "access disabled to EC2 IMDS via client option, or \"AWS_EC2_METADATA_DISABLED\" environment variable",
        ));
    }
    instance(
        aws,
        variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE),
    )
    .await
}

/// The role of the instance (IMDSv2).
async fn instance(aws: &Aws, base: &str) -> Result<Credentials, Failure> {
    let base = base.trim_end_matches('/');
    let mut call = near(Method::PUT, &format!("{base}/latest/api/token"))?;
    call.headers
        .insert(SESSION_SECONDS, http::HeaderValue::from_static("300"));
    let session = ask(aws, call)
        .await
        .map_err(|failure| none(&failure.to_string()))?;
    let session = String::from_utf8_lossy(&session.body).into_owned();
    let metadata = |path: &str| {
        let url = format!("{base}/latest/meta-data/iam/security-credentials/{path}");
        near(Method::GET, &url).map(|call| call.secret_header(SESSION_TOKEN, &session))
    };
    let roles = ask(aws, metadata("")?)
        .await
        .map_err(|failure| none(&failure.to_string()))?;
    let roles = String::from_utf8_lossy(&roles.body).into_owned();
    let role = roles.lines().next().unwrap_or_default().trim();
    lent(&ask(aws, metadata(role)?).await?)
}

fn none(why: &str) -> Failure {
    let text = format!("{READ}, {CONTEXT}, no EC2 IMDS role found, {why}");
    Failure::new(FailureClass::Configuration, text).advise(
        "the job has neither an ID token nor a role, and the runner's machine has no identity at AWS (looked for in its \
         environment, container and instance)",
    )
}

fn near(method: Method, url: &str) -> Result<Call, Failure> {
    let url: Url = url.parse().map_err(|error| {
        Failure::new(
            FailureClass::System,
            format!("{READ}, {CONTEXT}, {url:?} is no URL: {error}"),
        )
    })?;
    Ok(Call {
        timeouts: NEAR,
        ..Call::new(method, url)
    })
}

async fn ask(aws: &Aws, call: Call) -> Result<Reply, Failure> {
    let reply = aws
        .session
        .exchange_of_machine()
        .send(call, Repeat::Always)
        .await;
    let reply = reply.map_err(|error| unanswered(&error))?;
    match reply.status {
        StatusCode::OK => Ok(reply),
        status => Err(Failure::new(
            FailureClass::System,
            format!("the answer is {status}"),
        )),
    }
}

fn lent(reply: &Reply) -> Result<Credentials, Failure> {
    let lent: Lent = serde_json::from_slice(&reply.body)
        .map_err(|_| none("what was answered are no credentials"))?;
    Ok(Credentials {
        access_key: lent.access_key_id,
        secret_key: lent.secret_access_key,
        session_token: lent.token,
    })
}
