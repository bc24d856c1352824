//! The relay between pipes or sockets on the caller's side and a real terminal on the agent's.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::Timespec;
use rustix::fs::{OFlags, fcntl_getfl};

use super::*;
use crate::shim::testing::pty;

const SECOND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Polls once and moves what there is; false if there was nothing within `timeout`.
fn turn(relay: &mut Relay, modes: &mut Modes, timeout: Timespec) -> bool {
    let mut polls = Vec::new();
    let interest = relay.register(&mut polls);
    let found = poll(&mut polls, Some(&timeout)).expect("poll") > 0;
    let events = interest.events(&polls);
    drop(polls);
    relay.ready(events, modes).expect("relay");
    found
}

fn raw(terminal: &OwnedFd) {
    let mut attributes = rustix::termios::tcgetattr(terminal).expect("attributes");
    attributes.make_raw();
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &attributes).expect("raw");
}

/// Bytes without a short period, so that loss, repetition and reordering all show.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_byte_of_the_output_arrives_in_order() {
    const LENGTH: usize = 64 << 20;
    let (master, slave) = pty();
    raw(&slave);
    let (mut caller, output) = UnixStream::pair().expect("socketpair");
    let mut relay = Relay::new(None, Some(output.into()), master).expect("relay");
    let sent = noise(1 << 20);
    let agent = {
        let sent = sent.clone();
        thread::spawn(move || {
            let mut slave = std::fs::File::from(slave);
            (0..LENGTH >> 20).for_each(|_| slave.write_all(&sent).expect("agent writes"));
        })
    };
    let reader = thread::spawn(move || {
        let mut part = vec![0; 1 << 20];
        for at in 0..LENGTH >> 20 {
            caller.read_exact(&mut part).expect("caller reads");
            assert!(part == sent, "MiB {at} differs");
        }
        let mut rest = Vec::new();
        caller.read_to_end(&mut rest).expect("caller reads");
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
    });

    let mut modes = Modes::default();
    while !relay.progress.agent_gone {
        assert!(turn(&mut relay, &mut modes, Timespec { tv_sec: 20, tv_nsec: 0 }), "stuck");
    }
    assert_eq!(relay.finish(None, None, &mut modes).expect("finish"), Finish::Complete);
    drop(relay);
    agent.join().expect("agent");
    reader.join().expect("caller got every byte");
}

#[test]
fn a_caller_that_reads_nothing_stops_the_agent_and_costs_no_memory() {
    let (master, slave) = pty();
    raw(&slave);
    rustix::io::ioctl_fionbio(&slave, true).expect("non-blocking agent");
    let (mut caller, output) = UnixStream::pair().expect("socketpair");
    let mut relay = Relay::new(None, Some(output.into()), master).expect("relay");
    let mut modes = Modes::default();
    let mut written = Vec::new();
    let sent = noise(4 << 20);

    // The agent writes whenever it may, until neither side moves any more.
    loop {
        let before = written.len();
        while let Ok(count) = rustix::io::write(&slave, &sent[written.len()..]) {
            written.extend_from_slice(&sent[written.len()..written.len() + count]);
        }
        while turn(&mut relay, &mut modes, AT_ONCE) {}
        if written.len() == before {
            break;
        }
    }
    assert!(written.len() < 2 << 20, "{} bytes went somewhere", written.len());
    assert!(!relay.shown.has_room(), "stopped before its backlog was full");
    let mut polls = Vec::new();
    relay.register(&mut polls);
    assert_eq!(polls.len(), 1, "only the caller's end is worth waiting for");
    drop(polls);

    drop(slave);
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        caller.read_to_end(&mut received).map(|_| received)
    });
    assert_eq!(relay.finish(None, None, &mut modes).expect("finish"), Finish::Complete);
    drop(relay);
    let received = reader.join().expect("caller").expect("read");
    assert!(received == written, "lost or changed on the way");
}

