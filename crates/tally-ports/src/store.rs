//! A place for what can be folded again: ordered keys and values with atomic commits.

use crate::PortError;

/// Keys with their values, in key order.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// A row where it lies, with its new value, or none to remove it.
pub type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// Changes that happen together or not at all. A later change of a key in the batch wins.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Keys with their new value, or none to remove the key.
    pub rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteBatch {
    /// Sets `key`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.rows.push((key.into(), Some(value.into())));
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.rows.push((key.into(), None));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// An ordered store of bytes. Calls block: keep them off the async threads where they touch much.
///
/// Keys up to 512 bytes, values up to 64 KiB.
pub trait Store: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError>;

    /// Up to `limit` rows with `from <= key < to`, ascending.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError>;

    /// Up to `limit` rows with `from <= key < to`, descending.
    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError>;

    /// Commits a batch: atomic, and durable when it answers.
    fn commit(&self, batch: WriteBatch) -> Result<(), PortError>;

    /// The same, and `seen` is called once, as soon as every reader sees the batch: before it is durable, where the
    /// store knows a moment in between. What is kept here can be made again, so nobody need wait for the disk to read
    /// it. Not called where nothing was written.
    fn commit_seen(&self, batch: WriteBatch, seen: &mut dyn FnMut()) -> Result<(), PortError> {
        self.commit(batch)?;
        seen();
        Ok(())
    }

    /// The same for rows that lie elsewhere: in key order, each key once.
    fn commit_sorted(&self, rows: &[Row<'_>], seen: &mut dyn FnMut()) -> Result<(), PortError> {
        let owned = |(key, value): &Row<'_>| (key.to_vec(), value.map(<[u8]>::to_vec));
        self.commit_seen(WriteBatch { rows: rows.iter().map(owned).collect() }, seen)
    }

    /// Does a little of what makes the store smaller or faster and changes no row; answers whether there is more of it to
    /// do now. For moments in which nobody waits.
    fn tidy(&self) -> Result<bool, PortError> {
        Ok(false)
    }

    /// Removes everything.
    fn clear(&self) -> Result<(), PortError>;
}
