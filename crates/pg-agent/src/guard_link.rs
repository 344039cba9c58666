//! Between the decider and the guard: commands become requests in their order, answers and notices become events.

use ha_core::guard_link::{Armed, NoPrimary, Reply, Request};
use ha_core::{BootId, Epoch};
use ha_decision::{Event, GuardCommand, GuardNews};
use tokio::sync::mpsc;

use crate::guard_client::{GuardClient, Notice, answer_limit, unexpected};

/// The decider sends about one command a second; a guard that lets this many wait is reported as unavailable.
const COMMANDS_WAITING: usize = 32;

/// The running link; without a guard, commands are dropped.
#[derive(Debug)]
pub struct GuardLink {
    commands: Option<mpsc::Sender<GuardCommand>>,
    events: mpsc::Sender<Event>,
}

impl GuardLink {
    /// Begins to pass on; `notices` are those of `client`.
    pub fn start(
        client: GuardClient,
        notices: mpsc::Receiver<Notice>,
        boot: BootId,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (commands, waiting) = mpsc::channel(COMMANDS_WAITING);
        tokio::spawn(carry_out(client.clone(), waiting, boot, events.clone()));
        tokio::spawn(listen(client, notices, events.clone()));
        Self { commands: Some(commands), events }
    }

    /// For a host whose guard is off.
    pub fn off(events: mpsc::Sender<Event>) -> Self {
        Self { commands: None, events }
    }

    /// Passes a command on; never waits.
    pub fn command(&self, command: GuardCommand) {
        let Some(commands) = &self.commands else { return };
        if commands.try_send(command).is_err() {
            tracing::error!("the guard does not keep up with commands");
            // A full event queue means that the driver is busy; the next command reports again.
            drop(self.events.try_send(Event::Guard(GuardNews::Unavailable)));
        }
    }
}

async fn listen(client: GuardClient, mut notices: mpsc::Receiver<Notice>, events: mpsc::Sender<Event>) {
    while let Some(notice) = notices.recv().await {
        let news = match notice {
            Notice::Lost => Some(GuardNews::Unavailable),
            Notice::Connected(status) => {
                if let Some(fence) = status.fence {
                    acknowledge(&client, &events, fence.epoch).await;
                }
                Some(status.armed.map_or(GuardNews::Reachable, armed))
            }
            Notice::Said(reply) => {
                match *reply {
                    Reply::Fenced(fence) => acknowledge(&client, &events, fence.epoch).await,
                    Reply::Exited { pid, outcome, .. } => {
                        tracing::info!(pid, %outcome, "the guard says that the postmaster ended");
                    }
                    _ => {}
                }
                None
            }
        };
        if let Some(news) = news
            && events.send(Event::Guard(news)).await.is_err()
        {
            return;
        }
    }
}

/// The decider hears of the fence before the guard is told that it was noted.
async fn acknowledge(client: &GuardClient, events: &mpsc::Sender<Event>, epoch: Epoch) {
    if events.send(Event::Guard(GuardNews::Fenced { epoch })).await.is_err() {
        return;
    }
    let asked = client.ask(answer_limit(), move |seq| Request::AcknowledgeFenced { seq, epoch }).await;
    if let Err(error) = asked {
        tracing::warn!(%error, "acknowledging a fence");
    }
}

fn armed(armed: Armed) -> GuardNews {
    GuardNews::Armed { epoch: armed.epoch, deadline: armed.deadline }
}

async fn carry_out(
    client: GuardClient,
    mut commands: mpsc::Receiver<GuardCommand>,
    boot: BootId,
    events: mpsc::Sender<Event>,
) {
    while let Some(command) = commands.recv().await {
        let news = one(&client, command, &boot).await;
        if let Some(news) = news
            && events.send(Event::Guard(news)).await.is_err()
        {
            return;
        }
    }
}

async fn one(client: &GuardClient, command: GuardCommand, boot: &BootId) -> Option<GuardNews> {
    let epoch = match &command {
        GuardCommand::Arm { epoch, .. }
        | GuardCommand::Renew { epoch, .. }
        | GuardCommand::Release { epoch }
        | GuardCommand::Hold { epoch, .. } => *epoch,
    };
    let boot_id = boot.clone();
    let limit = answer_limit();
    let reply = match command {
        GuardCommand::Arm { epoch, generation, deadline } => {
            client.ask(limit, move |seq| Request::Arm { seq, epoch, generation, deadline, boot_id }).await
        }
        GuardCommand::Renew { epoch, deadline } => {
            client.ask(limit, move |seq| Request::Renew { seq, epoch, deadline }).await
        }
        GuardCommand::Hold { epoch, until } => {
            client.ask(limit, move |seq| Request::Hold { seq, epoch, until }).await
        }
        GuardCommand::Release { epoch } => {
            let proof = match client.status().await {
                Ok(status) if status.populated => NoPrimary::Standby { start: status.start },
                Ok(_) => NoPrimary::Empty,
                Err(error) => {
                    tracing::warn!(%error, "releasing the guard");
                    return None;
                }
            };
            client.ask(limit, move |seq| Request::Release { seq, epoch, proof }).await
        }
    };
    match reply {
        Ok(Reply::Ack { armed: Some(held), .. }) => Some(armed(held)),
        Ok(Reply::Ack { armed: None, .. }) => None,
        Ok(other) => {
            let reason = unexpected("a command", &other).to_string();
            Some(GuardNews::Refused { epoch, reason })
        }
        Err(error) => {
            tracing::warn!(%error, "the guard");
            Some(GuardNews::Unavailable)
        }
    }
}
