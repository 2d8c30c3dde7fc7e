//! Requests as they arrive, redirects, retries, timeouts and broken servers.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use courser_net::{Body, Call, CallError, Client, Redirects, Retry, Timeouts};
use courser_testkit::World;
use courser_testkit::pki::Authority;
use courser_testkit::server::{FakeServer, Reply};
use http::Method;
use url::Url;

use crate::{client, failure, get, no_trust, status, text, trusting};

fn plain() -> Client {
    client(no_trust())
}

fn call(method: Method, url: &str, body: Body) -> Call {
    Call {
        body,
        ..Call::new(method, Url::parse(url).unwrap())
    }
}

#[tokio::test]
async fn headers_are_those_of_the_fact_sheet() {
    let server = FakeServer::http(|_| Reply::json(201, &serde_json::json!({"id": 1})));
    let body = Body::Bytes("{}".into(), "application/json");
    let url = server
        .url("/api/v4/jobs/request?a=1")
        .replace("//", "//me:p%40ss@");
    let call = call(Method::POST, &url, body).secret_header("runner-token".parse().unwrap(), "t0k");
    let answer = plain().send(call).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/api/v4/jobs/request")
    );
    assert_eq!(request.query.as_deref(), Some("a=1"));
    assert_eq!(request.header("user-agent"), "courser-test 1");
    assert_eq!(request.header("runner-token"), "t0k");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("content-length"), "2");
    assert_eq!(request.header("accept-encoding"), "gzip");
    assert_eq!(request.header("authorization"), "Basic bWU6cEBzcw==");
    let id = request.header("x-request-id");
    assert!(
        id.len() == 32
            && id
                .chars()
                .all(|c| c.is_ascii_hexdigit() && !c.is_uppercase())
    );
    assert_eq!(answer.correlation_id, id);
    assert_eq!(answer.verified_chain_pem(), None);
    assert_eq!(text(answer).await, r#"{"id":1}"#);
}

#[tokio::test]
async fn methods_with_a_body_say_that_it_is_empty() {
    let server = FakeServer::http(|_| Reply::status(204));
    let table = [
        ("POST", "0"),
        ("PUT", "0"),
        ("PATCH", "0"),
        ("GET", ""),
        ("DELETE", ""),
    ];
    for (method, length) in table {
        let call = call(method.parse().unwrap(), &server.url("/"), Body::Empty);
        plain().send(call).await.unwrap();
        let request = server.requests().pop().unwrap();
        assert_eq!(request.header("content-length"), length, "{method}");
        assert_eq!(request.header("transfer-encoding"), "", "{method}");
    }
}

#[tokio::test]
async fn the_servers_request_id_is_the_correlation_id() {
    let server = FakeServer::http(|_| Reply::status(204).header("X-Request-Id", "abc"));
    assert_eq!(
        plain()
            .send(get(&server.url("/")))
            .await
            .unwrap()
            .correlation_id,
        "abc"
    );
}

#[tokio::test]
async fn five_attempts_carry_one_request_id_and_the_last_answer_stands() {
    let server = FakeServer::http(|_| Reply::text(503, "busy").header("Retry-After", "0"));
    let body = Body::Bytes("again".into(), "text/plain");
    let answer = plain()
        .send(call(Method::PUT, &server.url("/"), body))
        .await
        .unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.pushed_back);
    assert_eq!(text(answer).await, "busy");
    let requests = server.requests();
    assert_eq!(requests.len(), 5);
    for request in &requests {
        assert_eq!(request.text(), "again");
        assert_eq!(
            request.header("x-request-id"),
            requests[0].header("x-request-id")
        );
    }
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let count = AtomicUsize::new(0);
    let server = FakeServer::http(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(429).header("Retry-After", "1"),
        _ => Reply::status(201),
    });
    let start = Instant::now();
    let answer = plain().send(get(&server.url("/"))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.pushed_back), (201, true));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn network_errors_are_not_retried() {
    let server = FakeServer::http(|_| Reply::Close);
    let text = failure(&plain(), &server.url("/x")).await;
    assert!(text.starts_with(&format!(
        "couldn't execute GET against {}: ",
        server.url("/x")
    )));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let url = FakeServer::http(|_| Reply::Close).url("/");
    let text = failure(&plain(), &url).await;
    assert!(text.contains("dial tcp 127.0.0.1:"), "{text}");
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
}

