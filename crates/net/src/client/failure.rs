//! Words for what went wrong on the network: those that users and monitoring search for.

use std::error::Error;
use std::io;

use super::connect::ConnectError;
use crate::fault::Endpoint;
use crate::tls::ClientTls;

/// The cause in one text: a failed connection in its own words; other TLS failures with their explanation; else what
/// each layer adds.
pub(super) fn describe(
    error: &(dyn Error + 'static),
    tls: &ClientTls,
    endpoint: &Endpoint,
) -> String {
    if let Some(connect) = layers(error).find_map(|layer| layer.downcast_ref::<ConnectError>()) {
        return connect.to_string();
    }
    match tls.fault(error, endpoint) {
        Some(fault) => fault.to_string(),
        None => describe_layers(error),
    }
}

pub(crate) fn describe_layers(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for layer in layers(error) {
        // Says only in which phase it failed, which the layers below say better.
        if layer.is::<hyper_util::client::legacy::Error>() && layer.source().is_some() {
            continue;
        }
        let layer = layer.to_string();
        if text.ends_with(&layer) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&layer);
    }
    text
}

/// The error and what lies below it. Unlike `source`, it does not jump over what an `io::Error` wraps.
pub(crate) fn layers<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&layer| {
        match layer
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => layer.source(),
        }
    })
}
