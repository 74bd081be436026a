//! Accepting connections.

use super::connection::{Lines, serve};
use crate::config::{BindAddress, Config};
use crate::engine_task::Event;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] = b"-DENIED kival runs in protected mode: there is no password, so only this machine \
    may connect. Set a password (requirepass), or allow anyone to connect (protected-mode no), on the command \
    line, in the configuration file, or with CONFIG SET from this machine.\r\n";

/// How long accepting pauses when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds the addresses of `config`. Those marked optional may be missing on this machine.
///
/// # Errors
/// What kept a necessary address from being bound, with the address.
pub fn bind(config: &Config) -> Result<Vec<TcpListener>, String> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = config.port;
    for address in &config.bind {
        match bind_one(address, port, config.tcp_backlog) {
            Ok(listener) => {
                // Port 0 takes any: the same one for all addresses.
                port = listener.local_addr().map_or(port, |addr| addr.port());
                listeners.push(listener);
            }
            Err(error) if address.optional && error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(address = address.host(), %error, "not listening on an optional address");
            }
            Err(error) => return Err(format!("cannot listen on {}:{port}: {error}", address.host())),
        }
    }
    if listeners.is_empty() { Err("there is no address to listen on".into()) } else { Ok(listeners) }
}

fn bind_one(address: &BindAddress, port: u16, backlog: u32) -> io::Result<TcpListener> {
    let addr: SocketAddr = (address.host(), port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"))?;
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the server ends, then waits for the connections to finish.
pub async fn accept(listener: TcpListener, lines: Lines) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = lines.shared.stopped() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let lines = lines.clone();
                    connections.spawn(async move { admit(stream, peer, lines).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.join_all().await;
}

async fn admit(mut stream: TcpStream, peer: SocketAddr, lines: Lines) {
    if lines.shared.closed_to_others() && !peer.ip().to_canonical().is_loopback() {
        // Told or not, it may not enter.
        let _ = stream.write_all(PROTECTED).await;
        return;
    }
    if !lines.shared.enter() {
        let _ = lines.events.send(Event::Refused);
        let _ = stream.write_all(TOO_MANY).await;
        return;
    }
    let guard = Entered(&lines);
    prepare(&stream, lines.shared.keepalive());
    serve(stream, lines.clone()).await;
    drop(guard);
}

/// Counts the connection out, however it ends.
struct Entered<'a>(&'a Lines);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.shared.leave();
    }
}

fn prepare(stream: &TcpStream, keepalive: Option<Duration>) {
    // A socket without these still works.
    let _ = stream.set_nodelay(true);
    if let Some(time) = keepalive {
        let probes = TcpKeepalive::new().with_time(time).with_interval(time / 3);
        let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    }
}
