//! The floating addresses out of what vrrpd says on each proxy host: who holds each, and whether that is one host.

use std::net::IpAddr;

use ha_config::{Cluster, Vip};
use ha_rpc::proto::{VirtualRouter, VirtualRouterState, VrrpStatusReply};

use crate::ask::Asked;
use crate::exit_code::{Code, Stop};

/// One floating address of the file.
#[derive(Debug)]
pub(crate) struct Floating<'a> {
    pub(crate) vip: &'a Vip,
    /// Every proxy host, in the order of the file.
    pub(crate) seats: Vec<Seat<'a>>,
}

/// One proxy host and one address.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    pub(crate) asked: &'a Asked<VrrpStatusReply>,
    /// What its vrrpd says about this address; none when it is silent or does not know the address.
    pub(crate) router: Option<&'a VirtualRouter>,
}

/// How many hold an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holding<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
    /// Everybody was asked and has answered.
    Nobody,
    /// Nobody that answered; these did not.
    Unknown(Vec<&'a str>),
}

impl<'a> Seat<'a> {
    pub(crate) fn host(&self) -> &'a str {
        self.asked.name.as_str()
    }

    pub(crate) fn holds(&self) -> bool {
        self.router.is_some_and(|router| router.holds_address)
    }

    /// Its state in one word.
    pub(crate) fn state(&self) -> &'static str {
        match (self.router.map(VirtualRouter::state), &self.asked.answer) {
            (Some(VirtualRouterState::Initialize), _) => "initialize",
            (Some(VirtualRouterState::Backup), _) => "backup",
            (Some(VirtualRouterState::Active), _) => "active",
            (Some(VirtualRouterState::Fault), _) => "fault",
            (Some(VirtualRouterState::Unspecified), _) => "unknown",
            (None, Ok(_)) => "not configured",
            (None, Err(_)) => "unreachable",
        }
    }
}

impl<'a> Floating<'a> {
    /// Every floating address of the file.
    pub(crate) fn all(cluster: &'a Cluster, asked: &'a [Asked<VrrpStatusReply>]) -> Vec<Self> {
        let seat = |vip: &Vip, asked: &'a Asked<VrrpStatusReply>| {
            let routers = asked.reply().map_or(&[] as &[_], |reply| &reply.routers);
            Seat { asked, router: routers.iter().find(|router| address(router) == Some(vip.address)) }
        };
        cluster
            .vips
            .iter()
            .map(|vip| Self { vip, seats: asked.iter().map(|asked| seat(vip, asked)).collect() })
            .collect()
    }

    /// The address as the file has it.
    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.vip.address, self.vip.prefix)
    }

    /// Who holds it.
    pub(crate) fn holding(&self) -> Holding<'a> {
        let names = |chosen: &dyn Fn(&Seat<'a>) -> bool| {
            self.seats.iter().filter(|seat| chosen(seat)).map(Seat::host).collect::<Vec<_>>()
        };
        let silent = names(&|seat| seat.asked.answer.is_err());
        match names(&Seat::holds).as_slice() {
            [] if silent.is_empty() => Holding::Nobody,
            [] => Holding::Unknown(silent),
            [one] => Holding::One(one),
            several => Holding::Several(several.to_vec()),
        }
    }

    /// Who holds it, in words.
    pub(crate) fn verdict(&self) -> String {
        match self.holding() {
            Holding::One(name) => format!("held by {name}"),
            Holding::Several(names) => format!("HELD BY {} HOSTS: {}", names.len(), names.join(" and ")),
            Holding::Nobody => "HELD BY NOBODY".to_owned(),
            Holding::Unknown(silent) => {
                format!("nobody that answers holds it; no answer from {}", silent.join(", "))
            }
        }
    }

    /// What is wrong with it and what to do.
    fn problem(&self) -> Option<String> {
        let hosts: Vec<&str> = self.seats.iter().map(Seat::host).collect();
        let address = self.vip.address;
        match self.holding() {
            Holding::One(_) => None,
            Holding::Several(names) => Some(format!(
                "{address} is held by {}, which do not hear each other: check that VRRP (IP protocol 112) passes \
                 between them, and that vrid, version and vrrp_password are the same there",
                names.join(" and ")
            )),
            Holding::Nobody => Some(format!(
                "{address} is held by nobody: the reasons stand above; see systemctl status vrrpd on {}",
                hosts.join(", ")
            )),
            Holding::Unknown(silent) => Some(format!(
                "nobody that answers holds {address}: check systemctl status vrrpd on {}, and that port {} is open from \
                 here",
                silent.join(", "),
                ha_config::VRRPD_GRPC_PORT
            )),
        }
    }
}

