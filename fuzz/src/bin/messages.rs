//! The messages of a session in either direction, the two watches that look into them, and whether the session is idle.
#![no_main]

use fuzz::Input;
use fuzz::kept::Since;
use ha_routing::commit_watch::CommitWatch;
use ha_routing::idleness::Idleness;
use ha_routing::messages::MessageWalker;
use ha_routing::opt_out_watch::OptOutWatch;
use libfuzzer_sys::fuzz_target;

const SETTING: &[u8] = b"synchronous_commit";
const WAIT_FUNCTION: &[u8] = b"RSyncRepWaitForLSN";
/// A notice is looked at up to here, and nothing else is kept.
const NOTICE: usize = 4_096;

/// A message as the walker shows it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    kind: u8,
    body: Vec<u8>,
    whole: bool,
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    let (messages, ends) = plainly(input.bytes);
    for (stop_each, pieces) in [(0, pieces(&input)), (1, pieces(&input)), (2, vec![input.bytes])] {
        let walked = walk(&input, &pieces, stop_each, &ends);
        assert_eq!(walked, messages, "the messages depend on the pieces");
    }
    commits(&input, &messages, &ends);
    opts_out(&input, &messages);
    idleness(&input);
});

fn pieces<'d>(input: &Input<'d>) -> Vec<&'d [u8]> {
    input.pieces().collect()
}

/// Whether a session is idle, when the same bytes come from both sides, does not depend on how either of them is cut.
fn idleness(input: &Input<'_>) {
    let said = |pieces: &[&[u8]]| {
        let mut session = Idleness::default();
        for piece in pieces {
            assert_eq!(session.client(piece, |_| false), None);
        }
        for piece in pieces {
            assert_eq!(session.server(piece, |_| false), None);
        }
        (session.is_idle(), session.server_is_between_messages())
    };
    assert_eq!(said(&[input.bytes]), said(&pieces(input)), "idle or not, by how it is cut");
}

/// The messages, the last one perhaps cut short, and after how many bytes each whole one ends.
fn plainly(bytes: &[u8]) -> (Vec<Message>, Vec<usize>) {
    let (mut messages, mut ends, mut at) = (Vec::new(), vec![0], 0);
    while let Some([kind, length @ ..]) = bytes.get(at..at + 5) {
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        let Some(length) = usize::try_from(length).ok().filter(|length| *length >= 4) else { break };
        let (begin, end) = (at + 5, at + 1 + length);
        let whole = end <= bytes.len();
        let body = bytes[begin..end.min(bytes.len())].to_vec();
        if whole || !body.is_empty() {
            messages.push(Message { kind: *kind, body, whole });
        }
        if !whole {
            break;
        }
        ends.push(end);
        at = end;
    }
    (messages, ends)
}

/// What the walker shows, stopped behind every so many messages (0: never) and told to go on with the rest.
fn walk(input: &Input<'_>, pieces: &[&[u8]], stop_each: usize, ends: &[usize]) -> Vec<Message> {
    let mut walker = MessageWalker::default();
    let (mut messages, mut open, mut at) = (Vec::new(), None::<Message>, 0);
    for piece in pieces {
        let mut left = *piece;
        loop {
            let stopped = walker.advance(left, |part| {
                let message = open.get_or_insert_with(|| Message { kind: part.kind, ..Message::default() });
                assert_eq!(message.kind, part.kind);
                message.body.extend_from_slice(part.bytes);
                message.whole = part.is_last;
                if part.is_last {
                    messages.extend(open.take());
                }
                part.is_last && stop_each > 0 && messages.len() % stop_each == 0
            });
            let taken = stopped.unwrap_or(left.len());
            at += taken;
            assert_eq!(walker.between_messages(), ends.contains(&at), "after {at} of {}", input.bytes.len());
            left = &left[taken..];
            if stopped.is_none() {
                assert!(left.is_empty());
                break;
            }
        }
    }
    messages.extend(open);
    messages
}

/// The warning is found where it is, however it is cut, and other messages leave nothing behind.
fn commits(input: &Input<'_>, messages: &[Message], ends: &[usize]) {
    let warns = |message: &Message| {
        let looked_at = &message.body[..message.body.len().min(NOTICE)];
        message.whole
            && message.kind == b'N'
            && looked_at.split(|byte| *byte == 0).any(|field| field == WAIT_FUNCTION)
    };
    let expected = messages.iter().position(warns).map(|number| ends[number + 1]);
    for pieces in [vec![input.bytes], pieces(input)] {
        let before = Since::now();
        let (mut walker, mut watch, mut passed) = (MessageWalker::default(), CommitWatch::default(), 0);
        let mut found = None;
        for piece in pieces.iter().copied() {
            let stopped = walker.advance(piece, |part| watch.see(part));
            before.assert_at_most(2 * NOTICE);
            passed += stopped.unwrap_or(piece.len());
            if stopped.is_some() {
                found = Some(passed);
                break;
            }
        }
        assert_eq!(found, expected, "the warning of a cancelled wait");
        if walker.between_messages() {
            before.assert_at_most(0);
        }
    }
}

/// The same statement is found however it is cut, in none that does not name the setting, in each that does save a SHOW.
fn opts_out(input: &Input<'_>, messages: &[Message]) {
    let statement = |message: &Message| match message.kind {
        b'Q' => message.body.clone(),
        b'P' => message.body.iter().skip_while(|byte| **byte != 0).skip(1).copied().collect(),
        _ => Vec::new(),
    };
    let names =
        |text: &[u8]| text.to_ascii_lowercase().windows(SETTING.len()).any(|window| window == SETTING);
    let shows = |text: &[u8]| text.trim_ascii_start().to_ascii_lowercase().starts_with(b"show");
    let naming = messages.iter().position(|message| names(&statement(message)));
    let certain = messages.iter().position(|message| {
        let text = statement(message);
        names(&text) && !shows(&text)
    });
    let found = [vec![input.bytes], pieces(input)].map(|pieces| {
        let (mut walker, mut watch, mut number) = (MessageWalker::default(), OptOutWatch::default(), 0);
        let stopped = pieces.iter().any(|piece| {
            let stopped = walker.advance(piece, |part| {
                let found = watch.see(part);
                number += usize::from(part.is_last && !found);
                found
            });
            stopped.is_some()
        });
        stopped.then_some(number)
    });
    assert_eq!(found[0], found[1], "a statement that opts out, or none, by how it is cut");
    match (found[0], naming, certain) {
        (None, _, certain) => assert_eq!(certain, None, "not found"),
        (Some(found), Some(naming), certain) => {
            assert!(naming <= found && certain.is_none_or(|certain| found <= certain), "found elsewhere");
        }
        (Some(_), None, _) => panic!("found where it is not"),
    }
}
