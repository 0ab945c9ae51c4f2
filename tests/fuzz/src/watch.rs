//! A watch set that lives, against hash sets that do the same.

use std::collections::HashSet;

use tally_matcher::{Options, OutPoint, WatchSet, match_tx, sha256d};

use super::script::script;

/// Scripts in one run of insertions or removals: enough runs take the filter through generations and the
/// tables through splits and merges.
const RUN: u32 = 600;
/// Numbers of scripts and outpoints.
const NUMBERS: u32 = 24 * RUN;

#[derive(Default)]
struct Model {
    scripts: HashSet<u32>,
    outpoints: HashSet<u32>,
}

fn outpoint(number: u32) -> OutPoint {
    OutPoint { txid: sha256d(&(number / 4).to_be_bytes()), vout: number % 4 }
}

/// Steps of three bytes: what is done, and to which number. After each step the set is what the hash sets are,
/// and a transaction with some of both shows what they show.
pub fn watch_set(data: &[u8]) {
    let mut set = WatchSet::new(data.len() as u64);
    let mut model = Model::default();
    for (step, [what, low, high]) in data.as_chunks::<3>().0.iter().enumerate().take(400) {
        let number = u32::from(u16::from_le_bytes([*low, *high])) % NUMBERS;
        let run = number..number.saturating_add(if step < 60 { RUN } else { 3 });
        match what % 8 {
            0 => insert_script(&mut set, &mut model, number),
            1 => remove_script(&mut set, &mut model, number),
            2 => insert_outpoint(&mut set, &mut model, number),
            3 => remove_outpoint(&mut set, &mut model, number),
            4 => run.for_each(|number| insert_script(&mut set, &mut model, number)),
            5 => run.for_each(|number| remove_script(&mut set, &mut model, number)),
            6 => run.for_each(|number| insert_outpoint(&mut set, &mut model, number)),
            _ => run.for_each(|number| remove_outpoint(&mut set, &mut model, number)),
        }
        assert_eq!((set.script_count(), set.outpoint_count()), (count(&model), model.outpoints.len()));
        shows(&set, &model, number);
    }
    let listed: HashSet<Vec<u8>> = set.scripts().collect();
    let expected: HashSet<Vec<u8>> = model.scripts.iter().map(|number| script(*number)).collect();
    assert_eq!((listed.len(), &listed), (set.script_count(), &expected));
    for number in (0..NUMBERS).step_by(7) {
        assert_eq!(set.contains_script(&script(number)), expected.contains(&script(number)));
        assert_eq!(set.contains_outpoint(&outpoint(number)), model.outpoints.contains(&number));
    }
}

/// No two numbers have the same script.
fn count(model: &Model) -> usize {
    model.scripts.len()
}

fn insert_script(set: &mut WatchSet, model: &mut Model, number: u32) {
    assert_eq!(set.insert_script(&script(number)), Ok(model.scripts.insert(number)), "script {number}");
}

fn remove_script(set: &mut WatchSet, model: &mut Model, number: u32) {
    assert_eq!(set.remove_script(&script(number)), model.scripts.remove(&number), "script {number}");
}

fn insert_outpoint(set: &mut WatchSet, model: &mut Model, number: u32) {
    assert_eq!(
        set.insert_outpoint(&outpoint(number)),
        Ok(model.outpoints.insert(number)),
        "outpoint {number}"
    );
}

fn remove_outpoint(set: &mut WatchSet, model: &mut Model, number: u32) {
    assert_eq!(set.remove_outpoint(&outpoint(number)), model.outpoints.remove(&number), "outpoint {number}");
}

/// A transaction with scripts and outpoints around a number is matched as the model says.
fn shows(set: &WatchSet, model: &Model, number: u32) {
    let numbers: Vec<u32> = (0..70).map(|n| (number + n * n * 31) % NUMBERS).collect();
    let mut tx = vec![2, 0, 0, 0, numbers.len() as u8];
    for number in &numbers {
        tx.extend(outpoint(*number).to_bytes());
        tx.extend([0, 0xff, 0xff, 0xff, 0xff]);
    }
    tx.push(numbers.len() as u8);
    for number in &numbers {
        let script = script(*number);
        tx.extend([1, 0, 0, 0, 0, 0, 0, 0, script.len() as u8]);
        tx.extend(script);
    }
    tx.extend([0; 4]);
    let found = match_tx(set, &tx, Options::default()).expect("a well-formed transaction");
    let places = |watched: &HashSet<u32>| -> Vec<u32> {
        (0..).zip(&numbers).filter(|(_, number)| watched.contains(number)).map(|(place, _)| place).collect()
    };
    assert_eq!(found.hits.iter().map(|hit| hit.vout).collect::<Vec<_>>(), places(&model.scripts));
    assert_eq!(found.spends.iter().map(|spend| spend.vin).collect::<Vec<_>>(), places(&model.outpoints));
}
