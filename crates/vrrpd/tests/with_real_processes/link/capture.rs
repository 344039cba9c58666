//! Every frame that reaches the client: the hosts' advertisements and announcements go to everybody, so it sees them all.
//! What was seen is left behind as a pcap file, for tcpdump.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Host, VIP, VIP_V6, World, ms, wait_for};

const ETH_P_ALL: u16 = 3;
/// Link type of pcap files (`LINKTYPE_ETHERNET`), and the number by which readers know them.
const ETHERNET: u32 = 1;
const PCAP: u32 = 0xa1b2_c3d4;

/// One frame, from the destination's hardware address on, without padding.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) at: Instant,
    wall: Duration,
    bytes: Vec<u8>,
}

impl Frame {
    /// The last byte of the sender's hardware address, by which hosts differ.
    fn sender(&self) -> u8 {
        self.bytes[11]
    }

    fn kind(&self) -> [u8; 2] {
        [self.bytes[12], self.bytes[13]]
    }

    pub(crate) fn is_advertisement(&self) -> bool {
        self.kind() == [8, 0] && self.bytes.get(23) == Some(&112)
    }

    /// Whether it says where the floating address is. What hosts ask for themselves is none of this.
    pub(crate) fn is_announcement(&self) -> bool {
        self.kind() == [8, 6] && self.bytes.get(28..32) == Some(&VIP.octets()[..])
    }

    /// Whether it tells, to whomever, where the floating address is or its virtual router: an advertisement, ARP with the
    /// address as sender's, or a neighbour advertisement about it.
    pub(crate) fn speaks_for_the_address(&self) -> bool {
        let six = self.kind() == [0x86, 0xdd];
        let advertisement = self.is_advertisement() || six && self.bytes.get(20) == Some(&112);
        advertisement || self.is_announcement() || self.is_neighbour_advertisement()
    }

    /// Of neighbour advertisements those about the floating address.
    fn is_neighbour_advertisement(&self) -> bool {
        let about = self.bytes.get(62..78) == Some(&VIP_V6.octets()[..]);
        self.kind() == [0x86, 0xdd] && self.bytes.get(54) == Some(&136) && about
    }

    /// Whether a kernel answers somebody who asked for the floating address: by ARP, to him alone.
    pub(crate) fn is_arp_answer_to_one(&self) -> bool {
        self.is_announcement() && self.bytes[21] == 2 && self.bytes[0] & 1 == 0
    }

    /// The hardware addresses that it gives for it: that of the frame, and that within.
    pub(crate) fn says(&self) -> Vec<[u8; 6]> {
        let at = |begin: usize| self.bytes.get(begin..begin + 6).and_then(|bytes| bytes.try_into().ok());
        let within = if self.is_announcement() {
            at(22)
        } else if self.is_neighbour_advertisement() {
            at(80)
        } else {
            None
        };
        at(6).into_iter().chain(within).collect()
    }

    /// In hexadecimal, in groups: Ethernet, then IP and VRRP, or ARP's header and its four addresses. The identification
    /// of an IP header and its checksum, if that is right, are not shown: they differ from frame to frame.
    pub(crate) fn text(&self) -> String {
        let advertisement = self.is_advertisement();
        let ends: &[usize] = if advertisement {
            &[6, 12, 14, 18, 20, 24, 26, 30, 34, 38, 42, 46, 50, 54]
        } else {
            &[6, 12, 14, 22, 28, 32, 38, 42]
        };
        let sound = advertisement && sums_to_all_ones(&self.bytes[14..34]);
        let mut groups = Vec::new();
        let mut begin = 0;
        for end in ends.iter().copied().chain([self.bytes.len()]) {
            let bytes = self.bytes.get(begin..end).unwrap_or_default();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            match begin {
                18 if sound => groups.push("id..".to_owned()),
                24 if sound => groups.push("sum.".to_owned()),
                _ if hex.is_empty() => {}
                _ => groups.push(hex),
            }
            begin = end.max(begin);
        }
        groups.join(" ")
    }
}

/// Whether the words of a header add up as the sender's checksum makes them (RFC 1071).
fn sums_to_all_ones(header: &[u8]) -> bool {
    let words = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// Captures until it is asked for the result.
pub(crate) struct Capture {
    path: PathBuf,
    frames: Arc<Mutex<Vec<Frame>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins; from now on every frame is kept. The file is `<name>.pcap` in cargo's directory for tests.
    pub(crate) fn begin(world: &World, name: &str) -> Self {
        let socket = world.client.inside(|| {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket");
            socket.set_read_timeout(Some(ms(10))).expect("a limit");
            socket.set_recv_buffer_size(4 << 20).expect("a buffer");
            socket
        });
        let (frames, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, ended) = (Arc::clone(&frames), Arc::clone(&end));
        let thread = std::thread::spawn(move || read(&socket, &kept, &ended));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.pcap"));
        Self { path, frames, end, thread: Some(thread) }
    }

    pub(crate) fn all(&self) -> Vec<Frame> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a host has sent about the floating address since `since`: advertisements and announcements, in their order.
    pub(crate) fn from(&self, host: &Host, since: Instant) -> Vec<Frame> {
        let own = host.hardware();
        let ours = |frame: &Frame| {
            frame.at >= since
                && frame.sender() == own
                && (frame.is_advertisement() || frame.is_announcement())
        };
        self.all().into_iter().filter(ours).collect()
    }

    /// Waits for exactly these frames to be the next from a host since `since`; more may follow. Gives them.
    pub(crate) fn expect(&self, host: &Host, since: Instant, golden: &[&str]) -> Vec<Frame> {
        self.expect_behind(host, since, "", golden)
    }

    /// The same behind any number of frames that are `steady`.
    pub(crate) fn expect_behind(
        &self,
        host: &Host,
        since: Instant,
        steady: &str,
        golden: &[&str],
    ) -> Vec<Frame> {
        let frames = wait_for(&format!("{} frames from {}", golden.len(), host.name), || {
            let frames = self.from(host, since).into_iter().skip_while(|frame| frame.text() == steady);
            let frames: Vec<Frame> = frames.take(golden.len()).collect();
            (frames.len() == golden.len()).then_some(frames)
        });
        let texts: Vec<String> = frames.iter().map(Frame::text).collect();
        assert_eq!(texts, golden, "frames of {}; capture: {}", host.name, self.path.display());
        frames
    }

    fn stop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the capture");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&self.path)?);
        // Version 2.4, times in UTC, frames of any length (pcap-savefile(5)).
        for word in [PCAP, 2 | 4 << 16, 0, 0, 65_535, ETHERNET] {
            file.write_all(&word.to_ne_bytes())?;
        }
        for frame in self.all() {
            let length = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
            let seconds = u32::try_from(frame.wall.as_secs()).unwrap_or(u32::MAX);
            for word in [seconds, frame.wall.subsec_micros(), length, length] {
                file.write_all(&word.to_ne_bytes())?;
            }
            file.write_all(&frame.bytes)?;
        }
        file.flush()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
        // Without the file a failed test still says what it saw.
        drop(self.write());
    }
}

fn read(socket: &Socket, frames: &Mutex<Vec<Frame>>, end: &AtomicBool) {
    let mut buffer = [0; 2048];
    loop {
        match (&*socket).read(&mut buffer) {
            Ok(length) if length >= 34 => {
                let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let frame = Frame { at: Instant::now(), wall, bytes: buffer[..length].to_vec() };
                frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if end.load(Ordering::SeqCst) {
                    return;
                }
            }
            Err(error) => panic!("read a frame: {error}"),
        }
    }
}
