//! Readers: history from the disk up to what is durable, then live from the writer.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt, stream};
use tally_events::Recorded;
use tally_ports::{EventStream, PortError};
use tally_types::Position;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::record::Reader;
use super::{Inner, LiveGroup, cut_off, stopped};
use crate::LogName;

/// Facts read from the disk at once.
const PAGE: usize = 512;

/// Where a reader stands.
struct Cursor {
    inner: Arc<Inner>,
    name: LogName,
    /// The position to give out next, or, where older facts were removed, the first that is there.
    next: u64,
    /// Read, and not given out yet.
    page: VecDeque<Recorded>,
    live: Receiver<LiveGroup>,
    ended: bool,
}

/// Every fact after `after`, history first, then live.
pub(super) fn read(inner: Arc<Inner>, name: LogName, after: Position) -> Result<EventStream, PortError> {
    let tail = inner.tail(name);
    let live = tail.live.upgrade().ok_or_else(|| stopped(&inner.dir))?.subscribe();
    let head = *tail.durable.borrow();
    if after.get() > head {
        return Err(PortError::persistent(format!(
            "position {after} is beyond the log's head {head}: this state was not folded from the log in {}",
            inner.dir.display()
        )));
    }
    let next = after.next().get();
    let cursor = Cursor { inner, name, next, page: VecDeque::new(), live, ended: false };
    Ok(stream::unfold(cursor, |mut cursor| async move {
        if cursor.ended {
            return None;
        }
        let fact = cursor.next_fact().await;
        cursor.ended = fact.is_err();
        Some((fact, cursor))
    })
    .boxed())
}

impl Cursor {
    async fn next_fact(&mut self) -> Result<Recorded, PortError> {
        loop {
            if let Some(fact) = self.page.pop_front() {
                self.next = fact.position.next().get();
                return Ok(fact);
            }
            match self.live.try_recv() {
                Ok(group) => self.take_live(&group).await?,
                Err(TryRecvError::Lagged(_)) => self.page_from_disk().await?,
                Err(TryRecvError::Closed) => return Err(stopped(&self.inner.dir)),
                Err(TryRecvError::Empty) if self.next <= self.durable() => self.page_from_disk().await?,
                Err(TryRecvError::Empty) => match self.live.recv().await {
                    Ok(group) => self.take_live(&group).await?,
                    Err(RecvError::Lagged(_)) => self.page_from_disk().await?,
                    Err(RecvError::Closed) => return Err(stopped(&self.inner.dir)),
                },
            }
        }
    }

    fn durable(&self) -> u64 {
        *self.inner.tail(self.name).durable.borrow()
    }

    /// Takes what is new of a group, unless facts before it have not been read yet.
    async fn take_live(&mut self, group: &LiveGroup) -> Result<(), PortError> {
        match group.first() {
            Some(first) if first.position.get() > self.next => self.page_from_disk().await,
            _ => {
                let new = group.iter().filter(|fact| fact.position.get() >= self.next);
                self.page.extend(new.cloned());
                Ok(())
            }
        }
    }

    async fn page_from_disk(&mut self) -> Result<(), PortError> {
        let (inner, name, from, to) = (self.inner.clone(), self.name, self.next, self.durable());
        let read = tokio::task::spawn_blocking(move || {
            let reader = Reader { dir: &inner.dir, db: &inner.db, tag: name.into() };
            let mut ends: Option<(u64, u64)> = None;
            let mut facts = VecDeque::with_capacity(PAGE);
            reader.each(from, to, PAGE, |fact| {
                ends = Some((ends.map_or(fact.position, |(first, _)| first), fact.position));
                if !fact.is_void() {
                    facts.push_back(fact.recorded(&inner.dir)?);
                }
                Ok(())
            })?;
            Ok::<_, PortError>((ends, facts))
        });
        let (ends, page) = read.await.map_err(|error| cut_off(&self.inner.dir, error))??;
        let first = ends.map_or(to.saturating_add(1), |(first, _)| first);
        // Of the main log nothing is ever removed at its beginning.
        if self.name == LogName::Main && first > from && from <= to {
            let what = format!("facts after position {} are missing", from.saturating_sub(1));
            return Err(super::damaged(&self.inner.dir, &what));
        }
        if let (true, Some((_, last))) = (page.is_empty(), ends) {
            self.next = last.saturating_add(1);
        }
        self.page = page;
        Ok(())
    }
}