#[tokio::test]
async fn tokens_do_not_follow_a_redirect_to_another_host() {
    let storage = FakeServer::http(|_| Reply::text(200, "bytes"));
    let target = storage.url("/object?signature=1");
    let gitlab = FakeServer::http(move |request| match request.path.as_str() {
        "/near" => Reply::redirect(302, "/far"),
        _ => Reply::redirect(307, &target),
    });
    let call = get(&gitlab.url("/near")).secret_header("job-token".parse().unwrap(), "t0k");
    let answer = plain().send(call).await.unwrap();
    assert_eq!(answer.url.as_str(), storage.url("/object?signature=1"));
    assert_eq!(text(answer).await, "bytes");
    let asked: Vec<_> = gitlab
        .requests()
        .iter()
        .map(|r| r.header("job-token").to_owned())
        .collect();
    assert_eq!(asked, ["t0k", "t0k"]);
    let request = &storage.requests()[0];
    assert_eq!(request.header("job-token"), "");
    assert_eq!(request.header("user-agent"), "courser-test 1");
    assert_eq!(
        request.header("x-request-id"),
        gitlab.requests()[0].header("x-request-id")
    );
}

#[tokio::test]
async fn redirects_keep_or_drop_method_and_body() {
    for (code, method, body) in [
        (302, "GET", ""),
        (307, "POST", "content"),
        (308, "POST", "content"),
    ] {
        let server = FakeServer::http(move |request| match request.path.as_str() {
            "/a" => Reply::redirect(code, "/b"),
            _ => Reply::status(200),
        });
        let content = Body::Bytes("content".into(), "text/plain");
        plain()
            .send(call(Method::POST, &server.url("/a"), content))
            .await
            .unwrap();
        let request = server.requests()[1].clone();
        assert_eq!(
            (request.method.as_str(), request.text().as_str()),
            (method, body),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_body_is_not_redirected_from_https_to_http() {
    let root = Authority::root("Root").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    for code in [307, 308, 302] {
        let in_the_clear = FakeServer::http(|_| Reply::status(200));
        let target = in_the_clear.url("/trace?signature=s3cr");
        let server = FakeServer::https(&leaf, move |_| Reply::redirect(code, &target));
        let client = client(trusting(root.certificate_pem()));
        let send = async |body| {
            let call = call(Method::POST, &server.url("/job?token=s3cr"), body)
                .secret_header("job-token".parse().unwrap(), "t0k");
            client.send(call).await
        };
        let sent = send(Body::Bytes("output".into(), "text/plain")).await;
        if code == 302 {
            assert_eq!(sent.unwrap().status, 200, "goes on as a GET without body");
        } else {
            let text = sent.map(drop).unwrap_err().to_string();
            for part in [server.url("/job"), in_the_clear.url("/trace")] {
                assert!(text.contains(&part), "{text}");
            }
            assert!(text.contains("redirect to https"), "{text}");
            assert!(!text.contains("s3cr"), "{text}");
            assert_eq!(in_the_clear.requests().len(), 0);
        }
        assert_eq!(send(Body::Empty).await.unwrap().status, 200, "{code}");
        for request in in_the_clear.requests() {
            assert_eq!(request.header("job-token"), "", "{code}");
            assert_eq!(request.text(), "", "{code}");
        }
    }
}

#[tokio::test]
async fn ten_redirects_are_followed_and_no_more() {
    let server = FakeServer::http(|_| Reply::redirect(302, "/again"));
    let text = failure(&plain(), &server.url("/")).await;
    assert!(text.contains("stopped after 10 redirects"), "{text}");
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn a_redirect_can_be_asked_for() {
    let server = FakeServer::http(|_| Reply::redirect(302, "https://storage.test/x"));
    let call = Call {
        redirects: Redirects::Return,
        ..get(&server.url("/"))
    };
    let answer = plain().send(call).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.headers["location"], "https://storage.test/x");
}

#[tokio::test]
async fn files_are_sent_with_their_length_at_each_attempt() {
    let world = World::new();
    let content = vec![b'x'; 300_000];
    let path = world.write("artifacts.zip", &content);
    let count = AtomicUsize::new(0);
    let server = FakeServer::http(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(500),
        _ => Reply::status(201),
    });
    let body = Body::File {
        path: path.clone(),
        content_type: "application/octet-stream",
    };
    let client = plain();
    client
        .send(call(Method::PUT, &server.url("/"), body))
        .await
        .unwrap();
    for request in server.requests() {
        assert_eq!(request.header("content-length"), "300000");
        assert_eq!(request.header("content-type"), "application/octet-stream");
        assert!(request.body == content);
    }
    let form = Body::MultipartFile {
        file_name: "default.zip".to_owned(),
        path,
        growth: None,
    };
    client
        .send(call(Method::POST, &server.url("/"), form))
        .await
        .unwrap();
    let request = server.requests().pop().unwrap();
    assert_eq!(
        request.header("content-length"),
        request.body.len().to_string()
    );
    let boundary = request
        .header("content-type")
        .strip_prefix("multipart/form-data; boundary=");
    let text = request.text();
    let head = format!(
        "--{}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"default.zip\"\r\n",
        boundary.unwrap()
    );
    assert!(text.starts_with(&head), "{}", &text[..300]);
}

#[tokio::test]
async fn gzip_is_undone_unless_refused() {
    let plain_text = "word ".repeat(100_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain_text.as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    let body = compressed.clone();
    let server = FakeServer::http(move |_| {
        Reply::with("text/plain", 200, body.clone()).header("Content-Encoding", "gzip")
    });
    let answer = plain().send(get(&server.url("/"))).await.unwrap();
    assert!(!answer.headers.contains_key("content-encoding"));
    assert!(text(answer).await == plain_text);
    let as_stored = Call {
        accept_gzip: false,
        ..get(&server.url("/"))
    };
    let answer = plain().send(as_stored).await.unwrap();
    assert!(answer.bytes(1 << 20).await.unwrap() == compressed);
    assert_eq!(server.requests()[1].header("accept-encoding"), "");
    let half = compressed[..compressed.len() / 2].to_vec();
    let cut = FakeServer::http(move |_| {
        Reply::with("text/plain", 200, half.clone()).header("Content-Encoding", "gzip")
    });
    let answer = plain().send(get(&cut.url("/"))).await.unwrap();
    let error = answer.bytes(1 << 20).await.unwrap_err().to_string();
    assert!(
        error.contains("gzip: "),
        "a cut stream is no short text: {error}"
    );
    let bounded = plain().send(get(&server.url("/"))).await.unwrap();
    let error = bounded.bytes(1000).await.unwrap_err();
    assert!(
        matches!(error, CallError::TooLarge { limit: 1000, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_stalled_server_runs_into_the_timeouts() {
    let server = FakeServer::http(|_| Reply::Stall);
    let patience = |response_header, total| Call {
        timeouts: Timeouts {
            response_header: Duration::from_millis(response_header),
            total: Duration::from_millis(total),
        },
        ..get(&server.url("/"))
    };
    for (call, expected) in [
        (patience(50, 60_000), "timeout awaiting response headers"),
        (patience(60_000, 50), "context deadline exceeded"),
    ] {
        let error = plain().send(call).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_in_the_handshake_is_given_ten_seconds() {
    // The kernel accepts for it; nobody ever reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let start = tokio::time::Instant::now();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let text = failure(&plain(), &url).await;
    assert!(text.contains("TLS handshake timeout"), "{text}");
    let waited = start.elapsed();
    assert!(
        waited.abs_diff(Duration::from_secs(10)) < Duration::from_millis(100),
        "{waited:?}"
    );
}

#[tokio::test]
async fn broken_answers_are_network_errors() {
    let garbage = FakeServer::http(|_| Reply::Raw(b"\x16\x03\x01 not HTTP\r\n\r\n".to_vec()));
    failure(&plain(), &garbage.url("/")).await;
    let short = FakeServer::http(|_| Reply::CutShort {
        status: 200,
        promised: 100,
        body: b"half".to_vec(),
    });
    let answer = plain().send(get(&short.url("/"))).await.unwrap();
    let error = answer.bytes(1000).await.unwrap_err();
    assert!(matches!(error, CallError::Network { .. }), "{error}");
}

#[tokio::test]
async fn https_to_a_plain_server_is_named() {
    let server = FakeServer::http(|_| Reply::status(200));
    let url = server.url("/").replace("http:", "https:");
    let text = failure(&plain(), &url).await;
    assert!(
        text.contains("first record does not look like a TLS handshake"),
        "{text}"
    );
}

#[tokio::test]
async fn only_http_and_https_are_called() {
    let error = plain().send(get("ftp://h.test/")).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "client error: only http or https scheme supported"
    );
}

#[tokio::test]
async fn one_attempt_when_retries_are_off() {
    let server = FakeServer::http(|_| Reply::status(500));
    let call = Call {
        retry: Retry::Never,
        ..get(&server.url("/"))
    };
    assert_eq!(plain().send(call).await.unwrap().status, 500);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn old_idle_connections_are_closed() {
    let root = Authority::root("Root").issue();
    let (first, second) = (
        root.server(&["127.0.0.1"]).issue(),
        root.server(&["127.0.0.1"]).issue(),
    );
    let server = FakeServer::https(&first, |_| Reply::status(204));
    let mut settings = crate::settings(trusting(root.certificate_pem()));
    settings.connection_max_age = Duration::from_nanos(1);
    let young = Client::new(settings);
    let old = client(trusting(root.certificate_pem()));
    for client in [&young, &old] {
        assert_eq!(status(client, &server.url("/")).await, 204);
    }
    server.present(&second);
    let chain = async |client: &Client| {
        let answer = client.send(get(&server.url("/"))).await.unwrap();
        answer.verified_chain_pem().unwrap()
    };
    let leaf = |issued: &courser_testkit::pki::Issued| {
        issued
            .certificate_pem()
            .replace("\r\n", "\n")
            .trim_end()
            .to_owned()
    };
    assert!(chain(&young).await.starts_with(&leaf(&second)));
    assert!(chain(&old).await.starts_with(&leaf(&first)));
}
