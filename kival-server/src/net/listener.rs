//! Accepting connections.

use super::connection::{Lines, serve};
use super::doors::Doors;
use crate::engine_task::Event;
use socket2::{SockRef, TcpKeepalive};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] = b"-DENIED kival runs in protected mode: there is no password, so only this machine \
    may connect. Set a password (requirepass), or allow anyone to connect (protected-mode no), on the command \
    line, in the configuration file, or with CONFIG SET from this machine.\r\n";

/// How long accepting pauses when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the server ends, then waits for the connections to finish.
pub async fn accept(doors: Arc<Doors>, lines: Lines) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = lines.shared.stopped() => break,
            accepted = poll_fn(|cx| doors.poll_accept(cx)) => match accepted {
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
    doors.close();
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
