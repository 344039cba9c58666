//! The words of the command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Where the cluster is described when `--config` is not given.
const DEFAULT_CONFIG: &str = "/etc/matriarch/cluster.toml";

/// Asks, shows and changes a Matriarch cluster.
///
/// Exit codes: 0 done; 1 failed; 2 wrong configuration or usage; 3 refused, nothing was changed; 4 not confirmed;
/// 5 no agent could be reached; 6 the outcome is not known.
#[derive(Debug, Parser)]
#[command(name = "hactl", version, max_term_width = 110)]
pub(crate) struct Args {
    /// Description of the cluster [default: /etc/matriarch/cluster.toml].
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory of the client certificate [default: the first usable of ~/.config/matriarch, /etc/matriarch/tls].
    #[arg(long, global = true, value_name = "DIR", env = "MATRIARCH_CERT_DIR")]
    pub(crate) cert_dir: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// The cluster's file, given or default.
    pub(crate) fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }

    /// The cluster's file if one was given.
    pub(crate) fn given_config(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the files of a new cluster: one bundle for each host, the authority, the admin's certificate.
    Init(InitArgs),
    /// Check cluster.toml and, where there is one, the secrets.toml beside it.
    Check(CheckArgs),
    /// Show the members and their roles.
    List(ShowArgs),
    /// Show the whole state of the cluster, with the reasons of the last decisions.
    Status(StatusArgs),
    /// Show where the ports of the proxies lead, and their upstreams.
    Proxy(ProxyArgs),
    /// Show who holds the floating addresses; ends with 1 when nobody or more than one host holds one.
    Vip(VipArgs),
    /// Show what stands behind each member's deadline: the layers, the watchdog device, what is degraded.
    Guard(ShowArgs),
    /// Show the whole chain: floating address, proxies, leader and standbys, etcd.
    Topology(ShowArgs),
    /// Show the changes of leadership.
    History(ShowArgs),
    /// Hand leadership to another member; nothing is lost, writes pause for a moment.
    Switchover(SwitchoverArgs),
    /// Replace a leader that is gone.
    Failover(FailoverArgs),
    /// Restart PostgreSQL on one member or, standbys first, on all.
    Restart(RestartArgs),
    /// Reload PostgreSQL's configuration on one member or on all.
    Reload(ReloadArgs),
    /// Throw one member's data away and clone it again.
    Reinit(ReinitArgs),
    /// Maintenance mode: the agents watch but change nothing.
    Pause(PauseArgs),
    /// End maintenance mode.
    Resume,
    /// Power, links and processes of a test cluster on this machine (runs the program hactl-lab).
    #[command(disable_help_flag = true)]
    Lab {
        /// Passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InitArgs {
    /// Directory to write to; must be empty or absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Name of the cluster (without --config).
    #[arg(long, default_value = "pg-cluster")]
    pub(crate) name: String,
    /// A host with PostgreSQL, repeated for each (without --config).
    #[arg(long = "database", value_name = "NAME=ADDRESS", value_parser = parse_host)]
    pub(crate) databases: Vec<(String, IpAddr)>,
    /// A host with pg-proxy and vrrpd, repeated for each (without --config).
    #[arg(long = "proxy", value_name = "NAME=ADDRESS", value_parser = parse_host)]
    pub(crate) proxies: Vec<(String, IpAddr)>,
    /// The floating address with its subnet, such as 10.0.1.10/24 (without --config).
    #[arg(long = "vip", value_name = "ADDRESS/BITS")]
    pub(crate) vips: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CheckArgs {
    /// The host whose secrets.toml stands beside the file [default: the host name].
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// A header and one line per row, separated by tabs.
    Tsv,
}

/// What all commands share that only show something.
#[derive(Debug, ClapArgs)]
pub(crate) struct ShowArgs {
    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Show it again and again, every 2 seconds or every so many, until Ctrl-C.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = parse_seconds)]
    pub(crate) watch: Option<Duration>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// Only this member [default: all].
    #[arg(value_name = "MEMBER")]
    pub(crate) member: Option<String>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ProxyArgs {
    #[command(subcommand)]
    pub(crate) action: Option<ProxyAction>,
    /// Only the proxy on this host [default: all].
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct VipArgs {
    #[command(subcommand)]
    pub(crate) action: Option<VipAction>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VipAction {
    /// Give a floating address to another proxy host; it stays there.
    Move(VipMoveArgs),
    /// Keep floating addresses off a proxy host, over its restarts too.
    Drain(VipDrainArgs),
    /// Let them come to it again.
    Undrain(VipDrainArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VipDrainArgs {
    /// The proxy host.
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VipMoveArgs {
    /// Which, where the file has several.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// What the proxies shall do with a member; until they end or another word comes.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyAction {
    /// Give a member no new sessions; running ones go on.
    Drain(AdministerArgs),
    /// Give a member no new sessions and cut the running ones.
    Maintenance(AdministerArgs),
    /// Use a member again as its agent allows.
    Ready(AdministerArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AdministerArgs {
    /// The member.
    #[arg(value_name = "MEMBER")]
    pub(crate) member: String,
    /// Only at the proxy on this host [default: all].
    #[arg(long, value_name = "NAME")]
    pub(crate) proxy: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SwitchoverArgs {
    /// The member that is to lead [default: the best].
    #[arg(long, value_name = "NAME")]
    pub(crate) candidate: Option<String>,
    /// Only if this member leads now.
    #[arg(long, value_name = "NAME")]
    pub(crate) leader: Option<String>,
    /// Shut clients out of the old leader instead of stopping it first. Shorter where a stop takes long; the old leader is
    /// rewound afterwards. Needs a synchronous quorum.
    #[arg(long)]
    pub(crate) without_stop: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FailoverArgs {
    /// The member that is to lead [default: the best].
    #[arg(long, value_name = "NAME")]
    pub(crate) candidate: Option<String>,
    /// Promote although acknowledged commits may be missing there.
    #[arg(long)]
    pub(crate) accept_data_loss: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RestartArgs {
    /// The member [default: all, standbys first].
    #[arg(value_name = "MEMBER")]
    pub(crate) member: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReloadArgs {
    /// The member [default: all].
    #[arg(value_name = "MEMBER")]
    pub(crate) member: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReinitArgs {
    /// The member; not the leader.
    #[arg(value_name = "MEMBER")]
    pub(crate) member: String,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PauseArgs {
    /// For how long, at most 1h; pause again to prolong it.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = parse_pause)]
    pub(crate) duration: Duration,
    /// Why, shown to everyone who looks.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

fn parse_host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("expected NAME=ADDRESS, such as pg1=10.0.1.11")?;
    let address = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
    Ok((name.to_owned(), address))
}

/// Faster than ten times a second nobody reads.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds from 0.1 to 3600; a name goes before --watch".to_owned())
}

/// A guard holds its fence for a bounded time only: an hour, renewable.
fn parse_pause(text: &str) -> Result<Duration, String> {
    ha_config::parse_duration(text)
        .filter(|duration| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(duration))
        .ok_or_else(|| "expected a duration from 1s to 1h, such as 30m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_may_follow_the_command_and_lab_gets_everything_else() {
        let args = Args::parse_from(["hactl", "list", "--config", "/x/c.toml", "--format", "json"]);
        assert_eq!(args.config(), Path::new("/x/c.toml"));
        let args = Args::parse_from(["hactl", "lab", "power-off", "pg1", "--help", "--dir", "/x"]);
        let Command::Lab { arguments } = &args.command else { panic!("{args:?}") };
        assert_eq!(arguments, &["power-off", "pg1", "--help", "--dir", "/x"]);
        assert_eq!(args.config(), Path::new(DEFAULT_CONFIG));
    }

    #[test]
    fn watching_has_a_default_interval_and_a_bound() {
        let interval = |arguments: &[&str]| {
            let args = Args::try_parse_from(["hactl"].iter().chain(arguments)).map_err(|e| e.to_string())?;
            let (Command::Status(StatusArgs { show, .. }) | Command::Proxy(ProxyArgs { show, .. })) =
                args.command
            else {
                panic!("{args:?}")
            };
            Ok::<_, String>(show.watch.map(|every| every.as_millis()))
        };
        assert_eq!(interval(&["status", "pg1"]), Ok(None));
        assert_eq!(interval(&["status", "pg1", "--watch"]), Ok(Some(2000)));
        assert_eq!(interval(&["proxy", "-w", "0.5", "-f", "json"]), Ok(Some(500)));
        assert!(interval(&["status", "--watch", "pg1"]).unwrap_err().contains("a name goes before --watch"));
        assert!(interval(&["status", "--watch", "0"]).is_err());
        assert!(Args::try_parse_from(["hactl", "resume", "--watch"]).is_err());
    }

    #[test]
    fn a_pause_is_bounded() {
        assert!(Args::try_parse_from(["hactl", "pause", "--for", "30m"]).is_ok());
        for bad in ["2h", "0s", "5", "soon"] {
            assert!(Args::try_parse_from(["hactl", "pause", "--for", bad]).is_err(), "{bad}");
        }
    }
}
