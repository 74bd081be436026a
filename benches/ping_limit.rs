//! The least that a server on tokio can do: it answers each PING and looks at nothing. What kival costs beyond that is
//! kival's own; what this costs is the kernel's and the runtime's.
//!
//! `cargo bench --bench ping_limit -- 7000` serves on that port until it is stopped, for
//! `redis-benchmark -p 7000 -t ping_mbulk -c 50`; without a number, as in tests, it answers itself once.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A PING as redis-benchmark sends it.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut begun) = (vec![0; 16 << 10], 0);
    loop {
        let read = stream.read(&mut input).await?;
        if read == 0 {
            return Ok(());
        }
        let pings = (begun + read) / PING.len();
        begun = (begun + read) % PING.len();
        stream.write_all(&PONG.repeat(pings)).await?;
    }
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that goes is no failure.
        tokio::spawn(async move { answer(stream).await.ok() });
    }
}

fn main() -> io::Result<()> {
    let port = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0u16))).await?;
        if port.is_some() {
            return serve(listener).await;
        }
        let addr = listener.local_addr()?;
        tokio::spawn(serve(listener));
        let (mut client, mut reply) = (TcpStream::connect(addr).await?, [0; PONG.len()]);
        client.write_all(PING).await?;
        client.read_exact(&mut reply).await?;
        assert_eq!(reply, PONG);
        Ok(())
    })
}
