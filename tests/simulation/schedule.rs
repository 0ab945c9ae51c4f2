//! What happens, drawn from the seed: payments, blocks, reorgs, faults, deaths; and at the end, rest.
//!
//! Not here: what must come of it (`judge`).

use tally_testkit::{Payment, script};
use tally_types::{BlockHash, Height, OutPoint, Span, TxId};

use crate::tally::Tally;
use crate::world::{SLOTS, World};

/// Scripts of orders have numbers below; those above are other people's.
const SCRIPTS: u64 = 12;
const STRANGER: u64 = 99;
/// The deepest reorg.
const DEPTH_MAX: u64 = 20;
/// How long the world may take to come to rest, in milliseconds.
const REST_MAX_MS: u64 = 600_000;
/// Longer than any node keeps a transaction.
const FORGOTTEN: Span = Span::from_secs(15 * 24 * 3600);

/// What the schedule remembers.
struct Play {
    world: World,
    /// Transactions that were put out of the mempool.
    dropped: Vec<Payment>,
    /// Tips of branches that were left.
    tips: Vec<BlockHash>,
    /// Scripts that are quoted.
    quoted: u64,
    big: bool,
}

/// Plays a seed to its end; the log as bytes, and what happened how often.
pub(crate) async fn play(seed: u64) -> (Vec<u8>, Tally) {
    let world = World::new(seed);
    let big = world.chance(40);
    let mut play = Play { world, dropped: Vec::new(), tips: Vec::new(), quoted: 0, big };
    play.prepare();
    // Over all seeds the first watcher dies at every step of its way.
    let first = if play.world.chance(4) { 0 } else { 1 + seed % 150 };
    play.world.start(0, first, false);
    for _ in 0..20 + play.world.below(40) {
        play.act().await;
        let ms = play.pause_ms();
        play.world.pass(ms).await;
        play.revive();
        play.world.check();
    }
    play.rest().await;
    let mut bytes = Vec::new();
    for recorded in play.world.log.facts() {
        bytes.extend(recorded.position.get().to_be_bytes());
        bytes.extend(recorded.event.to_json().unwrap());
    }
    (bytes, play.world.counted())
}

impl Play {
    /// Payments from before the watch, and perhaps orders of an earlier time.
    fn prepare(&mut self) {
        for _ in 0..self.world.below(4) {
            let number = self.world.below(SCRIPTS + 4);
            self.world.chain.pay(&script(number), 700);
            let blocks = 1 + self.world.below(12);
            self.world.chain.mine(blocks);
        }
        self.world.record();
        for _ in 0..self.world.below(3) {
            self.quote();
        }
    }

    fn pause_ms(&self) -> u64 {
        match self.world.below(12) {
            0..=2 => 0,
            3 => 10 * self.world.below(6500),
            4..=6 => 10 * self.world.below(20),
            _ => 10 * self.world.below(200),
        }
    }

    async fn act(&mut self) {
        match self.world.below(32) {
            0..=3 => self.quote(),
            4..=8 => self.pay(),
            9..=10 => self.replace(),
            11 => self.evict(),
            12 => self.rebroadcast(),
            13..=17 => self.mine(),
            18..=20 => self.reorg(),
            21 => self.prefer(),
            22 => self.log_fault(),
            23 => self.node_fault(),
            24 => self.world.report_soon(),
            25 => self.unwatch(),
            26 => {
                self.world.tell("the lease is taken away");
                self.world.counts.add("leases taken away");
                self.world.lease.revoke("watch.btc.0-0");
            }
            27 => self.kill().await,
            28 => self.restart().await,
            29..=30 => self.standby(),
            _ => self.jump().await,
        }
        self.world.record();
    }

    /// Names an address: mostly before it is paid, sometimes one that was paid already.
    fn quote(&mut self) {
        if self.quoted >= SCRIPTS {
            return;
        }
        let tip = self.world.judge().tip().map_or(Height::default(), |tip| tip.height);
        let below = if self.world.chance(5) { self.world.below(60) } else { 10 };
        self.world.quote(self.quoted, tip.below(below));
        self.quoted += 1;
    }

    /// To an order, to one that is yet to come, or to somebody else.
    fn payee(&self) -> u64 {
        match self.world.below(8) {
            0 => STRANGER,
            1 => self.world.below(SCRIPTS),
            _ => self.world.below(self.quoted.max(1)),
        }
    }

    fn units(&self) -> u128 {
        if self.world.chance(20) { 0 } else { u128::from(1 + self.world.below(1000)) }
    }

