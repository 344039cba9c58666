//! A running server: its processes, their copies of the settings, and the wait for confirmations.

use std::collections::BTreeMap;

use ha_core::postgres_view::{Instance, PostgresProcess, WalReceiver, WalSender};
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{MonoTime, Timeline};
use ha_decision::{Access, ServerSettings, Upstream};

use super::directory::Directory;
use super::wal::{Record, RecordKind, lsn};

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Recovering; accepts nobody.
    Starting,
    /// Accepts connections.
    Up,
    /// In a fast stop: sessions are gone, walsenders send the rest.
    Stopping,
}

/// A server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Differs with each start.
    pub life: u64,
    /// How far it is.
    pub phase: Phase,
    /// Its processes are stopped before this global time.
    pub frozen_until: u64,
    /// Standby.
    pub in_recovery: bool,
    /// The postmaster's copy of the settings: what new connections and new walsenders get.
    pub postmaster: ServerSettings,
    /// The copy of the agent's session.
    pub session_names: StandbyNames,
    /// What the checkpointer has published: whether commits wait at all.
    pub commits_wait: bool,
    /// The startup process' copy of the upstream.
    pub startup_upstream: Option<Upstream>,
    /// Walsenders by process id.
    pub senders: BTreeMap<u32, Sender>,
    /// The walreceiver.
    pub receiver: Option<Receiver>,
    /// Commits that wait, by LSN.
    pub waiters: BTreeMap<usize, Waiter>,
    /// Everything up to here is confirmed (`WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH]`).
    pub released: usize,
    /// Replayed so far (standby).
    pub replay: usize,
    /// Primary: where recovery ended, until clients are let in for the first time after it.
    pub recovered: Option<usize>,
    /// What was received by the present or last walreceiver of this life; none right after a start.
    pub received: Option<usize>,
}

/// A commit that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Its record.
    pub record: u64,
    /// Whose it is: a client's number, or none for the agent.
    pub client: Option<usize>,
}

/// A walsender.
#[derive(Debug, Clone)]
pub struct Sender {
    /// What the standby announced.
    pub name: StandbyName,
    /// Host of the standby.
    pub standby: usize,
    /// Life of the standby's server.
    pub standby_life: u64,
    /// Process id of the walreceiver at the other end.
    pub receiver: u32,
    /// Sent so far.
    pub sent: usize,
    /// Confirmed as flushed; none before the first answer.
    pub flush: Option<usize>,
    /// Caught up.
    pub streaming: bool,
    /// Its own copy of the list.
    pub names: StandbyNames,
    /// Published priority: 1 when its own copy lists it.
    pub listed: bool,
    /// Last sign of the standby, global time.
    pub heard: u64,
    /// A send is scheduled.
    pub pumping: bool,
    /// When the last thing sent arrives: a connection keeps its order.
    pub wire: u64,
}

/// A walreceiver.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Process id.
    pub pid: u32,
    /// What it was started with.
    pub upstream: Upstream,
    /// Host it connects to.
    pub source: usize,
    /// How far it is.
    pub phase: ReceiverPhase,
    /// Told to end; it may still receive and confirm until it does.
    pub terminated: bool,
    /// Last sign of the primary, global time.
    pub heard: u64,
    /// A flush is scheduled.
    pub flushing: bool,
    /// Confirmed last.
    pub confirmed: Option<usize>,
    /// When the last confirmation arrives: a connection keeps its order.
    pub wire: u64,
}

/// How far a walreceiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiverPhase {
    /// Not let in yet.
    Connecting,
    /// Let in by this walsender of that life.
    Streaming {
        /// Walsender's process id.
        sender: u32,
        /// Life of the server there.
        life: u64,
    },
}

impl Server {
    /// A server as it is right after the postmaster has read `settings`.
    pub fn starting(life: u64, in_recovery: bool, directory: &mut Directory) -> Self {
        let settings = directory.settings.clone();
        // Recovery fsyncs what it finds before it trusts it.
        directory.flushed = directory.wal.end();
        let begin = if in_recovery { directory.checkpoint.min(directory.flushed) } else { directory.flushed };
        Self {
            life,
            phase: Phase::Starting,
            frozen_until: 0,
            in_recovery,
            session_names: settings.standby_names.clone(),
            commits_wait: !settings.standby_names.is_unguarded(),
            startup_upstream: settings.upstream.clone(),
            postmaster: settings,
            senders: BTreeMap::new(),
            receiver: None,
            waiters: BTreeMap::new(),
            released: 0,
            replay: begin,
            recovered: (!in_recovery).then_some(directory.flushed),
            received: None,
        }
    }

    /// Whether a client that connects now may commit.
    pub fn takes_commits(&self) -> bool {
        self.phase == Phase::Up && !self.in_recovery && self.postmaster.access == Access::Open
    }

    /// Writes and flushes a record as primary; returns the LSN after it.
    pub fn write(&mut self, directory: &mut Directory, id: u64, kind: RecordKind) -> usize {
        let timeline = directory.wal.timeline();
        let end = directory.wal.push(Record { id, timeline, kind });
        directory.flushed = end;
        self.replay = end;
        end
    }

    /// Writes and flushes a commit. True: it is answered at once. False: it waits.
    pub fn commit(&mut self, directory: &mut Directory, waiter: Waiter) -> (usize, bool) {
        let end = self.write(directory, waiter.record, RecordKind::Commit);
        if self.commits_wait {
            self.waiters.insert(end, waiter);
            (end, false)
        } else {
            (end, true)
        }
    }

