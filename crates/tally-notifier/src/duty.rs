//! Holding on to leases while a duty is done.
//!
//! A lease counts as held once the read model has folded all that stood in the log when it was granted, so
//! that a new holder never acts on less than the old one knew. Not here: what the duty is.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_events::Epoch;
use tally_ports::{EventLog, Grant, Lease, ReadModel};
use tally_types::{Position, Span};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The duties held now, by their names, with the terms they are held for.
pub(crate) type Held = BTreeMap<String, Term>;

/// A term of a duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) epoch: Epoch,
    /// Until when it lasts without being renewed. A process that was frozen finds itself beyond it, and must not act,
    /// before the lease itself has said so.
    pub(crate) until: Instant,
}

impl Term {
    pub(crate) fn lasts(&self) -> bool {
        Instant::now() < self.until
    }
}

/// What was begun under a term of a duty.
#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    pub(crate) name: String,
    pub(crate) epoch: Epoch,
    pub(crate) held: watch::Receiver<Held>,
}

impl Tenure {
    /// Whether the duty is held still, under the same term.
    pub(crate) fn lasts(&self) -> bool {
        let held = self.held.borrow();
        held.get(&self.name).is_some_and(|term| term.epoch == self.epoch && term.lasts())
    }
}

/// How long a lease lasts without renewal: a dead holder's duties are taken over in 5 s, of which the server may take one
/// to drop the entry, and the asking in turns another one and a half.
pub(crate) const LEASE: Span = Span::from_secs(3);

/// The turn while something is wanted or about to be held; else a third of the lease's time.
const TURN: Duration = Duration::from_millis(100);

/// Asks for leases, renews them, and gives them back in the end.
pub(crate) struct Keeper {
    pub(crate) lease: Arc<dyn Lease>,
    /// What must have caught up; none for duties that read no fold.
    pub(crate) fold: Option<Fold>,
    pub(crate) names: Vec<String>,
    pub(crate) ttl: Span,
}

/// A read model and the log it folds.
pub(crate) struct Fold {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) model: Arc<dyn ReadModel>,
}

struct Kept {
    grant: Grant,
    /// The log's head when it was granted; none until that is known.
    ready_at: Option<Position>,
    renew_at: Instant,
    lost_at: Instant,
}

impl Keeper {
    /// Keeps `held` up to date until `stop`; then gives everything back.
    pub(crate) async fn run(self, held: watch::Sender<Held>, stop: CancellationToken) {
        let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
        let mut ask_at: BTreeMap<String, Instant> = BTreeMap::new();
        while !stop.is_cancelled() {
            self.renew(&mut kept).await;
            self.ask(&mut kept, &mut ask_at).await;
            self.catch_up(&mut kept).await;
            let ready: Held = kept
                .iter()
                .filter(|(_, lease)| self.is_ready(lease))
                .map(|(name, lease)| (name.clone(), Term { epoch: lease.grant.epoch, until: lease.lost_at }))
                .collect();
            let settled = ready.len() == self.names.len();
            held.send_if_modified(|now| {
                // A term that goes on is no news, unless it had run out in between.
                let goes_on = |term: &Term, next: &Term| term.epoch == next.epoch && term.lasts();
                let same = now.len() == ready.len()
                    && now.iter().all(|(name, term)| ready.get(name).is_some_and(|next| goes_on(term, next)));
                *now = ready;
                !same
            });
            let turn = if settled { (self.ttl.to_duration() / 6).max(TURN) } else { TURN };
            tokio::select! {
                () = tokio::time::sleep(turn) => {}
                () = stop.cancelled() => {}
            }
        }
        held.send_replace(Held::new());
        for lease in kept.into_values() {
            if let Err(error) = self.lease.release(lease.grant).await {
                tracing::debug!(%error, "a lease could not be given back; it runs out by itself");
            }
        }
    }

