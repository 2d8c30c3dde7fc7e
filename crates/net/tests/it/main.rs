//! The client and the listener against real sockets on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which fail by panicking"
)]

mod calls;
mod inspect;
mod issuers;
mod listener;
mod proxies;
mod reload;
mod trust;

use std::time::Duration;

use courser_net::{
    Answer, Call, CallError, Client, ClientSettings, ProxySettings, SystemRoots, TrustSettings,
};
use http::Method;
use url::Url;

/// Trusts nothing at all.
fn no_trust() -> TrustSettings {
    TrustSettings {
        system: SystemRoots::None,
        ca_file: None,
        cert_file: None,
        key_file: None,
        certificate_directory: None,
        inline_ca: None,
    }
}

fn trusting(pem: String) -> TrustSettings {
    TrustSettings {
        inline_ca: Some(pem),
        ..no_trust()
    }
}

fn settings(trust: TrustSettings) -> ClientSettings {
    ClientSettings {
        trust,
        proxy: ProxySettings::default(),
        user_agent: "courser-test 1".to_owned(),
        connection_max_age: Duration::ZERO,
    }
}

fn client(trust: TrustSettings) -> Client {
    Client::new(settings(trust))
}

fn get(url: &str) -> Call {
    Call::new(Method::GET, Url::parse(url).unwrap())
}

async fn text(answer: Answer) -> String {
    let bytes = answer.bytes(1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The text of the error that the call must end with.
async fn failure(client: &Client, url: &str) -> String {
    match client.send(get(url)).await {
        Ok(answer) => panic!("{url} was answered with {}", answer.status),
        Err(error @ CallError::Network { .. }) => error.to_string(),
        Err(error) => panic!("not a network error: {error}"),
    }
}

async fn status(client: &Client, url: &str) -> u16 {
    client.send(get(url)).await.unwrap().status.as_u16()
}