    /// A walsender takes over a copy of the list; its published priority changes with it.
    pub fn sender_reloads(&mut self, pid: u32, names: &StandbyNames) -> Vec<(usize, Waiter)> {
        let Some(sender) = self.senders.get_mut(&pid) else { return Vec::new() };
        sender.names = names.clone();
        sender.listed = lists(names, &sender.name);
        self.release(pid)
    }

    /// The checkpointer reads the list: an empty one lets everybody go.
    pub fn checkpointer_reloads(&mut self, names: &StandbyNames) -> Vec<(usize, Waiter)> {
        self.commits_wait = !names.is_unguarded();
        if self.commits_wait { Vec::new() } else { std::mem::take(&mut self.waiters).into_iter().collect() }
    }

    /// A standby confirms; returns the commits that are answered now.
    pub fn confirmed(&mut self, pid: u32, flush: usize) -> Vec<(usize, Waiter)> {
        let Some(sender) = self.senders.get_mut(&pid) else { return Vec::new() };
        sender.flush = sender.flush.max(Some(flush));
        if sender.flush >= Some(sender.sent) {
            sender.streaming = true;
        }
        self.release(pid)
    }

    /// `SyncRepReleaseWaiters` in the walsender `pid`: its own k, everybody's published priority.
    fn release(&mut self, pid: u32) -> Vec<(usize, Waiter)> {
        if self.in_recovery {
            return Vec::new();
        }
        let Some(me) = self.senders.get(&pid) else { return Vec::new() };
        if !me.listed || !me.streaming || me.flush.is_none() {
            return Vec::new();
        }
        let k = me.names.k() as usize;
        let mut flushed: Vec<usize> =
            self.senders.values().filter(|s| s.listed && s.streaming).filter_map(|s| s.flush).collect();
        if k == 0 || flushed.len() < k {
            return Vec::new();
        }
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        self.released = self.released.max(flushed[k - 1]);
        let still = self.waiters.split_off(&(self.released + 1));
        std::mem::replace(&mut self.waiters, still).into_iter().collect()
    }

    /// Becomes a primary on `timeline`: ends the walreceiver, writes the first record of the new timeline.
    pub fn promote(&mut self, directory: &mut Directory, id: u64, timeline: Timeline) -> usize {
        self.receiver = None;
        self.senders.clear();
        directory.flushed = directory.wal.end();
        let end = directory.wal.push(Record { id, timeline, kind: RecordKind::Promotion });
        directory.flushed = end;
        directory.standby_signal = false;
        directory.state = ha_core::postgres_view::ControlState::InProduction;
        directory.history_files.insert(timeline);
        self.in_recovery = false;
        self.replay = end;
        end
    }

    /// As the agent sees it. `now` is the host's clock, `global` the world's.
    pub fn view(&self, directory: &Directory, global: u64) -> PostgresProcess {
        if self.frozen_until > global {
            return PostgresProcess::Silent;
        }
        if self.phase != Phase::Up {
            return PostgresProcess::Starting;
        }
        let age = |heard: u64| global.saturating_sub(heard) / 1_000_000;
        let flush = if self.in_recovery {
            self.received.map_or(self.replay, |r| r.max(self.replay))
        } else {
            directory.flushed
        };
        let known = flush.min(directory.wal.end());
        PostgresProcess::Running(Box::new(Instance {
            life: self.life,
            in_recovery: self.in_recovery,
            timeline: directory.wal.ending_at(known).map_or(Timeline(1), |r| r.timeline),
            flush: lsn(flush),
            replay: lsn(if self.in_recovery { self.replay } else { flush }),
            receiver: self.receiver.as_ref().map(|r| WalReceiver {
                pid: r.pid,
                streaming: matches!(r.phase, ReceiverPhase::Streaming { .. }),
                epoch: Some(r.upstream.announced.epoch),
                last_message_age_ms: age(r.heard),
            }),
            senders: self
                .senders
                .iter()
                .map(|(pid, s)| WalSender {
                    pid: *pid,
                    name: Some(s.name.clone()),
                    streaming: s.streaming,
                    flush: lsn(s.flush.unwrap_or(0)),
                    sync_priority: u32::from(s.listed),
                    reply_mark: s.heard,
                })
                .collect(),
            standby_names: self.session_names.setting(),
            drifted: Vec::new(),
            pending_restart: Vec::new(),
            checkpoint_timeline: directory.checkpoint_timeline,
            history: directory.wal.history().into_iter().map(|(t, end)| (t, lsn(end))).collect(),
            version: 170_005,
        }))
    }
}

/// Whether the list names this standby.
pub fn lists(names: &StandbyNames, name: &StandbyName) -> bool {
    names.members().any(|n| n == name)
}

/// A walsender of a standby that begins at `sent`.
pub fn new_sender(
    name: StandbyName,
    standby: (usize, u64, u32),
    sent: usize,
    names: &StandbyNames,
    now: MonoTime,
) -> Sender {
    let (host, life, receiver) = standby;
    Sender {
        listed: lists(names, &name),
        names: names.clone(),
        name,
        standby: host,
        standby_life: life,
        receiver,
        sent,
        flush: None,
        streaming: false,
        heard: now.0,
        pumping: false,
        wire: 0,
    }
}
