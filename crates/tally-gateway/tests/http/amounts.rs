//! Amounts: read exactly or refused, in forms and in JSON, and written plainly.

use crate::world::{Fields, World};

#[tokio::test]
async fn amounts_are_exact_or_refused() {
    let world = World::new().await;
    for (number, (given, written)) in [
        ("10", "10"),
        ("10.0000", "10"),
        ("0.00000001", "0.00000001"),
        ("1e2", "100"),
        ("1.50E-3", "0.0015"),
        ("9999999999999999999999999999", "9999999999999999999999999999"),
        ("0.1234567890123456789012345678", "0.1234567890123456789012345678"),
    ]
    .into_iter()
    .enumerate()
    {
        let fields = |kind: &str| Fields::order(&format!("{kind}{number}")).set("price_amount", given);
        let form = world.call("/order/create", fields("F")).await;
        let json = fields("J").signed(world.merchant, &world.key).json(&["price_amount", "merchant_id"]);
        let json = world.post("/order/create", "application/json", json).await;
        for answer in [form, json] {
            assert_eq!(answer.status, 200, "{given}: {answer:?}");
            let member = format!("\"price_amount\":{written},");
            assert!(answer.text.contains(&member), "{given}: {}", answer.text);
        }
    }
    assert_eq!(world.count("order.created"), 14);
}

#[tokio::test]
async fn amounts_that_are_none_are_refused() {
    let world = World::new().await;
    for given in [
        "0",
        "0.000",
        "-1",
        "-0",
        "1e999",
        "1e-999",
        "1e29",
        "NaN",
        "Infinity",
        "inf",
        "+1",
        "1,5",
        "1 000",
        " 1",
        "1_000",
        "0x10",
        ".5",
        "１",
        "12345678901234567890123456789",
        "1.2345678901234567890123456789",
        "79228162514264337593543950336",
        "1000000000000000000000000000000000000000000000000000000000000000000000",
    ] {
        let answer = world.call("/order/create", Fields::order("E1").set("price_amount", given)).await;
        let message = answer.refused(422, "OrderIsNotValid");
        assert!(message.starts_with("price_amount"), "{given}: {message}");
    }
    // As bare numbers of JSON, those that are such.
    for given in ["0", "-1", "1e999", "12345678901234567890123456789", "-0.0", "true", "null"] {
        let fields = Fields::order("E1").set("price_amount", if given == "null" { "" } else { given });
        let fields = fields.signed(world.merchant, &world.key).set("price_amount", given);
        let answer = world.post("/order/create", "application/json", fields.json(&["price_amount"])).await;
        let message = answer.refused(422, "OrderIsNotValid");
        assert!(message.starts_with("price_amount"), "{given}: {message}");
    }
    assert_eq!(world.count("order.created"), 0);
}
