use proptest::prelude::*;

use super::*;

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

fn pairs(text: &[(&str, &str)]) -> Vec<(String, String)> {
    text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn signed(text: &[(&str, &str)], sign_type: SignType) -> Vec<(String, String)> {
    let mut message = pairs(text);
    if sign_type == SignType::HmacSha256 {
        message.push(("sign_type".into(), sign_type.to_string()));
    }
    let sign = sign(&message, KEY, sign_type);
    message.push(("sign".into(), sign));
    message
}

#[test]
fn published_vectors() {
    for (text, expected) in [
        (
            &[("merchat_id", "10001"), ("out_trade_id", "MDC001"), ("title", "iphone X")][..],
            "68739BCFD4344894FA9BDDDEE915992C",
        ),
        (
            &[("merchant_id", "10001"), ("out_trade_id", "MDC001"), ("title", "iphone X")],
            "EFCD3937E838A5DB80129ECC84764B1D",
        ),
        (
            &[
                ("title", "iPhone X"),
                ("merchant_id", "10001"),
                ("out_trade_id", "E201809123"),
                ("price_currency", "CNY"),
                ("price_amount", "10.0001"),
                ("notify_url", "http://example.com/notify"),
                ("callback_url", "http://example.com/"),
                ("attach", "additional info"),
            ],
            "09272BCD5FE6F3E71A9D13F9DC7D1642",
        ),
        (
            &[
                ("merchant_id", "10001"),
                ("price_currency", "USD"),
                ("out_trade_id", "42"),
                ("price_amount", "10.0000"),
                ("attach", ""),
                ("sign", "ignored"),
            ],
            "D83C3A40890F4498B2E219233B7EA2C6",
        ),
        (
            &[("merchant_id", "10001"), ("transaction_id", "20181006113100525110")],
            "70C1C2D504BB90F4FC62362536A0037A",
        ),
    ] {
        assert_eq!(sign(&pairs(text), KEY, SignType::Md5), expected, "{text:?}");
    }
}

#[test]
fn empty_values_are_not_signed_but_zero_is() {
    let sign = |text: &[(&str, &str)]| sign(&pairs(text), KEY, SignType::Md5);
    assert_eq!(sign(&[("a", "1"), ("b", "")]), sign(&[("a", "1")]));
    assert_ne!(sign(&[("a", "1"), ("b", "0")]), sign(&[("a", "1")]));
    assert_ne!(sign(&[("a", "10")]), sign(&[("a", "10.0")]), "values are never re-formatted");
}

#[test]
fn keys_sort_by_bytes() {
    assert_eq!(
        signed_text(&pairs(&[("b", "1"), ("a_b", "2"), ("aB", "3"), ("B", "4")])),
        "B=4&aB=3&a_b=2&b=1"
    );
}

#[test]
fn both_ways_of_signing_verify_and_nothing_else() {
    let text = [("merchant_id", "10001"), ("title", "茶 & é")];
    for sign_type in [SignType::Md5, SignType::HmacSha256] {
        let message = signed(&text, sign_type);
        assert_eq!(verify(&message, KEY, false), Ok(sign_type));
        assert_eq!(verify(&message, "other", false), Err(SignError::Wrong));
        let mut changed = message.clone();
        changed[0].1 = "10002".into();
        assert_eq!(verify(&changed, KEY, false), Err(SignError::Wrong));
        let mut lower = message.clone();
        for (_, value) in lower.iter_mut().filter(|(key, _)| key == "sign") {
            *value = value.to_ascii_lowercase();
        }
        assert_eq!(verify(&lower, KEY, false), Err(SignError::Wrong));
    }
    assert_eq!(verify(&signed(&text, SignType::HmacSha256), KEY, true), Ok(SignType::HmacSha256));
    assert_eq!(verify(&signed(&text, SignType::Md5), KEY, true), Err(SignError::HmacRequired));
    assert_eq!(verify(&pairs(&text), KEY, false), Err(SignError::Missing));
    let mut unknown = signed(&text, SignType::Md5);
    unknown.push(("sign_type".into(), "SHA1".into()));
    assert_eq!(verify(&unknown, KEY, false), Err(SignError::UnknownType("SHA1".into())));
}

#[test]
fn the_hmac_is_over_the_text_with_the_key() {
    // HMAC-SHA256 of "a=1&sign_type=HMAC-SHA256&key=k", keyed with "k".
    let message = pairs(&[("a", "1"), ("sign_type", "HMAC-SHA256")]);
    let mac = Hmac::<Sha256>::new_from_slice(b"k").unwrap();
    let expected = mac.chain_update(b"a=1&sign_type=HMAC-SHA256&key=k").finalize().into_bytes();
    assert_eq!(sign(&message, "k", SignType::HmacSha256), const_hex::encode_upper(expected));
}

#[test]
fn a_last_value_that_ends_in_an_ampersand_is_accepted_in_both_forms() {
    let trimmed = sign(&pairs(&[("a", "1"), ("title", "salt")]), KEY, SignType::Md5);
    let whole = sign(&pairs(&[("a", "1"), ("title", "salt&")]), KEY, SignType::Md5);
    for form in [&trimmed, &whole] {
        let message = pairs(&[("a", "1"), ("title", "salt&"), ("sign", form)]);
        assert_eq!(verify(&message, KEY, false), Ok(SignType::Md5));
    }
    let first = pairs(&[
        ("a", "1&"),
        ("title", "x"),
        ("sign", &sign(&pairs(&[("a", "1"), ("title", "x")]), KEY, SignType::Md5)),
    ]);
    assert_eq!(verify(&first, KEY, false), Err(SignError::Wrong), "only at the end");
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let smuggled = |field: &str, inner: &str| {
        Err(RequestFault::Smuggled { field: field.to_owned(), inner: inner.to_owned() })
    };
    for (name, text, expected) in [
        ("good", &[("merchant_id", "1"), ("title", "salt & pepper = 2")][..], Ok(())),
        ("a field of the shop's own", &[("title", "a&colour=red")], Ok(())),
        ("an address's own query", &[("notify_url", "http://a/?x=1&status=2&pay_amount=3")], Ok(())),
        ("one alone", &[("status", "paid")], Ok(())),
        (
            "repeated",
            &[("title", "a"), ("attach", "b"), ("title", "a")],
            Err(RequestFault::Repeated("title".into())),
        ),
        ("in title", &[("title", "a&price_amount=1")], smuggled("title", "price_amount")),
        ("in attach", &[("attach", "&b&title=x")], smuggled("attach", "title")),
        ("in out_trade_id", &[("out_trade_id", "1&sign_type=")], smuggled("out_trade_id", "sign_type")),
        ("the key itself", &[("title", "a&key=x")], smuggled("title", "key")),
        ("a notification", &[("status", "paid"), ("pay_amount", "1")], Err(RequestFault::Notification)),
        ("one without values", &[("status", ""), ("pay_amount", "")], Err(RequestFault::Notification)),
        ("one joined up", &[("paid_value", "1&pay_amount=2&status=paid")], Err(RequestFault::Notification)),
        (
            "one half joined up",
            &[("status", "paid"), ("x", "1&pay_amount=2")],
            Err(RequestFault::Notification),
        ),
    ] {
        assert_eq!(check_request(&pairs(text)), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn order_does_not_matter_and_every_value_does(
        map in prop::collection::btree_map("[a-z_]{1,8}", "\\PC{1,12}", 1..8),
        turn in 0_usize..8,
        at in 0_usize..8,
    ) {
        let mut message: Vec<_> = map.into_iter().filter(|(key, _)| !key.starts_with("sign")).collect();
        prop_assume!(!message.is_empty());
        let first = sign(&message, KEY, SignType::Md5);
        let (turn, at) = (turn % message.len(), at % message.len());
        message.rotate_left(turn);
        prop_assert_eq!(&sign(&message, KEY, SignType::Md5), &first);
        message[at].1.push('x');
        prop_assert_ne!(&sign(&message, KEY, SignType::Md5), &first);
    }
}
