//! Who may call what: the one table.

use std::fmt;
use std::str::FromStr;

/// What the holder of a certificate is, by its name `matriarch://<cluster>/<role>/<name>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A host with PostgreSQL.
    Host,
    /// A host with pg-proxy.
    Proxy,
    /// A person or a script.
    Admin,
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "host" => Ok(Self::Host),
            "proxy" => Ok(Self::Proxy),
            "admin" => Ok(Self::Admin),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Proxy => "proxy",
            Self::Admin => "admin",
        })
    }
}

/// Every RPC of `proto/ha/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpc {
    /// Everything that agents say to each other.
    Talk,
    /// How a member is.
    Status,
    /// Planned change of leader.
    Switchover,
    /// Manual failover.
    Failover,
    /// PostgreSQL restarted.
    Restart,
    /// Configuration read again.
    Reload,
    /// Maintenance mode on.
    Pause,
    /// Maintenance mode off.
    Resume,
    /// Data thrown away and cloned.
    Reinitialize,
    /// What a member is to clients.
    FollowRole,
    /// For how long nobody else can lead.
    ReadLease,
    /// Changes of leadership.
    History,
    /// Where a proxy's sessions go.
    ProxyStatus,
    /// A member taken out of a proxy's use, or put back.
    Administer,
    /// Who holds the floating addresses.
    VrrpStatus,
    /// A floating address given to another host.
    VrrpMove,
    /// Floating addresses kept off a host, or let come again.
    VrrpDrain,
    /// How hosts with a proxy are, told to each other.
    VrrpExchange,
    /// A floating address to be taken over at once.
    VrrpTakeOver,
}

use Role::{Admin, Host, Proxy};

/// RPC, its path on the wire, the roles that may call it. A path that does not stand here cannot be called.
const TABLE: [(Rpc, &str, &[Role]); 19] = [
    (Rpc::Talk, "/ha.v1.Peer/Talk", &[Host]),
    (Rpc::Status, "/ha.v1.Agent/Status", &[Host, Proxy, Admin]),
    (Rpc::Switchover, "/ha.v1.Agent/Switchover", &[Host, Admin]),
    (Rpc::Failover, "/ha.v1.Agent/Failover", &[Host, Admin]),
    (Rpc::Restart, "/ha.v1.Agent/Restart", &[Host, Admin]),
    (Rpc::Reload, "/ha.v1.Agent/Reload", &[Host, Admin]),
    (Rpc::Pause, "/ha.v1.Agent/Pause", &[Host, Admin]),
    (Rpc::Resume, "/ha.v1.Agent/Resume", &[Host, Admin]),
    (Rpc::Reinitialize, "/ha.v1.Agent/Reinitialize", &[Host, Admin]),
    // A host that carries both PostgreSQL and a proxy has one certificate, of role host.
    (Rpc::FollowRole, "/ha.v1.Roles/Follow", &[Host, Proxy]),
    (Rpc::ReadLease, "/ha.v1.Roles/ReadLease", &[Host, Proxy]),
    (Rpc::History, "/ha.v1.Agent/History", &[Host, Proxy, Admin]),
    (Rpc::ProxyStatus, "/ha.v1.Proxy/Status", &[Host, Proxy, Admin]),
    (Rpc::Administer, "/ha.v1.Proxy/Administer", &[Host, Admin]),
    (Rpc::VrrpStatus, "/ha.v1.Vrrp/Status", &[Host, Proxy, Admin]),
    (Rpc::VrrpMove, "/ha.v1.Vrrp/Move", &[Host, Admin]),
    (Rpc::VrrpDrain, "/ha.v1.Vrrp/Drain", &[Host, Admin]),
    (Rpc::VrrpExchange, "/ha.v1.Vrrp/Exchange", &[Host, Proxy]),
    (Rpc::VrrpTakeOver, "/ha.v1.Vrrp/TakeOver", &[Host, Proxy]),
];

impl Rpc {
    /// The RPC with this path.
    pub fn of_path(path: &str) -> Option<Self> {
        TABLE.iter().find(|(_, own, _)| *own == path).map(|(rpc, ..)| *rpc)
    }

    /// Its path on the wire.
    pub fn path(self) -> &'static str {
        TABLE.iter().find(|(rpc, ..)| *rpc == self).map_or("", |(_, path, _)| path)
    }

    /// Whether a holder of this role may call it.
    pub fn may_be_called_by(self, role: Role) -> bool {
        TABLE.iter().any(|(rpc, _, roles)| *rpc == self && roles.contains(&role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_of_the_interface_stands_in_the_table_once() {
        let text = ["agent.proto", "cluster.proto", "proxy.proto", "vrrp.proto"].map(|name| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/ha/v1").join(name);
            std::fs::read_to_string(path).unwrap()
        });
        let mut service = "";
        let mut paths = Vec::new();
        for line in text.iter().flat_map(|text| text.lines()) {
            let words: Vec<&str> = line.split([' ', '(']).filter(|word| !word.is_empty()).collect();
            match words.first() {
                Some(&"service") => service = words[1],
                Some(&"rpc") => paths.push(format!("/ha.v1.{service}/{}", words[1])),
                _ => {}
            }
        }
        let mut known: Vec<&str> = TABLE.iter().map(|(_, path, _)| *path).collect();
        known.sort_unstable();
        paths.sort_unstable();
        assert_eq!(known, paths);
    }

    #[test]
    fn proxies_read_and_talk_among_themselves_and_people_do_not_speak_for_programs() {
        let of_roles = [Rpc::FollowRole, Rpc::ReadLease, Rpc::VrrpExchange, Rpc::VrrpTakeOver];
        let of_proxies =
            [&[Rpc::Status, Rpc::History, Rpc::ProxyStatus, Rpc::VrrpStatus][..], &of_roles].concat();
        for (rpc, path, _) in TABLE {
            assert_eq!(Rpc::of_path(path), Some(rpc));
            assert_eq!(rpc.may_be_called_by(Proxy), of_proxies.contains(&rpc), "{rpc:?}");
            let spoken_by_programs = rpc == Rpc::Talk || of_roles.contains(&rpc);
            assert_eq!(rpc.may_be_called_by(Admin), !spoken_by_programs, "{rpc:?}");
            assert!(rpc.may_be_called_by(Host), "{rpc:?}: a host may carry a proxy as well");
        }
        assert_eq!(Rpc::of_path("/ha.v1.Agent/Other"), None);
    }
}