    async fn renew(&self, kept: &mut BTreeMap<String, Kept>) {
        let mut lost = Vec::new();
        for (name, lease) in kept.iter_mut().filter(|(_, lease)| lease.renew_at <= Instant::now()) {
            let asked = Instant::now();
            match self.lease.renew(&lease.grant, self.ttl).await {
                Ok(Some(grant)) => {
                    lease.grant = grant;
                    (lease.renew_at, lease.lost_at) = self.times(asked);
                }
                Ok(None) => lost.push(name.clone()),
                Err(error) if Instant::now() < lease.lost_at => {
                    tracing::debug!(%error, name, "a lease could not be renewed yet");
                }
                Err(error) => {
                    tracing::warn!(%error, name, "a lease could not be renewed in its time");
                    lost.push(name.clone());
                }
            }
        }
        for name in lost {
            tracing::info!(name, "a duty passed to another instance");
            kept.remove(&name);
        }
    }

    /// Asks for one lease a turn, so that instances that start together share the duties; for the one that was not
    /// asked for for longest, or those at the end would never come to their turn where each question takes long.
    async fn ask(&self, kept: &mut BTreeMap<String, Kept>, ask_at: &mut BTreeMap<String, Instant>) {
        let now = Instant::now();
        let wanted = self
            .names
            .iter()
            .filter(|name| !kept.contains_key(*name) && ask_at.get(*name).is_none_or(|at| *at <= now))
            .min_by_key(|name| ask_at.get(*name));
        let Some(name) = wanted else { return };
        match self.lease.acquire(name, self.ttl).await {
            Ok(Some(grant)) => {
                let (renew_at, lost_at) = self.times(now);
                kept.insert(name.clone(), Kept { grant, ready_at: None, renew_at, lost_at });
            }
            answer => {
                if let Err(error) = answer {
                    tracing::debug!(%error, name, "a lease could not be asked for");
                }
                ask_at.insert(name.clone(), now + self.ttl.to_duration() / 4);
            }
        }
    }

    async fn catch_up(&self, kept: &mut BTreeMap<String, Kept>) {
        let Some(fold) = &self.fold else { return };
        for lease in kept.values_mut().filter(|lease| lease.ready_at.is_none()) {
            match fold.log.head().await {
                Ok(head) => lease.ready_at = Some(head),
                Err(error) => tracing::debug!(%error, "the head of the log is not known yet"),
            }
        }
    }

    fn is_ready(&self, lease: &Kept) -> bool {
        if Instant::now() >= lease.lost_at {
            return false;
        }
        let Some(fold) = &self.fold else { return true };
        lease.ready_at.is_some_and(|at| at <= fold.model.position())
    }

