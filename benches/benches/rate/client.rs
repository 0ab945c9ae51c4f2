//! A client that costs little: kept connections, one request at a time on each, no parsing beyond the length.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Room for one answer.
const ANSWER_MAX: usize = 4 * 1024;

/// What to ask, where, and over how many connections.
pub(crate) struct Load {
    address: SocketAddr,
    request: String,
    connections: usize,
}

/// What came of it.
pub(crate) struct Outcome {
    /// How long each answer took.
    took: Vec<Duration>,
    during: Duration,
}

impl Outcome {
    /// Answers per second.
    pub(crate) fn requests_per_second(&self) -> u32 {
        let millis = self.during.as_millis().max(1);
        u32::try_from(self.took.len() as u128 * 1_000 / millis).unwrap_or(u32::MAX)
    }

    /// The time within which 99 of 100 answers came.
    pub(crate) fn p99(mut self) -> Duration {
        self.took.sort_unstable();
        self.took.get(self.took.len() * 99 / 100).copied().unwrap_or_default()
    }
}

impl Load {
    /// `GET path` at `address`.
    pub(crate) fn new(address: SocketAddr, path: &str, connections: usize) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        Self { address, request, connections }
    }

    /// As much as goes, for some time.
    pub(crate) async fn full(self, during: Duration) -> Outcome {
        self.run(during, |_, _| None).await
    }

    /// So many requests a second, evenly.
    pub(crate) async fn paced(self, per_second: u64, during: Duration) -> Outcome {
        let every = Duration::from_secs(1) * u32::try_from(self.connections).unwrap_or(1)
            / u32::try_from(per_second.max(1)).unwrap_or(1);
        let (connections, own) = (self.connections as u32, every);
        self.run(during, move |connection, number| Some(own * number + own / connections * connection as u32))
            .await
    }

    /// `due` says when a connection's request of some number is to be made, from the start on.
    async fn run(
        self,
        during: Duration,
        due: impl Fn(usize, u32) -> Option<Duration> + Copy + Send + Sync + 'static,
    ) -> Outcome {
        let mut tasks = JoinSet::new();
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            let stream = TcpStream::connect(self.address).await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            streams.push(stream);
        }
        let start = Instant::now();
        for (connection, mut stream) in streams.into_iter().enumerate() {
            let request = self.request.clone();
            tasks.spawn(async move {
                let mut took = Vec::with_capacity(32 * 1024);
                let mut buffer = vec![0; ANSWER_MAX];
                let (mut number, mut length) = (0, 0);
                let mut free = start;
                while start.elapsed() < during {
                    let mut from = Instant::now();
                    if let Some(due) = due(connection, number).map(|due| start + due) {
                        number += 1;
                        if due > from {
                            tokio::time::sleep_until(due).await;
                            from = Instant::now();
                        } else if free > due {
                            // The answer before came too late for this one: it has waited since it was due.
                            from = due;
                        }
                    }
                    stream.write_all(request.as_bytes()).await.expect("a request");
                    answer(&mut stream, &mut buffer, &mut length).await;
                    free = Instant::now();
                    took.push(free - from);
                }
                took
            });
        }
        let mut took = Vec::new();
        while let Some(one) = tasks.join_next().await {
            took.extend(one.expect("a client"));
        }
        Outcome { took, during: start.elapsed() }
    }
}

/// Reads one answer, which must be a 200. All answers on a connection are of one length, so the first one's
/// is looked up, and the others' are only counted.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8], length: &mut usize) {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("an answer");
        assert!(read > 0, "the connection ended");
        filled += read;
        let answer = &buffer[..filled];
        if *length == 0 {
            *length = length_of(answer).unwrap_or(0);
        }
        if *length > 0 && filled >= *length {
            assert!(
                filled == *length && answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(answer)
            );
            return;
        }
    }
}

/// The length of an answer with its head, once that is there.
fn length_of(answer: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length: ";
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let at = answer.windows(NAME.len()).position(|window| window == NAME).expect("a length") + NAME.len();
    let digits = answer[at..].iter().take_while(|b| b.is_ascii_digit());
    Some(end + digits.fold(0, |sum, b| sum * 10 + usize::from(b - b'0')))
}
