//! The root hash of a Merkle-Patricia trie (Ethereum's yellow paper, appendix D), for the roots of transactions
//! and receipts in a block's header. Nothing is stored.

use super::rlp;

/// The root over a list, where the key of each item is its place.
pub(crate) fn ordered_root(items: &[Vec<u8>]) -> [u8; 32] {
    let pairs = (0_u128..).zip(items).map(|(index, item)| (rlp::number(index), item.as_slice()));
    root(pairs.collect())
}

/// The root over pairs of key and value, each key once.
fn root(pairs: Vec<(Vec<u8>, &[u8])>) -> [u8; 32] {
    let mut pairs: Vec<Pair<'_>> = pairs
        .into_iter()
        .map(|(key, value)| (key.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).collect(), value))
        .collect();
    pairs.sort();
    rlp::keccak(&node(&pairs, 0))
}

/// A key in nibbles, and its value.
type Pair<'a> = (Vec<u8>, &'a [u8]);

/// The node over sorted pairs whose keys agree in their first `depth` nibbles.
fn node(pairs: &[Pair<'_>], depth: usize) -> Vec<u8> {
    let (Some((first, value)), Some((last, _))) = (pairs.first(), pairs.last()) else {
        return rlp::bytes(&[]);
    };
    let rest = first.get(depth..).unwrap_or_default();
    if pairs.len() == 1 {
        return rlp::list(&[rlp::bytes(&packed(rest, true)), rlp::bytes(value)]);
    }
    // The pairs are sorted: what the first and the last share, all share.
    let others = last.get(depth..).unwrap_or_default();
    let shared = rest.iter().zip(others).take_while(|(a, b)| a == b).count();
    if shared > 0 {
        let child = reference(&node(pairs, depth.saturating_add(shared)));
        return rlp::list(&[rlp::bytes(&packed(rest.get(..shared).unwrap_or_default(), false)), child]);
    }
    let child = |nibble: u8| {
        let at = |(key, _): &Pair<'_>| key.get(depth).copied();
        let from = pairs.partition_point(|pair| at(pair) < Some(nibble));
        let to = pairs.partition_point(|pair| at(pair) <= Some(nibble));
        match pairs.get(from..to) {
            Some(below) if !below.is_empty() => reference(&node(below, depth.saturating_add(1))),
            _ => rlp::bytes(&[]),
        }
    };
    let mut items: Vec<Vec<u8>> = (0..16).map(child).collect();
    let ends_here = if first.len() == depth { *value } else { &[] };
    items.push(rlp::bytes(ends_here));
    rlp::list(&items)
}

/// How a node stands in its parent: by its hash, or as it is where that is shorter.
fn reference(node: &[u8]) -> Vec<u8> {
    if node.len() < 32 { node.to_vec() } else { rlp::bytes(&rlp::keccak(node)) }
}

/// Nibbles in bytes, with a mark for an odd number of them and for the end of a key.
fn packed(nibbles: &[u8], is_leaf: bool) -> Vec<u8> {
    let mark = if is_leaf { 2_u8 } else { 0 };
    let (first, rest) = match nibbles.split_first() {
        Some((nibble, rest)) if nibbles.len() % 2 == 1 => (((mark | 1) << 4) | nibble, rest),
        _ => (mark << 4, nibbles),
    };
    let pairs = rest.chunks(2).map(|pair| pair.iter().fold(0, |byte, nibble| (byte << 4) | nibble));
    std::iter::once(first).chain(pairs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, pairs, their root.
    type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);

    /// The published trie tests of Ethereum.
    #[test]
    fn the_published_vectors() {
        let rows: [Row; 4] = [
            ("empty", &[], "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"),
            (
                "single item",
                &[("A", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")],
                "d23786fb4a010da3ce639d66d5e904a11dbc02746d1ce25029e53290cabf28ab",
            ),
            (
                "dogs",
                &[("doe", "reindeer"), ("dog", "puppy"), ("dogglesworth", "cat")],
                "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3",
            ),
            (
                "puppy",
                &[("do", "verb"), ("horse", "stallion"), ("doge", "coin"), ("dog", "puppy")],
                "5991bb8c6514148a29db676a14ac506cd2cd5775ace63c30a4fe457715e9ac84",
            ),
        ];
        for (name, pairs, expected) in rows {
            let pairs = pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes()));
            assert_eq!(const_hex::encode(root(pairs.collect())), expected, "{name}");
        }
    }
}
