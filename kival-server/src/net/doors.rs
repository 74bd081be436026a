//! The addresses that the server listens on: bound at the start, and anew when `port` or `bind` changes.

use crate::config::{BindAddress, Config};
use atomic_waker::AtomicWaker;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};

/// The sockets that clients come in by.
#[derive(Debug)]
pub struct Doors {
    /// None when the server ends.
    open: Mutex<Vec<TcpListener>>,
    /// Who accepts, to be woken when there are others.
    changed: AtomicWaker,
}

impl Doors {
    /// Binds the addresses of `config`. Those marked optional may be missing on this machine.
    ///
    /// # Errors
    /// What kept a necessary address from being bound, with the address.
    pub fn open(config: &Config) -> Result<Doors, String> {
        let mut exchange = Exchange::default();
        exchange.bind_all(config, config.port)?;
        Ok(Doors { open: Mutex::new(exchange.new), changed: AtomicWaker::new() })
    }

    /// The port that is served, the same at all addresses.
    pub fn port(&self) -> u16 {
        self.addresses().first().map_or(0, SocketAddr::port)
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Listens on the addresses of `config` at `port` (0: any that is free), and gives the port. An address that
    /// was listened on before stays open all along, and clients that are connected stay. After an error all is as
    /// it was.
    ///
    /// # Errors
    /// As [`Doors::open`].
    pub fn rebind(&self, config: &Config, port: u16) -> Result<u16, String> {
        let mut open = self.lock();
        if open.is_empty() {
            // The server ends, and nobody can come in any more.
            return Ok(port);
        }
        let mut exchange = Exchange { old: std::mem::take(&mut *open), ..Exchange::default() };
        let bound = exchange.bind_all(config, port);
        *open = if bound.is_ok() { exchange.finish() } else { exchange.undo(config.tcp_backlog) };
        drop(open);
        self.changed.wake();
        bound.map(|()| self.port())
    }

    /// The next client. One task at a time may wait for it.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.changed.register(cx.waker());
        let open = self.lock();
        let mut accepted = open.iter().map(|listener| listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TcpListener>> {
        // A list of sockets is valid whatever happened to who held it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the old addresses to the new ones.
#[derive(Default)]
struct Exchange {
    /// Sockets of before that no new address has taken over.
    old: Vec<TcpListener>,
    /// Sockets of before that listen where the new addresses are, too.
    kept: Vec<TcpListener>,
    /// Addresses of before that stood in the way of a new one.
    closed: Vec<SocketAddr>,
    new: Vec<TcpListener>,
}

impl Exchange {
    fn bind_all(&mut self, config: &Config, mut port: u16) -> Result<(), String> {
        for address in &config.bind {
            match self.bind_one(address, port, config.tcp_backlog) {
                // Port 0 takes any: the same one for all addresses.
                Ok(bound) => port = bound.port(),
                Err(error) if address.optional && error.kind() != io::ErrorKind::AddrInUse => {
                    tracing::debug!(address = address.host(), %error, "not listening on an optional address");
                }
                Err(error) => return Err(format!("cannot listen on {}:{port}: {error}", address.host())),
            }
        }
        let none = self.kept.is_empty() && self.new.is_empty();
        if none { Err("there is no address to listen on".into()) } else { Ok(()) }
    }

    fn bind_one(&mut self, address: &BindAddress, port: u16, backlog: u32) -> io::Result<SocketAddr> {
        let addr = (address.host(), port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"))?;
        let is_there = |listener: &TcpListener| listener.local_addr().is_ok_and(|local| local == addr);
        if let Some(place) = self.old.iter().position(is_there) {
            self.kept.push(self.old.swap_remove(place));
            return Ok(addr);
        }
        let bound = match listen(addr, backlog) {
            // One address of before and all addresses at once exclude each other.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.close_old(port) => {
                listen(addr, backlog)
            }
            bound => bound,
        }?;
        let addr = bound.local_addr()?;
        self.new.push(bound);
        Ok(addr)
    }

    /// Closes what was listened on at this port before, and says whether that was anything.
    fn close_old(&mut self, port: u16) -> bool {
        let before = self.closed.len();
        let closed = &mut self.closed;
        self.old.retain(|listener| {
            let local = listener.local_addr().ok().filter(|local| local.port() == port);
            closed.extend(local);
            local.is_none()
        });
        self.closed.len() > before
    }

    fn finish(mut self) -> Vec<TcpListener> {
        self.kept.append(&mut self.new);
        self.kept
    }

    fn undo(mut self, backlog: u32) -> Vec<TcpListener> {
        self.new.clear();
        self.old.append(&mut self.kept);
        for addr in self.closed {
            match listen(addr, backlog) {
                Ok(listener) => self.old.push(listener),
                Err(error) => tracing::error!(%addr, %error, "not listening any more on this address"),
            }
        }
        self.old
    }
}

fn listen(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream as Socket;

    fn config(bind: &str) -> Config {
        let mut config = Config::default();
        config.set_many(&[("bind", bind), ("port", "0")]).unwrap();
        config
    }

    fn is_open(ip: [u8; 4], port: u16) -> bool {
        Socket::connect(SocketAddr::from((ip, port))).is_ok()
    }

    #[tokio::test]
    async fn an_address_that_stays_is_never_closed() {
        let doors = Doors::open(&config("127.0.0.1")).unwrap();
        let port = doors.port();
        let waiting = Socket::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(doors.rebind(&config("127.0.0.2 127.0.0.1"), port), Ok(port));
        assert!(is_open([127, 0, 0, 2], port) && is_open([127, 0, 0, 1], port));
        let (_, peer) = std::future::poll_fn(|cx| doors.poll_accept(cx)).await.unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap(), "it waited in the socket of before");
        assert_eq!(doors.rebind(&config("127.0.0.2"), port), Ok(port));
        assert!(is_open([127, 0, 0, 2], port) && !is_open([127, 0, 0, 1], port));
    }

    #[tokio::test]
    async fn one_address_gives_way_to_all_and_comes_back() {
        let doors = Doors::open(&config("127.0.0.1")).unwrap();
        let port = doors.port();
        let failed = doors.rebind(&config("* 192.0.2.1"), port).unwrap_err();
        assert!(failed.starts_with(&format!("cannot listen on 192.0.2.1:{port}: ")), "{failed}");
        assert!(is_open([127, 0, 0, 1], port) && !is_open([127, 0, 0, 2], port));
        assert_eq!(doors.rebind(&config("*"), port), Ok(port));
        assert!(is_open([127, 0, 0, 1], port) && is_open([127, 0, 0, 2], port));
    }

    #[tokio::test]
    async fn nobody_comes_in_behind_the_end() {
        let doors = Doors::open(&config("127.0.0.1")).unwrap();
        let port = doors.port();
        doors.close();
        assert_eq!(doors.rebind(&config("127.0.0.2"), port), Ok(port));
        assert!(!is_open([127, 0, 0, 1], port) && !is_open([127, 0, 0, 2], port));
    }
}
