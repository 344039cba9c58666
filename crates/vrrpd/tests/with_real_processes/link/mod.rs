//! A link of its own for each test: a network namespace with a bridge and no way out, and behind its ports the hosts ha1
//! and ha2 with a vrrpd and a pretended proxy each, and a client. All of it is gone afterwards.

mod burners;
mod capture;
mod certificates;
mod flood;
mod frr;
mod host;
mod keepalived;
mod observer;
mod pinger;
mod proxy;
mod turn;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ha_config::VRRPD_GRPC_PORT;
use ha_rpc::TlsFiles;
use ha_rpc::proto::vrrp_client::VrrpClient;
use ha_rpc::proto::{VrrpStatusReply, VrrpStatusRequest};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Uid;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Response, Status};

pub(crate) use burners::Burners;
pub(crate) use capture::{Capture, Frame};
pub(crate) use flood::Flood;
pub(crate) use frr::Frr;
pub(crate) use host::{Host, Vrrpd};
pub(crate) use keepalived::Keepalived;
pub(crate) use observer::Observer;
pub(crate) use pinger::Pinger;
pub(crate) use proxy::PretendedProxy;
use turn::Turn;

/// The floating address, over IPv4 and over IPv6.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
pub(crate) const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// Looks again and again until there is something, or fails the test with `what`.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(ms(5)); // between two looks, not instead of one
    }
}

/// Lets that much time pass while somebody observes: nothing may happen in it.
pub(crate) fn let_pass(millis: u64) {
    let end = Instant::now() + ms(millis);
    wait_for("time to pass", || (Instant::now() >= end).then_some(()));
}

/// Whether these tests can run here; says why not.
pub(crate) fn is_root() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        println!("skipped: network namespaces, raw sockets and addresses need root");
    }
    root
}

