//! Orders whose facts left the log: they stay as they are, and their subjects begin anew.
//!
//! Not here: moving them (`archiver`).

use tally_events::{ArchivedOrder, OrdersArchived, Recorded};
use tally_ports::PortError;
use tally_types::Position;

use super::Fold;

impl Fold<'_> {
    pub(super) fn orders_archived(
        &mut self,
        fact: &OrdersArchived,
        recorded: &Recorded,
    ) -> Result<(), PortError> {
        for archived in &fact.orders {
            self.check_whole(archived)?;
            self.touch(&archived.order, |order| order.apply(recorded))?;
            for endpoint in &archived.endpoints {
                self.delivery_archived(archived, endpoint)?;
            }
        }
        Ok(())
    }

    /// Whoever folds the log without its archive misses facts of orders that are there: found out here.
    fn check_whole(&mut self, archived: &ArchivedOrder) -> Result<(), PortError> {
        let folded = self.order_entry(&archived.order)?.map(|entry| &entry.order);
        // Folded before, in a commit that was split, it stands at 0.
        let whole = folded.is_some_and(|order| {
            let own = order.own_position();
            order.version() >= archived.version && (own == Position::START || own >= archived.last)
        });
        if whole {
            return Ok(());
        }
        Err(PortError::persistent(format!(
            "order {} was archived with facts through position {}, and not all of them were folded: put the archive's \
             folder in its place and run `tally rebuild`",
            archived.order, archived.last
        )))
    }

    fn delivery_archived(&mut self, archived: &ArchivedOrder, endpoint: &str) -> Result<(), PortError> {
        self.with_delivery(&archived.order, endpoint, |_, state| {
            let begins_anew = state.position <= archived.delivered && state.position > Position::START;
            if begins_anew {
                state.position = Position::START;
            }
            Ok(begins_anew)
        })
    }
}
