use super::*;

fn decoded(text: &str, length: usize) -> Option<Vec<u8>> {
    let mut bytes = format!("{{\"result\":\"{text}\",\"id\":0}}").into_bytes();
    decode_in_place(&mut bytes, (11, length)).ok().map(|()| bytes)
}

#[test]
fn hexadecimal_digits_are_decoded_where_they_stand() {
    for bytes in [0, 1, 2, 11, 4095, 4096, 4097, 8192, 100_001] {
        let expected: Vec<u8> = (0..bytes).map(|n: usize| u8::try_from(n * 7 % 251).unwrap()).collect();
        let text = const_hex::encode(&expected);
        assert_eq!(decoded(&text, text.len()), Some(expected), "{bytes}");
        assert_eq!(decoded(&text.to_uppercase(), text.len()).map(|bytes| bytes.len()), Some(bytes));
    }
    for (name, text) in [("odd", "abc"), ("no digit", "0g"), ("late", &format!("{}0x", "00".repeat(9_000)))] {
        assert_eq!(decoded(text, text.len()), None, "{name}");
    }
    assert_eq!(decoded("00", 100), None, "more than there is");
}

#[test]
fn the_digits_are_found_in_the_answer() {
    let bytes = br#" {"id":0, "error":null, "result" : "00ff" }"#;
    let answer: Answer<'_> = serde_json::from_slice(bytes).unwrap();
    let (start, length) = span(bytes, answer.result.unwrap());
    assert_eq!(&bytes[start..start + length], b"00ff");
}
