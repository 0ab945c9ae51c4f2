//! Settings and fake nodes for this crate's tests.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tally_matcher::WatchSet;
use tally_ports::SharedWatch;

use crate::ChainSettings;

/// Settings from JSON.
pub(crate) fn settings(json: &str) -> ChainSettings {
    serde_json::from_str(json).unwrap()
}

/// A watch set with these scripts, in hexadecimal.
pub(crate) fn watching(scripts: &[&str]) -> SharedWatch {
    let mut set = WatchSet::new(7);
    for script in scripts {
        set.insert_script(&const_hex::decode(script).unwrap()).unwrap();
    }
    Arc::new(RwLock::new(set))
}

/// What a fake node says to one call.
pub(crate) type Say = Result<Value, (i64, &'static str)>;

type Script = Box<dyn FnMut(&[Value]) -> Say + Send>;

/// A node on loopback that says what it is told to say. It lives as long as the test.
pub(crate) struct FakeNode {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    methods: HashMap<&'static str, Script>,
    /// What is answered to a GET.
    pages: HashMap<String, Vec<u8>>,
    asked: Vec<String>,
    /// Answer this status in place of anything else; 0 drops the connection, 1 says nothing.
    status: Option<u16>,
    /// Break off after this many bytes of an answer.
    cut: Option<usize>,
    /// Answers take this long.
    delay: Duration,
    connections: usize,
    /// Requests being answered, and the most there were.
    busy: usize,
    busiest: usize,
    /// What `Authorization` must be.
    authorization: Option<&'static str>,
}

impl FakeNode {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                shared.lock().unwrap().connections += 1;
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }

    /// Says the same every time.
    pub(crate) fn says(&self, method: &'static str, answer: Say) -> &Self {
        self.answers(method, move |_| answer.clone())
    }

    /// Says what depends on the parameters.
    pub(crate) fn answers(
        &self,
        method: &'static str,
        answer: impl FnMut(&[Value]) -> Say + Send + 'static,
    ) -> &Self {
        self.state.lock().unwrap().methods.insert(method, Box::new(answer));
        self
    }

    /// Answers this HTTP status from now on (0: no answer at all), or as told before.
    pub(crate) fn fails(&self, status: Option<u16>) -> &Self {
        self.state.lock().unwrap().status = status;
        self
    }

    /// Answers a GET.
    pub(crate) fn serves(&self, path: impl Into<String>, body: Vec<u8>) -> &Self {
        self.state.lock().unwrap().pages.insert(path.into(), body);
        self
    }

    /// Breaks off after this many bytes of each answer from now on, or no longer.
    pub(crate) fn cuts(&self, after: Option<usize>) -> &Self {
        self.state.lock().unwrap().cut = after;
        self
    }

    /// Takes this long for each answer from now on.
    pub(crate) fn delays(&self, delay: Duration) -> &Self {
        self.state.lock().unwrap().delay = delay;
        self
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The most requests that were answered at one time.
    pub(crate) fn busiest(&self) -> usize {
        self.state.lock().unwrap().busiest
    }

    /// Refuses who does not send this header.
    pub(crate) fn wants(&self, authorization: &'static str) -> &Self {
        self.state.lock().unwrap().authorization = Some(authorization);
        self
    }

    /// How often a method was asked for.
    pub(crate) fn asked(&self, method: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|asked| *asked == method).count()
    }
}

struct Request {
    /// The path of a GET.
    page: Option<String>,
    authorization: String,
    body: Vec<u8>,
}

fn request(reader: &mut impl BufRead) -> Option<Request> {
    let (mut length, mut page, mut authorization) = (0, None, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            page = rest.split(' ').next().map(str::to_owned);
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap()
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                authorization = value.to_owned()
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { page, authorization, body })
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = request(&mut reader) {
        let delay = {
            let mut state = state.lock().unwrap();
            state.busy += 1;
            state.busiest = state.busiest.max(state.busy);
            state.delay
        };
        thread::sleep(delay);
        let told = {
            let mut state = state.lock().unwrap();
            state.busy -= 1;
            state.status_and_body(&request)
        };
        let Some((status, body)) = told else { return };
        if status == 1 {
            thread::sleep(Duration::from_secs(30));
            return;
        }
        let cut = state.lock().unwrap().cut.unwrap_or(usize::MAX).min(body.len());
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all(&[head.as_bytes(), &body[..cut]].concat()).is_err() || cut < body.len() {
            return;
        }
    }
}

impl State {
    fn status_and_body(&mut self, request: &Request) -> Option<(u16, Vec<u8>)> {
        let refused = self.authorization.is_some_and(|wanted| wanted != request.authorization);
        match (self.status, &request.page) {
            (Some(0), _) => None,
            (Some(status), _) => Some((status, b"<html>out of order</html>".to_vec())),
            (None, Some(page)) => {
                self.asked.push(page.clone());
                Some(self.pages.get(page).map_or((404, Vec::new()), |body| (200, body.clone())))
            }
            (None, None) if refused => Some((401, Vec::new())),
            (None, None) => {
                let request = serde_json::from_slice(&request.body).unwrap();
                Some((200, self.answer(&request).to_string().into_bytes()))
            }
        }
    }

    fn answer(&mut self, request: &Value) -> Value {
        match request {
            // Last first, since the order of a batch's answers is free.
            Value::Array(calls) => calls.iter().rev().map(|call| self.one(call)).collect(),
            call => self.one(call),
        }
    }

    fn one(&mut self, call: &Value) -> Value {
        let method = call["method"].as_str().unwrap();
        self.asked.push(method.to_owned());
        let params = call["params"].as_array().unwrap();
        let said = match self.methods.get_mut(method) {
            Some(script) => script(params),
            None => Err((-32601, "Method not found")),
        };
        match said {
            Ok(result) => json!({"id": call["id"], "result": result, "error": null}),
            Err((code, message)) => {
                json!({"id": call["id"], "result": null, "error": {"code": code, "message": message}})
            }
        }
    }
}
