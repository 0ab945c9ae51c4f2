//! Hears of new blocks by ZMQ: a subscriber of ZMTP 3.0 without security (RFC 23/ZMTP), for the one topic
//! `hashblock`. What it hears is a hint that wakes, never a source.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::endpoint::Endpoint;
use crate::wake::Ringer;

const TOPIC: &[u8] = b"hashblock";
/// The largest frame that is taken: a hash, a topic or a counter.
const FRAME_BYTES_MAX: usize = 64 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Where to connect to hear what a node publishes at `address`; `None` if it cannot be reached from here.
pub(crate) fn reachable(address: &str, endpoint: &Endpoint) -> Option<String> {
    let (host, port) = address.strip_prefix("tcp://")?.rsplit_once(':')?;
    let node = endpoint.url.host_str()?;
    match host {
        "*" | "0.0.0.0" | "[::]" => Some(format!("{node}:{port}")),
        "127.0.0.1" | "localhost" | "[::1]" if !endpoint.is_loopback() => None,
        host => Some(format!("{host}:{port}")),
    }
}

/// Rings with every block that is published at `address`, for as long as it is polled.
pub(crate) async fn listen(address: String, ringer: Ringer) {
    let mut pause = PAUSE_MIN;
    loop {
        let heard = hear(&address, &ringer, &mut pause).await;
        ringer.set_live(false);
        if let Err(error) = heard {
            tracing::debug!(address, %error, "zmq is not heard");
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

async fn hear(address: &str, ringer: &Ringer, pause: &mut Duration) -> io::Result<()> {
    let mut stream = timeout(HANDSHAKE_TIMEOUT, connect(address)).await??;
    *pause = PAUSE_MIN;
    ringer.set_live(true);
    // What came while nobody listened.
    ringer.ring();
    loop {
        let (flags, topic) = frame(&mut stream).await?;
        if flags & COMMAND != 0 {
            continue;
        }
        let mut more = flags & MORE != 0;
        while more {
            more = frame(&mut stream).await?.0 & MORE != 0;
        }
        if topic == TOPIC {
            ringer.ring();
        }
    }
}

/// Greets, names itself a subscriber, and subscribes.
async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    let mut theirs = [0; 64];
    stream.read_exact(&mut theirs).await?;
    if theirs[0] != 0xff || theirs[9] & 1 == 0 || theirs[10] < 3 || !theirs[12..].starts_with(b"NULL\0") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not ZMTP 3 without security"));
    }
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB";
    send(&mut stream, COMMAND, ready).await?;
    let (flags, answer) = frame(&mut stream).await?;
    if flags & COMMAND == 0 || !answer.starts_with(b"\x05READY") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not ready"));
    }
    send(&mut stream, 0, &[&[1], TOPIC].concat()).await?;
    Ok(stream)
}

async fn send(stream: &mut TcpStream, flags: u8, body: &[u8]) -> io::Result<()> {
    let length = u8::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&[flags, length], body].concat()).await
}

async fn frame(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let flags = stream.read_u8().await?;
    let length = match flags & LONG {
        0 => usize::from(stream.read_u8().await?),
        _ => usize::try_from(stream.read_u64().await?).unwrap_or(usize::MAX),
    };
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((flags, body))
}

#[cfg(test)]
mod tests;