    /// When a lease granted or renewed at `asked` is renewed again, and when it is lost without that.
    fn times(&self, asked: Instant) -> (Instant, Instant) {
        let ttl = self.ttl.to_duration();
        (asked + ttl / 3, asked + ttl)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tally_ports::PortError;

    use super::*;
    use crate::world::{Folded, World};

    /// Leases that answer after a while: those in the list are somebody else's. None is ever renewed in time.
    struct Slow {
        taken: &'static [&'static str],
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Lease for Slow {
        async fn acquire(&self, name: &str, _: Span) -> Result<Option<Grant>, PortError> {
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.asked.lock().unwrap().push(name.to_owned());
            let grant = Grant { name: name.to_owned(), epoch: Epoch::new(1), revision: 1 };
            Ok((!self.taken.contains(&name)).then_some(grant))
        }

        async fn renew(&self, _: &Grant, _: Span) -> Result<Option<Grant>, PortError> {
            std::future::pending().await
        }

        async fn release(&self, _: Grant) -> Result<(), PortError> {
            Ok(())
        }
    }

    fn keep(
        taken: &'static [&'static str],
    ) -> (Arc<Slow>, watch::Receiver<Held>, tokio::task::JoinHandle<()>) {
        let lease = Arc::new(Slow { taken, asked: Mutex::default() });
        let names = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).into();
        let keeper = Keeper { lease: lease.clone(), fold: None, names, ttl: Span::from_secs(5) };
        let (sender, held) = watch::channel(Held::new());
        (lease, held, tokio::spawn(keeper.run(sender, CancellationToken::new())))
    }

    #[tokio::test(start_paused = true)]
    async fn every_duty_is_asked_for_in_its_turn_however_long_that_takes() {
        let (lease, mut held, task) = keep(&["a", "b", "c", "d", "e"]);
        let found =
            tokio::time::timeout(Duration::from_secs(10), held.wait_for(|held| held.contains_key("f"))).await;
        assert!(found.is_ok(), "asked for {:?}", lease.asked.lock().unwrap());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_by_itself() {
        let (_lease, mut held, task) = keep(&["b", "c", "d", "e", "f"]);
        let term = *held.wait_for(|held| held.contains_key("a")).await.unwrap().get("a").unwrap();
        let tenure = Tenure { name: "a".to_owned(), epoch: term.epoch, held };
        assert!(tenure.lasts());
        // The keeper hangs in the renewal and says nothing.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(tenure.held.borrow().contains_key("a") && !tenure.lasts());
        task.abort();
    }

    /// Keeps `a` for five seconds at a time.
    fn keep_one(lease: Arc<dyn Lease>, fold: Option<Fold>) -> watch::Receiver<Held> {
        let keeper = Keeper { lease, fold, names: vec!["a".to_owned()], ttl: Span::from_secs(5) };
        let (sender, held) = watch::channel(Held::new());
        tokio::spawn(keeper.run(sender, CancellationToken::new()));
        held
    }

    fn has(held: &watch::Receiver<Held>) -> bool {
        held.borrow().contains_key("a")
    }

    #[tokio::test(start_paused = true)]
    async fn a_duty_is_held_once_the_fold_has_what_stood_in_the_log() {
        let world = World::new().await;
        let facts = world.log.facts();
        let model = Folded::still();
        let fold = Fold { log: Arc::new(world.log.clone()), model: model.clone() };
        let held = keep_one(world.lease.clone(), Some(fold));
        let (last, others) = facts.split_last().unwrap();
        for fact in others {
            model.fold(fact);
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!has(&held), "it lacks the last fact");
        world.create(1, "http://ok/");
        model.fold(last);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(has(&held), "what came after the grant is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_lost_is_let_go_and_asked_for_again() {
        let world = World::new().await;
        let mut held = keep_one(world.lease.clone(), None);
        let first = *held.wait_for(|held| held.contains_key("a")).await.unwrap().get("a").unwrap();
        world.lease.revoke("a");
        world.lease.acquire("a", Span::from_secs(60)).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!has(&held), "it is known before the term is over by itself");
        world.clock.advance(Span::from_secs(61));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let again = *held.borrow().get("a").expect("it is free again");
        assert!(again.epoch > first.epoch);
    }

    /// A lease whose server is not reached but for new leases, which it grants after a while.
    struct Unreached(Mutex<u64>, Duration);

    #[async_trait]
    impl Lease for Unreached {
        async fn acquire(&self, name: &str, _: Span) -> Result<Option<Grant>, PortError> {
            tokio::time::sleep(self.1).await;
            let mut epoch = self.0.lock().unwrap();
            *epoch += 1;
            Ok(Some(Grant { name: name.to_owned(), epoch: Epoch::new(*epoch), revision: *epoch }))
        }

        async fn renew(&self, _: &Grant, _: Span) -> Result<Option<Grant>, PortError> {
            Err(PortError::transient("not reached"))
        }

        async fn release(&self, _: Grant) -> Result<(), PortError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_cannot_be_renewed_is_held_to_its_end_and_no_longer() {
        let mut held = keep_one(Arc::new(Unreached(Mutex::default(), Duration::ZERO)), None);
        held.wait_for(|held| held.contains_key("a")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(
            held.borrow().get("a").map(|term| term.epoch),
            Some(Epoch::new(1)),
            "its time is not over"
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(held.borrow().get("a").map(|term| term.epoch), Some(Epoch::new(2)), "it is a new term");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_granted_too_late_is_never_held() {
        let mut held = keep_one(Arc::new(Unreached(Mutex::default(), Duration::from_secs(6))), None);
        let found = held.wait_for(|held| held.contains_key("a"));
        assert!(
            tokio::time::timeout(Duration::from_secs(60), found).await.is_err(),
            "it runs from the question"
        );
    }
}
