//! Relays in one of several ways, with nothing around them: no limits, no log, no PostgreSQL.
//!
//! `relay-ways copy|splice|sockmap LISTEN TO`: one thread for each processor, each with a listener of its own.

mod bpf;
mod copy;
mod epoll;
mod sockmap;
mod splice;

use std::net::SocketAddrV4;
use std::process::ExitCode;

/// What every way needs to know.
#[derive(Clone, Copy)]
struct Route {
    listen: SocketAddrV4,
    to: SocketAddrV4,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, listen, to] = arguments.as_slice() else {
        eprintln!("usage: relay-ways copy|splice|sockmap LISTEN TO");
        return ExitCode::from(2);
    };
    let (Ok(listen), Ok(to)) = (listen.parse(), to.parse()) else {
        eprintln!("LISTEN and TO are IPv4 addresses with ports, such as 10.0.1.21:6001");
        return ExitCode::from(2);
    };
    let run: fn(Route) -> std::io::Result<()> = match way.as_str() {
        "copy" => copy::run,
        "splice" => splice::run,
        "sockmap" => sockmap::run,
        _ => {
            eprintln!("{way}: expected copy, splice or sockmap");
            return ExitCode::from(2);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let route = Route { listen, to };
    let threads: Vec<_> = (0..threads).map(|_| std::thread::spawn(move || run(route))).collect();
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                eprintln!("{way}: {error}");
                return ExitCode::FAILURE;
            }
            Err(_) => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}
