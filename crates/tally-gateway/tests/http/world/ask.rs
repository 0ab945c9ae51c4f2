//! Requests without a listener.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response};
use serde_json::Value;
use tower::ServiceExt;

use super::{Fields, TOKEN, World};

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A text member of the answer.
    pub(crate) fn text_of(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_else(|| panic!("no {member}: {self:?}")).to_owned()
    }

    /// Checks that this is exactly a documented error, and answers its message.
    pub(crate) fn refused(&self, status: u16, reason: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        let members = body.as_object().unwrap();
        assert_eq!(members.len(), 4, "{self:?}");
        assert_eq!(
            (&body["error"], &body["reason"]),
            (&Value::from(reason), &Value::from(reason)),
            "{self:?}"
        );
        assert_eq!(body["message"], body["msg"]);
        assert_eq!(self.header("content-type"), "application/json");
        self.text_of("message")
    }
}

/// One request.
pub(crate) async fn ask(routes: &Router, request: Request<Body>) -> Answer {
    let response: Response<Body> = routes.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 64 * 1024 * 1024).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

pub(crate) async fn get(routes: &Router, path: &str) -> Answer {
    ask(routes, Request::get(path).body(Body::empty()).unwrap()).await
}

/// A POST; an empty `kind` sends no content type.
pub(crate) async fn post(routes: &Router, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path);
    let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
    ask(routes, request.body(body.into()).unwrap()).await
}

impl World {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(&self.here.public, path).await
    }

    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        post(&self.here.public, path, kind, body).await
    }

    /// A form as it is, signed before or not at all.
    pub(crate) async fn send(&self, path: &str, fields: &Fields) -> Answer {
        self.post(path, FORM, fields.form()).await
    }

    /// A form, signed by the shop.
    pub(crate) async fn call(&self, path: &str, fields: Fields) -> Answer {
        self.send(path, &fields.signed(self.merchant, &self.key)).await
    }

    /// Creates an order of 65 dollars and answers its id.
    pub(crate) async fn create(&self, own_id: &str) -> String {
        let answer = self.call("/order/create", Fields::order(own_id)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text_of("transaction_id")
    }

    pub(crate) async fn checkout(&self, order: &str, currency: &str) -> Answer {
        let fields = Fields::of(&[("transaction_id", order), ("pay_currency", currency)]);
        self.call("/order/checkout", fields).await
    }

    pub(crate) async fn query(&self, order: &str) -> Answer {
        self.call("/order/query", Fields::of(&[("transaction_id", order)])).await
    }

    /// A call of the admin API with its token; null sends no body.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        let (kind, body) = match body {
            Value::Null => ("", String::new()),
            body => ("application/json", body.to_string()),
        };
        self.admin_raw(method, path, kind, body).await
    }

    pub(crate) async fn admin_raw(&self, method: &str, path: &str, kind: &str, body: String) -> Answer {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
        ask(&self.here.admin, request.body(Body::from(body)).unwrap()).await
    }
}
