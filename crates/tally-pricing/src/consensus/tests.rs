//! The vectors of the rules, and what a minority can do.

use proptest::prelude::*;

use super::*;

fn votes(prices: &[&str]) -> Vec<Vote> {
    priced(&prices.iter().map(|price| price.parse().unwrap()).collect::<Vec<_>>())
}

fn priced(prices: &[Decimal]) -> Vec<Vote> {
    let vote = |usd: &Decimal| Vote {
        venue: Venue::named("any"),
        usd: *usd,
        spread: Decimal::ZERO,
        sampled_at: Timestamp::EPOCH,
        at: Timestamp::EPOCH,
    };
    prices.iter().map(vote).collect()
}

fn survivors(votes: &[Vote], center: Center) -> Vec<Vote> {
    votes.iter().filter(|vote| center.distance(vote.usd).unwrap() <= center.tau).cloned().collect()
}

fn judge(votes: &[Vote], votes_min: usize) -> Result<Consensus, NoConsensus> {
    let center = Center::of(votes).unwrap();
    agree(&survivors(votes, center), votes.len(), votes.len(), votes_min, center)
}

#[test]
fn vectors() {
    let d = |text: &str| text.parse::<Decimal>().unwrap();
    for (name, prices, votes_min, expected) in [
        ("one a little off", &["6612.35", "6612.41", "6613.00", "6611.90", "6640.10"][..], 3, Ok("6612.41")),
        ("two of three, two needed", &["100", "100.2", "150"], 2, Ok("100.1")),
        ("two of three, three needed", &["100", "100.2", "150"], 3, Err(NoConsensus::Inconsistent)),
        ("two camps", &["100", "100", "120", "120"], 3, Err(NoConsensus::Inconsistent)),
        ("two camps, two needed", &["100", "100", "120", "120"], 2, Err(NoConsensus::Inconsistent)),
        ("half of four is no majority", &["94", "100", "100", "106"], 2, Err(NoConsensus::Inconsistent)),
        ("two where three are needed", &["64000", "64010"], 3, Err(NoConsensus::TooFew)),
        ("two where two are needed", &["64000", "64010"], 2, Ok("64005")),
        ("one where one is enough", &["64000"], 1, Ok("64000")),
        ("near, but a band of over 1 %", &["100", "101", "102.2"], 3, Err(NoConsensus::Inconsistent)),
        ("a band of 1 % exactly", &["99", "100", "101"], 3, Ok("100")),
    ] {
        let judged = judge(&votes(prices), votes_min);
        assert_eq!(judged.map(|consensus| consensus.usd), expected.map(d), "{name}");
    }
}

#[test]
fn tau_and_confidence() {
    let all = votes(&["6612.35", "6612.41", "6613.00", "6611.90", "6640.10"]);
    let center = Center::of(&all).unwrap();
    assert_eq!(center.tau, "33.06205".parse().unwrap());
    let consensus = agree(&survivors(&all, center), 5, 5, 3, center).unwrap();
    assert_eq!(consensus.confidence, "0.59".parse().unwrap(), "the farther quartile, 6613.00");

    for (name, prices, tau) in [
        ("by the deviations", &["999", "1000", "1000", "1001", "1004"][..], "7.413"),
        ("at least 0.5 %", &["1000", "1000", "1000"], "5"),
        ("at most 5 %", &["96", "98", "100", "102", "104"], "5"),
    ] {
        assert_eq!(Center::of(&votes(prices)).unwrap().tau, tau.parse().unwrap(), "{name}");
    }

    let four = judge(&votes(&["100", "100.1", "100.2", "100.6"]), 3).unwrap();
    assert_eq!(four.confidence, "0.15".parse().unwrap(), "quartiles from four votes on");
    let three = judge(&votes(&["100", "100.1", "100.6"]), 3).unwrap();
    assert_eq!(three.confidence, "0.5".parse().unwrap(), "the extremes below");

    let mut wide = votes(&["100", "100", "100"]);
    for (vote, spread) in wide.iter_mut().zip(["0.1", "0.8", "0.9"]) {
        vote.spread = spread.parse().unwrap();
    }
    assert_eq!(judge(&wide, 3).unwrap().confidence, "0.4".parse().unwrap(), "half the median spread");
}

#[test]
fn liars_cannot_gain_half_of_what_remains() {
    let all = votes(&["99.5", "100", "100.5", "100.567", "100.567"]);
    assert_eq!(judge(&all, 3).unwrap().usd, "100.5".parse().unwrap());
}

#[test]
fn there_is_nothing_to_say_about_nothing() {
    assert_eq!(Center::of(&[]), None);
    assert_eq!(Center::of(&priced(&[Decimal::MAX, Decimal::MAX])), None);
}

proptest! {
    /// Whatever a minority says, the rate stays within the range of the honest votes.
    #[test]
    fn a_minority_of_liars_cannot_move_the_rate(
        center in 1_u64..1_000_000_000,
        honest in proptest::collection::vec(-499_i64..=499, 2..8),
        liars in proptest::collection::vec(prop_oneof![1_i64..400_000, 99_000_i64..101_500], 0..7),
        held in proptest::collection::vec(any::<bool>(), 16),
        votes_min in 1_usize..4,
    ) {
        let liars = &liars[..liars.len().min(honest.len() - 1)];
        let at = |parts: i64| Decimal::from(center) * Decimal::from(parts) / Decimal::from(100_000);
        let mut honest: Vec<_> = honest.iter().map(|offset| at(100_000 + offset)).collect();
        honest.sort_unstable();
        let middle = median(&honest).unwrap();
        if honest.iter().any(|price| (*price - middle).abs() > middle * TAU_MIN) {
            return Ok(());
        }
        let all = priced(&honest.iter().copied().chain(liars.iter().map(|parts| at(*parts))).collect::<Vec<_>>());
        let center = Center::of(&all).unwrap();
        // Some votes may be held back for what they said earlier.
        let near: Vec<_> = survivors(&all, center);
        let counted: Vec<_> = near.iter().zip(&held).filter(|(_, held)| !**held).map(|(vote, _)| vote.clone()).collect();
        for counted in [&near, &counted] {
            if let Ok(consensus) = agree(counted, all.len(), all.len(), votes_min, center) {
                prop_assert!(consensus.usd >= honest[0] && consensus.usd <= honest[honest.len() - 1]);
                prop_assert!(consensus.confidence <= consensus.usd * CONFIDENCE_MAX);
            }
        }
    }

    /// The order of arrival changes nothing.
    #[test]
    fn order_does_not_matter(prices in proptest::collection::vec(99_000_u64..101_000, 1..9), turn in 0_usize..9) {
        let all = priced(&prices.iter().map(|price| Decimal::from(*price)).collect::<Vec<_>>());
        let mut turned = all.clone();
        turned.rotate_left(turn % prices.len());
        turned.reverse();
        prop_assert_eq!(judge(&all, 3), judge(&turned, 3));
    }
}
