//! Delay lines: what is written at one end comes out at the other so much later.
//!
//! Lives here: TCP forwarders in user space, for machines whose kernel cannot delay loopback. Does
//! not live here: who stands at their ends (`far.rs`, `build.rs`).
//!
//! A line delays both directions and limits neither: like a long cable, not like a narrow one. The
//! timer's grain adds up to 1 ms each way.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Bytes per read.
const READ_LEN: usize = 64 * 1_024;
/// Reads on their way in one direction: far more than credits let a router send.
const READS_MAX: usize = 8_192;

/// Carries every connection to `listener` on to `to`, `delay` later each way. For ever.
pub(super) async fn line(listener: TcpListener, to: SocketAddr, delay: Duration) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = carry(near, to, delay).await;
        });
    }
}

async fn carry(near: TcpStream, to: SocketAddr, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        over = one_way(near_read, far_write, delay) => over,
        over = one_way(far_read, near_write, delay) => over,
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut inbox) = mpsc::channel::<(Instant, Vec<u8>)>(READS_MAX);
    // Each owns its end of the queue, so that the other hears when it is over.
    let read = async move {
        loop {
            let mut bytes = Vec::with_capacity(READ_LEN);
            let n = from.read_buf(&mut bytes).await.unwrap_or(0);
            // What is small stays small while it waits.
            bytes.shrink_to_fit();
            if n == 0 || sender.send((Instant::now() + delay, bytes)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, bytes)) = inbox.recv().await {
            sleep_until(at).await;
            to.write_all(&bytes).await?;
        }
        io::Result::Ok(())
    };
    let ((), over) = tokio::join!(read, write);
    over
}
