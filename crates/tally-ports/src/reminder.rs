//! When to log a trouble that lasts: attempts go on many times a minute, and whoever reads the log wants to know
//! once.

use tally_types::{Span, Timestamp};

/// How often a trouble that lasts is told of again.
const EVERY: Span = Span::from_secs(60);

/// Remembers which trouble was told of last, and when.
#[derive(Debug, Default)]
pub struct Reminder {
    told: Option<(String, Timestamp)>,
}

impl Reminder {
    /// Whether to tell of a trouble now: it is another than the last one, or a minute has passed since.
    pub fn is_due(&mut self, trouble: &str, now: Timestamp) -> bool {
        let due = self.told.as_ref().is_none_or(|(told, at)| {
            // A clock that was set back says nothing of how long it has been.
            told != trouble || now < *at || now.since(*at) >= EVERY
        });
        if due {
            self.told = Some((trouble.to_owned(), now));
        }
        due
    }

    /// The trouble is over; true if it was told of.
    pub fn is_over(&mut self) -> bool {
        self.told.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_when_it_begins_and_then_each_minute() {
        let mut reminder = Reminder::default();
        assert!(!reminder.is_over(), "nothing was told yet");
        let told: Vec<_> = (0..200_i64)
            .filter(|second| {
                let trouble = if *second < 150 { "no answer" } else { "another chain" };
                reminder.is_due(trouble, Timestamp::from_secs(*second))
            })
            .collect();
        assert_eq!(told, [0, 60, 120, 150]);
        assert!(reminder.is_due("another chain", Timestamp::from_secs(100)), "the clock was set back");
        assert!(reminder.is_over() && !reminder.is_over());
        assert!(reminder.is_due("another chain", Timestamp::from_secs(101)), "it begins anew");
    }
}