    fn pay(&mut self) {
        if self.big && self.world.chance(3) {
            self.world.tell("pay 600 times");
            for _ in 0..600 {
                self.world.chain.pay(&script(0), 5);
            }
            return;
        }
        let (to, units) = (self.payee(), self.units());
        let txid = self.world.chain.pay(&script(to), units);
        self.note("pay", &txid, to);
    }

    fn note(&mut self, what: &str, txid: &TxId, to: u64) {
        let number = crate::judge::number(txid.display_bytes());
        self.world.tell(format!("{what} t{number} to {to}"));
    }

    fn any_held(&self) -> Option<Payment> {
        let held = self.world.chain.mempool_payments();
        let at = self.world.below(held.len().max(1) as u64) as usize;
        held.get(at).cloned()
    }

    /// The same inputs pay again, with some of their neighbour's perhaps: a fee bump, or a double spend.
    fn replace(&mut self) {
        let Some(old) = self.any_held() else { return };
        let mut inputs: Vec<OutPoint> = old.inputs.clone();
        if self.world.chance(4)
            && let Some(other) = self.any_held()
        {
            inputs.extend(other.inputs.iter().filter(|input| !old.inputs.contains(input)));
        }
        let same = self.world.chance(2);
        let to = self.payee();
        let to = if same { old.script.clone() } else { script(to) };
        let units = self.units();
        let txid = self.world.chain.pay_from(&to, units, inputs);
        let (old, new) = (old.txid, crate::judge::number(txid.display_bytes()));
        self.world.tell(format!("replace t{} by t{new}", crate::judge::number(old.display_bytes())));
    }

    fn evict(&mut self) {
        let Some(payment) = self.any_held() else { return };
        self.world.chain.evict(&payment.txid);
        self.note("evict", &payment.txid, 0);
        self.dropped.push(payment);
    }

    fn rebroadcast(&mut self) {
        let Some(payment) = self.dropped.pop() else { return };
        if self.world.chain.rebroadcast(&payment) {
            self.note("rebroadcast", &payment.txid, 0);
        }
    }

    /// Some blocks: with the whole mempool, a part of it, or something that no mempool has seen.
    fn mine(&mut self) {
        match self.world.below(6) {
            0 => self.replace(),
            1 => self.pay(),
            _ => {}
        }
        let blocks = 1 + self.world.below(3);
        self.mine_some(blocks);
        if self.world.chance(15) {
            self.world.chain.mine(self.world.below(140));
        }
        let tip = self.world.chain.tip_block();
        self.world.tell(format!("mined {blocks} to {}", crate::judge::name_block(&tip)));
    }

    fn mine_some(&mut self, blocks: u64) {
        for _ in 0..blocks {
            let held = self.world.chain.mempool_payments();
            let mined: Vec<TxId> =
                held.iter().filter(|_| !self.world.chance(4)).map(|payment| payment.txid).collect();
            self.world.chain.mine_only(&mined);
        }
    }

    /// Another branch in place of the last blocks: longer, as long or shorter. Some of what they paid is mined
    /// again elsewhere, some is spent otherwise, some is nowhere.
    fn reorg(&mut self) {
        let tip = self.world.chain.tip_block();
        let floor = self.world.judge().floor();
        let deepest = DEPTH_MAX.min(tip.height.get().saturating_sub(floor));
        let depth = if self.world.chance(3) {
            self.world.below(deepest + 1)
        } else {
            self.world.below(4).min(deepest)
        };
        self.tips.push(tip.hash);
        self.world.chain.fork_at(tip.height.get() - depth);
        for payment in self.world.chain.mempool_payments() {
            match self.world.below(8) {
                0 => {
                    self.world.chain.evict(&payment.txid);
                    self.dropped.push(payment);
                }
                1 => {
                    let to = self.payee();
                    self.world.chain.replace(&payment.txid, &script(to), 50);
                }
                _ => {}
            }
        }
        if depth > 0 {
            self.world.counts.add("reorgs of the node");
        }
        let blocks = match self.world.below(6) {
            0 => depth,
            1 => depth.saturating_sub(1),
            _ => depth + 1 + self.world.below(2),
        };
        self.mine_some(blocks);
        let to = self.world.chain.tip_block();
        self.world.tell(format!("reorg {depth} deep to {}", crate::judge::name_block(&to)));
    }

    /// Back to a branch that was left, where that is not below the log's first block.
    fn prefer(&mut self) {
        let Some(hash) = self.tips.pop() else { return };
        let tip = self.world.chain.tip_block();
        let first = self.world.judge().first;
        if !first.is_some_and(|first| self.shares(tip.hash, hash, first)) {
            return;
        }
        let near = |(header, _): &(tally_ports::Header, Vec<Payment>)| {
            tip.height.get().abs_diff(header.block.height.get()) < DEPTH_MAX
        };
        if self.world.chain.body(&hash).is_some_and(|body| near(&body)) {
            self.tips.push(tip.hash);
            self.world.chain.prefer(&hash);
            let to = self.world.chain.tip_block();
            self.world.tell(format!("back to {}", crate::judge::name_block(&to)));
        }
    }