#[test]
fn keys_beyond_what_the_agent_reads_stay_with_the_caller() {
    let (master, slave) = pty();
    raw(&slave);
    let (input, typist) = rustix::pipe::pipe().expect("pipe");
    rustix::io::ioctl_fionbio(&typist, true).expect("non-blocking typist");
    let mut relay = Relay::new(Some(input), None, master).expect("relay");
    let mut modes = Modes::default();
    let sent = noise(4 << 20);
    let mut written = 0;
    loop {
        let before = written;
        while let Ok(count) = rustix::io::write(&typist, &sent[written..]) {
            written += count;
        }
        while turn(&mut relay, &mut modes, AT_ONCE) {}
        if written == before {
            break;
        }
    }
    assert!(written < 2 << 20, "{written} bytes went somewhere");

    let reader = thread::spawn(move || {
        let mut received = vec![0; written];
        std::fs::File::from(slave).read_exact(&mut received).map(|()| received)
    });
    while !reader.is_finished() {
        turn(&mut relay, &mut modes, Timespec { tv_sec: 0, tv_nsec: 20_000_000 });
    }
    assert!(reader.join().expect("agent").expect("read") == sent[..written], "lost or changed on the way");
}

#[test]
fn the_end_of_the_input_is_typed_as_end_of_file_once_what_came_before_has_been_read() {
    for (typed, expected) in [("", ""), ("two\nlines\n", "two\nlines\n"), ("half a line", "half a line")] {
        let (master, slave) = pty();
        let (input, typist) = rustix::pipe::pipe().expect("pipe");
        let mut relay = Relay::new(Some(input), None, master).expect("relay");
        rustix::io::write(&typist, typed.as_bytes()).expect("typed");
        drop(typist);
        let reader = thread::spawn(move || {
            let mut received = String::new();
            std::fs::File::from(slave).read_to_string(&mut received).map(|_| received)
        });
        let mut modes = Modes::default();
        while !reader.is_finished() {
            turn(&mut relay, &mut modes, Timespec { tv_sec: 0, tv_nsec: 20_000_000 });
        }
        assert_eq!(reader.join().expect("agent").expect("read"), expected);
    }
}

#[test]
fn a_raw_terminal_is_typed_no_end_of_file() {
    let (master, slave) = pty();
    raw(&slave);
    let (input, typist) = rustix::pipe::pipe().expect("pipe");
    let mut relay = Relay::new(Some(input), None, master).expect("relay");
    drop(typist);
    let mut modes = Modes::default();
    while turn(&mut relay, &mut modes, AT_ONCE) {}
    assert!(relay.input.is_none(), "the end was seen");
    rustix::io::ioctl_fionbio(&slave, true).expect("non-blocking");
    assert_eq!(rustix::io::read(&slave, &mut [0; 8]), Err(Errno::AGAIN));
}

#[test]
fn a_resize_is_seen_by_the_agent() {
    let (master, slave) = pty();
    let relay = Relay::new(None, None, master).expect("relay");
    relay.resize(WindowSize { ws_row: 51, ws_col: 203, ws_xpixel: 1624, ws_ypixel: 816 }).expect("resize");
    let seen = rustix::termios::tcgetwinsize(&slave).expect("size");
    assert_eq!((seen.ws_row, seen.ws_col, seen.ws_xpixel, seen.ws_ypixel), (51, 203, 1624, 816));
}

#[test]
fn the_callers_own_descriptions_are_left_blocking() {
    let (master, _slave) = pty();
    let (input, _typist) = rustix::pipe::pipe().expect("pipe");
    let (_reader, output) = rustix::pipe::pipe().expect("pipe");
    let (shared_input, shared_output) = (input.try_clone().expect("dup"), output.try_clone().expect("dup"));
    let _relay = Relay::new(Some(input), Some(output), master).expect("relay");
    for shared in [shared_input, shared_output] {
        assert!(!fcntl_getfl(&shared).expect("flags").contains(OFlags::NONBLOCK));
    }
}