/// A network namespace that lives as long as this.
pub(crate) struct Namespace {
    /// Does nothing but keep it; it dies with us.
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let own = std::fs::read_link("/proc/self/ns/net").expect("own network namespace");
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv and unshare of util-linux");
        let namespace = Self { holder };
        wait_for("a new network namespace", || {
            let theirs = std::fs::read_link(namespace.path()).ok()?;
            (theirs != own).then_some(())
        });
        namespace.ip("link set lo up");
        // Link-local addresses that can be used at once: nobody else has them here.
        namespace.inside(|| {
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("a sysctl");
        });
        namespace
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// `ip` with these arguments, inside; gives what it prints.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let output = self.command("ip").args(arguments.split(' ')).output().expect("ip of iproute2");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a closure inside, on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().expect("the thread inside")
        })
    }

    /// Moves the calling thread inside.
    fn enter(&self) {
        let file = std::fs::File::open(self.path()).expect("the namespace");
        setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Everything that one test has.
pub(crate) struct World {
    pub(crate) ha1: Host,
    pub(crate) ha2: Host,
    pub(crate) client: Namespace,
    /// The bridge.
    switch: Namespace,
    dir: TempDir,
    _turn: Turn,
}

impl World {
    /// Hosts with a link between them; nothing runs yet. `vip` are lines of the table `[[vip]]`.
    pub(crate) fn new(vip: &str) -> Self {
        Self::of_family(false, vip)
    }

    /// The same with IPv6 addresses in the file.
    pub(crate) fn over_ipv6(vip: &str) -> Self {
        Self::of_family(true, vip)
    }

    fn of_family(ipv6: bool, vip: &str) -> Self {
        let turn = Turn::take();
        let switch = Namespace::new();
        switch.ip("link add br0 type bridge mcast_snooping 0");
        switch.ip("link set br0 up");
        let dir = tempfile::tempdir().expect("a directory");
        let (ha1, ha2, client) = (Namespace::new(), Namespace::new(), Namespace::new());
        for (namespace, port, last) in [(&ha1, "ha1", 21), (&ha2, "ha2", 22), (&client, "client", 99)] {
            plug(&switch, namespace, port, last);
        }
        let host = |name, namespace| Host::new(name, namespace, dir.path(), ipv6, vip);
        Self { ha1: host("ha1", ha1), ha2: host("ha2", ha2), client, switch, dir, _turn: turn }
    }

    /// The same with certificates, so that the hosts talk to each other and to administrators. Without them moves go by
    /// advertisements alone.
    pub(crate) fn certified(vip: &str) -> Self {
        let world = Self::new(vip);
        certificates::issue(world.dir.path());
        world
    }

    /// Both run without certificates, ha1 holds the address.
    pub(crate) fn running(vip: &str) -> (Self, Vrrpd, Vrrpd) {
        Self::new(vip).run()
    }

    /// The same, and what one host sends to the other alone is lost: they know of each other by multicast only.
    pub(crate) fn running_by_multicast_only(vip: &str) -> (Self, Vrrpd, Vrrpd) {
        let world = Self::new(vip);
        world.ha1.namespace.ip("route add blackhole 10.0.1.22/32");
        world.ha2.namespace.ip("route add blackhole 10.0.1.21/32");
        world.run()
    }

    /// Starts both; ha1 will hold the address.
    pub(crate) fn run(self) -> (Self, Vrrpd, Vrrpd) {
        let world = self;
        let first = world.ha1.start();
        wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
        let second = world.ha2.start();
        wait_for("ha2 to be Backup", || second.said("-> backup").then_some(()));
        wait_for("ha2 to know its proxy", || second.said("the proxy is serving").then_some(()));
        (world, first, second)
    }

    /// Both run, and each hears the other over the peer channel.
    pub(crate) fn with_channel(vip: &str) -> (Self, Vrrpd, Vrrpd) {
        let world = Self::certified(vip);
        let (world, first, second) = world.run();
        for vrrpd in [&first, &second] {
            wait_for("the peer channel", || vrrpd.said("connected to another host").then_some(()));
        }
        wait_for("ha2 to hear of a serving proxy", || {
            let peers = world.status(&world.ha2).peers;
            peers.iter().any(|peer| peer.heard && peer.proxy == "serving").then_some(())
        });
        (world, first, second)
    }

    /// Calls the vrrpd of a host as an administrator.
    pub(crate) fn call<T: Send, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        host: &Host,
        call: impl FnOnce(VrrpClient<Channel>) -> F + Send,
    ) -> Result<T, Status> {
        let file = |name: &str| self.dir.path().join(name);
        let tls = TlsFiles { ca: file("ca.crt"), cert: file("admin.crt"), key: file("admin.key") };
        host.namespace.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let address = SocketAddr::new(host.address(), VRRPD_GRPC_PORT);
                let connected = ha_rpc::channel::connect(host.name, address, &tls).await;
                let connected = connected.map_err(|error| Status::unavailable(error.to_string()))?;
                call(VrrpClient::new(connected)).await.map(Response::into_inner)
            })
        })
    }

    /// What a host says of its routers and peers.
    pub(crate) fn status(&self, host: &Host) -> VrrpStatusReply {
        wait_for("an answer of vrrpd", || {
            self.call(host, |mut client| async move { client.status(VrrpStatusRequest {}).await }).ok()
        })
    }

    /// Takes a host's interface away.
    pub(crate) fn unplug(&self, host: &Host) {
        self.switch.ip(&format!("link del {}", host.name));
    }

    /// Gives it a new one.
    pub(crate) fn plug(&self, host: &Host) {
        plug(&self.switch, &host.namespace, host.name, if host.name == "ha1" { 21 } else { 22 });
    }

    /// Cuts or mends the cable of a host.
    pub(crate) fn cable(&self, host: &Host, plugged: bool) {
        let way = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set {} {way}", host.name));
    }

    /// Loses a part of the advertisements on their way from one host to the other, on the switch: of 100 so many.
    pub(crate) fn lose(&self, from: &Host, to: &Host, of_100: u32) {
        self.deliver_all();
        let some = if of_100 < 100 { format!("numgen random mod 100 < {of_100}") } else { String::new() };
        let rules = format!(
            "table bridge lost {{\n chain forward {{\n type filter hook forward priority 0;\n \
             iifname {} oifname {} ip protocol 112 {some} drop\n }}\n}}",
            from.name, to.name
        );
        let mut command = self.switch.command("nft");
        let mut nft = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft of nftables");
        let mut input = nft.stdin.take().expect("its input");
        std::io::Write::write_all(&mut input, rules.as_bytes()).expect("tell it the rules");
        drop(input);
        assert!(nft.wait().expect("nft").success(), "{rules}");
    }

    /// Ends [`Self::lose`].
    pub(crate) fn deliver_all(&self) {
        let output = self.switch.command("nft").args(["flush", "ruleset"]).output().expect("nft of nftables");
        assert!(output.status.success(), "{output:?}");
    }

    /// The Ethernet address where the client believes the floating address to be.
    pub(crate) fn neighbour(&self) -> Option<String> {
        let text = self.client.ip(&format!("neigh show to {} dev eth0", self.ha1.vip));
        let mut words = text.split_whitespace();
        words.find(|word| *word == "lladdr").and_then(|_| words.next()).map(str::to_owned)
    }

    /// Lets the client ask where the floating address is.
    pub(crate) fn ask_where(&self) {
        self.client.inside(|| {
            let own = if self.ha1.vip.is_ipv4() { "10.0.1.99:0" } else { "[fd00::99]:0" };
            let socket = std::net::UdpSocket::bind(own).expect("a socket");
            drop(socket.send_to(b"hello", (self.ha1.vip, 9)));
        });
    }
}

