//! The command `hactl-lab`, and the processes that a lab is made of (hidden subcommands).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's output")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::bench::{self, BenchOptions};
use crate::bench_proxy::{self, BenchProxyOptions};
use crate::bench_vip::{self, BenchVipOptions};
use crate::calm_run::{self, CalmRunOptions};
use crate::client_load::{Load, LoadOptions};
use crate::clock;
use crate::control::KeeperStatus;
use crate::fault_run::{self, FaultRunOptions};
use crate::fence_run::{self, FenceRunOptions};
use crate::lab::Lab;
use crate::lab_dir::LabDir;
use crate::load_report::{Verdict, rows, write_log};
use crate::options::{LabOptions, Life};
use crate::process_id::ProcessId;
use crate::soak::{self, SoakOptions};
use crate::switch::Cut;
use crate::{demo, enter, host, keeper, leftovers, stand_in};

/// A PostgreSQL cluster of namespaces on this machine, to look at and to break.
#[derive(Debug, Parser)]
#[command(name = "hactl-lab", version, about)]
struct Arguments {
    /// The lab's directory.
    #[arg(long, global = true, value_name = "DIR", default_value = ".lab", env = "MATRIARCH_LAB")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Bring the reference cluster up and leave it running.
    Up {
        /// Replication mode: synchronous, strict or asynchronous.
        #[arg(long)]
        mode: Option<String>,
    },
    /// End the lab and remove its files.
    Down,
    /// Hosts, daemons and what is cut.
    Status,
    /// Cut the power of hosts: links first, then every process at once.
    PowerOff {
        /// Host names.
        #[arg(required = true)]
        hosts: Vec<String>,
    },
    /// Start hosts with the files they had.
    PowerOn {
        /// Host names.
        #[arg(required = true)]
        hosts: Vec<String>,
    },
    /// Kill a daemon (its supervisor starts it again) or the postmaster.
    Kill {
        /// Host name.
        host: String,
        /// agent, guard, etcd, postgres, proxy or vrrpd.
        daemon: String,
        /// Signal.
        #[arg(long, default_value = "SIGKILL")]
        signal: String,
        /// And do not start it again.
        #[arg(long)]
        mask: bool,
    },
    /// Freeze a daemon or the postmaster (SIGSTOP).
    Stop {
        /// Host name.
        host: String,
        /// agent, guard, etcd, postgres, proxy or vrrpd.
        daemon: String,
    },
    /// Let a frozen daemon go on (SIGCONT).
    Cont {
        /// Host name.
        host: String,
        /// agent, guard, etcd, postgres, proxy or vrrpd.
        daemon: String,
    },
    /// Start, stop or mask a daemon as systemctl does.
    Service {
        /// Host name.
        host: String,
        /// agent, guard, etcd, proxy or vrrpd.
        daemon: String,
        /// What to do.
        #[arg(value_parser = ["start", "stop", "mask"])]
        action: String,
    },
    /// Pull the cable of hosts, or put it back in.
    Cable {
        /// Host names.
        #[arg(required = true)]
        hosts: Vec<String>,
        /// What to do.
        #[arg(long, value_parser = ["pull", "plug"], default_value = "pull")]
        action: String,
    },
    /// Lose the traffic between some hosts and others, both directions.
    Partition {
        /// Hosts on one side.
        #[arg(required = true)]
        hosts: Vec<String>,
        /// Hosts on the other side; all others when not given.
        #[arg(long, value_delimiter = ',')]
        from: Vec<String>,
        /// Only these TCP and UDP ports (2379,2380 is etcd, 5432 PostgreSQL, 8008 to 8010 the agents, 5000 and 5001 the proxies).
        #[arg(long, value_delimiter = ',')]
        ports: Vec<u16>,
        /// Only what HOSTS send.
        #[arg(long)]
        one_way: bool,
    },
    /// End all partitions.
    Heal,
    /// Run a command in a host.
    Exec {
        /// Host name; `client` is the admin's.
        host: String,
        /// OS user.
        #[arg(long, default_value = "root")]
        user: String,
        /// The command; a shell when not given.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Write numbered rows through the floating address for a while, then prove that no acknowledged one is lost.
    Load {
        /// How long.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// The demonstration: bootstrap, switchover, power losses under load, and the proof that nothing is lost.
    Demo,
    /// Measure how long writes stand still at each event, ours beside the usual stack (Patroni, HAProxy, keepalived).
    BenchFailover {
        /// Repetitions of each event.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Repetitions with the usual stack; 0 leaves it out.
        #[arg(long, default_value_t = 3)]
        classic_rounds: u32,
        /// Only events whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Where the results go, as JSON.
        #[arg(long, value_name = "FILE", default_value = "bench-failover.json")]
        results: PathBuf,
    },
    /// Measure what happens to writes and to the floating address when its holder fails, ours beside HAProxy and keepalived.
    BenchVip {
        /// Repetitions of each event.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Repetitions with the usual stack; 0 leaves it out.
        #[arg(long, default_value_t = 5)]
        classic_rounds: u32,
        /// Only events whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Where the results go, as JSON.
        #[arg(long, value_name = "FILE", default_value = "bench-vip.json")]
        results: PathBuf,
    },
    /// Measure pg-proxy beside HAProxy and PgBouncer: transactions, latency, processor time, memory.
    BenchProxy {
        /// Repetitions of each load through each way.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// How long one of them lasts.
        #[arg(long, default_value_t = 5)]
        seconds: u32,
        /// Only loads whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Leave idle sessions out.
        #[arg(long)]
        no_idle: bool,
        /// Compare ways to pass bytes on instead of products: the program of experiments/relay-ways.
        #[arg(long, value_name = "PROGRAM")]
        relays: Option<PathBuf>,
        /// Compare pg-proxy with itself, with and without linearizable reads.
        #[arg(long, conflicts_with = "relays")]
        reads: bool,
        /// Where the results go, as JSON.
        #[arg(long, value_name = "FILE", default_value = "bench-proxy.json")]
        results: PathBuf,
    },
    /// Let faults happen at random under load, and prove that nothing acknowledged is lost by any of them.
    FaultRun {
        /// Decides the faults: the same seed is the same schedule. Chosen by the clock when not given.
        #[arg(long)]
        seed: Option<u64>,
        /// How long episodes of faults begin.
        #[arg(long, default_value_t = 1800)]
        seconds: u64,
        /// Only print the schedule.
        #[arg(long)]
        schedule: bool,
    },
    /// The primary loses its agent or its network at random moments while clients are connected directly: what does it still
    /// acknowledge?
    FenceRun {
        /// Runs of each fault in each mode.
        #[arg(long, default_value_t = 50)]
        runs: u32,
        /// Decides the moments. Chosen by the clock when not given.
        #[arg(long)]
        seed: Option<u64>,
        /// Only those whose mode and fault contain this.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Burn the processor under load without any fault: nobody may take over.
    CalmRun {
        /// How long.
        #[arg(long, default_value_t = 1800)]
        seconds: u64,
        /// Busy processes; twice the cores when not given.
        #[arg(long)]
        busy: Option<usize>,
        /// Give vrrpd no real-time priority: takeovers of addresses are counted, and are no failure.
        #[arg(long)]
        without_real_time: bool,
    },
    /// Work through the same two proxies under every kind of client and change of role: nothing may stay behind in them.
    Soak {
        /// Decides the changes and the clients that are killed. Chosen by the clock when not given.
        #[arg(long)]
        seed: Option<u64>,
        /// How long, rest points included.
        #[arg(long, default_value_t = 1800)]
        seconds: u64,
        /// Where every look at the proxies goes, as tab-separated values.
        #[arg(long, value_name = "FILE", default_value = "soak.tsv")]
        samples: PathBuf,
    },
    #[command(hide = true)]
    Keeper {
        #[arg(long)]
        lab: PathBuf,
        #[arg(long)]
        owned: bool,
    },
    #[command(hide = true)]
    HostAnchor {
        #[arg(long)]
        lab: PathBuf,
        #[arg(long)]
        host: String,
        #[arg(long)]
        cgroup: PathBuf,
    },
    #[command(hide = true)]
    HostInit {
        #[arg(long)]
        lab: PathBuf,
        #[arg(long)]
        host: String,
    },
    #[command(hide = true)]
    StandIn {
        role: String,
        #[arg(long)]
        only_checks: bool,
    },
    #[command(hide = true)]
    HostEnter {
        #[arg(long)]
        pid: i32,
        #[arg(long)]
        started: u64,
        #[arg(long)]
        user: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
    #[command(hide = true)]
    HostExec {
        #[arg(long)]
        user: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// Runs the command; its exit code is 0, 1 for a failure, 2 for wrong usage, or that of a command in a host.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hactl-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let dir = arguments.dir.as_path();
    match arguments.command {
        Word::Up { mode } => up(dir, mode.as_deref())?,
        Word::Down => {
            let lab = LabDir::new(dir)?;
            leftovers::end_lab(&lab)?;
            leftovers::remove_files(&lab)?;
        }
        Word::Status => status(&Lab::open(dir)?)?,
        Word::PowerOff { hosts } => drop(Lab::open(dir)?.power_off(&borrowed(&hosts))?),
        Word::PowerOn { hosts } => Lab::open(dir)?.power_on(&borrowed(&hosts))?,
        Word::Kill { host, daemon, signal, mask } => {
            let lab = Lab::open(dir)?;
            let unit = unit(&daemon);
            if mask {
                lab.mask(&host, unit)?;
            }
            lab.signal(&host, unit, &signal)?;
        }
        Word::Stop { host, daemon } => drop(Lab::open(dir)?.signal(&host, unit(&daemon), "SIGSTOP")?),
        Word::Cont { host, daemon } => drop(Lab::open(dir)?.signal(&host, unit(&daemon), "SIGCONT")?),
        Word::Service { host, daemon, action } => service(&Lab::open(dir)?, &host, unit(&daemon), &action)?,
        Word::Cable { hosts, action } => {
            let (lab, hosts) = (Lab::open(dir)?, borrowed(&hosts));
            if action == "plug" {
                lab.plug_cables(&hosts)?;
            } else {
                lab.pull_cables(&hosts)?;
            }
        }
        Word::Partition { hosts, from, ports, one_way } => {
            partition(&Lab::open(dir)?, &hosts, &from, &ports, one_way)?;
        }
        Word::Heal => drop(Lab::open(dir)?.heal()?),
        Word::Exec { host, user, command } => return exec(&Lab::open(dir)?, &host, &user, command),
        Word::Load { seconds } => load(&Lab::open(dir)?, Duration::from_secs(seconds))?,
        Word::Demo => demo::run(dir)?,
        Word::BenchFailover { rounds, classic_rounds, only, results } => {
            bench::run(&BenchOptions { rounds, classic_rounds, only, labs: dir.to_owned(), results })?;
        }
        Word::BenchVip { rounds, classic_rounds, only, results } => {
            bench_vip::run(&BenchVipOptions { rounds, classic_rounds, only, labs: dir.to_owned(), results })?;
        }
        Word::BenchProxy { rounds, seconds, only, no_idle, relays, reads, results } => {
            let (idle, labs) = (!no_idle, dir.to_owned());
            let options = BenchProxyOptions { rounds, seconds, only, idle, relays, reads, labs, results };
            bench_proxy::run(&options)?;
        }
        Word::FenceRun { runs, seed, only } => fence_run::run(&FenceRunOptions {
            seed: seed.unwrap_or_else(chosen_seed),
            runs,
            only,
            directory: dir.to_owned(),
        })?,
        Word::FaultRun { seed, seconds, schedule } => {
            let seed = seed.unwrap_or_else(chosen_seed);
            let duration = Duration::from_secs(seconds);
            let options = FaultRunOptions { seed, duration, directory: dir.to_owned() };
            if schedule {
                fault_run::print_schedule(&options);
            } else {
                fault_run::run(&options)?;
            }
        }
        Word::CalmRun { seconds, busy, without_real_time } => calm_run::run(&CalmRunOptions {
            duration: Duration::from_secs(seconds),
            busy,
            real_time: !without_real_time,
            directory: dir.to_owned(),
        })?,
        Word::Soak { seed, seconds, samples } => soak::run(&SoakOptions {
            seed: seed.unwrap_or_else(chosen_seed),
            duration: Duration::from_secs(seconds),
            directory: dir.to_owned(),
            samples,
        })?,
        Word::Keeper { lab, owned } => keeper::run(&lab, owned)?,
        Word::HostAnchor { lab, host, cgroup } => host::run_anchor(&lab, &host, &cgroup)?,
        Word::StandIn { role, only_checks } => stand_in::run(&role, only_checks)?,
        Word::HostInit { lab, host } => host::run_init(&lab, &host)?,
        Word::HostEnter { pid, started, user, command } => {
            let status = enter::run_outer(ProcessId { pid, started }, &user, &command)?;
            return Ok(exit_code(status.code()));
        }
        Word::HostExec { user, command } => match enter::run_inner(&user, &command)? {},
    }
    Ok(ExitCode::SUCCESS)
}

fn up(dir: &Path, mode: Option<&str>) -> Result<()> {
    let mut options = LabOptions::five_hosts(dir)?;
    options.life = Life::Detached;
    if let Some(mode) = mode {
        options = options.mode(mode);
    }
    println!("hosts and daemons ...");
    let lab = Lab::start(&options)?;
    println!("waiting for the cluster ...");
    let leader = lab.wait_healthy(Duration::from_secs(120))?;
    Load::prepare(&lab, &leader)?;
    let (leader, holder) = lab.wait_front(Duration::from_secs(60))?;
    println!("up: {leader} leads, {holder} holds {}. Files: {}", lab.vip()?, lab.dir().path().display());
    let list = lab.hactl(&["list"])?;
    print!("{}{}", list.stdout, list.stderr);
    Ok(())
}

fn status(lab: &Lab) -> Result<()> {
    let KeeperStatus { hosts, cuts } = lab.status()?;
    let mut text = String::new();
    for state in hosts {
        let name = &state.host.name;
        let Some(init) = state.init else {
            writeln!(text, "{name:8} {:15} off", state.host.address)?;
            continue;
        };
        writeln!(text, "{name:8} {:15} on, process {}", state.host.address, init.pid)?;
        let status = lab.host_status(name)?;
        for unit in status.units {
            let what = match (unit.pid, &unit.last_end) {
                (Some(pid), _) => format!("process {pid}, start {}", unit.starts),
                (None, Some(end)) => format!("down, last end: {end}"),
                (None, None) => "never started".to_owned(),
            };
            writeln!(text, "         {:15} {what}{}", unit.name, if unit.masked { " (masked)" } else { "" })?;
        }
        if let Some(postmaster) = status.postmaster {
            writeln!(text, "         {:15} process {postmaster}", "postgres")?;
        }
    }
    for cut in cuts {
        let ports = if cut.ports.is_empty() { String::new() } else { format!(", TCP ports {:?}", cut.ports) };
        writeln!(text, "lost: {} -> {}{ports}", cut.from.join(","), cut.to.join(","))?;
    }
    // In one piece, and without a complaint when a pager has ended.
    std::io::stdout().write_all(text.as_bytes()).ok();
    Ok(())
}

fn service(lab: &Lab, host: &str, unit: &str, action: &str) -> Result<()> {
    match action {
        "start" => lab.start_unit(host, unit),
        "stop" => lab.stop_unit(host, unit),
        _ => lab.mask(host, unit),
    }
}

fn partition(lab: &Lab, hosts: &[String], from: &[String], ports: &[u16], one_way: bool) -> Result<()> {
    let status = lab.status()?;
    let names: Vec<&str> = status.hosts.iter().map(|state| state.host.name.as_str()).collect();
    let here = borrowed(hosts);
    let there: Vec<&str> = if from.is_empty() {
        names.into_iter().filter(|name| !here.contains(name)).collect()
    } else {
        borrowed(from)
    };
    let cuts = if one_way {
        vec![Cut::one_way(&here, &there, ports)]
    } else {
        Cut::ports_between(&here, &there, ports)
    };
    lab.cut(cuts).map(drop)
}

fn exec(lab: &Lab, host: &str, user: &str, command: Vec<String>) -> Result<ExitCode> {
    let command = if command.is_empty() { vec!["bash".to_owned()] } else { command };
    let status =
        lab.command(host, user, &borrowed(&command))?.status().with_context(|| format!("run in {host}"))?;
    Ok(exit_code(status.code()))
}

fn load(lab: &Lab, duration: Duration) -> Result<()> {
    let leader = lab.wait_leader_among(&lab.databases(), Duration::from_secs(30))?;
    Load::prepare(lab, &leader)?;
    let known = rows(lab, &leader)?;
    let mut options = LoadOptions::through_vip(lab)?;
    options.first_id = known.last().map_or(1, |last| last + 1);
    let running = Load::start(lab, options)?;
    std::thread::sleep(duration);
    let attempts = running.finish()?;
    write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
    let leader = lab.wait_leader_among(&lab.databases(), Duration::from_secs(60))?;
    let now = rows(lab, &leader)?.difference(&known).copied().collect();
    let verdict = Verdict::new(&attempts, &now);
    println!("{verdict}");
    verdict.check()
}

/// Short enough to be typed again.
fn chosen_seed() -> u64 {
    clock::now().as_nanos() as u64 % 1_000_000
}

/// The daemon's full name, from its short one.
fn unit(daemon: &str) -> &str {
    match daemon {
        "agent" => "pg-agent",
        "guard" => "pg-guard",
        "proxy" => "pg-proxy",
        other => other,
    }
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn exit_code(code: Option<i32>) -> ExitCode {
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
