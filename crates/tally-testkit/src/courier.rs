//! A courier and a mailer that bring nothing anywhere and remember everything.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use tally_ports::{Answer, Courier, CourierError, Mail, Mailer, Parcel, PortError};

use crate::lock;

/// A [`Courier`] that records what it was given and answers as told.
#[derive(Debug)]
pub struct RecordingCourier {
    posted: Mutex<Vec<Parcel>>,
    script: Mutex<VecDeque<Result<Answer, String>>>,
    otherwise: Answer,
}

impl RecordingCourier {
    /// A courier whose endpoints all answer `status` with `body`.
    pub fn answering(status: u16, body: &str) -> Self {
        let otherwise = Answer { status, body: body.as_bytes().to_vec(), retry_after: None };
        Self { posted: Mutex::default(), script: Mutex::default(), otherwise }
    }

    /// The next parcel that has no answer yet gets this one.
    pub fn then(&self, answer: Answer) {
        lock(&self.script).push_back(Ok(answer));
    }

    /// The next parcel that has no answer yet does not arrive.
    pub fn then_fail(&self, message: &str) {
        lock(&self.script).push_back(Err(message.to_owned()));
    }

    /// What was posted, in order.
    pub fn posted(&self) -> Vec<Parcel> {
        lock(&self.posted).clone()
    }
}

impl Default for RecordingCourier {
    /// Every endpoint answers 200 `SUCCESS`.
    fn default() -> Self {
        Self::answering(200, "SUCCESS")
    }
}

#[async_trait]
impl Courier for RecordingCourier {
    async fn post(&self, parcel: Parcel) -> Result<Answer, CourierError> {
        lock(&self.posted).push(parcel);
        match lock(&self.script).pop_front() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(message)) => Err(PortError::transient(message).into()),
            None => Ok(self.otherwise.clone()),
        }
    }
}

/// A [`Mailer`] that records what it was given.
#[derive(Debug, Default)]
pub struct RecordingMailer(Mutex<Vec<Mail>>);

impl RecordingMailer {
    /// What was sent, in order.
    pub fn sent(&self) -> Vec<Mail> {
        lock(&self.0).clone()
    }
}

#[async_trait]
impl Mailer for RecordingMailer {
    async fn send(&self, mail: Mail) -> Result<(), PortError> {
        lock(&self.0).push(mail);
        Ok(())
    }
}
