//! One session, from its first byte to its last, as one task.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::begin;
use super::relay::Relay;
use super::worker::Seat;

/// The task of a session. Written by hand rather than as an async function, so that an idle session costs the relay's
/// few fields and nothing of what its beginning and its end need.
pub(super) struct Session(Stage);

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what a session is for all but moments of its life"
)]
enum Stage {
    Begin(Pin<Box<dyn Future<Output = Option<Relay>>>>),
    Relay(Relay),
    End(Pin<Box<dyn Future<Output = ()>>>),
    Over,
}

impl Session {
    pub(super) fn new(client: TcpStream, from: SocketAddr, seat: Seat) -> Self {
        Self(Stage::Begin(Box::pin(begin::begin(client, from, seat))))
    }
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.0 {
                Stage::Begin(begin) => match ready!(begin.as_mut().poll(context)) {
                    Some(relay) => self.0 = Stage::Relay(relay),
                    None => self.0 = Stage::Over,
                },
                Stage::Relay(relay) => {
                    let end = ready!(relay.poll(context));
                    if let Stage::Relay(relay) = std::mem::replace(&mut self.0, Stage::Over) {
                        self.0 = Stage::End(Box::pin(relay.finish(end)));
                    }
                }
                Stage::End(end) => {
                    ready!(end.as_mut().poll(context));
                    self.0 = Stage::Over;
                }
                Stage::Over => return Poll::Ready(()),
            }
        }
    }
}
