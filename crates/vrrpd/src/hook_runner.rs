//! Runs the operator's program that makes a floating address lead to its holder where announcements on the link are not
//! enough. What runs when is decided in [`vrrp::hook`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_config::Hooks;
use ha_daemon::boottime;
use tokio::task::JoinHandle;
use vrrp::State;
use vrrp::hook::{Hook, HookAction, Wanted};

use crate::program;
use crate::snapshot::Shared;

/// How often it is looked whether something else is wanted.
const LOOK: Duration = Duration::from_millis(50);
/// How the end of vrrpd is told.
const ENDS: &str = "vrrpd ends";

/// The programs, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    changed: PathBuf,
    check: Option<PathBuf>,
    check_interval: Duration,
    timeout: Duration,
    user: Option<String>,
}

impl Programs {
    /// None when there is no hook.
    pub(crate) fn of(hooks: &Hooks) -> Option<Self> {
        Some(Self {
            changed: hooks.vip_changed.clone()?,
            check: hooks.vip_check.clone(),
            check_interval: hooks.vip_check_interval,
            timeout: hooks.vip_timeout,
            user: hooks.vip_user.clone(),
        })
    }
}

/// The hook of one floating address.
#[derive(Debug)]
pub(crate) struct HookRunner {
    address: IpAddr,
    programs: Programs,
    shared: Shared,
    /// How it stands, for people.
    state: Mutex<(String, bool)>,
    /// vrrpd ends.
    ending: AtomicBool,
}

impl HookRunner {
    pub(crate) fn new(address: IpAddr, programs: Programs, shared: Shared) -> Arc<Self> {
        Arc::new(Self { address, programs, shared, state: Mutex::default(), ending: AtomicBool::new(false) })
    }

    /// How it stands, in words, and whether it fails.
    pub(crate) fn state(&self) -> (String, bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it runs these programs for this address.
    pub(crate) fn is_of(&self, address: IpAddr, programs: &Programs) -> bool {
        (self.address, &self.programs) == (address, programs)
    }

    /// From now on this host shall have nothing; [`Self::run`] comes to its end once that has been told.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Follows the virtual router until the end of vrrpd.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut hook = Hook::new(self.programs.check.as_ref().map(|_| self.programs.check_interval));
        let mut running: Option<Program> = None;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let action = tokio::select! {
                success = ended(&mut running) => {
                    running = None;
                    hook.ended(boottime(), success)
                }
                _ = looks.tick() => match self.wanted() {
                    _ if self.ending.load(Ordering::Relaxed) => hook.end(boottime(), ENDS),
                    Some(wanted) => hook.want(boottime(), wanted).or_else(|| hook.handle_timeout(boottime())),
                    None => None,
                },
            };
            match action {
                Some(HookAction::Run(wanted)) => {
                    running = Some(Program(self.start(&self.programs.changed, &wanted)));
                }
                Some(HookAction::Check(wanted)) => {
                    running = self.programs.check.as_ref().map(|check| Program(self.start(check, &wanted)));
                }
                Some(HookAction::BreakOff) => running.iter().for_each(|program| program.0.abort()),
                None => {}
            }
            let state = (hook.state(), hook.is_failing());
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
            if self.ending.load(Ordering::Relaxed) && hook.is_over() {
                return;
            }
        }
    }

    /// What the virtual router wants. Nothing before it has stood somewhere: a start is no loss of the address.
    fn wanted(&self) -> Option<Wanted> {
        let snapshot = self.shared.load();
        let router = snapshot.routers.iter().find(|router| router.address == self.address)?;
        let holds = router.status.state == State::Active;
        if router.status.state == State::Initialize {
            return None;
        }
        let (epoch, reason) = (router.status.epoch, router.status.reason.to_string());
        Some(Wanted { holds, epoch, reason })
    }

    fn start(&self, program: &std::path::Path, wanted: &Wanted) -> JoinHandle<bool> {
        let what = if wanted.holds { "hold" } else { "leave" };
        let words = vec![
            program.display().to_string(),
            what.to_owned(),
            self.address.to_string(),
            wanted.epoch.to_string(),
            wanted.reason.clone(),
        ];
        let (user, limit) = (self.programs.user.clone(), self.programs.timeout);
        let (address, epoch) = (self.address.to_string(), wanted.epoch);
        tokio::spawn(async move {
            let ended = program::run(&words, user.as_deref(), limit).await;
            let program = &words[0];
            if ended.is_success() {
                tracing::info!(address, epoch, what, program, "hook done");
            } else {
                tracing::warn!(address, epoch, what, program, reason = %ended, "hook failed: it is tried again");
            }
            ended.is_success()
        })
    }
}

/// A program that runs. It is killed with its group when this is dropped, or the task aborted.
struct Program(JoinHandle<bool>);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for the end of what runs; for ever when nothing does.
async fn ended(running: &mut Option<Program>) -> bool {
    match running {
        // One that was broken off has not succeeded.
        Some(program) => (&mut program.0).await.unwrap_or(false),
        None => std::future::pending().await,
    }
}
