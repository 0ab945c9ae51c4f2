//! The way to the log, which can be cut.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tally_events::{NewEvent, Recorded, Subject};
use tally_ports::{AppendError, EventLog, EventStream, Expectation, PortError};
use tally_testkit::MemoryLog;
use tally_types::Position;

/// A log that can be out of reach. Who reads it already goes on reading.
pub(crate) struct Line {
    log: MemoryLog,
    cut: AtomicBool,
}

impl Line {
    pub(crate) fn new(log: MemoryLog) -> Self {
        Self { log, cut: AtomicBool::new(false) }
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn reached(&self) -> Result<(), PortError> {
        if self.cut.load(Ordering::SeqCst) {
            Err(PortError::transient("the log is out of reach"))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl EventLog for Line {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.reached()?;
        self.log.append(expectations, batch).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        self.reached()?;
        self.log.read(after).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.reached()?;
        self.log.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.reached()?;
        self.log.head().await
    }
}
