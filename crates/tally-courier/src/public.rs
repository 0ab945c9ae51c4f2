//! Which IP addresses a delivery may go to: those that are reachable from everywhere.
//!
//! From IANA's registries of special-purpose addresses. Anything that only leads somewhere from inside our own
//! network, or wraps another address, is out. Not here: names; see `http::resolver`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(first: u16, second: u16, third: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), bits)
}

const NOT_PUBLIC_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),       // this network, and the unspecified address
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local, and with it the metadata services of clouds
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 88, 99, 0, 24),  // relays to 6to4
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved, and broadcast
];

/// All that is public today. Outside lie loopback, unspecified, link-local, unique local, multicast, and
/// addresses that wrap IPv4 ones (mapped, compatible, NAT64).
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

const NOT_PUBLIC_V6: &[Ipv6Net] = &[
    v6(0x2001, 0, 0, 23),     // protocol assignments, Teredo among them
    v6(0x2001, 0xdb8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16),     // 6to4, which wraps IPv4 addresses
    v6(0x3fff, 0, 0, 20),     // documentation
];

/// Whether an address is reachable from everywhere.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            PUBLIC_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_reachable_from_everywhere_are_public() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "172.32.0.1",
            "100.128.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for (name, address) in [
            ("unspecified", "0.0.0.0"),
            ("private", "10.1.2.3"),
            ("private", "172.16.0.1"),
            ("private", "172.31.255.255"),
            ("private", "192.168.1.1"),
            ("loopback", "127.0.0.1"),
            ("loopback", "127.255.255.254"),
            ("metadata", "169.254.169.254"),
            ("carrier-grade NAT", "100.64.0.1"),
            ("carrier-grade NAT", "100.127.255.255"),
            ("benchmarks", "198.19.0.1"),
            ("multicast", "224.0.0.1"),
            ("broadcast", "255.255.255.255"),
            ("unspecified", "::"),
            ("loopback", "::1"),
            ("mapped loopback", "::ffff:127.0.0.1"),
            ("mapped public", "::ffff:1.1.1.1"),
            ("compatible", "::127.0.0.1"),
            ("NAT64", "64:ff9b::7f00:1"),
            ("local NAT64", "64:ff9b:1::7f00:1"),
            ("link-local", "fe80::1"),
            ("site-local", "fec0::1"),
            ("unique local", "fd00::1"),
            ("multicast", "ff02::1"),
            ("Teredo", "2001:0:7f00:1::"),
            ("6to4", "2002:7f00:1::"),
            ("documentation", "2001:db8::1"),
            ("discard", "100::1"),
        ] {
            assert!(!is_public(address.parse().unwrap()), "{name} {address}");
        }
    }
}
