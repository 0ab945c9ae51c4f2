//! What a matching hash does not prove: work, that a transaction is the one that was asked for, what is a payment.

use tally_matcher::{Pow, check_pow};
use tally_ports::Header;
use tally_types::{BlockRef, Timestamp};

use super::*;

/// The block with another target, and a nonce by which its work is good or is not.
fn reworked(block: &[u8], bits: u32, good: bool) -> Vec<u8> {
    let mut block = block.to_vec();
    block[72..76].copy_from_slice(&bits.to_le_bytes());
    let is_fit = |nonce: &u32| {
        let head = [&block[..76], &nonce.to_le_bytes()].concat();
        check_pow(head.as_slice().try_into().unwrap(), Pow::Sha256d).is_ok() == good
    };
    let nonce = (0_u32..).find(is_fit).unwrap();
    block[76..80].copy_from_slice(&nonce.to_le_bytes());
    block
}

#[tokio::test]
async fn a_block_without_work_is_none() {
    for (name, bits, good, told) in [
        ("as it should be", 0x207f_ffff, true, None),
        ("no work", 0x207f_ffff, false, Some("target")),
        (
            "work for a target that the chain does not allow",
            0x2100_ffff,
            true,
            Some("easier than the chain allows"),
        ),
    ] {
        let (node, known) = node(2, CORE, -5);
        let block = {
            let mut known = known.lock().unwrap();
            let block = reworked(&mine(&known.best[2].clone(), 9, &[]), bits, good);
            known.best.push(block.clone());
            block
        };
        let source = source("btc", &[&node]);
        // A node that has it beside a good branch, so that nothing else can be wrong.
        let (other, has) = self::node(2, CORE, -5);
        has.lock().unwrap().stale.push((3, block.clone()));
        let beside = self::source("btc", &[&other]);
        beside.check().await.unwrap();
        let hash = Known::hash(&block).parse().unwrap();
        let header = Header {
            block: BlockRef { height: Height::new(3), hash },
            prev: Known::hash(&known.lock().unwrap().best[2]).parse().unwrap(),
            time: Timestamp::from_secs(9),
        };
        let answers = [
            ("tip", source.tip().await.map(|tip| tip == header)),
            ("at", source.at(Height::new(3)).await.map(|there| there == Some(header))),
            ("header", source.header(&hash).await.map(|there| there == Some(header))),
            ("work", beside.work(&hash).await.map(|work| work.is_some())),
            ("scan", source.scan(&header, &watching(&[P2WPKH])).await.map(|block| block.header == header)),
        ];
        for (question, answer) in answers {
            match (answer, told) {
                (Ok(good), None) => assert!(good, "{name}: {question}"),
                (Err(error), Some(told)) => {
                    assert!(error.to_string().contains(told), "{name}: {question}: {error}");
                }
                (answer, _) => panic!("{name}: {question}: {answer:?}"),
            }
        }
    }
}

#[tokio::test]
async fn another_transaction_than_the_one_asked_for_is_no_payment() {
    let (node, known) = node(1, CORE, -5);
    let source = source("btc", &[&node]);
    known.lock().unwrap().mempool = vec![tx(&[elsewhere(1)], &[(700, vec![0x51])])];
    let other = const_hex::encode(tx(&[elsewhere(2)], &[(700, script(P2WPKH))]));
    node.says("getrawtransaction", Ok(json!(other)));
    let error = source.mempool(&HashSet::new(), &watching(&[P2WPKH])).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("hashes to"), "{error}");
}

#[tokio::test]
async fn more_than_there_can_be_is_no_payment() {
    let (node, known) = node(1, CORE, -5);
    let source = source("btc", &[&node]);
    known.lock().unwrap().mempool = vec![tx(&[elsewhere(1)], &[(u64::MAX, script(P2WPKH))])];
    let error = source.mempool(&HashSet::new(), &watching(&[P2WPKH])).await.unwrap_err();
    assert!(error.to_string().contains("worth more than there is"), "{error}");
}

/// Its id is another once it is mined.
#[test]
fn a_peg_out_of_the_mempool_is_not_credited() {
    let bytes = script(include_str!("../../../testdata/ltc_regtest_434_block.hex").trim());
    let ltc = json!({"id": "ltc", "kind": "bitcoin", "coin": "ltc", "network": "regtest"});
    let network = Network::of(&settings_of(&ltc)).unwrap();
    let watch = watching(&["00144bd81867d359512e16b86fd2d457a0a07213b0c5"]);
    let id = "1e526c2cc0ccfb3df7ceedfcb8fe1bb0aa406020e7260c1ba0132e031524ac8c".parse().unwrap();
    let currency = network.currency().unwrap();
    let start = bytes.windows(6).rposition(|bytes| bytes == [2, 0, 0, 0, 0, 8]).unwrap();
    let read = (start + 10..bytes.len()).filter_map(|end| {
        scan::transaction(&bytes[start..end], id, network, &currency, &watch).ok().flatten()
    });
    assert_eq!(read.collect::<Vec<_>>(), [scan::Found::default()], "the HogEx is read, and pays nobody yet");
}

/// Scrypt is slow, so that good work is remembered; bad work is not.
#[test]
fn work_that_is_remembered_was_checked() {
    let ltc = json!({"id": "ltc", "kind": "bitcoin", "coin": "ltc", "network": "regtest"});
    let work = scan::Work::new(Network::of(&settings_of(&ltc)).unwrap());
    let good = script(&include_str!("../../../testdata/ltc_regtest_434_block.hex").trim()[..160]);
    let bad = (0_u32..).map(|nonce| [&good[..76], &nonce.to_le_bytes()].concat());
    let bad = bad
        .into_iter()
        .find(|head| check_pow(head.as_slice().try_into().unwrap(), Pow::Scrypt).is_err())
        .unwrap();
    for (name, head, is_good) in [("good", good, true), ("bad", bad, false)] {
        let hash = Known::hash(&head).parse().unwrap();
        for time in ["once", "again"] {
            let told = scan::header(&head, hash, Height::new(434), &work);
            assert_eq!(told.is_ok(), is_good, "{name} {time}: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_node_whose_chain_parted_at_a_landmark_is_foreign() {
    for (coin, ours) in [("btc", false), ("bch", true)] {
        let node = FakeNode::start();
        let rpc = json!([{"url": node.url}]);
        let settings = settings_of(
            &json!({"id": coin, "kind": "bitcoin", "coin": coin, "network": "mainnet", "rpc": rpc}),
        );
        let network = Network::of(&settings).unwrap();
        let landmark = network.landmarks.iter().find(|landmark| landmark.ours == ours).unwrap();
        // The other coin's block, or one of neither.
        let there = if ours { "07".repeat(32) } else { landmark.hash.to_owned() };
        node.answers("getblockhash", move |params| match params[0].as_u64() {
            Some(0) => Ok(json!(network.genesis)),
            Some(height) if height == landmark.height => Ok(json!(there)),
            _ => Err((-8, "Block height out of range")),
        });
        let error = crate::open(&settings).unwrap().check().await.unwrap_err();
        let told = format!("its block {} is", landmark.height);
        assert!(!error.is_transient() && error.to_string().contains(&told), "{coin}: {error}");
    }
}
