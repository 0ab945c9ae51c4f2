//! Several nodes of one chain behind one face: the one in use is kept until it fails, then the next one takes
//! over, once it has proved to be of the right chain and to know the branch that was told so far. Who failed is
//! counted, and left alone for a while.
//!
//! Not here: what is asked of blocks, and which of two branches to follow: that is the watcher's.

mod standing;
mod trail;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use metrics::counter;
use tally_ports::Header;
use tally_types::{BlockHash, ChainId, Height};
use tokio::time::{Instant, timeout};

use self::standing::Standing;
use self::trail::Trail;
use crate::fault::{Fault, FaultKind};

/// Blocks that a node may be behind what was seen: others hear of a block earlier.
const LAG_MAX: u64 = 2;
/// Blocks that are walked down from another branch's tip to one that was told before.
const FORK_MAX: usize = 128;
/// Between two looks at what the nodes not in use have.
const SURVEY_EVERY: Duration = Duration::from_secs(5);
/// For such a look.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(4);
/// For so long another node must be ahead of the one in use to take over.
const AHEAD_FOR: Duration = Duration::from_secs(10);

/// A node that can prove which chain it is of, and tell its branch.
#[async_trait]
pub(crate) trait Node: Send + Sync + 'static {
    /// Its name in messages, without credentials.
    fn label(&self) -> &str;

    /// Its name in metrics: host and port.
    fn authority(&self) -> &str;

    /// Proves that it is of the configured chain and answers what is needed.
    async fn verify(&self) -> Result<(), Fault>;

    /// The tip of its best branch.
    async fn tip(&self) -> Result<Header, Fault>;

    /// The block at a height of its best branch.
    async fn at(&self, height: Height) -> Result<Option<Header>, Fault>;

    /// A block of any branch.
    async fn header(&self, hash: BlockHash) -> Result<Option<Header>, Fault>;
}

/// The nodes of a chain, in order of preference.
pub(crate) struct Pool<N> {
    chain: ChainId,
    members: Vec<Member<N>>,
    course: Mutex<Course>,
    /// What was told of the chain lately.
    trail: Mutex<Trail>,
}

struct Member<N> {
    node: Arc<N>,
    standing: Mutex<Standing>,
}

/// Which node is in use.
struct Course {
    current: usize,
    /// How often it was another.
    switches: u64,
    next_survey: Option<Instant>,
    /// Who is ahead of the node in use, and since when.
    ahead: Option<(usize, Instant)>,
}