#[test]
fn a_blocking_pipe_or_terminal_that_is_full_does_not_block_the_relay() {
    let (reader, pipe) = rustix::pipe::pipe().expect("pipe");
    let (host_master, host_slave) = pty();
    for (_receiver, output) in [(reader, pipe), (host_master, host_slave)] {
        let (master, slave) = pty();
        raw(&slave);
        rustix::io::ioctl_fionbio(&slave, true).expect("non-blocking agent");
        let mut relay = Relay::new(None, Some(output), master).expect("relay");
        let mut modes = Modes::default();
        // Ends only because no write blocks: nobody reads.
        let mut idle = 0;
        while idle < 3 {
            let wrote = rustix::io::write(&slave, &[b'x'; 4096]).is_ok();
            let moved = turn(&mut relay, &mut modes, AT_ONCE);
            idle = if wrote || moved { 0 } else { idle + 1 };
        }
        assert!(!relay.shown.has_room(), "stopped before its backlog was full");
    }
}

#[test]
fn a_reader_that_goes_away_is_noticed_and_does_not_stop_the_rest() {
    let (master, slave) = pty();
    raw(&slave);
    let (reader, output) = rustix::pipe::pipe().expect("pipe");
    let mut relay = Relay::new(None, Some(output), master).expect("relay");
    drop(reader);
    rustix::io::write(&slave, b"into the void").expect("agent writes");
    let mut modes = Modes::default();
    while !relay.progress.caller_gone {
        assert!(turn(&mut relay, &mut modes, SECOND), "never noticed");
    }
    rustix::io::write(&slave, &[0; 2048]).expect("agent goes on");
    drop(slave);
    assert_eq!(relay.finish(None, None, &mut modes).expect("finish"), Finish::CallerGone);
}

#[test]
fn a_terminal_that_hangs_up_is_noticed_even_while_it_is_not_read() {
    for listening in [true, false] {
        let (master, _slave) = pty();
        let (host_master, host_slave) = pty();
        raw(&host_slave);
        let mut relay = Relay::new(Some(host_slave), None, master).expect("relay");
        relay.listen(listening);
        drop(host_master);
        let mut modes = Modes::default();
        assert!(turn(&mut relay, &mut modes, SECOND), "listening: {listening}");
        assert!(relay.progress.caller_gone, "listening: {listening}");
        assert!(!turn(&mut relay, &mut modes, AT_ONCE), "spins after the hangup");
    }
}

#[test]
fn a_terminal_is_not_read_while_the_relay_does_not_listen() {
    let (master, _slave) = pty();
    let (host_master, host_slave) = pty();
    let mut relay = Relay::new(Some(host_slave.try_clone().expect("dup")), None, master).expect("relay");
    relay.listen(false);
    rustix::io::write(&host_master, b"for the shell\n").expect("typed");
    let mut modes = Modes::default();
    assert!(!turn(&mut relay, &mut modes, AT_ONCE));
    let mut line = [0; 32];
    let read = rustix::io::read(&host_slave, &mut line).expect("the shell reads");
    assert_eq!(&line[..read], b"for the shell\n");
}

#[test]
fn an_interrupt_ends_the_wait_for_a_stuck_reader() {
    let (master, slave) = pty();
    raw(&slave);
    let (caller, output) = UnixStream::pair().expect("socketpair");
    let mut relay = Relay::new(None, Some(output.into()), master).expect("relay");
    let writer = thread::spawn(move || {
        let mut slave = std::fs::File::from(slave);
        (0..1024).try_for_each(|_| slave.write_all(&[b'x'; 1024]))
    });
    let interrupt = rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
    let mut modes = Modes::default();
    while relay.shown.has_room() {
        turn(&mut relay, &mut modes, SECOND);
    }
    assert_eq!(relay.finish(Some(interrupt.as_fd()), None, &mut modes).expect("finish"), Finish::Interrupted);
    drop((caller, relay));
    // Its terminal is gone, so its write fails instead of waiting for ever.
    assert!(writer.join().expect("agent").is_err());
}
