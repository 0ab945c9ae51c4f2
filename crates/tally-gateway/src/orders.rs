//! The use cases of an order, under all faces: create, find, cancel, accept.
//!
//! Each reads its own writes, and what others were told: before it answers about an order it asks the log where it ends
//! and waits until the fold has reached that; before a command, where the order's own subject ends. Not here: quoting
//! (`quoting`).

mod quoting;

pub(crate) use quoting::Offer;

use tally_events::{AcceptedDeposit, Event, Fact, OrderClaimed, OrderCreated, Subject};
use tally_order::{Order, Refusal};
use tally_ports::Expectation;
use tally_types::{Face, MerchantId, OrderId, Position};

use crate::app::{Gateway, TRIES};
use crate::problem::Problem;

/// What came of creating an order.
pub(crate) enum Creation {
    /// It is new.
    Created(Box<Order>),
    /// The merchant's own id is taken by this order.
    Existing(Box<Order>),
    /// The order's own id, which is random, is taken by another order.
    IdTaken,
}

impl Gateway {
    /// Creates an order, unless the merchant's own id is taken: the claim and the order are one append.
    pub(crate) async fn create_order(&self, created: &OrderCreated) -> Result<Creation, Problem> {
        let (merchant, face, own_id) = (created.merchant, created.face, &created.own_id);
        let claim = Subject::claim(merchant, face, own_id);
        let subject = Subject::order(&created.order);
        let now = created.created_at;
        let order = created.order.clone();
        let claimed = OrderClaimed { merchant, face, own_id: own_id.clone(), order: order.clone() };
        let batch =
            vec![Event::new(claim.clone(), claimed, now), Event::new(subject.clone(), created.clone(), now)];
        let expectations = vec![Expectation::none(claim.clone()), Expectation::none(subject)];
        if let Some(positions) = self.append(expectations, batch).await? {
            self.settle(&positions).await?;
            let order = self.model.order(&order).await?;
            return order.map(Box::new).map(Creation::Created).ok_or_else(Problem::behind);
        }
        if self.caught_up(&claim).await? == Position::START {
            return Ok(Creation::IdTaken);
        }
        let order = self.order_by_own_id(merchant, face, own_id).await?;
        Ok(Creation::Existing(Box::new(order)))
    }

    /// The order with a merchant's own id, as the log has it now.
    pub(crate) async fn order_by_own_id(
        &self,
        merchant: MerchantId,
        face: Face,
        own_id: &str,
    ) -> Result<Order, Problem> {
        self.caught_up(&Subject::claim(merchant, face, own_id)).await?;
        let id = self.model.order_by_own_id(merchant, face, own_id).await?;
        self.order_by_id(&id.ok_or_else(Problem::order_not_found)?).await
    }

    /// An order, as the log has it now: with all that chains did to it, too, which does not stand on its own
    /// subject. Somebody may have been notified of that by an instance that was faster.
    pub(crate) async fn order_by_id(&self, id: &OrderId) -> Result<Order, Problem> {
        if let Err(behind) = self.caught_up_with_all().await {
            return Err(if self.is_nobodys(id).await? { Problem::order_not_found() } else { behind });
        }
        self.model.order(id).await?.ok_or_else(Problem::order_not_found)
    }

    /// Whether the log alone says that there is no such order. Once anything was archived it cannot: the facts of an
    /// order may have left it.
    async fn is_nobodys(&self, id: &OrderId) -> Result<bool, Problem> {
        Ok(self.log.last(&Subject::order(id)).await?.is_none()
            && self.log.last(&Subject::archive()).await?.is_none())
    }

    /// Calls an order off.
    pub(crate) async fn cancel_order(&self, id: &OrderId) -> Result<Order, Problem> {
        self.command(id, |order| order.cancel().map(Into::into)).await
    }

    /// Lets late money count.
    pub(crate) async fn accept_order(&self, id: &OrderId, by: &str) -> Result<Order, Problem> {
        self.command(id, |order| {
            let all = order.acceptable().into_iter();
            let deposits = all.map(|deposit| AcceptedDeposit { deposit, full: None }).collect();
            order.accept(deposits, by).map(Into::into)
        })
        .await
    }

    /// One fact on an order's own subject, decided again when someone else was faster.
    async fn command(
        &self,
        id: &OrderId,
        decide: impl Fn(&Order) -> Result<Fact, Refusal>,
    ) -> Result<Order, Problem> {
        let subject = Subject::order(id);
        for _ in 0..TRIES {
            let position = self.caught_up(&subject).await?;
            let order = self.model.order(id).await?.ok_or_else(Problem::order_not_found)?;
            let fact = decide(&order).map_err(|refusal| refused(&refusal))?;
            let event = Event::new(subject.clone(), fact, self.clock.now());
            let expectations = vec![Expectation::new(subject.clone(), position)];
            if let Some(positions) = self.append(expectations, vec![event]).await? {
                self.settle(&positions).await?;
                return self.model.order(id).await?.ok_or_else(Problem::order_not_found);
            }
        }
        Err(Problem::behind())
    }
}

/// A refused command on an order.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    Problem::invalid(refusal.to_string())
}