    /// Whether two branches have the same block at a height.
    fn shares(&self, one: BlockHash, other: BlockHash, height: Height) -> bool {
        let at = |tip: BlockHash| {
            let mut at = tip;
            while let Some((header, _)) = self.world.chain.body(&at)
                && header.block.height > height
            {
                at = header.prev;
            }
            at
        };
        at(one) == at(other)
    }

    fn log_fault(&mut self) {
        let count = 1 + self.world.below(3) as usize;
        if self.world.chance(2) {
            self.world.tell(format!("lose {count} acks"));
            self.world.log.lose_acks(count);
        } else {
            self.world.tell(format!("fail {count} appends"));
            self.world.log.fail_appends(count);
        }
    }

    fn node_fault(&mut self) {
        let calls = 1 + self.world.below(12) as usize;
        self.world.tell(format!("fail {calls} calls"));
        self.world.chain.fail_next(calls);
    }

    fn unwatch(&mut self) {
        if self.quoted > 3 && self.world.chance(3) {
            let number = self.world.below(self.quoted);
            self.world.unwatch(number);
        }
    }

    async fn kill(&mut self) {
        let slot = self.world.below(SLOTS as u64) as usize;
        self.world.kill(slot).await;
    }

    async fn restart(&mut self) {
        let slot = self.world.below(SLOTS as u64) as usize;
        if self.world.is_running(slot) {
            self.world.counts.add("processes stopped and started anew");
        }
        self.world.stop(slot).await;
        let forget = self.world.chance(3);
        self.start(slot, forget);
    }

    fn standby(&mut self) {
        let slot = self.world.below(SLOTS as u64) as usize;
        if !self.world.is_running(slot) {
            self.start(slot, false);
        }
    }

    fn start(&mut self, slot: usize, forget: bool) {
        let dies_at = if self.world.chance(2) { 1 + self.world.below(120) } else { 0 };
        self.world.start(slot, dies_at, forget);
    }

    /// The clock is set forward, as after a long sleep of the machine.
    async fn jump(&mut self) {
        // Nothing else happens in the instant of the jump.
        self.world.pass(10).await;
        let secs = [40, 700, 1300][self.world.below(3) as usize];
        self.world.counts.add("jumps of the clock");
        self.world.tell(format!("the clock jumps {secs} s"));
        self.world.timeline.skip(Span::from_secs(secs));
        self.world.pass(10).await;
    }

    /// Who died is started again, mostly.
    fn revive(&mut self) {
        let lives = (0..SLOTS).filter(|slot| self.world.is_running(*slot)).count();
        if lives == 0 && !self.world.chance(5) {
            let (slot, forget) = (self.world.below(SLOTS as u64) as usize, self.world.chance(4));
            self.start(slot, forget);
        }
    }

    /// No more faults: everything must be told at last.
    async fn rest(&mut self) {
        self.world.tell("rest");
        self.world.log.lose_acks(0);
        self.world.log.fail_appends(0);
        self.world.chain.fail_next(0);
        for slot in 0..SLOTS {
            self.world.kill(slot).await;
        }
        self.world.pass(10).await;
        self.world.start(self.world.below(SLOTS as u64) as usize, 0, false);
        // Higher than any branch in the log, so that nobody clings to it.
        let log = self.world.judge().tip().map_or(0, |tip| tip.height.get());
        let node = self.world.chain.tip_block().height.get();
        self.mine_some(log.saturating_sub(node) + 1);
        self.world.record();
        self.settle("the chain", |world| world.judge().tip() == Some(world.chain.tip_block())).await;
        // What no node has held since is gone when any would have dropped it.
        self.world.pass(70_000).await;
        self.world.timeline.skip(FORGOTTEN);
        self.world.pass(70_000).await;
        self.settle("everything", |world| world.judge().is_settled()).await;
    }

    async fn settle(&mut self, what: &str, is_settled: impl Fn(&World) -> bool) {
        let mut waited_ms = 0;
        while !is_settled(&self.world) {
            assert!(waited_ms < REST_MAX_MS, "{}{what} does not come to rest", self.world.report());
            self.world.pass(500).await;
            waited_ms += 500;
            self.world.check();
            self.world.report_soon();
        }
        self.world.check();
    }
}
