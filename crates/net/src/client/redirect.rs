//! What the next request is after a redirect (`runner-protocol.md` 1.4).

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use url::Url;

/// Redirects followed for one call.
pub(super) const LIMIT: usize = 10;

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) keeps_body: bool,
}

/// Headers that may follow to another origin. Upstream's rule drops a few known ones and so hands
/// `JOB-TOKEN` to object stores; a list of the harmless ones forgets nothing.
const HARMLESS: [HeaderName; 7] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::RANGE,
    header::USER_AGENT,
    HeaderName::from_static("x-request-id"),
];

/// The next request, if the answer is a redirect that says where to. An unusable target is an error.
pub(super) fn next(
    status: StatusCode,
    answer: &HeaderMap,
    method: &Method,
    url: &Url,
) -> Result<Option<Redirect>, String> {
    let keeps_method = match status.as_u16() {
        301..=303 => false,
        307 | 308 => true,
        _ => return Ok(None),
    };
    let Some(location) = answer.get(header::LOCATION) else {
        return Ok(None);
    };
    let target = std::str::from_utf8(location.as_bytes())
        .ok()
        .and_then(|location| url.join(location).ok())
        .ok_or("the Location of the redirect is no URL")?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(format!(
            "redirected to the unsupported scheme {:?}",
            target.scheme()
        ));
    }
    let keeps_method = keeps_method || matches!(*method, Method::GET | Method::HEAD);
    Ok(Some(Redirect {
        url: target,
        method: if keeps_method {
            method.clone()
        } else {
            Method::GET
        },
        keeps_body: keeps_method,
    }))
}

/// Whether what was encrypted so far would go on in the clear.
pub(super) fn is_downgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// Removes what must not follow from one URL to the next.
pub(super) fn strip(headers: &mut HeaderMap, from: &Url, to: &Url, keeps_body: bool) {
    if !keeps_body {
        headers.remove(header::CONTENT_TYPE);
    }
    if from.origin() != to.origin() {
        let kept = HARMLESS
            .iter()
            .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
            .collect();
        *headers = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_follow_go() {
        let table = [
            (301, "POST", Some(("GET", false))),
            (302, "PUT", Some(("GET", false))),
            (303, "PATCH", Some(("GET", false))),
            (303, "HEAD", Some(("HEAD", true))),
            (302, "GET", Some(("GET", true))),
            (307, "POST", Some(("POST", true))),
            (308, "PUT", Some(("PUT", true))),
            (300, "GET", None),
            (304, "GET", None),
            (200, "GET", None),
        ];
        let url = Url::parse("https://a.example/api/x?y=1").unwrap();
        let location = HeaderMap::from_iter([(header::LOCATION, "../z".parse().unwrap())]);
        for (code, method, expected) in table {
            let status = StatusCode::from_u16(code).unwrap();
            let method: Method = method.parse().unwrap();
            let found = next(status, &location, &method, &url).unwrap();
            let expected = expected.map(|(method, keeps_body)| Redirect {
                url: Url::parse("https://a.example/z").unwrap(),
                method: method.parse().unwrap(),
                keeps_body,
            });
            assert_eq!(found, expected, "{code} {method}");
        }
    }

    #[test]
    fn a_redirect_without_target_is_an_answer_and_a_foreign_scheme_an_error() {
        let url = Url::parse("https://a.example/").unwrap();
        let none = next(StatusCode::FOUND, &HeaderMap::new(), &Method::GET, &url);
        assert_eq!(none, Ok(None));
        let file =
            HeaderMap::from_iter([(header::LOCATION, "file:///etc/passwd".parse().unwrap())]);
        let refused = next(StatusCode::FOUND, &file, &Method::GET, &url);
        assert!(refused.unwrap_err().contains("unsupported scheme"));
    }

    #[test]
    fn tokens_stay_with_their_origin() {
        let headers = || {
            HeaderMap::from_iter([
                ("job-token".parse().unwrap(), "t".parse().unwrap()),
                (header::AUTHORIZATION, "t".parse().unwrap()),
                ("x-vault-token".parse().unwrap(), "t".parse().unwrap()),
                (header::ACCEPT, "a".parse().unwrap()),
            ])
        };
        let from = Url::parse("https://a.example/1").unwrap();
        let kept = |to: &str| {
            let mut headers = headers();
            strip(&mut headers, &from, &Url::parse(to).unwrap(), true);
            headers.len()
        };
        assert_eq!(kept("https://a.example:443/2"), 4);
        assert_eq!(kept("https://a.example:444/2"), 1);
        assert_eq!(kept("http://a.example/2"), 1);
        assert_eq!(kept("https://b.example/2"), 1);
    }
}
