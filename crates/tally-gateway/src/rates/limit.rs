//! How often one client may ask for rates.
//!
//! The table has a fixed size: a client is a place in it, so nobody can fill the memory, and two clients who
//! meet in one place share its turns. Not here: a limit for clients nearby, who are proxies, or our own.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};
use tally_types::{Span, Timestamp};

/// In the long run one client may ask 50 times a second …
const EVERY_MS: u64 = 20;
/// … and 500 times at once.
const AHEAD_MAX_MS: u64 = 500 * EVERY_MS;
/// How many clients are told apart.
const PLACES: usize = 1 << 14;

/// Where a proxy names whom it asks for.
const FORWARDED: &str = "x-forwarded-for";

/// Whose requests are counted together: an address, or a network of IPv6, which one household has whole.
///
/// None for who is nearby, on this machine or a private network: that is a proxy, or one of our own. Behind a
/// proxy the client is whom it names, as the last in `X-Forwarded-For`; what stands before is hearsay.
pub(super) fn client(headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip().to_canonical();
    if !is_near(peer) {
        return Some(whole(peer));
    }
    let named = headers.get_all(FORWARDED).iter().next_back()?.to_str().ok()?.rsplit(',').next()?;
    let named = named.trim().parse::<IpAddr>().ok()?.to_canonical();
    (!is_near(named)).then(|| whole(named))
}

fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn whole(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

/// For each place the time, in milliseconds, until which its turns are used up.
pub(super) struct Limiter {
    seed: u64,
    used: Box<[AtomicU64]>,
}

impl Limiter {
    /// One that nobody has asked yet. Who does not know `seed` cannot choose whom to share a place with.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, used: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Takes a turn; if there is none left: how long to wait.
    pub(super) fn admit(&self, client: IpAddr, now: Timestamp) -> Result<(), Span> {
        let Some(used) = self.used.get(self.place(client)) else { return Ok(()) };
        let now = now.since(Timestamp::EPOCH).millis();
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            // Further ahead than turns can be: the clock was set back.
            let begun = if used > now + AHEAD_MAX_MS + EVERY_MS { now } else { used.max(now) };
            (begun - now <= AHEAD_MAX_MS).then_some(begun + EVERY_MS)
        });
        taken.map(|_| ()).map_err(|used| Span::from_millis(used.saturating_sub(now + AHEAD_MAX_MS)))
    }

    fn place(&self, client: IpAddr) -> usize {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.seed);
        match client {
            IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
            IpAddr::V6(v6) => hasher.write_u128(v6.to_bits()),
        }
        usize::try_from(hasher.finish() % (PLACES as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_run_out_and_come_back() {
        let limiter = Limiter::new(7);
        let (one, other) = ("203.0.113.7".parse().unwrap(), "203.0.113.8".parse().unwrap());
        let at = |ms: i64| Timestamp::from_millis(1_700_000_000_000 + ms);
        let admitted = |client, now| (0..2_000).take_while(|_| limiter.admit(client, now).is_ok()).count();
        assert_eq!(admitted(one, at(0)), 501);
        assert_eq!(limiter.admit(one, at(0)), Err(Span::from_millis(20)));
        assert_eq!(admitted(other, at(0)), 501, "another's turns are its own");
        assert_eq!(admitted(one, at(1_000)), 50);
        assert_eq!(admitted(one, at(60_000)), 501);
        assert_eq!(admitted(one, at(-3_600_000)), 501, "a clock that was set back bars nobody");
    }

    #[test]
    fn the_client_is_whom_we_can_tell() {
        for (name, peer, forwarded, client_is) in [
            ("from afar", "203.0.113.7", None, Some("203.0.113.7")),
            ("from afar, with a story", "203.0.113.7", Some("198.51.100.1"), Some("203.0.113.7")),
            ("this machine", "127.0.0.1", None, None),
            ("a proxy here", "127.0.0.1", Some("198.51.100.1"), Some("198.51.100.1")),
            ("a proxy here, with a story", "::1", Some("10.0.0.1, 198.51.100.1"), Some("198.51.100.1")),
            ("a proxy for one of ours", "10.0.0.3", Some("192.168.1.9"), None),
            ("a proxy that names nobody", "10.0.0.3", Some("unknown"), None),
            ("mapped", "::ffff:203.0.113.7", None, Some("203.0.113.7")),
            ("a network", "2001:db8:1:2:3:4:5:6", None, Some("2001:db8:1:2::")),
        ] {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4)));
            let mut headers = HeaderMap::new();
            if let Some(forwarded) = forwarded {
                headers.insert(FORWARDED, forwarded.parse().unwrap());
            }
            assert_eq!(client(&headers, &extensions), client_is.map(|ip| ip.parse().unwrap()), "{name}");
        }
        assert_eq!(client(&HeaderMap::new(), &Extensions::new()), None);
    }
}