/// A member to ask, and whether there is nobody better: then it may lag, or be on another branch.
#[derive(Clone, Copy)]
struct Turn {
    index: usize,
    last_resort: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<N: Node> Pool<N> {
    /// A pool of at least one node.
    pub(crate) fn new(chain: ChainId, nodes: Vec<N>) -> Self {
        let member = |node| Member { node: Arc::new(node), standing: Mutex::default() };
        Self {
            chain,
            members: nodes.into_iter().map(member).collect(),
            course: Mutex::new(Course { current: 0, switches: 0, next_survey: None, ahead: None }),
            trail: Mutex::default(),
        }
    }

    /// The chain.
    pub(crate) fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// The node in use.
    pub(crate) fn current(&self) -> Option<Arc<N>> {
        let current = lock(&self.course).current;
        self.members.get(current).map(|member| Arc::clone(&member.node))
    }

    /// Counts up with each change of the node in use.
    pub(crate) fn switches(&self) -> u64 {
        lock(&self.course).switches
    }

    /// Verifies every node. One that cannot be reached is passed over while another can; one of another chain
    /// is refused in any case, for it is a mistake in the configuration.
    pub(crate) async fn check(&self) -> Result<(), Fault> {
        let (mut usable, mut unreached) = (None, None);
        for (index, member) in self.members.iter().enumerate() {
            match member.node.verify().await {
                Ok(()) => {
                    lock(&member.standing).admit();
                    usable.get_or_insert(index);
                }
                Err(fault) if fault.error.is_transient() => {
                    self.blame(index, &fault);
                    unreached.get_or_insert(fault);
                }
                Err(fault) => return Err(fault),
            }
        }
        match (usable, unreached) {
            (Some(index), _) => {
                let mut course = lock(&self.course);
                if course.current != index {
                    (course.current, course.switches) = (index, course.switches.saturating_add(1));
                }
                Ok(())
            }
            (None, unreached) => Err(unreached.unwrap_or_else(|| self.nobody())),
        }
    }

    /// The tip, which must lead to what was told before.
    pub(crate) async fn tip(self: &Arc<Self>) -> Result<Header, Fault> {
        self.survey();
        let ask = |node: Arc<N>, last_resort: bool| async move {
            let tip = node.tip().await?;
            if !last_resort {
                self.place(&*node, &tip).await?;
            }
            Ok(tip)
        };
        let tip = self.run(ask).await?;
        lock(&self.trail).set_top(&tip);
        Ok(tip)
    }

    /// The block at a height of the best branch. That there is none is believed of a node that is not behind.
    pub(crate) async fn at(&self, height: Height) -> Result<Option<Header>, Fault> {
        let known = lock(&self.trail).top().is_some_and(|top| height <= top.height);
        let ask = |node: Arc<N>, last_resort: bool| async move {
            let told = node.at(height).await?;
            if told.is_none() && known && !last_resort {
                return Err(absent(&*node, format_args!("block {height}")));
            }
            Ok(told)
        };
        let told = self.run(ask).await?;
        if let Some(header) = &told {
            lock(&self.trail).note(header);
        }
        Ok(told)
    }

    /// A block of any branch. That there is none is not believed of one that was told before.
    pub(crate) async fn header(&self, hash: BlockHash) -> Result<Option<Header>, Fault> {
        let known = lock(&self.trail).height_of(&hash).is_some();
        let ask = |node: Arc<N>, last_resort: bool| async move {
            let told = node.header(hash).await?;
            if told.is_none() && known && !last_resort {
                return Err(absent(&*node, format_args!("block {hash}")));
            }
            Ok(told)
        };
        self.run(ask).await
    }

    /// Asks the node in use, and each other in turn while they fail. The first failure is told if all do.
    pub(crate) async fn run<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Arc<N>, bool) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let from = lock(&self.course).current;
        let mut first_failure = None;
        for turn in self.turns(from) {
            match self.attempt(turn, &call).await {
                Ok(answer) => {
                    self.settle(from, turn.index);
                    return Ok(answer);
                }
                Err(fault) if fault.kind == FaultKind::Internal => return Err(fault),
                Err(fault) => {
                    self.blame(turn.index, &fault);
                    first_failure.get_or_insert(fault);
                }
            }
        }
        Err(first_failure.unwrap_or_else(|| self.nobody()))
    }

    /// Who is asked, in order: those without a recent fault, from the one in use on; then those that rest. Who
    /// lied is asked again when its rest is over, or when there is nobody else.
    fn turns(&self, from: usize) -> Vec<Turn> {
        let (now, count) = (Instant::now(), self.members.len());
        let mut turns: Vec<_> = (from..count)
            .chain(0..from)
            .filter_map(|index| Some((lock(&self.members.get(index)?.standing).rank(now), index)))
            .collect();
        turns.sort_by_key(|(rank, _)| *rank);
        let best = turns.first().map(|(rank, _)| rank.is_grave()).unwrap_or_default();
        let turns = turns.into_iter().filter(|(rank, _)| rank.is_grave() == best);
        turns.map(|(rank, index)| Turn { index, last_resort: count == 1 || rank.rests() }).collect()
    }

    async fn attempt<T, F, Fut>(&self, turn: Turn, call: &F) -> Result<T, Fault>
    where
        F: Fn(Arc<N>, bool) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let Some(member) = self.members.get(turn.index) else { return Err(self.nobody()) };
        if !lock(&member.standing).is_admitted() {
            member.node.verify().await?;
            if !turn.last_resort && lock(&self.trail).top().is_some() {
                let tip = member.node.tip().await?;
                self.place(&*member.node, &tip).await?;
            }
            lock(&member.standing).admit();
        }
        call(Arc::clone(&member.node), turn.last_resort).await
    }

    /// Proves that a node's tip leads to what was told before, on this branch or by a fork, and is not behind.
    async fn place(&self, node: &N, tip: &Header) -> Result<(), Fault> {
        let (top, floor) = {
            let trail = lock(&self.trail);
            (trail.top(), trail.floor())
        };
        let (Some(top), Some(floor)) = (top, floor) else { return Ok(()) };
        let known = |hash: &BlockHash| lock(&self.trail).height_of(hash);
        let behind = tip.block.height.get().saturating_add(LAG_MAX) < top.height.get();
        if known(&tip.block.hash).is_none() && known(&tip.prev).is_none() {
            let mut at = *tip;
            if tip.block.height > top.height {
                let there = node.at(top.height).await?;
                at = there.ok_or_else(|| absent(node, format_args!("block {}", top.height)))?;
            }
            let mut steps = 0;
            // Below what is known of the branch nothing can be said: that is for the caller, who knows more.
            while at.block.height >= floor && known(&at.block.hash).is_none() {
                if steps == FORK_MAX || at.block.height.get() == 0 {
                    let what = format!("{}: its branch does not lead to {}", node.label(), top.hash);
                    return Err(Fault::new(FaultKind::Unconnected, what));
                }
                let before = node.header(at.prev).await?;
                at = before.ok_or_else(|| absent(node, format_args!("block {}", at.prev)))?;
                steps = steps.saturating_add(1);
            }
        }
        if behind {
            let what = format!("{}: its tip {} is behind {}", node.label(), tip.block.height, top.height);
            return Err(Fault::new(FaultKind::Lagging, what));
        }
        Ok(())
    }

    /// The node answered: it is the one in use now, unless another was found meanwhile.
    fn settle(&self, from: usize, index: usize) {
        let Some(member) = self.members.get(index) else { return };
        if lock(&member.standing).answered() {
            tracing::info!(chain = %self.chain, node = member.node.label(), "node answers again");
        }
        let mut course = lock(&self.course);
        if index != from && course.current == from {
            self.switch(&mut course, index);
        }
    }

    fn switch(&self, course: &mut Course, index: usize) {
        (course.current, course.switches) = (index, course.switches.saturating_add(1));
        course.ahead = None;
        let node = self.members.get(index).map(|member| member.node.label()).unwrap_or_default();
        tracing::warn!(chain = %self.chain, node, "switched to another node");
        counter!("tally_endpoint_switches_total", "chain" => self.chain.to_string()).increment(1);
    }

    /// Counts a node's fault and leaves it alone for a while.
    fn blame(&self, index: usize, fault: &Fault) {
        let Some(member) = self.members.get(index) else { return };
        let (node, kind) = (&member.node, fault.kind.as_str());
        let labels = [
            ("chain", self.chain.to_string()),
            ("endpoint", node.authority().to_owned()),
            ("kind", kind.to_owned()),
        ];
        counter!("tally_endpoint_faults_total", &labels).increment(1);
        let news = lock(&member.standing).failed(fault.kind, Instant::now());
        let (chain, node, error, incident) =
            (&self.chain, node.label(), fault.error.in_full(), fault.kind.incident());
        match (news.is_told, incident) {
            (false, _) => tracing::debug!(%chain, node, kind, error, "node failed again"),
            (true, None) => tracing::warn!(%chain, node, kind, error, "node failed"),
            (true, Some(_)) => tracing::error!(%chain, node, kind, error, "node failed"),
        }
        if let (true, Some(incident)) = (news.is_fault, incident) {
            counter!("tally_incidents_total", "kind" => incident).increment(1);
        }
    }

    /// Looks now and then whether the node in use falls behind the others.
    fn survey(self: &Arc<Self>) {
        let now = Instant::now();
        let current = {
            let mut course = lock(&self.course);
            if self.members.len() < 2 || course.next_survey.is_some_and(|next| now < next) {
                return;
            }
            course.next_survey = Some(now + SURVEY_EVERY);
            course.current
        };
        let pool = Arc::clone(self);
        tokio::spawn(async move { pool.look_around(current, now).await });
    }

    async fn look_around(&self, current: usize, now: Instant) {
        let mut best: Option<(usize, Header)> = None;
        for (index, member) in self.members.iter().enumerate() {
            if index == current || lock(&member.standing).rank(now).rests() {
                continue;
            }
            match timeout(SURVEY_TIMEOUT, self.sound(member)).await {
                Ok(Ok(tip)) if best.is_none_or(|(_, best)| tip.block.height > best.block.height) => {
                    best = Some((index, tip));
                }
                Ok(Ok(_)) => {}
                Ok(Err(fault)) => self.blame(index, &fault),
                Err(_) => {
                    let what = format!("{}: the node does not answer", member.node.label());
                    self.blame(index, &Fault::new(FaultKind::Unreachable, what));
                }
            }
        }
        let Some((index, tip)) = best else { return };
        let Some(top) = lock(&self.trail).top() else { return };
        let is_ahead = tip.block.height.get() > top.height.get().saturating_add(LAG_MAX);
        let late = {
            let mut course = lock(&self.course);
            let since = course.ahead.filter(|(who, _)| *who == index).map_or(now, |(_, since)| since);
            course.ahead = is_ahead.then_some((index, since));
            is_ahead && course.current == current && now.duration_since(since) >= AHEAD_FOR
        };
        let behind = self.members.get(current).map(|member| &member.node);
        if let (true, Some(behind)) = (late, behind) {
            let what = format!("{}: its tip {} is behind {}", behind.label(), top.height, tip.block.height);
            self.blame(current, &Fault::new(FaultKind::Lagging, what));
            let mut course = lock(&self.course);
            if course.current == current {
                self.switch(&mut course, index);
            }
        }
    }

    /// The tip of a node that is not in use, which leads to what was told.
    async fn sound(&self, member: &Member<N>) -> Result<Header, Fault> {
        if !lock(&member.standing).is_admitted() {
            member.node.verify().await?;
        }
        let tip = member.node.tip().await?;
        // That one behind is no fault while it is not used.
        match self.place(&*member.node, &tip).await {
            Err(fault) if fault.kind != FaultKind::Lagging => Err(fault),
            _ => {
                lock(&member.standing).admit();
                Ok(tip)
            }
        }
    }

    fn nobody(&self) -> Fault {
        Fault::new(FaultKind::Unable, format!("chain {:?}: rpc names no node", self.chain.as_str()))
    }
}

fn absent<N: Node>(node: &N, what: std::fmt::Arguments<'_>) -> Fault {
    Fault::new(FaultKind::Absent, format!("{}: {what} was told before and is absent", node.label()))
}

#[cfg(test)]
mod tests;