/// All is well only when every address is held by exactly one host.
///
/// # Errors
/// With [`Code::Unreachable`] when no vrrpd answered, with [`Code::Failed`] when an address is held by nobody or more
/// than one.
pub(crate) fn require_one_holder(floating: &[Floating<'_>]) -> anyhow::Result<()> {
    let problems: Vec<String> = floating.iter().filter_map(Floating::problem).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let heard = floating.iter().flat_map(|floating| &floating.seats).any(|seat| seat.asked.answer.is_ok());
    let code = if heard { Code::Failed } else { Code::Unreachable };
    Err(Stop::new(code, problems.join("; ")).into())
}

/// The address of a virtual router, with or without the subnet's bits.
fn address(router: &VirtualRouter) -> Option<IpAddr> {
    router.address.split('/').next().and_then(|address| address.parse().ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exit_code::code_of;
    use crate::overview::tests::cluster;

    pub(crate) fn router(state: VirtualRouterState, priority: u32) -> VirtualRouter {
        let active = state == VirtualRouterState::Active;
        VirtualRouter {
            address: "10.0.1.10/24".to_owned(),
            vrid: 10,
            version: 3,
            interface: "eth0".to_owned(),
            state: state.into(),
            priority,
            interval_ms: 200,
            since_ms: 75_000,
            reason: if active { "nobody else advertises" } else { "ha1 advertises" }.to_owned(),
            active_address: (!active).then(|| "10.0.1.21".to_owned()),
            active_priority: (!active).then_some(189),
            holds_address: active,
            ..VirtualRouter::default()
        }
    }

    pub(crate) fn asked(name: &str, answer: Result<VirtualRouter, &str>) -> Asked<VrrpStatusReply> {
        let cluster = cluster();
        let host = cluster.proxy(name).unwrap();
        let reply = |router| VrrpStatusReply {
            cluster: "pg-cluster".to_owned(),
            host: name.to_owned(),
            proxy: "serving".to_owned(),
            routers: vec![router],
            ..VrrpStatusReply::default()
        };
        Asked {
            name: host.name.clone(),
            address: host.address,
            answer: answer.map(reply).map_err(str::to_owned),
        }
    }

    fn code(hosts: &[Asked<VrrpStatusReply>]) -> (String, Option<Code>) {
        let cluster = cluster();
        let floating = Floating::all(&cluster, hosts);
        (floating[0].verdict(), require_one_holder(&floating).err().map(|error| code_of(&error)))
    }

    #[test]
    fn one_holder_is_well_and_nobody_or_two_are_not() {
        use VirtualRouterState::{Active, Backup};
        let said = |text: &str, code| (text.to_owned(), code);
        let active = || asked("ha1", Ok(router(Active, 189)));
        let backup = || asked("ha2", Ok(router(Backup, 188)));
        let silent = |name| asked(name, Err("no answer"));
        assert_eq!(code(&[active(), backup()]), said("held by ha1", None));
        assert_eq!(code(&[active(), silent("ha2")]), said("held by ha1", None));
        let two = [active(), asked("ha2", Ok(router(Active, 188)))];
        assert_eq!(code(&two), said("HELD BY 2 HOSTS: ha1 and ha2", Some(Code::Failed)));
        let none = [asked("ha1", Ok(router(Backup, 20))), backup()];
        assert_eq!(code(&none), said("HELD BY NOBODY", Some(Code::Failed)));
        let unknown = "nobody that answers holds it; no answer from ha1";
        assert_eq!(code(&[silent("ha1"), backup()]), said(unknown, Some(Code::Failed)));
        let unknown = "nobody that answers holds it; no answer from ha1, ha2";
        assert_eq!(code(&[silent("ha1"), silent("ha2")]), said(unknown, Some(Code::Unreachable)));
    }

    #[test]
    fn an_address_that_a_host_does_not_know_is_named_so() {
        let mut other = router(VirtualRouterState::Active, 189);
        other.address = "10.0.1.99".to_owned();
        let hosts = [asked("ha1", Ok(other))];
        let cluster = cluster();
        let floating = Floating::all(&cluster, &hosts);
        assert_eq!(
            (floating[0].seats[0].state(), floating[0].holding()),
            ("not configured", Holding::Nobody)
        );
    }
}