/// A cable from the bridge to a new eth0. Fixed hardware addresses, so that a test can name them.
fn plug(switch: &Namespace, namespace: &Namespace, port: &str, last: u8) {
    let (pid, hardware) = (namespace.holder.id(), format!("02:00:00:00:00:{last}"));
    switch.ip(&format!("link add {port} type veth peer name eth0 address {hardware} netns {pid}"));
    switch.ip(&format!("link set {port} master br0 up"));
    namespace.ip(&format!("addr add 10.0.1.{last}/24 dev eth0"));
    namespace.ip(&format!("addr add fd00::{last}/64 dev eth0 nodad"));
    namespace.ip("link set eth0 up");
}

/// Sends 20 packets each millisecond for 3 s, of protocol 112, that are no advertisements of our cluster: too short, of other routers,
/// with a wrong TTL, a wrong checksum, a wrong version, and what a simple generator makes.
pub(crate) fn send_garbage() {
    use socket2::{Domain, Protocol, SockAddr, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).expect("a raw socket");
    let group = SockAddr::from(SocketAddr::from(([224, 0, 0, 18], 0)));
    let client = Ipv4Addr::new(10, 0, 1, 99);
    socket.set_multicast_if_v4(&client).expect("the interface");
    // Priority 254, a wrong checksum: whoever does not check it loses the address.
    let strong = [0x31, 10, 254, 1, 0, 20, 0, 0, 10, 0, 1, 10];
    let mut state = 7_u64;
    for number in 0..60_000_u32 {
        if number % 20 == 0 {
            std::thread::sleep(ms(1)); // the pace of the flood
        }
        socket.set_multicast_ttl_v4(if number % 4 == 0 { 1 } else { 255 }).expect("a TTL");
        let mut packet = strong.to_vec();
        if number % 2 == 0 {
            for byte in &mut packet {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = state.to_be_bytes()[0];
            }
            packet.truncate(usize::from(state.to_be_bytes()[1] % 13));
        }
        socket.send_to(&packet, &group).expect("send");
    }
}
