//! How many shards a chain has, by the log.

use tally_events::{Fact, Shard, Subject};
use tally_ports::{EventLog, PortError};
use tally_types::{ChainId, Position};

use crate::config::Part;

/// The shards of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Counts the changes of their number.
    pub(crate) generation: u32,
    pub(crate) count: u32,
    /// The fact that says so; 0 where none does, and there is one shard.
    pub(crate) position: Position,
}

impl Plan {
    pub(crate) const NONE: Self = Self { generation: 0, count: 1, position: Position::START };

    pub(crate) async fn read(log: &dyn EventLog, chain: &ChainId) -> Result<Self, PortError> {
        let Some(last) = log.last(&Subject::chain_plan(chain)).await? else { return Ok(Self::NONE) };
        match last.event.fact {
            Fact::ChainSharded(fact) => {
                Ok(Self { generation: fact.generation, count: fact.count, position: last.position })
            }
            other => Err(PortError::persistent(format!(
                "the plan of chain {chain} ends with a {} fact, which is none of it",
                other.kind()
            ))),
        }
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = Shard> {
        Shard::all(self.count)
    }

    /// The subject of one of the shards.
    pub(crate) fn subject(&self, chain: &ChainId, shard: Shard) -> Subject {
        Subject::chain(chain, self.generation, shard.index())
    }
}

/// What a watcher does under a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Watches these shards, or stands by for them.
    Serve(Vec<Shard>),
    /// Stands by for every shard while it changes their number to this.
    Change(u32),
    /// Nothing: the log has another number of shards than this watcher is one of.
    Idle,
}

impl Role {
    /// `may_change`: only a watcher that has just been started asks for another number. One that finds the number
    /// changed later was told by somebody who was started after it.
    pub(crate) fn of(part: Part, plan: &Plan, may_change: bool) -> Self {
        match part {
            Part::All => Self::Serve(plan.shards().collect()),
            Part::One(shard) if shard.count() == plan.count => Self::Serve(vec![shard]),
            Part::One(shard) if may_change => Self::Change(shard.count()),
            Part::One(_) => Self::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_roles() {
        let four = Plan { generation: 2, count: 4, position: Position::new(9) };
        let shard = |text: &str| text.parse::<Shard>().unwrap();
        let rows = [
            ("all of one", Part::All, Plan::NONE, true, Role::Serve(vec![Shard::WHOLE])),
            ("the only one", Part::One(Shard::WHOLE), Plan::NONE, true, Role::Serve(vec![Shard::WHOLE])),
            ("all of four", Part::All, four, false, Role::Serve(Shard::all(4).collect())),
            ("one of four", Part::One(shard("2/4")), four, false, Role::Serve(vec![shard("2/4")])),
            ("one of two, new", Part::One(shard("2/2")), four, true, Role::Change(2)),
            ("one of two, left over", Part::One(shard("2/2")), four, false, Role::Idle),
        ];
        for (name, part, plan, may_change, role) in rows {
            assert_eq!(Role::of(part, &plan, may_change), role, "{name}");
        }
    }
}
