use super::*;
use crate::testing::settings;

fn read(json: &str, schemes: &[&str]) -> Result<Vec<Endpoint>, PortError> {
    endpoints(&settings(&format!(r#"{{"id": "btc", "kind": "bitcoin", "rpc": {json}}}"#)), schemes)
}

#[test]
fn endpoints_are_named_without_what_may_be_secret() {
    for (url, label, authority, loopback) in [
        ("http://127.0.0.1:8332", "http://127.0.0.1:8332", "127.0.0.1:8332", true),
        ("http://localhost:1/", "http://localhost:1", "localhost:1", true),
        ("http://[::1]:8332", "http://[::1]:8332", "[::1]:8332", true),
        (
            "https://mainnet.example/v3/0123456789abcdef?key=k",
            "https://mainnet.example",
            "mainnet.example:443",
            false,
        ),
    ] {
        let list = read(&format!(r#"[{{"url": "{url}"}}]"#), &["http", "https"]).unwrap();
        assert_eq!((list[0].label(), list[0].is_loopback()), (label, loopback), "{url}");
        assert_eq!((format!("{:?}", list[0]).as_str(), list[0].authority()), (label, authority));
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (json, told) in [
        ("[]", r#"chain "btc": rpc names no node"#),
        (
            r#"[{"url": "127.0.0.1:8332"}]"#,
            r#"chain "btc": rpc[0]: url is not a URL (relative URL without a base)"#,
        ),
        (
            r#"[{"url": "http://a"}, {"url": "https://a"}]"#,
            r#"chain "btc": rpc[1]: url begins with https://, not with http://"#,
        ),
        (
            r#"[{"url": "http://u:geheim@a"}]"#,
            r#"chain "btc": rpc[0]: url holds a user or password; they belong into user and password"#,
        ),
        (r#"[{"url": "http://a", "password": "p"}]"#, r#"chain "btc": rpc[0]: password without user"#),
        (
            r#"[{"url": "http://a", "user": "u", "cookie": "c"}]"#,
            r#"chain "btc": rpc[0]: cookie stands beside user or password; it replaces both"#,
        ),
        (r#"[{"url": "http://a", "user": "u:v"}]"#, r#"chain "btc": rpc[0]: user contains a colon"#),
    ] {
        let error = read(json, &["http"]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_transient()), (told, false));
    }
}
