//! The payment page.

use tally_types::Span;

use crate::world::{FORM, Fields, World};

#[tokio::test]
async fn the_page_shows_coins_and_escapes_what_shops_say() {
    let world = World::new().await;
    let fields = Fields::order("E1")
        .set("title", "<script>alert(1)</script> \"'")
        .set("attach", "<img src=x onerror=alert(2)>")
        .set("callback_url", "https://shop.example/?a=\"><script>alert(3)</script>");
    let answer = world.call("/order/create", fields).await;
    let id = answer.text_of("transaction_id");
    let page = world.get(&format!("/order/{id}")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(!page.text.contains("<script>alert") && !page.text.contains("<img"), "{}", page.text);
    assert!(page.text.contains("&lt;script&gt;alert(1)") && page.text.contains("Tea &amp; Co"));
    for coin in ["BTC", "LTC", "BCH", "ETH", "USDT"] {
        assert!(page.text.contains(&format!("value=\"{coin}\" >")), "{coin}: {}", page.text);
    }
    assert!(page.text.contains("0.8125") && !page.text.contains("data-sandbox"));
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(
        (page.header("x-content-type-options"), page.header("cache-control")),
        ("nosniff", "no-store")
    );
    // Nothing on the page needs what the policy forbids.
    assert!(!page.text.contains(" style=") && !page.text.contains("<style"), "{}", page.text);
    for (path, kind) in [("/assets/checkout.css", "text/css"), ("/assets/checkout.js", "text/javascript")] {
        let asset = world.get(path).await;
        assert!(asset.status == 200 && asset.header("content-type").starts_with(kind));
    }
}

#[tokio::test]
async fn a_payer_chooses_a_coin_and_sees_where_to_pay() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let choose = format!("/order/{id}/checkout");
    let chosen = world.post(&choose, FORM, "pay_currency=BTC").await;
    assert_eq!((chosen.status, chosen.header("location")), (303, format!("/order/{id}").as_str()));
    let page = world.get(&format!("/order/{id}")).await;
    let address = world.order(&id).await.latest_quote().unwrap().terms().addresses[0].clone();
    assert!(page.text.contains(&format!("data-address=\"{address}\"")), "{}", page.text);
    assert!(page.text.contains("<svg") && page.text.contains("data-expires=\"1750001200\""));
    assert!(!page.text.contains(" style="), "{}", page.text);
    // The coin chosen is no longer among the choices; another can still be chosen.
    assert!(!page.text.contains("value=\"BTC\"") && page.text.contains("value=\"LTC\""));
    let again = world.post(&choose, FORM, "pay_currency=BTC").await;
    assert_eq!((again.status, world.count("order.quoted")), (303, 1));
    let panel = world.get(&format!("/order/{id}/panel")).await;
    assert!(panel.status == 200 && panel.text.contains(&address) && !panel.text.contains("<html"));
    // What is left after a part is on the page, and money that arrived too.
    world.pay(&id, 60_000).await;
    let page = world.get(&format!("/order/{id}")).await;
    assert!(page.text.contains("data-amount=\"0.0004\"") && page.text.contains("Received 0.0006 BTC"));
    assert!(page.text.contains("the rest") && !page.text.contains("0.8125"), "{}", page.text);
    let paid = world.pay(&id, 40_000).await;
    let page = world.get(&format!("/order/{id}")).await;
    assert!(page.text.contains("data-status=\"paid\"") && !page.text.contains("<svg"));
    world.mine(&paid).await;
}

#[tokio::test]
async fn coins_that_cannot_be_paid_now_are_greyed_out() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.clock.advance(Span::from_secs(70));
    world.observe("ltc");
    world.folded().await;
    world.rates.send_replace(std::sync::Arc::new(crate::world::table(&*world.clock)));
    let page = world.get(&format!("/order/{id}")).await.text;
    assert!(page.contains("value=\"BTC\" disabled") && page.contains("not available right now"), "{page}");
    assert!(page.contains("value=\"LTC\" >"), "{page}");
    // Whoever chooses it all the same is told.
    let refused = world.post(&format!("/order/{id}/checkout"), FORM, "pay_currency=BTC").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "30"));
    assert!(refused.text.contains("role=\"alert\"") && refused.text.contains("value=\"LTC\""));
    // Without rates everything is.
    world.clock.advance(Span::from_secs(120));
    for chain in ["btc", "ltc", "bch", "eth"] {
        world.observe(chain);
    }
    world.folded().await;
    let page = world.get(&format!("/order/{id}")).await.text;
    assert_eq!(page.matches("no rate right now").count(), 5, "{page}");
    // And a price that is dust in one coin.
    world.wait(Span::from_secs(1)).await;
    let small = world.call("/order/create", Fields::order("E2").set("price_amount", "0.3")).await;
    let page = world.get(&format!("/order/{}", small.text_of("transaction_id"))).await.text;
    assert!(page.contains("value=\"BTC\" disabled") && page.contains("too little for this coin"), "{page}");
}

#[tokio::test]
async fn what_is_wrong_is_a_page_too() {
    let world = World::new().await;
    let id = world.create("E1").await;
    for (name, path, status) in [
        ("no order", "/order/20250101000000123456789012".to_owned(), 404),
        ("no id", "/order/nonsense".to_owned(), 404),
        ("an odd id", "/order/%3Cscript%3E".to_owned(), 404),
        ("another's panel", "/order/1/panel".to_owned(), 404),
        ("its own", format!("/order/{id}"), 200),
        ("its own, written otherwise", format!("/order/%3{}{}", &id[..1], &id[1..]), 200),
    ] {
        let page = world.get(&path).await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (status, "text/html; charset=utf-8"),
            "{name}"
        );
        assert!(page.header("content-security-policy").contains("default-src 'none'"), "{name}");
        assert!(!page.text.contains("<script>"), "{name}");
    }
    let choose = format!("/order/{id}/checkout");
    for (name, body, status) in [
        ("nothing chosen", String::new(), 422),
        ("no currency", "pay_currency=%00".to_owned(), 422),
        ("not taken here", "pay_currency=DOGE".to_owned(), 422),
        ("far too much", format!("pay_currency=BTC&x={}", "y".repeat(100_000)), 400),
    ] {
        let page = world.post(&choose, FORM, body).await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (status, "text/html; charset=utf-8"),
            "{name}"
        );
    }
    // An order that takes no quote any more says why, though there is nothing left to choose.
    world.wait(Span::from_secs(90_000)).await;
    let over = world.post(&choose, FORM, "pay_currency=BTC").await;
    assert!(over.status == 422 && over.text.contains("the order has expired"), "{}", over.text);
    assert_eq!(world.count("order.quoted"), 0);
}
